//! From where the mesh is looked at: a namespace, in which documents count that are exported to it, a `Sidecar` document,
//! which imports some of what counts there, and the labels by which rules choose their clients.

use std::{collections::BTreeSet, sync::Arc};

use weft_proto::node::{NodeMetadata, Role};

use crate::{
    documents::{Document, DocumentSet, DocumentSpec, Ingress, Labels, Sidecar, Source},
    model::{OutboundPolicy, Service},
};

/// What tells a lens from others of the same documents.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LensKey {
    /// Namespace.
    pub(crate) namespace: Arc<str>,
    /// Key of the Sidecar.
    sidecar: Option<Arc<str>>,
    labels: Vec<Arc<Labels>>,
}

/// From where a client looks. The default is a stranger's, who sees what is exported everywhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lens {
    /// Namespace.
    pub(crate) namespace: Arc<str>,
    sidecar: Option<Arc<Document>>,
    /// Of the labels that rules ask of their clients, those that it has.
    labels: Vec<Arc<Labels>>,
}

/// All sets of labels that rules ask of their clients, each once.
pub(crate) fn labels_asked(documents: &DocumentSet) -> BTreeSet<Arc<Labels>> {
    let sources = documents.virtual_services().flat_map(|(_, rule)| rule.sources());
    let labels = sources.map(|source| &source.labels).filter(|labels| !labels.is_empty());
    let selectors = documents.destination_rules().filter_map(|(_, rule)| rule.selector.as_ref());
    labels.chain(selectors).map(|labels| Arc::new(labels.clone())).collect()
}

impl Lens {
    /// Of a client. `asked` are all sets of labels that rules ask of their clients.
    pub(crate) fn of(documents: &DocumentSet, asked: &BTreeSet<Arc<Labels>>, node: &NodeMetadata) -> Self {
        let has = |labels: &&Arc<Labels>| {
            labels.iter().all(|(name, value)| node.labels.get(&**name).is_some_and(|has| **has == **value))
        };
        // What a gateway needs is said by its routes.
        let sidecar = match node.role {
            Role::Sidecar => documents.sidecar_of(&node.namespace, &node.labels).cloned(),
            Role::Gateway => None,
        };
        let labels = asked.iter().filter(has).cloned().collect();
        Self { namespace: node.namespace.as_str().into(), sidecar, labels }
    }

    /// What tells it from others of the same documents.
    pub(crate) fn key(&self) -> LensKey {
        let sidecar = self.sidecar.as_ref().map(|document| document.key());
        LensKey { namespace: self.namespace.clone(), sidecar, labels: self.labels.clone() }
    }

    /// Whether a rule is meant for clients like this one. Of strangers neither namespace nor labels are known.
    pub(crate) fn is_meant(&self, source: &Source) -> bool {
        source.namespace.as_ref().is_none_or(|namespace| *namespace == self.namespace)
            && (source.labels.is_empty() || self.has(&source.labels))
    }

    /// Whether it has all labels that a rule asks for.
    pub(crate) fn has(&self, asked: &Labels) -> bool {
        self.labels.iter().any(|labels| **labels == *asked)
    }

    /// Whether it has labels that some rule asks for.
    pub(crate) fn is_labelled(&self) -> bool {
        !self.labels.is_empty()
    }

    /// Whether it has a Sidecar.
    pub(crate) fn is_narrow(&self) -> bool {
        self.sidecar.is_some()
    }

    /// Whether a routing document counts for a host, in full, that it names.
    pub(crate) fn takes(&self, document: &Document, host: &str) -> bool {
        document.is_visible_in(&self.namespace) && self.imports_host(&document.namespace, host, None)
    }

    /// Whether a port of a service is imported.
    pub(crate) fn imports(&self, service: &Service, port: u16) -> bool {
        let named = |host: &Arc<str>| self.imports_host(&service.key.namespace, host, Some(port));
        named(&service.host) || service.hosts.iter().any(named)
    }

    /// The ports at which a Sidecar lets others reach the workload, and its key where there are any.
    pub(crate) fn ingress(&self) -> (&[Ingress], Option<Arc<str>>) {
        let entries = self.sidecar().map_or(&[][..], |sidecar| &sidecar.ingress);
        let document = self.sidecar.as_ref().filter(|_| !entries.is_empty());
        (entries, document.map(|document| document.key()))
    }

    /// What becomes of traffic that no service claims, where the mesh has a policy for it.
    pub(crate) fn unclaimed(&self, mesh_wide: OutboundPolicy) -> OutboundPolicy {
        self.sidecar().and_then(|sidecar| sidecar.outbound).unwrap_or(mesh_wide)
    }

    fn imports_host(&self, namespace: &str, host: &str, port: Option<u16>) -> bool {
        self.sidecar().is_none_or(|sidecar| sidecar.imports(&self.namespace, namespace, host, port))
    }

    fn sidecar(&self) -> Option<&Sidecar> {
        match &self.sidecar.as_ref()?.spec {
            DocumentSpec::Sidecar(sidecar) => Some(sidecar),
            _ => None,
        }
    }
}
