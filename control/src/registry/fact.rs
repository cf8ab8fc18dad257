//! One source's objects as values that cannot be wrong: `check` makes them from the protocol, `wire` turns them back for
//! the disk. Pure.

use std::sync::Arc;

use crate::{
    model::{Endpoint, Port, Resolution, ServiceKey},
    store::DocumentKey,
};

mod check;
#[cfg(test)]
mod tests;
mod wire;

pub use check::{remove, speaker, upsert};

/// Bytes of a name: service, namespace, port, endpoint id, label key.
pub const NAME_BYTES_MAX: usize = 253;
/// Bytes of any other string but a document's text.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Bytes of one document's text.
pub const DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// Ports of a service or an endpoint.
pub const PORTS_MAX: usize = 256;
/// Labels of an object, and aliases of a service.
pub const LABELS_MAX: usize = 128;

/// Who speaks, as its Hello says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// Name of the source.
    pub name: Arc<str>,
    /// Platform kind.
    pub platform: Arc<str>,
    /// The platform's cluster.
    pub cluster: Arc<str>,
    /// Region of endpoints without one.
    pub region: Arc<str>,
}

/// A service as one source tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceFact {
    /// Its name.
    pub key: ServiceKey,
    /// Ports in the source's order.
    pub ports: Vec<Port>,
    /// Further host names, lower case.
    pub aliases: Vec<Arc<str>>,
    /// How endpoints are found.
    pub resolution: Resolution,
}

/// An endpoint as one source tells it; its id is already prefixed with the source.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointFact {
    /// The service it serves.
    pub service: ServiceKey,
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Network of its address.
    pub network: Arc<str>,
}

/// A document as one source tells it. What it means is the business of `documents`; here it matters only whether it can
/// be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentFact {
    /// Its name.
    pub key: DocumentKey,
    /// Its text.
    pub text: Arc<DocumentText>,
    /// Why the text cannot be read; none when it can.
    pub complaint: Option<Arc<str>>,
    /// The last text before it that could be read, which stays in force while this one cannot be.
    pub good: Option<Arc<DocumentText>>,
    /// When its source first told it, seconds since 1970.
    pub since_seconds: i64,
}

/// A text and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentText {
    /// The text.
    pub yaml: Arc<str>,
    /// Where it was found.
    pub origin: Arc<str>,
    /// Line of `origin` on which it starts, from 1.
    pub line: u32,
}

impl DocumentFact {
    /// The newest text that can be read.
    pub fn readable(&self) -> Option<&Arc<DocumentText>> {
        if self.complaint.is_none() { Some(&self.text) } else { self.good.as_ref() }
    }
}

/// One checked object.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A service.
    Service(ServiceFact),
    /// An endpoint.
    Endpoint(EndpointFact),
    /// A document.
    Document(DocumentFact),
}

/// The name of an object that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    /// A service.
    Service(ServiceKey),
    /// An endpoint, by its prefixed id.
    Endpoint(Arc<str>),
    /// A document.
    Document(DocumentKey),
}

/// Why an object was refused: which one, which field, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {problem}")]
pub struct BadFact {
    /// The object, as far as it could be named.
    pub object: String,
    /// What is wrong.
    pub problem: String,
    /// What it would have replaced, as far as that can be told: it stays.
    pub replaces: Option<Replaces>,
}

/// What a refused object would have replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaces {
    /// The object of this name.
    One(Gone),
    /// A document that cannot be named: one of those of the same origin.
    DocumentsOf(Arc<str>),
}
