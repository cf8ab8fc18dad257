//! A set of documents: by key for those who ask for one, by age for those who decide between two. Pure.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    AuthorizationPolicy, ConfigMap, DestinationRule, Document, DocumentSpec, EndpointPolicy, EntryEndpoint,
    Gateway, HealthCheckPolicy, PeerAuthentication, ROOT_NAMESPACE, RateLimitPolicy, RequestAuthentication,
    Secret, ServiceEntry, Sidecar, Telemetry, VirtualService, WorkloadGroup, config_map,
    gateway_api::{EdgeGateway, ReferenceGrant, Route},
    key, secret,
};

/// Documents by key and by age.
#[derive(Clone, Debug, Default)]
pub struct DocumentSet {
    by_key: BTreeMap<Arc<str>, Arc<Document>>,
    by_age: BTreeMap<Age, Arc<Document>>,
}

/// The oldest sorts first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Age {
    created_at_seconds: i64,
    namespace: Arc<str>,
    name: Arc<str>,
    kind: &'static str,
}

impl Age {
    pub(super) fn of(document: &Document) -> Self {
        Self {
            created_at_seconds: document.created_at_seconds,
            namespace: document.namespace.clone(),
            name: document.name.clone(),
            kind: document.kind,
        }
    }
}

impl DocumentSet {
    /// Adds or replaces a document.
    pub fn insert(&mut self, document: Arc<Document>) {
        self.by_age.insert(Age::of(&document), document.clone());
        let age = Age::of(&document);
        let replaced = self.by_key.insert(document.key(), document);
        if let Some(before) = replaced.map(|replaced| Age::of(&replaced)).filter(|before| *before != age) {
            self.by_age.remove(&before);
        }
    }

    /// The document of a key.
    pub fn get(&self, key: &str) -> Option<&Arc<Document>> {
        self.by_key.get(key)
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Every document, by key.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.by_key.values()
    }

    /// Routing documents, the oldest first.
    pub fn virtual_services(&self) -> impl Iterator<Item = (&Arc<Document>, &VirtualService)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::VirtualService(spec) => Some((document, spec)),
            _ => None,
        })
    }

    /// Destination rules, the oldest first.
    pub fn destination_rules(&self) -> impl Iterator<Item = (&Arc<Document>, &DestinationRule)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::DestinationRule(spec) => Some((document, &**spec)),
            _ => None,
        })
    }

    /// Service entries, the oldest first.
    pub fn service_entries(&self) -> impl Iterator<Item = (&Arc<Document>, &ServiceEntry)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::ServiceEntry(spec) => Some((document, spec)),
            _ => None,
        })
    }

    /// Limits of requests, the oldest first.
    pub fn rate_limit_policies(&self) -> impl Iterator<Item = (&Arc<Document>, &RateLimitPolicy)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::RateLimitPolicy(spec) => Some((document, spec)),
            _ => None,
        })
    }

    /// Policies of endpoints, the oldest first.
    pub fn endpoint_policies(&self) -> impl Iterator<Item = (&Arc<Document>, &EndpointPolicy)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::EndpointPolicy(spec) => Some((document, spec)),
            _ => None,
        })
    }

    /// Policies of health checks, the oldest first.
    pub fn health_check_policies(&self) -> impl Iterator<Item = (&Arc<Document>, &HealthCheckPolicy)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::HealthCheckPolicy(spec) => Some((document, spec)),
            _ => None,
        })
    }

    /// Listeners of edge proxies, the oldest first.
    pub fn edge_gateways(&self) -> impl Iterator<Item = (&Arc<Document>, &EdgeGateway)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::EdgeGateway(spec) => Some((document, spec)),
            _ => None,
        })
    }

    /// Workloads that no platform registers, the oldest first.
    pub fn workload_entries(&self) -> impl Iterator<Item = (&Arc<Document>, &EntryEndpoint)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::WorkloadEntry(spec) => Some((document, spec)),
            _ => None,
        })
    }

    /// Routes of the Gateway API, the oldest first.
    pub fn routes(&self) -> impl Iterator<Item = (&Arc<Document>, &Route)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::Route(spec) => Some((document, &**spec)),
            _ => None,
        })
    }

    /// What workloads take, the oldest first.
    pub fn peer_authentications(&self) -> impl Iterator<Item = (&Arc<Document>, &PeerAuthentication)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::PeerAuthentication(spec) => Some((document, spec)),
            _ => None,
        })
    }

    /// What workloads have alike, the oldest first.
    pub fn workload_groups(&self) -> impl Iterator<Item = (&Arc<Document>, &WorkloadGroup)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::WorkloadGroup(spec) => Some((document, spec)),
            _ => None,
        })
    }

    /// What proxies tell of their traffic, the oldest first.
    pub fn telemetries(&self) -> impl Iterator<Item = (&Arc<Document>, &Telemetry)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::Telemetry(spec) => Some((document, spec)),
            _ => None,
        })
    }

    /// Sidecars, the oldest first.
    pub fn sidecars(&self) -> impl Iterator<Item = (&Arc<Document>, &Sidecar)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::Sidecar(spec) => Some((document, spec)),
            _ => None,
        })
    }

    /// Policies of access, the oldest first.
    pub fn authorization_policies(&self) -> impl Iterator<Item = (&Arc<Document>, &AuthorizationPolicy)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::AuthorizationPolicy(spec) => Some((document, spec)),
            _ => None,
        })
    }

    /// Tokens that workloads take, the oldest first.
    pub fn request_authentications(&self) -> impl Iterator<Item = (&Arc<Document>, &RequestAuthentication)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::RequestAuthentication(spec) => Some((document, spec)),
            _ => None,
        })
    }

    /// Grants across namespaces, the oldest first.
    pub fn reference_grants(&self) -> impl Iterator<Item = (&Arc<Document>, &ReferenceGrant)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::ReferenceGrant(spec) => Some((document, spec)),
            _ => None,
        })
    }

    /// The Sidecar of a workload: the oldest that selects it, else that of its namespace, else that of the root namespace.
    pub fn sidecar_of(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Option<&Arc<Document>> {
        let selects = |selector: &BTreeMap<Arc<str>, Arc<str>>| {
            selector.iter().all(|(name, value)| labels.get(&**name).is_some_and(|found| **found == **value))
        };
        let of = |home: &str, wanted: &dyn Fn(&Sidecar) -> bool| {
            self.sidecars().find(|(document, spec)| *document.namespace == *home && wanted(spec))
        };
        let selected = of(namespace, &|spec| spec.selector.as_ref().is_some_and(selects));
        let whole = |home| of(home, &|spec| spec.selector.is_none());
        selected.or_else(|| whole(namespace)).or_else(|| whole(ROOT_NAMESPACE)).map(|(document, _)| document)
    }

    /// Gateways, the oldest first.
    pub fn gateways(&self) -> impl Iterator<Item = (&Arc<Document>, &Gateway)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::Gateway(spec) => Some((document, spec)),
            _ => None,
        })
    }

    /// Certificates, the oldest first.
    pub fn secrets(&self) -> impl Iterator<Item = (&Arc<Document>, &Secret)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::Secret(spec) => Some((document, spec)),
            _ => None,
        })
    }

    /// Authorities, the oldest first.
    pub fn config_maps(&self) -> impl Iterator<Item = (&Arc<Document>, &ConfigMap)> {
        self.by_age.values().filter_map(|document| match &document.spec {
            DocumentSpec::ConfigMap(spec) => Some((document, spec)),
            _ => None,
        })
    }

    /// Authorities of a namespace.
    pub fn config_map(&self, namespace: &str, name: &str) -> Option<(&Arc<Document>, &ConfigMap)> {
        let document = self.by_key.get(&key(config_map::KIND, namespace, name))?;
        match &document.spec {
            DocumentSpec::ConfigMap(spec) => Some((document, spec)),
            _ => None,
        }
    }

    /// A secret of a namespace.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<(&Arc<Document>, &Secret)> {
        let document = self.by_key.get(&key(secret::KIND, namespace, name))?;
        match &document.spec {
            DocumentSpec::Secret(spec) => Some((document, spec)),
            _ => None,
        }
    }
}

impl FromIterator<Document> for DocumentSet {
    fn from_iter<I: IntoIterator<Item = Document>>(documents: I) -> Self {
        let mut set = Self::default();
        documents.into_iter().for_each(|document| set.insert(Arc::new(document)));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(namespace: &str, name: &str, created_at_seconds: i64) -> Document {
        Document {
            kind: "Gateway",
            namespace: namespace.into(),
            name: name.into(),
            yaml: "".into(),
            origin: "".into(),
            line: 1,
            created_at_seconds,
            spec: DocumentSpec::Gateway(Gateway { selector: BTreeMap::new(), servers: Vec::new() }),
        }
    }

    fn order(set: &DocumentSet) -> Vec<String> {
        set.gateways().map(|(document, _)| format!("{}/{}", document.namespace, document.name)).collect()
    }

    #[test]
    fn the_oldest_comes_first_then_namespace_and_name() {
        let documents = [("b", "a", 5), ("a", "b", 5), ("a", "a", 5), ("z", "z", 1)];
        let set: DocumentSet =
            documents.map(|(ns, name, created)| gateway(ns, name, created)).into_iter().collect();
        assert_eq!(order(&set), ["z/z", "a/a", "a/b", "b/a"]);
    }

    #[test]
    fn a_document_is_in_the_set_once_whatever_its_age_becomes() {
        let mut set: DocumentSet = [gateway("a", "a", 5), gateway("a", "b", 6)].into_iter().collect();
        set.insert(Arc::new(gateway("a", "a", 7)));
        set.insert(Arc::new(gateway("a", "b", 6)));
        assert_eq!(order(&set), ["a/b", "a/a"]);
        assert_eq!((set.len(), set.by_age.len()), (2, 2));
    }
}
