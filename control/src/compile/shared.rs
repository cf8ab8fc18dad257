//! Routes of the Gateway API share a host: their rules become one list, in which the most specific match comes first
//! whoever wrote it. Each rule is translated as one of a `VirtualService` is; what the Gateway API wants otherwise is done
//! here.

use std::{cmp::Reverse, slice, sync::Arc};

use super::{
    ir::{Access, Action, Forward, Match, Redirect, Route, Tcp},
    routes::View,
};
use crate::documents::{
    Destination, Document, HttpAction, HttpMatch, HttpRoute, MESH_GATEWAY, PathMatch, RedirectPath,
    RedirectPort,
    gateway_api::{RouteRule, RouteRules},
};

/// A route that has requests to a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimant<'a> {
    pub(crate) document: &'a Arc<Document>,
    /// The host by which it has them.
    pub(crate) host: HostRank,
}

/// How specific a host is, the greater the more: a name before a pattern, then the longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostRank(bool, usize);

impl HostRank {
    pub(crate) fn of(host: &str) -> Self {
        Self(!host.starts_with('*'), host.len())
    }
}

impl View<'_> {
    /// The rules of routes, of which the oldest comes first, up to the first that takes every request.
    pub(crate) fn shared(&self, claimants: &[Claimant<'_>]) -> Vec<Route> {
        let everything = HttpMatch::default();
        let mut candidates = Vec::new();
        for Claimant { document, host } in claimants {
            let Some(route) = document.route() else { continue };
            let RouteRules::Http(rules) = &route.rules else { continue };
            for (index, RouteRule { rule, ranks }) in rules.iter().enumerate() {
                let matches = match rule.matches.as_slice() {
                    [] => slice::from_ref(&everything),
                    matches => matches,
                };
                for (found, rank) in matches.iter().zip(ranks) {
                    let order = Reverse((*host, Reverse(route.kind), *rank));
                    candidates.push((order, *document, index, rule, found));
                }
            }
        }
        // What is equally specific stays in the order of age, then of the rules.
        candidates.sort_by_key(|(order, ..)| *order);
        let mut routes = Vec::new();
        for (_, document, index, rule, found) in candidates {
            let Some(made) = self.shared_route(document, index, rule, found) else { continue };
            let last = made.matches == Match::default();
            routes.extend(whole_segments(made));
            if last {
                break;
            }
        }
        routes
    }

    fn shared_route(
        &self,
        document: &Document,
        index: usize,
        rule: &HttpRoute,
        found: &HttpMatch,
    ) -> Option<Route> {
        let mut route = self.route(document, rule, found)?;
        let name = if rule.name.is_empty() { index.to_string() } else { rule.name.to_string() };
        route.name = format!("{}.{}.{name}", document.namespace, document.name).into();
        match (&mut route.action, &rule.action) {
            (Action::Forward(forward), _) if forward.clusters.is_empty() => {
                route.action = Action::Direct { status: 500, body: Arc::default() };
            }
            (Action::Forward(forward), _) => forward.missing_is_error = true,
            (Action::Redirect(to), HttpAction::Redirect(rule)) => to.port = self.redirect_port(to, rule.port),
            (Action::Redirect(_) | Action::Direct { .. }, _) => {}
        }
        Some(route)
    }

    /// The port that a redirect names: without a word the scheme's, or the listener's where the scheme stays. A client
    /// needs to be told neither where it comes by a port that it need not name.
    fn redirect_port(&self, to: &Redirect, port: Option<RedirectPort>) -> Option<u16> {
        let plain = matches!(self.port, 80 | 443) || self.gateway == MESH_GATEWAY;
        match (port, to.scheme.as_deref()) {
            (Some(RedirectPort::Number(number)), _) => Some(number),
            (_, Some("https")) if !plain => Some(443),
            (_, Some(_)) if !plain => Some(80),
            (_, None) if !plain && to.host.is_some() => Some(self.port),
            _ => None,
        }
    }

    /// The cluster of a destination; one that nobody has where the Gateway API does not let it be sent to.
    pub(super) fn backend(&self, document: &Document, to: &Destination) -> Arc<str> {
        match self.grants.resolve(document, to.backend.as_ref(), to.port, self.services) {
            Ok(()) => self.cluster(document, to),
            Err(unresolved) => format!("unresolved|{}|{}", unresolved.reason(), to.host.text).into(),
        }
    }
}

/// Routes of connections.
impl View<'_> {
    /// Where the connections of a route go: by weight, to nobody where a backend cannot be sent to or has all the weight
    /// of none.
    pub(super) fn stream(&self, document: &Document, backends: &[Destination]) -> Tcp {
        let live = backends.iter().filter(|to| to.weight > 0);
        let clusters: Vec<_> = live.map(|to| (self.backend(document, to), to.weight)).collect();
        if clusters.is_empty() {
            return self.nobody(&document.key());
        }
        Tcp { clusters, idle_timeout: None, access: Access::default() }
    }

    /// Where connections go that nobody takes: they are closed.
    pub(super) fn nobody(&self, why: &str) -> Tcp {
        Tcp::to(format!("unresolved|NoBackend|{why}").into(), None)
    }
}

/// A route that replaces leading segments, in terms of prefixes of text. Where nothing takes their place, what follows
/// them begins with the slash that was between, and the segments alone become `/`: these are two routes.
fn whole_segments(mut route: Route) -> Vec<Route> {
    let becomes = match &route.action {
        Action::Forward(Forward { prefix_rewrite: Some(prefix), .. })
        | Action::Redirect(Redirect { path: Some(RedirectPath::Prefix(prefix)), .. }) => prefix.clone(),
        _ => return vec![route],
    };
    match (route.matches.path.clone(), &*becomes) {
        (Some(PathMatch::Segments(segments)), "") => {
            let mut alone = route.clone();
            alone.matches.path = Some(PathMatch::Exact(segments.clone()));
            replace_prefix(&mut alone.action, Some("/".into()));
            route.matches.path = Some(PathMatch::Prefix(format!("{segments}/").into()));
            replace_prefix(&mut route.action, Some("/".into()));
            vec![alone, route]
        }
        (None, "") => {
            replace_prefix(&mut route.action, None);
            vec![route]
        }
        (None, prefix) => {
            let prefix = format!("{prefix}/").into();
            replace_prefix(&mut route.action, Some(prefix));
            vec![route]
        }
        _ => vec![route],
    }
}

fn replace_prefix(action: &mut Action, prefix: Option<Arc<str>>) {
    match action {
        Action::Forward(forward) => forward.prefix_rewrite = prefix,
        Action::Redirect(redirect) => redirect.path = prefix.map(RedirectPath::Prefix),
        Action::Direct { .. } => {}
    }
}
