//! How a cluster's endpoints are watched: by what requests meet, and by checks of the proxy's own.

use std::time::Duration;

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
