//! What a gateway proxy serves on each of its ports: servers of Istio's `Gateway` and listeners of the Gateway API's.
//!
//! A port is what the oldest that names it says: plain HTTP, TLS, which is told apart by name and ends there or goes
//! through, or plain bytes. Others that name the same port are not served there, and are told so.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use weft_proto::node::NodeMetadata;

use super::{
    World,
    edge::{self, EdgeHost, Served},
    ir::{Authorities, Certificate, Chain, ChainMatch, Clients, RouteConfig, ServerTls, Serves, VirtualHost},
    l4::{self, Taken},
    lens::Lens,
    routes::View,
    secrets, tables,
};
use crate::documents::{
    self, Credentials, Document, Server, ServerClass, ServerMode, ServerProtocol, VirtualService, claims,
    gateway_api::{EdgeGateway, GATEWAY_KEY, GATEWAY_NAME},
    hosts::host_matches,
};

/// What a proxy serves on a port, the oldest first, all of one class.
pub(crate) struct Port<'a> {
    pub(crate) class: ServerClass,
    /// Address to listen on; none is the proxy's choice.
    pub(crate) bind: Option<IpAddr>,
    servers: Vec<(&'a Arc<Document>, &'a Server)>,
    listeners: Vec<Served<'a>>,
}

/// What names a port.
enum Named<'a> {
    Server(&'a Server),
    Listener(Served<'a>),
}

/// The ports of a proxy.
pub(crate) fn ports<'a>(world: &'a World, node: &NodeMetadata) -> BTreeMap<u16, Port<'a>> {
    let mut named: Vec<(&'a Arc<Document>, u16, Named<'a>)> = Vec::new();
    for (document, gateway) in world.documents.gateways().filter(|(_, it)| selected(node, &it.selector)) {
        named.extend(gateway.servers.iter().map(|server| (document, server.port, Named::Server(server))));
    }
    for (gateway, spec) in world.documents.edge_gateways().filter(|(document, it)| serves(node, document, it))
    {
        let Some(attached) = world.verdict.attachments.listeners(&gateway.key()) else { continue };
        for (listener, attached) in spec.listeners.iter().zip(attached).filter(|(_, it)| it.serves) {
            let served = Named::Listener(Served { gateway, listener, attached });
            named.push((gateway, listener.port, served));
        }
    }
    named.sort_by(|(a, ..), (b, ..)| a.is_older_than(b).cmp(&b.is_older_than(a)).reverse());
    let mut ports: BTreeMap<u16, Port<'a>> = BTreeMap::new();
    for (document, number, named) in named {
        let (class, bind) = match &named {
            Named::Server(server) => (server.class(), server.bind),
            Named::Listener(_) => (ServerClass::Http, None),
        };
        let empty = Port { class, bind, servers: Vec::new(), listeners: Vec::new() };
        let port = ports.entry(number).or_insert(empty);
        if port.class != class || (bind.is_some() && bind != port.bind) {
            continue;
        }
        match named {
            Named::Server(server) => port.servers.push((document, server)),
            Named::Listener(served) => port.listeners.push(served),
        }
    }
    ports
}

/// Whether a proxy has all labels that a gateway asks for.
fn selected(node: &NodeMetadata, labels: &BTreeMap<Arc<str>, Arc<str>>) -> bool {
    labels.iter().all(|(name, value)| node.labels.get(&**name).is_some_and(|has| **has == **value))
}

/// Whether a proxy serves a gateway of the Gateway API: the one that it is made for, else every one whose labels it has.
fn serves(node: &NodeMetadata, document: &Document, gateway: &EdgeGateway) -> bool {
    debug_assert_eq!(document.kind, GATEWAY_KEY);
    let made_for = |name: &String| **name == *document.name && *node.namespace == *document.namespace;
    node.labels.get(GATEWAY_NAME).is_none_or(made_for) && selected(node, &gateway.labels)
}

/// The chains of a port, with what they name.
#[derive(Default)]
pub(crate) struct Chains {
    pub(crate) chains: Vec<Chain>,
    /// Route tables, each with the documents that shaped it.
    pub(crate) tables: Vec<(RouteConfig, Vec<Arc<str>>)>,
    /// Names of secrets.
    pub(crate) secrets: BTreeSet<Arc<str>>,
    /// Documents that shaped any of it.
    pub(crate) documents: BTreeSet<Arc<str>>,
    taken: Taken,
}

/// Compiles a port that is not plain HTTP.
pub(crate) fn chains(
    world: &World,
    node: &NodeMetadata,
    client: &Lens,
    number: u16,
    port: &Port<'_>,
) -> Chains {
    let mut found = Chains::default();
    let owners = owners(port);
    for (i, (document, server)) in port.servers.iter().enumerate() {
        found.documents.insert(document.key());
        let foreign = foreign(server, &owners, i);
        let of = Of { world, node, client, document, server, gateway: name_of(document), number, foreign };
        match (server.protocol, &server.tls) {
            (ServerProtocol::Http, Some(tls)) => found.https(&of, tls),
            (ServerProtocol::Tcp, Some(tls)) => found.terminated(&of, tls),
            (ServerProtocol::Through, _) => found.through(&of),
            (ServerProtocol::Tcp, None) => found.bytes(&of),
            // Of another class.
            (ServerProtocol::Http, None) => {}
        }
    }
    found
}

fn name_of(document: &Document) -> String {
    format!("{}/{}", document.namespace, document.name)
}

/// The server that has each name of a port, by its place.
fn owners(port: &Port<'_>) -> BTreeMap<Arc<str>, usize> {
    let mut owners = BTreeMap::new();
    for (i, (_, server)) in port.servers.iter().enumerate() {
        for host in &server.hosts {
            owners.entry(host.host.text.clone()).or_insert(i);
        }
    }
    owners
}

/// The names of other servers that a server's hosts would take, did not each name have its own certificate. A client that
/// came by another name is not answered for them: it was not asked for what they may ask of it.
fn foreign(server: &Server, owners: &BTreeMap<Arc<str>, usize>, own: usize) -> Vec<Arc<str>> {
    let takes = |name: &Arc<str>| {
        server.hosts.iter().any(|host| host.host.text == *name || host_matches(&host.host.text, name))
    };
    owners
        .iter()
        .filter(|(name, owner)| **owner != own && takes(name))
        .map(|(name, _)| name.clone())
        .collect()
}

/// One server with its surroundings.
struct Of<'a> {
    world: &'a World,
    node: &'a NodeMetadata,
    client: &'a Lens,
    document: &'a Arc<Document>,
    server: &'a Server,
    gateway: String,
    number: u16,
    foreign: Vec<Arc<str>>,
}

impl<'a> Of<'a> {
    fn view(&self) -> View<'_> {
        View { gateway: &self.gateway, ..view(self.world, self.client, self.number) }
    }

    /// Virtual services of the gateway, the oldest first.
    fn rules(&self) -> impl Iterator<Item = (&'a Arc<Document>, &'a VirtualService)> {
        let rules = self.world.documents.virtual_services();
        rules.filter(|(document, rule)| {
            document.is_visible_in(&self.node.namespace) && claims::belongs(document, rule, &self.gateway)
        })
    }

    /// What a document may serve of a host.
    fn narrow(&self, document: &Document, host: &Arc<str>) -> Option<Arc<str>> {
        self.server.narrow(&self.document.namespace, &document.namespace, host)
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.server.hosts.iter().map(|host| host.host.text.clone()).collect()
    }
}

impl Chains {
    /// Requests over TLS that ends here, with a table of their own: what is served under another certificate is not.
    fn https(&mut self, of: &Of<'_>, tls: &documents::ServerTls) {
        let Some(server_names) = self.taken.take(None, of.names()) else { return };
        let first = server_names.first().map_or("*", |name| name);
        let name: Arc<str> = format!("gateway|{}|{}|{first}", of.number, of.gateway).into();
        let tls = self.context(of, tls, true);
        let matches = ChainMatch { server_names, ..ChainMatch::default() };
        self.chains.push(Chain {
            name: name.clone(),
            matches,
            tls: Some(tls),
            serves: Serves::Named(name.clone()),
        });
        let domains = of.foreign.clone();
        let mut taken: BTreeSet<Arc<str>> = domains.iter().cloned().collect();
        let (found, documents) = hosts(of, &mut |_, host| taken.insert(host.clone()));
        let misdirected = (!domains.is_empty()).then(|| VirtualHost {
            name: "misdirected".into(),
            domains,
            routes: Arc::new([tables::misdirected()]),
        });
        let hosts = misdirected.into_iter().chain(found).collect();
        self.documents.extend(documents.iter().cloned());
        let table = RouteConfig { name, hosts, on_demand: false, ignore_port: true };
        self.tables.push((table, documents.into_iter().collect()));
    }

    /// Bytes in TLS that ends here.
    fn terminated(&mut self, of: &Of<'_>, tls: &documents::ServerTls) {
        let names = of.names();
        for (document, rule) in of.rules() {
            let served: Vec<Arc<str>> =
                rule.hosts.iter().filter_map(|host| of.narrow(document, &host.text)).collect();
            let names = if served.is_empty() { continue } else { narrowed(&names, served) };
            let mut chains = l4::tcp_chains(&of.view(), document, rule, &names, &mut self.taken);
            if !chains.is_empty() {
                let context = self.context(of, tls, false);
                chains.iter_mut().for_each(|chain| chain.tls = Some(context.clone()));
                self.documents.insert(document.key());
                self.chains.extend(chains);
            }
        }
    }

    /// TLS that goes through.
    fn through(&mut self, of: &Of<'_>) {
        for (document, rule) in of.rules() {
            let narrow = |host: &Arc<str>| of.narrow(document, host);
            let chains = l4::tls_chains(&of.view(), document, rule, narrow, &mut self.taken);
            if !chains.is_empty() {
                self.documents.insert(document.key());
                self.chains.extend(chains);
            }
        }
    }

    /// Bytes in plain text. Without a name nothing tells hosts apart: any that the server takes is enough.
    fn bytes(&mut self, of: &Of<'_>) {
        for (document, rule) in of.rules() {
            if !rule.hosts.iter().any(|host| of.narrow(document, &host.text).is_some()) {
                continue;
            }
            let chains = l4::tcp_chains(&of.view(), document, rule, &[], &mut self.taken);
            if !chains.is_empty() {
                self.documents.insert(document.key());
                self.chains.extend(chains);
            }
        }
    }

    fn context(&mut self, of: &Of<'_>, tls: &documents::ServerTls, http: bool) -> ServerTls {
        let mut delivered = |name: Arc<str>| {
            if secrets::find(&of.world.documents, of.node, &name).is_none() {
                return secrets::missing(&name);
            }
            self.secrets.insert(name.clone());
            name
        };
        let (certificates, authorities) = match &tls.credentials {
            Credentials::Secrets(names) => {
                let certificate = |name| Certificate::Secret(delivered(secrets::certificate_name(name)));
                let certificates = names.iter().map(|name| &**name).map(certificate).collect();
                let first = names.first().map_or("", |name| name);
                let authorities = tls
                    .verifies_clients()
                    .then(|| Authorities::Secret(delivered(secrets::authorities_name(first))));
                (certificates, authorities)
            }
            Credentials::Files { certificates, authorities, revocations } => {
                let pair =
                    |(chain, key): &(Arc<str>, Arc<str>)| Certificate::Files(chain.clone(), key.clone());
                let authorities =
                    authorities.clone().map(|path| Authorities::Files(path, revocations.clone()));
                (certificates.iter().map(pair).collect(), authorities)
            }
            // No document is without.
            Credentials::None => (Vec::new(), None),
        };
        let clients = authorities.filter(|_| tls.verifies_clients()).map(|authorities| Clients {
            required: tls.mode == ServerMode::Mutual,
            authorities,
            names: tls.names.clone(),
            key_pins: tls.key_pins.clone(),
            certificate_pins: tls.certificate_pins.clone(),
        });
        ServerTls { certificates, clients, http, min: tls.min, max: tls.max, suites: tls.suites.clone() }
    }
}

/// A server's names, each as narrow as the rules' hosts make it.
fn narrowed(server: &[Arc<str>], served: Vec<Arc<str>>) -> Vec<Arc<str>> {
    match served.iter().any(|host| &**host == "*") {
        true => server.to_vec(),
        false => served,
    }
}

/// The virtual hosts of a server, and the documents that shaped them. `claim` says whether a document has a host, which
/// then no other one has.
fn hosts(
    of: &Of<'_>,
    claim: &mut impl FnMut(&Document, &Arc<str>) -> bool,
) -> (Vec<VirtualHost>, BTreeSet<Arc<str>>) {
    let (mut hosts, mut documents) = (Vec::new(), BTreeSet::from([of.document.key()]));
    for (document, rule) in of.rules().filter(|(_, rule)| !rule.http.is_empty()) {
        let served = rule.hosts.iter().filter_map(|host| of.narrow(document, &host.text));
        let domains: Vec<Arc<str>> = served.filter(|host| claim(document, host)).collect();
        if let Some(first) = domains.first() {
            let name = format!("{first}:{}", of.number).into();
            let routes = of.view().routes(document, rule).into();
            hosts.push(VirtualHost { name, domains, routes });
            documents.extend(document.keys());
        }
    }
    (hosts, documents)
}

/// The table of a port of plain HTTP, and the keys of all documents that shaped it. The oldest document to claim a host
/// has it: a virtual service or a redirecting server alone, routes together.
pub(crate) fn table(
    world: &World,
    node: &NodeMetadata,
    client: &Lens,
    number: u16,
    port: &Port<'_>,
) -> (RouteConfig, Vec<Arc<str>>) {
    let edges = edge::hosts(&port.listeners);
    let (mut taken, mut all) = (BTreeSet::new(), Vec::new());
    let mut documents: BTreeSet<Arc<str>> =
        port.listeners.iter().map(|served| served.gateway.key()).collect();
    // They take hosts from younger routes, and leave them to older ones.
    let mut claim = |document: &Document, host: &Arc<str>| {
        let oldest = edges.get(host).and_then(|edge: &EdgeHost<'_>| edge.oldest);
        oldest.is_none_or(|oldest| document.is_older_than(oldest)) && taken.insert(host.clone())
    };
    for (document, server) in &port.servers {
        let (gateway, foreign) = (name_of(document), Vec::new());
        let of = Of { world, node, client, document, server, gateway, number, foreign };
        documents.insert(document.key());
        if server.redirect {
            all.extend(redirected(&of, &mut claim));
            continue;
        }
        let (found, shaped) = hosts(&of, &mut claim);
        all.extend(found);
        documents.extend(shaped);
    }
    let view = view(world, client, number);
    for (host, edge) in edges.iter().filter(|(host, _)| !taken.contains(*host)) {
        documents.extend(edge.claimants.iter().map(|claimant| claimant.document.key()));
        let (name, domains) = (format!("{host}:{number}").into(), vec![host.clone()]);
        all.push(VirtualHost { name, domains, routes: view.shared(&edge.claimants).into() });
    }
    let name = format!("gateway|{number}").into();
    let table = RouteConfig { name, hosts: all, on_demand: false, ignore_port: true };
    (table, documents.into_iter().collect())
}

/// Every request to the hosts of a server is told to come over HTTPS.
fn redirected(of: &Of<'_>, claim: &mut impl FnMut(&Document, &Arc<str>) -> bool) -> Option<VirtualHost> {
    let domains: Vec<Arc<str>> = of.names().into_iter().filter(|host| claim(of.document, host)).collect();
    let name = format!("{}:{}", domains.first()?, of.number).into();
    Some(VirtualHost { name, domains, routes: Arc::new([tables::https_redirect()]) })
}

/// What routes are looked at from, for those of no gateway by name.
fn view<'a>(world: &'a World, client: &'a Lens, port: u16) -> View<'a> {
    View {
        hosts: &world.hosts,
        services: &world.services,
        rules: &world.rules,
        grants: &world.verdict.attachments.grants,
        client,
        gateway: "",
        port,
    }
}
