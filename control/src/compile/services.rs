//! The services of a world, and the clusters and endpoints compiled from each.

use std::{
    collections::BTreeMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prost::Message;
use weft_proto::node::NodeMetadata;

use super::{
    clusters::{Inputs, Made},
    encode, entries, grpc,
    ir::{self, version},
    lens::Lens,
    locality::Vantage,
    peers::Policies,
    reached::Reached,
    rules::Rules,
    secrets,
};
use crate::{
    access_log::AccessLog,
    documents::{
        DestinationRule, Document, DocumentSet, DocumentSpec, EntryResolution, LocalityLb, Located,
        by_host::ByHost, hosts::Hosts,
    },
    model::{ExportTo, Mesh, Resolution, Service, ServiceKey},
    resource::{Asked, Kind, Resource, ResourceSet},
    virtual_ips::{Range, VirtualIps},
};

/// Services by key.
pub(crate) type Services = BTreeMap<ServiceKey, Arc<Service>>;

/// Vantages from which one service's resources are kept; more are compiled each time that a proxy asks.
const VANTAGES_MAX: usize = 256;

/// Who sees a service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Viewer<'a> {
    node: &'a NodeMetadata,
    dialect: Dialect,
}

/// The words that a client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dialect {
    /// A proxy's.
    Proxy,
    /// A proxy's that has an identity.
    Mesh,
    /// A gRPC library's.
    Grpc,
}

impl Dialect {
    /// The version of a value said in it.
    fn version<T: Hash>(self, value: &T) -> u64 {
        match self {
            Self::Proxy | Self::Mesh => version(value),
            Self::Grpc => grpc::version(value),
        }
    }
}

impl<'a> Viewer<'a> {
    /// A client that asks for some names: no proxy names its listeners.
    pub(crate) fn of(node: &'a NodeMetadata, asked: &Asked) -> Self {
        let dialect = match (asked.listeners.is_empty(), node.mtls) {
            (true, false) => Dialect::Proxy,
            (true, true) => Dialect::Mesh,
            (false, _) => Dialect::Grpc,
        };
        Self { node, dialect }
    }
}

/// The clusters of one service, and what they were compiled from.
#[derive(Debug)]
pub(crate) struct Compiled {
    service: Arc<Service>,
    /// Destination rules and the policy of checks.
    rules: Vec<Arc<Document>>,
    locality: Arc<LocalityLb>,
    domains: Arc<[Arc<str>]>,
    takes: Arc<Policies>,
    logs: Arc<[AccessLog]>,
    pub(crate) tcp_idle_timeout: Option<Duration>,
    /// How clients that know nothing reach it.
    pub(crate) reached: Reached,
    /// As a proxy sees them of which nothing is known.
    plain: Arc<Resources>,
    /// The labels of a proxy that count beside its locality; none where every proxy sees the same.
    looks_at: Option<Vec<Arc<str>>>,
    /// As they are seen from where clients are, as far as any has asked,
    seen: Mutex<Views>,
    /// and as the predecessor had them, so that what did not change stays the same allocation.
    seen_before: Views,
}

/// By who sees them, whether with our own balancer, and from where; none is from everywhere.
type Views = BTreeMap<(Dialect, bool, Option<Vantage>), Arc<Resources>>;

/// The clusters of one service and their endpoints.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    clusters: Vec<Arc<Resource>>,
    endpoints: Vec<Arc<Resource>>,
}

impl Resources {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Kind, &Arc<Resource>)> {
        let clusters = self.clusters.iter().map(|cluster| (Kind::Cluster, cluster));
        clusters.chain(self.endpoints.iter().map(|endpoints| (Kind::Endpoints, endpoints)))
    }

    /// Encodes clusters; what equals its namesake in any of `known` stays the same allocation.
    fn encode(made: Vec<Made>, dialect: Dialect, documents: &Arc<[Arc<str>]>, known: &[&Self]) -> Self {
        let find = |of: fn(&Self) -> &Vec<Arc<Resource>>, name: &Arc<str>, version: u64| {
            let all = known.iter().flat_map(|known| of(known));
            let same =
                |r: &&Arc<Resource>| r.name == *name && r.version == version && r.documents == *documents;
            all.clone().find(same).cloned()
        };
        let mut encoded = Self::default();
        for Made { cluster, endpoints, .. } in made {
            let version = dialect.version(&cluster);
            let same = find(|known| &known.clusters, &cluster.name, version);
            let encode = || match dialect {
                Dialect::Proxy | Dialect::Mesh => encode::cluster::cluster(&cluster).encode_to_vec(),
                Dialect::Grpc => encode::grpc::cluster(&cluster).encode_to_vec(),
            };
            let resource = |kind, name: &Arc<str>, version, message| {
                Arc::new(Resource::new(kind, name.clone(), version, message, documents.clone()))
            };
            let new = || resource(Kind::Cluster, &cluster.name, version, encode());
            encoded.clusters.push(same.unwrap_or_else(new));
            let Some(endpoints) = endpoints else { continue };
            let version = dialect.version(&endpoints);
            let same = find(|known| &known.endpoints, &endpoints.cluster, version);
            let encode = || encode::cluster::endpoints(&endpoints).encode_to_vec();
            let new = || resource(Kind::Endpoints, &endpoints.cluster, version, encode());
            encoded.endpoints.push(same.unwrap_or_else(new));
        }
        encoded
    }
}

impl Compiled {
    /// The service.
    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    /// Whether it was compiled from this very service.
    pub(crate) fn is_of(&self, service: &Arc<Service>) -> bool {
        Arc::ptr_eq(&self.service, service)
    }

    /// The service's key.
    pub(crate) fn key(&self) -> &ServiceKey {
        &self.service.key
    }

    /// Whether it was compiled with these very rules.
    pub(crate) fn has_rules(&self, rules: &[Arc<Document>]) -> bool {
        self.rules.len() == rules.len() && self.rules.iter().zip(rules).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// The same for a newer version of the service.
    pub(crate) fn with(self: &Arc<Self>, service: &Arc<Service>) -> Arc<Self> {
        let Self { locality, domains, takes, .. } = &**self;
        let mesh_wide = MeshWide { locality, domains, takes, logs: &self.logs };
        compile(service, self.rules.clone(), mesh_wide, Some(self))
    }

    /// The names of its clusters and endpoints, which are the same for every proxy.
    fn names(&self) -> impl Iterator<Item = (Kind, &Arc<str>)> {
        self.plain.iter().map(|(kind, resource)| (kind, &resource.name))
    }

    /// Its clusters and their endpoints, as a client sees them. They are compiled for each vantage that is in use.
    pub(crate) fn seen_by(&self, viewer: Viewer<'_>) -> Arc<Resources> {
        let dialect = match viewer.dialect {
            // Where nobody takes mutual TLS, who could speak it sees what everybody sees.
            Dialect::Mesh if !self.service.endpoints.values().any(|endpoint| endpoint.takes_mtls()) => {
                Dialect::Proxy
            }
            dialect => dialect,
        };
        let vantage = self.looks_at.as_ref().map(|labels| Vantage::of(viewer.node, labels));
        let by_latency = viewer.node.extensions.iter().any(|name| name == encode::cluster::PEAK_EWMA)
            && dialect != Dialect::Grpc
            && self.inputs().endpoint_policy.is_some_and(|policy| policy.peak_ewma.is_some());
        if vantage.is_none() && dialect == Dialect::Proxy && !by_latency {
            return self.plain.clone();
        }
        let view = (dialect, by_latency, vantage);
        if let Some(found) = self.lock().get(&view) {
            return found.clone();
        }
        let inputs = Inputs { mutual: dialect == Dialect::Mesh, by_latency, ..self.inputs() };
        let mut made = inputs.clusters(view.2.as_ref());
        if dialect == Dialect::Grpc {
            made = made.into_iter().filter_map(grpc::shaped).collect();
        }
        let known: Vec<&Resources> =
            self.seen_before.get(&view).map(|before| &**before).into_iter().chain([&*self.plain]).collect();
        let found = Arc::new(Resources::encode(made, dialect, &self.documents(), &known));
        let mut seen = self.lock();
        if seen.len() < VANTAGES_MAX {
            return seen.entry(view).or_insert(found).clone();
        }
        found
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            service: &self.service,
            rules: destination_rules(&self.rules).collect(),
            checks: self.rules.iter().find_map(|document| match &document.spec {
                DocumentSpec::HealthCheckPolicy(policy) => Some(policy),
                _ => None,
            }),
            endpoint_policy: self.rules.iter().find_map(|document| match &document.spec {
                DocumentSpec::EndpointPolicy(policy) => Some(policy),
                _ => None,
            }),
            by_latency: false,
            locality: &self.locality,
            domains: &self.domains,
            takes: &self.takes,
            mutual: false,
        }
    }

    /// Names under which the secrets of its clusters are delivered.
    pub(crate) fn secrets(&self) -> Vec<Arc<str>> {
        let names = destination_rules(&self.rules).flat_map(DestinationRule::secrets);
        names.flat_map(|name| [secrets::certificate_name(&name), secrets::authorities_name(&name)]).collect()
    }

    fn documents(&self) -> Arc<[Arc<str>]> {
        self.rules.iter().map(|document| document.key()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Views> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Registered services and those of service entries. What is registered wins, and of two entries that count in one place the older one. What
/// equals its predecessor stays the same allocation.
///
/// An entry without addresses of its own gets a virtual IP, which it keeps from world to world; after a restart older
/// documents choose first, as they did. As in Istio, none where the client's own resolution is what counts.
pub(crate) fn all(mesh: &Mesh, documents: &DocumentSet, previous: &Services) -> Services {
    let mut services = mesh.services.clone();
    let mut entries = documents.service_entries().peekable();
    if entries.peek().is_none() {
        return services;
    }
    let registered = Hosts::of_mesh(mesh);
    let mut taken: BTreeMap<Arc<str>, Vec<(Arc<str>, ExportTo)>> = BTreeMap::new();
    let mut found = Vec::new();
    for (document, entry) in entries {
        let named = entry.addresses.is_empty() && entry.resolution != EntryResolution::None;
        for service in entries::services(document, entry, mesh, documents) {
            let (home, export) = (&service.key.namespace, &service.export_to);
            let known = registered.find(&service.host, home).is_some();
            let others = taken.entry(service.host.clone()).or_default();
            let meets = |(other_home, other): &(Arc<str>, ExportTo)| {
                other_home == home || export.overlaps(home, other, other_home)
            };
            if known || others.iter().any(meets) {
                continue;
            }
            others.push((home.clone(), export.clone()));
            found.push((service, named));
        }
    }
    let kept = found.iter().filter(|(_, named)| *named).filter_map(|(service, _)| {
        let before = previous.get(&service.key)?;
        Some((service.key.clone(), before.virtual_ip?))
    });
    let mut ips = VirtualIps::restore(Range::Documents, kept);
    for (mut service, named) in found {
        service.virtual_ip = if named { ips.assign(&service.key) } else { None };
        let before = previous.get(&service.key).filter(|before| ***before == service).cloned();
        let service = before.unwrap_or_else(|| Arc::new(service));
        services.insert(service.key.clone(), service);
    }
    services
}

/// Whether all that routes can depend on is as before: names, hosts, ports and addresses, but not endpoints.
pub(crate) fn same_shapes(now: &Services, before: &Services) -> bool {
    let same = |(a, b): (&Arc<Service>, &Arc<Service>)| {
        Arc::ptr_eq(a, b)
            || (a.key == b.key
                && a.host == b.host
                && a.hosts == b.hosts
                && a.ports == b.ports
                && a.virtual_ip == b.virtual_ip
                && a.addresses == b.addresses
                && a.export_to == b.export_to)
    };
    now.len() == before.len() && now.values().zip(before.values()).all(same)
}

/// Policies of endpoints and of their checks by the host that they are for; of several the oldest.
#[derive(Debug, Default)]
pub(crate) struct HostPolicies {
    checks: ByHost<Arc<Document>>,
    endpoints: ByHost<Arc<Document>>,
}

impl HostPolicies {
    pub(crate) fn new(documents: &DocumentSet, hosts: &Hosts) -> Self {
        let by_host = |policies: &mut dyn Iterator<Item = (&Arc<Document>, &Located)>| {
            let mut found = BTreeMap::new();
            for (document, host) in policies {
                let host = hosts.canonical(&host.text, &document.namespace);
                found.entry(host).or_insert_with(|| document.clone());
            }
            ByHost::new(found)
        };
        Self {
            checks: by_host(&mut documents.health_check_policies().map(|(of, policy)| (of, &policy.host))),
            endpoints: by_host(&mut documents.endpoint_policies().map(|(of, policy)| (of, &policy.host))),
        }
    }

    fn of(&self, host: &str) -> impl Iterator<Item = Arc<Document>> {
        [self.checks.of(host), self.endpoints.of(host)].into_iter().flatten().cloned()
    }
}

/// What shapes the clusters of a service for a client's namespace: its rules, and the policies of
/// its endpoints.
pub(crate) fn documents(
    service: &Service,
    client: &Lens,
    rules: &Rules,
    policies: &HostPolicies,
) -> Vec<Arc<Document>> {
    let rules = rules.of(&service.host, &service.key.namespace, client);
    rules.into_iter().chain(policies.of(&service.host)).collect()
}

/// What the documents of destination rules say.
pub(crate) fn destination_rules(documents: &[Arc<Document>]) -> impl Iterator<Item = &DestinationRule> {
    documents.iter().filter_map(|document| match &document.spec {
        DocumentSpec::DestinationRule(rule) => Some(&**rule),
        _ => None,
    })
}

/// What holds for every service of the mesh where no document says.
#[derive(Clone, Copy)]
pub(crate) struct MeshWide<'a> {
    pub(crate) locality: &'a Arc<LocalityLb>,
    /// Trust domains.
    pub(crate) domains: &'a Arc<[Arc<str>]>,
    /// What workloads take, where any might take plain text alone.
    pub(crate) takes: &'a Arc<Policies>,
    /// What is written of requests and connections.
    pub(crate) logs: &'a Arc<[AccessLog]>,
}

/// Compiles a service; what equals its predecessor stays the same allocation, the whole where nothing changed.
pub(crate) fn compile(
    service: &Arc<Service>,
    rules: Vec<Arc<Document>>,
    mesh_wide: MeshWide<'_>,
    previous: Option<&Arc<Compiled>>,
) -> Arc<Compiled> {
    if let Some(previous) = previous
        && previous.is_of(service)
        && previous.has_rules(&rules)
        && Arc::ptr_eq(&previous.takes, mesh_wide.takes)
        && previous.logs == *mesh_wide.logs
    {
        return previous.clone();
    }
    let tcp_idle_timeout = destination_rules(&rules).find_map(|rule| rule.policy.tcp.idle_timeout);
    let reached_before = previous.map(|previous| &previous.reached);
    let mut compiled = Compiled {
        service: service.clone(),
        locality: mesh_wide.locality.clone(),
        domains: mesh_wide.domains.clone(),
        takes: mesh_wide.takes.clone(),
        logs: mesh_wide.logs.clone(),
        tcp_idle_timeout,
        reached: Reached::new(service, tcp_idle_timeout, mesh_wide.logs, reached_before),
        rules,
        plain: Arc::default(),
        looks_at: None,
        seen: Mutex::default(),
        seen_before: previous.map(|previous| previous.lock().clone()).unwrap_or_default(),
    };
    let made = compiled.inputs().clusters(None);
    let labels = made.iter().filter_map(|made| made.looks_at.as_ref());
    compiled.looks_at = labels.cloned().reduce(|mut all, more| {
        all.extend(more);
        all
    });
    let before: Vec<&Resources> = previous.iter().map(|previous| &*previous.plain).collect();
    compiled.plain = Arc::new(Resources::encode(made, Dialect::Proxy, &compiled.documents(), &before));
    Arc::new(compiled)
}

/// The services of which only resources changed; none where names of resources came or went.
pub(crate) fn exchanged(changes: &[(Option<&Arc<Compiled>>, Arc<Compiled>)]) -> Option<Vec<Arc<Compiled>>> {
    // Whether gRPC clients can have a service by DNS hangs on its endpoints.
    let same_for_all = |now: &Compiled| now.service.resolution == Resolution::Static;
    let same_names = |(before, now): &(Option<&Arc<Compiled>>, Arc<Compiled>)| {
        before.is_some_and(|before| before.names().eq(now.names()) && same_for_all(now))
    };
    changes.iter().all(same_names).then(|| changes.iter().map(|(_, now)| now.clone()).collect())
}

/// Puts what a client now sees of a service in the place of what it saw, where its set has any of it.
pub(crate) fn exchange(set: &mut Arc<ResourceSet>, viewer: Viewer<'_>, now: &Compiled) {
    let service = &now.service;
    // What counts elsewhere alone may have the names of what counts here.
    let counts = service.export_to.reaches(&viewer.node.namespace, &service.key.namespace);
    if !counts || !now.names().any(|(kind, name)| set.find(kind, name).is_some()) {
        return;
    }
    for (kind, resource) in now.seen_by(viewer).iter() {
        if set.find(kind, &resource.name).is_some_and(|before| !Arc::ptr_eq(before, resource)) {
            Arc::make_mut(set).insert(kind, resource.clone());
        }
    }
}

/// An encoded cluster.
pub(crate) fn cluster_resource(cluster: &ir::Cluster, documents: Arc<[Arc<str>]>) -> Arc<Resource> {
    let message = encode::cluster::cluster(cluster).encode_to_vec();
    Arc::new(Resource::new(Kind::Cluster, cluster.name.clone(), version(cluster), message, documents))
}

/// An encoded listener.
pub(crate) fn listener_resource(listener: &ir::Listener, documents: Arc<[Arc<str>]>) -> Resource {
    let message = encode::listener::listener(listener).encode_to_vec();
    Resource::new(Kind::Listener, listener.name.clone(), version(listener), message, documents)
}
