//! Expected latency: an exponentially weighted moving average that jumps to peaks and forgets them slowly. Pure.
//!
//! After Finagle's and Linkerd's Peak EWMA: a slow answer counts at once, a quick one has to be repeated to be believed.

use std::time::Duration;

use tokio::time::Instant;

use crate::spec::PeakEwma;

/// The expected latency of one endpoint as one worker sees it.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// Seconds.
    expected: f64,
    /// When it was last brought up to date; none before the first observation.
    at: Option<Instant>,
}

impl Latency {
    /// Of an endpoint that was never used.
    pub fn new(config: &PeakEwma) -> Self {
        Self { expected: config.initial.as_secs_f64(), at: None }
    }

    /// Takes in that an attempt took this long.
    pub fn observe(&mut self, config: &PeakEwma, took: Duration, now: Instant) {
        let took = took.as_secs_f64();
        self.expected = match self.at {
            None => took,
            Some(_) if took > self.expected => took,
            Some(at) => {
                let kept = kept(config, now.saturating_duration_since(at));
                self.expected * kept + took * (1.0 - kept)
            }
        };
        self.at = Some(now);
    }

    /// Takes in that an attempt failed after this long. A failure is never a reason to send more: an endpoint that
    /// refuses at once must not look like the quickest of all.
    pub fn fail(&mut self, config: &PeakEwma, took: Duration, now: Instant) {
        let expected = Duration::from_secs_f64(self.expected);
        self.observe(config, took.max(expected).max(config.initial), now);
    }

    /// What one more request costs: the expected latency, which an endpoint that is not asked slowly forgets, times the
    /// requests that it then has.
    pub fn cost(&self, config: &PeakEwma, active: u32, now: Instant) -> f64 {
        let idle = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.expected * kept(config, idle) * (f64::from(active) + 1.0)
    }
}

/// How much of an average is left after a time.
fn kept(config: &PeakEwma, after: Duration) -> f64 {
    (-after.as_secs_f64() / config.half_life.as_secs_f64()).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: PeakEwma =
        PeakEwma { half_life: Duration::from_secs(10), initial: Duration::from_millis(30) };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn cost_ms(latency: &Latency, active: u32, now: Instant) -> u64 {
        (latency.cost(&CONFIG, active, now) * 1000.0).round() as u64
    }

    #[tokio::test(start_paused = true)]
    async fn a_peak_counts_at_once_and_is_forgotten_by_halves() {
        let now = Instant::now();
        let mut latency = Latency::new(&CONFIG);
        assert_eq!(cost_ms(&latency, 0, now), 30);
        latency.observe(&CONFIG, ms(10), now);
        assert_eq!(cost_ms(&latency, 0, now), 10);
        latency.observe(&CONFIG, ms(800), now);
        assert_eq!(cost_ms(&latency, 0, now), 800);
        latency.observe(&CONFIG, ms(0), now + ms(10_000));
        assert_eq!(cost_ms(&latency, 0, now + ms(10_000)), 400);
        assert_eq!(cost_ms(&latency, 0, now + ms(20_000)), 200, "one that is not asked gets another chance");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_under_way_multiply_the_cost() {
        let now = Instant::now();
        let mut latency = Latency::new(&CONFIG);
        latency.observe(&CONFIG, ms(10), now);
        assert_eq!(cost_ms(&latency, 4, now), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_failure_makes_nobody_look_quick() {
        let now = Instant::now();
        let mut latency = Latency::new(&CONFIG);
        latency.fail(&CONFIG, ms(0), now);
        assert_eq!(cost_ms(&latency, 0, now), 30);
        latency.observe(&CONFIG, ms(90), now);
        latency.fail(&CONFIG, ms(1), now);
        assert_eq!(cost_ms(&latency, 0, now), 90);
        latency.fail(&CONFIG, ms(500), now);
        assert_eq!(cost_ms(&latency, 0, now), 500);
    }
}
