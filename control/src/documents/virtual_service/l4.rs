//! `tls` and `tcp` routes of a `VirtualService`: connections by the name that a TLS client asks for, by address and port.

use ipnet::IpNet;

use super::{Destination, Source, action, route};
use crate::documents::{
    hosts::host_matches,
    problem::Report,
    reader::{At, Located, Object},
    tree::Place,
    values::{self, HeaderOperations},
};

/// One rule for TLS that goes through.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsRoute {
    /// Alternatives; at least one.
    pub matches: Vec<TlsMatch>,
    /// Destinations by weight; at least one.
    pub route: Vec<Destination>,
    /// Where it stands.
    pub place: Place,
}

/// One alternative; all its parts must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsMatch {
    /// Names that the client asks for: exact or `*.suffix`, at least one.
    pub sni_hosts: Vec<Located>,
    /// Where the connection goes and comes from.
    pub connection: ConnectionMatch,
}

/// One rule for bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpRoute {
    /// Alternatives; none takes every connection.
    pub matches: Vec<ConnectionMatch>,
    /// Destinations by weight; at least one.
    pub route: Vec<Destination>,
    /// Where it stands.
    pub place: Place,
}

/// Where a connection goes and comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectionMatch {
    /// Addresses that the client connects to; empty is any.
    pub destinations: Vec<IpNet>,
    /// Port that the client uses.
    pub port: Option<u16>,
    /// Gateways that it is limited to; empty is those of the document.
    pub gateways: Vec<Located>,
    /// Clients.
    pub source: Source,
}

pub(super) fn tls(at: &At<'_>, hosts: &[Located], report: &mut Report) -> Option<TlsRoute> {
    let mut object = at.object(report)?;
    let matches_at = object.required("match", report);
    let items = matches_at.as_ref().map(|at| at.list(report)).unwrap_or_default();
    if let (Some(at), true) = (&matches_at, items.is_empty()) {
        at.fail(report, "has no alternative", "name the sniHosts of at least one");
    }
    let matches = items.iter().filter_map(|at| tls_match(at, hosts, report)).collect();
    let place = object.place;
    let route = destinations(&mut object, report);
    object.finish(report);
    Some(TlsRoute { matches, route: route?, place })
}

pub(super) fn tcp(at: &At<'_>, report: &mut Report) -> Option<TcpRoute> {
    let mut object = at.object(report)?;
    let mut matches = Vec::new();
    for at in object.list("match", report) {
        let Some(mut object) = at.object(report) else { continue };
        matches.push(connection(&mut object, report));
        object.finish(report);
    }
    let place = object.place;
    let route = destinations(&mut object, report);
    object.finish(report);
    Some(TcpRoute { matches, route: route?, place })
}

fn tls_match(at: &At<'_>, hosts: &[Located], report: &mut Report) -> Option<TlsMatch> {
    let mut object = at.object(report)?;
    let names_at = object.required("sniHosts", report);
    let items = names_at.as_ref().map(|at| at.list(report)).unwrap_or_default();
    if let (Some(at), true) = (&names_at, items.is_empty()) {
        at.fail(report, "names no host", "name at least one");
    }
    let mut sni_hosts = Vec::new();
    for at in &items {
        let Some(name) = values::host(at, report) else { continue };
        let taken = |host: &Located| host.text == name.text || host_matches(&host.text, &name.text);
        if !hosts.iter().any(taken) {
            let message = format!("{:?} is none of the hosts of the document", name.text);
            at.fail(report, message, "add it to spec.hosts");
        }
        sni_hosts.push(name);
    }
    let connection = connection(&mut object, report);
    object.finish(report);
    Some(TlsMatch { sni_hosts, connection })
}

fn connection(object: &mut Object<'_>, report: &mut Report) -> ConnectionMatch {
    let mut destinations = Vec::new();
    for at in object.list("destinationSubnets", report) {
        let Some(text) = at.text(report) else { continue };
        let address = || text.parse().ok().map(|address: std::net::IpAddr| IpNet::from(address));
        match text.parse().ok().or_else(address) {
            Some(net) => destinations.push(net),
            None => at.fail(report, format!("{text:?} is no subnet"), "write it like 10.0.0.0/8"),
        }
    }
    let found = ConnectionMatch {
        destinations,
        port: object.field("port", report).and_then(|at| at.port(report)),
        gateways: object.list("gateways", report).iter().filter_map(|at| at.located(report)).collect(),
        source: route::source(object, report),
    };
    object.unsupported(&["sourceSubnet"], report);
    found
}

fn destinations(object: &mut Object<'_>, report: &mut Report) -> Option<Vec<Destination>> {
    let at = object.required("route", report)?;
    let found = action::destinations(&at, report)?;
    if found.iter().any(|to| to.headers != HeaderOperations::default()) {
        at.fail(report, "connections have no headers", "remove headers");
    }
    Some(found)
}
