//! Picks among endpoints that share one pot of load: a priority's, or one locality's of it. Pure.

use rand::Rng;

use super::{Gauges, Policy, draw::Draw, rotation::Rotation};
use crate::spec::{Balancing, LeastRequest};

/// Endpoints, by their index in the balancer, and how one of them is picked.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) members: Vec<usize>,
    strategy: Strategy,
}

#[derive(Debug)]
enum Strategy {
    /// In turn, smoothly by weight.
    Rotation(Rotation),
    /// Drawn by weight.
    Random(Draw),
    /// The least loaded of some, or the turn of the one that is due by weight and load.
    LeastRequest { config: LeastRequest, equal: bool, turns: Option<Rotation> },
    /// The cheaper of two that are drawn by weight.
    Cheaper(Draw),
}

impl Group {
    /// `weights` are the members'; `warmth` tells which part of its weight an endpoint gets by now.
    pub(super) fn new(
        policy: &Policy,
        members: Vec<usize>,
        weight: impl Fn(usize) -> u32,
        warmth: impl Fn(usize) -> f64,
        rng: &mut impl Rng,
    ) -> Self {
        let weights = members.iter().map(|member| weight(*member));
        let equal = weights.clone().all(|weight| Some(weight) == weights.clone().next());
        let floats: Vec<_> = weights.clone().map(f64::from).collect();
        let warmth = |index: usize| warmth(members[index]);
        let strategy = match policy.balancing {
            Balancing::RoundRobin if policy.slow_start.is_none() => {
                Strategy::Rotation(Rotation::new(floats, rng))
            }
            Balancing::RoundRobin => Strategy::Rotation(Rotation::scaled(floats, warmth, rng)),
            Balancing::LeastRequest(config) => {
                let by_turn = !equal || policy.slow_start.is_some();
                let turns = by_turn.then(|| Rotation::scaled(floats, warmth, rng));
                Strategy::LeastRequest { config, equal, turns }
            }
            Balancing::PeakEwma(_) => Strategy::Cheaper(Draw::new(weights)),
            // Tables have no groups.
            Balancing::Random | Balancing::RingHash(_) | Balancing::Maglev(_) => {
                Strategy::Random(Draw::new(weights))
            }
        };
        Self { members, strategy }
    }

    /// Picks one; there are members. `warming` tells whether any endpoint's `warmth` is below 1.
    pub(super) fn pick(
        &mut self,
        warming: bool,
        warmth: impl Fn(usize) -> f64,
        gauges: &impl Gauges,
        rng: &mut impl Rng,
    ) -> usize {
        let members = &self.members;
        let index = match &mut self.strategy {
            Strategy::Rotation(turns) => turns.next(|index| warmth(members[index])),
            Strategy::Random(draw) => draw.one(rng),
            Strategy::LeastRequest { config, equal, turns } => match turns {
                Some(turns) if !*equal || warming => {
                    let bias = config.bias;
                    turns.next(|index| {
                        let requests = f64::from(gauges.active(members[index])) + 1.0;
                        warmth(members[index]) / if bias == 1.0 { requests } else { requests.powf(bias) }
                    })
                }
                _ => least(members, config.choices, gauges, rng),
            },
            Strategy::Cheaper(draw) => {
                let (first, second) = draw.two(rng);
                if gauges.cost(members[second]) < gauges.cost(members[first]) { second } else { first }
            }
        };
        members[index]
    }
}

/// The least loaded of some random choices, or of all.
fn least(members: &[usize], choices: Option<u32>, gauges: &impl Gauges, rng: &mut impl Rng) -> usize {
    let size = members.len();
    let mut best = rng.random_range(0..size);
    let mut load = gauges.active(members[best]);
    // Among all, the scan begins anywhere, so that equals take turns.
    let start = best;
    for step in 1..choices.map_or(size, |choices| choices as usize) {
        let other = if choices.is_some() { rng.random_range(0..size) } else { (start + step) % size };
        let other_load = gauges.active(members[other]);
        if other_load < load {
            (best, load) = (other, other_load);
        }
    }
    best
}
