//! How long a request may take, as a whole and without any byte moving.

use std::{future::Future, pin::Pin, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::{
    body::Source,
    fault::{Cause, Fault},
};

/// The time that a request has.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    end: Option<Instant>,
    idle: Option<Duration>,
}

impl Deadline {
    /// Of a limit of time and of one for idling; for that the listener's where there is none, and zero is no limit.
    pub fn new(
        started: Instant,
        (limit, idle): (Option<Duration>, Option<Duration>),
        listener_idle: Duration,
    ) -> Self {
        let idle = idle.unwrap_or(listener_idle);
        Self {
            end: limit.and_then(|limit| started.checked_add(limit)),
            idle: Some(idle).filter(|idle| !idle.is_zero()),
        }
    }

    /// When time runs out if nothing moves after `moved`, and what that is called.
    pub fn after(&self, moved: Instant) -> Option<(Instant, Cause)> {
        let end = self.end.map(|end| (end, Cause::RequestTimeout));
        let idle = self.idle.map(|idle| (moved + idle, Cause::IdleTimeout));
        match (end, idle) {
            (Some(end), Some(idle)) => Some(if idle.0 < end.0 { idle } else { end }),
            (end, idle) => end.or(idle),
        }
    }

    /// Runs `work` while there is time. A body that is being sent counts as moving. The work is pinned by whoever asks: taken
    /// by value it would be held twice, and a request's future is moved a few times.
    pub async fn hold<T>(
        &self,
        started: Instant,
        source: Option<&Source>,
        mut work: Pin<&mut impl Future<Output = Result<T, Fault>>>,
    ) -> Result<T, Fault> {
        let sent = || source.map_or(0, Source::bytes);
        let (mut moved, mut seen) = (started, 0);
        loop {
            let Some((at, cause)) = self.after(moved) else { return work.await };
            if let Ok(done) = timeout_at(at, work.as_mut()).await {
                return done;
            }
            // Looked at only when the time is up, which costs nothing per chunk and at most doubles the idle time.
            if cause != Cause::IdleTimeout || sent() == seen {
                return Err(cause.into());
            }
            (moved, seen) = (Instant::now(), sent());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_nearer_limit_counts() {
        let now = Instant::now();
        let both = Deadline { end: Some(now + 3 * SECOND), idle: Some(2 * SECOND) };
        assert_eq!(both.after(now), Some((now + 2 * SECOND, Cause::IdleTimeout)));
        assert_eq!(both.after(now + 2 * SECOND), Some((now + 3 * SECOND, Cause::RequestTimeout)));
        assert_eq!(Deadline { end: None, idle: None }.after(now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_never_ends_is_given_up() {
        let now = Instant::now();
        let deadline = Deadline { end: None, idle: Some(SECOND) };
        let work = pin!(std::future::pending::<Result<(), Fault>>());
        let given_up = deadline.hold(now, None, work).await;
        assert_eq!(given_up, Err(Cause::IdleTimeout.into()));
        assert_eq!(now.elapsed(), SECOND);
    }
}
