//! Which destination rules count for a client that calls a host. Istio's order: those of the client's own namespace, else
//! those of the service's, else those of the root namespace; the first namespace that has any decides alone. Of its rules
//! the exact host counts, else the longest pattern.

use std::{collections::BTreeMap, sync::Arc};

use crate::documents::{Document, DocumentSet, ROOT_NAMESPACE, by_host::ByHost, hosts::Hosts};

/// Destination rules by the host that they are for, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    by_host: ByHost<Vec<Arc<Document>>>,
}

impl Rules {
    pub(crate) fn new(documents: &DocumentSet, hosts: &Hosts) -> Self {
        let mut by_host: BTreeMap<_, Vec<Arc<Document>>> = BTreeMap::new();
        for (document, rule) in documents.destination_rules() {
            let host = hosts.canonical(&rule.host.text, &document.namespace);
            by_host.entry(host).or_default().push(document.clone());
        }
        Self { by_host: ByHost::new(by_host) }
    }

    /// The rules for a host of namespace `home`, as a client's namespace sees them.
    pub(crate) fn of(&self, host: &str, home: &str, client: &str) -> Vec<Arc<Document>> {
        let of_namespace = |namespace: &str| {
            let counts = |document: &&Arc<Document>| {
                *document.namespace == *namespace && document.is_visible_in(client)
            };
            let lists = self.by_host.all_of(host).map(|list| list.iter().filter(counts).cloned());
            lists.map(Iterator::collect::<Vec<_>>).find(|found| !found.is_empty())
        };
        [client, home, ROOT_NAMESPACE].into_iter().find_map(of_namespace).unwrap_or_default()
    }

    /// Namespaces whose clients may see other rules than strangers do.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_host.iter().flat_map(|(_, list)| list.iter().map(|document| &document.namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents;

    #[test]
    fn the_clients_namespace_decides_then_the_services_then_the_root() {
        let rule = |namespace: &str, name: &str, host: &str, export: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: \
                 {namespace}}}\nspec: {{host: {host}, exportTo: [{export}]}}\n---\n"
            )
        };
        let yaml = [
            rule("client", "wide", "'*.shop'", "."),
            rule("client", "narrow", "api.shop", "."),
            rule("shop", "own", "api.shop", "'*'"),
            rule("shop", "private", "db.shop", "."),
            rule("istio-system", "root", "'*'", "'*'"),
            rule("third", "no-say", "api.shop", "'*'"),
        ]
        .concat();
        let (documents, problems) = documents::parse(&yaml, "test", 1);
        assert_eq!(problems, []);
        let rules = Rules::new(&documents.into_iter().collect(), &Hosts::default());
        for (host, client, expected) in [
            ("api.shop", "client", "narrow"),
            ("db.shop", "client", "wide"),
            ("api.shop", "other", "own"),
            ("db.shop", "shop", "private"),
            ("db.shop", "other", "root"),
            ("x.test", "client", "root"),
        ] {
            let found = rules.of(host, "shop", client);
            let names: Vec<&str> = found.iter().map(|document| &*document.name).collect();
            assert_eq!(names, [expected], "{host} from {client}");
        }
    }
}
