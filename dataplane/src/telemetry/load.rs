//! What is told to the control plane about traffic: the attempts of each worker by cluster and locality, as plain atomics
//! that only their worker writes, so that counting touches no cache line of another core; a report adds them up.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use tokio::time::Instant;
use weft_proto::latency::{self, BUCKETS};

/// Most places and clusters of one worker that are reported; what comes after is not, so that memory has a bound.
pub const LOADS_MAX: usize = 20_000;

/// Where traffic goes, as reports tell it apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Name of the cluster.
    pub cluster: Arc<str>,
    /// `region/zone/subzone`.
    pub locality: Arc<str>,
    /// Priority of the locality.
    pub priority: u32,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With an answer that is no server error.
    Good,
    /// With a server error, HTTP's or gRPC's, or without an answer.
    Failed,
    /// The caller went away first.
    Abandoned,
}

/// Why a request never became an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// A limit of the cluster was reached.
    Overflow = 0,
    /// No endpoint may be used.
    NoEndpoint = 1,
}

impl Dropped {
    /// Every reason.
    pub const ALL: [Self; 2] = [Self::Overflow, Self::NoEndpoint];

    /// `dropped_requests.category`.
    pub const fn category(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::NoEndpoint => "no_endpoint",
        }
    }
}

/// The attempts of one worker at one place.
#[derive(Debug, Default)]
pub struct Load {
    issued: AtomicU64,
    good: AtomicU64,
    failed: AtomicU64,
    active: AtomicI64,
    /// Latency of what was answered; made by the first.
    latency: OnceLock<Box<[AtomicU32; BUCKETS]>>,
}

impl Load {
    fn observe(&self, bucket: usize) {
        let latency = self.latency.get_or_init(|| Box::new([const { AtomicU32::new(0) }; BUCKETS]));
        latency[bucket].fetch_add(1, Relaxed);
    }
}

/// Requests of one worker that never became attempts, by reason.
#[derive(Debug, Default)]
pub struct Drops([AtomicU64; Dropped::ALL.len()]);

impl Drops {
    /// Counts one.
    pub fn count(&self, why: Dropped) {
        self.0[why as usize].fetch_add(1, Relaxed);
    }
}

/// One attempt under way; one that is dropped without a word was abandoned.
#[derive(Debug)]
pub struct Attempt {
    load: Arc<Load>,
    started: Instant,
}

impl Attempt {
    /// Counts an attempt that began at `started`.
    pub fn start(load: &Arc<Load>, started: Instant) -> Self {
        load.issued.fetch_add(1, Relaxed);
        load.active.fetch_add(1, Relaxed);
        Self { load: load.clone(), started }
    }

    /// Counts its end, and its time, where `now` is given: how long a connection stays open is no latency.
    pub fn end(self, ending: Ending, now: Option<Instant>) {
        match ending {
            Ending::Good => self.load.good.fetch_add(1, Relaxed),
            Ending::Failed => self.load.failed.fetch_add(1, Relaxed),
            Ending::Abandoned => return,
        };
        if let Some(now) = now {
            self.load.observe(latency::bucket(now.saturating_duration_since(self.started)));
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.load.active.fetch_sub(1, Relaxed);
    }
}

/// What endpoints of one locality of a worker's cluster count on, found when the first is used.
#[derive(Debug)]
pub struct LoadCell {
    place: Place,
    load: OnceCell<Arc<Load>>,
}

impl LoadCell {
    /// Of a place.
    pub fn new(place: Place) -> Self {
        Self { place, load: OnceCell::new() }
    }

    /// Where attempts at this place are counted.
    pub fn get(&self, loads: &WorkerLoads) -> &Arc<Load> {
        self.load.get_or_init(|| loads.load(&self.place))
    }
}

/// The loads of every worker.
#[derive(Debug, Default)]
pub struct Loads {
    workers: Mutex<Vec<Arc<WorkerLoads>>>,
}

/// The loads of one worker; the lock is taken when a place is new to a cluster and by a report, never per request.
#[derive(Debug, Default)]
pub struct WorkerLoads {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    loads: HashMap<Place, Arc<Load>>,
    drops: HashMap<Arc<str>, Arc<Drops>>,
}

/// What happened at a place since the last report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Attempts begun.
    pub issued: u64,
    /// Ended well.
    pub good: u64,
    /// Ended badly.
    pub failed: u64,
    /// Under way now.
    pub active: u64,
    /// Ended attempts by [`latency::bucket`]; only buckets that have any.
    pub latency: BTreeMap<usize, u64>,
}

/// What happened in a cluster since the last report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterTaken {
    /// By locality and priority.
    pub places: BTreeMap<(Arc<str>, u32), Taken>,
    /// Requests that never became attempts, in the order of [`Dropped::ALL`].
    pub dropped: [u64; Dropped::ALL.len()],
}

impl Loads {
    /// Loads for one more worker.
    pub fn worker(&self) -> Arc<WorkerLoads> {
        let worker = Arc::new(WorkerLoads::default());
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(worker.clone());
        worker
    }

    /// Takes what happened since it was last taken, by cluster; where nothing did there is no entry. What no cluster
    /// uses any longer is forgotten.
    pub fn take(&self) -> BTreeMap<Arc<str>, ClusterTaken> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all: BTreeMap<Arc<str>, ClusterTaken> = BTreeMap::new();
        for worker in workers {
            let mut known = worker.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.loads.retain(|place, load| {
                let used = Arc::strong_count(load) > 1;
                let taken = take(load);
                if taken != Taken::default() {
                    let cluster = all.entry(place.cluster.clone()).or_default();
                    add(cluster.places.entry((place.locality.clone(), place.priority)).or_default(), taken);
                }
                used
            });
            known.drops.retain(|cluster, drops| {
                let used = Arc::strong_count(drops) > 1;
                let taken = drops.0.each_ref().map(|count| count.swap(0, Relaxed));
                if taken.iter().any(|count| *count > 0) {
                    let sums = &mut all.entry(cluster.clone()).or_default().dropped;
                    sums.iter_mut().zip(taken).for_each(|(sum, count)| *sum += count);
                }
                used
            });
        }
        all
    }
}

impl WorkerLoads {
    fn load(&self, place: &Place) -> Arc<Load> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        of(&mut known.loads, place)
    }

    /// Where requests are counted that a cluster drops.
    pub fn drops(&self, cluster: &Arc<str>) -> Arc<Drops> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        of(&mut known.drops, cluster)
    }
}

/// The known value, a new one, or past the limit one that is in no report.
fn of<K: Clone + Eq + std::hash::Hash, V: Default>(known: &mut HashMap<K, Arc<V>>, key: &K) -> Arc<V> {
    if let Some(found) = known.get(key) {
        return found.clone();
    }
    if known.len() >= LOADS_MAX {
        metrics::counter!("weft_load_unreported_total").increment(1);
        return Arc::default();
    }
    known.entry(key.clone()).or_default().clone()
}

fn take(load: &Load) -> Taken {
    let counts = load.latency.get().into_iter().flat_map(|latency| latency.iter().enumerate());
    let taken = counts.map(|(bucket, count)| (bucket, u64::from(count.swap(0, Relaxed))));
    Taken {
        issued: load.issued.swap(0, Relaxed),
        good: load.good.swap(0, Relaxed),
        failed: load.failed.swap(0, Relaxed),
        active: u64::try_from(load.active.load(Relaxed)).unwrap_or(0),
        latency: taken.filter(|(_, count)| *count > 0).collect(),
    }
}

fn add(sum: &mut Taken, taken: Taken) {
    sum.issued += taken.issued;
    sum.good += taken.good;
    sum.failed += taken.failed;
    sum.active += taken.active;
    for (bucket, count) in taken.latency {
        *sum.latency.entry(bucket).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn place() -> Place {
        Place { cluster: "c".into(), locality: "r/z".into(), priority: 1 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_adds_up_the_workers_and_takes_each_count_once() {
        let loads = Loads::default();
        let now = Instant::now();
        let mut kept = Vec::new();
        for _ in 0..2 {
            let worker = loads.worker();
            let cell = LoadCell::new(place());
            let attempt = || Attempt::start(cell.get(&worker), now);
            attempt().end(Ending::Good, Some(now + Duration::from_millis(3)));
            attempt().end(Ending::Failed, Some(now));
            attempt().end(Ending::Good, None);
            attempt().end(Ending::Abandoned, Some(now));
            let drops = worker.drops(&place().cluster);
            drops.count(Dropped::NoEndpoint);
            kept.push((attempt(), cell, drops));
        }
        let slow = latency::bucket(Duration::from_millis(3));
        let taken = loads.take();
        let cluster = &taken[&place().cluster];
        assert_eq!(cluster.dropped, [0, 2]);
        let found = &cluster.places[&(place().locality, 1)];
        let latency = BTreeMap::from([(0, 2), (slow, 2)]);
        assert_eq!(*found, Taken { issued: 10, good: 4, failed: 2, active: 2, latency });
        let again = loads.take();
        let found = &again[&place().cluster].places[&(place().locality, 1)];
        assert_eq!(*found, Taken { active: 2, ..Taken::default() });
        drop(kept);
        assert!(loads.take().is_empty());
    }

    #[test]
    fn a_place_outlives_the_cluster_that_was_exchanged_and_is_forgotten_after_the_last() {
        let loads = Loads::default();
        let worker = loads.worker();
        let (old, new) = (LoadCell::new(place()), LoadCell::new(place()));
        assert!(Arc::ptr_eq(old.get(&worker), new.get(&worker)));
        drop((old, new));
        loads.take();
        assert!(worker.known.lock().unwrap().loads.is_empty());
    }
}
