//! The one trait that every platform implements, and the sink that it tells its facts to.
//!
//! A source reports what its platform says and never guesses: an unanswered question is a [`Condition::Stale`], not a
//! removal. It knows no control plane and no policy.

use std::future::Future;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::catalog::{Item, Key};
use crate::client::Shared;

/// A platform that knows services.
pub trait Source: Send + 'static {
    /// Who this source is.
    fn describe(&self) -> Description;

    /// Watches the platform and tells the sink, until `stop` is cancelled. An error is final: what can heal by itself
    /// is reported as a condition and retried inside.
    fn run(self, sink: Sink, stop: CancellationToken)
    -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// Who a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Unique name in the mesh, such as `consul/dc1`.
    pub source: String,
    /// Kind of the platform: `files`, `consul`.
    pub platform: &'static str,
    /// The platform's cluster or datacenter.
    pub cluster: String,
    /// Region of endpoints that name none.
    pub region: String,
}

/// How well the source sees its platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Facts are current.
    Live,
    /// Facts are the last known ones, for the reason given.
    Stale(String),
}

/// A source that cannot work at all.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A setting that only a person can correct.
    #[error("{0}")]
    Settings(String),
    /// The machine refused something that the source cannot do without.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
}

/// Where a source tells its facts. What did not change goes no further than here.
#[derive(Clone, Debug)]
pub struct Sink {
    shared: Arc<Shared>,
}

impl Sink {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Sink { shared }
    }

    /// Everything that the source knows now; what is not in it is gone. `doubt` says why the answer is not fully
    /// trusted, and is empty when it is.
    pub fn listing(&self, items: Vec<Item>, doubt: &str) {
        self.shared.record(|log| log.listing(items, doubt));
    }

    /// Adds or replaces one object.
    pub fn upsert(&self, item: Item) {
        self.shared.record(|log| log.upsert(item));
    }

    /// Removes one object, because the platform said that it is gone.
    pub fn remove(&self, key: &Key) {
        self.shared.record(|log| log.remove(key));
    }

    /// How well the source sees its platform. `Live` also restarts the age that the metrics show.
    pub fn condition(&self, condition: Condition) {
        self.shared.seen(&condition);
        self.shared.record(|log| log.condition(condition));
    }
}
