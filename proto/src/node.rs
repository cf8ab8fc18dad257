//! The contract of node metadata and resource names: how a proxy says what it needs, and what the control plane calls
//! what it sends. Pure: plain values to and from protobuf `Struct`, no I/O.

use std::{collections::BTreeMap, fmt, net::SocketAddr, str::FromStr};

use crate::xds::google::protobuf::{ListValue, Struct, Value, value::Kind};

/// Full name of the message by which a proxy asks for the names of the mesh, to answer DNS with.
pub const HOST_NAMES: &str = "weft.extension.v1.HostNames";

/// The cluster by which Envoy reaches the agent beside it, as Istio names it: what is asked of it is the proxy's own.
pub const AGENT_CLUSTER: &str = "sds-grpc";
/// Name of the own certificate, asked of the agent; as Istio's.
pub const OWN_CERTIFICATE: &str = "default";
/// Name of the authorities of the own trust domain, asked of the agent; as Istio's.
pub const OWN_AUTHORITIES: &str = "ROOTCA";

/// Longest path of a unix socket, bytes (`sun_path`, with its terminating zero).
const UNIX_PATH_BYTES_MAX: usize = 107;

/// What a proxy does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Beside one or more workloads.
    #[default]
    Sidecar,
    /// At the edge: serves the `Gateway` documents that select its labels.
    Gateway,
}

/// Where something listens: an IP address and port, or a unix socket, written `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// IP and port.
    Tcp(SocketAddr),
    /// Absolute path of a unix socket.
    Unix(String),
}

impl FromStr for Address {
    type Err = String;

    /// Reads `127.0.0.1:9001`, `unix:/path` or `unix:///path`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.starts_with('/') && path.len() > 1 && path.len() <= UNIX_PATH_BYTES_MAX {
                true => Ok(Self::Unix(path.to_owned())),
                false => Err(format!("{text:?} names no absolute path that a unix socket can have")),
            };
        }
        text.parse().map(Self::Tcp).map_err(|_| format!("{text:?} is no address and port, nor unix:/path"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl Address {
    /// Its port; none of a unix socket.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }
}

/// One declared upstream: a local port or unix socket that leads to a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Upstream {
    /// Where the proxy listens.
    pub bind: Address,
    /// Service name, or any of its host names.
    pub service: String,
    /// Service port; 0 is the service's first port.
    pub port: u16,
}

/// One inbound port: what the mesh reaches the workload by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inbound {
    /// Where the proxy listens; none is what the capture of inbound traffic takes for the workload's port.
    pub bind: Option<Address>,
    /// The service that the workload serves.
    pub service: String,
    /// The service's port; 0 is its first port.
    pub port: u16,
    /// Where the workload listens.
    pub app: Address,
    /// What is spoken: `http`, `http2`, `grpc` or `tcp`; empty: as the service's port says, else TCP.
    pub protocol: String,
    /// Name of the one of several workloads whose port it is; empty: the node's own.
    pub workload: String,
}

/// One of several workloads that share a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalWorkload {
    /// Name of the deployment or job, unique in the proxy.
    pub name: String,
    /// Its namespace; empty: the node's.
    pub namespace: String,
    /// Its version label.
    pub version: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its service account; empty: `default`.
    pub service_account: String,
}

/// What a proxy tells about itself in `Node.metadata`. The keys are those of the struct, upper case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeMetadata {
    /// `ROLE`: `sidecar` or `gateway`.
    pub role: Role,
    /// `NAMESPACE`: the workload's; `default` when absent.
    pub namespace: String,
    /// `SERVICE_ACCOUNT`: the workload's; empty: as its certificate says, or `default`.
    pub service_account: String,
    /// `WORKLOAD`: name of the deployment or job.
    pub workload: String,
    /// `VERSION`: the workload's version label.
    pub version: String,
    /// `LABELS`: the workload's labels; `Gateway.selector` matches them.
    pub labels: BTreeMap<String, String>,
    /// `WORKLOADS`: the workloads of a proxy that several share, by name.
    pub workloads: Vec<LocalWorkload>,
    /// `UPSTREAMS`: declared upstreams.
    pub upstreams: Vec<Upstream>,
    /// `INBOUND`: inbound ports.
    pub inbound: Vec<Inbound>,
    /// `OUTBOUND_HTTP`: where the proxy listens for HTTP that is routed by host.
    pub outbound_http: Option<SocketAddr>,
    /// `ON_DEMAND`: hosts of `OUTBOUND_HTTP` are asked for by name (VHDS), and endpoints may come with their cluster before
    /// they are asked for.
    pub on_demand: bool,
    /// `OUTBOUND_CAPTURE`: where the proxy takes outbound TCP that a packet filter redirects to it.
    pub outbound_capture: Option<SocketAddr>,
    /// `INBOUND_CAPTURE`: where it takes inbound TCP of that kind.
    pub inbound_capture: Option<SocketAddr>,
    /// `BIND`: address that gateway listeners bind; 0.0.0.0 when absent.
    pub gateway_bind: Option<std::net::IpAddr>,
    /// `PORTS`: gateway server port to the port really bound, where an unprivileged or test gateway needs another one.
    pub gateway_ports: BTreeMap<u16, u16>,
    /// `EXTENSIONS`: full names of messages under `weft.extension.v1` that the proxy understands.
    pub extensions: Vec<String>,
    /// Whether it proved an identity. Not a key of the metadata: the control plane knows it of the connection.
    pub mtls: bool,
    /// Region, zone and subzone. Not a key of the metadata: `Node.locality` carries it.
    pub locality: [String; 3],
}

/// Node metadata that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeMetadataError {
    /// The key, e.g. `UPSTREAMS[0].bind`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for NodeMetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node metadata {}: {}", self.field, self.problem)
    }
}

impl std::error::Error for NodeMetadataError {}

impl NodeMetadata {
    /// Reads the metadata of an xDS node. Unknown keys are other software's and are passed over.
    pub fn from_struct(metadata: &Struct) -> Result<Self, NodeMetadataError> {
        let fields = &metadata.fields;
        let role = match text(fields.get("ROLE"), "ROLE")?.as_str() {
            "" | "sidecar" => Role::Sidecar,
            "gateway" => Role::Gateway,
            other => return Err(error("ROLE", format!("{other:?} is neither sidecar nor gateway"))),
        };
        let namespace = match text(fields.get("NAMESPACE"), "NAMESPACE")? {
            empty if empty.is_empty() => "default".to_owned(),
            given => given,
        };
        let mut labels = BTreeMap::new();
        for (key, value) in entries(fields.get("LABELS"), "LABELS")? {
            labels.insert(key.clone(), text(Some(value), &format!("LABELS.{key}"))?);
        }
        let mut gateway_ports = BTreeMap::new();
        for (key, value) in entries(fields.get("PORTS"), "PORTS")? {
            let field = format!("PORTS.{key}");
            let from = key.parse().map_err(|_| error(&field, "the key is no port number"))?;
            gateway_ports.insert(from, port(Some(value), &field)?);
        }
        let upstreams = items(fields.get("UPSTREAMS"), "UPSTREAMS")?
            .iter()
            .enumerate()
            .map(|(i, value)| {
                let at = format!("UPSTREAMS[{i}]");
                let entry = entries(Some(value), &at)?.collect::<BTreeMap<_, _>>();
                Ok(Upstream {
                    bind: address(&entry, "bind", &at)?,
                    service: text(entry.get(&"service".to_owned()).copied(), &format!("{at}.service"))?,
                    port: port(entry.get(&"port".to_owned()).copied(), &format!("{at}.port"))?,
                })
            })
            .collect::<Result<_, NodeMetadataError>>()?;
        let inbound = items(fields.get("INBOUND"), "INBOUND")?
            .iter()
            .enumerate()
            .map(|(i, value)| {
                let at = format!("INBOUND[{i}]");
                let entry = entries(Some(value), &at)?.collect::<BTreeMap<_, _>>();
                let word = |key: &str| text(entry.get(&key.to_owned()).copied(), &format!("{at}.{key}"));
                Ok(Inbound {
                    bind: entry
                        .contains_key(&"bind".to_owned())
                        .then(|| address(&entry, "bind", &at))
                        .transpose()?,
                    service: word("service")?,
                    port: port(entry.get(&"port".to_owned()).copied(), &format!("{at}.port"))?,
                    app: address(&entry, "app", &at)?,
                    protocol: word("protocol")?,
                    workload: word("workload")?,
                })
            })
            .collect::<Result<_, NodeMetadataError>>()?;
        let extensions = items(fields.get("EXTENSIONS"), "EXTENSIONS")?
            .iter()
            .enumerate()
            .map(|(i, value)| text(Some(value), &format!("EXTENSIONS[{i}]")))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            role,
            namespace,
            service_account: text(fields.get("SERVICE_ACCOUNT"), "SERVICE_ACCOUNT")?,
            workload: text(fields.get("WORKLOAD"), "WORKLOAD")?,
            version: text(fields.get("VERSION"), "VERSION")?,
            labels,
            workloads: workloads(fields.get("WORKLOADS"))?,
            upstreams,
            inbound,
            outbound_http: optional(fields.get("OUTBOUND_HTTP"), "OUTBOUND_HTTP")?,
            on_demand: boolean(fields.get("ON_DEMAND"), "ON_DEMAND")?,
            outbound_capture: optional(fields.get("OUTBOUND_CAPTURE"), "OUTBOUND_CAPTURE")?,
            inbound_capture: optional(fields.get("INBOUND_CAPTURE"), "INBOUND_CAPTURE")?,
            gateway_bind: optional(fields.get("BIND"), "BIND")?,
            gateway_ports,
            extensions,
            mtls: false,
            locality: Default::default(),
        })
    }

    /// Writes the metadata as an xDS node carries it; what is empty is left out.
    pub fn to_struct(&self) -> Struct {
        let mut fields = BTreeMap::new();
        if self.role == Role::Gateway {
            fields.insert("ROLE", string("gateway"));
        }
        for (key, value) in [
            ("NAMESPACE", &self.namespace),
            ("SERVICE_ACCOUNT", &self.service_account),
            ("WORKLOAD", &self.workload),
            ("VERSION", &self.version),
        ] {
            if !value.is_empty() {
                fields.insert(key, string(value));
            }
        }
        if !self.labels.is_empty() {
            fields.insert("LABELS", object(self.labels.iter().map(|(k, v)| (k.clone(), string(v)))));
        }
        if !self.gateway_ports.is_empty() {
            let ports = self.gateway_ports.iter().map(|(k, v)| (k.to_string(), number(*v)));
            fields.insert("PORTS", object(ports));
        }
        if !self.workloads.is_empty() {
            fields.insert("WORKLOADS", list(self.workloads.iter().map(workload)));
        }
        if !self.upstreams.is_empty() {
            fields.insert(
                "UPSTREAMS",
                list(self.upstreams.iter().map(|upstream| {
                    object([
                        ("bind".to_owned(), string(&upstream.bind.to_string())),
                        ("service".to_owned(), string(&upstream.service)),
                        ("port".to_owned(), number(upstream.port)),
                    ])
                })),
            );
        }
        if !self.inbound.is_empty() {
            fields.insert(
                "INBOUND",
                list(self.inbound.iter().map(|inbound| {
                    let bind =
                        inbound.bind.as_ref().map(|bind| ("bind".to_owned(), string(&bind.to_string())));
                    let rest = [
                        ("service".to_owned(), string(&inbound.service)),
                        ("port".to_owned(), number(inbound.port)),
                        ("app".to_owned(), string(&inbound.app.to_string())),
                        ("protocol".to_owned(), string(&inbound.protocol)),
                        ("workload".to_owned(), string(&inbound.workload)),
                    ];
                    object(bind.into_iter().chain(rest))
                })),
            );
        }
        for (key, address) in [
            ("OUTBOUND_HTTP", self.outbound_http),
            ("OUTBOUND_CAPTURE", self.outbound_capture),
            ("INBOUND_CAPTURE", self.inbound_capture),
        ] {
            if let Some(address) = address {
                fields.insert(key, string(&address.to_string()));
            }
        }
        if self.on_demand {
            fields.insert("ON_DEMAND", Value { kind: Some(Kind::BoolValue(true)) });
        }
        if let Some(address) = self.gateway_bind {
            fields.insert("BIND", string(&address.to_string()));
        }
        if !self.extensions.is_empty() {
            fields.insert("EXTENSIONS", list(self.extensions.iter().map(|name| string(name))));
        }
        Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
    }
}

fn workloads(value: Option<&Value>) -> Result<Vec<LocalWorkload>, NodeMetadataError> {
    let read = |(i, value): (usize, &Value)| {
        let at = format!("WORKLOADS[{i}]");
        let entry = entries(Some(value), &at)?.collect::<BTreeMap<_, _>>();
        let word = |key: &str| text(entry.get(&key.to_owned()).copied(), &format!("{at}.{key}"));
        let mut labels = BTreeMap::new();
        let field = format!("{at}.labels");
        for (key, value) in entries(entry.get(&"labels".to_owned()).copied(), &field)? {
            labels.insert(key.clone(), text(Some(value), &format!("{field}.{key}"))?);
        }
        Ok(LocalWorkload {
            name: word("name")?,
            namespace: word("namespace")?,
            version: word("version")?,
            labels,
            service_account: word("service_account")?,
        })
    };
    items(value, "WORKLOADS")?.iter().enumerate().map(read).collect()
}

fn workload(workload: &LocalWorkload) -> Value {
    let words = [
        ("name", &workload.name),
        ("namespace", &workload.namespace),
        ("version", &workload.version),
        ("service_account", &workload.service_account),
    ];
    let words = words.into_iter().map(|(key, word)| (key.to_owned(), string(word)));
    let labels = object(workload.labels.iter().map(|(key, value)| (key.clone(), string(value))));
    object(words.chain([("labels".to_owned(), labels)]))
}

/// Name of the cluster of a service port, in Istio's form: `outbound|80|v1|reviews.default.svc.cluster.local`.
pub fn cluster_name(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// Port, subset and host of the service that a cluster of this name leads to; none for other clusters.
pub fn parse_cluster_name(name: &str) -> Option<(u16, &str, &str)> {
    let (port, rest) = name.strip_prefix("outbound|")?.split_once('|')?;
    let (subset, host) = rest.split_once('|')?;
    (!host.is_empty()).then_some((port.parse().ok()?, subset, host))
}

fn error(field: &str, problem: impl Into<String>) -> NodeMetadataError {
    NodeMetadataError { field: field.to_owned(), problem: problem.into() }
}

fn text(value: Option<&Value>, field: &str) -> Result<String, NodeMetadataError> {
    match value.and_then(|value| value.kind.as_ref()) {
        None | Some(Kind::NullValue(_)) => Ok(String::new()),
        Some(Kind::StringValue(text)) => Ok(text.clone()),
        Some(_) => Err(error(field, "a string is wanted")),
    }
}

fn port(value: Option<&Value>, field: &str) -> Result<u16, NodeMetadataError> {
    match value.and_then(|value| value.kind.as_ref()) {
        None | Some(Kind::NullValue(_)) => Ok(0),
        Some(Kind::NumberValue(n)) if n.fract() == 0.0 && (0.0..=65535.0).contains(n) => Ok(*n as u16),
        Some(_) => Err(error(field, "a port number from 0 to 65535 is wanted")),
    }
}

fn boolean(value: Option<&Value>, field: &str) -> Result<bool, NodeMetadataError> {
    match value.and_then(|value| value.kind.as_ref()) {
        None | Some(Kind::NullValue(_)) => Ok(false),
        Some(Kind::BoolValue(value)) => Ok(*value),
        Some(_) => Err(error(field, "true or false is wanted")),
    }
}

fn optional<T: std::str::FromStr>(
    value: Option<&Value>,
    field: &str,
) -> Result<Option<T>, NodeMetadataError> {
    let text = text(value, field)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| error(field, format!("{text:?} is no address")))
}

fn address(entry: &BTreeMap<&String, &Value>, key: &str, at: &str) -> Result<Address, NodeMetadataError> {
    let field = format!("{at}.{key}");
    let text = text(entry.get(&key.to_owned()).copied(), &field)?;
    text.parse().map_err(|problem: String| error(&field, problem))
}

fn entries<'a>(
    value: Option<&'a Value>,
    field: &str,
) -> Result<impl Iterator<Item = (&'a String, &'a Value)> + use<'a>, NodeMetadataError> {
    match value.and_then(|value| value.kind.as_ref()) {
        None | Some(Kind::NullValue(_)) => Ok(None.into_iter().flatten()),
        Some(Kind::StructValue(found)) => Ok(Some(found.fields.iter()).into_iter().flatten()),
        Some(_) => Err(error(field, "an object is wanted")),
    }
}

fn items<'a>(value: Option<&'a Value>, field: &str) -> Result<&'a [Value], NodeMetadataError> {
    match value.and_then(|value| value.kind.as_ref()) {
        None | Some(Kind::NullValue(_)) => Ok(&[]),
        Some(Kind::ListValue(found)) => Ok(&found.values),
        Some(_) => Err(error(field, "a list is wanted")),
    }
}

fn string(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

fn number(port: u16) -> Value {
    Value { kind: Some(Kind::NumberValue(f64::from(port))) }
}

fn object(entries: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value { kind: Some(Kind::StructValue(Struct { fields: entries.into_iter().collect() })) }
}

fn list(values: impl IntoIterator<Item = Value>) -> Value {
    Value { kind: Some(Kind::ListValue(ListValue { values: values.into_iter().collect() })) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_survives_the_wire() {
        let metadata = NodeMetadata {
            role: Role::Gateway,
            namespace: "shop".into(),
            mtls: false,
            service_account: "web".into(),
            workload: "web".into(),
            version: "v1".into(),
            labels: BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]),
            workloads: vec![LocalWorkload {
                name: "web-v1".into(),
                namespace: "shop".into(),
                version: "v1".into(),
                labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
                service_account: "web".into(),
            }],
            upstreams: vec![Upstream {
                bind: "127.0.0.1:9001".parse().unwrap(),
                service: "api".into(),
                port: 80,
            }],
            inbound: [Some("127.0.0.1:15006"), None]
                .map(|bind| Inbound {
                    bind: bind.map(|bind| bind.parse().unwrap()),
                    service: "web".into(),
                    port: 80,
                    app: "unix:/run/web.sock".parse().unwrap(),
                    protocol: "http".into(),
                    workload: "web-v1".into(),
                })
                .to_vec(),
            outbound_http: Some("127.0.0.1:15080".parse().unwrap()),
            on_demand: true,
            outbound_capture: Some("[::]:15001".parse().unwrap()),
            inbound_capture: Some("[::]:15006".parse().unwrap()),
            gateway_bind: Some("127.0.0.1".parse().unwrap()),
            gateway_ports: BTreeMap::from([(80, 8080)]),
            extensions: vec!["weft.extension.v1.PeakEwma".into()],
            locality: Default::default(),
        };
        assert_eq!(NodeMetadata::from_struct(&metadata.to_struct()), Ok(metadata));
    }

    #[test]
    fn names_of_clusters_can_be_read_back() {
        for (port, subset, host) in [(80, "", "api.default.svc.cluster.local"), (9000, "v1", "db")] {
            assert_eq!(parse_cluster_name(&cluster_name(port, subset, host)), Some((port, subset, host)));
        }
        for other in ["", "xds", "inbound|80||", "outbound|http||api", "outbound|80|api", "outbound|80||"] {
            assert_eq!(parse_cluster_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_bad_address_is_named_by_its_place() {
        let bad = Struct {
            fields: [("UPSTREAMS".to_owned(), list([object([("bind".to_owned(), string("nowhere"))])]))]
                .into(),
        };
        assert_eq!(NodeMetadata::from_struct(&bad).unwrap_err().field, "UPSTREAMS[0].bind");
    }

    #[test]
    fn an_address_is_tcp_or_the_path_of_a_unix_socket() {
        for (text, expected) in [
            ("127.0.0.1:80", Some("127.0.0.1:80")),
            ("[::1]:80", Some("[::1]:80")),
            ("unix:/run/a", Some("unix:/run/a")),
            ("unix:///run/a", Some("unix:/run/a")),
            ("unix:run/a", None),
            ("unix:/", None),
            ("127.0.0.1", None),
            ("", None),
        ] {
            let found = text.parse::<Address>().ok().map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        assert!(format!("unix:/{}", "a".repeat(107)).parse::<Address>().is_err());
    }

    #[test]
    fn a_foreign_node_is_a_sidecar_in_the_default_namespace() {
        let node = NodeMetadata::from_struct(&Struct::default()).unwrap();
        assert_eq!((node.role, node.namespace.as_str()), (Role::Sidecar, "default"));
    }
}
