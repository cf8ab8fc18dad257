//! Whether a route attaches to a parent that it names: a listener of a gateway, or a service.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Builder, ListenerRoute, ServiceRoute,
    gateways::{ListenerState, OurGateway},
};
use crate::{
    documents::{
        Document, Located,
        gateway_api::{GATEWAY_KEY, GatewayListener, ParentKind, Route, RouteKind, RouteNamespaces},
        hosts::narrower,
        key,
        status::{Condition, ConditionKind},
    },
    model::ServiceKey,
};

/// Label that every namespace has, by Kubernetes' definition.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Why a route does not attach: the later, the closer it came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Refusal {
    NoSuchParent(String),
    NotAllowed(String),
    NoCommonHost(String),
    Taken(String),
}

impl Refusal {
    const fn reason(&self) -> &'static str {
        match self {
            Self::NoSuchParent(_) => "NoMatchingParent",
            Self::NotAllowed(_) => "NotAllowedByListeners",
            Self::NoCommonHost(_) => "NoMatchingListenerHostname",
            Self::Taken(_) => "Conflicted",
        }
    }

    fn condition(self) -> Condition {
        let reason = self.reason();
        let (Self::NoSuchParent(message)
        | Self::NotAllowed(message)
        | Self::NoCommonHost(message)
        | Self::Taken(message)) = self;
        Condition::new(ConditionKind::Accepted, false, reason, message)
    }
}

impl Builder<'_> {
    /// Attaches a route to one of its parents; none where the parent is somebody else's to speak for.
    pub(super) fn attach(
        &mut self,
        document: &Arc<Document>,
        route: &Route,
        index: usize,
        namespace: &Arc<str>,
    ) -> Option<Condition> {
        let parent = &route.parents[index];
        let attached = match parent.kind {
            ParentKind::Service => self.attach_to_service(document, route, index, namespace),
            ParentKind::Gateway => {
                let key = key(GATEWAY_KEY, namespace, &parent.name.text);
                match self.gateways.get_mut(&key) {
                    Some(gateway) => attach_to_gateway(gateway, &self.namespaces, document, route, index),
                    None if self.documents.get(&key).is_some() => return None,
                    None => {
                        let name = format!("{namespace}/{}", parent.name.text);
                        Err(Refusal::NoSuchParent(format!("there is no Gateway {name}")))
                    }
                }
            }
        };
        Some(match attached {
            Ok(()) => Condition::new(ConditionKind::Accepted, true, "Accepted", ""),
            Err(refusal) => refusal.condition(),
        })
    }

    fn attach_to_service(
        &mut self,
        document: &Arc<Document>,
        route: &Route,
        index: usize,
        namespace: &Arc<str>,
    ) -> Result<(), Refusal> {
        let parent = &route.parents[index];
        let key = ServiceKey { namespace: namespace.clone(), name: parent.name.text.clone() };
        let no = |message| Err(Refusal::NoSuchParent(message));
        let Some(service) = self.services.get(&key) else {
            return no(format!("no service {key} is known"));
        };
        let named = |number: u16| parent.port.is_none_or(|port| port == number);
        let mut ports = service.ports.iter().filter(|port| named(port.number)).peekable();
        if ports.peek().is_none() {
            let port = parent.port.unwrap_or_default();
            return no(format!("service {key} has no port {port}"));
        }
        if !ports.any(|port| port.protocol.is_http() == route.kind.is_http()) {
            let what = if route.kind.is_http() { "requests" } else { "connections" };
            return no(format!("service {key} has no port there for {what}, which is what it routes"));
        }
        let known = self.found.services.get(&key).map(Vec::as_slice).unwrap_or_default();
        if let Some(first) = has_connections(known, document, route, parent.port) {
            let key = first.document.key();
            return Err(Refusal::Taken(format!("{key} is older, and has the connections to the service")));
        }
        let attached =
            ServiceRoute { document: document.clone(), kind: route.kind, port: parent.port, parent: index };
        self.found.services.entry(key).or_default().push(attached);
        Ok(())
    }
}

/// An older route of the same namespace that leaves a route of connections none.
fn has_connections<'a>(
    known: &'a [ServiceRoute],
    document: &Document,
    route: &Route,
    port: Option<u16>,
) -> Option<&'a ServiceRoute> {
    let older = || {
        known.iter().filter(|other| {
            other.kind == route.kind
                && !std::ptr::eq(&*other.document, document)
                && other.document.namespace == document.namespace
                && (other.port.is_none() || other.port == port)
        })
    };
    let names = |other: &ServiceRoute, name: &Located| {
        let hosts = other.document.route().map(|route| route.hostnames.as_slice()).unwrap_or_default();
        hosts.iter().any(|host| host.text == name.text)
    };
    match route.kind {
        RouteKind::Tcp => older().next(),
        RouteKind::Tls => {
            let has = |name: &Located| older().any(|other| names(other, name));
            route.hostnames.iter().all(has).then(|| older().next()).flatten()
        }
        RouteKind::Grpc | RouteKind::Http => None,
    }
}

type Labels<'a> = BTreeMap<&'a str, &'a BTreeMap<Arc<str>, Arc<str>>>;

/// Attaches a route to every listener that takes it; the refusal of the one that came closest where none does.
fn attach_to_gateway(
    gateway: &mut OurGateway<'_>,
    namespaces: &Labels<'_>,
    document: &Arc<Document>,
    route: &Route,
    index: usize,
) -> Result<(), Refusal> {
    let parent = &route.parents[index];
    let own = &gateway.document.namespace;
    let (mut attached, mut closest) = (false, None);
    for (state, listener) in gateway.listeners.iter_mut().zip(&gateway.spec.listeners) {
        let named = parent.section.as_ref().is_none_or(|name| *name == listener.name.text)
            && parent.port.is_none_or(|port| port == listener.port);
        if !named {
            continue;
        }
        match hosts(state, listener, own, namespaces, document, route) {
            Ok(hosts) => {
                attached = true;
                state.add(document, route.kind, index, hosts);
            }
            Err(refusal) => closest = closest.max(Some(refusal)),
        }
    }
    if attached {
        return Ok(());
    }
    Err(closest.unwrap_or_else(|| {
        let section = parent.section.as_ref().map_or_else(String::new, |name| format!(" {name:?}"));
        let port = parent.port.map_or_else(String::new, |port| format!(" on port {port}"));
        let name = &gateway.document.name;
        Refusal::NoSuchParent(format!("Gateway {own}/{name} has no listener{section}{port}"))
    }))
}

/// The hosts for which a listener takes a route.
fn hosts(
    state: &ListenerState,
    listener: &GatewayListener,
    own: &Arc<str>,
    namespaces: &Labels<'_>,
    document: &Document,
    route: &Route,
) -> Result<Vec<Arc<str>>, Refusal> {
    let name = &listener.name.text;
    if !state.kinds.contains(&route.kind) {
        return Err(Refusal::NotAllowed(format!("listener {name:?} takes no {}", route.kind.name())));
    }
    if !allowed(&listener.namespaces, own, &document.namespace, namespaces) {
        let message = format!("listener {name:?} takes no routes of namespace {}", document.namespace);
        return Err(Refusal::NotAllowed(message));
    }
    let hosts = common_hosts(listener.hostname.as_ref(), &route.hostnames);
    if hosts.is_empty() {
        let hostname = listener.hostname.as_deref().unwrap_or_default();
        let message = format!("listener {name:?} is for {hostname:?}, which none of the hostnames fits");
        return Err(Refusal::NoCommonHost(message));
    }
    if route.kind.is_http() {
        shared(state, name, route.kind, hosts)
    } else {
        free(state, name, document, hosts)
    }
}

/// All the hosts, unless a route of the other kind has any of them.
fn shared(
    state: &ListenerState,
    name: &str,
    kind: RouteKind,
    hosts: Vec<Arc<str>>,
) -> Result<Vec<Arc<str>>, Refusal> {
    let overlaps = |earlier: &&ListenerRoute| {
        earlier.kind != kind && earlier.hosts.iter().any(|a| hosts.iter().any(|b| narrower(a, b).is_some()))
    };
    match state.routes.iter().find(overlaps) {
        Some(earlier) => {
            let key = earlier.document.key();
            let message =
                format!("{key} is of another kind, older, and has the same hosts at listener {name:?}");
            Err(Refusal::Taken(message))
        }
        None => Ok(hosts),
    }
}

/// Of the names by which connections are told apart, those that no older route has.
fn free(
    state: &ListenerState,
    name: &str,
    document: &Document,
    hosts: Vec<Arc<str>>,
) -> Result<Vec<Arc<str>>, Refusal> {
    let others = || state.routes.iter().filter(|route| !std::ptr::eq(&*route.document, document));
    let Some(earlier) = others().find(|other| other.hosts.iter().any(|host| hosts.contains(host))) else {
        return Ok(hosts);
    };
    let message =
        format!("{} is older, and has the connections at listener {name:?}", earlier.document.key());
    let left: Vec<Arc<str>> =
        hosts.into_iter().filter(|host| !others().any(|other| other.hosts.contains(host))).collect();
    if left.is_empty() { Err(Refusal::Taken(message)) } else { Ok(left) }
}

fn allowed(rule: &RouteNamespaces, own: &str, namespace: &Arc<str>, labels: &Labels<'_>) -> bool {
    match rule {
        RouteNamespaces::All => true,
        RouteNamespaces::Same => own == &**namespace,
        RouteNamespaces::Selector(selector) => {
            let mut all = labels.get(&**namespace).map(|labels| (*labels).clone()).unwrap_or_default();
            all.insert(NAME_LABEL.into(), namespace.clone());
            selector.selects(&all)
        }
    }
}

/// What a listener's host and a route's have in common.
fn common_hosts(listener: Option<&Arc<str>>, hostnames: &[Located]) -> Vec<Arc<str>> {
    let everything: Arc<str> = "*".into();
    let listener = listener.unwrap_or(&everything);
    if hostnames.is_empty() {
        return vec![listener.clone()];
    }
    let mut found: Vec<Arc<str>> = Vec::new();
    for host in hostnames.iter().filter_map(|host| narrower(listener, &host.text)) {
        if !found.contains(&host) {
            found.push(host);
        }
    }
    found
}

impl ListenerState {
    /// Adds a route, which may be there already by another of its parents.
    fn add(&mut self, document: &Arc<Document>, kind: RouteKind, parent: usize, hosts: Vec<Arc<str>>) {
        if !self.routes.last().is_some_and(|known| Arc::ptr_eq(&known.document, document)) {
            self.routes.push(ListenerRoute { document: document.clone(), kind, parent, hosts });
        }
    }
}
