//! What a gateway proxy serves on each of its ports: servers of Istio's `Gateway` and listeners of the Gateway API's.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use weft_proto::node::NodeMetadata;

use crate::{
    compile::{
        World,
        edge::{self, EdgeHost, Served},
        ir::{RouteConfig, VirtualHost},
        routes::View,
    },
    documents::{
        Document, Server, claims,
        gateway_api::{EdgeGateway, GATEWAY_KEY},
        hosts::narrower,
    },
};

/// Label of a proxy that serves one gateway of the Gateway API alone, by name, in its own namespace.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// What is served on one port.
#[derive(Default)]
pub(super) struct Port<'a> {
    servers: Vec<(&'a Arc<Document>, &'a Server)>,
    listeners: Vec<Served<'a>>,
}

/// The ports of a proxy, each with all that it serves there; of the gateways the oldest first.
pub(super) fn ports<'a>(world: &'a World, node: &NodeMetadata) -> BTreeMap<u16, Port<'a>> {
    let mut ports: BTreeMap<u16, Port<'a>> = BTreeMap::new();
    for (document, gateway) in world.documents.gateways().filter(|(_, it)| selected(node, &it.selector)) {
        for server in &gateway.servers {
            ports.entry(server.port).or_default().servers.push((document, server));
        }
    }
    for (gateway, spec) in world.documents.edge_gateways().filter(|(document, it)| serves(node, document, it))
    {
        let Some(attached) = world.verdict.attachments.listeners(&gateway.key()) else { continue };
        for (listener, attached) in spec.listeners.iter().zip(attached).filter(|(_, it)| it.serves) {
            let served = Served { gateway, listener, attached };
            ports.entry(listener.port).or_default().listeners.push(served);
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

impl<'a> Port<'a> {
    /// The table of the port, and the keys of all documents that shaped it. The oldest document to claim a host has it:
    /// a virtual service alone, routes together.
    pub(super) fn table(&self, world: &'a World, client: &str, port: u16) -> (RouteConfig, Vec<Arc<str>>) {
        let mut edges = edge::hosts(&self.listeners);
        let mut documents: BTreeSet<Arc<str>> =
            self.listeners.iter().map(|served| served.gateway.key()).collect();
        let mut hosts = self.virtual_services(world, client, port, &mut edges, &mut documents);
        let view = view(world, client, "", port);
        for (host, edge) in edges {
            documents.extend(edge.claimants.iter().map(|claimant| claimant.document.key()));
            let name = format!("{host}:{port}").into();
            hosts.push(VirtualHost {
                name,
                domains: vec![host],
                routes: view.shared(&edge.claimants).into(),
            });
        }
        let name = format!("gateway|{port}").into();
        (RouteConfig { name, hosts, on_demand: false, ignore_port: true }, documents.into_iter().collect())
    }

    /// The hosts that virtual services have. They take them from younger routes, and leave them to older ones.
    fn virtual_services(
        &self,
        world: &'a World,
        client: &str,
        port: u16,
        edges: &mut BTreeMap<Arc<str>, EdgeHost<'a>>,
        documents: &mut BTreeSet<Arc<str>>,
    ) -> Vec<VirtualHost> {
        let (mut taken, mut hosts) = (BTreeSet::new(), Vec::new());
        for (gateway_document, server) in &self.servers {
            documents.insert(gateway_document.key());
            let gateway = format!("{}/{}", gateway_document.namespace, gateway_document.name);
            let rules = world.documents.virtual_services().filter(|(document, rule)| {
                document.is_visible_in(client) && claims::belongs(document, rule, &gateway)
            });
            for (document, rule) in rules {
                let both = |host: &Arc<str>| server.hosts.iter().find_map(|of| narrower(&of.text, host));
                let served = rule.hosts.iter().filter_map(|host| both(&host.text));
                let left = served.filter(|host| {
                    let oldest = edges.get(host).and_then(|edge| edge.oldest);
                    oldest.is_none_or(|oldest| document.is_older_than(oldest))
                });
                let domains: Vec<Arc<str>> = left.filter(|host| taken.insert(host.clone())).collect();
                if let Some(first) = domains.first() {
                    let name = format!("{first}:{port}").into();
                    let routes = view(world, client, &gateway, port).routes(document, rule).into();
                    hosts.push(VirtualHost { name, domains, routes });
                    documents.insert(document.key());
                }
            }
        }
        edges.retain(|host, _| !taken.contains(host));
        hosts
    }
}

fn view<'a>(world: &'a World, client: &'a str, gateway: &'a str, port: u16) -> View<'a> {
    View {
        hosts: &world.hosts,
        services: &world.services,
        rules: &world.rules,
        grants: &world.verdict.attachments.grants,
        client,
        gateway,
        port,
    }
}
