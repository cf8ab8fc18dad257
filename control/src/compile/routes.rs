//! Virtual services become routes. Which rules apply to a host is decided in `compile`; here they are translated.

use std::{sync::Arc, time::Duration};

use weft_proto::node::cluster_name;

use super::{
    clusters,
    ir::{Action, Filters, Forward, HeaderMatch, Match, Mirror, Redirect, Retry, Route, Weighted},
    lens::Lens,
    rules::Rules,
    services::{self, Services},
};
use crate::documents::{
    self, ConnectionMatch, Destination, Document, Fault, HashKey, HttpAction, HttpMatch, HttpRoute, Located,
    PathMatch, RedirectPort, Retries, SAFE_RETRY_ON, StringMatch, VirtualService, attach::Grants,
    gateway_name, hosts::Hosts,
};

const DEFAULT_RETRIES: u32 = 2;

/// The retries of a route that says nothing about them.
pub(crate) fn default_retry() -> Option<Retry> {
    Some(Retry {
        on: SAFE_RETRY_ON.into(),
        statuses: Vec::new(),
        retries: DEFAULT_RETRIES,
        per_try_timeout: None,
        backoff: None,
        avoid_tried: true,
        leave_tried_priorities: false,
    })
}

/// Where rules are looked at from.
pub(crate) struct View<'a> {
    pub(crate) hosts: &'a Hosts,
    pub(crate) services: &'a Services,
    /// Destination rules.
    pub(crate) rules: &'a Rules,
    pub(crate) client: &'a Lens,
    /// Who may refer to what in another namespace.
    pub(crate) grants: &'a Grants,
    /// `mesh`, or `namespace/name` of a gateway.
    pub(crate) gateway: &'a str,
    /// The port that the client uses.
    pub(crate) port: u16,
}

impl View<'_> {
    /// The routes of a virtual service, up to the first that takes every request.
    pub(crate) fn routes(&self, document: &Document, service: &VirtualService) -> Vec<Route> {
        let mut routes = Vec::new();
        for rule in &service.http {
            let empty = [HttpMatch::default()];
            let matches = if rule.matches.is_empty() { &empty[..] } else { &rule.matches[..] };
            for found in matches.iter().filter(|found| self.concerns(document, found)) {
                let document = rule.written_in.as_deref().unwrap_or(document);
                let Some(route) = self.route(document, rule, found) else { continue };
                let last = route.matches == Match::default();
                routes.push(route);
                if last {
                    return routes;
                }
            }
        }
        routes
    }

    fn concerns(&self, document: &Document, found: &HttpMatch) -> bool {
        self.is_for(document, found.port, &found.gateways) && self.client.is_meant(&found.source)
    }

    /// Whether connections from here are meant.
    pub(crate) fn concerns_connection(&self, document: &Document, found: &ConnectionMatch) -> bool {
        self.is_for(document, found.port, &found.gateways) && self.client.is_meant(&found.source)
    }

    fn is_for(&self, document: &Document, port: Option<u16>, gateways: &[Located]) -> bool {
        let named = |gateway: &str| gateway_name(gateway, &document.namespace) == self.gateway;
        port.is_none_or(|port| port == self.port)
            && (gateways.is_empty() || gateways.iter().any(|gateway| named(&gateway.text)))
    }

    /// One alternative of a rule that does something by itself. Its names are read as in `document`.
    pub(super) fn route(&self, document: &Document, rule: &HttpRoute, found: &HttpMatch) -> Option<Route> {
        let action = match &rule.action {
            HttpAction::Delegate(_) => return None,
            HttpAction::Route(destinations) => Action::Forward(self.forward(document, rule, destinations)),
            HttpAction::Redirect(to) => Action::Redirect(redirect(to, self.port)),
            HttpAction::Direct(direct) => Action::Direct { status: direct.status, body: direct.body.clone() },
        };
        let name = match (rule.name.is_empty(), found.name.is_empty()) {
            (false, false) => format!("{}.{}", rule.name, found.name).into(),
            (true, _) => found.name.clone(),
            (_, true) => rule.name.clone(),
        };
        Some(Route {
            name,
            matches: matches(found),
            action,
            headers: rule.headers.clone(),
            filters: Filters {
                cors: rule.cors.clone(),
                fault: rule.fault.as_ref().and_then(Fault::effective),
                request_bytes_max: None,
            },
            stat_prefix: found.stat_prefix.clone(),
        })
    }

    fn forward(&self, document: &Document, rule: &HttpRoute, destinations: &[Destination]) -> Forward {
        let rewrite = rule.rewrite.clone().unwrap_or_default();
        let weighted = |destination: &Destination| Weighted {
            cluster: self.backend(document, destination),
            weight: destination.weight,
            headers: destination.headers.clone(),
        };
        let mirror = |to: &documents::Mirror| {
            // A copy that may not be sent is left out.
            self.grants.resolve(document, to.backend.as_ref(), to.port, self.services).ok()?;
            (to.ppm > 0).then(|| Mirror { cluster: self.cluster(document, to), ppm: to.ppm })
        };
        let live = destinations.iter().filter(|to| to.weight > 0);
        Forward {
            hash: live.clone().find_map(|to| self.hash_key(document, to)),
            clusters: live.map(weighted).collect(),
            timeout: rule.timeout.unwrap_or(Duration::ZERO),
            retry: rule.retries.as_ref().map_or_else(default_retry, retry),
            prefix_rewrite: rewrite.uri,
            regex_rewrite: rewrite.uri_regex,
            host_rewrite: rewrite.authority.or_else(|| rule.headers.host.clone()),
            mirrors: rule.mirrors.iter().filter_map(mirror).collect(),
            missing_is_error: false,
        }
    }

    /// What requests to a destination are hashed by. Of several destinations the first that is picked by hash says it for
    /// the route.
    fn hash_key(&self, document: &Document, destination: &Destination) -> Option<HashKey> {
        let to = To::from(destination);
        let host = self.hosts.canonical(to.host, &document.namespace);
        let key = self.hosts.find(to.host, &document.namespace);
        let home = key.map(|key| &*key.namespace).unwrap_or_default();
        self.hash_key_of(&host, home, to.subset, self.port_of(&document.namespace, &to))
    }

    /// What requests to a port of a host of namespace `home` are hashed by.
    pub(crate) fn hash_key_of(&self, host: &str, home: &str, subset: &str, port: u16) -> Option<HashKey> {
        let rules = self.rules.of(host, home, self.client);
        let rules: Vec<_> = services::destination_rules(&rules).collect();
        clusters::hash_key(&rules, subset, port)
    }

    /// The cluster of a destination.
    pub(crate) fn cluster<'b>(&self, document: &Document, to: impl Into<To<'b>>) -> Arc<str> {
        let to = to.into();
        let namespace = to.namespace.unwrap_or(&document.namespace);
        let canonical = self.hosts.canonical(to.host, namespace);
        cluster_name(self.port_of(namespace, &to), to.subset, &canonical).into()
    }

    /// The destination's port, else the service's only port, else the port that the client used.
    fn port_of(&self, namespace: &str, to: &To<'_>) -> u16 {
        let service = self.hosts.find(to.host, namespace).and_then(|key| self.services.get(key));
        let only = match service.map(|service| service.ports.as_slice()) {
            Some([only]) => Some(only.number),
            _ => None,
        };
        to.port.or(only).unwrap_or(self.port)
    }
}

/// Where requests or their copies go, as a document says it.
pub(crate) struct To<'a> {
    host: &'a Arc<str>,
    subset: &'a str,
    port: Option<u16>,
    /// Where its name is read; none is in the document.
    namespace: Option<&'a Arc<str>>,
}

impl<'a> From<&'a Destination> for To<'a> {
    fn from(to: &'a Destination) -> Self {
        let subset = to.subset.as_ref().map(|subset| &*subset.text).unwrap_or_default();
        Self { host: &to.host.text, subset, port: to.port, namespace: None }
    }
}

impl<'a> From<&'a documents::Mirror> for To<'a> {
    fn from(to: &'a documents::Mirror) -> Self {
        let subset = to.subset.as_ref().map(|subset| &*subset.text).unwrap_or_default();
        Self { host: &to.host.text, subset, port: to.port, namespace: to.namespace.as_ref() }
    }
}

fn matches(found: &HttpMatch) -> Match {
    let mut headers = Vec::new();
    let pseudo = [(":scheme", &found.scheme), (":method", &found.method), (":authority", &found.authority)];
    for (name, value) in pseudo {
        if let Some(value) = value {
            headers.push(HeaderMatch { name: name.into(), value: Some(value.clone()), invert: false });
        }
    }
    let mut push = |list: &[(Arc<str>, Option<StringMatch>)], invert| {
        let header = |(name, value): &(Arc<str>, Option<StringMatch>)| HeaderMatch {
            name: name.clone(),
            value: value.clone(),
            invert,
        };
        headers.extend(list.iter().map(header));
    };
    push(&found.headers, false);
    push(&found.without_headers, true);
    let everything = |path: &PathMatch| matches!(path, PathMatch::Prefix(prefix) if &**prefix == "/");
    Match {
        path: found.uri.clone().filter(|path| !everything(path)),
        ignore_case: found.ignore_uri_case && found.uri.is_some(),
        headers,
        query: found.query_params.clone(),
    }
}

/// A redirect of requests that come to a port.
fn redirect(to: &documents::Redirect, port: u16) -> Redirect {
    Redirect {
        path: to.path.clone(),
        host: to.authority.clone(),
        scheme: to.scheme.clone(),
        port: match to.port {
            Some(RedirectPort::Number(number)) => Some(number),
            Some(RedirectPort::OfRequest) => Some(port),
            Some(RedirectPort::OfScheme) | None => None,
        },
        code: to.code,
    }
}

fn retry(retries: &Retries) -> Option<Retry> {
    if retries.attempts == 0 {
        return None;
    }
    let text = retries.retry_on.as_deref().unwrap_or(SAFE_RETRY_ON);
    let (mut words, mut statuses) = (Vec::new(), Vec::new());
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word.parse() {
            Ok(status) => statuses.push(status),
            Err(_) => words.push(word),
        }
    }
    if !statuses.is_empty() && !words.contains(&"retriable-status-codes") {
        words.push("retriable-status-codes");
    }
    Some(Retry {
        on: words.join(",").into(),
        statuses,
        retries: retries.attempts,
        per_try_timeout: retries.per_try_timeout,
        backoff: retries.backoff,
        avoid_tried: retries.avoid_tried,
        leave_tried_priorities: retries.leave_tried_localities,
    })
}
