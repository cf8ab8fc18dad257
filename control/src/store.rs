//! Where applied documents are kept: one trait, so that the embedded store can give way to a distributed one. Reads come
//! from an immutable snapshot; a write is durable before it returns and gives the whole store a new revision.

use std::{collections::BTreeMap, fmt, sync::Arc};

use futures::future::BoxFuture;
use tokio::sync::watch;

pub mod embedded;

/// Owner of documents that people applied.
pub const OWNER_API: &str = "api";
/// Writes in one commit.
pub const WRITES_MAX: usize = 10_000;

/// (kind, namespace, name).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentKey {
    /// Kind: `VirtualService`.
    pub kind: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl DocumentKey {
    /// From its three parts.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }

    /// From `Kind/namespace/name`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        let key = Self::new(parts.next()?, parts.next()?, parts.next()?);
        (!key.kind.is_empty() && !key.namespace.is_empty() && !key.name.is_empty()).then_some(key)
    }
}

impl fmt::Display for DocumentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

/// One document as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDocument {
    /// Its name.
    pub key: DocumentKey,
    /// The text as its owner wrote it.
    pub yaml: Arc<str>,
    /// Store revision of its last change: never used twice, even when it is deleted and made again.
    pub version: u64,
    /// Who owns it.
    pub owner: Arc<str>,
    /// When it was stored, seconds since 1970.
    pub stored_at_seconds: i64,
    /// When its first version was stored, seconds since 1970.
    pub created_at_seconds: i64,
}

/// Every document at one revision.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Rises by one with every commit that changed something.
    pub revision: u64,
    /// By key.
    pub documents: BTreeMap<DocumentKey, Arc<StoredDocument>>,
}

/// One write of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Adds or replaces a document.
    Put {
        /// Its name.
        key: DocumentKey,
        /// Its text.
        yaml: Arc<str>,
        /// Who owns it.
        owner: Arc<str>,
        /// Version that it must have now; `Some(0)`: it must not exist.
        expected: Option<u64>,
    },
    /// Removes a document.
    Delete {
        /// Its name.
        key: DocumentKey,
        /// Version that it must have now.
        expected: Option<u64>,
    },
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is new.
    Created,
    /// Its text or owner changed.
    Updated,
    /// It was there already, word for word.
    Unchanged,
    /// It is gone.
    Deleted,
}

/// A commit that is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Store revision after it.
    pub revision: u64,
    /// Outcome and version of each write, in the order given.
    pub outcomes: Vec<(Outcome, u64)>,
}

/// Why nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Someone else changed it.
    #[error("{key} has version {found}, not {expected}; read it again and repeat the change")]
    Conflict {
        /// The document.
        key: DocumentKey,
        /// The version that was asked for.
        expected: u64,
        /// The version that it has; 0: it does not exist.
        found: u64,
    },
    /// It is not there.
    #[error("{0} does not exist")]
    Missing(DocumentKey),
    /// Too much at once.
    #[error("{0} documents in one write; at most {WRITES_MAX} are taken, split them")]
    TooMany(usize),
    /// The store cannot take a write.
    #[error("the document store cannot write: {0}; check the disk of the data directory")]
    Unavailable(String),
}

/// A store of documents. Every method may be called from any task.
pub trait DocumentStore: Send + Sync {
    /// All documents now; cheap.
    fn snapshot(&self) -> Arc<Snapshot>;
    /// Tells the newest revision.
    fn watch(&self) -> watch::Receiver<u64>;
    /// Writes all or nothing; durable when it returns.
    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Committed, StoreError>>;
    /// Sets numbers aside that nobody got before, not even before a crash; answers the first of `count`.
    fn reserve(&self, count: u64) -> BoxFuture<'_, Result<u64, StoreError>>;
}

/// Applies writes to a snapshot: the part of a commit that every store shares. Pure.
pub fn plan(
    before: &Snapshot,
    writes: Vec<Write>,
    now_seconds: i64,
) -> Result<(Snapshot, Committed), StoreError> {
    if writes.len() > WRITES_MAX {
        return Err(StoreError::TooMany(writes.len()));
    }
    let mut after = before.clone();
    let revision = before.revision + 1;
    let mut outcomes = Vec::with_capacity(writes.len());
    for write in writes {
        let (key, expected) = match &write {
            Write::Put { key, expected, .. } | Write::Delete { key, expected } => (key, *expected),
        };
        let known = after.documents.get(key).cloned();
        let found = known.as_ref().map_or(0, |document| document.version);
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(StoreError::Conflict { key: key.clone(), expected, found });
        }
        match (write, known) {
            (Write::Put { yaml, owner, .. }, Some(known)) if known.yaml == yaml && known.owner == owner => {
                outcomes.push((Outcome::Unchanged, known.version));
            }
            (Write::Put { key, yaml, owner, .. }, known) => {
                let outcome = if known.is_some() { Outcome::Updated } else { Outcome::Created };
                let document = StoredDocument {
                    key: key.clone(),
                    yaml,
                    version: revision,
                    owner,
                    stored_at_seconds: now_seconds,
                    created_at_seconds: known.map_or(now_seconds, |known| known.created_at_seconds),
                };
                after.documents.insert(key, Arc::new(document));
                outcomes.push((outcome, revision));
            }
            (Write::Delete { key, .. }, None) => return Err(StoreError::Missing(key)),
            (Write::Delete { key, .. }, Some(_)) => {
                after.documents.remove(&key);
                outcomes.push((Outcome::Deleted, revision));
            }
        }
    }
    if outcomes.iter().any(|(outcome, _)| *outcome != Outcome::Unchanged) {
        after.revision = revision;
    }
    let committed = Committed { revision: after.revision, outcomes };
    Ok((after, committed))
}
