//! Even shares: draws that follow weights closely from the first request on, not only on average. Pure.

use super::Dice;

/// 2^64 divided by the golden ratio: of all steps the one whose multiples leave the most even gaps.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sequence that fills `0..1` evenly (additive recurrence by the golden ratio, Weyl). After `n` draws a share is off by
/// about `log n / n`, where random draws are off by `1 / sqrt n`: a 5% canary gets 5% of the first hundred requests.
/// Every regular subsequence is as even, so that several routes may draw from one.
#[derive(Clone, Copy, Debug)]
pub struct Spread(u64);

impl Spread {
    /// A sequence that starts anywhere.
    pub fn new(start: u64) -> Self {
        Self(start)
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
    fn draws_stay_below_their_bound() {
        let mut spread = Spread::new(u64::MAX);
        for below in [1, 2, u32::MAX] {
            assert!((0..1_000).all(|_| spread.roll(below) < below));
        }
    }
}
