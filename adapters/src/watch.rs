//! Pacing that every watch shares: backoff after failures and a budget for wake-ups. Pure: `now` and `rng` come in.

use std::time::{Duration, Instant};

use rand::Rng;

/// Exponential backoff with full jitter. It starts small, since most breaks are short, and is reset only after the
/// connection has proved healthy, so that a peer that accepts and then fails is not hammered.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
    healthy_since: Option<Instant>,
}

/// How long a connection must last before earlier failures are forgotten.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(30);

impl Backoff {
    /// Delays between zero and `base` at first, doubling up to `cap`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Backoff { base, cap, failures: 0, healthy_since: None }
    }

    /// The usual one: 0.1 s, doubling to 30 s.
    pub fn usual() -> Self {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(30))
    }

    /// Something succeeded.
    pub fn succeeded(&mut self, now: Instant) {
        self.healthy_since.get_or_insert(now);
    }

    /// Something failed: how long to wait before the next try.
    pub fn failed(&mut self, now: Instant, rng: &mut impl Rng) -> Duration {
        if self.healthy_since.take().is_some_and(|since| now.duration_since(since) >= HEALTHY_AFTER) {
            self.failures = 0;
        }
        let ceiling = self.base.saturating_mul(1 << self.failures.min(16)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        // Full jitter: clients that lost the same peer at once come back spread over the whole interval.
        ceiling.mul_f64(rng.random::<f64>())
    }
}

/// A token bucket on wake-ups: churn becomes a few reads of the newest state instead of one read a change.
#[derive(Clone, Debug)]
pub struct Pace {
    burst: u32,
    every: Duration,
    tokens: u32,
    refilled: Instant,
}

impl Pace {
    /// `burst` wake-ups at once, then one `every`.
    pub fn new(burst: u32, every: Duration, now: Instant) -> Self {
        Pace { burst, every, tokens: burst, refilled: now }
    }

    /// Takes one wake-up: how long to wait before acting on it.
    pub fn take(&mut self, now: Instant) -> Duration {
        while self.tokens < self.burst && now.saturating_duration_since(self.refilled) >= self.every {
            self.refilled += self.every;
            self.tokens += 1;
        }
        if self.tokens == self.burst {
            self.refilled = self.refilled.max(now);
        }
        if self.tokens > 0 {
            self.tokens -= 1;
            return Duration::ZERO;
        }
        // The caller sleeps until the next token and takes it, so that token is spent already.
        self.refilled += self.every;
        self.refilled.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use rand::RngCore;

    use super::*;

    /// Always the highest number.
    struct Highest;

    impl RngCore for Highest {
        fn next_u32(&mut self) -> u32 {
            u32::MAX
        }
        fn next_u64(&mut self) -> u64 {
            u64::MAX
        }
        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            bytes.fill(u8::MAX);
        }
    }

    #[test]
    fn delays_double_up_to_the_cap() {
        let (mut backoff, now) = (Backoff::usual(), Instant::now());
        for ceiling_ms in [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000] {
            let ceiling = Duration::from_millis(ceiling_ms);
            let delay = backoff.failed(now, &mut Highest);
            assert!(delay > ceiling.mul_f64(0.99) && delay <= ceiling, "{delay:?} of {ceiling:?}");
        }
    }

    #[test]
    fn failures_are_forgotten_only_after_a_healthy_time() {
        let (mut backoff, start) = (Backoff::usual(), Instant::now());
        for _ in 0..10 {
            backoff.failed(start, &mut Highest);
        }
        backoff.succeeded(start);
        assert!(backoff.failed(start + Duration::from_secs(29), &mut Highest) > Duration::from_secs(10));
        backoff.succeeded(start);
        assert!(backoff.failed(start + Duration::from_secs(30), &mut Highest) <= Duration::from_millis(100));
    }

    #[test]
    fn a_burst_passes_and_then_one_each_interval() {
        let (every, start) = (Duration::from_secs(1), Instant::now());
        let mut pace = Pace::new(2, every, start);
        assert_eq!(pace.take(start), Duration::ZERO);
        assert_eq!(pace.take(start), Duration::ZERO);
        assert_eq!(pace.take(start), every);
        assert_eq!(pace.take(start + every), every);
        assert_eq!(pace.take(start + every * 5), Duration::ZERO);
    }
}
