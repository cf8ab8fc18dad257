//! Which destination rules count for a client that calls a host. Istio's order: those of the client's own namespace, else
//! those of the service's, else those of the root namespace; the first namespace that has any decides alone. Of its rules
//! the exact host counts, else the longest pattern.

use std::{collections::BTreeMap, sync::Arc};

use super::lens::Lens;
use crate::documents::{
    Document, DocumentSet, DocumentSpec, Labels, ROOT_NAMESPACE, by_host::ByHost, hosts::Hosts,
};

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

    /// The rules for a host of namespace `home`, as a client sees them: those that select it first.
    pub(crate) fn of(&self, host: &str, home: &str, client: &Lens) -> Vec<Arc<Document>> {
        let of_namespace = |namespace: &str| {
            let counts = |document: &&Arc<Document>| {
                *document.namespace == *namespace
                    && document.is_visible_in(&client.namespace)
                    && selector(document)
                        .is_none_or(|labels| *namespace == *client.namespace && client.has(labels))
            };
            let lists = self.by_host.all_of(host).map(|list| list.iter().filter(counts).cloned());
            let mut found = lists.map(Iterator::collect::<Vec<_>>).find(|found| !found.is_empty())?;
            found.sort_by_key(|document| selector(document).is_none());
            Some(found)
        };
        [&*client.namespace, home, ROOT_NAMESPACE].into_iter().find_map(of_namespace).unwrap_or_default()
    }

    /// Namespaces whose clients may see other rules than strangers do.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_host.iter().flat_map(|(_, list)| list.iter().map(|document| &document.namespace))
    }
}

/// The labels that a rule asks of its clients.
fn selector(document: &Document) -> Option<&Labels> {
    match &document.spec {
        DocumentSpec::DestinationRule(rule) => rule.selector.as_ref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use weft_proto::node::NodeMetadata;

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
            let node = NodeMetadata { namespace: client.to_owned(), ..NodeMetadata::default() };
            let client = Lens::of(&DocumentSet::default(), &BTreeSet::new(), &node);
            let found = rules.of(host, "shop", &client);
            let names: Vec<&str> = found.iter().map(|document| &*document.name).collect();
            assert_eq!(names, [expected], "{host} from {}", client.namespace);
        }
    }
}
