//! What can go wrong with a request, and the one map from each cause to what people and programs see of it. Pure.

pub mod flags;

pub use flags::Flags;

use std::{borrow::Cow, sync::Arc};

use http::StatusCode;

/// Why a request was not answered by its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The request is malformed or means different things to different readers.
    BadRequest,
    /// The path means different things to different readers.
    BadPath,
    /// A change of protocol is asked for that is not allowed, or that the way to the endpoint cannot carry.
    UpgradeRefused,
    /// No route matches.
    NoRoute,
    /// The host is not known, and the control plane did not tell in time what it is.
    NotTold,
    /// Too many requests wait to be told of their hosts.
    TooManyUntold,
    /// The route's cluster is not known; the route says which status to answer.
    NoCluster(StatusCode),
    /// No endpoint admits requests.
    NoEndpoint,
    /// A limit of the cluster is reached.
    Overflow,
    /// The endpoint refused the connection or cannot be reached.
    ConnectFailed,
    /// Connecting took longer than the cluster's connect timeout.
    ConnectTimeout,
    /// The connection ended before the response.
    UpstreamClosed,
    /// The endpoint reset the stream; `true` when it says that it did not start on it.
    UpstreamReset(bool),
    /// The whole request took too long.
    RequestTimeout,
    /// One try took too long.
    TryTimeout,
    /// Nothing moved on the stream for too long.
    IdleTimeout,
    /// The request's body is longer than its route allows.
    BodyTooLarge,
    /// Rules of access do not let it pass.
    AccessDenied,
    /// More requests than this proxy takes; the gRPC status for calls.
    RateLimited(u16),
    /// A fault made on purpose: its HTTP status, and its gRPC status for calls.
    Injected(StatusCode, u16),
}

/// Whose side a fault is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The caller's.
    Downstream,
    /// The endpoint's, or the way to it.
    Upstream,
    /// The proxy's configuration or limits.
    Proxy,
}

/// Whether the request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Nothing of it reached an endpoint's application.
    Safe,
    /// Only where the retry policy allows it.
    ByPolicy,
    /// Another try cannot help.
    Never,
}

/// A failed request or try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What happened.
    pub cause: Cause,
    /// Whose side it is on.
    pub side: Side,
    /// Whether it may be tried again.
    pub repeat: Repeat,
}

impl From<Cause> for Fault {
    fn from(cause: Cause) -> Self {
        Self { cause, side: cause.side(), repeat: cause.repeat() }
    }
}

/// What an outcome is called in logs: Envoy's `%RESPONSE_CODE_DETAILS%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Details {
    /// By this program.
    Fixed(&'static str),
    /// By its configuration.
    Named(Arc<str>),
}

impl Details {
    /// The text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Fixed(text) => text,
            Self::Named(text) => text,
        }
    }
}

/// What is visible of a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Face {
    /// HTTP status.
    pub status: StatusCode,
    /// gRPC status.
    pub grpc: u16,
    /// Envoy's response flag; `-` for what Envoy has none for.
    pub flag: &'static str,
    /// Envoy's `%RESPONSE_CODE_DETAILS%`.
    pub details: &'static str,
    /// Body of the local reply.
    pub body: &'static str,
}

/// gRPC codes used here.
const INTERNAL: u16 = 13;
const UNIMPLEMENTED: u16 = 12;
const UNKNOWN: u16 = 2;
const PERMISSION_DENIED: u16 = 7;
const UNAVAILABLE: u16 = 14;
const UNAUTHENTICATED: u16 = 16;

/// How the text about a broken try begins, and the same after more than one.
const BROKEN: &str = "upstream connect error or disconnect/reset before headers. ";
const BROKEN_AGAIN: &str = "retried and the latest ";

impl Face {
    /// The body of the local reply after so many tries.
    pub fn body_after(&self, attempts: u32) -> Cow<'static, str> {
        match self.body.strip_prefix(BROKEN) {
            Some(reason) if attempts > 1 => format!("{BROKEN}{BROKEN_AGAIN}{reason}").into(),
            _ => self.body.into(),
        }
    }
}

impl Cause {
    /// What callers, logs and metrics see.
    pub fn face(self) -> Face {
        let (status, grpc, flag, details, body) = match self {
            Cause::BadRequest => (StatusCode::BAD_REQUEST, INTERNAL, "DPE", "bad_request", "bad request"),
            Cause::BadPath => (StatusCode::BAD_REQUEST, INTERNAL, "-", "path_normalization_failed", ""),
            Cause::UpgradeRefused => (StatusCode::FORBIDDEN, PERMISSION_DENIED, "-", "upgrade_failed", ""),
            Cause::NoRoute => (StatusCode::NOT_FOUND, UNIMPLEMENTED, "NR", "route_not_found", ""),
            Cause::NotTold => (
                StatusCode::SERVICE_UNAVAILABLE,
                UNAVAILABLE,
                "NR",
                "on_demand_discovery_timeout",
                "the host is not known, and the control plane does not answer",
            ),
            Cause::TooManyUntold => (
                StatusCode::SERVICE_UNAVAILABLE,
                UNAVAILABLE,
                "UO",
                "on_demand_discovery_overflow",
                "too many requests wait for discovery",
            ),
            Cause::NoCluster(status) => {
                let grpc = if status == StatusCode::NOT_FOUND { UNIMPLEMENTED } else { UNAVAILABLE };
                (status, grpc, "NC", "cluster_not_found", "")
            }
            Cause::NoEndpoint => (
                StatusCode::SERVICE_UNAVAILABLE,
                UNAVAILABLE,
                "UH",
                "no_healthy_upstream",
                "no healthy upstream",
            ),
            Cause::Overflow => (
                StatusCode::SERVICE_UNAVAILABLE,
                UNAVAILABLE,
                "UO",
                "upstream_reset_before_response_started{overflow}",
                "upstream connect error or disconnect/reset before headers. reset reason: overflow",
            ),
            Cause::ConnectFailed => (
                StatusCode::SERVICE_UNAVAILABLE,
                UNAVAILABLE,
                "UF",
                "upstream_reset_before_response_started{remote_connection_failure}",
                "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
            ),
            Cause::ConnectTimeout => (
                StatusCode::SERVICE_UNAVAILABLE,
                UNAVAILABLE,
                "UF",
                "upstream_reset_before_response_started{connection_timeout}",
                "upstream connect error or disconnect/reset before headers. reset reason: connection timeout",
            ),
            Cause::UpstreamClosed => (
                StatusCode::SERVICE_UNAVAILABLE,
                UNAVAILABLE,
                "UC",
                "upstream_reset_before_response_started{connection_termination}",
                "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
            ),
            Cause::UpstreamReset(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                UNAVAILABLE,
                "UR",
                "upstream_reset_before_response_started{remote_reset}",
                "upstream connect error or disconnect/reset before headers. reset reason: remote reset",
            ),
            Cause::RequestTimeout => (
                StatusCode::GATEWAY_TIMEOUT,
                UNAVAILABLE,
                "UT",
                "response_timeout",
                "upstream request timeout",
            ),
            Cause::TryTimeout => (
                StatusCode::GATEWAY_TIMEOUT,
                UNAVAILABLE,
                "UT",
                "upstream_per_try_timeout",
                "upstream request timeout",
            ),
            Cause::IdleTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, UNAVAILABLE, "SI", "stream_idle_timeout", "stream timeout")
            }
            Cause::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                UNKNOWN,
                "-",
                "request_payload_too_large",
                "Payload Too Large",
            ),
            Cause::AccessDenied => {
                (StatusCode::FORBIDDEN, PERMISSION_DENIED, "-", "rbac_access_denied", "RBAC: access denied")
            }
            Cause::RateLimited(grpc) => {
                (StatusCode::TOO_MANY_REQUESTS, grpc, "RL", "local_rate_limited", "local_rate_limited")
            }
            Cause::Injected(status, grpc) => (status, grpc, "FI", "fault_filter_abort", "fault filter abort"),
        };
        Face { status, grpc, flag, details, body }
    }

    fn side(self) -> Side {
        match self {
            Cause::BadRequest | Cause::BadPath | Cause::BodyTooLarge | Cause::UpgradeRefused => {
                Side::Downstream
            }
            Cause::NoRoute
            | Cause::NotTold
            | Cause::TooManyUntold
            | Cause::NoCluster(_)
            | Cause::NoEndpoint
            | Cause::Overflow
            | Cause::AccessDenied
            | Cause::RateLimited(_)
            | Cause::Injected(..) => Side::Proxy,
            Cause::ConnectFailed
            | Cause::ConnectTimeout
            | Cause::UpstreamClosed
            | Cause::UpstreamReset(_)
            | Cause::RequestTimeout
            | Cause::TryTimeout
            | Cause::IdleTimeout => Side::Upstream,
        }
    }

    fn repeat(self) -> Repeat {
        match self {
            Cause::BadRequest
            | Cause::BadPath
            | Cause::UpgradeRefused
            | Cause::NoRoute
            | Cause::NotTold
            | Cause::TooManyUntold
            | Cause::NoCluster(_)
            | Cause::NoEndpoint
            | Cause::Overflow
            | Cause::RequestTimeout
            | Cause::IdleTimeout
            | Cause::BodyTooLarge
            | Cause::AccessDenied
            | Cause::RateLimited(_)
            | Cause::Injected(..) => Repeat::Never,
            Cause::ConnectFailed | Cause::ConnectTimeout | Cause::UpstreamReset(true) => Repeat::Safe,
            Cause::UpstreamClosed | Cause::UpstreamReset(false) | Cause::TryTimeout => Repeat::ByPolicy,
        }
    }
}

/// The gRPC status that a call gets in place of an HTTP status, as gRPC defines it.
pub fn grpc_of_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502 | 503 | 504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cause: Cause, status: u16, grpc: u16, flag: &str) {
        let face = cause.face();
        assert_eq!((face.status.as_u16(), face.grpc, face.flag), (status, grpc, flag));
    }

    #[test]
    fn causes_look_as_they_do_in_envoy() {
        check(Cause::BadRequest, 400, 13, "DPE");
        check(Cause::NoRoute, 404, 12, "NR");
        check(Cause::NoCluster(StatusCode::SERVICE_UNAVAILABLE), 503, 14, "NC");
        check(Cause::NotTold, 503, 14, "NR");
        check(Cause::TooManyUntold, 503, 14, "UO");
        check(Cause::NoEndpoint, 503, 14, "UH");
        check(Cause::Overflow, 503, 14, "UO");
        check(Cause::ConnectFailed, 503, 14, "UF");
        check(Cause::UpstreamClosed, 503, 14, "UC");
        check(Cause::UpstreamReset(true), 503, 14, "UR");
        check(Cause::RequestTimeout, 504, 14, "UT");
        check(Cause::BodyTooLarge, 413, 2, "-");
        check(Cause::AccessDenied, 403, 7, "-");
        check(Cause::RateLimited(8), 429, 8, "RL");
        check(Cause::Injected(StatusCode::IM_A_TEAPOT, 9), 418, 9, "FI");
    }
}
