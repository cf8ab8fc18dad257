//! Retry policies.

use std::{mem::take, num::NonZeroUsize, time::Duration};

use http::HeaderName;
use weft_proto::xds::envoy::{
    config::route::v3::{
        RetryPolicy as RawRetry,
        retry_policy::{
            RateLimitedRetryBackOff, ResetHeaderFormat, RetryPriority, retry_priority::ConfigType,
        },
    },
    extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig,
};

use super::{At, Refusal, matching, nothing_left, optional_duration, pass_over, unpack};
use crate::spec::{Reset, RetryAfter, RetryOn, RetryPolicy};

/// Envoy's defaults, which control planes rely on when they leave a field out.
const RETRIES: u32 = 1;
const BACKOFF_BASE: Duration = Duration::from_millis(25);
const BACKOFF_FACTOR: u32 = 10;
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// None where the policy retries on nothing.
pub(super) fn retry_policy(mut raw: RawRetry) -> Result<Option<RetryPolicy>, Refusal> {
    let mut on = retry_on(&take(&mut raw.retry_on)).at("retry_on")?;
    for (i, status) in take(&mut raw.retriable_status_codes).into_iter().enumerate() {
        let status = u16::try_from(status).ok().filter(|status| (100..1000).contains(status));
        let status = status.ok_or_else(|| Refusal::new("", "no HTTP status"));
        let status = status.at_index("retriable_status_codes", i)?;
        if on.by_status {
            on.conditions.statuses.push(status);
        }
    }
    for (i, header) in take(&mut raw.retriable_headers).into_iter().enumerate() {
        let header = matching::header(header).at_index("retriable_headers", i)?;
        if on.by_header {
            on.conditions.headers.push(header);
        }
    }
    let retries_max = raw.num_retries.take().map_or(RETRIES, |retries| retries.value);
    let per_try_timeout = optional_duration(raw.per_try_timeout.take(), "per_try_timeout")?;
    let (mut backoff_base, mut backoff_max) = (BACKOFF_BASE, None);
    if let Some(backoff) = raw.retry_back_off.take() {
        backoff_base = optional_duration(backoff.base_interval, "retry_back_off.base_interval")?
            .filter(|base| !base.is_zero())
            .ok_or_else(|| Refusal::new("retry_back_off.base_interval", "must be above zero"))?;
        backoff_max = optional_duration(backoff.max_interval, "retry_back_off.max_interval")?;
    }
    let backoff_max = backoff_max.unwrap_or(backoff_base * BACKOFF_FACTOR);
    if backoff_max < backoff_base {
        return Err(Refusal::new("retry_back_off.max_interval", "below base_interval"));
    }
    let retry_after = raw.rate_limited_retry_back_off.take();
    let retry_after = retry_after.map(self::retry_after).transpose().at("rate_limited_retry_back_off")?;
    let mut avoid_tried = false;
    for (i, predicate) in take(&mut raw.retry_host_predicate).into_iter().enumerate() {
        if predicate.name != "envoy.retry_host_predicates.previous_hosts" {
            let problem = format!("{:?} is not supported by this proxy", predicate.name);
            return Err(Refusal::new("", problem)).at_index("retry_host_predicate", i);
        }
        avoid_tried = true;
    }
    let priority = raw.retry_priority.take().map(retry_priority).transpose().at("retry_priority")?;
    pass_over!(raw: host_selection_retry_max_attempts);
    nothing_left(&raw)?;
    if on.conditions.is_never() || retries_max == 0 {
        return Ok(None);
    }
    let per_try_timeout = per_try_timeout.filter(|timeout| !timeout.is_zero());
    let on = on.conditions;
    Ok(Some(RetryPolicy {
        on,
        retries_max,
        per_try_timeout,
        backoff_base,
        backoff_max,
        retry_after,
        avoid_tried,
        leave_priorities_every: priority,
    }))
}

fn retry_priority(raw: RetryPriority) -> Result<NonZeroUsize, Refusal> {
    let Some(ConfigType::TypedConfig(config)) = raw.config_type else {
        return Err(Refusal::new("typed_config", "is missing"));
    };
    let config: PreviousPrioritiesConfig = unpack(&config).at("typed_config")?;
    let every = usize::try_from(config.update_frequency).ok().and_then(NonZeroUsize::new);
    every.ok_or_else(|| Refusal::new("typed_config.update_frequency", "must be above zero"))
}

fn retry_after(raw: RateLimitedRetryBackOff) -> Result<RetryAfter, Refusal> {
    let mut resets = Vec::with_capacity(raw.reset_headers.len());
    for (i, header) in raw.reset_headers.into_iter().enumerate() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let name = name.map_err(|_| Refusal::new("name", format!("{:?} is no header name", header.name)));
        let name = name.at_index("reset_headers", i)?;
        resets.push(match ResetHeaderFormat::try_from(header.format) {
            Ok(ResetHeaderFormat::Seconds) => Reset::Seconds(name),
            Ok(ResetHeaderFormat::UnixTimestamp) => Reset::UnixTime(name),
            Err(_) => return Err(Refusal::new("format", "an unknown value")).at_index("reset_headers", i),
        });
    }
    if resets.is_empty() {
        return Err(Refusal::new("reset_headers", "empty"));
    }
    let max = optional_duration(raw.max_interval, "max_interval")?.unwrap_or(RETRY_AFTER_MAX);
    Ok(RetryAfter { resets, max })
}

#[derive(Default)]
struct ParsedRetryOn {
    conditions: RetryOn,
    /// Whether `retriable-status-codes` is among the words.
    by_status: bool,
    /// Whether `retriable-headers` is among the words.
    by_header: bool,
}

fn retry_on(text: &str) -> Result<ParsedRetryOn, Refusal> {
    let mut parsed = ParsedRetryOn::default();
    let on = &mut parsed.conditions;
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "5xx" => on.server_error = true,
            "gateway-error" => on.gateway_error = true,
            "reset" => on.reset = true,
            "reset-before-request" => on.reset_before_request = true,
            "connect-failure" => on.connect_failure = true,
            "refused-stream" => on.refused_stream = true,
            "retriable-4xx" => on.retriable_4xx = true,
            "envoy-ratelimited" => on.rate_limited = true,
            "retriable-status-codes" => parsed.by_status = true,
            "retriable-headers" => parsed.by_header = true,
            "cancelled" => on.grpc_statuses.push(1),
            "deadline-exceeded" => on.grpc_statuses.push(4),
            "resource-exhausted" => on.grpc_statuses.push(8),
            "internal" => on.grpc_statuses.push(13),
            "unavailable" => on.grpc_statuses.push(14),
            // There is no HTTP/3 whose connection could fail.
            "http3-post-connect-failure" => {}
            code => match code.parse::<u16>() {
                Ok(status) if (100..600).contains(&status) => on.statuses.push(status),
                _ => return Err(Refusal::new("", format!("{word:?} is not supported by this proxy"))),
            },
        }
    }
    Ok(parsed)
}
