//! Whether what a route sends to is there, and may be sent to.

use std::{fmt, sync::Arc};

use super::{Builder, Grants, Services};
use crate::{
    documents::{
        Backend, Destination, Document, HttpAction, Located, Mirror,
        gateway_api::{GROUP, Route, RouteRule, RouteRules},
        status::{Condition, ConditionKind},
    },
    model::ServiceKey,
};

/// Why a backend cannot be sent to. Requests for it are answered 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// It is no Service.
    Kind,
    /// No grant leads to its namespace.
    NotPermitted,
    /// It is not known.
    Service,
    /// The Service has no such port.
    Port,
}

impl Unresolved {
    /// In a word of the Gateway API.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Kind => "InvalidKind",
            Self::NotPermitted => "RefNotPermitted",
            Self::Service | Self::Port => "BackendNotFound",
        }
    }

    /// What to do.
    const fn hint(self) -> &'static str {
        match self {
            Self::Kind => "name a Service",
            Self::NotPermitted => "apply a ReferenceGrant in its namespace",
            Self::Service => "it takes effect when one appears",
            Self::Port => "correct the port",
        }
    }
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kind => "is no Service, the only kind that can be sent to",
            Self::NotPermitted => "is in another namespace, which does not permit it",
            Self::Service => "is no service that is known",
            Self::Port => "has no such port",
        })
    }
}

impl Grants {
    /// Whether a backend that a document names is there and may be sent to. None is a destination that is no reference of
    /// the Gateway API.
    pub fn resolve(
        &self,
        document: &Document,
        backend: Option<&Backend>,
        port: Option<u16>,
        services: &Services,
    ) -> Result<(), Unresolved> {
        let Some(backend) = backend else { return Ok(()) };
        if (&*backend.group, &*backend.kind) != ("", "Service") {
            return Err(Unresolved::Kind);
        }
        let namespace = backend.namespace.as_ref().unwrap_or(&document.namespace);
        let from = (GROUP, document.kind, &*document.namespace);
        if !self.permit(from, ("", "Service", namespace), &backend.name) {
            return Err(Unresolved::NotPermitted);
        }
        let key = ServiceKey { namespace: namespace.clone(), name: backend.name.clone() };
        let Some(service) = services.get(&key) else { return Err(Unresolved::Service) };
        let there = port.is_none_or(|port| service.ports.iter().any(|known| known.number == port));
        there.then_some(()).ok_or(Unresolved::Port)
    }
}

impl Builder<'_> {
    /// Whether every backend of a route is there.
    pub(super) fn resolved(&mut self, document: &Arc<Document>, route: &Route) -> Condition {
        let mut worst: Option<(Unresolved, String)> = None;
        for (host, backend, port) in backends(route) {
            let found = self.found.grants.resolve(document, backend, port, self.services);
            let Err(unresolved) = found else { continue };
            let port = port.map_or_else(String::new, |port| format!(":{port}"));
            let message = format!("backend {:?} {unresolved}", format!("{}{port}", host.text));
            self.warn(document, host, &message, unresolved.hint());
            worst.get_or_insert((unresolved, message));
        }
        match worst {
            None => Condition::new(ConditionKind::ResolvedRefs, true, "ResolvedRefs", ""),
            Some((unresolved, message)) => {
                Condition::new(ConditionKind::ResolvedRefs, false, unresolved.reason(), message)
            }
        }
    }
}

/// Where a route sends requests, connections or copies.
type Sent<'a> = (&'a Located, Option<&'a Backend>, Option<u16>);

/// Everything that a route sends to.
fn backends(route: &Route) -> Vec<Sent<'_>> {
    fn sent(to: &Destination) -> Sent<'_> {
        (&to.host, to.backend.as_ref(), to.port)
    }
    fn copied(to: &Mirror) -> Sent<'_> {
        (&to.host, to.backend.as_ref(), to.port)
    }
    match &route.rules {
        RouteRules::Stream(destinations) => destinations.iter().map(sent).collect(),
        RouteRules::Http(rules) => rules
            .iter()
            .flat_map(|RouteRule { rule, .. }| {
                let destinations = match &rule.action {
                    HttpAction::Route(destinations) => destinations.as_slice(),
                    HttpAction::Redirect(_) | HttpAction::Direct(_) | HttpAction::Delegate(_) => &[],
                };
                destinations.iter().map(sent).chain(rule.mirrors.iter().map(copied))
            })
            .collect(),
    }
}
