//! The filter chains of a port that is not plain HTTP. What an earlier chain takes, a name or all connections, no later one
//! has: the oldest comes first.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use weft_proto::node::NodeMetadata;

use super::{Named, Of, Port, hosts, listeners::On, name_of, names::Names};
use crate::{
    compile::{
        World,
        ir::{Access, Chain, ChainMatch, Limits, RouteConfig, Serves},
        l4::{self, Taken},
        lens::Lens,
    },
    documents::{self, ServerProtocol},
    resource::Resource,
};

/// The chains of a port, with what they name.
#[derive(Default)]
pub(crate) struct Chains {
    pub(crate) chains: Vec<Chain>,
    /// Route tables, each with the documents that shaped it.
    pub(crate) tables: Vec<(RouteConfig, Vec<Arc<str>>)>,
    /// Secrets by name.
    pub(crate) secrets: BTreeMap<Arc<str>, Arc<Resource>>,
    /// Documents that shaped any of it.
    pub(crate) documents: BTreeSet<Arc<str>>,
    pub(super) taken: Taken,
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
    let names = Names::of(port);
    for (i, (document, named)) in port.named.iter().enumerate() {
        found.documents.insert(document.key());
        match named {
            Named::Server(server) => {
                let of = Of { world, node, client, document, server, gateway: name_of(document), number };
                match (server.protocol, &server.tls) {
                    (ServerProtocol::Http, Some(tls)) => found.https(&of, tls, &names, i),
                    (ServerProtocol::Tcp, Some(tls)) => found.terminated(&of, tls),
                    (ServerProtocol::Through, _) => found.through(&of),
                    (ServerProtocol::Tcp, None) => found.bytes(&of),
                    // Of another class.
                    (ServerProtocol::Http, None) => {}
                }
            }
            Named::Listener(served) => {
                found.listener(&On { world, node, client, number, served, names: &names, own: i })
            }
        }
    }
    found
}

impl Chains {
    /// Requests over TLS that ends here, with a table of their own: what is served under another certificate is not.
    fn https(&mut self, of: &Of<'_>, tls: &documents::ServerTls, names: &Names, own: usize) {
        let Some(server_names) = self.taken.take(None, of.names()) else { return };
        let first = server_names.first().map_or("*", |name| name);
        let name: Arc<str> = format!("gateway|{}|{}|{first}", of.number, of.gateway).into();
        let tls = self.server_tls(of, tls, true);
        let matches = ChainMatch { server_names, ..ChainMatch::default() };
        self.chains.push(Chain {
            name: name.clone(),
            matches,
            tls: Some(tls),
            serves: Serves::routed(name.clone()),
        });
        let mut taken = BTreeSet::new();
        let mut claim = |_: &_, host: &Arc<str>| names.owner(host) == Some(own) && taken.insert(host.clone());
        let (found, documents) = hosts(of, &mut claim);
        self.documents.extend(documents.iter().cloned());
        let hosts = names.isolated(own, &of.names(), found);
        let table = RouteConfig {
            name,
            hosts,
            on_demand: false,
            ignore_port: true,
            access: Access::default(),
            limits: Limits::default(),
        };
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
                let context = self.server_tls(of, tls, false);
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
}

/// A server's names, each as narrow as the rules' hosts make it.
fn narrowed(server: &[Arc<str>], served: Vec<Arc<str>>) -> Vec<Arc<str>> {
    match served.iter().any(|host| &**host == "*") {
        true => server.to_vec(),
        false => served,
    }
}
