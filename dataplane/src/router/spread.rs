//! Even shares: draws that follow weights closely from the first request on, not only on average. Pure.

use super::Dice;
use crate::spec::WeightedCluster;

/// 2^64 divided by the golden ratio: of all steps the one whose multiples leave the most even gaps.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sequence that fills `0..1` evenly (additive recurrence by the golden ratio, Weyl). After `n` draws a share is off by
/// about `log n / n`, where random draws are off by `1 / sqrt n`: a 5% canary gets 5% of the first hundred requests.
/// A subsequence is as even only where it is regular.
#[derive(Clone, Copy, Debug)]
pub struct Spread(u64);

impl Spread {
    /// A sequence that starts anywhere.
    pub fn new(start: u64) -> Self {
        Self(start)
    }
}

/// Sequences that a worker keeps; two splits that share one by chance are as uneven as their requests are tied together.
const SEQUENCES: usize = 64;

/// A sequence for each split. Of one for all a split would see the draws that others leave, and those hang on what was
/// drawn: who gets the faster answer asks again sooner.
#[derive(Debug)]
pub struct Spreads([Spread; SEQUENCES]);

impl Spreads {
    /// Sequences that start anywhere.
    pub fn new(mut start: impl FnMut() -> u64) -> Self {
        Self(std::array::from_fn(|_| Spread::new(start())))
    }

    /// The sequence of a split, told from others by where it is kept.
    pub fn of(&mut self, split: &[WeightedCluster]) -> &mut Spread {
        let at = (split.as_ptr() as u64).wrapping_mul(STEP) >> 32;
        &mut self.0[at as usize % SEQUENCES]
    }
}

impl Dice for Spread {
    fn roll(&mut self, below: u32) -> u32 {
        self.0 = self.0.wrapping_add(STEP);
        // The upper half of a 96 bit product is below `below`.
        ((u128::from(self.0) * u128::from(below)) >> 64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_weights_from_the_first_hundred_draws() {
        for start in [0, 1, u64::MAX / 3, u64::MAX] {
            for percent in [1, 5, 10, 50, 99] {
                for (draws, off_max) in [(100, 2.0), (1_000, 4.0), (20_000, 6.0)] {
                    let mut spread = Spread::new(start);
                    let hits = (0..draws).filter(|_| spread.roll(100) < percent).count();
                    let off = (hits as f64 - f64::from(percent) / 100.0 * f64::from(draws)).abs();
                    assert!(off <= off_max, "{percent}% of {draws}: {hits}");
                }
            }
        }
    }

    #[test]
    fn every_third_draw_is_as_even() {
        let mut spread = Spread::new(7);
        let hits = (0..3_000).filter(|i| spread.roll(20) == 0 && i % 3 == 0).count();
        assert!((46..=54).contains(&hits), "{hits}");
    }

    #[test]
    fn a_split_is_even_whatever_another_does_with_its_draws() {
        let split = |weights: [u32; 2]| {
            weights.map(|weight| WeightedCluster {
                name: "c".into(),
                weight,
                request_headers: Default::default(),
                response_headers: Default::default(),
            })
        };
        let (half, quarter) = (split([1, 1]), split([3, 1]));
        let mut spreads = Spreads::new(|| 0);
        let mut hits = 0;
        for _ in 0..200 {
            // What is answered at once asks again at once.
            while spreads.of(&half).roll(2) == 0 {}
            hits += u32::from(spreads.of(&quarter).roll(4) == 3);
        }
        assert!((48..=52).contains(&hits), "{hits}");
    }

    #[test]
    fn draws_stay_below_their_bound() {
        let mut spread = Spread::new(u64::MAX);
        for below in [1, 2, u32::MAX] {
            assert!((0..1_000).all(|_| spread.roll(below) < below));
        }
    }
}
