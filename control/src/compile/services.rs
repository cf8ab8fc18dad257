//! The services of a world, and the clusters and endpoints compiled from each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use prost::Message;

use super::{
    by_host::ByHost,
    clusters, encode, entries,
    ir::{self, version},
};
use crate::{
    documents::{DestinationRule, Document, DocumentSet, DocumentSpec, hosts::Hosts},
    model::{Mesh, Service, ServiceKey},
    resource::{Kind, Resource},
};

/// Services by key.
pub(crate) type Services = BTreeMap<ServiceKey, Arc<Service>>;

/// The clusters of one service, and what they were compiled from.
#[derive(Debug)]
pub(crate) struct Compiled {
    service: Arc<Service>,
    rules: Vec<Arc<Document>>,
    pub(crate) tcp_idle_timeout: Option<Duration>,
    clusters: Vec<Arc<Resource>>,
    endpoints: Vec<Arc<Resource>>,
}

impl Compiled {
    /// Whether it was compiled from this very service.
    pub(crate) fn is_of(&self, service: &Arc<Service>) -> bool {
        Arc::ptr_eq(&self.service, service)
    }

    /// Its clusters and their endpoints.
    pub(crate) fn resources(&self) -> impl Iterator<Item = (Kind, &Arc<Resource>)> {
        let clusters = self.clusters.iter().map(|cluster| (Kind::Cluster, cluster));
        clusters.chain(self.endpoints.iter().map(|endpoints| (Kind::Endpoints, endpoints)))
    }
}

/// Registered services and those of service entries. What is registered wins, and of two entries the older one. What
/// equals its predecessor stays the same allocation.
pub(crate) fn all(mesh: &Mesh, documents: &DocumentSet, previous: &Services) -> Services {
    let mut services = mesh.services.clone();
    let mut entries = documents.service_entries().peekable();
    if entries.peek().is_none() {
        return services;
    }
    let registered = Hosts::of_mesh(mesh);
    let mut taken = BTreeSet::new();
    for (document, entry) in entries {
        for service in entries::services(document, entry, mesh) {
            let known = registered.find(&service.host, &service.key.namespace).is_some();
            if known || !taken.insert(service.host.clone()) {
                continue;
            }
            let before = previous.get(&service.key).filter(|before| ***before == service).cloned();
            let service = before.unwrap_or_else(|| Arc::new(service));
            services.insert(service.key.clone(), service);
        }
    }
    services
}

/// Whether all that routes can depend on is as before: names, hosts and ports, but not endpoints.
pub(crate) fn same_shapes(now: &Services, before: &Services) -> bool {
    let same = |(a, b): (&Arc<Service>, &Arc<Service>)| {
        Arc::ptr_eq(a, b) || (a.key == b.key && a.host == b.host && a.hosts == b.hosts && a.ports == b.ports)
    };
    now.len() == before.len() && now.values().zip(before.values()).all(same)
}

/// Destination rules by the host that they are for, the oldest first.
pub(crate) fn rules(documents: &DocumentSet, hosts: &Hosts) -> ByHost<Vec<Arc<Document>>> {
    let mut by_host: BTreeMap<_, Vec<Arc<Document>>> = BTreeMap::new();
    for (document, rule) in documents.destination_rules() {
        let host = hosts.canonical(&rule.host.text, &document.namespace);
        by_host.entry(host).or_default().push(document.clone());
    }
    ByHost::new(by_host)
}

/// What the documents of destination rules say.
pub(crate) fn destination_rules(documents: &[Arc<Document>]) -> impl Iterator<Item = &DestinationRule> {
    documents.iter().filter_map(|document| match &document.spec {
        DocumentSpec::DestinationRule(rule) => Some(&**rule),
        _ => None,
    })
}

/// Compiles a service; what equals its predecessor stays the same allocation, the whole where nothing changed.
pub(crate) fn compile(
    service: &Arc<Service>,
    rules: Option<&Vec<Arc<Document>>>,
    previous: Option<&Arc<Compiled>>,
) -> Arc<Compiled> {
    let rules = rules.map(Vec::as_slice).unwrap_or_default();
    let same_rules = |before: &Compiled| {
        before.rules.len() == rules.len() && before.rules.iter().zip(rules).all(|(a, b)| Arc::ptr_eq(a, b))
    };
    if let Some(previous) = previous
        && previous.is_of(service)
        && same_rules(previous)
    {
        return previous.clone();
    }
    let specs: Vec<&DestinationRule> = destination_rules(rules).collect();
    let documents: Arc<[Arc<str>]> = rules.iter().map(|document| document.key()).collect();
    let (mut clusters, mut endpoints) = (Vec::new(), Vec::new());
    for (cluster, assignment) in clusters::of_service(service, &specs) {
        let before = previous.and_then(|previous| find(&previous.clusters, &cluster.name));
        let same = before.filter(|b| b.version == version(&cluster) && b.documents == documents);
        clusters.push(same.cloned().unwrap_or_else(|| cluster_resource(&cluster, documents.clone())));
        let Some(assignment) = assignment else { continue };
        let before = previous.and_then(|previous| find(&previous.endpoints, &assignment.cluster));
        let same = before.filter(|b| b.version == version(&assignment) && b.documents == documents);
        endpoints.push(same.cloned().unwrap_or_else(|| endpoints_resource(&assignment, documents.clone())));
    }
    let tcp_idle_timeout = specs.iter().find_map(|rule| rule.policy.tcp.idle_timeout);
    let (service, rules) = (service.clone(), rules.to_vec());
    Arc::new(Compiled { service, rules, tcp_idle_timeout, clusters, endpoints })
}

/// The resources that take the place of others of the same name; none where names came or went.
pub(crate) fn exchanged(
    changes: &[(Option<&Arc<Compiled>>, Arc<Compiled>)],
) -> Option<Vec<(Kind, Arc<Resource>)>> {
    let mut exchanged = Vec::new();
    for (before, now) in changes {
        let before = before.as_ref()?;
        let names = |compiled: &Compiled| compiled.clusters.len() + compiled.endpoints.len();
        if names(before) != names(now) {
            return None;
        }
        for ((was_kind, was), (kind, is)) in before.resources().zip(now.resources()) {
            if was_kind != kind || was.name != is.name {
                return None;
            }
            if !Arc::ptr_eq(was, is) {
                exchanged.push((kind, is.clone()));
            }
        }
    }
    Some(exchanged)
}

fn find<'a>(resources: &'a [Arc<Resource>], name: &Arc<str>) -> Option<&'a Arc<Resource>> {
    resources.iter().find(|resource| resource.name == *name)
}

/// An encoded cluster.
pub(crate) fn cluster_resource(cluster: &ir::Cluster, documents: Arc<[Arc<str>]>) -> Arc<Resource> {
    let message = encode::cluster::cluster(cluster).encode_to_vec();
    Arc::new(Resource::new(Kind::Cluster, cluster.name.clone(), version(cluster), message, documents))
}

fn endpoints_resource(endpoints: &ir::Endpoints, documents: Arc<[Arc<str>]>) -> Arc<Resource> {
    let message = encode::cluster::endpoints(endpoints).encode_to_vec();
    let name = endpoints.cluster.clone();
    Arc::new(Resource::new(Kind::Endpoints, name, version(endpoints), message, documents))
}
