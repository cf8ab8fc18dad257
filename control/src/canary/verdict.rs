//! How a version does, beside the one that is known to be good. Pure.

use std::time::Duration;

use crate::traffic::Flow;

/// Ended requests below which a version is not judged.
pub const REQUESTS_MIN: u64 = 20;
/// How much less of the requests may go well than with the stable version.
pub const SUCCESS_LOSS_MAX: f64 = 0.01;
/// How many times as long as with the stable version the slowest hundredth may take,
pub const SLOWDOWN_MAX: f64 = 1.5;
/// and by how much more at least, before it is called slow.
pub const SLOWDOWN_MIN: Duration = Duration::from_millis(10);

/// What is thought of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is what the others are compared with.
    Stable,
    /// It does as well as the stable one.
    Good,
    /// More of its requests fail.
    Failing,
    /// Its slowest requests take longer.
    Slow,
    /// Too few requests to tell.
    Few,
    /// It has a share, and no request comes.
    Silent,
    /// It has no share.
    Idle,
}

impl Verdict {
    /// As the admin API says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Good => "good",
            Self::Failing => "failing",
            Self::Slow => "slow",
            Self::Few => "few",
            Self::Silent => "silent",
            Self::Idle => "idle",
        }
    }
}

/// Judges a version that has `weight` percent. Without traffic of a stable version it is compared with one that never
/// fails.
pub fn judge(weight: u32, flow: &Flow, stable: Option<&Flow>) -> Verdict {
    match (weight, flow.ended()) {
        (0, _) => return Verdict::Idle,
        (_, 0) => return Verdict::Silent,
        (_, 1..REQUESTS_MIN) => return Verdict::Few,
        _ => {}
    }
    let success = |flow: &Flow| flow.success().unwrap_or(1.0);
    if success(flow) < stable.map_or(1.0, success) - SUCCESS_LOSS_MAX {
        return Verdict::Failing;
    }
    let slowest = |flow: &Flow| flow.sum.latencies.quantile(0.99);
    match (slowest(flow), stable.filter(|flow| flow.ended() >= REQUESTS_MIN).and_then(slowest)) {
        (Some(ours), Some(theirs)) if ours > theirs.mul_f64(SLOWDOWN_MAX) && ours > theirs + SLOWDOWN_MIN => {
            Verdict::Slow
        }
        _ => Verdict::Good,
    }
}

#[cfg(test)]
mod tests {
    use weft_proto::latency::bucket;

    use super::*;
    use crate::traffic::{Latencies, Sample};

    fn flow(good: u64, failed: u64, ms: u64) -> Flow {
        let mut latencies = Latencies::default();
        latencies.count(bucket(Duration::from_millis(ms)), good + failed);
        let sum = Sample { issued: good + failed, good, failed, dropped: 0, latencies };
        Flow { sum, active: 0, over: Duration::from_secs(60) }
    }

    #[track_caller]
    fn check(weight: u32, version: Flow, stable: Flow, expected: Verdict) {
        assert_eq!(judge(weight, &version, Some(&stable)), expected);
    }

    #[test]
    fn a_version_is_judged_beside_the_stable_one() {
        check(0, flow(0, 100, 1), flow(100, 0, 1), Verdict::Idle);
        check(5, flow(0, 0, 1), flow(100, 0, 1), Verdict::Silent);
        check(5, flow(0, 19, 1), flow(100, 0, 1), Verdict::Few);
        check(5, flow(100, 0, 1), flow(100, 0, 1), Verdict::Good);
        check(5, flow(995, 5, 1), flow(1000, 0, 1), Verdict::Good);
        check(5, flow(97, 3, 1), flow(100, 0, 1), Verdict::Failing);
        check(5, flow(97, 3, 1), flow(97, 3, 1), Verdict::Good);
        check(5, flow(100, 0, 100), flow(100, 0, 40), Verdict::Slow);
        check(5, flow(100, 0, 8), flow(100, 0, 1), Verdict::Good);
        check(5, flow(100, 0, 100), flow(5, 0, 1), Verdict::Good);
    }

    #[test]
    fn without_a_stable_version_failures_speak_for_themselves() {
        assert_eq!(judge(100, &flow(90, 10, 1), None), Verdict::Failing);
        assert_eq!(judge(100, &flow(100, 0, 1), None), Verdict::Good);
    }
}
