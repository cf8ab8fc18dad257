//! The chains of a listener of the Gateway API. It keeps its name on the port whether it has routes or not, so that what is
//! for it never goes to a listener with a wider name.

use std::sync::Arc;

use weft_proto::node::NodeMetadata;

use super::{chains::Chains, name_of, names::Names, view};
use crate::{
    compile::{
        World,
        edge::{self, Served},
        ir::{Access, Chain, ChainMatch, Limits, RouteConfig, ServerTls, Serves, VirtualHost},
        lens::Lens,
        routes::View,
    },
    documents::{
        attach::ListenerRoute,
        gateway_api::{ListenerProtocol, ListenerTls, RouteRules},
    },
};

/// A listener on its port.
pub(super) struct On<'a> {
    pub(super) world: &'a World,
    pub(super) node: &'a NodeMetadata,
    pub(super) client: &'a Lens,
    pub(super) number: u16,
    pub(super) served: &'a Served<'a>,
    pub(super) names: &'a Names,
    /// Its place on the port.
    pub(super) own: usize,
}

impl Chains {
    pub(super) fn listener(&mut self, of: &On<'_>) {
        let served = of.served;
        match (&served.listener.protocol, &served.listener.tls) {
            (ListenerProtocol::Https, Some(tls)) => self.requests(of, tls),
            (ListenerProtocol::Tls, Some(tls)) => {
                self.connections(of, Some(tls).filter(|tls| tls.terminates()))
            }
            (ListenerProtocol::Tcp, _) => self.connections(of, None),
            // No such listener is read, or it is of another class.
            (ListenerProtocol::Http | ListenerProtocol::Https | ListenerProtocol::Tls, _)
            | (ListenerProtocol::Other(_), _) => {}
        }
    }

    /// Requests over TLS that ends here.
    fn requests(&mut self, of: &On<'_>, tls: &ListenerTls) {
        let host = of.served.listener.host();
        let Some(server_names) = self.taken.take(None, vec![host.clone()]) else { return };
        let name = of.name(&host);
        let tls = self.listener_tls(of.world, of.node, of.served, tls, true);
        self.chains.push(Chain {
            name: name.clone(),
            matches: ChainMatch { server_names, ..ChainMatch::default() },
            tls: Some(tls),
            serves: Serves::routed(name.clone()),
        });
        let view = of.view();
        let mut documents = vec![of.served.gateway.key()];
        let mut hosts = Vec::new();
        for (host, edge) in edge::hosts(std::slice::from_ref(of.served)) {
            if of.names.owner(&host) != Some(of.own) {
                continue;
            }
            documents.extend(edge.claimants.iter().map(|claimant| claimant.document.key()));
            let (name, routes) =
                (format!("{host}:{}", of.number).into(), view.shared(&edge.claimants).into());
            hosts.push(VirtualHost { name, domains: vec![host], routes });
        }
        documents.sort();
        documents.dedup();
        self.documents.extend(documents.iter().cloned());
        let hosts = of.names.isolated(of.own, &[host], hosts);
        self.tables.push((
            RouteConfig {
                name,
                hosts,
                on_demand: false,
                ignore_port: true,
                access: Access::default(),
                limits: Limits::default(),
            },
            documents,
        ));
    }

    /// Connections, in TLS that goes through or ends here, or in plain text.
    fn connections(&mut self, of: &On<'_>, tls: Option<&ListenerTls>) {
        let host = of.served.listener.host();
        let tls = tls.map(|tls| self.listener_tls(of.world, of.node, of.served, tls, false));
        for route in &of.served.attached.routes {
            let hosts = route.hosts.iter().filter(|host| of.names.owner(host) == Some(of.own));
            self.route(of, route, hosts.cloned().collect(), tls.as_ref());
        }
        let named = of.served.listener.protocol == ListenerProtocol::Tls;
        if let Some(server_names) = self.taken.take(None, vec![host.clone()]).filter(|_| named) {
            let nobody = of.view().nobody(&of.name(&host));
            self.chains.push(chain(of.name(&host), server_names, None, Serves::Tcp(nobody)));
        }
    }

    fn route(&mut self, of: &On<'_>, route: &ListenerRoute, hosts: Vec<Arc<str>>, tls: Option<&ServerTls>) {
        let Some(RouteRules::Stream(backends)) = route.document.route().map(|route| &route.rules) else {
            return;
        };
        if hosts.is_empty() {
            return;
        }
        let Some(server_names) = self.taken.take(None, hosts) else { return };
        let first = server_names.first().map_or_else(|| "*".into(), Arc::clone);
        let name = format!("{}|{}", of.name(&first), name_of(&route.document)).into();
        let to = of.view().stream(&route.document, backends);
        self.chains.push(chain(name, server_names, tls.cloned(), Serves::Tcp(to)));
        self.documents.insert(route.document.key());
    }
}

impl On<'_> {
    fn view(&self) -> View<'_> {
        view(self.world, self.client, self.number)
    }

    /// The name of a chain, or of its table.
    fn name(&self, host: &str) -> Arc<str> {
        format!("gateway|{}|{}|{host}", self.number, name_of(self.served.gateway)).into()
    }
}

fn chain(name: Arc<str>, server_names: Vec<Arc<str>>, tls: Option<ServerTls>, serves: Serves) -> Chain {
    Chain { name, matches: ChainMatch { server_names, ..ChainMatch::default() }, tls, serves }
}
