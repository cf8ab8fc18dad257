//! Route tables that do not depend on a node: one for every HTTP port of a service, and one for each namespace in
//! which all of them are told apart by host.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use prost::Message;
use weft_proto::node::cluster_name;

use super::{
    by_host::ByHost,
    encode,
    ir::{Action, Forward, Match, Route, RouteConfig, VirtualHost, version},
    routes::{self, View},
    services::Services,
};
use crate::{
    documents::{Document, DocumentSet, MESH_GATEWAY, VirtualService, hosts::Hosts},
    model::{Port, Service, ServiceKey},
    resource::{Kind, Resource},
};

/// Name of the table that routes by host.
pub const OUTBOUND_HTTP: &str = "outbound-http";

/// Namespaces whose table is kept; more are compiled again when asked for.
const NAMESPACES_MAX: usize = 1024;

/// The tables of one moment.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    ports: BTreeMap<(ServiceKey, u16), Arc<PortTable>>,
    /// Hosts of virtual services that are no service.
    pub(super) others: Vec<OtherHost>,
    by_host: Mutex<BTreeMap<Arc<str>, Arc<Resource>>>,
    /// How many were compiled, not taken over.
    pub(crate) recompiled: usize,
}

/// The table of one port.
#[derive(Debug)]
pub(crate) struct PortTable {
    /// What it was compiled from.
    document: Option<Arc<Document>>,
    pub(super) routes: Arc<[Route]>,
    pub(crate) clusters: BTreeSet<Arc<str>>,
    pub(crate) resource: Arc<Resource>,
}

/// A host of a virtual service that is no service.
#[derive(Debug)]
pub(super) struct OtherHost {
    /// As its document writes it.
    host: Arc<str>,
    /// The document's.
    namespace: Arc<str>,
    pub(super) canonical: Arc<str>,
    pub(super) routes: Arc<[Route]>,
    pub(super) document: Arc<str>,
}

/// What did not change since the tables before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Same {
    /// Services have the names, hosts and ports that they had.
    pub(crate) shape: bool,
    /// Requests are hashed by what they were hashed by.
    pub(crate) hashing: bool,
}

/// A document, its meaning, and the host in it that is looked at.
type Rule<'a> = (&'a Arc<Document>, &'a VirtualService, &'a Arc<str>);

impl Tables {
    /// Takes over the tables that cannot have changed, and compiles the others; what equals its predecessor stays the same
    /// allocation.
    pub(crate) fn new(
        services: &Services,
        documents: &DocumentSet,
        hosts: &Hosts,
        destination_rules: &ByHost<Vec<Arc<Document>>>,
        previous: &Self,
        same: Same,
    ) -> Self {
        let rules = rules(documents, hosts);
        let view = |port| View { hosts, services, rules: destination_rules, gateway: MESH_GATEWAY, port };
        let mut ports = BTreeMap::new();
        let mut recompiled = 0;
        for service in services.values() {
            let rule = rules.of(&service.host);
            for port in service.ports.iter().filter(|port| port.protocol.is_http()) {
                let key = (service.key.clone(), port.number);
                let before = previous.ports.get(&key);
                if let Some(before) = before.filter(|before| before.still_holds(service, port, rule, same)) {
                    ports.insert(key, before.clone());
                    continue;
                }
                let view = view(port.number);
                ports.insert(key, Arc::new(port_table(service, &view, rule, before.map(|before| &**before))));
                recompiled += 1;
            }
        }
        let known: BTreeSet<&str> = services.values().map(|service| &*service.host).collect();
        let other = |(canonical, (document, rule, host)): (&Arc<str>, &Rule<'_>)| {
            // Without a service there is no port of its own: 80 is what a bare host means.
            let routes = view(80).routes(document, rule).into();
            let (host, namespace) = (Arc::clone(host), document.namespace.clone());
            OtherHost { host, namespace, canonical: canonical.clone(), routes, document: document.key() }
        };
        let others: Vec<OtherHost> =
            rules.iter().filter(|(host, _)| !known.contains(&***host)).map(other).collect();
        let recompiled = recompiled + others.len();
        Self { ports, others, by_host: Mutex::default(), recompiled }
    }

    /// The table of a port.
    pub(crate) fn of_port(&self, service: &ServiceKey, port: u16) -> Option<&Arc<PortTable>> {
        self.ports.get(&(service.clone(), port))
    }

    /// The table that routes by host, as a namespace sees short names.
    pub(crate) fn by_host(&self, namespace: &str, services: &Services, hosts: &Hosts) -> Arc<Resource> {
        let mut tables = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = tables.get(namespace) {
            return found.clone();
        }
        let table = self.compile_by_host(namespace, services, hosts);
        if tables.len() < NAMESPACES_MAX {
            tables.insert(namespace.into(), table.clone());
        }
        table
    }

    fn compile_by_host(&self, namespace: &str, services: &Services, hosts: &Hosts) -> Arc<Resource> {
        let mut taken = BTreeSet::new();
        let mut virtual_hosts = Vec::new();
        let mut documents = BTreeSet::new();
        for service in services.values() {
            let mut first = true;
            for port in service.ports.iter().filter(|port| port.protocol.is_http()) {
                let Some(table) = self.of_port(&service.key, port.number) else { continue };
                let mine = |host: &&Arc<str>| hosts.find(host, namespace) == Some(&service.key);
                let mut domains = Vec::new();
                for host in service.hosts.iter().filter(mine) {
                    let bare = first.then(|| host.clone());
                    let with_port = Arc::<str>::from(format!("{host}:{}", port.number));
                    domains.extend(bare.into_iter().chain([with_port]).filter(|d| taken.insert(d.clone())));
                }
                first = false;
                if !domains.is_empty() {
                    let name = format!("{}:{}", service.host, port.number).into();
                    virtual_hosts.push(VirtualHost { name, domains, routes: table.routes.clone() });
                    documents.extend(table.resource.documents.iter().cloned());
                }
            }
        }
        for other in &self.others {
            let spellings = hosts.spellings(&other.host, &other.namespace, namespace);
            let all = spellings.iter().flat_map(domains);
            let domains: Vec<_> = all.filter(|domain| taken.insert(domain.clone())).collect();
            if !domains.is_empty() {
                let (name, routes) = (other.canonical.clone(), other.routes.clone());
                virtual_hosts.push(VirtualHost { name, domains, routes });
                documents.insert(other.document.clone());
            }
        }
        let table = RouteConfig { name: OUTBOUND_HTTP.into(), hosts: virtual_hosts, on_demand: false };
        table_resource(&table, documents.into_iter().collect())
    }
}

impl PortTable {
    /// Whether compiling it again would say the same: its document is the same and, since a document may name any service,
    /// no service has another shape. Without a document it depends on its own name alone.
    fn still_holds(&self, service: &Service, port: &Port, rule: Option<&Rule<'_>>, same: Same) -> bool {
        same.hashing
            && match (&self.document, rule) {
                (Some(before), Some((now, _, _))) => same.shape && Arc::ptr_eq(before, now),
                (None, None) => *self.resource.name == *cluster_name(port.number, "", &service.host),
                _ => false,
            }
    }
}

/// Which virtual service of the mesh applies to a host; of two, the older one.
fn rules<'a>(documents: &'a DocumentSet, hosts: &Hosts) -> ByHost<Rule<'a>> {
    let mut by_host = BTreeMap::new();
    for (document, rule) in documents.virtual_services() {
        if !routes::belongs(document, rule, MESH_GATEWAY) {
            continue;
        }
        for host in &rule.hosts {
            let canonical = hosts.canonical(&host.text, &document.namespace);
            by_host.entry(canonical).or_insert((document, rule, &host.text));
        }
    }
    ByHost::new(by_host)
}

fn port_table(
    service: &Service,
    view: &View<'_>,
    rule: Option<&Rule<'_>>,
    previous: Option<&PortTable>,
) -> PortTable {
    let name: Arc<str> = cluster_name(view.port, "", &service.host).into();
    let (routes, documents): (Arc<[Route]>, Vec<Arc<str>>) = match rule {
        Some((document, rule, _)) => (view.routes(document, rule).into(), vec![document.key()]),
        None => {
            let mut route = default_route(&name);
            if let Action::Forward(forward) = &mut route.action {
                forward.hash = view.hash_key_of(&service.host, "", view.port);
            }
            (Arc::new([route]), Vec::new())
        }
    };
    let host = VirtualHost { name: name.clone(), domains: vec!["*".into()], routes: routes.clone() };
    let table = RouteConfig { name, hosts: vec![host], on_demand: false };
    let clusters = table.clusters().cloned().collect();
    let same = |previous: &&PortTable| {
        previous.resource.version == version(&table) && *previous.resource.documents == *documents
    };
    let resource = match previous.filter(same) {
        Some(previous) => previous.resource.clone(),
        None => table_resource(&table, documents),
    };
    let document = rule.map(|(document, _, _)| Arc::clone(document));
    PortTable { document, routes, clusters, resource }
}

/// Every request to the cluster, retried where that is safe, without a time limit.
pub(crate) fn default_route(cluster: &Arc<str>) -> Route {
    Route {
        name: "default".into(),
        matches: Match::default(),
        action: Action::Forward(Forward::plain(cluster.clone(), routes::default_retry())),
        headers: Default::default(),
    }
}

/// A host, with and without any port; patterns take ports by themselves where they end in a star.
pub(crate) fn domains(host: &Arc<str>) -> Vec<Arc<str>> {
    match host.starts_with('*') {
        true => vec![host.clone()],
        false => vec![host.clone(), format!("{host}:*").into()],
    }
}

/// The table of hosts that are asked for one by one.
pub(crate) fn on_demand_table() -> Arc<Resource> {
    table_resource(
        &RouteConfig { name: OUTBOUND_HTTP.into(), hosts: Vec::new(), on_demand: true },
        Vec::new(),
    )
}

/// An encoded virtual host of such a table.
pub(crate) fn host_resource(host: &VirtualHost, documents: Arc<[Arc<str>]>) -> Arc<Resource> {
    let message = encode::route::virtual_host(host).encode_to_vec();
    Arc::new(Resource::new(Kind::VirtualHost, host.name.clone(), version(host), message, documents))
}

/// An encoded table.
pub(crate) fn table_resource(table: &RouteConfig, documents: Vec<Arc<str>>) -> Arc<Resource> {
    let message = encode::route::route_config(table).encode_to_vec();
    Arc::new(Resource::new(Kind::Routes, table.name.clone(), version(table), message, documents.into()))
}
