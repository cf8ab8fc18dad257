//! `tls` and `tcp` routes of virtual services become filter chains.
//!
//! Rules are looked at in their order, those of the older document first: what an earlier chain takes, a name at an
//! address, no later one has.

use std::{collections::BTreeSet, sync::Arc};

use ipnet::IpNet;

use super::{
    ir::{Access, Chain, ChainMatch, Serves, Tcp},
    routes::View,
};
use crate::documents::{ConnectionMatch, Destination, Document, VirtualService};

/// What the chains of a listener take: a server's name, or none for any, at an address.
#[derive(Default)]
pub(crate) struct Taken(BTreeSet<(Option<IpNet>, Arc<str>)>);

impl Taken {
    /// The names that are still free at an address, which are so no longer. `*` is any name, and comes alone.
    pub(crate) fn take(&mut self, address: Option<IpNet>, names: Vec<Arc<str>>) -> Option<Vec<Arc<str>>> {
        let any = names.is_empty() || names.iter().any(|name| &**name == "*");
        let names = if any { vec!["".into()] } else { names };
        let free: Vec<Arc<str>> =
            names.into_iter().filter(|name| self.0.insert((address, name.clone()))).collect();
        match free.as_slice() {
            [] => None,
            [one] if one.is_empty() => Some(Vec::new()),
            _ => Some(free),
        }
    }
}

/// The chains of the `tls` rules, for names that `narrow` leaves.
pub(crate) fn tls_chains(
    view: &View<'_>,
    document: &Document,
    service: &VirtualService,
    narrow: impl Fn(&Arc<str>) -> Option<Arc<str>>,
    taken: &mut Taken,
) -> Vec<Chain> {
    let mut chains = Vec::new();
    for (i, rule) in service.tls.iter().enumerate() {
        for (j, found) in rule.matches.iter().enumerate() {
            if !view.concerns_connection(document, &found.connection) {
                continue;
            }
            let names: Vec<Arc<str>> = found.sni_hosts.iter().filter_map(|name| narrow(&name.text)).collect();
            if names.is_empty() {
                continue;
            }
            let name = format!("{}/{}|tls[{i}].match[{j}]", document.namespace, document.name);
            let base = Base { view, document, name, route: &rule.route };
            chains.extend(base.chains(&found.connection, &names, taken));
        }
    }
    chains
}

/// The chains of the `tcp` rules, for `names` alone where there are any.
pub(crate) fn tcp_chains(
    view: &View<'_>,
    document: &Document,
    service: &VirtualService,
    names: &[Arc<str>],
    taken: &mut Taken,
) -> Vec<Chain> {
    let mut chains = Vec::new();
    for (i, rule) in service.tcp.iter().enumerate() {
        let every = [ConnectionMatch::default()];
        let matches = if rule.matches.is_empty() { &every[..] } else { &rule.matches[..] };
        for (j, found) in matches.iter().enumerate() {
            if view.concerns_connection(document, found) {
                let name = format!("{}/{}|tcp[{i}].match[{j}]", document.namespace, document.name);
                let base = Base { view, document, name, route: &rule.route };
                chains.extend(base.chains(found, names, taken));
            }
        }
    }
    chains
}

/// What the chains of one alternative have in common.
struct Base<'a> {
    view: &'a View<'a>,
    document: &'a Document,
    name: String,
    route: &'a [Destination],
}

impl Base<'_> {
    /// One for each address, so that each has just the names that are free there.
    fn chains(&self, found: &ConnectionMatch, names: &[Arc<str>], taken: &mut Taken) -> Vec<Chain> {
        let addresses: Vec<Option<IpNet>> = match found.destinations.as_slice() {
            [] => vec![None],
            nets => nets.iter().map(|net| Some(net.trunc())).collect(),
        };
        let live = self.route.iter().filter(|to| to.weight > 0);
        let clusters: Vec<(Arc<str>, u32)> =
            live.map(|to| (self.view.cluster(self.document, to), to.weight)).collect();
        let mut chains = Vec::new();
        for address in addresses {
            let Some(server_names) = taken.take(address, names.to_vec()) else { continue };
            let at = address.map(|net| format!("|{net}")).unwrap_or_default();
            let first = server_names.first().map(|name| format!("|{name}")).unwrap_or_default();
            chains.push(Chain {
                name: format!("{}{at}{first}", self.name).into(),
                matches: ChainMatch {
                    destinations: address.into_iter().collect(),
                    server_names,
                    ..ChainMatch::default()
                },
                tls: None,
                serves: Serves::Tcp(Tcp {
                    clusters: clusters.clone(),
                    idle_timeout: None,
                    access: Access::default(),
                }),
            });
        }
        chains
    }
}
