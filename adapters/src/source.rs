//! The one trait that every platform implements.
//!
//! A source reports what its platform says and never guesses: an unanswered question is a [`crate::description::Condition::Stale`], not a
//! removal. It knows no control plane and no policy.

use std::future::Future;

use tokio_util::sync::CancellationToken;

use crate::client::Sink;
use crate::description::Description;

/// A platform that knows services.
pub trait Source: Send + 'static {
    /// Who this source is.
    fn describe(&self) -> Description;

    /// Watches the platform and tells the sink, until `stop` is cancelled. An error is final: what can heal by itself
    /// is reported as a condition and retried inside.
    fn run(self, sink: Sink, stop: CancellationToken)
    -> impl Future<Output = Result<(), SourceError>> + Send;
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
