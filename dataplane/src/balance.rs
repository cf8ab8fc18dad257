//! Picks an endpoint out of those that may be picked. Pure: time comes in as `now`, chance as `rng`, health as [`State`].
//!
//! [`priority`] spreads load over priorities, [`level`] is one priority, [`group`] picks by turn, chance or load among
//! endpoints that share a pot, and [`table`] picks by hash.

mod draw;
pub mod ewma;
mod group;
mod level;
mod maglev;
mod murmur;
mod priority;
mod ring;
mod rotation;
mod slow_start;
pub mod table;

use std::{collections::BTreeMap, sync::Arc};

use rand::Rng;
use tokio::time::Instant;

pub use level::Standing;

use crate::spec::{Balancing, Endpoint, EndpointSet, SlowStart};
use level::{Level, Locality, Making};
use table::{Entry, Kind, Plan, Table};

/// The state of one cluster's balancing on one worker. An endpoint's index is its place in [`EndpointSet::endpoints`].
#[derive(Debug)]
pub struct Balancer {
    policy: Policy,
    overprovisioning_percent: u32,
    health_by_weight: bool,
    weights: Vec<u32>,
    /// Since when endpoints are ready for traffic; empty without slow start.
    ready: Vec<Instant>,
    /// When the last endpoint has its whole share.
    warm_at: Option<Instant>,
    levels: Vec<Level>,
    way: Way,
}

/// How to pick, from the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The strategy.
    pub balancing: Balancing,
    /// How new endpoints get their share.
    pub slow_start: Option<SlowStart>,
    /// Whether localities share their priority's traffic by their own weights.
    pub locality_weighted: bool,
    /// Below this share of available endpoints, in percent, health is disregarded; 0 is never.
    pub panic_percent: u32,
}

/// What is known of an endpoint when the balancer is refreshed.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// Whether it may be picked.
    pub standing: Standing,
    /// Since when it is ready for traffic.
    pub ready: Instant,
}

/// What is known of endpoints at the moment of a pick, by index.
pub trait Gauges {
    /// Requests under way.
    fn active(&self, index: usize) -> u32;
    /// What one more request costs; any unit. Asked for by `PeakEwma` only.
    fn cost(&self, index: usize) -> f64;
    /// Whether this request was tried there already.
    fn tried(&self, index: usize) -> bool;
    /// Whether this request leaves some priorities,
    fn leaves(&self) -> bool;
    /// and that of this endpoint.
    fn left(&self, index: usize) -> bool;
}

/// Where picks go; kept, so that the common cases cost nothing.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// To this endpoint.
    Sole(usize),
    /// To this priority's healthy or degraded endpoints.
    Level { level: usize, degraded: bool },
    /// Drawn by the priorities' shares.
    Levels,
}

impl Balancer {
    /// A balancer that knows nothing of health yet: [`Self::refresh`] comes before the first pick. `table` makes a table of
    /// its plan, or finds one that was made already.
    pub fn new(policy: Policy, set: &EndpointSet, mut table: impl FnMut(Plan) -> Arc<Table>) -> Self {
        let mut by_priority: BTreeMap<u32, Vec<Locality>> = BTreeMap::new();
        let mut next = 0;
        for locality in &set.localities {
            let members = next..next + locality.endpoints.len();
            next = members.end;
            let locality_of = Locality { weight: locality.weight, members };
            by_priority.entry(locality.priority).or_default().push(locality_of);
        }
        let endpoints: Vec<_> = set.endpoints().collect();
        let levels = by_priority.into_values().map(|localities| {
            let planned = plan(&policy, &localities, &endpoints);
            Level::new(localities, planned.map(|(plan, members)| (table(plan), members)))
        });
        Self {
            policy,
            overprovisioning_percent: set.overprovisioning_percent,
            health_by_weight: set.health_by_weight,
            levels: levels.collect(),
            weights: endpoints.iter().map(|endpoint| endpoint.weight).collect(),
            ready: Vec::new(),
            warm_at: None,
            way: Way::Levels,
        }
    }

    /// Takes in how endpoints stand. Round robin starts anew.
    pub fn refresh(&mut self, now: Instant, state: impl Fn(usize) -> State, rng: &mut impl Rng) {
        // Read once, so that counts and choices agree whatever changes meanwhile.
        let states: Vec<_> = (0..self.weights.len()).map(state).collect();
        self.ready.clear();
        self.warm_at = None;
        if let Some(slow_start) = &self.policy.slow_start {
            self.ready.extend(states.iter().map(|state| state.ready));
            self.warm_at = self.ready.iter().max().map(|ready| *ready + slow_start.window);
        }
        let (weights, ready, slow_start) = (&self.weights, &self.ready, &self.policy.slow_start);
        let making = Making {
            policy: &self.policy,
            overprovisioning_percent: self.overprovisioning_percent,
            standing: |index: usize| states[index].standing,
            weight: |index: usize| weights[index],
            warmth: warmth(slow_start.as_ref(), ready, now),
        };
        let census = |level: &Level| level.census(self.health_by_weight, making.standing, making.weight);
        let censuses: Vec<_> = self.levels.iter().map(census).collect();
        let shares = priority::spread(&censuses, self.overprovisioning_percent, self.policy.panic_percent);
        for (level, share) in self.levels.iter_mut().zip(shares) {
            level.share = share;
            level.choosers(&making, rng);
        }
        self.way = self.find_way();
    }

    fn find_way(&self) -> Way {
        let whole = self.levels.iter().enumerate().find_map(|(level, of)| match of.share {
            share if share.healthy == 100 => Some((level, false)),
            share if share.degraded == 100 => Some((level, true)),
            _ => None,
        });
        match whole {
            None => Way::Levels,
            Some((level, degraded)) => match self.levels[level].sole(degraded) {
                Some(index) => Way::Sole(index),
                None => Way::Level { level, degraded },
            },
        }
    }

    /// Whether any priority disregards health.
    pub fn in_panic(&self) -> bool {
        self.levels.iter().any(|level| level.share.panic)
    }

    /// Picks one, another than those that were tried where there is one. None when no endpoint may be picked. A request
    /// without a hash is spread at random where hashes decide.
    pub fn pick(
        &mut self,
        now: Instant,
        hash: Option<u64>,
        gauges: &impl Gauges,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        let by_hash = self.policy.balancing.by_hash();
        let hash = match hash {
            Some(hash) if by_hash => hash,
            _ if by_hash => rng.random(),
            _ => 0,
        };
        let (level, degraded) = match self.way {
            Way::Sole(index) if self.levels.len() == 1 || !(gauges.leaves() || gauges.tried(index)) => {
                return Some(index);
            }
            Way::Sole(_) => self.draw_level(0)?,
            Way::Level { level, degraded } => (level, degraded),
            Way::Levels => {
                self.draw_level(if by_hash { (hash % 100) as u32 } else { rng.random_range(0..100) })?
            }
        };
        let warming = self.warm_at.is_some_and(|warm_at| now < warm_at);
        let slow_start = self.policy.slow_start.as_ref().filter(|_| warming);
        let warmth = warmth(slow_start, &self.ready, now);
        let picked = self.levels[level].pick(degraded, hash, warming, &warmth, gauges, rng);
        let leaves = |level: &Level| level.members().any(|index| gauges.left(index));
        if gauges.leaves() && leaves(&self.levels[level]) {
            // Those that are left lose their load to the next that has anybody.
            let others = self.levels.iter_mut().filter(|other| !leaves(other));
            let mut found = others.filter_map(|other| other.pick(false, hash, warming, &warmth, gauges, rng));
            if let Some(found) = found.next() {
                return Some(found);
            }
        }
        if !picked.is_some_and(|index| gauges.tried(index)) {
            return picked;
        }
        // All of this priority was tried: a retry goes to the next one rather than to what just failed.
        let others = (0..self.levels.len()).filter(|other| *other != level);
        let untried = others.filter_map(|other| {
            let picked = self.levels[other].pick(false, hash, warming, &warmth, gauges, rng);
            picked.filter(|index| !gauges.tried(*index))
        });
        { untried }.next().or(picked)
    }

    /// The priority that a point of 0..100 falls on; healthy endpoints come before degraded ones.
    fn draw_level(&self, mut point: u32) -> Option<(usize, bool)> {
        for degraded in [false, true] {
            for (level, Level { share, .. }) in self.levels.iter().enumerate() {
                let load = if degraded { share.degraded } else { share.healthy };
                if point < load {
                    return Some((level, degraded));
                }
                point -= load;
            }
        }
        None
    }
}

/// The part of its weight that each endpoint gets.
fn warmth<'a>(
    slow_start: Option<&'a SlowStart>,
    ready: &'a [Instant],
    now: Instant,
) -> impl Fn(usize) -> f64 + use<'a> {
    move |index| {
        slow_start.map_or(1.0, |slow_start| slow_start.warmth(now.saturating_duration_since(ready[index])))
    }
}

/// The plan of a priority's table, and the indices of its endpoints; none where hashes do not decide.
fn plan(
    policy: &Policy,
    localities: &[Locality],
    endpoints: &[&Arc<Endpoint>],
) -> Option<(Plan, Vec<usize>)> {
    let (kind, by_hostname) = match policy.balancing {
        Balancing::RingHash(config) => (Kind::Ring(config), config.by_hostname),
        Balancing::Maglev(config) => (Kind::Maglev(config), config.by_hostname),
        Balancing::RoundRobin | Balancing::LeastRequest(_) | Balancing::Random | Balancing::PeakEwma(_) => {
            return None;
        }
    };
    let by_locality = policy.locality_weighted && localities.iter().any(|locality| locality.weight > 0);
    let (mut entries, mut members) = (Vec::new(), Vec::new());
    for locality in localities {
        let total: f64 = locality.members.clone().map(|member| f64::from(endpoints[member].weight)).sum();
        let scale = if by_locality { f64::from(locality.weight) / total } else { 1.0 };
        for member in locality.members.clone() {
            let endpoint = endpoints[member];
            let weight = f64::from(endpoint.weight) * scale;
            if weight > 0.0 {
                entries.push(Entry { key: key(endpoint, by_hostname), weight });
                members.push(member);
            }
        }
    }
    Some((Plan { kind, entries }, members))
}

/// What tells an endpoint apart when it is hashed, as in Envoy.
fn key(endpoint: &Endpoint, by_hostname: bool) -> Arc<str> {
    match &endpoint.hash_key {
        Some(key) => key.clone(),
        None if by_hostname && !endpoint.hostname.is_empty() => endpoint.hostname.clone(),
        None => endpoint.address.to_string().into(),
    }
}

#[cfg(test)]
mod tests;
