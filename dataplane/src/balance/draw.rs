//! Draws by weight. Pure.

use rand::Rng;

/// Draws indices by weight.
#[derive(Debug)]
pub(super) enum Draw {
    Equal(usize),
    /// Running totals of the weights.
    Weighted(Vec<u64>),
}

/// How often a second draw is repeated that gave what the first did.
const REDRAWS: usize = 4;

impl Draw {
    pub(super) fn new(weights: impl Iterator<Item = u32> + Clone) -> Self {
        let mut rest = weights.clone();
        let first = rest.next();
        if rest.all(|weight| Some(weight) == first) {
            return Self::Equal(weights.count());
        }
        let total = |total: &mut u64, weight: u32| {
            *total += u64::from(weight);
            Some(*total)
        };
        Self::Weighted(weights.scan(0, total).collect())
    }

    /// Only called when there are endpoints.
    pub(super) fn one(&self, rng: &mut impl Rng) -> usize {
        match self {
            Draw::Equal(size) => rng.random_range(0..*size),
            Draw::Weighted(totals) => {
                let point = rng.random_range(0..totals.last().copied().unwrap_or(1));
                totals.partition_point(|&total| total <= point)
            }
        }
    }

    /// Two that differ, where there are two and the weights let both be drawn.
    pub(super) fn two(&self, rng: &mut impl Rng) -> (usize, usize) {
        let first = self.one(rng);
        match self {
            Draw::Equal(1) => (first, first),
            Draw::Equal(size) => {
                let second = rng.random_range(0..size - 1);
                (first, if second >= first { second + 1 } else { second })
            }
            Draw::Weighted(_) => {
                let mut second = self.one(rng);
                for _ in 0..REDRAWS {
                    if second != first {
                        break;
                    }
                    second = self.one(rng);
                }
                (first, second)
            }
        }
    }
}
