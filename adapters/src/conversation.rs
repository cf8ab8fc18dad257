//! The life of a source that speaks with its platform in one conversation: open, list, follow, until it breaks; then,
//! after a while, again. What broke is a condition, and never a removal.

use std::future::Future;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::catalog::{Item, Key};
use crate::client::Sink;
use crate::description::{Condition, Description};
use crate::gather::{Changes, Claim, Gathered};
use crate::http::ReadError;
use crate::metrics::Metrics;
use crate::source::{Source, SourceError};
use crate::trust::{Trust, Verdict};
use crate::watch::Backoff;

/// A platform that is spoken with: a [`Source`] by that alone.
pub(crate) trait Conversation: Send + 'static {
    /// Who it is as a source.
    fn describe(&self) -> Description;

    /// Where it counts.
    fn metrics(&self) -> Metrics;

    /// Speaks until it breaks. Everything learnt goes to the teller.
    fn speak(&mut self, teller: &mut Teller) -> impl Future<Output = Break> + Send;

    /// What a person may do about an error, where that is known; begins with a semicolon.
    fn advice(&self, error: &ReadError) -> &'static str;

    /// Who is spoken with: `nomad at http://127.0.0.1:4646`.
    fn peer(&self) -> String;

    /// Goes to another server, if there are several.
    fn turn(&self);
}

/// Why a conversation ended.
#[derive(Debug)]
pub(crate) enum Break {
    /// The platform did not answer well.
    Error(ReadError),
    /// It answered, but not what may be believed.
    Doubtful(String),
    /// A new conversation is better than this one, and nothing is wrong.
    Renew,
}

impl From<ReadError> for Break {
    fn from(error: ReadError) -> Self {
        Break::Error(error)
    }
}

/// Tells a sink what a platform says, part by part.
pub(crate) struct Teller {
    sink: Sink,
    metrics: Metrics,
    gathered: Gathered,
    trust: Trust,
    backoff: Backoff,
    listed: bool,
}

impl<C: Conversation> Source for C {
    fn describe(&self) -> Description {
        Conversation::describe(self)
    }

    async fn run(self, sink: Sink, stop: CancellationToken) -> Result<(), SourceError> {
        keep(self, sink, stop).await;
        Ok(())
    }
}

/// Speaks until `stop` is cancelled.
async fn keep(mut conversation: impl Conversation, sink: Sink, stop: CancellationToken) {
    let mut teller = Teller {
        sink,
        metrics: conversation.metrics(),
        gathered: Gathered::default(),
        trust: Trust::default(),
        backoff: Backoff::usual(),
        listed: false,
    };
    loop {
        let ended = tokio::select! {
            ended = conversation.speak(&mut teller) => ended,
            () = stop.cancelled() => return,
        };
        let reason = match ended {
            Break::Renew => continue,
            Break::Error(error) => format!("{} {error}{}", conversation.peer(), conversation.advice(&error)),
            Break::Doubtful(reason) => format!("{} {reason}", conversation.peer()),
        };
        conversation.turn();
        let delay = teller.broke(&reason);
        tracing::debug!(reason, ?delay, "conversation with the platform ended");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = stop.cancelled() => return,
        }
    }
}

impl Teller {
    /// The whole of what the platform says, part by part, with documents, at an index if it has such. `doubt` is the
    /// platform's own.
    pub(crate) fn listing(
        &mut self,
        parts: Vec<(String, Vec<Claim>)>,
        loose: Vec<Item>,
        index: Option<u64>,
        doubt: &str,
    ) -> Result<(), Break> {
        let mut gathered = Gathered::default();
        for (part, claims) in parts {
            let changes = gathered.set(&part, claims);
            self.complain(&changes.problems);
        }
        let known = self.gathered.endpoints();
        let verdict = self.trust.judge(known, gathered.endpoints(), index, Instant::now());
        let verdict = match verdict {
            Verdict::Keep(reason) => return Err(Break::Doubtful(reason)),
            Verdict::Tell(reason) if reason.is_empty() => doubt.to_owned(),
            Verdict::Tell(reason) => reason,
        };
        (self.gathered, self.listed) = (gathered, true);
        let items = self.gathered.items().into_iter().chain(loose).collect();
        self.sink.listing(items, &verdict);
        self.live(index);
        Ok(())
    }

    /// What one part says now.
    pub(crate) fn part(&mut self, part: &str, claims: Vec<Claim>) {
        let Changes { upserts, removes, problems } = self.gathered.set(part, claims);
        self.complain(&problems);
        upserts.into_iter().for_each(|item| self.sink.upsert(item));
        removes.iter().for_each(|key| self.sink.remove(key));
    }

    /// A document that is new or other than before.
    pub(crate) fn loose(&self, item: Item) {
        self.sink.upsert(item);
    }

    /// A document that is gone.
    pub(crate) fn loosen(&self, key: &Key) {
        self.sink.remove(key);
    }

    /// The platform has answered well, and may have said how far it is.
    pub(crate) fn live(&mut self, index: Option<u64>) {
        if let Some(index) = index {
            self.trust.saw(index);
        }
        self.metrics.read();
        self.backoff.succeeded(Instant::now());
        if self.listed {
            self.sink.condition(Condition::Live);
        }
    }

    /// One thing that the platform says cannot be told.
    pub(crate) fn complain(&self, problems: &[String]) {
        for problem in problems {
            self.metrics.error();
            tracing::warn!(problem, "left out or in conflict");
        }
    }

    fn broke(&mut self, reason: &str) -> std::time::Duration {
        self.metrics.error();
        self.trust.broke(reason);
        self.sink.condition(Condition::Stale(reason.to_owned()));
        self.backoff.failed(Instant::now(), &mut rand::rng())
    }
}
