//! How a cluster's endpoints are watched: by what requests meet, and by checks of the proxy's own.

use std::{net::IpAddr, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri};

/// `OutlierDetection`. A count of 0 is never.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlier {
    /// Consecutive 5xx until an ejection.
    pub consecutive_5xx: u32,
    /// Consecutive 502, 503 or 504 until an ejection (`consecutive_gateway_failure`).
    pub consecutive_gateway: u32,
    /// Consecutive failures to connect or to answer in time until an ejection (`consecutive_local_origin_failure`); needs
    /// `split_local`.
    pub consecutive_local: u32,
    /// What fails before there is an answer is counted apart and not as 5xx (`split_external_local_origin_errors`).
    pub split_local: bool,
    /// Time between two sweeps.
    pub interval: Duration,
    /// Time of a first ejection; the n-th in a row lasts n times as long.
    pub base_ejection_time: Duration,
    /// Longest ejection.
    pub max_ejection_time: Duration,
    /// Greatest random addition to an ejection's time (`max_ejection_time_jitter`).
    pub ejection_jitter_max: Duration,
    /// While this share of endpoints is ejected, in percent, no more are (`max_ejection_percent`).
    pub ejections_max_percent: u32,
    /// One endpoint may be ejected whatever its share is (`always_eject_one_host`).
    pub always_one: bool,
    /// Chances, in percent, that an endpoint which is found is ejected.
    pub enforcing: Enforcing,
    /// Least endpoints with enough requests, for success rates to be compared.
    pub success_rate_hosts_min: u32,
    /// Least requests of an endpoint in an interval, for its success rate to count.
    pub success_rate_requests_min: u32,
    /// An endpoint is ejected when its success rate is below the mean less this many standard deviations
    /// (`success_rate_stdev_factor` / 1000).
    pub success_rate_deviations: f64,
    /// An endpoint is ejected when at least this share of its requests fails, in percent.
    pub failure_percentage: u32,
    /// Least endpoints with enough requests, for failure percentages to count.
    pub failure_percentage_hosts_min: u32,
    /// Least requests of an endpoint in an interval, for its failure percentage to count.
    pub failure_percentage_requests_min: u32,
    /// A health check that passes ends an ejection (`successful_active_health_check_uneject_host`).
    pub check_ends_ejection: bool,
}

/// Chances, in percent, that an endpoint which is found is ejected (`enforcing_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforcing {
    /// `enforcing_consecutive_5xx`.
    pub consecutive_5xx: u32,
    /// `enforcing_consecutive_gateway_failure`.
    pub consecutive_gateway: u32,
    /// `enforcing_consecutive_local_origin_failure`.
    pub consecutive_local: u32,
    /// `enforcing_success_rate`.
    pub success_rate: u32,
    /// `enforcing_local_origin_success_rate`.
    pub success_rate_local: u32,
    /// `enforcing_failure_percentage`.
    pub failure_percentage: u32,
    /// `enforcing_failure_percentage_local_origin`.
    pub failure_percentage_local: u32,
}

/// A check of the proxy's own (`HealthCheck`).
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What is asked.
    pub probe: Probe,
    /// Time for the answer.
    pub timeout: Duration,
    /// Time between two checks.
    pub interval: Duration,
    /// The same while nothing has ever been sent to the cluster (`no_traffic_interval`),
    pub no_traffic_interval: Duration,
    /// and for its endpoints that pass (`no_traffic_healthy_interval`).
    pub no_traffic_healthy_interval: Duration,
    /// Time between two checks of an endpoint that fails (`unhealthy_interval`).
    pub unhealthy_interval: Duration,
    /// Time until the next check of an endpoint that begins to fail (`unhealthy_edge_interval`).
    pub unhealthy_edge_interval: Duration,
    /// Time until the next check of an endpoint that begins to pass (`healthy_edge_interval`).
    pub healthy_edge_interval: Duration,
    /// Greatest delay of the first check, so that proxies that start together do not check together.
    pub initial_jitter: Duration,
    /// Greatest random addition to every interval.
    pub jitter: Duration,
    /// The same in percent of the interval.
    pub jitter_percent: u32,
    /// Checks in a row that must pass until the endpoint is healthy again.
    pub healthy_threshold: u32,
    /// Checks in a row that must get no answer until the endpoint is unhealthy; an answer that says so counts at once.
    pub unhealthy_threshold: u32,
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// `HttpHealthCheck`.
    Http(Box<HttpProbe>),
    /// `TcpHealthCheck`.
    Tcp(TcpProbe),
    /// `GrpcHealthCheck`: `grpc.health.v1.Health/Check`.
    Grpc(GrpcProbe),
}

/// An HTTP request and the statuses that pass.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub path: Uri,
    /// Host, where the endpoint gives none.
    pub host: HeaderValue,
    /// Headers that are added.
    pub headers: HeaderMap,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    /// Statuses that pass.
    pub expected: Vec<Range<u16>>,
    /// Statuses that fail as no answer does, after `unhealthy_threshold` of them.
    pub retriable: Vec<Range<u16>>,
}

/// Bytes to send, and bytes that must come in this order; without any, a connection passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpProbe {
    /// What is sent.
    pub send: Bytes,
    /// What must come.
    pub receive: Vec<Bytes>,
}

/// A gRPC service whose health is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct GrpcProbe {
    /// Its name; empty is the whole server.
    pub service: Arc<str>,
    /// Authority, where the endpoint gives none.
    pub authority: HeaderValue,
}

/// What an endpoint says of its checks (`Endpoint.HealthCheckConfig`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointCheck {
    /// It is not checked.
    pub disabled: bool,
    /// IP address where checks go, where that is another one.
    pub ip: Option<IpAddr>,
    /// Port where checks go, where that is another one.
    pub port: Option<u16>,
    /// Host that HTTP and gRPC checks ask for.
    pub host: Option<HeaderValue>,
}
