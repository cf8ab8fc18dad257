//! Which routes of the Gateway API attach to which listeners and services, and what gateways and routes are told of it.
//! Pure. It depends on documents and on the names and ports of services, never on endpoints.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Document, DocumentSet, DocumentSpec, Located, Problem,
    check::warning,
    gateway_api::{Route, RouteKind},
    status::{Condition, ConditionKind, ListenerStatus, ParentStatus, Status, Statuses},
};
use crate::model::{Service, ServiceKey};

mod backends;
mod gateways;
mod grants;
mod parents;

pub use backends::Unresolved;
pub use grants::{Believed, Grants};

use gateways::OurGateway;

/// Services by key, as compile has them.
type Services = BTreeMap<ServiceKey, Arc<Service>>;

/// What is attached to what.
#[derive(Debug, Default)]
pub struct Attachments {
    /// By key of the gateway: its listeners in their order. Only gateways of our classes.
    gateways: BTreeMap<Arc<str>, Vec<AttachedListener>>,
    /// By service: its routes, the oldest first.
    services: BTreeMap<ServiceKey, Vec<ServiceRoute>>,
    /// Who may refer to what in another namespace.
    pub grants: Grants,
}

/// A listener with its routes.
#[derive(Debug, Default)]
pub struct AttachedListener {
    /// Whether it has its place on proxies.
    pub serves: bool,
    /// Its routes, the oldest first.
    pub routes: Vec<ListenerRoute>,
}

/// A route that is attached to a listener.
#[derive(Clone, Debug)]
pub struct ListenerRoute {
    /// The route.
    pub document: Arc<Document>,
    /// Its kind.
    pub kind: RouteKind,
    /// Index of the parent in the route.
    pub parent: usize,
    /// What both the listener and the route take: exact, `*.suffix`, or `*`.
    pub hosts: Vec<Arc<str>>,
}

/// A route for requests or connections to a service from within the mesh.
#[derive(Clone, Debug)]
pub struct ServiceRoute {
    /// The route.
    pub document: Arc<Document>,
    /// Its kind.
    pub kind: RouteKind,
    /// The port that it is for; none is all of them.
    pub port: Option<u16>,
    /// Index of the parent in the route.
    pub parent: usize,
}

impl Attachments {
    /// The listeners of a gateway of ours, in their order.
    pub fn listeners(&self, gateway: &str) -> Option<&[AttachedListener]> {
        self.gateways.get(gateway).map(Vec::as_slice)
    }

    /// Every service that has routes.
    pub fn services(&self) -> impl Iterator<Item = (&ServiceKey, &[ServiceRoute])> {
        self.services.iter().map(|(key, routes)| (key, routes.as_slice()))
    }

    /// The routes for requests to a port of a service, the oldest first. Those of the clients' namespace (consumer routes)
    /// take the place of those of the service's (producer routes); of several kinds the most specific counts alone.
    pub fn of_port(&self, service: &ServiceKey, port: u16, namespace: &str) -> Vec<&ServiceRoute> {
        let found = self.seen_from(service, port, namespace, RouteKind::is_http);
        let kind = found.iter().map(|route| route.kind).min();
        found.into_iter().filter(|route| Some(route.kind) == kind).collect()
    }

    /// The routes for connections to a port of a service, the oldest first; of whose namespace is as for requests.
    pub fn connections(&self, service: &ServiceKey, port: u16, namespace: &str) -> Vec<&ServiceRoute> {
        self.seen_from(service, port, namespace, |kind| !kind.is_http())
    }

    fn seen_from(
        &self,
        service: &ServiceKey,
        port: u16,
        namespace: &str,
        counts: impl Fn(RouteKind) -> bool,
    ) -> Vec<&ServiceRoute> {
        let all = self.services.get(service).map(Vec::as_slice).unwrap_or_default();
        let of = |from: &str| -> Vec<&ServiceRoute> {
            let fits = |route: &&ServiceRoute| {
                counts(route.kind)
                    && *route.document.namespace == *from
                    && route.port.is_none_or(|only| only == port)
            };
            all.iter().filter(fits).collect()
        };
        let consumers = if service.namespace[..] == *namespace { Vec::new() } else { of(namespace) };
        if consumers.is_empty() { of(&service.namespace) } else { consumers }
    }

    /// Namespaces whose clients have routes of their own to services of others.
    pub fn consumer_namespaces(&self) -> impl Iterator<Item = Arc<str>> {
        let all = self.services.iter().flat_map(|(key, routes)| routes.iter().map(move |it| (key, it)));
        let foreign = all.filter(|(key, route)| route.document.namespace != key.namespace);
        foreign.map(|(_, route)| route.document.namespace.clone())
    }

    /// Namespaces other than a service's own whose clients have routes of their own to a port of it.
    pub fn consumers(&self, service: &ServiceKey, port: u16) -> BTreeSet<&Arc<str>> {
        let all = self.services.get(service).map(Vec::as_slice).unwrap_or_default();
        let here =
            all.iter().filter(|route| route.kind.is_http() && route.port.is_none_or(|only| only == port));
        here.map(|route| &route.document.namespace).filter(|near| **near != service.namespace).collect()
    }
}

/// Attaches every route, and says what became of gateways and routes.
pub(super) fn attach(
    documents: &DocumentSet,
    services: &Services,
    problems: &mut Vec<Problem>,
) -> (Attachments, Statuses) {
    let grants = Grants::of(documents);
    let mut builder = Builder {
        services,
        namespaces: namespaces(documents),
        documents,
        gateways: gateways::ours(documents, &grants),
        found: Attachments { grants, ..Attachments::default() },
        statuses: BTreeMap::new(),
        problems,
    };
    for (document, route) in documents.routes() {
        builder.route(document, route);
    }
    builder.finish()
}

struct Builder<'a> {
    services: &'a Services,
    /// Labels by namespace.
    namespaces: BTreeMap<&'a str, &'a BTreeMap<Arc<str>, Arc<str>>>,
    documents: &'a DocumentSet,
    /// Ours, by key.
    gateways: BTreeMap<Arc<str>, OurGateway<'a>>,
    found: Attachments,
    statuses: Statuses,
    problems: &'a mut Vec<Problem>,
}

fn namespaces<'a>(documents: &'a DocumentSet) -> BTreeMap<&'a str, &'a BTreeMap<Arc<str>, Arc<str>>> {
    let labels = |document: &'a Arc<Document>| match &document.spec {
        DocumentSpec::Namespace(namespace) => Some((&*document.name, &namespace.labels)),
        _ => None,
    };
    documents.iter().filter_map(labels).collect()
}

impl Builder<'_> {
    fn route(&mut self, document: &Arc<Document>, route: &Route) {
        let resolved = self.resolved(document, route);
        let mut status = Status::default();
        for (index, parent) in route.parents.iter().enumerate() {
            let namespace = parent.namespace.clone().unwrap_or_else(|| document.namespace.clone());
            let Some(accepted) = self.attach(document, route, index, &namespace) else { continue };
            if !accepted.is_good() {
                self.warn(document, &parent.name, &accepted.message, "");
            }
            status.parents.push(ParentStatus {
                index,
                kind: parent.kind.name(),
                namespace,
                name: parent.name.text.clone(),
                section: parent.section.clone(),
                port: parent.port,
                conditions: vec![accepted, resolved.clone()],
            });
        }
        self.statuses.insert(document.key(), status);
    }

    fn warn(&mut self, document: &Document, at: &Located, message: &str, hint: &str) {
        self.problems.push(warning(document, at, message.to_owned(), hint));
    }

    /// Gateways learn how many routes they have, and the others what they are.
    fn finish(mut self) -> (Attachments, Statuses) {
        for (key, gateway) in std::mem::take(&mut self.gateways) {
            let listeners = gateway.listeners.iter().zip(&gateway.spec.listeners);
            for (state, listener) in listeners {
                let mut told: Vec<&str> = Vec::new();
                // That it is not served follows from the others.
                let causes = state.conditions.iter().filter(|it| it.kind != ConditionKind::Programmed);
                for condition in causes.filter(|condition| !condition.is_good()) {
                    if !told.contains(&&*condition.message) {
                        told.push(&condition.message);
                        let message = condition.message.clone();
                        self.problems.push(warning(gateway.document, &listener.name, message, ""));
                    }
                }
            }
            let (status, attached) = gateway.finish();
            self.statuses.insert(key.clone(), status);
            self.found.gateways.insert(key, attached);
        }
        for document in self.documents.iter() {
            let told = gateways::plain_status(document, self.documents);
            if let Some(condition) = told {
                let status = Status { conditions: vec![condition], ..Status::default() };
                self.statuses.entry(document.key()).or_insert(status);
            }
        }
        (self.found, self.statuses)
    }
}

/// A listener's status.
fn listener_status(
    name: &Arc<str>,
    kinds: &[RouteKind],
    routes: usize,
    conditions: Vec<Condition>,
) -> ListenerStatus {
    ListenerStatus {
        name: name.clone(),
        supported_kinds: kinds.iter().map(|kind| kind.name()).collect(),
        attached_routes: u32::try_from(routes).unwrap_or(u32::MAX),
        conditions,
    }
}
