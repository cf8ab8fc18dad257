//! Which hosts of a gateway's port the routes of the Gateway API have.
//!
//! A request belongs to the listener with the most specific host that takes it, and to no other: what is attached to a
//! wider listener does not see it (listener isolation). Within a listener all routes whose hosts take the request have a
//! say, the most specific host first. Listeners of several gateways that one proxy serves on one port and for one host
//! count as one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::shared::{Claimant, HostRank};
use crate::documents::{
    Document, attach::AttachedListener, gateway_api::GatewayListener, hosts::host_matches,
};

/// A listener that a proxy serves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served<'a> {
    pub(crate) gateway: &'a Arc<Document>,
    pub(crate) listener: &'a GatewayListener,
    pub(crate) attached: &'a AttachedListener,
}

/// Who has a host.
#[derive(Debug, Default)]
pub(crate) struct EdgeHost<'a> {
    /// Routes that name the host or a pattern that takes it, the oldest first; none: nobody has it, and no wider
    /// listener either.
    pub(crate) claimants: Vec<Claimant<'a>>,
    /// The oldest of those that name this very host.
    pub(crate) oldest: Option<&'a Arc<Document>>,
}

/// Every host that is told apart on a port, and who has it.
pub(crate) fn hosts<'a>(listeners: &[Served<'a>]) -> BTreeMap<Arc<str>, EdgeHost<'a>> {
    let name = |served: &Served<'a>| served.listener.host();
    let names: BTreeSet<Arc<str>> = listeners.iter().map(name).collect();
    let owner = |host: &Arc<str>| {
        let of = names.iter().filter(|name| takes(name, host));
        of.max_by_key(|name| HostRank::of(name))
    };
    let mut by_host: BTreeMap<Arc<str>, Vec<&'a Arc<Document>>> = BTreeMap::new();
    for served in listeners {
        let own = name(served);
        for route in &served.attached.routes {
            for host in route.hosts.iter().filter(|host| owner(host) == Some(&own)) {
                by_host.entry(host.clone()).or_default().push(&route.document);
            }
        }
    }
    for documents in by_host.values_mut() {
        documents.sort_by(|a, b| a.is_older_than(b).cmp(&true).reverse());
        documents.dedup_by(|a, b| Arc::ptr_eq(a, b));
    }
    let patterns: Vec<&Arc<str>> = by_host.keys().filter(|host| host.starts_with('*')).collect();
    let mut found: BTreeMap<Arc<str>, EdgeHost<'a>> = BTreeMap::new();
    for (host, documents) in &by_host {
        let wider = patterns.iter().filter(|pattern| **pattern != host && takes(pattern, host));
        let wider = wider
            .filter(|pattern| owner(pattern) == owner(host))
            .filter_map(|pattern| by_host.get(*pattern).map(|documents| (*pattern, documents)));
        let mut claimants: Vec<Claimant<'a>> = Vec::new();
        for (host, documents) in std::iter::once((host, documents)).chain(wider) {
            for document in documents {
                match claimants.iter_mut().find(|known| Arc::ptr_eq(known.document, document)) {
                    Some(known) => known.host = known.host.max(HostRank::of(host)),
                    None => claimants.push(Claimant { document, host: HostRank::of(host) }),
                }
            }
        }
        let edge = EdgeHost { claimants, oldest: documents.first().copied() };
        found.insert(host.clone(), edge);
    }
    for name in &names {
        // Its requests belong to it even where it has no route.
        if patterns.iter().any(|pattern| takes(pattern, name)) {
            found.entry(name.clone()).or_default();
        }
    }
    found
}

/// Whether a host or pattern takes all that another does.
pub(crate) fn takes(pattern: &str, host: &str) -> bool {
    pattern == host || host_matches(pattern, host)
}
