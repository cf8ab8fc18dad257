//! Limits of requests: Envoy's local rate limit filter, and how descriptors are made.

use std::{mem::take, sync::Arc, time::Duration};

use weft_proto::xds::{
    envoy::{
        config::{
            core::v3::TypedExtensionConfig,
            route::v3::{
                RateLimit as RawLimit,
                rate_limit::{
                    Action as RawAction, XRateLimitOption,
                    action::{ActionSpecifier, HeaderValueMatch},
                },
            },
        },
        extensions::{
            common::ratelimit::v3::{LocalRateLimitDescriptor, XRateLimitHeadersRfcVersion},
            filters::http::local_ratelimit::v3::LocalRateLimit as Raw,
            rate_limit_descriptors::expr::v3::{Descriptor, descriptor::ExprSpecifier},
        },
        r#type::v3::TokenBucket,
    },
    google::protobuf::Any,
};

use super::{At, Refusal, duration, matching, nothing_left, pass_over, required, unpack};
use crate::{
    filter::rate_limit::{
        bucket::Rate,
        buckets::{Buckets, Identity, VALUES_MAX},
    },
    spec::{
        Action, ActionValue, FilterChange, FilterConfig, LimitTallies, LocalBuckets, LocalRateLimit,
        RateLimit,
    },
};

/// Most limits of one filter.
const LIMITS_MAX: usize = 10_000;
/// Values that a limit tells apart where the filter does not say: Envoy's number.
const VALUES_DEFAULT: u32 = 20;
/// Shortest time between two fillings: Envoy's.
const FILL_INTERVAL_MIN: Duration = Duration::from_millis(50);

const UNAVAILABLE: u16 = 14;
const RESOURCE_EXHAUSTED: u16 = 8;

/// The filter of a listener's requests. Without a bucket or a share of requests it limits nothing.
pub(super) fn of_listener(any: &Any) -> Result<FilterConfig, Refusal> {
    Ok(match of_route(any)? {
        FilterChange::Config(config) => config,
        FilterChange::Disabled | FilterChange::Enabled => FilterConfig::LocalRateLimit(None),
    })
}

/// What a route says of it.
pub(super) fn of_route(any: &Any) -> Result<FilterChange, Refusal> {
    let mut raw: Raw = unpack(any)?;
    let filter = required(take(&mut raw.stat_prefix), "stat_prefix")?;
    let Some(enabled) = raw.filter_enabled.take() else {
        nothing_left(&raw)?;
        return Ok(FilterChange::Disabled);
    };
    whole(&enabled.default_value.map(|share| matching::percentage(Some(share))).transpose()?)
        .at("filter_enabled")?;
    let shadow = match raw.filter_enforced.take() {
        None => true,
        Some(enforced) => {
            let ppm = matching::fraction(Some(enforced)).at("filter_enforced")?;
            if ppm != 0 {
                whole(&Some(ppm)).at("filter_enforced")?;
            }
            ppm == 0
        }
    };
    let values_max = raw.max_dynamic_descriptors.take().map_or(VALUES_DEFAULT, |max| max.value);
    if !(1..=VALUES_MAX).contains(&values_max) {
        return Err(Refusal::new("max_dynamic_descriptors", format!("1 to {VALUES_MAX} are supported")));
    }
    let told =
        take(&mut raw.enable_x_ratelimit_headers) == XRateLimitHeadersRfcVersion::DraftVersion03 as i32;
    let descriptors = take(&mut raw.descriptors).into_iter().enumerate();
    let of = |(i, raw)| local_buckets(raw, &filter, values_max).at_index("descriptors", i);
    let buckets = descriptors.map(of).collect::<Result<Vec<_>, _>>()?;
    let limits = take(&mut raw.rate_limits).into_iter().enumerate();
    let limits = limits.map(|(i, raw)| limit(raw, told, &buckets).at_index("rate_limits", i));
    let limits = limits.collect::<Result<Vec<_>, _>>()?;
    if limits.len() > LIMITS_MAX {
        return Err(Refusal::new("rate_limits", format!("more than {LIMITS_MAX}")));
    }
    if limits.is_empty() && !buckets.is_empty() {
        return Err(Refusal::new("rate_limits", "missing: limits of routes are not supported by this proxy"));
    }
    let Some(bucket) = raw.token_bucket.take() else { return Err(Refusal::new("token_bucket", "missing")) };
    let rate = rate(bucket).at("token_bucket")?;
    let rest = Identity { filter: filter.clone(), entries: Vec::new(), rate };
    let rest = LocalBuckets {
        entries: Vec::new(),
        rate,
        shadow: false,
        buckets: Buckets::of(rest, values_max),
        tallies: LimitTallies::of(filter.into()),
    };
    let config = LocalRateLimit {
        limits,
        rest: Some(rest),
        rest_always: raw.always_consume_default_token_bucket.take().is_none_or(|flag| flag.value),
        shadow,
        grpc_status: match take(&mut raw.rate_limited_as_resource_exhausted) {
            true => RESOURCE_EXHAUSTED,
            false => UNAVAILABLE,
        },
        headers: told,
    };
    // Limits of virtual hosts are those of routes, which are refused there.
    pass_over!(raw: vh_rate_limits);
    nothing_left(&raw)?;
    Ok(FilterChange::Config(FilterConfig::LocalRateLimit(Some(Arc::new(config)))))
}

/// Refuses a part of the requests.
fn whole(ppm: &Option<u32>) -> Result<(), Refusal> {
    match ppm {
        Some(ppm) if *ppm != matching::ALL_PPM => {
            Err(Refusal::new("", "a part of the requests is not supported by this proxy"))
        }
        _ => Ok(()),
    }
}

fn rate(raw: TokenBucket) -> Result<Rate, Refusal> {
    let tokens = raw.tokens_per_fill.map_or(1, |tokens| tokens.value);
    if raw.max_tokens == 0 || tokens == 0 {
        return Err(Refusal::new("max_tokens", "must be above zero, as tokens_per_fill"));
    }
    let time = raw.fill_interval.map(duration).transpose().at("fill_interval")?.unwrap_or_default();
    if time < FILL_INTERVAL_MIN {
        return Err(Refusal::new("fill_interval", "must be at least 50ms"));
    }
    Ok(Rate::new(raw.max_tokens, tokens, time))
}

fn local_buckets(
    mut raw: LocalRateLimitDescriptor,
    filter: &str,
    values_max: u32,
) -> Result<LocalBuckets, Refusal> {
    let mut entries: Vec<(Arc<str>, Option<Arc<str>>)> = Vec::new();
    for (i, entry) in take(&mut raw.entries).into_iter().enumerate() {
        let key = required(entry.key, "key").at_index("entries", i)?;
        entries.push((key.into(), Some(entry.value.into()).filter(|value: &Arc<str>| !value.is_empty())));
    }
    let Some((_, first)) = entries.first() else { return Err(Refusal::new("entries", "empty")) };
    let name = first.clone().unwrap_or_else(|| filter.into());
    let Some(bucket) = raw.token_bucket.take() else { return Err(Refusal::new("token_bucket", "missing")) };
    let rate = rate(bucket).at("token_bucket")?;
    let shadow = take(&mut raw.shadow_mode);
    nothing_left(&raw)?;
    let identity = Identity { filter: filter.to_owned(), entries: entries.clone(), rate };
    let buckets = Buckets::of(identity, values_max);
    Ok(LocalBuckets { entries, rate, shadow, buckets, tallies: LimitTallies::of(name) })
}

/// A descriptor, and the buckets that are for what it can be.
fn limit(mut raw: RawLimit, told: bool, buckets: &[LocalBuckets]) -> Result<RateLimit, Refusal> {
    let headers = match XRateLimitOption::try_from(take(&mut raw.x_ratelimit_option)) {
        Ok(XRateLimitOption::Unspecified) => told,
        Ok(XRateLimitOption::Off) => false,
        Ok(XRateLimitOption::DraftVersion03) => true,
        Err(_) => return Err(Refusal::new("x_ratelimit_option", "an unknown value")),
    };
    let actions = actions(&mut raw)?;
    nothing_left(&raw)?;
    let buckets = buckets.iter().filter(|of| may_be(&actions, of)).cloned().collect();
    Ok(RateLimit { actions, headers, buckets })
}

/// Whether a descriptor of these actions can be the one of some buckets.
fn may_be(actions: &[Action], of: &LocalBuckets) -> bool {
    let mut entries = of.entries.iter().peekable();
    for action in actions {
        let fits = |(key, value): &&(Arc<str>, Option<Arc<str>>)| {
            *key == action.key
                && match (&action.value, value) {
                    (ActionValue::Literal(text) | ActionValue::Match { text, .. }, Some(value)) => {
                        text == value
                    }
                    _ => true,
                }
        };
        if entries.next_if(fits).is_none() && !action.optional {
            return false;
        }
    }
    entries.next().is_none()
}

fn actions(raw: &mut RawLimit) -> Result<Vec<Action>, Refusal> {
    let raw = take(&mut raw.actions);
    if raw.is_empty() {
        return Err(Refusal::new("actions", "empty"));
    }
    raw.into_iter().enumerate().map(|(i, raw)| action(raw).at_index("actions", i)).collect()
}

fn action(raw: RawAction) -> Result<Action, Refusal> {
    let of = |key: String, default: &str, value, optional| {
        let key = if key.is_empty() { default.to_owned() } else { key };
        Action { key: key.into(), value, optional }
    };
    match raw.action_specifier {
        Some(ActionSpecifier::GenericKey(raw)) => {
            if !raw.default_value.is_empty() {
                return Err(Refusal::new("generic_key.default_value", "not supported by this proxy"));
            }
            let text = required(raw.descriptor_value, "generic_key.descriptor_value")?;
            Ok(of(raw.descriptor_key, "generic_key", ActionValue::Literal(text.into()), false))
        }
        Some(ActionSpecifier::HeaderValueMatch(raw)) => header_value_match(raw).at("header_value_match"),
        Some(ActionSpecifier::RequestHeaders(raw)) => {
            let name = required(raw.header_name, "request_headers.header_name")?.to_ascii_lowercase();
            let key = required(raw.descriptor_key, "request_headers.descriptor_key")?;
            Ok(of(key, "", ActionValue::Header(name), raw.skip_if_absent))
        }
        Some(ActionSpecifier::RemoteAddress(_)) => {
            Ok(of(String::new(), "remote_address", ActionValue::RemoteAddress, false))
        }
        Some(ActionSpecifier::Extension(raw)) => expression(raw).at("extension"),
        Some(_) => Err(Refusal::new("action_specifier", "not supported by this proxy")),
        None => Err(Refusal::new("action_specifier", "missing")),
    }
}

fn header_value_match(mut raw: HeaderValueMatch) -> Result<Action, Refusal> {
    let text: Arc<str> = required(take(&mut raw.descriptor_value), "descriptor_value")?.into();
    let key = Some(take(&mut raw.descriptor_key)).filter(|key| !key.is_empty());
    let expect = raw.expect_match.take().is_none_or(|flag| flag.value);
    let headers = take(&mut raw.headers).into_iter().enumerate();
    let headers = headers.map(|(i, raw)| matching::header(raw).at_index("headers", i));
    let headers = headers.collect::<Result<Vec<_>, _>>()?;
    nothing_left(&raw)?;
    let value = ActionValue::Match { text, headers, expect };
    Ok(Action { key: key.as_deref().unwrap_or("header_match").into(), value, optional: false })
}

/// Of expressions this proxy knows a few by their text, and evaluates none.
fn expression(raw: TypedExtensionConfig) -> Result<Action, Refusal> {
    let raw: Descriptor = unpack(&raw.typed_config.unwrap_or_default()).at("typed_config")?;
    let key = required(raw.descriptor_key, "typed_config.descriptor_key")?;
    let unknown = |what: &str| {
        Refusal::new("typed_config", format!("expression {what:?} is not supported by this proxy"))
    };
    let value = match raw.expr_specifier {
        Some(ExprSpecifier::Text(text)) => match text.as_str() {
            "connection.uri_san_peer_certificate" => ActionValue::Principal,
            "request.url_path" => ActionValue::Path,
            "xds.route_name" => ActionValue::RouteName,
            other => return Err(unknown(other)),
        },
        Some(ExprSpecifier::Parsed(_)) | None => return Err(unknown("")),
    };
    Ok(Action { key: key.into(), value, optional: raw.skip_if_error })
}

#[cfg(test)]
mod tests;
