//! Route tables that do not depend on a node: one for every HTTP port of a service, and one for each namespace in
//! which all of them are told apart by host.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use prost::Message;
use weft_proto::node::cluster_name;

use super::{
    capture, encode,
    ir::{Access, Action, Forward, Limits, Match, Redirect, Route, RouteConfig, VirtualHost, version},
    lens::Lens,
    routes::{self, View},
    rules::Rules,
    services::Services,
    shared::{Claimant, HostRank},
};
use crate::{
    documents::{
        Document, DocumentSet, DocumentSpec, MESH_GATEWAY,
        attach::Attachments,
        by_host::ByHost,
        claims::{self, Claim, Rule},
        hosts::Hosts,
    },
    model::{OutboundPolicy, Port, Service, ServiceKey},
    resource::{Kind, Resource},
};

/// Name of the table that routes by host.
pub const OUTBOUND_HTTP: &str = "outbound-http";

/// Namespaces whose table is kept; more are compiled again when asked for.
const NAMESPACES_MAX: usize = 1024;
/// Tables by port that are kept, of all namespaces.
const PORT_TABLES_MAX: usize = 16 * NAMESPACES_MAX;

/// The tables of one moment.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    ports: Ports,
    /// Hosts of virtual services that are no service.
    pub(super) others: Arc<[OtherHost]>,
    by_host: Mutex<BTreeMap<Arc<str>, Arc<Resource>>>,
    by_port: Mutex<BTreeMap<PortKey, Arc<Resource>>>,
    /// How many were compiled, not taken over.
    pub(crate) recompiled: usize,
}

/// Tables by service and port.
pub(crate) type Ports = BTreeMap<(ServiceKey, u16), Arc<PortTable>>;
/// What a table by port depends on besides services and documents: namespace, port and policy.
pub(crate) type PortKey = (Arc<str>, u16, OutboundPolicy);

/// The table of one port.
#[derive(Debug)]
pub(crate) struct PortTable {
    /// What it was compiled from.
    documents: Vec<Arc<Document>>,
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
    pub(super) documents: Arc<[Arc<str>]>,
}

/// What did not change since the tables before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Same {
    /// Services have the names, hosts and ports that they had.
    pub(crate) shape: bool,
    /// Requests are hashed by what they were hashed by.
    pub(crate) hashing: bool,
    /// The same references across namespaces are permitted.
    pub(crate) grants: bool,
}

/// What tables are compiled from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) services: &'a Services,
    pub(crate) documents: &'a DocumentSet,
    pub(crate) hosts: &'a Hosts,
    pub(crate) destination_rules: &'a Rules,
    pub(crate) lens: &'a Lens,
    pub(crate) attachments: &'a Attachments,
}

impl<'a> Source<'a> {
    fn view(self, port: u16) -> View<'a> {
        let Self { services, hosts, destination_rules: rules, lens, attachments, .. } = self;
        let (client, grants) = (lens, &attachments.grants);
        View { hosts, services, rules, client, grants, gateway: MESH_GATEWAY, port }
    }

    /// Which virtual service of the mesh applies to a host; of two, the older one.
    fn rules(self) -> ByHost<Rule<'a>> {
        let canonical = |host: &str, namespace: &str| self.hosts.canonical(host, namespace);
        claims::mesh_rules(self.documents, canonical, |document, host| self.lens.takes(document, host))
    }

    /// Who has requests to a port.
    fn claim(self, service: &Service, port: u16, rules: &ByHost<Rule<'a>>) -> Claim<'a> {
        claims::claim(service, port, &self.lens.namespace, rules, self.attachments)
    }

    fn others(self, rules: &ByHost<Rule<'_>>) -> Arc<[OtherHost]> {
        let known: BTreeSet<&str> = self.services.values().map(|service| &*service.host).collect();
        let other = |(canonical, (document, rule, host)): (&Arc<str>, &Rule<'_>)| {
            // Without a service there is no port of its own: 80 is what a bare host means.
            let routes = self.view(80).routes(document, rule).into();
            let (host, namespace) = (Arc::clone(host), document.namespace.clone());
            let documents = document.keys().collect();
            OtherHost { host, namespace, canonical: canonical.clone(), routes, documents }
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
            for port in service.ports.iter().filter(|port| port.protocol.is_http()) {
                let key = (service.key.clone(), port.number);
                let claim = source.claim(service, port.number, &rules);
                let before = previous.ports.get(&key);
                if let Some(before) = before.filter(|before| before.still_holds(service, port, &claim, same))
                {
                    ports.insert(key, before.clone());
                    continue;
                }
                let view = source.view(port.number);
                ports.insert(
                    key,
                    Arc::new(port_table(service, &view, &claim, before.map(|before| &**before))),
                );
                recompiled += 1;
            }
        }
        let others = source.others(&rules);
        let recompiled = recompiled + others.len();
        Self { ports, others, recompiled, ..Self::default() }
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
            for port in service.ports.iter().filter(|port| port.protocol.is_http()) {
                let key = (service.key.clone(), port.number);
                let Some(common) = self.ports.get(&key) else { continue };
                let claim = source.claim(service, port.number, &rules);
                if common.is_of(&claim) && !by_hash && !common.tells_clients_apart() {
                    continue;
                }
                let before = known.and_then(|known| known.get(&key)).unwrap_or(common);
                let table = port_table(service, &source.view(port.number), &claim, Some(&**before));
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

    /// The same of one port, for captured traffic.
    pub(crate) fn by_port(&self, key: PortKey, make: impl FnOnce() -> Arc<Resource>) -> Arc<Resource> {
        let mut tables = self.by_port.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = tables.get(&key) {
            return found.clone();
        }
        let table = make();
        if tables.len() < PORT_TABLES_MAX {
            tables.insert(key, table.clone());
        }
        table
    }
}

/// What becomes of requests to hosts that no service claims; the names are Istio's.
pub(crate) fn unclaimed(policy: OutboundPolicy) -> VirtualHost {
    let (name, route) = match policy {
        OutboundPolicy::AllowAny => {
            let mut route = default_route(&capture::PASSTHROUGH.into());
            route.action = Action::Forward(Forward::plain(capture::PASSTHROUGH.into(), None));
            ("allow_any", route)
        }
        OutboundPolicy::RegistryOnly => {
            let mut route = default_route(&capture::BLACK_HOLE.into());
            route.action = Action::Direct { status: 502, body: Arc::from([]) };
            ("block_all", route)
        }
    };
    VirtualHost { name: name.into(), domains: vec!["*".into()], routes: Arc::new([route]) }
}

impl PortTable {
    /// Whether compiling it again would say the same: its documents are the same and, since a document may name any
    /// service, no service has another shape. Without a document it depends on its own name alone.
    fn still_holds(&self, service: &Service, port: &Port, claim: &Claim<'_>, same: Same) -> bool {
        same.hashing
            && (self.documents.is_empty() || (same.shape && same.grants))
            && *self.resource.name == *cluster_name(port.number, "", &service.host)
            && self.is_of(claim)
    }

    /// Whether its documents have rules that are meant for some clients only.
    fn tells_clients_apart(&self) -> bool {
        let tells = |document: &Arc<Document>| match &document.spec {
            DocumentSpec::VirtualService(rule) => rule.sources().next().is_some(),
            _ => false,
        };
        self.documents.iter().any(tells)
    }

    /// Whether it was compiled from the documents that have it by a claim.
    fn is_of(&self, claim: &Claim<'_>) -> bool {
        self.documents.iter().map(Arc::as_ptr).eq(documents_of(claim).into_iter().map(Arc::as_ptr))
    }
}

/// The documents by which something is claimed, each once.
fn documents_of<'a>(claim: &Claim<'a>) -> Vec<&'a Arc<Document>> {
    match claim {
        Claim::Nobody => Vec::new(),
        Claim::Whole((document, ..)) => vec![document],
        Claim::Shared(routes) => {
            let mut documents: Vec<_> = routes.iter().map(|route| &route.document).collect();
            documents.dedup_by(|a, b| Arc::ptr_eq(a, b));
            documents
        }
    }
}

fn port_table(
    service: &Service,
    view: &View<'_>,
    claim: &Claim<'_>,
    previous: Option<&PortTable>,
) -> PortTable {
    let name: Arc<str> = cluster_name(view.port, "", &service.host).into();
    let documents = documents_of(claim);
    let routes: Arc<[Route]> = match claim {
        Claim::Whole((document, rule, _)) => view.routes(document, rule).into(),
        Claim::Shared(_) => {
            let all = documents.iter().map(|document| Claimant { document, host: HostRank::default() });
            view.shared(&all.collect::<Vec<_>>()).into()
        }
        Claim::Nobody => {
            let mut route = default_route(&name);
            if let Action::Forward(forward) = &mut route.action {
                forward.hash = view.hash_key_of(&service.host, &service.key.namespace, "", view.port);
            }
            Arc::new([route])
        }
    };
    let keys: Vec<Arc<str>> = documents.iter().flat_map(|document| document.keys()).collect();
    let host = VirtualHost { name: name.clone(), domains: vec!["*".into()], routes: routes.clone() };
    let table = RouteConfig {
        name,
        hosts: vec![host],
        on_demand: false,
        ignore_port: false,
        access: Access::default(),
        limits: Limits::default(),
    };
    let clusters = table.clusters().cloned().collect();
    let same = |previous: &&PortTable| {
        previous.resource.version == version(&table) && *previous.resource.documents == *keys
    };
    let resource = match previous.filter(same) {
        Some(previous) => previous.resource.clone(),
        None => table_resource(&table, keys),
    };
    let documents = documents.into_iter().cloned().collect();
    PortTable { documents, routes, clusters, resource }
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

/// Every request is answered 421: it came over a connection that is not for its host (RFC 9110, 15.5.20).
pub(crate) fn misdirected() -> Route {
    Route {
        name: "misdirected".into(),
        matches: Match::default(),
        action: Action::Direct { status: 421, body: Arc::new([]) },
        headers: Default::default(),
        filters: Default::default(),
        stat_prefix: None,
    }
}

/// Every request is told to come over HTTPS.
pub(crate) fn https_redirect() -> Route {
    let redirect = Redirect { path: None, host: None, scheme: Some("https".into()), port: None, code: 301 };
    Route {
        name: "https".into(),
        matches: Match::default(),
        action: Action::Redirect(redirect),
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
        &RouteConfig {
            name: OUTBOUND_HTTP.into(),
            hosts: Vec::new(),
            on_demand: true,
            ignore_port: false,
            access: Access::default(),
            limits: Limits::default(),
        },
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
