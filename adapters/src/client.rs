//! The registry client: holds one source's view and tells it to every control plane.
//!
//! Each control plane has a task of its own that reads the shared log at its own speed, so a slow or dead one holds
//! nobody else. Nothing is queued per control plane: what it has not heard is in the log, or it gets the view again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::dial::{Dial, Plaintext};
use self::link::Link;
use self::log::Log;
use crate::catalog::{Item, Key};
use crate::description::{Condition, Description};
use crate::metrics::Metrics;

mod dial;
mod link;
pub mod log;

/// How often gauges that age by themselves are written.
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// The registry client of one source.
#[derive(Debug)]
pub struct Client {
    description: Description,
    targets: Vec<tonic::transport::Endpoint>,
    dial: Arc<dyn Dial>,
    incarnation: String,
    shared: Arc<Shared>,
}

impl Client {
    /// A client that will speak for `description` to every one of `targets`, connected to by `dial`.
    pub fn new(
        description: Description,
        targets: Vec<tonic::transport::Endpoint>,
        dial: Arc<dyn Dial>,
    ) -> Self {
        let shared = Shared {
            log: Mutex::new(Log::new(log::STEPS_MAX)),
            head: watch::Sender::new(0),
            seen: Mutex::new(Instant::now()),
            metrics: Metrics::new(&description.source),
        };
        let incarnation = format!("{:032x}", rand::random::<u128>());
        Client { description, targets, dial, incarnation, shared: Arc::new(shared) }
    }

    /// Where the source tells its facts.
    pub fn sink(&self) -> Sink {
        Sink { shared: self.shared.clone() }
    }

    /// The counters of this source.
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics.clone()
    }

    /// Speaks to the control planes until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        for target in self.targets {
            let door = (target, self.dial.clone());
            let link = Link::new(&self.description, &self.incarnation, door, self.shared.clone());
            tasks.spawn(link.run(stop.clone()));
        }
        let mut tick = tokio::time::interval(METRICS_EVERY);
        while !stop.is_cancelled() {
            tokio::select! {
                _ = tick.tick() => self.shared.measure(),
                () = stop.cancelled() => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }
}

/// Where a source tells its facts. What did not change goes no further than here.
#[derive(Clone, Debug)]
pub struct Sink {
    shared: Arc<Shared>,
}

impl Sink {
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

/// What the source writes and every link reads.
#[derive(Debug)]
struct Shared {
    /// Held across no await, and only for as long as one change or one plan takes.
    log: Mutex<Log>,
    /// The log's newest position; links wait on it.
    head: watch::Sender<u64>,
    /// When the platform last answered well.
    seen: Mutex<Instant>,
    metrics: Metrics,
}

impl Shared {
    fn record(&self, change: impl FnOnce(&mut Log)) {
        let (head, counts) = {
            let mut log = lock(&self.log);
            change(&mut log);
            (log.head(), log.counts())
        };
        self.metrics.counts(counts);
        self.head.send_if_modified(|known| std::mem::replace(known, head) != head);
    }

    fn seen(&self, condition: &Condition) {
        if *condition == Condition::Live {
            *lock(&self.seen) = Instant::now();
        }
        self.measure();
    }

    fn measure(&self) {
        let age = lock(&self.seen).elapsed();
        self.metrics.age(age);
    }
}

/// A panic elsewhere leaves plain data behind, which is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
