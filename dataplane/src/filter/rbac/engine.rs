//! Decides whether rules of access let a request or a connection pass. Pure; it allocates nothing, but for a header that
//! came in several lines.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use serde_json::Value;

use crate::{
    request::head::FORWARDED_FOR,
    router::{View, absent_matches, lines_match, value_matches, whole},
    spec::{Condition, DataMatch, MetadataMatch, Policy, RbacAction, Rules},
    stream::Ends,
    tls::peer::Peer,
};

/// What is known of a request or connection.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The request; none of a connection.
    pub view: Option<View<'a>>,
    /// Who is at the other end, where that was proven.
    pub peer: Option<&'a Peer>,
    /// Whether the connection came over TLS that ends here.
    pub tls: bool,
    /// Both ends of the connection.
    pub ends: Ends,
    /// The client, as proxies before us tell; else the peer.
    pub client: Option<IpAddr>,
    /// The name that a TLS client asked for.
    pub server_name: Option<&'a str>,
    /// What filters found out.
    pub metadata: &'a [Found],
}

/// Something that a filter found out about a request.
#[derive(Clone, Debug)]
pub struct Found {
    /// Name of the filter.
    pub filter: Arc<str>,
    /// What it calls it.
    pub key: Arc<str>,
    /// The thing itself.
    pub value: Value,
}

/// What rules say.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'r> {
    /// Whether it may pass.
    pub allowed: bool,
    /// The first policy that matched.
    pub policy: Option<&'r Policy>,
}

/// What the rules say of a request or connection.
pub fn decide<'r>(rules: &'r Rules, subject: &Subject<'_>) -> Decision<'r> {
    // Of several lines of a header one is enough to be refused by, and all are needed to be allowed by.
    let wide = rules.action != RbacAction::Allow;
    let any = |conditions: &[Condition]| conditions.iter().any(|one| holds(one, subject, wide));
    let matches = |policy: &&Policy| any(&policy.permissions) && any(&policy.principals);
    let policy = rules.policies.iter().find(matches);
    let allowed = match rules.action {
        RbacAction::Allow => policy.is_some(),
        RbacAction::Deny => policy.is_none(),
        RbacAction::Log => true,
    };
    Decision { allowed, policy }
}

/// Whether a condition holds; `wide` is that doubt counts as yes.
fn holds(condition: &Condition, subject: &Subject<'_>, wide: bool) -> bool {
    let within = |net: &IpNet, ip: Option<IpAddr>| ip.is_some_and(|ip| net.contains(&ip));
    match condition {
        Condition::Any => true,
        Condition::All(all) => all.iter().all(|one| holds(one, subject, wide)),
        Condition::Some(some) => some.iter().any(|one| holds(one, subject, wide)),
        Condition::Not(inner) => !holds(inner, subject, !wide),
        Condition::Header(header) => match &subject.view {
            Some(view) => lines_match(header, view, wide),
            None => absent_matches(header),
        },
        Condition::Path(path) => subject.view.is_some_and(|view| value_matches(path, view.path.as_bytes())),
        Condition::Template(shape) => subject.view.is_some_and(|view| whole(shape, view.path.as_bytes())),
        Condition::DestinationIp(net) => within(net, subject.ends.local.map(|end| end.ip())),
        Condition::DestinationPort(range) => {
            subject.ends.local.is_some_and(|end| range.contains(&end.port()))
        }
        // Who asked for no name asked for the empty one, as in Envoy.
        Condition::ServerName(name) => {
            value_matches(name, subject.server_name.unwrap_or_default().as_bytes())
        }
        Condition::Authenticated(None) => subject.tls,
        Condition::Authenticated(Some(name)) => {
            subject.peer.is_some_and(|peer| peer.proven().any(|own| value_matches(name, own.as_bytes())))
        }
        Condition::SourceIp(net) => within(net, subject.ends.remote.map(|end| end.ip())),
        Condition::RemoteIp(net) => within(net, subject.client),
        Condition::Metadata(wanted) => metadata_matches(wanted, subject.metadata),
    }
}

fn metadata_matches(wanted: &MetadataMatch, found: &[Found]) -> bool {
    let Some((first, rest)) = wanted.path.split_first() else { return false };
    let root = found.iter().find(|found| found.filter == wanted.filter && found.key == *first);
    let value = rest.iter().try_fold(root.map(|root| &root.value), |value, key| match value {
        Some(Value::Object(fields)) => Some(fields.get(&**key)),
        _ => None,
    });
    data_matches(&wanted.value, value.flatten()) != wanted.invert
}

/// Whether a value is as wanted; none is that there is no such value.
fn data_matches(wanted: &DataMatch, value: Option<&Value>) -> bool {
    match (wanted, value) {
        (DataMatch::Present(wanted), value) => value.is_some() == *wanted,
        (DataMatch::Or(any), value) => any.iter().any(|one| data_matches(one, value)),
        (DataMatch::Null, Some(Value::Null)) => true,
        (DataMatch::Number(wanted), Some(Value::Number(number))) => number.as_f64() == Some(*wanted),
        (DataMatch::Text(wanted), Some(Value::String(text))) => value_matches(wanted, text.as_bytes()),
        (DataMatch::Bool(wanted), Some(Value::Bool(value))) => wanted == value,
        (DataMatch::OneOf(wanted), Some(Value::Array(items))) => {
            items.iter().any(|item| data_matches(wanted, Some(item)))
        }
        (
            DataMatch::Null
            | DataMatch::Number(_)
            | DataMatch::Text(_)
            | DataMatch::Bool(_)
            | DataMatch::OneOf(_),
            _,
        ) => false,
    }
}

/// The client of a request that came over a connection from `peer`: at the edge that is the peer, whatever it says; behind
/// a proxy the last address that was written down.
pub fn client(edge: bool, headers: &HeaderMap, peer: Option<IpAddr>) -> Option<IpAddr> {
    if edge {
        return peer;
    }
    let last =
        headers.get_all(FORWARDED_FOR).iter().next_back().and_then(|line: &HeaderValue| line.to_str().ok());
    let last = last.and_then(|line| line.rsplit(',').next()).and_then(|text| text.trim().parse().ok());
    last.or(peer)
}

#[cfg(test)]
mod tests;
