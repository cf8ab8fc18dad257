//! Gateways of our classes: which of their listeners can serve, and what they are told.

use std::{collections::BTreeMap, sync::Arc};

use super::{AttachedListener, Grants, ListenerRoute, listener_status};
use crate::documents::{
    Document, DocumentSet, DocumentSpec, ServerClass,
    gateway_api::{
        CLASSES, CONTROLLER, EdgeGateway, GROUP, GatewayListener, ListenerProtocol, ListenerTls, RouteKind,
        TlsMode,
    },
    status::{Condition, ConditionKind, Status, Truth},
};

/// A gateway of a class of ours, while routes attach to it.
pub(super) struct OurGateway<'a> {
    pub(super) document: &'a Arc<Document>,
    pub(super) spec: &'a EdgeGateway,
    /// One for each listener.
    pub(super) listeners: Vec<ListenerState>,
}

pub(super) struct ListenerState {
    /// Kinds of routes that may attach.
    pub(super) kinds: Vec<RouteKind>,
    pub(super) routes: Vec<ListenerRoute>,
    /// Whether proxies serve it.
    serves: bool,
    pub(super) conditions: Vec<Condition>,
}

/// Gateways of our classes by key.
pub(super) fn ours<'a>(documents: &'a DocumentSet, grants: &Grants) -> BTreeMap<Arc<str>, OurGateway<'a>> {
    let gateways = documents.edge_gateways().filter(|(_, spec)| is_ours(&spec.class.text, documents));
    gateways
        .map(|(document, spec)| {
            let listeners =
                spec.listeners.iter().map(|listener| state(document, spec, listener, documents, grants));
            let gateway = OurGateway { document, spec, listeners: listeners.collect() };
            (document.key(), gateway)
        })
        .collect()
}

/// Whether gateways of a class are ours: its `GatewayClass` says so, or there is none and the name is one of ours.
fn is_ours(class: &str, documents: &DocumentSet) -> bool {
    controller(class, documents).map_or(CLASSES.contains(&class), |controller| controller == CONTROLLER)
}

fn controller<'a>(class: &str, documents: &'a DocumentSet) -> Option<&'a str> {
    let document = documents.get(&super::super::key("GatewayClass", "default", class))?;
    match &document.spec {
        DocumentSpec::GatewayClass(spec) => Some(&spec.controller.text),
        _ => None,
    }
}

/// What is said of the kinds that attach to nothing; none for the others.
pub(super) fn plain_status(document: &Document, documents: &DocumentSet) -> Option<Condition> {
    let accepted = |status: Truth, reason, message: String| {
        Condition::new(ConditionKind::Accepted, status, reason, message)
    };
    match &document.spec {
        DocumentSpec::GatewayClass(spec) if *spec.controller.text == *CONTROLLER => {
            Some(accepted(Truth::True, "Accepted", String::new()))
        }
        DocumentSpec::GatewayClass(spec) => {
            let message = format!("controller {} serves it, not {CONTROLLER}", spec.controller.text);
            Some(accepted(Truth::Unknown, "Pending", message))
        }
        DocumentSpec::EdgeGateway(spec) => {
            let class = &spec.class.text;
            let message = match controller(class, documents) {
                Some(controller) => format!("class {class} is served by {controller}"),
                None => {
                    format!("there is no GatewayClass {class}; {} are served here", CLASSES.join(" and "))
                }
            };
            Some(accepted(Truth::Unknown, "Pending", message))
        }
        DocumentSpec::ReferenceGrant(_) | DocumentSpec::Namespace(_) => {
            Some(accepted(Truth::True, "Accepted", String::new()))
        }
        _ => None,
    }
}

fn state(
    document: &Document,
    gateway: &EdgeGateway,
    listener: &GatewayListener,
    documents: &DocumentSet,
    grants: &Grants,
) -> ListenerState {
    let carried = carried(listener);
    let asked: Vec<RouteKind> = carried
        .iter()
        .copied()
        .filter(|kind| {
            listener.kinds.is_empty()
                || listener.kinds.iter().any(|(group, name)| &**group == GROUP && &**name == kind.name())
        })
        .collect();
    let odd = listener
        .kinds
        .iter()
        .find(|(group, name)| &**group != GROUP || !carried.iter().any(|kind| &**name == kind.name()));
    let conflict = conflict(gateway, listener);
    let unavailable = unavailable(document, gateway, listener, documents);
    let accepted = accepted(listener, conflict.as_ref().or(unavailable.as_ref()));
    let resolved = resolved(document, listener, odd, grants);
    let secrets = !matches!(resolved.reason, "InvalidCertificateRef" | "RefNotPermitted");
    let serves = accepted.is_good() && secrets && !asked.is_empty();
    let (reason, message) = match serves {
        true => ("Programmed", String::new()),
        false => ("Invalid", format!("listener {:?} is not served", listener.name.text)),
    };
    let programmed = Condition::new(ConditionKind::Programmed, serves, reason, message);
    let conflicted = match conflict {
        Some((reason, message)) => Condition::new(ConditionKind::Conflicted, true, reason, message),
        None => Condition::new(ConditionKind::Conflicted, false, "NoConflicts", ""),
    };
    let conditions = vec![accepted, conflicted, programmed, resolved];
    ListenerState { kinds: asked, routes: Vec::new(), serves, conditions }
}

/// Kinds of routes that a protocol carries.
fn carried(listener: &GatewayListener) -> &'static [RouteKind] {
    match &listener.protocol {
        ListenerProtocol::Http | ListenerProtocol::Https => &[RouteKind::Http, RouteKind::Grpc],
        ListenerProtocol::Tls => &[RouteKind::Tls],
        ListenerProtocol::Tcp => &[RouteKind::Tcp],
        ListenerProtocol::Other(_) => &[],
    }
}

type Because = (&'static str, String);

fn accepted(listener: &GatewayListener, conflict: Option<&Because>) -> Condition {
    let accepted =
        |holds: bool, reason, message| Condition::new(ConditionKind::Accepted, holds, reason, message);
    match (&listener.protocol, conflict) {
        (_, Some((reason, message))) => accepted(false, reason, message.clone()),
        (ListenerProtocol::Http, None) => accepted(true, "Accepted", String::new()),
        (other, None) => {
            let name = match other {
                ListenerProtocol::Other(name) => name,
                ListenerProtocol::Https => "HTTPS",
                ListenerProtocol::Tls => "TLS",
                ListenerProtocol::Tcp | ListenerProtocol::Http => "TCP",
            };
            accepted(false, "UnsupportedProtocol", format!("protocol {name} is not supported"))
        }
    }
}

/// An older gateway of Istio's that has the port for something else, on proxies that may serve both.
fn unavailable(
    document: &Document,
    gateway: &EdgeGateway,
    listener: &GatewayListener,
    documents: &DocumentSet,
) -> Option<Because> {
    let older = documents
        .gateways()
        .filter(|(other, spec)| other.is_older_than(document) && spec.meets_edge(document, gateway));
    let mut servers = older.flat_map(|(other, spec)| spec.servers.iter().map(move |server| (other, server)));
    let (first, server) = servers.find(|(_, server)| server.port == listener.port)?;
    (server.class() != ServerClass::Http).then(|| {
        let (port, class) = (listener.port, server.class().name());
        ("PortUnavailable", format!("port {port} is {class} for {}, which is older", first.key()))
    })
}

/// Another listener of the gateway that cannot be told from this one. None of the two is served.
fn conflict(gateway: &EdgeGateway, listener: &GatewayListener) -> Option<Because> {
    let mut others = gateway
        .listeners
        .iter()
        .filter(|other| other.port == listener.port && other.name.text != listener.name.text);
    others.find_map(|other| {
        let by_name =
            |protocol: &ListenerProtocol| matches!(protocol, ListenerProtocol::Https | ListenerProtocol::Tls);
        let alike =
            other.protocol == listener.protocol || (by_name(&other.protocol) && by_name(&listener.protocol));
        if !alike {
            let message =
                format!("listener {:?} speaks another protocol on port {}", other.name.text, listener.port);
            return Some(("ProtocolConflict", message));
        }
        (other.hostname == listener.hostname).then(|| {
            let message = format!("listener {:?} is for the same port and host names", other.name.text);
            ("HostnameConflict", message)
        })
    })
}

/// Whether all that a listener refers to is there.
fn resolved(
    document: &Document,
    listener: &GatewayListener,
    odd: Option<&(Arc<str>, Arc<str>)>,
    grants: &Grants,
) -> Condition {
    let resolved =
        |holds: bool, reason, message| Condition::new(ConditionKind::ResolvedRefs, holds, reason, message);
    if let Some((reason, message)) = listener.tls.as_ref().and_then(|tls| bad_secret(document, tls, grants)) {
        return resolved(false, reason, message);
    }
    match odd {
        Some((group, kind)) => {
            let message =
                format!("a {kind} of group {group:?} cannot attach to listener {:?}", listener.name.text);
            resolved(false, "InvalidRouteKinds", message)
        }
        None => resolved(true, "ResolvedRefs", String::new()),
    }
}

fn bad_secret(document: &Document, tls: &ListenerTls, grants: &Grants) -> Option<Because> {
    if tls.mode == TlsMode::Passthrough {
        return None;
    }
    tls.certificates.iter().find_map(|secret| {
        let name = &secret.name.text;
        if (&*secret.group, &*secret.kind) != ("", "Secret") {
            let message = format!("certificate {name:?} is no Secret");
            return Some(("InvalidCertificateRef", message));
        }
        let namespace = secret.namespace.as_ref().unwrap_or(&document.namespace);
        let from = (GROUP, "Gateway", &*document.namespace);
        let permitted = grants.permit(from, ("", "Secret", namespace), name);
        (!permitted).then(|| {
            let message = format!("namespace {namespace} does not permit the use of Secret {name:?}");
            ("RefNotPermitted", message)
        })
    })
}

impl OurGateway<'_> {
    /// The gateway's status, and its listeners with their routes.
    pub(super) fn finish(self) -> (Status, Vec<AttachedListener>) {
        let good = self.listeners.iter().filter(|state| state.serves).count();
        let bad = self.listeners.len() - good;
        let reason = if bad > 0 { "ListenersNotValid" } else { "Accepted" };
        let message = match bad {
            0 => String::new(),
            bad => format!("{bad} of {} listeners cannot be served", self.listeners.len()),
        };
        let accepted = Condition::new(ConditionKind::Accepted, good > 0, reason, message.clone());
        let programmed = match good {
            0 => Condition::new(ConditionKind::Programmed, false, "Invalid", message),
            _ => Condition::new(ConditionKind::Programmed, true, "Programmed", ""),
        };
        let (mut listeners, mut attached) = (Vec::new(), Vec::new());
        for (state, listener) in self.listeners.into_iter().zip(&self.spec.listeners) {
            let count = state.routes.len();
            listeners.push(listener_status(&listener.name.text, &state.kinds, count, state.conditions));
            attached.push(AttachedListener { serves: state.serves, routes: state.routes });
        }
        (Status { conditions: vec![accepted, programmed], parents: Vec::new(), listeners }, attached)
    }
}
