//! Servers of gateways that cannot stand on a port together, and certificates that nobody has.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{conflict, warning};
use crate::documents::{
    Credentials, Document, DocumentSet, Gateway, Problem, Server, ServerClass, ServerProtocol,
    attach::Attachments, gateway_api::EdgeGateway,
};

/// A server that stands on a port.
type Placed<'a> = (&'a Arc<Document>, &'a Gateway, &'a Server);

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
            match refused.or_else(|| refused_by_listener(documents, attachments, document, gateway, server)) {
                Some((winner, message)) => {
                    let hint = "move it to another port, or merge the gateways";
                    problems.push(conflict(document, &server.at, &winner, message, hint));
                }
                None => {
                    let same: Vec<_> = met.map(|(first, _, other)| (*first, *other)).collect();
                    check_names(document, server, &same, problems);
                    port.push((document, gateway, server));
                }
            }
            check_secrets(documents, document, server, problems);
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
fn refused_by_listener(
    documents: &DocumentSet,
    attachments: &Attachments,
    document: &Document,
    gateway: &Gateway,
    server: &Server,
) -> Option<Refusal> {
    let older = |(other, spec): &(&Arc<Document>, &EdgeGateway)| {
        let attached = attachments.listeners(&other.key()).unwrap_or_default();
        let mut listeners = spec.listeners.iter().zip(attached);
        other.is_older_than(document)
            && gateway.meets_edge(other, spec)
            && listeners.any(|(listener, attached)| attached.serves && listener.port == server.port)
    };
    let (first, _) = documents.edge_gateways().find(older)?;
    refused(first, (ServerClass::Http, None), server)
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
    problems: &mut Vec<Problem>,
) {
    let ends = |server: &Server| server.tls.is_some() && server.protocol != ServerProtocol::Through;
    if !ends(server) {
        return;
    }
    for host in &server.hosts {
        let has = |other: &Server| other.hosts.iter().any(|known| known.host.text == host.host.text);
        if let Some((first, _)) = earlier.iter().find(|(_, other)| ends(other) && has(other)) {
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
        let beside = format!("{name}-cacert");
        let mut held = documents.secrets().filter(|(it, _)| *it.name == **name || *it.name == *beside);
        if !held.any(|(_, secret)| secret.authorities.is_some()) {
            let message = format!("Secret {name} holds no ca.crt; its clients are refused");
            problems.push(warning(document, &server.at, message, "add the authorities of the clients"));
        }
    }
}
