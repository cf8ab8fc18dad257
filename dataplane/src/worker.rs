//! One worker: a thread with its own runtime, listeners, connections and balancer state. Nothing on the request path is
//! shared with other workers but atomic counters.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    io,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use rand::{SeedableRng, rngs::SmallRng};
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{Notify, futures::Notified, watch},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    access_log::writer::Sinks,
    cluster::{Counters, dns::Answers},
    listener::{Listeners, bind::Bound},
    request::{mirror::MIRRORS_MAX, on_demand::OnDemand, record::SeriesCache},
    router::{Spreads, weighted},
    snapshot::{Maker, Snapshot},
    spec::{DownstreamTls, Spec, WeightedCluster, Workload},
    telemetry::{
        load::{Loads, WorkerLoads},
        metrics::Traffic,
        shaping::Shaping,
    },
    tls::{contexts::Contexts, server::ServerContext},
    trace::export::Batches,
};

/// How often idle connections are looked over and failed binds repeated.
const SWEEP: Duration = Duration::from_secs(2);

/// Limits of the whole process.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most downstream connections.
    pub connections_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections_max: 65_536 }
    }
}

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// What to run.
    pub spec: watch::Receiver<Arc<Spec>>,
    /// Resolved host names, from [`crate::cluster::dns::run`].
    pub answers: watch::Receiver<Answers>,
    /// Limits of the process.
    pub limits: Limits,
    /// Cancelled to drain: workers stop accepting, finish what is under way and end.
    pub drain: CancellationToken,
    /// The workload that this proxy stands beside, for metrics.
    pub workload: Workload,
    /// Traffic metrics, for scrapes.
    pub traffic: Traffic,
    /// Traffic by cluster and locality, for reports to the control plane.
    pub loads: Arc<Loads>,
    /// Where each listener is bound, or why it is not.
    pub bound: watch::Sender<BTreeMap<Arc<str>, Bound>>,
    /// Open downstream connections.
    pub connections: AtomicUsize,
    /// Connections refused, by the reason.
    pub refused: Refused,
    /// Where access logs go.
    pub logs: Sinks,
    /// Requests for hosts that are not known yet.
    pub on_demand: OnDemand,
    /// What shaped requests.
    pub shaping: Shaping,
    /// Woken when the health of an endpoint should be looked at.
    pub look: Arc<Notify>,
    /// Counters of clusters, while any worker uses them.
    clusters: Mutex<HashMap<Arc<str>, Weak<Counters>>>,
}

/// Downstream connections that were closed before anything of theirs was served.
#[derive(Debug, Default)]
pub struct Refused {
    /// `connections_max` was reached.
    pub limit: Tally,
    /// The client did not say in time what the choice of a filter chain needs.
    pub silent: Tally,
    /// It closed before, or what it said is broken TLS.
    pub unreadable: Tally,
    /// No filter chain is for such connections.
    pub no_chain: Tally,
}

impl Refused {
    /// Each counter with its word in `weft_downstream_connections_refused_total`.
    pub fn all(&self) -> [(&'static str, u64); 4] {
        let Self { limit, silent, unreadable, no_chain } = self;
        [("limit", limit), ("silent", silent), ("unreadable", unreadable), ("no_chain", no_chain)]
            .map(|(word, tally)| (word, tally.0.load(Relaxed)))
    }
}

/// A counter.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    /// Counts one.
    pub fn count(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Shared {
    /// Shared state of workers that run `spec`.
    pub fn new(
        spec: watch::Receiver<Arc<Spec>>,
        answers: watch::Receiver<Answers>,
        limits: Limits,
        drain: CancellationToken,
        workload: Workload,
        on_demand: OnDemand,
    ) -> Self {
        Self {
            spec,
            answers,
            limits,
            drain,
            workload,
            traffic: Traffic::default(),
            loads: Arc::default(),
            bound: watch::Sender::default(),
            connections: AtomicUsize::new(0),
            refused: Refused::default(),
            logs: Sinks::default(),
            on_demand,
            shaping: Shaping::default(),
            look: Arc::default(),
            clusters: Mutex::default(),
        }
    }

    /// The counters that all workers share for a cluster.
    pub fn counters(&self, name: &Arc<str>) -> Arc<Counters> {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counters) = clusters.get(name).and_then(Weak::upgrade) {
            return counters;
        }
        clusters.retain(|_, counters| counters.strong_count() > 0);
        let counters = Arc::new(Counters::new(self.look.clone()));
        clusters.insert(name.clone(), Arc::downgrade(&counters));
        counters
    }
}

/// A running worker.
#[derive(Debug)]
pub struct WorkerHandle {
    /// Its number.
    pub index: usize,
    thread: thread::JoinHandle<()>,
}

impl WorkerHandle {
    /// Waits until it has drained. Blocks; an error means that it panicked.
    pub fn join(self) -> thread::Result<()> {
        self.thread.join()
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Starts a worker.
pub fn spawn(index: usize, shared: Arc<Shared>) -> io::Result<WorkerHandle> {
    let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let mut builder = Builder::new_current_thread();
        match builder.enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime.block_on(run(Worker::new(shared))),
            Err(error) => {
                tracing::error!(index, %error, "cannot start a worker; raise the limit of open files")
            }
        }
    })?;
    Ok(WorkerHandle { index, thread })
}

/// A worker's own state.
pub struct Worker {
    /// What it shares with others.
    pub shared: Arc<Shared>,
    /// Its metrics, resolved.
    pub series: SeriesCache,
    /// What it tells the control plane of its traffic.
    pub loads: Arc<WorkerLoads>,
    /// What it tells collectors of its requests.
    pub spans: Batches,
    /// Its connections.
    pub tasks: TaskTracker,
    snapshot: RefCell<Rc<Snapshot>>,
    contexts: RefCell<Arc<Contexts>>,
    /// Woken when there is another snapshot.
    applied: Notify,
    rng: RefCell<SmallRng>,
    spreads: RefCell<Spreads>,
    next_id: Cell<u64>,
    /// Copies of requests under way.
    mirrors: Rc<Cell<usize>>,
}

impl Worker {
    fn new(shared: Arc<Shared>) -> Rc<Self> {
        Rc::new(Self {
            series: SeriesCache::new(shared.traffic.worker()),
            loads: shared.loads.worker(),
            spans: Batches::default(),
            tasks: TaskTracker::new(),
            snapshot: RefCell::default(),
            contexts: RefCell::default(),
            applied: Notify::new(),
            rng: RefCell::new(SmallRng::from_rng(&mut rand::rng())),
            spreads: RefCell::new(Spreads::new(rand::random)),
            next_id: Cell::new(1),
            mirrors: Rc::default(),
            shared,
        })
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Rc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// The TLS context that a filter chain has now; none while a secret of it is missing.
    pub fn server_context(&self, tls: &DownstreamTls) -> Option<Arc<ServerContext>> {
        self.contexts.borrow().server(tls).cloned()
    }

    /// The next snapshot; it counts from the call, not from the first poll.
    pub fn applied(&self) -> Pin<Box<Notified<'_>>> {
        let mut applied = Box::pin(self.applied.notified());
        applied.as_mut().enable();
        applied
    }

    /// Lends the worker's randomness.
    pub fn with_rng<T>(&self, use_rng: impl FnOnce(&mut SmallRng) -> T) -> T {
        use_rng(&mut self.rng.borrow_mut())
    }

    /// Draws one of some clusters by their weights, and gives its place; none when all weights are zero.
    pub fn draw(&self, clusters: &[WeightedCluster]) -> Option<usize> {
        weighted(clusters, self.spreads.borrow_mut().of(clusters))
    }

    /// Room for one more copy of a request; none where [`MIRRORS_MAX`] are under way.
    pub fn mirror_slot(&self) -> Option<MirrorSlot> {
        let under_way = self.mirrors.get();
        (under_way < MIRRORS_MAX).then(|| {
            self.mirrors.set(under_way + 1);
            MirrorSlot(self.mirrors.clone())
        })
    }

    fn apply(&self, spec: &Spec, answers: &Answers) {
        let next_id = || self.next_id.replace(self.next_id.get() + 1);
        let next = self.snapshot().next(
            spec,
            answers,
            &Maker { counters: &|name| self.shared.counters(name), next_id: &next_id },
        );
        *self.snapshot.borrow_mut() = Rc::new(next);
        *self.contexts.borrow_mut() = spec.tls.clone();
        self.applied.notify_waiters();
    }
}

async fn run(worker: Rc<Worker>) {
    let shared = worker.shared.clone();
    let (mut spec, mut answers) = (shared.spec.clone(), shared.answers.clone());
    let mut listeners = Listeners::default();
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A sender that is gone leaves the last state serving.
    let (mut spec_open, mut answers_open) = (true, true);
    loop {
        let current = spec.borrow_and_update().clone();
        worker.apply(&current, &answers.borrow_and_update());
        listeners.apply(&worker, &current);
        loop {
            tokio::select! {
                () = shared.drain.cancelled() => {
                    listeners.drain();
                    worker.tasks.close();
                    return worker.tasks.wait().await;
                }
                changed = spec.changed(), if spec_open => {
                    spec_open = changed.is_ok();
                    break;
                }
                changed = answers.changed(), if answers_open => {
                    answers_open = changed.is_ok();
                    break;
                }
                _ = sweep.tick() => {
                    let now = Instant::now();
                    worker.snapshot().clusters().for_each(|cluster| cluster.sweep(now));
                    listeners.apply(&worker, &current);
                }
            }
        }
    }
}

/// Counts a downstream connection of the process while it lives.
#[derive(Debug)]
pub struct ConnectionSlot(Arc<Shared>);

impl ConnectionSlot {
    /// A slot, if the limit leaves one.
    pub fn take(shared: &Arc<Shared>) -> Option<Self> {
        if shared.connections.fetch_add(1, Relaxed) >= shared.limits.connections_max {
            shared.connections.fetch_sub(1, Relaxed);
            shared.refused.limit.count();
            return None;
        }
        Some(Self(shared.clone()))
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// Counts a copy of a request of one worker while it lasts.
#[derive(Debug)]
pub struct MirrorSlot(Rc<Cell<usize>>);

impl Drop for MirrorSlot {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests;
