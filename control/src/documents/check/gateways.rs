//! Servers of gateways that cannot stand on a port together, and certificates that nobody has.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{conflict, warning};
use crate::documents::{
    Credentials, Document, DocumentSet, Gateway, Problem, Server, ServerClass, ServerProtocol,
    attach::Attachments,
    gateway_api::{EdgeGateway, GATEWAY_NAME, GatewayListener},
    secret::beside,
};

/// A server that stands on a port.
type Placed<'a> = (&'a Arc<Document>, &'a Gateway, &'a Server);

/// A listener that stands on a port.
type PlacedListener<'a> = (&'a Arc<Document>, &'a EdgeGateway, &'a GatewayListener);

/// Problems of all gateways. Servers meet where one proxy may serve both.
pub(in crate::documents) fn check(
    documents: &DocumentSet,
    attachments: &Attachments,
    problems: &mut Vec<Problem>,
) {
    let mut earlier: BTreeMap<u16, Vec<Placed<'_>>> = BTreeMap::new();
    for (document, gateway) in documents.gateways() {
        for server in &gateway.servers {
            let port = earlier.entry(server.port).or_default();
            let met = port.iter().filter(|(_, other, _)| other.meets(gateway));
            let refused = met.clone().find_map(|(first, _, other)| refusal(first, other, server));
            let older = older_listeners(documents, attachments, document, gateway, server.port);
            match refused.or_else(|| refused_by_listener(&older, server)) {
                Some((winner, message)) => {
                    let hint = "move it to another port, or merge the gateways";
                    problems.push(conflict(document, &server.at, &winner, message, hint));
                }
                None => {
                    let same: Vec<_> = met.map(|(first, _, other)| (*first, *other)).collect();
                    check_names(document, server, &same, &older, problems);
                    port.push((document, gateway, server));
                }
            }
            check_secrets(documents, document, server, problems);
        }
    }
}

/// Listeners of the Gateway API that are not served where one proxy serves an older gateway as well. Proxies may be each
/// gateway's own, so that it is no more than a warning.
pub(in crate::documents) fn check_listeners(
    documents: &DocumentSet,
    attachments: &Attachments,
    problems: &mut Vec<Problem>,
) {
    let mut earlier: BTreeMap<u16, Vec<PlacedListener<'_>>> = BTreeMap::new();
    for (document, gateway) in documents.edge_gateways() {
        let attached = attachments.listeners(&document.key()).unwrap_or_default();
        for (listener, _) in gateway.listeners.iter().zip(attached).filter(|(_, attached)| attached.serves) {
            let port = earlier.entry(listener.port).or_default();
            let met =
                port.iter().filter(|(first, other, _)| !Arc::ptr_eq(first, document) && other.meets(gateway));
            let refused = met.clone().find(|(.., other)| other.class() != listener.class());
            let same = |(.., other): &&PlacedListener<'_>| {
                other.class() != Some(ServerClass::Http) && other.host() == listener.host()
            };
            if let Some((first, _, other)) = refused.or_else(|| met.clone().find(same)) {
                let (number, first) = (listener.port, first.key());
                let what = match other.class() != listener.class() {
                    true => format!("port {number}"),
                    false => format!("{:?} on port {number}", listener.host()),
                };
                let message = format!("{first} has {what}, and it wins on proxies that serve both");
                let hint = format!("give each gateway its proxies, by the label {GATEWAY_NAME}");
                problems.push(warning(document, &listener.name, message, &hint));
            }
            port.push((document, gateway, listener));
        }
    }
}

/// The document that has the port, and what is said of it.
type Refusal = (Arc<str>, String);

/// Why a server is not served beside an older one.
fn refusal(first: &Document, other: &Server, server: &Server) -> Option<Refusal> {
    refused(first, (other.class(), other.bind), server)
}

/// Why a server is not served beside an older listener of the Gateway API.
fn refused_by_listener(older: &[(&Arc<Document>, &GatewayListener)], server: &Server) -> Option<Refusal> {
    let (first, listener) = older.first()?;
    refused(first, (listener.class()?, None), server)
}

/// The listeners of older gateways of the Gateway API on a server's port, on proxies that may serve both.
fn older_listeners<'a>(
    documents: &'a DocumentSet,
    attachments: &'a Attachments,
    document: &Document,
    gateway: &Gateway,
    port: u16,
) -> Vec<(&'a Arc<Document>, &'a GatewayListener)> {
    let older = documents
        .edge_gateways()
        .filter(|(other, spec)| other.is_older_than(document) && gateway.meets_edge(other, spec));
    let listeners = older.flat_map(|(other, spec)| {
        let attached = attachments.listeners(&other.key()).unwrap_or_default();
        spec.listeners.iter().zip(attached).map(move |(listener, attached)| (other, listener, attached))
    });
    let here = listeners.filter(|(_, listener, attached)| attached.serves && listener.port == port);
    here.map(|(other, listener, _)| (other, listener)).collect()
}

fn refused(first: &Document, has: (ServerClass, Option<IpAddr>), server: &Server) -> Option<Refusal> {
    let (class, bind) = has;
    let (port, winner) = (server.port, first.key());
    if class != server.class() {
        let class = class.name();
        let message = format!("conflict: port {port} is {class} for {winner}, and that wins");
        return Some((winner, message));
    }
    (server.bind.is_some() && server.bind != bind).then(|| {
        let message = format!("conflict: {winner} binds port {port} to another address, and it wins");
        (winner, message)
    })
}

/// Names of TLS that ends here, which one server alone can have.
fn check_names(
    document: &Document,
    server: &Server,
    earlier: &[(&Arc<Document>, &Server)],
    listeners: &[(&Arc<Document>, &GatewayListener)],
    problems: &mut Vec<Problem>,
) {
    let ends = |server: &Server| server.tls.is_some() && server.protocol != ServerProtocol::Through;
    if !ends(server) {
        return;
    }
    for host in &server.hosts {
        let has = |other: &Server| other.hosts.iter().any(|known| known.host.text == host.host.text);
        let server = earlier.iter().find(|(_, other)| ends(other) && has(other)).map(|(first, _)| first);
        let listener = || listeners.iter().find(|(_, other)| other.host() == host.host.text);
        if let Some(first) = server.or_else(|| listener().map(|(first, _)| first)) {
            let name = &host.host.text;
            let message =
                format!("conflict: {} has a certificate for {name:?} already, and it wins", first.key());
            problems.push(conflict(document, &host.host, &first.key(), message, "remove the host here"));
        }
    }
}

fn check_secrets(documents: &DocumentSet, document: &Document, server: &Server, problems: &mut Vec<Problem>) {
    let Some(tls) = &server.tls else { return };
    let Credentials::Secrets(names) = &tls.credentials else { return };
    for name in names {
        let known =
            |name: &str| documents.secrets().filter(|(it, _)| *it.name == *name).map(|(_, it)| it).collect();
        let found: Vec<_> = known(name);
        let message = if found.is_empty() {
            format!("no Secret {name} is known; its clients are refused")
        } else if found.iter().all(|secret| secret.certificate.is_none()) {
            format!("Secret {name} holds no certificate; its clients are refused")
        } else {
            continue;
        };
        problems.push(warning(
            document,
            &server.at,
            message,
            "apply it in the namespace of the gateway's proxies",
        ));
    }
    if let (true, Some(name)) = (tls.verifies_clients(), names.first()) {
        let beside = beside(name);
        let mut held = documents.secrets().filter(|(it, _)| *it.name == **name || *it.name == *beside);
        if !held.any(|(_, secret)| secret.authorities.is_some()) {
            let message = format!("Secret {name} holds no ca.crt; its clients are refused");
            problems.push(warning(document, &server.at, message, "add the authorities of the clients"));
        }
    }
}
