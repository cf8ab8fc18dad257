//! `Cluster.outlier_detection`.

use std::time::Duration;

use weft_proto::xds::{
    envoy::config::cluster::v3::OutlierDetection,
    google::protobuf::{Duration as ProtoDuration, UInt32Value},
};

use super::{Refusal, nothing_left, optional_duration};
use crate::spec::{Enforcing, Outlier};

/// Envoy's defaults.
const CONSECUTIVE: u32 = 5;
const INTERVAL: Duration = Duration::from_secs(10);
const BASE_EJECTION_TIME: Duration = Duration::from_secs(30);
const MAX_EJECTION_TIME: Duration = Duration::from_secs(300);
const EJECTIONS_MAX_PERCENT: u32 = 10;
const HOSTS_MIN: u32 = 5;
const SUCCESS_RATE_REQUESTS_MIN: u32 = 100;
const SUCCESS_RATE_STDEV_FACTOR: u32 = 1900;
const FAILURE_PERCENTAGE: u32 = 85;
const FAILURE_PERCENTAGE_REQUESTS_MIN: u32 = 50;

pub(super) fn outlier(mut raw: OutlierDetection) -> Result<Outlier, Refusal> {
    let count = |value: Option<UInt32Value>, default| value.map_or(default, |value| value.value);
    let percent = |value: Option<UInt32Value>, default, field| match count(value, default) {
        percent @ 0..=100 => Ok(percent),
        more => Err(Refusal::new(field, format!("{more} is more than 100"))),
    };
    let base_ejection_time = above_zero(raw.base_ejection_time.take(), "base_ejection_time")?;
    let base_ejection_time = base_ejection_time.unwrap_or(BASE_EJECTION_TIME);
    let max_ejection_time = above_zero(raw.max_ejection_time.take(), "max_ejection_time")?;
    let jitter = optional_duration(raw.max_ejection_time_jitter.take(), "max_ejection_time_jitter")?;
    let enforcing = Enforcing {
        consecutive_5xx: percent(raw.enforcing_consecutive_5xx.take(), 100, "enforcing_consecutive_5xx")?,
        consecutive_gateway: percent(
            raw.enforcing_consecutive_gateway_failure.take(),
            0,
            "enforcing_consecutive_gateway_failure",
        )?,
        consecutive_local: percent(
            raw.enforcing_consecutive_local_origin_failure.take(),
            100,
            "enforcing_consecutive_local_origin_failure",
        )?,
        success_rate: percent(raw.enforcing_success_rate.take(), 100, "enforcing_success_rate")?,
        success_rate_local: percent(
            raw.enforcing_local_origin_success_rate.take(),
            100,
            "enforcing_local_origin_success_rate",
        )?,
        failure_percentage: percent(
            raw.enforcing_failure_percentage.take(),
            0,
            "enforcing_failure_percentage",
        )?,
        failure_percentage_local: percent(
            raw.enforcing_failure_percentage_local_origin.take(),
            0,
            "enforcing_failure_percentage_local_origin",
        )?,
    };
    let outlier = Outlier {
        consecutive_5xx: count(raw.consecutive_5xx.take(), CONSECUTIVE),
        consecutive_gateway: count(raw.consecutive_gateway_failure.take(), CONSECUTIVE),
        consecutive_local: count(raw.consecutive_local_origin_failure.take(), CONSECUTIVE),
        split_local: std::mem::take(&mut raw.split_external_local_origin_errors),
        interval: above_zero(raw.interval.take(), "interval")?.unwrap_or(INTERVAL),
        base_ejection_time,
        // At least one whole ejection, as Envoy has it.
        max_ejection_time: max_ejection_time.unwrap_or(MAX_EJECTION_TIME.max(base_ejection_time)),
        ejection_jitter_max: jitter.unwrap_or_default(),
        ejections_max_percent: percent(
            raw.max_ejection_percent.take(),
            EJECTIONS_MAX_PERCENT,
            "max_ejection_percent",
        )?,
        always_one: raw.always_eject_one_host.take().is_some_and(|always| always.value),
        enforcing,
        success_rate_hosts_min: count(raw.success_rate_minimum_hosts.take(), HOSTS_MIN),
        success_rate_requests_min: count(raw.success_rate_request_volume.take(), SUCCESS_RATE_REQUESTS_MIN),
        success_rate_deviations: f64::from(count(
            raw.success_rate_stdev_factor.take(),
            SUCCESS_RATE_STDEV_FACTOR,
        )) / 1000.0,
        failure_percentage: percent(
            raw.failure_percentage_threshold.take(),
            FAILURE_PERCENTAGE,
            "failure_percentage_threshold",
        )?,
        failure_percentage_hosts_min: count(raw.failure_percentage_minimum_hosts.take(), HOSTS_MIN),
        failure_percentage_requests_min: count(
            raw.failure_percentage_request_volume.take(),
            FAILURE_PERCENTAGE_REQUESTS_MIN,
        ),
        check_ends_ejection: raw
            .successful_active_health_check_uneject_host
            .take()
            .is_none_or(|ends| ends.value),
    };
    nothing_left(&raw)?;
    Ok(outlier)
}

fn above_zero(value: Option<ProtoDuration>, field: &str) -> Result<Option<Duration>, Refusal> {
    match optional_duration(value, field)? {
        Some(Duration::ZERO) => Err(Refusal::new(field, "must be above zero")),
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use weft_proto::xds::{envoy::config::core::v3::TypedExtensionConfig, google::protobuf::BoolValue};

    use super::*;

    #[test]
    fn what_is_left_out_is_as_in_envoy() {
        let found = outlier(OutlierDetection::default()).unwrap();
        let counts = (found.consecutive_5xx, found.consecutive_gateway, found.consecutive_local);
        assert_eq!(counts, (5, 5, 5));
        assert_eq!((found.interval, found.base_ejection_time), (INTERVAL, BASE_EJECTION_TIME));
        assert_eq!((found.max_ejection_time, found.ejections_max_percent), (MAX_EJECTION_TIME, 10));
        assert_eq!((found.enforcing.consecutive_5xx, found.enforcing.consecutive_gateway), (100, 0));
        assert_eq!((found.enforcing.success_rate, found.enforcing.failure_percentage), (100, 0));
        assert_eq!(found.success_rate_deviations, 1.9);
        assert!(found.check_ends_ejection && !found.split_local && !found.always_one);
    }

    #[test]
    fn a_zero_that_is_given_is_kept_and_a_long_ejection_is_not_cut() {
        let raw = OutlierDetection {
            consecutive_5xx: Some(UInt32Value { value: 0 }),
            base_ejection_time: Some(ProtoDuration { seconds: 900, nanos: 0 }),
            successful_active_health_check_uneject_host: Some(BoolValue { value: false }),
            ..Default::default()
        };
        let found = outlier(raw).unwrap();
        assert_eq!((found.consecutive_5xx, found.max_ejection_time.as_secs()), (0, 900));
        assert!(!found.check_ends_ejection);
    }

    #[test]
    fn nonsense_is_named() {
        let refused = |raw: OutlierDetection, field: &str| assert_eq!(outlier(raw).unwrap_err().field, field);
        let none = OutlierDetection::default;
        let zero = Some(ProtoDuration::default());
        refused(OutlierDetection { interval: zero, ..none() }, "interval");
        refused(OutlierDetection { base_ejection_time: zero, ..none() }, "base_ejection_time");
        let more = Some(UInt32Value { value: 101 });
        refused(OutlierDetection { max_ejection_percent: more, ..none() }, "max_ejection_percent");
        refused(OutlierDetection { enforcing_success_rate: more, ..none() }, "enforcing_success_rate");
        let monitors = vec![TypedExtensionConfig::default()];
        refused(OutlierDetection { monitors, ..none() }, "monitors");
    }
}
