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
    ir::{Access, Limits, RouteConfig, VirtualHost},
    lens::Lens,
    routes::View,
    tables,
};
use crate::documents::{
    Document, Server, ServerClass, TargetKind, VirtualService, claims,
    gateway_api::{EdgeGateway, GATEWAY_KEY, GATEWAY_NAME},
};

mod chains;
mod listeners;
mod names;
mod tls;

pub(crate) use chains::chains;

/// What a proxy serves on a port, all of one class.
pub(crate) struct Port<'a> {
    pub(crate) class: ServerClass,
    /// Address to listen on; none is the proxy's choice.
    pub(crate) bind: Option<IpAddr>,
    /// The oldest first.
    named: Vec<(&'a Arc<Document>, Named<'a>)>,
}

/// What names a port.
#[derive(Clone, Copy)]
enum Named<'a> {
    Server(&'a Server),
    Listener(Served<'a>),
}

impl<'a> Port<'a> {
    fn servers(&self) -> impl Iterator<Item = (&'a Arc<Document>, &'a Server)> {
        self.named.iter().filter_map(|(document, named)| match named {
            Named::Server(server) => Some((*document, *server)),
            Named::Listener(_) => None,
        })
    }

    fn listeners(&self) -> Vec<Served<'a>> {
        let listeners = self.named.iter().filter_map(|(_, named)| match named {
            Named::Server(_) => None,
            Named::Listener(served) => Some(*served),
        });
        listeners.collect()
    }

    /// The gateways of the Gateway API that listen on it, as policies of their namespace are attached to them.
    pub(crate) fn gateways(&self) -> Vec<(TargetKind, Arc<str>)> {
        let listeners = self.listeners();
        listeners.iter().map(|served| (TargetKind::Gateway, served.gateway.name.clone())).collect()
    }
}

/// The ports of a proxy.
pub(crate) fn ports<'a>(world: &'a World, node: &NodeMetadata) -> BTreeMap<u16, Port<'a>> {
    let mut all: Vec<(&'a Arc<Document>, u16, Named<'a>)> = Vec::new();
    for (document, gateway) in world.documents.gateways().filter(|(_, it)| selected(node, &it.selector)) {
        all.extend(gateway.servers.iter().map(|server| (document, server.port, Named::Server(server))));
    }
    for (gateway, spec) in world.documents.edge_gateways().filter(|(document, it)| serves(node, document, it))
    {
        let Some(attached) = world.verdict.attachments.listeners(&gateway.key()) else { continue };
        for (listener, attached) in spec.listeners.iter().zip(attached).filter(|(_, it)| it.serves) {
            let served = Named::Listener(Served { gateway, listener, attached });
            all.push((gateway, listener.port, served));
        }
    }
    all.sort_by(|(a, ..), (b, ..)| a.is_older_than(b).cmp(&b.is_older_than(a)).reverse());
    let mut ports: BTreeMap<u16, Port<'a>> = BTreeMap::new();
    for (document, number, named) in all {
        let (class, bind) = match &named {
            Named::Server(server) => (Some(server.class()), server.bind),
            Named::Listener(served) => (served.listener.class(), None),
        };
        let Some(class) = class else { continue };
        let port = ports.entry(number).or_insert(Port { class, bind, named: Vec::new() });
        if port.class == class && (bind.is_none() || bind == port.bind) {
            port.named.push((document, named));
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

fn name_of(document: &Document) -> String {
    format!("{}/{}", document.namespace, document.name)
}

/// A server of Istio's with its surroundings.
struct Of<'a> {
    world: &'a World,
    node: &'a NodeMetadata,
    client: &'a Lens,
    document: &'a Arc<Document>,
    server: &'a Server,
    gateway: String,
    number: u16,
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
    let listeners = port.listeners();
    let edges = edge::hosts(&listeners);
    let (mut taken, mut all) = (BTreeSet::new(), Vec::new());
    let mut documents: BTreeSet<Arc<str>> = listeners.iter().map(|served| served.gateway.key()).collect();
    // They take hosts from younger routes, and leave them to older ones.
    let mut claim = |document: &Document, host: &Arc<str>| {
        let oldest = edges.get(host).and_then(|edge: &EdgeHost<'_>| edge.oldest);
        oldest.is_none_or(|oldest| document.is_older_than(oldest)) && taken.insert(host.clone())
    };
    for (document, server) in port.servers() {
        let of = Of { world, node, client, document, server, gateway: name_of(document), number };
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
    let table = RouteConfig {
        name,
        hosts: all,
        on_demand: false,
        ignore_port: true,
        access: Access::default(),
        limits: Limits::default(),
    };
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
