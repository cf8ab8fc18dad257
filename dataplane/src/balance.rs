//! Picks an endpoint out of those that admit requests. Pure: randomness comes in as `rng`.

mod rotation;

use rand::Rng;
use rotation::Rotation;

use crate::spec::{Balancing, Endpoint, EndpointHealth, EndpointSet};

/// The state of one cluster's balancing on one worker. Indices are into the list that [`Balancer::new`] returned.
#[derive(Debug)]
pub struct Balancer {
    strategy: Strategy,
    size: usize,
}

#[derive(Debug)]
enum Strategy {
    /// In turn, smoothly by weight.
    Rotation(Rotation),
    /// The less loaded of two that are drawn by weight.
    LeastRequest(Draw),
    /// Drawn by weight.
    Random(Draw),
}

/// How to pick, from the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The strategy.
    pub balancing: Balancing,
    /// Whether localities share their priority's traffic by their own weights.
    pub locality_weighted: bool,
    /// Below this share of admitting endpoints, in percent, health is disregarded; 0 is never.
    pub panic_percent: u32,
}

/// An endpoint's place in its set: locality and index within it.
pub type Place = (usize, usize);

/// Precision of an endpoint's share within a weighted locality.
const WEIGHT_SCALE: u64 = 1 << 16;

/// How often a pick is repeated to avoid an endpoint that was tried already.
const AVOID_PICKS: usize = 4;

impl Balancer {
    /// A balancer over the endpoints of the best priority that has any which admits requests, and where these are.
    pub fn new(policy: Policy, set: &EndpointSet, rng: &mut impl Rng) -> (Self, Vec<Place>) {
        let (places, weights) = candidates(policy, set);
        let strategy = match policy.balancing {
            Balancing::RoundRobin => Strategy::Rotation(Rotation::new(&weights, rng)),
            Balancing::LeastRequest => Strategy::LeastRequest(Draw::new(&weights)),
            Balancing::Random => Strategy::Random(Draw::new(&weights)),
        };
        (Self { strategy, size: places.len() }, places)
    }

    /// Picks one; `load` tells the active requests of each. None when no endpoint admits requests.
    pub fn pick(&mut self, rng: &mut impl Rng, load: impl Fn(usize) -> u32) -> Option<usize> {
        match self.size {
            0 => return None,
            1 => return Some(0),
            _ => {}
        }
        Some(match &mut self.strategy {
            Strategy::Rotation(rotation) => rotation.next(),
            Strategy::Random(draw) => draw.one(rng),
            Strategy::LeastRequest(draw) => {
                let (first, second) = (draw.one(rng), draw.one(rng));
                if load(second) < load(first) { second } else { first }
            }
        })
    }

    /// Picks one that `avoid` does not name, where a few picks find one; else any.
    pub fn pick_other(
        &mut self,
        rng: &mut impl Rng,
        load: impl Fn(usize) -> u32,
        avoid: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut picked = self.pick(rng, &load)?;
        for _ in 0..AVOID_PICKS {
            if !avoid(picked) {
                break;
            }
            picked = self.pick(rng, &load)?;
        }
        Some(picked)
    }
}

/// The endpoints of the priority in use that may be picked, with their weights.
fn candidates(policy: Policy, set: &EndpointSet) -> (Vec<Place>, Vec<u64>) {
    let (priority, panic) = priority(policy, set);
    let may =
        |endpoint: &Endpoint| endpoint.weight > 0 && (panic || endpoint.health == EndpointHealth::Admitting);
    let mut places = Vec::new();
    let mut weights = Vec::new();
    for (l, locality) in set.localities.iter().enumerate().filter(|(_, l)| Some(l.priority) == priority) {
        let total: u64 = locality.endpoints.iter().filter(|e| may(e)).map(|e| u64::from(e.weight)).sum();
        for (e, endpoint) in locality.endpoints.iter().enumerate().filter(|(_, e)| may(e)) {
            let weight = match (policy.locality_weighted, locality.weight) {
                (false, _) => u64::from(endpoint.weight),
                (true, 0) => continue, // A locality without weight gets nothing, as in Envoy.
                (true, share) => {
                    (u64::from(share) * WEIGHT_SCALE * u64::from(endpoint.weight) / total).max(1)
                }
            };
            places.push((l, e));
            weights.push(weight);
        }
    }
    (places, weights)
}

/// The lowest priority that has an admitting endpoint, and whether so few admit that health is disregarded.
fn priority(policy: Policy, set: &EndpointSet) -> (Option<u32>, bool) {
    let admits = |e: &&std::sync::Arc<Endpoint>| e.weight > 0 && e.health == EndpointHealth::Admitting;
    let of = |priority| {
        set.localities.iter().filter(move |l| Some(l.priority) == priority).flat_map(|l| &l.endpoints)
    };
    let best =
        set.localities.iter().filter(|l| l.endpoints.iter().any(|e| admits(&e))).map(|l| l.priority).min();
    if policy.panic_percent == 0 {
        return (best, false);
    }
    let chosen = best.or_else(|| set.localities.iter().map(|l| l.priority).min());
    let (healthy, all) = (of(chosen).filter(admits).count() as u64, of(chosen).count() as u64);
    (chosen, healthy * 100 < u64::from(policy.panic_percent) * all)
}

/// Draws indices by weight.
#[derive(Debug)]
enum Draw {
    Equal(usize),
    /// Running totals of the weights.
    Weighted(Vec<u64>),
}

impl Draw {
    fn new(weights: &[u64]) -> Self {
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Self::Equal(weights.len());
        }
        let mut total = 0;
        Self::Weighted(
            weights
                .iter()
                .map(|weight| {
                    total += weight;
                    total
                })
                .collect(),
        )
    }

    /// Only called when there are endpoints.
    fn one(&self, rng: &mut impl Rng) -> usize {
        match self {
            Draw::Equal(size) => rng.random_range(0..*size),
            Draw::Weighted(totals) => {
                let point = rng.random_range(0..totals.last().copied().unwrap_or(1));
                totals.partition_point(|&total| total <= point)
            }
        }
    }
}

#[cfg(test)]
mod tests;
