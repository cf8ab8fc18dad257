//! Who calls whom, how often, how well and how fast: the last quarter of an hour as proxies report it. Pure; `lrs` fills
//! it, the admin API reads it. Cheap by edge: only times with traffic take memory, and only latencies that occurred.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

mod latency;

pub use latency::Latencies;

/// How far back samples are kept.
pub const WINDOW_MAX: Duration = Duration::from_secs(15 * 60);
/// What is reported within one slot is added up.
pub const SLOT: Duration = Duration::from_secs(15);
/// Edges at once; traffic of more is not kept, and counted.
pub const EDGES_MAX: usize = 10_000;

/// Traffic between a workload and one part of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// Namespace of the workload whose proxy reports.
    pub source_namespace: Arc<str>,
    /// Its name.
    pub source_workload: Arc<str>,
    /// Host of the service that is called.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// Its subset; empty is the whole service.
    pub subset: Arc<str>,
}

/// What happened on an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Attempts begun.
    pub issued: u64,
    /// Ended well.
    pub good: u64,
    /// Ended badly.
    pub failed: u64,
    /// Requests that never became attempts.
    pub dropped: u64,
    /// Latency of ended attempts; none where the proxy does not measure it.
    pub latencies: Latencies,
}

/// What happened on an edge, or several, within a time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flow {
    /// What happened.
    pub sum: Sample,
    /// Attempts under way.
    pub active: u64,
    /// The time that it took to happen.
    pub over: Duration,
}

impl Sample {
    fn add(&mut self, more: &Self) {
        self.issued = self.issued.saturating_add(more.issued);
        self.good = self.good.saturating_add(more.good);
        self.failed = self.failed.saturating_add(more.failed);
        self.dropped = self.dropped.saturating_add(more.dropped);
        self.latencies.add(&more.latencies);
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Flow {
    /// Takes in another edge's.
    pub fn add(&mut self, more: &Self) {
        self.sum.add(&more.sum);
        self.active = self.active.saturating_add(more.active);
        self.over = self.over.max(more.over);
    }

    /// Requests a second, dropped ones included.
    pub fn rate(&self) -> f64 {
        self.per_second(self.sum.issued.saturating_add(self.sum.dropped))
    }

    /// Failed and dropped requests a second.
    pub fn error_rate(&self) -> f64 {
        self.per_second(self.sum.failed.saturating_add(self.sum.dropped))
    }

    /// Requests that ended, well or badly or dropped.
    pub fn ended(&self) -> u64 {
        self.sum.good.saturating_add(self.sum.failed).saturating_add(self.sum.dropped)
    }

    /// Share of ended requests that ended well; none where nothing ended.
    pub fn success(&self) -> Option<f64> {
        (self.ended() > 0).then(|| self.sum.good as f64 / self.ended() as f64)
    }

    fn per_second(&self, count: u64) -> f64 {
        if self.over.is_zero() { 0.0 } else { count as f64 / self.over.as_secs_f64() }
    }
}

/// The traffic of the mesh. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Traffic {
    shared: Arc<Mutex<History>>,
}

/// A reporting proxy's place; what it has under way is forgotten when it is dropped.
#[derive(Debug)]
pub struct Reporter {
    traffic: Traffic,
    active: HashMap<Edge, u64>,
}

#[derive(Debug)]
struct History {
    origin: Instant,
    /// When the first and the last report came.
    reported: Option<(Instant, Instant)>,
    /// The slot in which old edges were last looked for.
    swept: u64,
    edges: BTreeMap<Edge, Ring>,
}

/// The samples of one edge, oldest first, each with its slot.
#[derive(Debug, Default)]
struct Ring {
    samples: std::collections::VecDeque<(u64, Sample)>,
    active: u64,
}

impl Traffic {
    /// Nothing known; slots begin at `now`.
    pub fn new(now: Instant) -> Self {
        let history = History { origin: now, reported: None, swept: 0, edges: BTreeMap::new() };
        Self { shared: Arc::new(Mutex::new(history)) }
    }

    /// A place for one more proxy.
    pub fn reporter(&self) -> Reporter {
        Reporter { traffic: self.clone(), active: HashMap::new() }
    }

    /// What happened on the edges chosen within `window` before `now`; the window is rounded to slots.
    pub fn flows(
        &self,
        now: Instant,
        window: Duration,
        chosen: impl Fn(&Edge) -> bool,
    ) -> BTreeMap<Edge, Flow> {
        let mut history = self.history();
        history.sweep(now);
        let Some((first, last)) = history.reported else { return BTreeMap::new() };
        let slots = (window.clamp(SLOT, WINDOW_MAX).as_secs() / SLOT.as_secs()).max(1);
        let oldest = (history.slot(now) + 1).saturating_sub(slots);
        let begin = (history.origin + SLOT * u32::try_from(oldest).unwrap_or(u32::MAX)).max(first);
        // Rates are over the time that is reported: the newest seconds are still with the proxies.
        let over = last.saturating_duration_since(begin);
        let flow = |ring: &Ring| {
            let mut flow = Flow { active: ring.active, over, ..Flow::default() };
            let recent = ring.samples.iter().filter(|(slot, _)| *slot >= oldest);
            recent.for_each(|(_, sample)| flow.sum.add(sample));
            flow
        };
        let found = history.edges.iter().filter(|(edge, _)| chosen(edge));
        found.map(|(edge, ring)| (edge.clone(), flow(ring))).collect()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        // Nothing that holds the lock can leave a half-written sample behind.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reporter {
    /// Takes a report that begins at `began`; `active` is what the proxy has under way on each edge. What was known of it
    /// before and is not in the report has ended.
    pub fn report(&mut self, began: Instant, now: Instant, report: BTreeMap<Edge, (Sample, u64)>) {
        let mut history = self.traffic.history();
        let first = history.reported.map_or(began, |(first, _)| first);
        history.reported = Some((first, now));
        history.sweep(now);
        let slot = history.slot(began + now.saturating_duration_since(began) / 2);
        forget(&mut history, &mut self.active);
        for (edge, (sample, active)) in report {
            if !history.edges.contains_key(&edge) && history.edges.len() >= EDGES_MAX {
                metrics::counter!("weft_traffic_refused_edges_total").increment(1);
                continue;
            }
            let ring = history.edges.entry(edge.clone()).or_default();
            ring.add(slot, sample);
            ring.active += active;
            if active > 0 {
                self.active.insert(edge, active);
            }
        }
        metrics::gauge!("weft_traffic_edges").set(history.edges.len() as f64);
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        forget(&mut self.traffic.history(), &mut self.active);
    }
}

fn forget(history: &mut History, active: &mut HashMap<Edge, u64>) {
    for (edge, count) in active.drain() {
        if let Some(ring) = history.edges.get_mut(&edge) {
            ring.active -= count;
        }
    }
}

impl History {
    fn slot(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_secs() / SLOT.as_secs()
    }

    /// Forgets what is too old, once in a slot.
    fn sweep(&mut self, now: Instant) {
        let slot = self.slot(now);
        if std::mem::replace(&mut self.swept, slot) == slot {
            return;
        }
        let oldest = (slot + 1).saturating_sub(WINDOW_MAX.as_secs() / SLOT.as_secs());
        self.edges.retain(|_, ring| {
            while ring.samples.pop_front_if(|(slot, _)| *slot < oldest).is_some() {}
            !ring.samples.is_empty() || ring.active > 0
        });
    }
}

impl Ring {
    fn add(&mut self, slot: u64, sample: Sample) {
        if sample.is_empty() {
            return;
        }
        let place = self.samples.partition_point(|(known, _)| *known < slot);
        match self.samples.get_mut(place) {
            Some((known, sum)) if *known == slot => sum.add(&sample),
            _ => self.samples.insert(place, (slot, sample)),
        }
    }
}

#[cfg(test)]
mod tests;
