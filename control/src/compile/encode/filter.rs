//! HTTP filters: those that every listener has, and what routes say to them.
//!
//! A listener has them all from its first day, so that a document which uses one changes routes alone: Envoy drains the
//! connections of a listener that changes. But the filter of tokens has its rules in the listener, by Envoy's definition.

use std::{collections::HashMap, sync::Arc};

use prost::Message;
use weft_proto::xds::{
    envoy::{
        config::core::v3::RuntimeFractionalPercent,
        extensions::filters::{
            common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier},
            http::{
                buffer::v3::{Buffer, BufferPerRoute, buffer_per_route},
                cors::v3::{Cors as EncodedCors, CorsPolicy},
                fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType},
                router::v3::Router,
            },
            network::http_connection_manager::v3::{HttpFilter, http_filter},
        },
        r#type::v3::{FractionalPercent, fractional_percent::DenominatorType},
    },
    google::protobuf::Any,
};

use super::{access, any, duration, flag, limits, number, route::string_match, tokens};
use crate::{
    compile::ir::{Direction, Filters, TokenProvider},
    documents::{AbortStatus, Cors, Fault},
};

/// An Envoy filter: its name, and the type of its configuration.
type Kind = (&'static str, &'static str);

const CORS: Kind = ("envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.Cors");
const FAULT: Kind = ("envoy.filters.http.fault", "envoy.extensions.filters.http.fault.v3.HTTPFault");
const BUFFER: Kind = ("envoy.filters.http.buffer", "envoy.extensions.filters.http.buffer.v3.Buffer");
const ROUTER: Kind = ("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router");

const CORS_OF_ROUTE: &str = "envoy.extensions.filters.http.cors.v3.CorsPolicy";
const BUFFER_OF_ROUTE: &str = "envoy.extensions.filters.http.buffer.v3.BufferPerRoute";

/// The filters of a listener, in order. Preflights are answered before anything can refuse them, because browsers send
/// them without credentials; faults come after whatever may refuse a request.
pub(super) fn of_listener(direction: Direction, tokens: &[TokenProvider]) -> Vec<HttpFilter> {
    let mut filters = Vec::new();
    // Who calls injects faults into its own requests and keeps to its origins; who serves need not do it again.
    if direction != Direction::Inbound {
        filters.push(filter(CORS, &EncodedCors::default()));
    }
    if !tokens.is_empty() {
        filters.push(tokens::filter(tokens));
    }
    // Who serves says who may ask.
    if direction != Direction::Outbound {
        filters.extend(access::filters());
        // Only what may be done is counted.
        filters.extend(limits::filters());
    }
    if direction != Direction::Inbound {
        filters.push(filter(FAULT, &HttpFault::default()));
    }
    let off = HttpFilter { disabled: true, ..filter(BUFFER, &Buffer { max_request_bytes: number(1) }) };
    filters.push(off);
    filters.push(router());
    filters
}

/// The filters of a gRPC client, in order. It makes the faults of its calls itself (gRFC A33).
pub(super) fn of_grpc_client() -> Vec<HttpFilter> {
    vec![filter(FAULT, &HttpFault::default()), router()]
}

/// Whether a gRPC client has a filter of a name.
pub(super) fn is_of_grpc_client(name: &str) -> bool {
    name == FAULT.0
}

/// The last filter of every chain.
pub(super) fn router() -> HttpFilter {
    filter(ROUTER, &Router::default())
}

pub(super) fn filter<M: Message>((name, config_type): Kind, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any(config_type, config))),
        ..Default::default()
    }
}

/// What a route says to each filter.
pub(super) fn of_route(filters: &Filters) -> HashMap<String, Any> {
    let mut said = HashMap::new();
    if let Some(policy) = &filters.cors {
        said.insert(CORS.0.to_owned(), any(CORS_OF_ROUTE, &cors(policy)));
    }
    if let Some(injected) = &filters.fault {
        said.insert(FAULT.0.to_owned(), any(FAULT.1, &fault(injected)));
    }
    if let Some(max) = filters.request_bytes_max {
        let buffer = Buffer { max_request_bytes: number(max) };
        let limit = BufferPerRoute { r#override: Some(buffer_per_route::Override::Buffer(buffer)) };
        said.insert(BUFFER.0.to_owned(), any(BUFFER_OF_ROUTE, &limit));
    }
    said
}

fn cors(policy: &Cors) -> CorsPolicy {
    let list = |names: &[Arc<str>]| names.join(",");
    let all = RuntimeFractionalPercent { default_value: Some(share(1_000_000)), ..Default::default() };
    CorsPolicy {
        allow_origin_string_match: policy.origins.iter().map(string_match).collect(),
        allow_methods: list(&policy.methods),
        allow_headers: list(&policy.headers),
        expose_headers: list(&policy.expose),
        max_age: policy.max_age.map(|age| age.as_secs().to_string()).unwrap_or_default(),
        allow_credentials: policy.credentials.and_then(flag),
        filter_enabled: Some(all),
        forward_not_matching_preflights: flag(policy.forward_unmatched),
        ..Default::default()
    }
}

fn fault(fault: &Fault) -> HttpFault {
    HttpFault {
        delay: fault.delay.as_ref().map(|delay| FaultDelay {
            percentage: Some(share(delay.ppm)),
            fault_delay_secifier: duration(delay.time).map(FaultDelaySecifier::FixedDelay),
        }),
        abort: fault.abort.as_ref().map(|abort| FaultAbort {
            percentage: Some(share(abort.ppm)),
            error_type: Some(match abort.status {
                AbortStatus::Http(status) => ErrorType::HttpStatus(status.into()),
                AbortStatus::Grpc(status) => ErrorType::GrpcStatus(status),
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A share of a million, in the largest unit that holds it.
pub(super) fn share(ppm: u32) -> FractionalPercent {
    let (numerator, denominator) = match ppm {
        whole if whole % 10_000 == 0 => (whole / 10_000, DenominatorType::Hundred),
        _ => (ppm, DenominatorType::Million),
    };
    FractionalPercent { numerator, denominator: denominator.into() }
}
