//! The part of its weight that an endpoint gets while it is new. Pure.

use std::time::Duration;

use crate::spec::SlowStart;

impl SlowStart {
    /// The part, 0..=1, of an endpoint that has been ready for this long.
    pub(super) fn warmth(&self, ready_for: Duration) -> f64 {
        if ready_for >= self.window {
            return 1.0;
        }
        // Envoy counts whole milliseconds, and at least one.
        let ready_for = ready_for.max(Duration::from_millis(1));
        let time = ready_for.as_secs_f64() / self.window.as_secs_f64();
        time.powf(1.0 / self.aggression).max(self.weight_min).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warmth_follows_envoys_formula() {
        let check = |aggression, weight_min, seconds, expected: f64| {
            let slow_start = SlowStart { window: Duration::from_secs(100), aggression, weight_min };
            let found = slow_start.warmth(Duration::from_secs(seconds));
            assert!((found - expected).abs() < 1e-9, "{aggression} {seconds}: {found}");
        };
        check(1.0, 0.1, 0, 0.1);
        check(1.0, 0.1, 50, 0.5);
        check(2.0, 0.1, 25, 0.5);
        check(0.5, 0.0, 50, 0.25);
        check(1.0, 0.1, 100, 1.0);
        check(1.0, 0.1, 1000, 1.0);
    }
}
