//! Which of those that share a TLS port has a name: each name has its own certificate, so that a client which came by
//! another name is not answered for it. It was not asked for what it may be asked for there.

use std::{collections::BTreeMap, sync::Arc};

use super::{Named, Port};
use crate::{
    compile::{edge::takes, ir::VirtualHost, shared::HostRank, tables},
    documents::ServerHost,
};

/// Names and patterns, each with the place on the port of who has it: the oldest that names it.
pub(super) struct Names(BTreeMap<Arc<str>, usize>);

impl Names {
    pub(super) fn of(port: &Port<'_>) -> Self {
        let mut found = BTreeMap::new();
        for (i, (_, named)) in port.named.iter().enumerate() {
            let names: Vec<Arc<str>> = match named {
                Named::Server(server) => {
                    server.hosts.iter().map(|ServerHost { host, .. }| host.text.clone()).collect()
                }
                Named::Listener(served) => vec![served.listener.host()],
            };
            for name in names {
                found.entry(name).or_insert(i);
            }
        }
        Self(found)
    }

    /// Who has a host or pattern: whoever has the most specific name that takes all of it.
    pub(super) fn owner(&self, host: &str) -> Option<usize> {
        let of = self.0.iter().filter(|(name, _)| takes(name, host));
        of.max_by_key(|(name, _)| HostRank::of(name)).map(|(_, owner)| *owner)
    }

    /// Virtual hosts of one of the port, to which those are added whose requests are misdirected (RFC 9110, 15.5.20): the
    /// names of all others. `own` are its names: what they take stays its own where no virtual host takes it.
    pub(super) fn isolated(
        &self,
        owner: usize,
        own: &[Arc<str>],
        mut hosts: Vec<VirtualHost>,
    ) -> Vec<VirtualHost> {
        let others = self.0.iter().filter(|(_, other)| **other != owner).map(|(name, _)| name.clone());
        let domains: Vec<Arc<str>> = others.collect();
        let served = |name: &Arc<str>| hosts.iter().any(|host| host.domains.contains(name));
        let bare = own.iter().filter(|name| {
            !served(name) && !domains.contains(name) && domains.iter().any(|other| takes(other, name))
        });
        let bare: Vec<VirtualHost> = bare.map(nothing).collect();
        hosts.extend(bare);
        if !domains.is_empty() {
            let routes = Arc::new([tables::misdirected()]);
            hosts.insert(0, VirtualHost { name: "misdirected".into(), domains, routes });
        }
        hosts
    }
}

/// A host whose requests find no route.
fn nothing(name: &Arc<str>) -> VirtualHost {
    VirtualHost { name: name.clone(), domains: vec![name.clone()], routes: Arc::new([]) }
}
