//! Route tables with the hosts that came on demand put in. Pure.

use std::{collections::BTreeMap, sync::Arc};

use crate::spec::{RouteConfig, VirtualHost};

/// Tables that are on demand, as requests see them.
#[derive(Debug, Default)]
pub(super) struct Tables {
    whole: BTreeMap<Arc<str>, Table>,
}

#[derive(Debug)]
struct Table {
    base: Arc<RouteConfig>,
    hosts: Vec<Arc<VirtualHost>>,
    whole: Arc<RouteConfig>,
}

impl Tables {
    /// Puts hosts, in the order of their names, into the tables that their names begin with. What did not change stays the
    /// same allocation.
    pub(super) fn update<'a>(
        &mut self,
        tables: impl Iterator<Item = &'a Arc<RouteConfig>>,
        hosts: &[&'a Arc<VirtualHost>],
    ) {
        let mut next = BTreeMap::new();
        for base in tables.filter(|table| table.on_demand) {
            let of_table = |host: &&&Arc<VirtualHost>| {
                host.name.strip_prefix(&*base.name).is_some_and(|rest| rest.starts_with('/'))
            };
            let hosts: Vec<_> = hosts.iter().filter(of_table).map(|host| Arc::clone(host)).collect();
            let same = |before: &Table| {
                Arc::ptr_eq(&before.base, base)
                    && before.hosts.len() == hosts.len()
                    && before.hosts.iter().zip(&hosts).all(|(a, b)| Arc::ptr_eq(a, b))
            };
            let kept = self.whole.remove(&base.name).filter(same);
            let table = kept.unwrap_or_else(|| {
                let mut whole = RouteConfig::clone(base);
                whole.virtual_hosts.extend(hosts.iter().map(|host| VirtualHost::clone(host)));
                Table { base: base.clone(), hosts, whole: Arc::new(whole) }
            });
            next.insert(base.name.clone(), table);
        }
        self.whole = next;
    }

    /// A table as requests see it.
    pub(super) fn of<'a>(&'a self, base: &'a Arc<RouteConfig>) -> &'a Arc<RouteConfig> {
        self.whole.get(&base.name).map_or(base, |table| &table.whole)
    }
}
