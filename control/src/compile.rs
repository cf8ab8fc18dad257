//! Compile: services and documents become what proxies receive. Pure: no socket, task or clock.
//!
//! ```text
//!  Mesh + DocumentSet --update--> World --resources(node)--> ResourceSet
//!     services --clusters--> ir --encode--> bytes      (again only for services that changed)
//!     documents -- tables --> ir --encode--> bytes     (again only when routes or the services' shapes changed)
//! ```
//!
//! Where two documents claim the same host, the older one has it; `documents::check` tells the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prost::Message;
use weft_proto::node::NodeMetadata;

mod clusters;
mod encode;
mod entries;
mod ir;
mod routes;
mod scope;
mod tables;
#[cfg(test)]
mod tests;

pub use tables::OUTBOUND_HTTP;

use ir::version;
use tables::{Services, Tables};

use crate::{
    documents::{
        DestinationRule, Document, DocumentSet, DocumentSpec,
        hosts::{Hosts, host_matches},
    },
    model::{Mesh, Service, ServiceKey},
    resource::{Kind, Resource, ResourceSet},
};

/// Scopes whose resources are kept for the next proxy like them; more are compiled again when asked for.
const SCOPES_MAX: usize = 4096;

/// Compiles one world after another, and keeps what did not change.
#[derive(Debug, Default)]
pub struct Compiler {
    world: Arc<World>,
}

/// Everything compiled from one registry snapshot and one set of documents.
#[derive(Debug, Default)]
pub struct World {
    /// Rises with every update.
    pub revision: u64,
    domain: Arc<str>,
    services: Services,
    documents: Arc<DocumentSet>,
    hosts: Arc<Hosts>,
    compiled: BTreeMap<ServiceKey, Arc<Compiled>>,
    tables: Arc<Tables>,
    scopes: Mutex<BTreeMap<NodeMetadata, Arc<ResourceSet>>>,
}

/// The clusters of one service, and what they were compiled from.
#[derive(Debug)]
struct Compiled {
    service: Arc<Service>,
    rules: Vec<Arc<Document>>,
    tcp_idle_timeout: Option<Duration>,
    clusters: Vec<Arc<Resource>>,
    endpoints: Vec<Arc<Resource>>,
}

impl Compiler {
    /// Compiles what changed since the last update, and shares the rest.
    pub fn update(&mut self, mesh: Arc<Mesh>, documents: Arc<DocumentSet>) -> Arc<World> {
        let previous = self.world.clone();
        let services = services(&mesh, &documents, &previous.services);
        let same_shape = mesh.domain == previous.domain && same_shapes(&services, &previous.services);
        let hosts = match same_shape {
            true => previous.hosts.clone(),
            false => Arc::new(Hosts::of_services(services.values(), &mesh.domain)),
        };
        let rules = DestinationRules::new(&documents, &hosts);
        let compile = |(key, service): (&ServiceKey, &Arc<Service>)| {
            let compiled = compile_service(service, rules.of(&service.host), previous.compiled.get(key));
            (key.clone(), compiled)
        };
        let compiled = services.iter().map(compile).collect();
        let tables = match same_shape && same_routing(&documents, &previous.documents) {
            true => previous.tables.clone(),
            false => Arc::new(Tables::new(&services, &documents, &hosts, &previous.tables)),
        };
        let revision = previous.revision + 1;
        let (domain, scopes) = (mesh.domain.clone(), Mutex::default());
        self.world =
            Arc::new(World { revision, domain, services, documents, hosts, compiled, tables, scopes });
        self.world.clone()
    }
}

impl World {
    /// What a proxy receives. Proxies with equal metadata share one set.
    pub fn resources(&self, node: &NodeMetadata) -> Arc<ResourceSet> {
        if let Some(found) = self.scopes.lock().unwrap_or_else(PoisonError::into_inner).get(node) {
            return found.clone();
        }
        let set = Arc::new(scope::resources(self, node));
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        if scopes.len() < SCOPES_MAX {
            scopes.insert(node.clone(), set.clone());
        }
        set
    }

    /// The document that an operator's key means, if it is a part of this world.
    pub fn document(&self, key: &str) -> Option<&Arc<Document>> {
        self.documents.get(key)
    }

    /// Adds a cluster by its name, `outbound|PORT|SUBSET|HOST`; nothing where it does not exist.
    fn insert_cluster(&self, name: &Arc<str>, set: &mut ResourceSet) {
        let host = name.rsplit('|').next().unwrap_or_default();
        let compiled = self.hosts.find(host, "").and_then(|key| self.compiled.get(key));
        let Some(compiled) = compiled else { return };
        for cluster in compiled.clusters.iter().filter(|cluster| cluster.name == *name) {
            set.insert(Kind::Cluster, cluster.clone());
        }
        for endpoints in compiled.endpoints.iter().filter(|endpoints| endpoints.name == *name) {
            set.insert(Kind::Endpoints, endpoints.clone());
        }
    }

    fn tcp_idle_timeout(&self, key: &ServiceKey) -> Option<Duration> {
        self.compiled.get(key)?.tcp_idle_timeout
    }
}

impl Compiled {
    fn insert_into(&self, set: &mut ResourceSet) {
        self.clusters.iter().for_each(|cluster| set.insert(Kind::Cluster, cluster.clone()));
        self.endpoints.iter().for_each(|endpoints| set.insert(Kind::Endpoints, endpoints.clone()));
    }
}

/// Registered services and those of service entries. What is registered wins, and of two entries the older one.
fn services(mesh: &Mesh, documents: &DocumentSet, previous: &Services) -> Services {
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
fn same_shapes(now: &Services, before: &Services) -> bool {
    let same = |(a, b): (&Arc<Service>, &Arc<Service>)| {
        Arc::ptr_eq(a, b) || (a.key == b.key && a.host == b.host && a.hosts == b.hosts && a.ports == b.ports)
    };
    now.len() == before.len() && now.values().zip(before.values()).all(same)
}

fn same_routing(now: &DocumentSet, before: &DocumentSet) -> bool {
    let routing = |set: &DocumentSet| -> Vec<Arc<Document>> {
        set.virtual_services().map(|(document, _)| document.clone()).collect()
    };
    same_documents(&routing(now), &routing(before))
}

fn same_documents(now: &[Arc<Document>], before: &[Arc<Document>]) -> bool {
    now.len() == before.len() && now.iter().zip(before).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// Destination rules by the host that they are for.
struct DestinationRules {
    by_host: BTreeMap<Arc<str>, Vec<Arc<Document>>>,
}

impl DestinationRules {
    fn new(documents: &DocumentSet, hosts: &Hosts) -> Self {
        let mut by_host: BTreeMap<_, Vec<Arc<Document>>> = BTreeMap::new();
        for (document, rule) in documents.destination_rules() {
            let host = hosts.canonical(&rule.host.text, &document.namespace);
            by_host.entry(host).or_default().push(document.clone());
        }
        Self { by_host }
    }

    /// Those that name the host, else those of the longest pattern that takes it.
    fn of(&self, host: &str) -> &[Arc<Document>] {
        let pattern = || {
            let patterns = self.by_host.iter().filter(|(pattern, _)| pattern.starts_with('*'));
            let fitting = patterns.filter(|(pattern, _)| host_matches(pattern, host));
            fitting.max_by_key(|(pattern, _)| pattern.len()).map(|(_, rules)| rules)
        };
        self.by_host.get(host).or_else(pattern).map(Vec::as_slice).unwrap_or_default()
    }
}

fn compile_service(
    service: &Arc<Service>,
    rules: &[Arc<Document>],
    previous: Option<&Arc<Compiled>>,
) -> Arc<Compiled> {
    if let Some(previous) = previous
        && Arc::ptr_eq(&previous.service, service)
        && same_documents(&previous.rules, rules)
    {
        return previous.clone();
    }
    let specs: Vec<&DestinationRule> = rules
        .iter()
        .filter_map(|document| match &document.spec {
            DocumentSpec::DestinationRule(rule) => Some(rule),
            _ => None,
        })
        .collect();
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

fn find<'a>(resources: &'a [Arc<Resource>], name: &Arc<str>) -> Option<&'a Arc<Resource>> {
    resources.iter().find(|resource| resource.name == *name)
}

fn cluster_resource(cluster: &ir::Cluster, documents: Arc<[Arc<str>]>) -> Arc<Resource> {
    Arc::new(Resource {
        name: cluster.name.clone(),
        version: version(cluster),
        bytes: encode::cluster::cluster(cluster).encode_to_vec().into(),
        documents,
    })
}

fn endpoints_resource(endpoints: &ir::Endpoints, documents: Arc<[Arc<str>]>) -> Arc<Resource> {
    Arc::new(Resource {
        name: endpoints.cluster.clone(),
        version: version(endpoints),
        bytes: encode::cluster::endpoints(endpoints).encode_to_vec().into(),
        documents,
    })
}
