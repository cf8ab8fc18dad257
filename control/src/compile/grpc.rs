//! What proxyless gRPC clients and servers receive: the same meaning in the smaller language that they speak. Pure.
//!
//! A client asks for a listener named as its target (`xds:///reviews:80` asks for `reviews:80`), and follows that by name.
//! What gRPC would pass over in silence is decided here, or said otherwise:
//!
//! | written | told to gRPC |
//! | --- | --- |
//! | matches on method, scheme, authority | decided here: POST, `http`, the target |
//! | matches on query parameters | the route is left out: a gRPC request has none |
//! | a header must not have a value | two routes: the header is absent, or has another value |
//! | weights of endpoints | localities split by weight: gRPC weighs localities alone |
//! | endpoints that drain or fail | left out |
//! | `LEAST_REQUEST` | that, and round robin for clients that do not know it |
//! | `RANDOM` | round robin |
//! | maglev | ring hash |
//! | faults | those, which clients make themselves |
//! | hashing by source address | by channel |
//! | resolution DNS | one name: `LOGICAL_DNS`; addresses: endpoints over the stream |
//! | policies of access | the same filters; what they say of tokens and path templates is unknown there |
//!
//! What gRPC cannot do stays undone: header changes, rewrites, redirects and direct responses (such a call fails as
//! unavailable), per-try timeouts, retry conditions other than its own status codes, hashing by cookie, several DNS names
//! and unix sockets as endpoints.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hash,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use prost::Message;
use regex::Regex;

use super::{
    clusters::Made,
    encode::grpc as encode,
    ir::{
        self, Access, Discovery, Endpoint, Endpoints, HeaderMatch, Limits, LocalityEndpoints, Route,
        RouteConfig, VirtualHost,
    },
};
use crate::{
    documents::StringMatch,
    model::Health,
    resource::{Kind, Resource},
};

/// What a gRPC server calls its listener before the address, as its bootstrap file has it from us:
/// `"server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s"`.
const INBOUND: &str = "xds.istio.io/grpc/lds/inbound/";

/// Conditions of one route that make two of it; a route with more is left out.
const SPLITS_MAX: usize = 5;

/// Who asks for a listener by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking<'a> {
    /// A client, for its target.
    Client { host: &'a str, port: Option<u16> },
    /// A server, for the address that it listens on.
    Server(SocketAddr),
}

impl<'a> Asking<'a> {
    /// Reads the name of a listener.
    pub(crate) fn read(name: &'a str) -> Option<Self> {
        if let Some(address) = name.strip_prefix(INBOUND) {
            return address.parse().ok().map(Self::Server);
        }
        let (host, port) = match name.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (name, None),
        };
        (!host.is_empty()).then_some(Self::Client { host, port })
    }
}

/// The table of a target.
pub(crate) fn table(target: &Arc<str>, routes: &[Route]) -> RouteConfig {
    let routes = routes.iter().flat_map(|route| shaped_routes(route, target)).collect();
    let host = VirtualHost { name: target.clone(), domains: vec!["*".into()], routes };
    RouteConfig {
        name: target.clone(),
        hosts: vec![host],
        on_demand: false,
        ignore_port: false,
        access: Access::default(),
        limits: Limits::default(),
    }
}

/// The routes of which one holds where this one would.
fn shaped_routes(route: &Route, target: &str) -> Vec<Route> {
    if !route.matches.query.is_empty() {
        return Vec::new();
    }
    let mut headers = Vec::new();
    for header in &route.matches.headers {
        let known = match &*header.name {
            ":method" => "POST",
            ":scheme" => "http",
            ":authority" => target,
            _ => {
                headers.push(header.clone());
                continue;
            }
        };
        if header.value.as_ref().is_none_or(|value| holds(value, known)) == header.invert {
            return Vec::new();
        }
    }
    let conditions = split(headers);
    let of = |headers| {
        let mut route = route.clone();
        route.matches.headers = headers;
        route
    };
    conditions.into_iter().map(of).collect()
}

fn holds(value: &StringMatch, text: &str) -> bool {
    match value {
        StringMatch::Exact(exact) => **exact == *text,
        StringMatch::Prefix(prefix) => text.starts_with(&**prefix),
        StringMatch::Regex(regex) => Regex::new(&format!("^(?:{regex})$")).is_ok_and(|it| it.is_match(text)),
    }
}

/// To gRPC no condition on a value holds for a header that is absent, not even that it must not have that value.
fn split(headers: Vec<HeaderMatch>) -> Vec<Vec<HeaderMatch>> {
    let negative = |header: &HeaderMatch| header.invert && header.value.is_some();
    if headers.iter().filter(|header| negative(header)).count() > SPLITS_MAX {
        return Vec::new();
    }
    let mut all = vec![Vec::new()];
    for header in headers {
        let absent =
            negative(&header).then(|| HeaderMatch { name: header.name.clone(), value: None, invert: true });
        let ways = || absent.iter().chain([&header]);
        let with = |before: &Vec<HeaderMatch>| {
            ways().map(|way| before.iter().chain([way]).cloned().collect()).collect::<Vec<Vec<_>>>()
        };
        all = all.iter().flat_map(with).collect();
    }
    all
}

/// A cluster with its endpoints as gRPC can use it; none where it cannot.
pub(crate) fn shaped(mut made: Made) -> Option<Made> {
    let weighted = made.cluster.locality_weighted;
    if let Some(endpoints) = &made.endpoints {
        made.endpoints = Some(usable(endpoints, weighted));
        return Some(made);
    }
    let inline = match &made.cluster.discovery {
        Discovery::Dns(inline) | Discovery::DnsFirst(inline) | Discovery::Static(inline) => inline,
        Discovery::Eds | Discovery::OriginalDestination => return None,
    };
    let all: Vec<&Endpoint> = inline.localities.iter().flat_map(|of| &of.endpoints).collect();
    let is_name = |endpoint: &&&Endpoint| endpoint.address.parse::<IpAddr>().is_err();
    match (all.iter().filter(is_name).count(), all.len()) {
        (0, _) => {
            made.endpoints = Some(usable(inline, weighted));
            made.cluster.discovery = Discovery::Eds;
            Some(made)
        }
        (1, 1) => Some(made),
        _ => None,
    }
}

/// Healthy endpoints with an address, each once, in localities of equal weights. `weighted` is whether localities have
/// shares of their own, not the sum of their endpoints'.
fn usable(endpoints: &Endpoints, weighted: bool) -> Endpoints {
    let mut seen = BTreeSet::new();
    let mut localities = Vec::new();
    for of in &endpoints.localities {
        let mut by_weight: BTreeMap<u32, Vec<Endpoint>> = BTreeMap::new();
        for endpoint in of.endpoints.iter().filter(|endpoint| endpoint.health == Health::Healthy) {
            let address = endpoint.address.parse::<IpAddr>();
            if address.is_ok_and(|address| seen.insert((address, endpoint.port))) {
                by_weight.entry(endpoint.weight).or_default().push(endpoint.clone());
            }
        }
        let sum = |endpoints: &[Endpoint]| endpoints.iter().map(|of| u64::from(of.weight)).sum::<u64>();
        let (several, all) = (by_weight.len() > 1, by_weight.values().map(|of| sum(of)).sum::<u64>());
        for (each, endpoints) in by_weight {
            let part = sum(&endpoints);
            let weight = if weighted { u64::from(of.weight) * part / all } else { part };
            let mut locality = of.locality.clone();
            if several {
                locality.subzone = format!("{}~{each}", locality.subzone).into();
            }
            let weight = u32::try_from(weight.max(1)).unwrap_or(u32::MAX);
            localities.push(LocalityEndpoints { priority: of.priority, locality, weight, endpoints });
        }
    }
    without_gaps(&mut localities);
    Endpoints { cluster: endpoints.cluster.clone(), localities }
}

/// Numbers the priorities that are left from 0.
fn without_gaps(localities: &mut [LocalityEndpoints]) {
    let used: BTreeSet<u32> = localities.iter().map(|of| of.priority).collect();
    for of in localities {
        of.priority = used.range(..of.priority).count() as u32;
    }
}

/// The version of a value, which tells it from what proxies get of the same.
pub(crate) fn version<T: Hash>(value: &T) -> u64 {
    ir::version(&("grpc", value))
}

/// An encoded table.
pub(crate) fn table_resource(table: &RouteConfig, documents: Arc<[Arc<str>]>) -> Arc<Resource> {
    let message = encode::routes(table).encode_to_vec();
    resource(Kind::Routes, &table.name, table, message, documents)
}

/// The listener of a client's target; its table has the same name.
pub(crate) fn client_listener(target: &Arc<str>) -> Arc<Resource> {
    let message = encode::client_listener(target).encode_to_vec();
    resource(Kind::Listener, target, &"client", message, Arc::new([]))
}

/// The listener of a server, which answers every call itself that `access` lets pass.
pub(crate) fn server_listener(
    name: &Arc<str>,
    bind: SocketAddr,
    access: &Access,
    documents: Vec<Arc<str>>,
) -> Arc<Resource> {
    let message = encode::server_listener(name, bind, access).encode_to_vec();
    resource(Kind::Listener, name, &("server", access), message, documents.into())
}

fn resource<T: Hash>(
    kind: Kind,
    name: &Arc<str>,
    value: &T,
    message: Vec<u8>,
    documents: Arc<[Arc<str>]>,
) -> Arc<Resource> {
    Arc::new(Resource::new(kind, name.clone(), version(value), message, documents))
}

#[cfg(test)]
mod tests;
