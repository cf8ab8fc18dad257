//! A token bucket in one number: the moment at which it would be full again. Lock-free, and exact over all workers: of any
//! number of takers at any moments none gets a token that is not there.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// How a bucket is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Most tokens in it; above zero.
    pub burst: u32,
    /// Time in which one comes, above zero. Rounded up, so that not even a part of a token is given away.
    interval_ns: u64,
}

/// What comes of taking a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether there was one.
    pub passes: bool,
    /// Whole tokens that are left.
    pub remaining: u64,
    /// Time until there is a whole one, rounded up; zero where there is.
    pub next_after_seconds: u64,
}

impl Rate {
    /// `tokens` in each `time`, both above zero.
    pub fn new(burst: u32, tokens: u32, time: Duration) -> Self {
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self { burst, interval_ns: time_ns.div_ceil(u64::from(tokens.max(1))).max(1) }
    }

    /// Time in which a token comes.
    pub fn interval_ns(self) -> u64 {
        self.interval_ns
    }

    /// Time in which an empty bucket is filled.
    fn whole_ns(self) -> u64 {
        self.interval_ns.saturating_mul(u64::from(self.burst))
    }
}

/// Now, as buckets count time: nanoseconds since the first look.
pub fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START
        .get_or_init(|| Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or_else(Instant::now));
    u64::try_from(Instant::now().saturating_duration_since(start).as_nanos()).unwrap_or(u64::MAX)
}

/// Takes a token from a bucket that is full at the moment `full_at`, if there is one.
pub fn take(full_at: &AtomicU64, rate: Rate, now: u64) -> Taken {
    let whole = rate.whole_ns();
    let mut seen = full_at.load(Relaxed);
    loop {
        let wanted = seen.max(now).saturating_add(rate.interval_ns);
        if wanted - now > whole {
            let next_ns = wanted - now - whole;
            return Taken { passes: false, remaining: 0, next_after_seconds: seconds(next_ns) };
        }
        match full_at.compare_exchange_weak(seen, wanted, Relaxed, Relaxed) {
            Ok(_) => {
                let left = whole - (wanted - now);
                let remaining = left / rate.interval_ns;
                let next_ns = if remaining > 0 { 0 } else { rate.interval_ns - left };
                return Taken { passes: true, remaining, next_after_seconds: seconds(next_ns) };
            }
            Err(other) => seen = other,
        }
    }
}

fn seconds(ns: u64) -> u64 {
    ns.div_ceil(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_bucket_gives_its_burst_and_then_what_comes_in() {
        let (rate, bucket) = (Rate::new(3, 2, Duration::from_secs(10)), AtomicU64::new(0));
        let at = |time| take(&bucket, rate, time);
        let passes = |remaining, next_after_seconds| Taken { passes: true, remaining, next_after_seconds };
        let refused = |next_after_seconds| Taken { passes: false, remaining: 0, next_after_seconds };
        assert_eq!(at(SECOND), passes(2, 0));
        assert_eq!(at(SECOND), passes(1, 0));
        assert_eq!(at(SECOND), passes(0, 5));
        assert_eq!(at(SECOND), refused(5));
        assert_eq!(at(3 * SECOND), refused(3), "what is refused takes nothing");
        assert_eq!(at(6 * SECOND), passes(0, 5));
        assert_eq!(at(100 * SECOND), passes(2, 0), "it never holds more than its burst");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_number_of_workers_never_exceeds_the_limit(
            workers in 2usize..6,
            burst in 1u32..50,
            tokens in 1u32..1000,
            steps in proptest::collection::vec(0u64..30_000_000, 20..80),
        ) {
            let rate = Rate::new(burst, tokens, Duration::from_secs(1));
            let bucket = Arc::new(AtomicU64::new(0));
            let end: u64 = steps.iter().sum();
            // Each sees the same moments, in its own time.
            let takers: Vec<_> = (0..workers)
                .map(|_| {
                    let (bucket, steps) = (bucket.clone(), steps.clone());
                    thread::spawn(move || {
                        let mut now = 0;
                        let took = |step: u64| {
                            now += step;
                            u64::from(take(&bucket, rate, now).passes) + u64::from(take(&bucket, rate, now).passes)
                        };
                        steps.into_iter().map(took).sum::<u64>()
                    })
                })
                .collect();
            let taken: u64 = takers.into_iter().map(|taker| taker.join().unwrap()).sum();
            let most = u64::from(burst) + end / rate.interval_ns;
            prop_assert!(taken <= most, "{taken} of {most}");
        }
    }
}
