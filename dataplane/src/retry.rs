//! Whether a try that failed is worth another one, and how long to wait before it. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, StatusCode};
use rand::Rng;

use crate::{
    fault::{Cause, Fault, Repeat},
    router::field_matches,
    spec::{Reset, RetryOn, RetryPolicy},
};

/// Marks the answer of a limit on rates, in Envoy's words.
const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");

/// How a try ended.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// Without a response; `unsent` when nothing of the request went out.
    Fault {
        /// What happened.
        fault: Fault,
        /// Whether nothing was sent.
        unsent: bool,
    },
    /// With one.
    Response {
        /// HTTP status.
        status: StatusCode,
        /// `grpc-status`, when the response is nothing but trailers.
        grpc: Option<u16>,
    },
}

/// Whether the policy wants another try after this outcome, whose response has these headers.
pub fn wanted(on: &RetryOn, outcome: Outcome, headers: Option<&HeaderMap>) -> bool {
    match outcome {
        Outcome::Fault { fault, unsent } => after_fault(on, fault, unsent),
        Outcome::Response { .. } if headers.is_some_and(|headers| headers.contains_key(RATE_LIMITED)) => {
            on.rate_limited
        }
        Outcome::Response { status, grpc } => {
            let code = status.as_u16();
            let asks = |headers| on.headers.iter().any(|condition| field_matches(condition, headers));
            (on.server_error && status.is_server_error())
                || (on.gateway_error && matches!(code, 502..=504))
                || (on.retriable_4xx && status == StatusCode::CONFLICT)
                || on.statuses.contains(&code)
                || grpc.is_some_and(|grpc| on.grpc_statuses.contains(&grpc))
                || headers.is_some_and(asks)
        }
    }
}

fn after_fault(on: &RetryOn, fault: Fault, unsent: bool) -> bool {
    if fault.repeat == Repeat::Never {
        return false;
    }
    let connect = matches!(fault.cause, Cause::ConnectFailed | Cause::ConnectTimeout);
    let refused = fault.cause == Cause::UpstreamReset(true);
    on.server_error
        || on.gateway_error
        || on.reset
        || (on.connect_failure && connect)
        || (on.refused_stream && refused)
        || (on.reset_before_request && unsent)
}

/// The pause that a response asks for, with jitter to spread its askers: up to half as long again.
pub fn asked_pause(
    policy: &RetryPolicy,
    headers: &HeaderMap,
    now: SystemTime,
    rng: &mut impl Rng,
) -> Option<Duration> {
    let after = policy.retry_after.as_ref()?;
    let number = |name: &HeaderName| headers.get(name)?.to_str().ok()?.parse().ok();
    let pause = |reset: &Reset| match reset {
        Reset::Seconds(name) => number(name).map(Duration::from_secs),
        Reset::UnixTime(name) => {
            let at = UNIX_EPOCH.checked_add(Duration::from_secs(number(name)?))?;
            at.duration_since(now).ok()
        }
    };
    let pause = after.resets.iter().filter_map(pause).find(|pause| *pause <= after.max)?;
    Some(rng.random_range(pause..=pause + pause / 2))
}

/// The pause before retry number `retry` (from 0): anything up to a bound that doubles.
pub fn pause(policy: &RetryPolicy, retry: u32, rng: &mut impl Rng) -> Duration {
    let bound = policy.backoff_base.saturating_mul(1 << retry.min(16)).min(policy.backoff_max);
    if bound.is_zero() { Duration::ZERO } else { rng.random_range(Duration::ZERO..=bound) }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[track_caller]
    fn check(on: RetryOn, outcome: Outcome, expected: bool) {
        assert_eq!(wanted(&on, outcome, None), expected);
    }

    fn fault(cause: Cause) -> Outcome {
        Outcome::Fault { fault: cause.into(), unsent: false }
    }

    fn status(code: u16) -> Outcome {
        Outcome::Response { status: StatusCode::from_u16(code).unwrap(), grpc: None }
    }

    #[test]
    fn conditions_mean_what_envoy_says() {
        let none = RetryOn::default;
        check(RetryOn { server_error: true, ..none() }, status(500), true);
        check(RetryOn { server_error: true, ..none() }, fault(Cause::UpstreamClosed), true);
        check(RetryOn { gateway_error: true, ..none() }, status(500), false);
        check(RetryOn { gateway_error: true, ..none() }, status(503), true);
        check(RetryOn { connect_failure: true, ..none() }, fault(Cause::ConnectFailed), true);
        check(RetryOn { connect_failure: true, ..none() }, fault(Cause::UpstreamClosed), false);
        check(RetryOn { refused_stream: true, ..none() }, fault(Cause::UpstreamReset(true)), true);
        check(RetryOn { refused_stream: true, ..none() }, fault(Cause::UpstreamReset(false)), false);
        check(RetryOn { retriable_4xx: true, ..none() }, status(409), true);
        check(RetryOn { statuses: vec![418], ..none() }, status(418), true);
        let unavailable = Outcome::Response { status: StatusCode::OK, grpc: Some(14) };
        check(RetryOn { grpc_statuses: vec![14], ..none() }, unavailable, true);
        check(RetryOn { server_error: true, ..none() }, unavailable, false);
    }

    #[test]
    fn what_cannot_help_is_never_repeated() {
        let all = RetryOn { server_error: true, reset: true, ..RetryOn::default() };
        check(all.clone(), fault(Cause::RequestTimeout), false);
        check(all.clone(), fault(Cause::Overflow), false);
        check(all, fault(Cause::NoEndpoint), false);
    }

    #[test]
    fn pauses_double_up_to_their_bound() {
        let policy = RetryPolicy {
            retry_after: None,
            avoid_tried: true,
            leave_priorities_every: None,
            on: RetryOn::default(),
            retries_max: 3,
            per_try_timeout: None,
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_millis(60),
        };
        let rng = &mut StdRng::seed_from_u64(7);
        for (retry, bound) in [(0, 25), (1, 50), (2, 60), (40, 60)] {
            for _ in 0..100 {
                assert!(pause(&policy, retry, rng) <= Duration::from_millis(bound));
            }
        }
    }
}
