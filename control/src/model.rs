//! The merged mesh as compile sees it: services with their endpoints, whatever platform they came from. Plain values,
//! pure; built by `registry`, read by `compile` and `admin`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use ipnet::IpNet;

mod export;

pub use export::ExportTo;

/// (namespace, name).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl ServiceKey {
    /// From its two parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Application protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Bytes, or unknown.
    Tcp,
    /// HTTP/1.1.
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC.
    Grpc,
    /// TLS spoken by the application.
    Tls,
}

impl Protocol {
    /// Whether requests can be routed on it.
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc)
    }
}

/// A port that clients use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// Name, unique in the service.
    pub name: Arc<str>,
    /// Number.
    pub number: u16,
    /// What is spoken.
    pub protocol: Protocol,
}

/// How endpoints are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// They are those registered.
    Static,
    /// Their addresses are names, resolved by the proxy.
    Dns,
    /// The same, of whose addresses the first is used.
    DnsFirst,
    /// Captured traffic goes where its client wanted it to (Istio's `NONE`); other traffic as with `Dns`.
    Client,
}

/// A merged service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub key: ServiceKey,
    /// Full host name: `reviews.default.svc.cluster.local`, or the host of a ServiceEntry.
    pub host: Arc<str>,
    /// Every host name that means it, `host` included; lower case, sorted.
    pub hosts: Vec<Arc<str>>,
    /// Ports by number.
    pub ports: Vec<Port>,
    /// How endpoints are found.
    pub resolution: Resolution,
    /// Where it counts.
    pub export_to: ExportTo,
    /// Stable virtual IP; none where `addresses` are given, or none is left.
    pub virtual_ip: Option<Ipv4Addr>,
    /// Addresses and ranges that a document says clients connect to.
    pub addresses: Vec<IpNet>,
    /// Names of which a document says that its certificates have one; empty is not said.
    pub certificate_names: Vec<Arc<str>>,
    /// Endpoints by id. `Arc`: an endpoint change shares all else.
    pub endpoints: Arc<BTreeMap<Arc<str>, Arc<Endpoint>>>,
    /// Names of the sources that know it.
    pub sources: Vec<Arc<str>>,
    /// What sources disagree about, for people.
    pub conflicts: Vec<String>,
}

impl Service {
    /// Whether its host is a pattern, which stands for whatever its clients resolve it to.
    pub fn is_pattern(&self) -> bool {
        self.host.starts_with('*')
    }

    /// Where clients connect to when they mean it: what a document says, else its virtual IP.
    pub fn destinations(&self) -> Vec<IpNet> {
        match (self.addresses.as_slice(), self.virtual_ip) {
            ([], Some(ip)) => vec![IpNet::from(IpAddr::V4(ip))],
            (given, _) => given.to_vec(),
        }
    }

    /// Those of them that are one address, which a name can stand for.
    pub fn ips(&self) -> Vec<IpAddr> {
        let single = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
        self.destinations().iter().filter(|net| single(net)).map(IpNet::addr).collect()
    }
}

/// What becomes of outbound traffic that no service claims (Istio's `outboundTrafficPolicy.mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OutboundPolicy {
    /// It goes where it was going (`ALLOW_ANY`).
    #[default]
    AllowAny,
    /// It is refused (`REGISTRY_ONLY`).
    RegistryOnly,
}

/// Whether an endpoint should get traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Yes, or not known.
    Healthy,
    /// Finishes what it has.
    Draining,
    /// No.
    Unhealthy,
}

/// Where an endpoint is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// Region.
    pub region: Arc<str>,
    /// Zone.
    pub zone: Arc<str>,
    /// Subzone.
    pub subzone: Arc<str>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// `source/id`, unique in the mesh.
    pub id: Arc<str>,
    /// IP, host name or socket path.
    pub address: Arc<str>,
    /// Number for each service port name.
    pub ports: BTreeMap<Arc<str>, u16>,
    /// Share, at least 1.
    pub weight: u32,
    /// Whether it should get traffic.
    pub health: Health,
    /// Where it is.
    pub locality: Locality,
    /// Labels; subsets select by them.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// SPIFFE id; empty when none.
    pub identity: Arc<str>,
    /// Workload that it belongs to.
    pub workload: Arc<str>,
    /// Cluster of its platform.
    pub cluster: Arc<str>,
    /// Network that its address belongs to; empty is the common one.
    pub network: Arc<str>,
    /// Whether a mesh proxy with mTLS stands before it.
    pub mtls: bool,
    /// Whether it is kept only because its source is in doubt.
    pub stale: bool,
}

impl Endpoint {
    /// Whether it takes mutual TLS and is known by an identity.
    pub fn takes_mtls(&self) -> bool {
        self.mtls && !self.identity.is_empty()
    }
}

/// Last part of full host names, where nobody chose another.
pub const MESH_DOMAIN_DEFAULT: &str = "cluster.local";

/// The merged mesh at one moment. Immutable; published behind `ArcSwap`.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// Last part of full host names: `cluster.local`.
    pub domain: Arc<str>,
    /// Services by key.
    pub services: BTreeMap<ServiceKey, Arc<Service>>,
    /// Rises with every change.
    pub revision: u64,
}

impl Mesh {
    /// A mesh without services.
    pub fn empty(domain: &str) -> Self {
        Self { domain: domain.into(), services: BTreeMap::new(), revision: 0 }
    }
}

impl Default for Mesh {
    fn default() -> Self {
        Self::empty(MESH_DOMAIN_DEFAULT)
    }
}
