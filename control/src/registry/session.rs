//! One stream's right to speak for its source.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Inner, Registry,
    fact::Replaces,
    source::{Changed, Now, Source, Step, StepError},
};

/// One stream's right to speak for its source.
pub struct Session {
    pub(super) registry: Arc<Registry>,
    pub(super) name: Arc<str>,
    pub(super) stream: u64,
    /// Cancelled when a newer stream of the same source took over.
    pub superseded: CancellationToken,
}

/// Why a step was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// A newer stream took over.
    #[error("a newer stream of the same source took over")]
    Superseded,
    /// It does not fit.
    #[error(transparent)]
    Step(#[from] StepError),
}

impl Session {
    /// Takes a step; answers the sequence to acknowledge, if this is the time to.
    pub fn step(&self, sequence: u64, step: Step) -> Result<Option<u64>, SessionError> {
        let now = Now { instant: Instant::now().into_std(), unix_seconds: unix_seconds() };
        let mut inner = self.registry.lock();
        let source = self.source(&mut inner)?;
        let held = source.is_held();
        let changed = source.step(sequence, step, now)?;
        if source.is_held() && !held {
            tracing::warn!(source = %self.name, held = source.held(), "doubtful listing: removal held back");
        }
        let ack = (!source.is_listing()).then(|| source.applied());
        self.registry.note(inner, changed);
        Ok(ack)
    }

    /// Counts a step whose object was refused, and keeps what it would have replaced; answers like [`Session::step`].
    pub fn refuse(&self, sequence: u64, replaces: Option<Replaces>) -> Result<Option<u64>, SessionError> {
        let mut inner = self.registry.lock();
        let source = self.source(&mut inner)?;
        source.refuse(sequence, replaces)?;
        Ok((!source.is_listing()).then(|| source.applied()))
    }

    fn source<'a>(&self, inner: &'a mut Inner) -> Result<&'a mut Source, SessionError> {
        match inner.sources.get_mut(&self.name) {
            Some(entry) if entry.stream == self.stream => Ok(&mut entry.source),
            _ => Err(SessionError::Superseded),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut inner = self.registry.lock();
        if let Ok(source) = self.source(&mut inner) {
            source.disconnect();
            tracing::warn!(source = %self.name, "source lost; its last known facts serve");
            self.registry.note(inner, Changed::default());
        }
    }
}

/// Seconds since 1970, for people.
fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
