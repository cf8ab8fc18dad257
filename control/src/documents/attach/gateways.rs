//! Gateways of our classes: which of their listeners can serve, and what they are told.

use std::{collections::BTreeMap, sync::Arc};

use super::{AttachedListener, Grants, ListenerRoute, listener_status};
use crate::documents::{
    Document, DocumentSet, DocumentSpec, Server, ServerClass,
    gateway_api::{
        CLASSES, CONTROLLER, EdgeGateway, GROUP, GatewayListener, ListenerProtocol, ListenerTls, RouteKind,
    },
    secret::beside,
    status::{Condition, ConditionKind, Status, Truth},
};

/// Why a name cannot be served.
const NAME_CONFLICT: &str = "HostnameConflict";

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
    /// Whether it has its place on proxies.
    serves: bool,
    /// Whether clients are served there.
    programmed: bool,
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
    let believes = |tls: &ListenerTls| {
        tls.authorities.as_ref().and_then(|to| grants.authorities(document, to, documents).err())
    };
    let unbelieving = listener.tls.as_ref().and_then(believes);
    let accepted = match (accepted(listener, conflict.as_ref().or(unavailable.as_ref())), &unbelieving) {
        (good, Some((_, message))) if good.is_good() => {
            Condition::new(ConditionKind::Accepted, false, "NoValidCACertificate", message.clone())
        }
        (told, _) => told,
    };
    let bad = bad_secrets(document, listener, documents, grants);
    let shows =
        listener.tls.as_ref().is_none_or(|tls| !tls.terminates() || bad.len() < tls.certificates.len());
    let bad = bad.into_iter().next().or_else(|| nobody_to_believe(document, listener, documents, grants));
    let resolved = resolved(listener, odd, bad);
    // Without a certificate or authorities it keeps its names: nobody else answers for them.
    let serves = (accepted.is_good() || accepted.reason == "NoValidCACertificate") && !asked.is_empty();
    let programmed = serves && shows && unbelieving.is_none();
    let (reason, message) = match (serves, programmed) {
        (_, true) => ("Programmed", String::new()),
        (true, false) => ("Invalid", format!("clients of listener {:?} are refused", listener.name.text)),
        (false, false) => ("Invalid", format!("listener {:?} is not served", listener.name.text)),
    };
    let told = Condition::new(ConditionKind::Programmed, programmed, reason, message);
    let conflicted = match conflict.or(unavailable.filter(|(reason, _)| *reason == NAME_CONFLICT)) {
        Some((reason, message)) => Condition::new(ConditionKind::Conflicted, true, reason, message),
        None => Condition::new(ConditionKind::Conflicted, false, "NoConflicts", ""),
    };
    let conditions = vec![accepted, conflicted, told, resolved];
    ListenerState { kinds: asked, routes: Vec::new(), serves, programmed, conditions }
}

/// Kinds of routes that a protocol carries.
fn carried(listener: &GatewayListener) -> &'static [RouteKind] {
    match &listener.protocol {
        ListenerProtocol::Http | ListenerProtocol::Https => &[RouteKind::Http, RouteKind::Grpc],
        ListenerProtocol::Tls if listener.tls.as_ref().is_some_and(ListenerTls::terminates) => {
            &[RouteKind::Tls, RouteKind::Tcp]
        }
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
        (ListenerProtocol::Other(name), None) => {
            accepted(false, "UnsupportedProtocol", format!("protocol {name} is not supported"))
        }
        (_, None) => accepted(true, "Accepted", String::new()),
    }
}

/// An older gateway of Istio's that has the port for something else, or the name, on proxies that may serve both.
fn unavailable(
    document: &Document,
    gateway: &EdgeGateway,
    listener: &GatewayListener,
    documents: &DocumentSet,
) -> Option<Because> {
    let older = documents
        .gateways()
        .filter(|(other, spec)| other.is_older_than(document) && spec.meets_edge(document, gateway));
    let servers = older.flat_map(|(other, spec)| spec.servers.iter().map(move |server| (other, server)));
    let mut here = servers.filter(|(_, server)| server.port == listener.port).peekable();
    let (first, server) = here.peek()?;
    let (port, class) = (listener.port, server.class());
    if Some(class) != listener.class() {
        let message = format!("port {port} is {} for {}, which is older", class.name(), first.key());
        return Some(("PortUnavailable", message));
    }
    let host = listener.host();
    let has = |server: &Server| server.hosts.iter().any(|known| known.host.text == host);
    let (first, _) =
        here.find(|(_, server)| class == ServerClass::Tls && server.class() == class && has(server))?;
    let message = format!("{} has {host:?} on port {port}, and is older", first.key());
    Some((NAME_CONFLICT, message))
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
            (NAME_CONFLICT, message)
        })
    })
}

/// Whether all that a listener refers to is there.
fn resolved(
    listener: &GatewayListener,
    odd: Option<&(Arc<str>, Arc<str>)>,
    bad_secret: Option<Because>,
) -> Condition {
    let resolved =
        |holds: bool, reason, message| Condition::new(ConditionKind::ResolvedRefs, holds, reason, message);
    if let Some((reason, message)) = bad_secret {
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

/// What is wrong with certificates that a listener refers to.
fn bad_secrets(
    document: &Document,
    listener: &GatewayListener,
    documents: &DocumentSet,
    grants: &Grants,
) -> Vec<Because> {
    let certificates = listener.tls.as_ref().map(|tls| tls.certificates.as_slice()).unwrap_or_default();
    certificates.iter().filter_map(|to| grants.certificate(document, to, documents).err()).collect()
}

/// That clients are to be verified, and nothing says by whom.
fn nobody_to_believe(
    document: &Document,
    listener: &GatewayListener,
    documents: &DocumentSet,
    grants: &Grants,
) -> Option<Because> {
    let tls = listener.tls.as_ref().filter(|tls| tls.verifies_clients())?;
    if let Some(to) = &tls.authorities {
        return grants.authorities(document, to, documents).err();
    }
    let mut good = tls.certificates.iter().filter_map(|to| grants.certificate(document, to, documents).ok());
    let (document, secret) = good.next()?;
    let (namespace, name) = (&document.namespace, &document.name);
    let beside = || documents.secret(namespace, &beside(name)).and_then(|(_, it)| it.authorities.as_ref());
    secret.authorities.as_ref().or_else(beside).is_none().then(|| {
        let message = format!("Secret {namespace}/{name} holds no ca.crt; clients are refused");
        ("InvalidCertificateRef", message)
    })
}

impl OurGateway<'_> {
    /// The gateway's status, and its listeners with their routes.
    pub(super) fn finish(self) -> (Status, Vec<AttachedListener>) {
        let good = self.listeners.iter().filter(|state| state.programmed).count();
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
