//! Which host of the mesh a name means. Pure.

use std::{collections::HashMap, sync::Arc};

use crate::spec::{MeshHost, MeshHosts};

/// Names as one namespace sees them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    by_name: HashMap<Arc<str>, Arc<MeshHost>>,
    /// Search domains of the host, lower case.
    search: Vec<String>,
}

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// It is a name of this host.
    Host(&'a MeshHost),
    /// It is this name of that host, with a search domain after it.
    Searched(&'a str, &'a MeshHost),
}

impl Table {
    /// The names that mean something in a namespace. Of two hosts with one name the first by namespace and host has it.
    pub fn new(hosts: &MeshHosts, namespace: &str, search: Vec<String>) -> Self {
        let mut ordered: Vec<&Arc<MeshHost>> = hosts.values().collect();
        ordered.sort_by(|a, b| (&a.namespace, &a.host).cmp(&(&b.namespace, &b.host)));
        let mut by_name = HashMap::new();
        // A short name is that of its namespace's service first, whatever a host elsewhere calls itself.
        let near = ordered.iter().filter(|host| *host.namespace == *namespace && !host.short_name.is_empty());
        for host in near {
            by_name.entry(host.short_name.clone()).or_insert_with(|| Arc::clone(host));
        }
        for host in ordered {
            for name in &host.names {
                by_name.entry(name.clone()).or_insert_with(|| host.clone());
            }
        }
        Self { by_name, search }
    }

    /// What a name means, lower case and without a dot at its end.
    pub fn find<'a>(&'a self, name: &'a str) -> Option<Meaning<'a>> {
        if let Some(host) = self.by_name.get(name) {
            return Some(Meaning::Host(host));
        }
        self.search.iter().find_map(|domain| {
            let before = name.strip_suffix(domain.as_str())?.strip_suffix('.')?;
            Some(Meaning::Searched(before, self.by_name.get(before)?))
        })
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn host(namespace: &str, short: &str, names: &[&str], addresses: &[&str]) -> Arc<MeshHost> {
        Arc::new(MeshHost {
            host: names[0].into(),
            names: names.iter().map(|name| Arc::from(*name)).collect(),
            short_name: short.into(),
            namespace: namespace.into(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        })
    }

    pub(crate) fn table(hosts: &[Arc<MeshHost>]) -> Table {
        let hosts = hosts.iter().map(|host| (host.host.clone(), host.clone())).collect();
        Table::new(
            &Arc::new(hosts),
            "shop",
            vec!["shop.svc.cluster.local".to_owned(), "corp.test".to_owned()],
        )
    }

    #[test]
    fn a_name_means_a_host_as_its_namespace_and_search_domains_say() {
        let full = |name: &str, namespace: &str| format!("{name}.{namespace}.svc.cluster.local");
        let table = table(&[
            host("shop", "db", &[&full("db", "shop"), "db.shop", "db.service.consul"], &["240.240.0.1"]),
            host("bank", "db", &[&full("db", "bank"), "db.bank", "ledger"], &["240.240.0.2"]),
            host("bank", "", &["api.example.com", "db.service.consul"], &["240.241.0.1"]),
        ]);
        for (name, expected) in [
            ("db", Some("shop")),
            ("db.shop", Some("shop")),
            ("db.bank", Some("bank")),
            ("ledger", Some("bank")),
            ("db.shop.svc.cluster.local", Some("shop")),
            ("db.corp.test", Some("shop")),
            ("ledger.corp.test", Some("bank")),
            ("api.example.com", Some("bank")),
            ("api.example.com.shop.svc.cluster.local", Some("bank")),
            ("xdb", None),
            ("dbcorp.test", None),
            ("corp.test", None),
            (".corp.test", None),
            ("example.com", None),
            ("", None),
        ] {
            let found = table.find(name).map(|found| match found {
                Meaning::Host(host) | Meaning::Searched(_, host) => host.namespace.clone(),
            });
            assert_eq!(found.as_deref(), expected, "{name}");
        }
        let Some(Meaning::Host(first)) = table.find("db.service.consul") else { panic!("no host") };
        assert_eq!(&*first.namespace, "bank", "the first by namespace has a name that two claim");
        assert!(matches!(table.find("ledger.corp.test"), Some(Meaning::Searched("ledger", _))));
    }
}
