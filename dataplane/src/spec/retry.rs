//! When and how often a request is tried again.

use std::{num::NonZeroUsize, time::Duration};

use http::HeaderName;

use super::HeaderMatch;

/// When and how often to try again.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// What counts as worth another try.
    pub on: RetryOn,
    /// Further tries after the first.
    pub retries_max: u32,
    /// Time for one try until response headers; none is the request's.
    pub per_try_timeout: Option<Duration>,
    /// First pause's upper bound; later ones double, with full jitter.
    pub backoff_base: Duration,
    /// Upper bound of a pause.
    pub backoff_max: Duration,
    /// Pauses that answers ask for.
    pub retry_after: Option<RetryAfter>,
    /// Endpoints that were tried are not tried again while there are others.
    pub avoid_tried: bool,
    /// Each time that so many were tried, their priorities are left while there are others (`previous_priorities`).
    pub leave_priorities_every: Option<NonZeroUsize>,
}

/// Pauses that answers ask for (`rate_limited_retry_back_off`).
#[derive(Clone, Debug)]
pub struct RetryAfter {
    /// Headers that ask; the first that can be read counts.
    pub resets: Vec<Reset>,
    /// What asks for more than this is passed over.
    pub max: Duration,
}

/// A header that says when to come again.
#[derive(Clone, Debug)]
pub enum Reset {
    /// In so many seconds.
    Seconds(HeaderName),
    /// At this moment, seconds since 1970.
    UnixTime(HeaderName),
}

/// Retry conditions, Envoy's `retry_on` words.
#[derive(Clone, Debug, Default)]
pub struct RetryOn {
    /// `5xx`: any 5xx, or no response.
    pub server_error: bool,
    /// `gateway-error`: 502, 503, 504.
    pub gateway_error: bool,
    /// `reset`: no response at all.
    pub reset: bool,
    /// `connect-failure`.
    pub connect_failure: bool,
    /// `refused-stream`.
    pub refused_stream: bool,
    /// `retriable-4xx`: 409.
    pub retriable_4xx: bool,
    /// `envoy-ratelimited`: the header `x-envoy-ratelimited`, without which nothing that has it is tried again.
    pub rate_limited: bool,
    /// `retriable-headers`: response headers any of which asks for another try.
    pub headers: Vec<HeaderMatch>,
    /// `reset-before-request`: nothing of the request was sent.
    pub reset_before_request: bool,
    /// `retriable-status-codes` and bare codes.
    pub statuses: Vec<u16>,
    /// gRPC status codes: `cancelled` 1, `deadline-exceeded` 4, `resource-exhausted` 8, `internal` 13, `unavailable` 14.
    pub grpc_statuses: Vec<u16>,
}

impl RetryOn {
    /// Whether nothing is worth another try.
    pub fn is_never(&self) -> bool {
        let Self {
            server_error,
            gateway_error,
            reset,
            connect_failure,
            refused_stream,
            retriable_4xx,
            reset_before_request,
            rate_limited,
            headers,
            statuses,
            grpc_statuses,
        } = self;
        let words = [
            server_error,
            gateway_error,
            reset,
            connect_failure,
            refused_stream,
            retriable_4xx,
            reset_before_request,
            rate_limited,
        ];
        !words.into_iter().any(|word| *word)
            && headers.is_empty()
            && statuses.is_empty()
            && grpc_statuses.is_empty()
    }
}
