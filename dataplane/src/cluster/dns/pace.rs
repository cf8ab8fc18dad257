//! When a host name is looked up again.

use std::time::Duration;

use rand::{Rng, rngs::SmallRng};

use crate::spec::Refresh;

/// The shortest life of an answer: records of no life at all would have us ask without end.
const TTL_MIN: Duration = Duration::from_secs(1);

/// The longest life of an answer, so that a record that was wrong for a moment does not stay for days.
const TTL_MAX: Duration = Duration::from_secs(3600);

/// The most that chance adds where a cluster does not say: this part of the wait, so that proxies that began together do not
/// ask together for ever.
const JITTER_DIVISOR: u32 = 10;

/// What came of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Addresses, and how long their records live, where they say.
    Found {
        /// Life of the records.
        ttl: Option<Duration>,
    },
    /// No answer.
    Failed {
        /// Failures right before this one.
        before: u32,
    },
}

/// Time to the next lookup: never shorter than what the records or the cluster say.
pub(super) fn wait(refresh: &Refresh, outcome: Outcome, rng: &mut SmallRng) -> Duration {
    let base = match (outcome, refresh.failure) {
        (Outcome::Found { ttl: Some(ttl) }, _) if refresh.by_ttl => ttl.clamp(TTL_MIN, TTL_MAX),
        (Outcome::Found { .. }, _) | (Outcome::Failed { .. }, None) => refresh.every,
        (Outcome::Failed { before }, Some((first, longest))) => {
            let doubled = first.saturating_mul(1_u32.checked_shl(before).unwrap_or(u32::MAX));
            let backoff = doubled.min(longest);
            // Half by chance: of those that failed together not all come back together.
            return backoff / 2 + backoff.mul_f64(rng.random_range(0.0..0.5));
        }
    };
    base + refresh.jitter.unwrap_or(base / JITTER_DIVISOR).mul_f64(rng.random_range(0.0..1.0))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const REFRESH: Refresh =
        Refresh { every: Duration::from_secs(5), by_ttl: true, jitter: None, failure: None };

    /// Shortest and longest of many waits, in milliseconds.
    fn waits(refresh: Refresh, outcome: Outcome) -> (u128, u128) {
        let mut rng = SmallRng::seed_from_u64(7);
        let all: Vec<_> = (0..500).map(|_| wait(&refresh, outcome, &mut rng).as_millis()).collect();
        (*all.iter().min().unwrap(), *all.iter().max().unwrap())
    }

    #[test]
    fn waits_follow_records_settings_and_failures() {
        let found = |seconds| Outcome::Found { ttl: Some(Duration::from_secs(seconds)) };
        let failed = |before| Outcome::Failed { before };
        let backing_off =
            Refresh { failure: Some((Duration::from_secs(1), Duration::from_secs(8))), ..REFRESH };
        let cases = [
            ("records live their time", REFRESH, found(30), 30_000..=33_000),
            ("records of no life live a second", REFRESH, found(0), 1_000..=1_100),
            ("records live an hour at most", REFRESH, found(864_000), 3_600_000..=3_960_000),
            (
                "unless asked to, records say nothing",
                Refresh { by_ttl: false, ..REFRESH },
                found(30),
                5_000..=5_500,
            ),
            ("an answer without records", REFRESH, Outcome::Found { ttl: None }, 5_000..=5_500),
            ("a failure by itself", REFRESH, failed(9), 5_000..=5_500),
            (
                "jitter as asked for",
                Refresh { jitter: Some(Duration::from_secs(60)), ..REFRESH },
                found(30),
                30_000..=90_000,
            ),
            ("no jitter", Refresh { jitter: Some(Duration::ZERO), ..REFRESH }, found(30), 30_000..=30_000),
            ("the first failure", backing_off, failed(0), 500..=1_000),
            ("the third failure", backing_off, failed(2), 2_000..=4_000),
            ("failures without end", backing_off, failed(u32::MAX), 4_000..=8_000),
        ];
        for (case, refresh, outcome, expected) in cases {
            let (shortest, longest) = waits(refresh, outcome);
            assert!(
                expected.contains(&shortest) && expected.contains(&longest),
                "{case}: {shortest}..{longest}"
            );
        }
    }
}
