//! What one proxy receives: its listeners, the tables that they name, and the clusters that those can reach.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use prost::Message;
use weft_proto::node::{Inbound, NodeMetadata, Role, Upstream, cluster_name};

mod gateway;

use super::{
    encode, grpc,
    ir::{
        Cluster, Direction, Discovery, Endpoint, Endpoints, HttpVersion, Listener, LocalityEndpoints,
        RouteConfig, Serves, Tcp, VirtualHost, version,
    },
    services::{self, Viewer},
    sight::Sight,
    tables::{self, OUTBOUND_HTTP},
};
use crate::{
    documents::{Document, HealthCheck, LoadBalancer, WorkloadGroup},
    model::{Health, Locality, Port, Protocol, Service},
    resource::{Asked, Kind, Resource, ResourceSet},
};

/// Compiles the resources of a node that asks for some names.
pub(crate) fn resources(sight: Sight<'_>, node: &NodeMetadata, asked: &Asked) -> ResourceSet {
    let viewer = Viewer::of(node, asked);
    let mut scope = Scope { sight, node, viewer, set: ResourceSet::default(), clusters: BTreeSet::new() };
    node.upstreams.iter().for_each(|upstream| scope.upstream(upstream));
    node.inbound.iter().for_each(|inbound| scope.inbound(inbound));
    if node.role == Role::Gateway {
        scope.gateways();
    }
    if let Some(bind) = node.outbound_http {
        scope.outbound_http(bind);
    }
    asked.hosts.iter().for_each(|name| scope.host_on_demand(name));
    asked.listeners.iter().for_each(|name| scope.grpc_listener(name));
    scope.reachable_clusters();
    scope.set
}

struct Scope<'a> {
    sight: Sight<'a>,
    node: &'a NodeMetadata,
    viewer: Viewer<'a>,
    set: ResourceSet,
    /// Clusters that something names.
    clusters: BTreeSet<Arc<str>>,
}

impl Scope<'_> {
    fn listener(&mut self, mut listener: Listener, documents: Vec<Arc<str>>) {
        listener.access_logs.extend(self.sight.world().logs.mesh_wide.clone());
        let listener = &listener;
        let message = encode::listener::listener(listener).encode_to_vec();
        let name = listener.name.clone();
        let resource = Resource::new(Kind::Listener, name, version(listener), message, documents.into());
        self.set.insert(Kind::Listener, Arc::new(resource));
    }

    /// What a gRPC client or server asks for by the name of its target or address; nothing where that means nothing.
    fn grpc_listener(&mut self, name: &Arc<str>) {
        let listener = match grpc::Asking::read(name) {
            Some(grpc::Asking::Server(bind)) => grpc::server_listener(name, bind),
            Some(grpc::Asking::Client { host, port }) => {
                let Some((routes, documents)) = self.sight.target(host, port) else { return };
                let table = grpc::table(name, &routes);
                self.clusters.extend(table.clusters().cloned());
                self.set.insert(Kind::Routes, grpc::table_resource(&table, documents));
                grpc::client_listener(name)
            }
            None => return,
        };
        self.set.insert(Kind::Listener, listener);
    }

    fn outbound_http(&mut self, bind: SocketAddr) {
        let table = match self.node.on_demand {
            true => tables::on_demand_table(),
            false => self.sight.by_host(),
        };
        self.set.insert(Kind::Routes, table);
        let serves = Serves::Named(OUTBOUND_HTTP.into());
        let listener = Listener::plain(OUTBOUND_HTTP.into(), bind, Direction::Outbound, serves);
        self.listener(listener, Vec::new());
        if self.node.on_demand {
            return;
        }
        for compiled in self.sight.all_compiled() {
            for (kind, resource) in compiled.seen_by(self.viewer).iter() {
                self.set.insert(kind, resource.clone());
            }
        }
        if self.sight.is_narrow() {
            // What documents lead to is imported with them.
            self.clusters.extend(self.sight.clusters_of_tables().cloned());
        }
    }

    /// A host of the outbound port that a request needs, and what it leads to; nothing where it means nothing.
    fn host_on_demand(&mut self, name: &Arc<str>) {
        let Some((OUTBOUND_HTTP, host)) = name.split_once('/') else { return };
        let Some((routes, documents)) = self.sight.authority(host) else { return };
        let host = VirtualHost { name: name.clone(), domains: vec![host.into()], routes };
        self.clusters.extend(host.clusters().cloned());
        self.set.insert(Kind::VirtualHost, tables::host_resource(&host, documents));
    }

    /// The service and port that a node names; port 0 is the first.
    fn port(&self, service: &str, port: u16) -> Option<(&Arc<Service>, &Port)> {
        let service = self.sight.service(service)?;
        let named = |known: &&Port| port == 0 || known.number == port;
        Some((service, service.ports.iter().find(named)?))
    }

    /// A service that is not known yet gets its listener when it appears.
    fn upstream(&mut self, upstream: &Upstream) {
        let Some((service, port)) = self.port(&upstream.service, upstream.port) else { return };
        let (key, number, http) = (service.key.clone(), port.number, port.protocol.is_http());
        let name: Arc<str> = cluster_name(number, "", &service.host).into();
        self.clusters.insert(name.clone());
        let serves = if http {
            let Some(table) = self.sight.table(&key, number).cloned() else { return };
            self.set.insert(Kind::Routes, table.resource.clone());
            self.clusters.extend(table.clusters.iter().cloned());
            Serves::Named(name)
        } else {
            let idle_timeout = self.sight.compiled(&key).and_then(|compiled| compiled.tcp_idle_timeout);
            Serves::Tcp(Tcp::to(name, idle_timeout))
        };
        let name = format!("upstream|{}", upstream.bind).into();
        let listener = Listener::plain(name, upstream.bind, Direction::Outbound, serves);
        self.listener(listener, Vec::new());
    }

    fn inbound(&mut self, inbound: &Inbound) {
        let known = self.port(&inbound.service, inbound.port);
        let (host, number) = match known {
            Some((service, port)) => (service.host.clone(), port.number),
            None => (inbound.service.as_str().into(), inbound.port),
        };
        let protocol = match inbound.protocol.as_str() {
            "http" => Protocol::Http,
            "http2" => Protocol::Http2,
            "grpc" => Protocol::Grpc,
            "" => known.map_or(Protocol::Tcp, |(_, port)| port.protocol),
            _ => Protocol::Tcp,
        };
        let http = match protocol {
            Protocol::Http => Some(HttpVersion::Http1),
            Protocol::Http2 | Protocol::Grpc => Some(HttpVersion::Http2),
            Protocol::Tcp | Protocol::Tls => None,
        };
        // Of several workloads behind one service port each has a cluster; the first has the name that people know.
        let mut name: Arc<str> = format!("inbound|{number}||{host}").into();
        if self.set.find(Kind::Cluster, &name).is_some() {
            name = format!("inbound|{number}|{}|{host}", inbound.bind).into();
        }
        let check = self.probe();
        let app = Endpoint {
            address: inbound.app.ip().to_string().into(),
            port: inbound.app.port(),
            weight: 1,
            health: Health::Healthy,
            check_port: check.and_then(|check| check.port),
            workload: "".into(),
        };
        let alone =
            LocalityEndpoints { priority: 0, locality: Locality::default(), weight: 1, endpoints: vec![app] };
        let endpoints = Endpoints { cluster: name.clone(), localities: vec![alone] };
        let cluster = Cluster {
            name: name.clone(),
            service: known.map(|(service, _)| super::ir::ServiceName {
                host: service.host.clone(),
                name: service.key.name.clone(),
                namespace: service.key.namespace.clone(),
            }),
            discovery: Discovery::Static(endpoints),
            balancer: LoadBalancer::RoundRobin,
            locality_weighted: false,
            warmup: None,
            outlier: None,
            check: check.cloned(),
            health_percent_min: check.map(|_| 0),
            retry_budget: None,
            http,
            tcp: Default::default(),
            pool: Default::default(),
        };
        self.set.insert(Kind::Cluster, services::cluster_resource(&cluster, Arc::new([])));
        let serves = match http {
            None => Serves::Tcp(Tcp::to(name, None)),
            Some(_) => Serves::Inline(inbound_table(name)),
        };
        let name = format!("inbound|{}", inbound.bind).into();
        let listener = Listener::plain(name, inbound.bind, Direction::Inbound, serves);
        self.listener(listener, Vec::new());
    }

    /// How the workload is checked: as the group of its name says.
    fn probe(&self) -> Option<&HealthCheck> {
        let mut groups = self.sight.world().documents.workload_groups();
        let own = |(document, _): &(&Arc<Document>, &WorkloadGroup)| {
            *document.namespace == *self.node.namespace && *document.name == *self.node.workload
        };
        groups.find(own).and_then(|(_, group)| group.probe.as_ref())
    }

    fn gateways(&mut self) {
        let ip = self.node.gateway_bind.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        for (port, served) in gateway::ports(self.sight.world(), self.node) {
            let (table, documents) = served.table(self.sight.world(), self.sight.namespace(), port);
            self.clusters.extend(table.clusters().cloned());
            let name = table.name.clone();
            self.set.insert(Kind::Routes, tables::table_resource(&table, documents.clone()));
            let bind = SocketAddr::new(ip, self.node.gateway_ports.get(&port).copied().unwrap_or(port));
            let serves = Serves::Named(name.clone());
            self.listener(Listener::plain(name, bind, Direction::Gateway, serves), documents);
        }
    }

    fn reachable_clusters(&mut self) {
        for name in std::mem::take(&mut self.clusters) {
            self.reachable_cluster(&name);
        }
    }

    /// Adds a cluster by its name, `outbound|PORT|SUBSET|HOST`; nothing where it does not exist.
    fn reachable_cluster(&mut self, name: &Arc<str>) {
        let host = name.rsplit('|').next().unwrap_or_default();
        let service = self.sight.service(host);
        let compiled = service.and_then(|service| self.sight.compiled(&service.key));
        let Some(seen) = compiled.map(|compiled| compiled.seen_by(self.viewer)) else { return };
        for (kind, resource) in seen.iter() {
            if resource.name == *name {
                self.set.insert(kind, resource.clone());
            }
        }
    }
}

/// Every request to the workload; its caller retries, not we.
fn inbound_table(cluster: Arc<str>) -> RouteConfig {
    let mut route = tables::default_route(&cluster);
    route.action = super::ir::Action::Forward(super::ir::Forward::plain(cluster.clone(), None));
    let host = VirtualHost { name: cluster.clone(), domains: vec!["*".into()], routes: Arc::new([route]) };
    RouteConfig { name: cluster, hosts: vec![host], on_demand: false, ignore_port: false }
}
