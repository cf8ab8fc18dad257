//! Who routes requests to a service where several documents claim it. Compile asks here, and so does `check`, which tells
//! the documents.
//!
//! A `VirtualService` has a host whole, routes of the Gateway API share it. So the oldest of all claims decides: where
//! that is a `VirtualService`, it has the host alone, and where it is a route, all routes have it, and no `VirtualService`
//! does. A pattern of a `VirtualService` takes only what nobody claims by name.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Document, DocumentSet, Located, MESH_GATEWAY, ServerClass, ServerHost, VirtualService,
    attach::{Attachments, ServiceRoute},
    by_host::ByHost,
    gateway_name,
};
use crate::model::{Service, ServiceKey};

/// A document, its meaning, and the host in it that is looked at.
pub type Rule<'a> = (&'a Arc<Document>, &'a VirtualService, &'a Arc<str>);

/// Who has requests to a port of a service.
#[derive(Debug)]
pub enum Claim<'a> {
    /// Nobody: they go to the service.
    Nobody,
    /// One `VirtualService`.
    Whole(Rule<'a>),
    /// These routes, the oldest first.
    Shared(Vec<&'a ServiceRoute>),
}

/// Whether a virtual service belongs to a gateway (`mesh` or `namespace/name`).
pub fn belongs(document: &Document, service: &VirtualService, gateway: &str) -> bool {
    if service.gateways.is_empty() {
        return gateway == MESH_GATEWAY;
    }
    service.gateways.iter().any(|named| gateway_name(&named.text, &document.namespace) == gateway)
}

/// Whether a virtual service routes connections from within the mesh.
pub fn routes_connections(document: &Document, service: &VirtualService) -> bool {
    !(service.tls.is_empty() && service.tcp.is_empty()) && belongs(document, service, MESH_GATEWAY)
}

/// Which virtual service of the mesh applies to a host; of two, the older one. `canonical` gives every name of a host one
/// spelling; `counts` says which documents count for a host.
pub fn mesh_rules<'a>(
    documents: &'a DocumentSet,
    canonical: impl Fn(&str, &str) -> Arc<str>,
    counts: impl Fn(&Document, &str) -> bool,
) -> ByHost<Rule<'a>> {
    let mut by_host = BTreeMap::new();
    for (document, rule) in documents.virtual_services() {
        if rule.http.is_empty() || !belongs(document, rule, MESH_GATEWAY) {
            continue;
        }
        for host in &rule.hosts {
            let canonical = canonical(&host.text, &document.namespace);
            if counts(document, &canonical) {
                by_host.entry(canonical).or_insert((document, rule, &host.text));
            }
        }
    }
    ByHost::new(by_host)
}

/// Who has the requests of a namespace's clients to a port of a service.
pub fn claim<'a>(
    service: &Service,
    port: u16,
    namespace: &str,
    rules: &ByHost<Rule<'a>>,
    attachments: &'a Attachments,
) -> Claim<'a> {
    let routes = attachments.of_port(&service.key, port, namespace);
    let Some(oldest) = routes.first() else {
        return rules.of(&service.host).map_or(Claim::Nobody, |rule| Claim::Whole(*rule));
    };
    match rules.exact(&service.host) {
        Some(rule) if rule.0.is_older_than(&oldest.document) => Claim::Whole(*rule),
        _ => Claim::Shared(routes),
    }
}

/// Two documents that claim the same requests.
#[derive(Debug)]
pub(super) struct Contest<'a> {
    /// What both claim.
    pub(super) what: String,
    /// The oldest, or the oldest of those that share it.
    pub(super) winner: Side<'a>,
    /// One that has nothing of it.
    pub(super) loser: Side<'a>,
}

/// One that claims.
#[derive(Clone, Debug)]
pub(super) enum Side<'a> {
    /// A virtual service or a gateway that redirects, by one of its hosts.
    Rule(&'a Arc<Document>, &'a Located),
    /// A route, by the parent of this index.
    Route(&'a Arc<Document>, usize),
}

impl<'a> Side<'a> {
    pub(super) fn document(&self) -> &'a Arc<Document> {
        match self {
            Self::Rule(document, _) | Self::Route(document, _) => document,
        }
    }

    /// Where it claims.
    pub(super) fn at(&self) -> Option<&'a Located> {
        match self {
            Self::Rule(_, host) => Some(host),
            Self::Route(document, parent) => Some(&document.route()?.parents.get(*parent)?.name),
        }
    }

    fn of_rule((document, service, host): Rule<'a>) -> Option<Self> {
        let named = service.hosts.iter().find(|known| Arc::ptr_eq(&known.text, host));
        named.map(|host| Self::Rule(document, host))
    }

    fn of_route(route: &'a ServiceRoute) -> Self {
        Self::Route(&route.document, route.parent)
    }
}

/// Every contest for a service that has routes, and the routes that have some of its requests: document and parent.
pub(super) fn contests<'a>(
    services: &'a BTreeMap<ServiceKey, Arc<Service>>,
    rules: &ByHost<Rule<'a>>,
    attachments: &'a Attachments,
) -> (Vec<Contest<'a>>, Vec<(&'a Arc<Document>, usize)>) {
    let (mut found, mut winners) = (Vec::new(), Vec::new());
    for (key, routes) in attachments.services() {
        let Some(service) = services.get(key) else { continue };
        for port in service.ports.iter().filter(|port| port.protocol.is_http()) {
            let consumers = attachments.consumers(key, port.number);
            for namespace in std::iter::once(&key.namespace).chain(consumers) {
                let mut lose = |winner: &Side<'a>, loser: Side<'a>| {
                    let what = format!("requests to service {key}");
                    found.push(Contest { what, winner: winner.clone(), loser });
                };
                let own = |route: &&ServiceRoute| {
                    route.kind.is_http()
                        && route.document.namespace == *namespace
                        && route.port.is_none_or(|only| only == port.number)
                };
                match claim(service, port.number, namespace, rules, attachments) {
                    Claim::Nobody => {}
                    Claim::Whole(rule) => {
                        let Some(winner) = Side::of_rule(rule) else { continue };
                        routes.iter().filter(own).for_each(|route| lose(&winner, Side::of_route(route)));
                    }
                    Claim::Shared(shared) => {
                        let Some(first) = shared.first() else { continue };
                        let winner = Side::of_route(first);
                        let lost = |route: &&ServiceRoute| route.kind != first.kind;
                        let others = routes.iter().filter(own).filter(lost);
                        others.for_each(|route| lose(&winner, Side::of_route(route)));
                        if let Some(loser) = rules.exact(&service.host).and_then(|rule| Side::of_rule(*rule))
                        {
                            lose(&winner, loser);
                        }
                        winners.extend(shared.iter().map(|route| (&route.document, route.parent)));
                    }
                }
            }
        }
    }
    (found, winners)
}

/// Every contest for the connections to a service that has routes of its connections.
pub(super) fn connection_contests<'a>(
    documents: &'a DocumentSet,
    services: &'a BTreeMap<ServiceKey, Arc<Service>>,
    canonical: impl Fn(&str, &str) -> Arc<str>,
    attachments: &'a Attachments,
) -> Vec<Contest<'a>> {
    let mut found = Vec::new();
    for (key, routes) in attachments.services() {
        let Some(service) = services.get(key) else { continue };
        let Some(first) = routes.iter().find(|route| !route.kind.is_http()) else { continue };
        let rules =
            documents.virtual_services().filter(|(document, rule)| routes_connections(document, rule));
        let named = rules.flat_map(|(document, rule)| rule.hosts.iter().map(move |host| (document, host)));
        let mut named =
            named.filter(|(document, host)| canonical(&host.text, &document.namespace) == service.host);
        let Some((document, host)) = named.next() else { continue };
        let (rule, what) = (Side::Rule(document, host), || format!("connections to service {key}"));
        if first.document.is_older_than(document) {
            found.push(Contest { what: what(), winner: Side::of_route(first), loser: rule });
            continue;
        }
        for route in routes.iter().filter(|route| !route.kind.is_http()) {
            found.push(Contest { what: what(), winner: rule.clone(), loser: Side::of_route(route) });
        }
    }
    found
}

/// Every contest for a host of a port between virtual services and routes, on proxies that serve the gateways of both.
pub(super) fn edge_contests<'a>(
    documents: &'a DocumentSet,
    attachments: &'a Attachments,
) -> Vec<Contest<'a>> {
    let mut routes: BTreeMap<(u16, &Arc<str>), Side<'a>> = BTreeMap::new();
    for (gateway, spec) in documents.edge_gateways() {
        let attached = attachments.listeners(&gateway.key()).unwrap_or_default();
        let plain =
            spec.listeners.iter().zip(attached).filter(|(listener, attached)| {
                attached.serves && listener.class() == Some(ServerClass::Http)
            });
        for (listener, attached) in plain {
            for route in attached.routes.iter().filter(|route| route.kind.is_http()) {
                for host in &route.hosts {
                    let side = Side::Route(&route.document, route.parent);
                    let known = routes.entry((listener.port, host)).or_insert_with(|| side.clone());
                    if route.document.is_older_than(known.document()) {
                        *known = side;
                    }
                }
            }
        }
    }
    let mut found = Vec::new();
    for (gateway, spec) in documents.gateways().filter(|_| !routes.is_empty()) {
        let name = format!("{}/{}", gateway.namespace, gateway.name);
        let rules = documents
            .virtual_services()
            .filter(|(document, rule)| !rule.http.is_empty() && belongs(document, rule, &name));
        let mut contest = |what: String, rule: Side<'a>, route: &Side<'a>| {
            found.push(match rule.document().is_older_than(route.document()) {
                true => Contest { what, winner: rule, loser: route.clone() },
                false => Contest { what, winner: route.clone(), loser: rule },
            });
        };
        for server in spec.servers.iter().filter(|server| server.redirect) {
            for ServerHost { host, .. } in &server.hosts {
                if let Some(route) = routes.get(&(server.port, &host.text)) {
                    let what = format!("requests for {} on port {}", host.text, server.port);
                    contest(what, Side::Rule(gateway, host), route);
                }
            }
        }
        for (document, rule) in rules {
            for (server, host) in
                spec.servers.iter().flat_map(|it| rule.hosts.iter().map(move |host| (it, host)))
            {
                if server.class() != ServerClass::Http || server.redirect {
                    continue;
                }
                let both = server.narrow(&gateway.namespace, &document.namespace, &host.text);
                let Some(both) = both else { continue };
                let Some(route) = routes.get(&(server.port, &both)) else { continue };
                let what = format!("requests for {both} on port {}", server.port);
                contest(what, Side::Rule(document, host), route);
            }
        }
    }
    found
}
