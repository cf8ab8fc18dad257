//! A world through a lens: what a client sees, whether that is its own perspective's or everybody's.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    World, capture,
    ir::{self, Access, Limits, RouteConfig, VirtualHost},
    lens::Lens,
    perspective::Perspective,
    services::Compiled,
    tables::{self, OUTBOUND_HTTP, OtherHost, PortTable},
};
use crate::{
    documents::hosts::Hosts,
    model::{OutboundPolicy, Port, Service, ServiceKey},
    resource::Resource,
};

/// What a client sees.
#[derive(Clone, Debug)]
pub(crate) struct Sight<'a> {
    world: &'a World,
    lens: Lens,
    /// None where it sees what strangers see.
    perspective: Option<Arc<Perspective>>,
}

impl<'a> Sight<'a> {
    pub(crate) fn new(world: &'a World, lens: Lens) -> Self {
        let perspective = world.perspectives.of(world, lens.clone());
        Self { world, lens, perspective }
    }

    /// The client's namespace.
    pub(crate) fn namespace(&self) -> &str {
        &self.lens.namespace
    }

    /// From where it looks.
    pub(crate) fn lens(&self) -> &Lens {
        &self.lens
    }

    /// Whether a Sidecar leaves out some of what could be seen.
    pub(crate) fn is_narrow(&self) -> bool {
        self.lens.is_narrow()
    }

    /// The names that it knows.
    pub(crate) fn hosts(&self) -> &'a Hosts {
        &self.world.hosts
    }

    /// The world behind it.
    pub(crate) fn world(&self) -> &'a World {
        self.world
    }

    /// The perspective's lens, by which scopes that hang on it are known.
    pub(crate) fn perspective(&self) -> Option<&Arc<Perspective>> {
        self.perspective.as_ref()
    }

    /// The service that a name means, whether imported or not.
    pub(crate) fn service(&self, host: &str) -> Option<&'a Arc<Service>> {
        let key = self.world.hosts.find(host, &self.lens.namespace)?;
        self.world.services.get(key)
    }

    /// Whether a service port is imported.
    pub(crate) fn imports(&self, service: &Service, port: &Port) -> bool {
        self.lens.imports(service, port.number)
    }

    /// The clusters of a service.
    pub(crate) fn compiled(&self, key: &ServiceKey) -> Option<&Arc<Compiled>> {
        let own = self.perspective.as_ref().and_then(|of| of.compiled.get(key));
        own.or_else(|| self.world.compiled.get(key))
    }

    /// The services of which any port is imported, with their clusters.
    pub(crate) fn all_compiled(&self) -> impl Iterator<Item = &Arc<Compiled>> {
        let services = self.world.services.values();
        let seen = services.filter(|service| {
            let visible = service.export_to.reaches(&self.lens.namespace, &service.key.namespace);
            visible && service.ports.iter().any(|port| self.imports(service, port))
        });
        seen.filter_map(|service| self.compiled(&service.key))
    }

    /// Every cluster that the table by host can send to.
    pub(crate) fn clusters_of_tables(&self) -> impl Iterator<Item = &Arc<str>> {
        let services = self.world.services.values();
        let ports = services.flat_map(|service| service.ports.iter().map(move |port| (service, port)));
        let imported = ports.filter(|(service, port)| self.imports(service, port));
        let tables = imported.filter_map(|(service, port)| self.table(&service.key, port.number));
        let others = self.others().iter().flat_map(|other| ir::clusters(&other.routes));
        tables.flat_map(|table| &table.clusters).chain(others)
    }

    /// The table of a port.
    pub(crate) fn table(&self, key: &ServiceKey, port: u16) -> Option<&Arc<PortTable>> {
        let own = self.perspective.as_ref().and_then(|of| of.ports.get(&(key.clone(), port)));
        own.or_else(|| self.world.tables.of_port(key, port))
    }

    /// Hosts of virtual services that are no service: exact ones first, then patterns, the longest first.
    pub(crate) fn others(&self) -> &[OtherHost] {
        self.perspective.as_ref().map_or(&*self.world.tables.others, |of| &*of.others)
    }

    /// The table that routes by host, as the client's namespace sees short names.
    pub(crate) fn by_host(&self) -> Arc<Resource> {
        match &self.perspective {
            Some(of) => of.by_host.get_or_init(|| self.compile_by_host()).clone(),
            None => self.world.tables.by_host(&self.lens.namespace, || self.compile_by_host()),
        }
    }

    /// The table that routes captured HTTP at one port by host. What no host claims goes where it was going, or nowhere.
    pub(crate) fn by_port(&self, port: u16, policy: OutboundPolicy) -> Arc<Resource> {
        let make = || {
            let (mut table, documents) = self.by_hosts(Some(port));
            let claimed = table.hosts.iter().any(|host| host.domains.iter().any(|domain| **domain == *"*"));
            if !claimed {
                table.hosts.push(tables::unclaimed(policy));
            }
            tables::table_resource(&table, documents)
        };
        match &self.perspective {
            Some(_) => make(),
            None => self.world.tables.by_port((self.namespace().into(), port, policy), make),
        }
    }

    fn compile_by_host(&self) -> Arc<Resource> {
        let (table, documents) = self.by_hosts(None);
        tables::table_resource(&table, documents)
    }

    /// A table of all hosts, or of those that have one port; and the documents that shaped it.
    fn by_hosts(&self, only: Option<u16>) -> (RouteConfig, Vec<Arc<str>>) {
        let hosts = &self.world.hosts;
        let namespace = self.namespace();
        let mut taken = BTreeSet::new();
        let mut virtual_hosts = Vec::new();
        let mut documents = BTreeSet::new();
        for service in self.world.services.values() {
            let mine = |host: &&Arc<str>| hosts.find(host, namespace) == Some(&service.key);
            let mut first = true;
            let wanted =
                |port: &&Port| port.protocol.is_http() && only.is_none_or(|only| port.number == only);
            // Only at a port that is captured can an address be what the client calls.
            let ips = only.map(|_| service.ips()).unwrap_or_default();
            let ips: Vec<Arc<str>> = ips.iter().map(|ip| Arc::from(ip.to_string())).collect();
            for port in service.ports.iter().filter(wanted) {
                let Some(table) = self.table(&service.key, port.number) else { continue };
                let bare = std::mem::take(&mut first);
                if !self.imports(service, port) {
                    continue;
                }
                let mut domains = Vec::new();
                for host in service.hosts.iter().filter(mine).chain(&ips) {
                    let bare = bare.then(|| host.clone());
                    let with_port = Arc::<str>::from(format!("{host}:{}", port.number));
                    domains.extend(bare.into_iter().chain([with_port]).filter(|d| taken.insert(d.clone())));
                }
                if !domains.is_empty() {
                    let name = format!("{}:{}", service.host, port.number).into();
                    virtual_hosts.push(VirtualHost { name, domains, routes: table.routes.clone() });
                    documents.extend(table.resource.documents.iter().cloned());
                }
            }
        }
        for other in self.others() {
            let spellings = hosts.spellings(&other.host, &other.namespace, namespace);
            let all = spellings.iter().flat_map(tables::domains);
            let domains: Vec<_> = all.filter(|domain| taken.insert(domain.clone())).collect();
            if !domains.is_empty() {
                let (name, routes) = (other.canonical.clone(), other.routes.clone());
                virtual_hosts.push(VirtualHost { name, domains, routes });
                documents.extend(other.documents.iter().cloned());
            }
        }
        let name = only.map_or_else(|| OUTBOUND_HTTP.into(), capture::table_name);
        let table = RouteConfig {
            name,
            hosts: virtual_hosts,
            on_demand: false,
            ignore_port: false,
            access: Access::default(),
            limits: Limits::default(),
        };
        (table, documents.into_iter().collect())
    }
}
