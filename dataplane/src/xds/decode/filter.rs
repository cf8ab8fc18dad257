//! HTTP filters of listeners, and what tables, hosts and routes say of them (`typed_per_filter_config`).

use std::{collections::HashMap, mem::take, sync::Arc};

use http::{HeaderValue, StatusCode};
use weft_proto::xds::{
    envoy::{
        config::{core::v3::RuntimeFractionalPercent, route::v3::FilterConfig as RawFilterConfig},
        extensions::filters::{
            common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier},
            http::{
                buffer::v3::{Buffer, BufferPerRoute, buffer_per_route},
                cors::v3::{Cors as RawCors, CorsPolicy},
                fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType},
                jwt_authn::v3::{JwtAuthentication, PerRouteConfig},
                local_ratelimit::v3::LocalRateLimit,
                rbac::v3::{Rbac, RbacPerRoute},
            },
        },
    },
    google::protobuf::Any,
};

use super::{
    At, Refusal, duration, is, matching, nothing_left, pass_over, rate_limit, rbac, token, unknown_type,
    unpack,
};
use crate::{
    fault::grpc_of_status,
    spec::{Abort, Cors, Delay, FilterChange, FilterConfig, FilterOverride, Injection},
};

/// Whether a filter of a listener is one that this proxy has.
pub(super) fn known_of_listener(any: &Any) -> bool {
    is::<RawCors>(any)
        || is::<HttpFault>(any)
        || is::<Buffer>(any)
        || is::<Rbac>(any)
        || is::<JwtAuthentication>(any)
        || is::<LocalRateLimit>(any)
}

/// What a filter of a listener is.
pub(super) fn of_listener(any: &Any) -> Result<FilterConfig, Refusal> {
    if is::<RawCors>(any) {
        nothing_left(&unpack::<RawCors>(any)?)?;
        return Ok(FilterConfig::Cors(None));
    }
    if is::<HttpFault>(any) {
        return injection(unpack(any)?).map(Arc::new).map(FilterConfig::Injection);
    }
    if is::<Buffer>(any) {
        return buffer(unpack(any)?);
    }
    if is::<Rbac>(any) {
        return rbac::of_listener(any);
    }
    if is::<JwtAuthentication>(any) {
        return token::tokens(unpack(any)?).map(Arc::new).map(FilterConfig::Tokens);
    }
    if is::<LocalRateLimit>(any) {
        return rate_limit::of_listener(any);
    }
    Err(unknown_type(any))
}

/// What a route or host says, and of what it does not speak, what the level around it says.
pub(super) fn overrides(
    raw: HashMap<String, Any>,
    outer: &[FilterOverride],
) -> Result<Vec<FilterOverride>, Refusal> {
    let mut found = Vec::with_capacity(raw.len() + outer.len());
    for (name, any) in raw {
        let change = change(&any).at(&format!("typed_per_filter_config[{name}]"))?;
        found.extend(change.map(|change| FilterOverride { name: name.into(), change }));
    }
    let inherited = outer.iter().filter(|of| !found.iter().any(|inner| inner.name == of.name));
    let inherited: Vec<_> = inherited.cloned().collect();
    found.extend(inherited);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// None where the control plane says itself that the word may be passed over.
fn change(any: &Any) -> Result<Option<FilterChange>, Refusal> {
    if is::<RawFilterConfig>(any) {
        let raw: RawFilterConfig = unpack(any)?;
        return match (raw.disabled, raw.config) {
            (true, _) => Ok(Some(FilterChange::Disabled)),
            (false, None) => Ok(Some(FilterChange::Enabled)),
            (false, Some(inner)) if known_of_route(&inner) => of_route(&inner).at("config").map(Some),
            (false, Some(_)) if raw.is_optional => Ok(None),
            (false, Some(inner)) => Err(unknown_type(&inner)).at("config"),
        };
    }
    of_route(any).map(Some)
}

fn known_of_route(any: &Any) -> bool {
    is::<CorsPolicy>(any)
        || is::<HttpFault>(any)
        || is::<BufferPerRoute>(any)
        || is::<RbacPerRoute>(any)
        || is::<PerRouteConfig>(any)
        || is::<LocalRateLimit>(any)
}

fn of_route(any: &Any) -> Result<FilterChange, Refusal> {
    let config = if is::<CorsPolicy>(any) {
        FilterConfig::Cors(Some(Arc::new(cors(unpack(any)?)?)))
    } else if is::<HttpFault>(any) {
        FilterConfig::Injection(Arc::new(injection(unpack(any)?)?))
    } else if is::<RbacPerRoute>(any) {
        return rbac::of_route(any);
    } else if is::<PerRouteConfig>(any) {
        return token::of_route(unpack(any)?);
    } else if is::<LocalRateLimit>(any) {
        return rate_limit::of_route(any);
    } else if is::<BufferPerRoute>(any) {
        match unpack::<BufferPerRoute>(any)?.r#override {
            Some(buffer_per_route::Override::Disabled(true)) => return Ok(FilterChange::Disabled),
            Some(buffer_per_route::Override::Buffer(raw)) => buffer(raw).at("buffer")?,
            Some(buffer_per_route::Override::Disabled(false)) | None => {
                return Err(Refusal::new("override", "missing"));
            }
        }
    } else {
        return Err(unknown_type(any));
    };
    Ok(FilterChange::Config(config))
}

fn buffer(raw: Buffer) -> Result<FilterConfig, Refusal> {
    match raw.max_request_bytes {
        Some(max) if max.value > 0 => Ok(FilterConfig::Buffer(max.value)),
        _ => Err(Refusal::new("max_request_bytes", "must be above zero")),
    }
}

fn cors(mut raw: CorsPolicy) -> Result<Cors, Refusal> {
    let origins = take(&mut raw.allow_origin_string_match).into_iter().enumerate();
    let origins =
        origins.map(|(i, origin)| matching::string(origin).at_index("allow_origin_string_match", i));
    let origins = origins.collect::<Result<_, _>>()?;
    whole(&raw.filter_enabled.take(), true).at("filter_enabled")?;
    whole(&raw.shadow_enabled.take(), false).at("shadow_enabled")?;
    let cors = Cors {
        origins,
        methods: value(take(&mut raw.allow_methods), "allow_methods")?,
        headers: value(take(&mut raw.allow_headers), "allow_headers")?,
        expose: value(take(&mut raw.expose_headers), "expose_headers")?,
        max_age: value(take(&mut raw.max_age), "max_age")?,
        credentials: raw.allow_credentials.take().is_some_and(|flag| flag.value),
        private_network: raw.allow_private_network_access.take().is_some_and(|flag| flag.value),
        forward_unmatched: raw.forward_not_matching_preflights.take().is_none_or(|flag| flag.value),
    };
    nothing_left(&raw)?;
    Ok(cors)
}

/// Refuses a share that is neither absent nor all (or nothing, where that is the only one implemented).
fn whole(share: &Option<RuntimeFractionalPercent>, all: bool) -> Result<(), Refusal> {
    let Some(share) = share else { return Ok(()) };
    let wanted = if all { matching::ALL_PPM } else { 0 };
    match matching::fraction(Some(share.clone()))? {
        ppm if ppm == wanted => Ok(()),
        _ => Err(Refusal::new("", "a part of the requests is not supported by this proxy")),
    }
}

fn value(text: String, field: &str) -> Result<Option<HeaderValue>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    HeaderValue::try_from(text).map(Some).map_err(|_| Refusal::new(field, "not a valid header value"))
}

fn injection(mut raw: HttpFault) -> Result<Injection, Refusal> {
    let headers = take(&mut raw.headers).into_iter().enumerate();
    let headers =
        headers.map(|(i, m)| matching::header(m).at_index("headers", i)).collect::<Result<_, _>>()?;
    let injection = Injection {
        headers,
        delay: raw.delay.take().map(delay).transpose().at("delay")?,
        abort: raw.abort.take().map(abort).transpose().at("abort")?,
        active_max: raw.max_active_faults.take().map(|max| max.value),
    };
    // A runtime key names an override in Envoy's runtime, which we do not have; the rest is statistics.
    pass_over!(raw: delay_percent_runtime, abort_percent_runtime, delay_duration_runtime, abort_http_status_runtime,
        max_active_faults_runtime, response_rate_limit_percent_runtime, abort_grpc_status_runtime,
        disable_downstream_cluster_stats, filter_metadata);
    nothing_left(&raw)?;
    Ok(injection)
}

fn delay(raw: FaultDelay) -> Result<Delay, Refusal> {
    let ppm = matching::percentage(raw.percentage).at("percentage")?;
    match raw.fault_delay_secifier {
        Some(FaultDelaySecifier::FixedDelay(time)) => {
            Ok(Delay { time: duration(time).at("fixed_delay")?, ppm })
        }
        // Callers must not be able to choose how long they are held up.
        Some(FaultDelaySecifier::HeaderDelay(_)) => {
            Err(Refusal::new("header_delay", "not supported by this proxy"))
        }
        None => Err(Refusal::new("fixed_delay", "missing")),
    }
}

fn abort(raw: FaultAbort) -> Result<Abort, Refusal> {
    if !raw.response_body.is_empty() {
        return Err(Refusal::new("response_body", "not supported by this proxy"));
    }
    let ppm = matching::percentage(raw.percentage).at("percentage")?;
    let bad = |field: &str, code: u32| Refusal::new(field, format!("{code} is no such status"));
    match raw.error_type {
        Some(ErrorType::HttpStatus(code)) => {
            let status = u16::try_from(code).ok().filter(|code| (200..600).contains(code));
            let status = status.and_then(|code| StatusCode::from_u16(code).ok());
            let status = status.ok_or_else(|| bad("http_status", code))?;
            Ok(Abort { status, grpc: grpc_of_status(status), ppm })
        }
        Some(ErrorType::GrpcStatus(code)) => {
            let grpc = u16::try_from(code).map_err(|_| bad("grpc_status", code))?;
            // What is no call is answered as a call would be, by Envoy's definition.
            Ok(Abort { status: StatusCode::OK, grpc, ppm })
        }
        Some(ErrorType::HeaderAbort(_)) => Err(Refusal::new("header_abort", "not supported by this proxy")),
        None => Err(Refusal::new("error_type", "missing")),
    }
}

#[cfg(test)]
mod tests;
