//! What one proxy receives: its listeners, the tables that they name, and the clusters that those can reach.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use weft_proto::node::{
    Address, HOST_NAMES, Inbound, LocalWorkload, NodeMetadata, Role, Upstream, cluster_name,
};

use super::{
    access::{self, Layer, Spot, Workload},
    capture, connections, gateways, grpc,
    ir::{
        Access, Cluster, Direction, Discovery, Endpoint, Endpoints, Http, HttpVersion, Limits, Listener,
        LocalityEndpoints, RouteConfig, Serves, Tcp, TokenProvider, Tracing, VirtualHost,
    },
    limits,
    peers::{self, Doors},
    secrets,
    services::{self, Viewer},
    sight::Sight,
    tables::{self, OUTBOUND_HTTP},
    telemetry::{self, Spans, Told},
    tokens,
};
use crate::{
    documents::{Document, HealthCheck, MtlsMode, ServerClass, TargetKind, WorkloadGroup},
    model::{Health, Locality, OutboundPolicy, Port, Protocol, Service},
    providers::Collector,
    resource::{Asked, Kind, ResourceSet},
};

/// Compiles the resources of a node that asks for some names.
pub(crate) fn resources(sight: Sight<'_>, node: &NodeMetadata, asked: &Asked) -> ResourceSet {
    let viewer = Viewer::of(node, asked);
    let mut scope = Scope {
        sight,
        node,
        viewer,
        set: ResourceSet::default(),
        clusters: BTreeSet::new(),
        captured: Vec::new(),
    };
    node.upstreams.iter().for_each(|upstream| scope.upstream(upstream));
    scope.ingress();
    for inbound in &node.inbound {
        let reached = inbound.bind.as_ref().unwrap_or(&inbound.app).port();
        scope.inbound(inbound, reached, &[]);
    }
    if node.role == Role::Gateway {
        scope.gateways();
    }
    if let Some(bind) = node.outbound_http {
        scope.outbound_http(bind);
    }
    asked.hosts.iter().for_each(|name| scope.host_on_demand(name));
    asked.listeners.iter().for_each(|name| scope.grpc_listener(name));
    if let Some(bind) = node.inbound_capture {
        scope.inbound_capture(bind);
    }
    if let Some(bind) = node.outbound_capture {
        let policy = scope.sight.lens().unclaimed(scope.sight.world().outbound_policy);
        scope.outbound_capture(bind, policy);
    }
    if node.extensions.iter().any(|name| name == HOST_NAMES) {
        scope.names();
    }
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
    /// Ports at which others reach the workload, with what is served there, and which mutual TLS is asked for.
    captured: Vec<(u16, Serves, MtlsMode)>,
}

impl Scope<'_> {
    fn listener(&mut self, listener: Listener, documents: Vec<Arc<str>>) {
        self.listener_of("", listener, documents);
    }

    /// A listener of one of the node's workloads, by its name; an empty one is the node's own.
    fn listener_of(&mut self, workload: &str, mut listener: Listener, mut documents: Vec<Arc<str>>) {
        let told = self.told(workload, listener.direction);
        listener.access_logs = told.logs;
        listener.tracing = told.spans.and_then(|spans| self.tracing(workload, spans));
        documents.extend(told.documents);
        let resource = services::listener_resource(&listener, documents.into());
        self.set.insert(Kind::Listener, Arc::new(resource));
    }

    /// What is told of a workload's traffic.
    fn told(&self, workload: &str, direction: Direction) -> Told {
        let world = self.sight.world();
        let settings = telemetry::Settings { log: world.log.as_ref(), providers: &world.providers };
        telemetry::of(settings, &world.documents, self.workload(workload, &[]), direction)
    }

    /// How requests are traced; not, while nobody knows the collector.
    fn tracing(&mut self, workload: &str, spans: Spans) -> Option<Tracing> {
        let Collector { host, namespace, port, transport } = spans.collector;
        let (service, port) = self.port(&host, port)?;
        if namespace.is_some_and(|namespace| namespace != service.key.namespace) {
            return None;
        }
        let cluster: Arc<str> = cluster_name(port.number, "", &service.host).into();
        let authority = format!("{}:{}", service.host, port.number).into();
        self.clusters.insert(cluster.clone());
        let namespace = self.workload(workload, &[]).namespace;
        let name = if workload.is_empty() { &self.node.workload } else { workload };
        Some(Tracing {
            cluster,
            authority,
            transport,
            service: format!("{name}.{namespace}").into(),
            sampling_milli: spans.sampling_milli,
            tags: spans.tags.into_iter().collect(),
        })
    }

    /// What a gRPC client or server asks for by the name of its target or address; nothing where that means nothing.
    fn grpc_listener(&mut self, name: &Arc<str>) {
        let listener = match grpc::Asking::read(name) {
            Some(grpc::Asking::Server(bind)) => {
                let (access, documents) = self.access(self.workload("", &[]), Layer::Grpc, Some(bind.port()));
                grpc::server_listener(name, bind, &access, documents)
            }
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
        let serves = Serves::routed(OUTBOUND_HTTP.into());
        let listener = Listener::plain(OUTBOUND_HTTP.into(), bind, Direction::Outbound, serves);
        self.listener(listener, Vec::new());
        if self.node.on_demand {
            return;
        }
        let mut named = BTreeSet::new();
        for compiled in self.sight.all_compiled() {
            for (kind, resource) in compiled.seen_by(self.viewer).iter() {
                self.set.insert(kind, resource.clone());
            }
            named.extend(compiled.secrets());
        }
        named.iter().for_each(|name| self.secret(name));
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

    /// What the proxy answers DNS with.
    fn names(&mut self) {
        for names in self.sight.all_compiled().filter_map(|compiled| compiled.reached.names.as_ref()) {
            self.set.insert(Kind::Names, names.clone());
        }
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
        let service = service.clone();
        let name: Arc<str> = cluster_name(number, "", &service.host).into();
        self.clusters.insert(name.clone());
        let serves = if http {
            let Some(table) = self.sight.table(&key, number).cloned() else { return };
            self.set.insert(Kind::Routes, table.resource.clone());
            self.clusters.extend(table.clusters.iter().cloned());
            Serves::routed(name)
        } else {
            let idle_timeout = self.sight.compiled(&key).and_then(|compiled| compiled.tcp_idle_timeout);
            Serves::Tcp(Tcp::to(name, idle_timeout))
        };
        let name = format!("upstream|{}", upstream.bind).into();
        let mut listener = Listener::plain(name, upstream.bind.clone(), Direction::Outbound, serves);
        let documents =
            if http { Vec::new() } else { self.route_connections(&mut listener, &service, number) };
        self.listener(listener, documents);
    }

    /// Puts the connections that documents route before those that go to the service itself.
    fn route_connections(&mut self, listener: &mut Listener, service: &Service, port: u16) -> Vec<Arc<str>> {
        let (world, client) = (self.sight.world(), self.sight.lens());
        let Some((chains, documents)) = connections::of_port(world, client, service, port) else {
            return Vec::new();
        };
        if !chains.is_empty() {
            listener.default = listener.chains.pop().map(Box::new);
            listener.chains = chains;
            self.clusters.extend(listener.tcp_clusters().cloned());
        }
        documents
    }

    /// The ports that the workload's Sidecar names, which go before those that the proxy's settings do.
    fn ingress(&mut self) {
        let lens = self.sight.lens().clone();
        let (entries, document) = lens.ingress();
        let documents: Vec<Arc<str>> = document.into_iter().collect();
        for entry in entries {
            let protocol = match entry.protocol {
                Protocol::Http => "http",
                Protocol::Http2 => "http2",
                Protocol::Grpc => "grpc",
                Protocol::Tcp | Protocol::Tls => "tcp",
            };
            let inbound = Inbound {
                bind: entry.bind.map(|ip| SocketAddr::new(ip, entry.port).into()),
                service: String::new(),
                port: entry.port,
                app: entry.app.clone(),
                protocol: protocol.to_owned(),
                workload: String::new(),
            };
            self.inbound(&inbound, entry.bind.is_none().then_some(entry.port), &documents);
        }
    }

    /// A port at which others reach a workload. `captured` is the one that they call where that is captured.
    fn inbound(&mut self, inbound: &Inbound, captured: Option<u16>, documents: &[Arc<str>]) {
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
            name =
                format!("inbound|{number}|{}|{host}", inbound.bind.as_ref().unwrap_or(&inbound.app)).into();
        }
        let check = self.probe();
        let app = Endpoint {
            address: match &inbound.app {
                Address::Tcp(app) => app.ip().to_string().into(),
                Address::Unix(path) => path.as_str().into(),
            },
            port: inbound.app.port().unwrap_or(0),
            weight: 1,
            health: Health::Healthy,
            check_port: check.and_then(|check| check.port),
            takes_tls: false,
            workload: self.local_workload(&inbound.workload),
        };
        let alone =
            LocalityEndpoints { priority: 0, locality: Locality::default(), weight: 1, endpoints: vec![app] };
        let endpoints = Endpoints { cluster: name.clone(), localities: vec![alone] };
        let attached = known.map(|(service, _)| (TargetKind::Service, service.key.name.clone()));
        let attached: Vec<_> = attached.into_iter().collect();
        let service = known.map(|(service, _)| super::ir::ServiceName {
            host: service.host.clone(),
            name: service.key.name.clone(),
            namespace: service.key.namespace.clone(),
        });
        let cluster = Cluster {
            service,
            source: self.app_source(&inbound.app),
            check: check.cloned(),
            health_percent_min: check.map(|_| 0),
            ..Cluster::own(name.clone(), Discovery::Static(endpoints), http)
        };
        self.set.insert(Kind::Cluster, services::cluster_resource(&cluster, documents.into()));
        let layer = if http.is_some() { Layer::Http } else { Layer::Tcp };
        // A port that a document makes is the workload's own; else that is where the workload listens.
        let own = inbound.app.port().filter(|_| !inbound.service.is_empty());
        let workload = self.workload(&inbound.workload, &attached);
        let (access, policies) = self.access(workload, layer, Some(own.unwrap_or(number)));
        let mut shaped = documents.to_vec();
        let serves = match layer {
            Layer::Tcp => {
                shaped.extend(policies);
                Serves::Tcp(Tcp { access, ..Tcp::to(name, None) })
            }
            Layer::Http | Layer::Grpc => {
                let (limits, limiting) = self.limits(workload);
                let table = RouteConfig { access, limits, ..inbound_table(name.clone()) };
                let documents = policies.into_iter().chain(limiting).collect();
                self.set.insert(Kind::Routes, tables::table_resource(&table, documents));
                let (tokens, documents) = self.tokens(workload);
                shaped.extend(documents);
                Serves::Http(Http { table: name, tokens })
            }
        };
        // What a Sidecar says of a port is of the one that others call, all else of the workload's own.
        let port = if documents.is_empty() { inbound.app.port() } else { captured };
        let mode = self.mtls_mode(&inbound.workload, port);
        self.captured.extend(captured.map(|port| (port, serves.clone(), mode)));
        let Some(bind) = inbound.bind.clone() else { return };
        let name: Arc<str> = format!("inbound|{bind}").into();
        if self.set.find(Kind::Listener, &name).is_some() {
            return;
        }
        let mut listener = Listener::plain(name, bind, Direction::Inbound, serves);
        self.close_doors(&mut listener, mode);
        self.listener_of(&inbound.workload, listener, shaped);
    }

    /// Which mutual TLS a port of the workload takes; an empty name is the node's own workload.
    fn mtls_mode(&self, workload: &str, port: Option<u16>) -> MtlsMode {
        let named = self.node.workloads.iter().find(|known| !workload.is_empty() && known.name == workload);
        let labels = named.map_or(&self.node.labels, |known| &known.labels);
        let namespace = named.map(|known| known.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let namespace = namespace.unwrap_or(&self.node.namespace);
        self.sight.world().peers.mode(peers::Workload { namespace, labels }, port)
    }

    /// Gives a listener with one chain those that a mode asks for.
    fn close_doors(&self, listener: &mut Listener, mode: MtlsMode) {
        let (mutual, domains) = (self.node.mtls, &self.sight.world().domains);
        let chains = std::mem::take(&mut listener.chains).into_iter();
        listener.chains = chains.flat_map(|chain| peers::doors(chain, mode, mutual, domains)).collect();
        listener.inspection.patience = peers::patience(&listener.chains);
    }

    /// A workload of the node, by its name, with what policies may be attached to; an empty name is the node's own.
    fn workload<'t>(&self, name: &str, targets: &'t [(TargetKind, Arc<str>)]) -> Workload<'t>
    where
        Self: 't,
    {
        let node = self.node;
        let one = node.workloads.iter().find(|one| !name.is_empty() && one.name == name);
        let labels = one.map_or(&node.labels, |one| &one.labels);
        let namespace = one.map(|one| &one.namespace).filter(|namespace| !namespace.is_empty());
        Workload { namespace: namespace.unwrap_or(&node.namespace), labels, targets }
    }

    /// Tokens that are taken of what comes to a workload.
    fn tokens(&self, workload: Workload<'_>) -> (Arc<[TokenProvider]>, Vec<Arc<str>>) {
        let world = self.sight.world();
        tokens::compile(&world.documents, &world.keys, workload)
    }

    /// What is checked of what comes to a workload.
    fn access(&self, workload: Workload<'_>, layer: Layer, port: Option<u16>) -> (Access, Vec<Arc<str>>) {
        let world = self.sight.world();
        let spot = Spot { layer, port, trust_domain: &world.trust_domain };
        access::compile(&world.documents, workload, spot)
    }

    /// What limits the requests to a workload.
    fn limits(&self, workload: Workload<'_>) -> (Limits, Vec<Arc<str>>) {
        limits::compile(&self.sight.world().documents, workload)
    }

    /// One of several workloads of the node, in Istio's form; nothing for the node's own.
    fn local_workload(&self, name: &str) -> Arc<str> {
        let known = |workload: &&LocalWorkload| !name.is_empty() && workload.name == name;
        let Some(workload) = self.node.workloads.iter().find(known) else { return "".into() };
        let namespace =
            if workload.namespace.is_empty() { &self.node.namespace } else { &workload.namespace };
        let label = |names: [&str; 2]| names.into_iter().find_map(|name| workload.labels.get(name));
        let canonical = label(["service.istio.io/canonical-name", "app"]).unwrap_or(&workload.name);
        let revision = label(["service.istio.io/canonical-revision", "version"]);
        let version = Some(&workload.version).filter(|version| !version.is_empty());
        let revision = revision.or(version).map_or("latest", String::as_str);
        format!("{name};{namespace};{canonical};{revision};").into()
    }

    /// Where connections to a workload come from: what goes to the host's own address would be captured again.
    fn app_source(&self, app: &Address) -> Option<IpAddr> {
        let own = matches!(app, Address::Tcp(app) if app.is_ipv4() && !app.ip().is_loopback());
        (own && self.node.inbound_capture.is_some()).then_some(capture::PASSTHROUGH_SOURCE)
    }

    fn inbound_capture(&mut self, bind: SocketAddr) {
        let ports = std::mem::take(&mut self.captured);
        let rest = self.mtls_mode("", None);
        let doors = Doors { mutual: self.node.mtls, domains: &self.sight.world().domains, rest };
        let (_, document) = self.sight.lens().ingress();
        let (access, policies) = self.access(self.workload("", &[]), Layer::Tcp, None);
        let documents = document.into_iter().chain(policies).collect();
        self.listener(capture::inbound(bind, ports, &doors, &access), documents);
        self.own_clusters(&capture::inbound_clusters());
    }

    fn outbound_capture(&mut self, bind: SocketAddr, policy: OutboundPolicy) {
        for compiled in self.sight.all_compiled() {
            for (kind, resource) in compiled.seen_by(self.viewer).iter() {
                self.set.insert(kind, resource.clone());
            }
            for listener in &compiled.reached.listeners {
                // Of two services at one address the first by name has it.
                if self.set.find(Kind::Listener, &listener.name).is_none() {
                    self.set.insert(Kind::Listener, listener.clone());
                }
            }
        }
        if self.sight.is_narrow() {
            // What documents lead to is imported with them.
            self.clusters.extend(self.sight.clusters_of_tables().cloned());
        }
        self.route_captured();
        self.log_captured();
        let seen = self.sight.all_compiled();
        let ports = capture::ports(seen.map(|compiled| (compiled.service(), compiled.tcp_idle_timeout)));
        for (number, port) in ports {
            if port.http {
                self.set.insert(Kind::Routes, self.sight.by_port(number, policy));
            }
            self.listener(port.listener(number, policy), Vec::new());
        }
        self.listener(capture::outbound(bind, policy), Vec::new());
        self.own_clusters(&capture::outbound_clusters());
    }

    /// Listeners at the addresses of services whose connections documents route: they are the client's own.
    fn route_captured(&mut self) {
        for key in connections::routed(self.sight.world()) {
            let Some(compiled) = self.sight.compiled(key).cloned() else { continue };
            let (service, own) = (compiled.service(), &compiled.reached.listeners);
            for mut listener in capture::of_service(service, compiled.tcp_idle_timeout) {
                // Only where it is imported, and no other service has the address.
                let found = self.set.find(Kind::Listener, &listener.name);
                let shared = found.is_some_and(|found| own.iter().any(|own| Arc::ptr_eq(own, found)));
                let (true, Some(port)) = (shared, listener.bind.port()) else { continue };
                let documents = self.route_connections(&mut listener, service, port);
                if !documents.is_empty() {
                    self.listener(listener, documents);
                }
            }
        }
    }

    /// Listeners at the addresses of services are everybody's, unless the client logs what others do not.
    fn log_captured(&mut self) {
        if *self.told("", Direction::Outbound).logs == *self.sight.world().mesh_logs {
            return;
        }
        let seen: Vec<_> = self.sight.all_compiled().cloned().collect();
        for compiled in seen {
            for listener in capture::of_service(compiled.service(), compiled.tcp_idle_timeout) {
                let found = self.set.find(Kind::Listener, &listener.name);
                let shared = &compiled.reached.listeners;
                if found.is_some_and(|found| shared.iter().any(|shared| Arc::ptr_eq(shared, found))) {
                    self.listener(listener, Vec::new());
                }
            }
        }
    }

    fn own_clusters(&mut self, clusters: &[Cluster]) {
        for cluster in clusters {
            self.set.insert(Kind::Cluster, services::cluster_resource(cluster, Arc::new([])));
        }
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
        let world = self.sight.world();
        let ip = self.node.gateway_bind.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        for (number, port) in gateways::ports(world, self.node) {
            let bound = self.node.gateway_ports.get(&number).copied().unwrap_or(number);
            let bind = SocketAddr::new(port.bind.unwrap_or(ip), bound);
            let name: Arc<str> = format!("gateway|{number}").into();
            let attached = port.gateways();
            let workload = self.workload("", &attached);
            let (tokens, authentications) = self.tokens(workload);
            if port.class == ServerClass::Http {
                let (mut table, mut documents) =
                    gateways::table(world, self.node, self.sight.lens(), number, &port);
                let (access, policies) = self.access(workload, Layer::Http, Some(number));
                let (limits, limiting) = self.limits(workload);
                (table.access, table.limits) = (access, limits);
                documents.extend(policies.into_iter().chain(limiting));
                self.clusters.extend(table.clusters().cloned());
                self.set.insert(Kind::Routes, tables::table_resource(&table, documents.clone()));
                documents.extend(authentications);
                let serves = Serves::Http(Http { table: name.clone(), tokens });
                self.listener(Listener::plain(name, bind, Direction::Gateway, serves), documents);
                continue;
            }
            let found = gateways::chains(world, self.node, self.sight.lens(), number, &port);
            if found.chains.is_empty() {
                continue; // No route leads anywhere.
            }
            let (access, policies) = self.access(workload, Layer::Http, Some(number));
            let (limits, limiting) = self.limits(workload);
            for (mut table, mut documents) in found.tables {
                (table.access, table.limits) = (access.clone(), limits.clone());
                documents.extend(policies.iter().chain(&limiting).cloned());
                self.clusters.extend(table.clusters().cloned());
                self.set.insert(Kind::Routes, tables::table_resource(&table, documents));
            }
            found.secrets.into_values().for_each(|secret| self.set.insert(Kind::Secret, secret));
            let mut listener =
                Listener { chains: found.chains, ..Listener::empty(name, bind, Direction::Gateway) };
            let (access, policies) = self.access(workload, Layer::Tcp, Some(number));
            listener.guard_connections(&access);
            listener.authenticate(&tokens);
            self.clusters.extend(listener.tcp_clusters().cloned());
            let shaped = found.documents.into_iter().chain(policies).chain(authentications);
            self.listener(listener, shaped.collect());
        }
    }

    fn secret(&mut self, name: &Arc<str>) {
        if let Some(resource) = secrets::find(&self.sight.world().documents, self.node, name) {
            self.set.insert(Kind::Secret, resource);
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
        let Some((seen, named)) = compiled.map(|it| (it.seen_by(self.viewer), it.secrets())) else { return };
        for (kind, resource) in seen.iter() {
            if resource.name == *name {
                self.set.insert(kind, resource.clone());
            }
        }
        named.iter().for_each(|name| self.secret(name));
    }
}

/// Every request to the workload; its caller retries, not we.
fn inbound_table(cluster: Arc<str>) -> RouteConfig {
    let mut route = tables::default_route(&cluster);
    route.action = super::ir::Action::Forward(super::ir::Forward::plain(cluster.clone(), None));
    let host = VirtualHost { name: cluster.clone(), domains: vec!["*".into()], routes: Arc::new([route]) };
    RouteConfig {
        name: cluster,
        hosts: vec![host],
        on_demand: false,
        ignore_port: false,
        access: Access::default(),
        limits: Limits::default(),
    }
}
