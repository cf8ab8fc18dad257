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
    lens::Lens,
    routes::{self, View},
    rules::Rules,
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
    ports: Ports,
    /// Hosts of virtual services that are no service.
    pub(super) others: Arc<[OtherHost]>,
    by_host: Mutex<BTreeMap<Arc<str>, Arc<Resource>>>,
    /// How many were compiled, not taken over.
    pub(crate) recompiled: usize,
}

/// Tables by service and port.
pub(crate) type Ports = BTreeMap<(ServiceKey, u16), Arc<PortTable>>;

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
    pub(super) host: Arc<str>,
    /// The document's.
    pub(super) namespace: Arc<str>,
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

/// What tables are compiled from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) services: &'a Services,
    pub(crate) documents: &'a DocumentSet,
    pub(crate) hosts: &'a Hosts,
    pub(crate) destination_rules: &'a Rules,
    pub(crate) lens: &'a Lens,
}

impl<'a> Source<'a> {
    fn view(self, port: u16) -> View<'a> {
        let Self { services, hosts, destination_rules: rules, lens, .. } = self;
        View { hosts, services, rules, client: &lens.namespace, gateway: MESH_GATEWAY, port }
    }

    /// Which virtual service of the mesh applies to a host; of two, the older one.
    fn rules(self) -> ByHost<Rule<'a>> {
        let mut by_host = BTreeMap::new();
        for (document, rule) in self.documents.virtual_services() {
            if !routes::belongs(document, rule, MESH_GATEWAY) {
                continue;
            }
            for host in &rule.hosts {
                let canonical = self.hosts.canonical(&host.text, &document.namespace);
                if self.lens.takes(document, &canonical) {
                    by_host.entry(canonical).or_insert((document, rule, &host.text));
                }
            }
        }
        ByHost::new(by_host)
    }

    fn others(self, rules: &ByHost<Rule<'_>>) -> Arc<[OtherHost]> {
        let known: BTreeSet<&str> = self.services.values().map(|service| &*service.host).collect();
        let other = |(canonical, (document, rule, host)): (&Arc<str>, &Rule<'_>)| {
            // Without a service there is no port of its own: 80 is what a bare host means.
            let routes = self.view(80).routes(document, rule).into();
            let (host, namespace) = (Arc::clone(host), document.namespace.clone());
            OtherHost { host, namespace, canonical: canonical.clone(), routes, document: document.key() }
        };
        rules.iter().filter(|(host, _)| !known.contains(&***host)).map(other).collect()
    }
}

impl Tables {
    /// Takes over the tables that cannot have changed, and compiles the others; what equals its predecessor stays the same
    /// allocation.
    pub(crate) fn new(source: Source<'_>, previous: &Self, same: Same) -> Self {
        let rules = source.rules();
        let mut ports = BTreeMap::new();
        let mut recompiled = 0;
        for service in source.services.values() {
            let rule = rules.of(&service.host);
            for port in service.ports.iter().filter(|port| port.protocol.is_http()) {
                let key = (service.key.clone(), port.number);
                let before = previous.ports.get(&key);
                if let Some(before) = before.filter(|before| before.still_holds(service, port, rule, same)) {
                    ports.insert(key, before.clone());
                    continue;
                }
                let view = source.view(port.number);
                ports.insert(key, Arc::new(port_table(service, &view, rule, before.map(|before| &**before))));
                recompiled += 1;
            }
        }
        let others = source.others(&rules);
        let recompiled = recompiled + others.len();
        Self { ports, others, by_host: Mutex::default(), recompiled }
    }

    /// What a lens sees otherwise than these tables have it: the tables of ports that differ, and all other hosts. What
    /// equals its namesake in `known` stays the same allocation.
    pub(crate) fn seen_through(
        &self,
        source: Source<'_>,
        known: Option<&Ports>,
    ) -> (Ports, Arc<[OtherHost]>) {
        let rules = source.rules();
        // Routes name what is hashed, which destination rules say.
        let by_hash = source.documents.destination_rules().any(|(_, rule)| rule.hashes());
        let mut ports = BTreeMap::new();
        for service in source.services.values() {
            let rule = rules.of(&service.host);
            for port in service.ports.iter().filter(|port| port.protocol.is_http()) {
                let key = (service.key.clone(), port.number);
                let Some(common) = self.ports.get(&key) else { continue };
                let document = rule.map(|(document, _, _)| Arc::as_ptr(document));
                if document == common.document.as_ref().map(Arc::as_ptr) && !by_hash {
                    continue;
                }
                let before = known.and_then(|known| known.get(&key)).unwrap_or(common);
                let table = port_table(service, &source.view(port.number), rule, Some(&**before));
                if !Arc::ptr_eq(&table.resource, &common.resource) {
                    ports.insert(key, Arc::new(table));
                }
            }
        }
        (ports, source.others(&rules))
    }

    /// The table of a port.
    pub(crate) fn of_port(&self, service: &ServiceKey, port: u16) -> Option<&Arc<PortTable>> {
        self.ports.get(&(service.clone(), port))
    }

    /// The table that routes by host, as a stranger in a namespace sees short names; made when it is asked for first.
    pub(crate) fn by_host(&self, namespace: &str, make: impl FnOnce() -> Arc<Resource>) -> Arc<Resource> {
        let mut tables = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = tables.get(namespace) {
            return found.clone();
        }
        let table = make();
        if tables.len() < NAMESPACES_MAX {
            tables.insert(namespace.into(), table.clone());
        }
        table
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
                forward.hash = view.hash_key_of(&service.host, &service.key.namespace, "", view.port);
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
        filters: Default::default(),
        stat_prefix: None,
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
