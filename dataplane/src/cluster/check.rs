//! How one endpoint stands by its active checks: what each finding changes, and when the next check is due. Pure; the
//! rules are Envoy's.

use std::time::Duration;

use rand::Rng;

use crate::spec::Check;

/// What one check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The answer that was wanted.
    Passed,
    /// An answer that says that the endpoint is unhealthy.
    Failed,
    /// No answer in time, or one that may be repeated.
    Unanswered,
}

/// What a finding changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// Nothing yet: more findings of the kind are wanted.
    Pending,
    /// The endpoint is now unhealthy.
    Fails,
    /// The endpoint is now healthy.
    Passes,
}

/// The checks of one endpoint so far.
#[derive(Clone, Copy, Debug)]
pub struct Track {
    failing: bool,
    /// Whether the first finding is awaited, which counts at once.
    awaited: bool,
    passed: u32,
    unanswered: u32,
}

impl Track {
    /// Of an endpoint as it stands now.
    pub fn new(failing: bool, awaited: bool) -> Self {
        Self { failing, awaited, passed: 0, unanswered: 0 }
    }

    /// Takes in what a check found.
    pub fn observe(&mut self, check: &Check, finding: Finding) -> Change {
        let first = std::mem::take(&mut self.awaited);
        if finding == Finding::Passed {
            self.unanswered = 0;
            if !self.failing {
                return Change::None;
            }
            self.passed += 1;
            if !first && self.passed < check.healthy_threshold {
                return Change::Pending;
            }
            self.failing = false;
            return Change::Passes;
        }
        self.passed = 0;
        if self.failing {
            return if first { Change::Fails } else { Change::None };
        }
        self.unanswered = self.unanswered.saturating_add(1);
        if finding == Finding::Unanswered && !first && self.unanswered < check.unhealthy_threshold {
            return Change::Pending;
        }
        self.failing = true;
        Change::Fails
    }

    /// Time until the next check. `used` is whether anything was ever sent to the cluster.
    pub fn delay(&self, check: &Check, change: Change, used: bool, rng: &mut impl Rng) -> Duration {
        let base = match (used, change, self.failing) {
            (false, _, false) => check.no_traffic_healthy_interval,
            (false, _, true) => check.no_traffic_interval,
            // While a change is pending the endpoint still stands as it did.
            (true, Change::Pending, true) => check.healthy_edge_interval,
            (true, Change::Pending, false) => check.unhealthy_edge_interval,
            (true, _, true) => check.unhealthy_interval,
            (true, _, false) => check.interval,
        };
        let share = base.mul_f64(f64::from(check.jitter_percent) / 100.0);
        base + upto(check.jitter, rng) + upto(share, rng)
    }

    /// Time until the first check.
    pub fn first_delay(check: &Check, rng: &mut impl Rng) -> Duration {
        upto(check.initial_jitter, rng)
    }
}

/// A random time up to one.
fn upto(most: Duration, rng: &mut impl Rng) -> Duration {
    if most.is_zero() { most } else { most.mul_f64(rng.random::<f64>()) }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::spec::{Probe, TcpProbe};

    fn check() -> Check {
        let ms = Duration::from_millis;
        Check {
            probe: Probe::Tcp(TcpProbe::default()),
            timeout: ms(1),
            interval: ms(10),
            no_traffic_interval: ms(60),
            no_traffic_healthy_interval: ms(61),
            unhealthy_interval: ms(20),
            unhealthy_edge_interval: ms(30),
            healthy_edge_interval: ms(40),
            initial_jitter: Duration::ZERO,
            jitter: Duration::ZERO,
            jitter_percent: 0,
            healthy_threshold: 2,
            unhealthy_threshold: 3,
        }
    }

    #[test]
    fn findings_change_an_endpoint_as_in_envoy() {
        use Change::{Fails, None, Passes, Pending};
        use Finding::{Failed, Passed, Unanswered};
        let mut new = Track::new(true, true);
        // The first one that passes counts at once, later ones by thresholds.
        for (finding, change) in [
            (Passed, Passes),
            (Unanswered, Pending),
            (Unanswered, Pending),
            (Passed, None),
            (Unanswered, Pending),
            (Unanswered, Pending),
            (Unanswered, Fails),
            (Unanswered, None),
            (Passed, Pending),
            (Failed, None),
            (Passed, Pending),
            (Passed, Passes),
            (Failed, Fails),
        ] {
            assert_eq!(new.observe(&check(), finding), change, "{finding:?}");
        }
        let mut dead = Track::new(true, true);
        assert_eq!(dead.observe(&check(), Unanswered), Fails, "now it is known");
        assert_eq!(dead.observe(&check(), Passed), Pending);
        let mut serving = Track::new(false, true);
        assert_eq!(serving.observe(&check(), Unanswered), Fails, "it was only believed to be healthy");
        let mut served = Track::new(false, false);
        assert_eq!(served.observe(&check(), Failed), Fails);
    }

    #[test]
    fn the_next_check_comes_as_the_endpoint_stands() {
        let rng = &mut StdRng::seed_from_u64(1);
        let ms = |failing, change, used, rng: &mut StdRng| {
            Track::new(failing, false).delay(&check(), change, used, rng).as_millis()
        };
        assert_eq!(ms(false, Change::None, true, rng), 10);
        assert_eq!(ms(true, Change::Fails, true, rng), 20);
        assert_eq!(ms(false, Change::Pending, true, rng), 30);
        assert_eq!(ms(true, Change::Pending, true, rng), 40);
        assert_eq!(ms(true, Change::None, false, rng), 60);
        assert_eq!(ms(false, Change::None, false, rng), 61);
        let jittery = Check { jitter: Duration::from_millis(5), jitter_percent: 50, ..check() };
        for _ in 0..100 {
            let delay = Track::new(false, false).delay(&jittery, Change::None, true, rng).as_millis();
            assert!((10..=20).contains(&delay), "{delay}");
        }
        assert_eq!(Track::first_delay(&check(), rng), Duration::ZERO);
    }
}
