//! From where the mesh is looked at: a namespace, in which documents count that are exported to it, and a `Sidecar` document,
//! which imports some of what counts there.

use std::sync::Arc;

use weft_proto::node::{NodeMetadata, Role};

use crate::{
    documents::{Document, DocumentSet, DocumentSpec, Sidecar},
    model::Service,
};

/// What tells a lens from others of the same documents.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LensKey {
    /// Namespace.
    pub(crate) namespace: Arc<str>,
    /// Key of the Sidecar.
    sidecar: Option<Arc<str>>,
}

/// From where a client looks. The default is a stranger's, who sees what is exported everywhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lens {
    /// Namespace.
    pub(crate) namespace: Arc<str>,
    sidecar: Option<Arc<Document>>,
}

impl Lens {
    /// Of a client.
    pub(crate) fn of(documents: &DocumentSet, node: &NodeMetadata) -> Self {
        // What a gateway needs is said by its routes.
        let sidecar = match node.role {
            Role::Sidecar => documents.sidecar_of(&node.namespace, &node.labels).cloned(),
            Role::Gateway => None,
        };
        Self { namespace: node.namespace.as_str().into(), sidecar }
    }

    /// What tells it from others of the same documents.
    pub(crate) fn key(&self) -> LensKey {
        let sidecar = self.sidecar.as_ref().map(|document| document.key());
        LensKey { namespace: self.namespace.clone(), sidecar }
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
