//! What one name means: the routes of a host that a client asks for by itself.

use std::sync::Arc;

use weft_proto::node::cluster_name;

use super::{
    ir::Route,
    sight::Sight,
    tables::{self, OtherHost},
};
use crate::{
    documents::hosts::host_matches,
    model::{Port, Protocol, Service},
};

/// Routes, and the keys of the documents that shape them.
pub(crate) type Found = (Arc<[Route]>, Arc<[Arc<str>]>);

impl Sight<'_> {
    /// The routes of a gRPC client's target. Without a port a service's own gRPC port is meant, else its first that is
    /// HTTP, else its first.
    pub(crate) fn target(&self, host: &str, port: Option<u16>) -> Option<Found> {
        let Some(service) = self.service(host) else { return self.other(host).map(OtherHost::found) };
        let of = |fits: fn(&Port) -> bool| service.ports.iter().find(|port| fits(port));
        let port = match port {
            Some(number) => service.ports.iter().find(|port| port.number == number),
            None => of(|port| port.protocol == Protocol::Grpc)
                .or_else(|| of(|port| port.protocol.is_http()))
                .or_else(|| of(|_| true)),
        }
        .filter(|port| self.imports(service, port))?;
        Some(self.port(service, port).unwrap_or_else(|| {
            let cluster = cluster_name(port.number, "", &service.host).into();
            (Arc::new([tables::default_route(&cluster)]), Arc::new([]))
        }))
    }

    /// The routes of a request's host, as the table that routes by host has them: a service's port, without one its first
    /// that is HTTP; else what virtual services say of the host.
    pub(crate) fn authority(&self, authority: &str) -> Option<Found> {
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse::<u16>().ok()?)),
            None => (authority, None),
        };
        let fits = |of: &&Port| of.protocol.is_http() && port.is_none_or(|port| port == of.number);
        let at = |service: &Service| self.port(service, service.ports.iter().find(fits)?);
        // A name takes every port, a pattern the port that it is written with.
        let named = || self.other(host).filter(|other| !other.canonical.starts_with('*'));
        let pattern = || self.others().iter().find(|other| host_matches(&other.canonical, authority));
        let of_pattern = || self.pattern(host).and_then(at).or_else(|| pattern().map(OtherHost::found));
        let of_service = self.service(host).and_then(|service| at(service));
        of_service.or_else(|| named().map(OtherHost::found)).or_else(of_pattern)
    }

    /// The service of the longest pattern that takes a host.
    fn pattern(&self, host: &str) -> Option<&Service> {
        let services = self.world().services.values().map(|service| &**service);
        let takes = |service: &&Service| {
            let counts = service.export_to.reaches(self.namespace(), &service.key.namespace);
            service.is_pattern() && counts && host_matches(&service.host, host)
        };
        services.filter(takes).max_by_key(|service| service.host.len())
    }

    fn port(&self, service: &Service, port: &Port) -> Option<Found> {
        let table = self.table(&service.key, port.number).filter(|_| self.imports(service, port))?;
        Some((table.routes.clone(), table.resource.documents.clone()))
    }

    /// A host of virtual services: an exact name first, then the longest pattern.
    fn other(&self, host: &str) -> Option<&OtherHost> {
        let canonical = self.hosts().canonical(host, self.namespace());
        self.others().iter().find(|other| host_matches(&other.canonical, &canonical))
    }
}

impl OtherHost {
    fn found(&self) -> Found {
        (self.routes.clone(), self.documents.clone())
    }
}
