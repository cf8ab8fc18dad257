//! Filters of listeners and their differences on routes: what is taken, and what is refused with which field named.

use prost::{Message, Name};
use weft_proto::xds::{
    envoy::{
        extensions::filters::{
            common::fault::v3::{FaultRateLimit, fault_delay},
            http::{fault::v3::fault_abort, header_to_metadata::v3::Config as Unknown},
        },
        r#type::{
            matcher::v3::{StringMatcher, string_matcher::MatchPattern},
            v3::{FractionalPercent, fractional_percent::DenominatorType},
        },
    },
    google::protobuf::{BoolValue, Duration, UInt32Value},
};

use super::*;

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn percent(numerator: u32) -> Option<FractionalPercent> {
    Some(FractionalPercent { numerator, denominator: DenominatorType::Hundred as i32 })
}

fn fixed_delay(seconds: i64) -> FaultDelay {
    let time = Duration { seconds, nanos: 0 };
    FaultDelay { percentage: percent(50), fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(time)) }
}

fn abort_with(error: ErrorType) -> HttpFault {
    let abort = FaultAbort { percentage: percent(100), error_type: Some(error), ..Default::default() };
    HttpFault { abort: Some(abort), ..Default::default() }
}

#[track_caller]
fn said<M: Message + Name>(message: &M) -> FilterChange {
    change(&any(message)).unwrap().unwrap()
}

#[track_caller]
fn refused<M: Message + Name>(message: &M, field: &str) {
    assert_eq!(change(&any(message)).unwrap_err().field, field);
}

fn injected<M: Message + Name>(message: &M) -> Arc<Injection> {
    match said(message) {
        FilterChange::Config(FilterConfig::Injection(injection)) => injection,
        other => panic!("{other:?}"),
    }
}

#[test]
fn faults_are_taken_with_their_shares() {
    let found = injected(&HttpFault { delay: Some(fixed_delay(3)), ..Default::default() });
    let time = std::time::Duration::from_secs(3);
    assert_eq!((found.delay, found.abort), (Some(Delay { time, ppm: 500_000 }), None));
    let found = injected(&abort_with(ErrorType::HttpStatus(503)));
    let status = StatusCode::SERVICE_UNAVAILABLE;
    assert_eq!(found.abort, Some(Abort { status, grpc: 14, ppm: 1_000_000 }));
    let found = injected(&abort_with(ErrorType::GrpcStatus(5)));
    assert_eq!(found.abort, Some(Abort { status: StatusCode::OK, grpc: 5, ppm: 1_000_000 }));
    let nobody = FaultAbort { error_type: Some(ErrorType::HttpStatus(500)), ..Default::default() };
    let found = injected(&HttpFault { abort: Some(nobody), ..Default::default() });
    assert_eq!(found.abort.unwrap().ppm, 0, "a share that is not given is none");
}

#[test]
fn what_a_fault_cannot_do_here_is_refused_by_name() {
    refused(&abort_with(ErrorType::HttpStatus(600)), "abort.http_status");
    refused(&abort_with(ErrorType::HeaderAbort(fault_abort::HeaderAbort {})), "abort.header_abort");
    let by_header = FaultDelaySecifier::HeaderDelay(fault_delay::HeaderDelay {});
    let delay = FaultDelay { fault_delay_secifier: Some(by_header), ..Default::default() };
    refused(&HttpFault { delay: Some(delay), ..Default::default() }, "delay.header_delay");
    let limited = FaultRateLimit::default();
    refused(&HttpFault { response_rate_limit: Some(limited), ..Default::default() }, "response_rate_limit");
    refused(&HttpFault { upstream_cluster: "c".into(), ..Default::default() }, "upstream_cluster");
    refused(&HttpFault { downstream_nodes: vec!["n".into()], ..Default::default() }, "downstream_nodes");
}

#[test]
fn a_policy_of_origins_is_taken() {
    let pattern = MatchPattern::Exact("https://a.test".into());
    let origin = StringMatcher { match_pattern: Some(pattern), ..Default::default() };
    let raw = CorsPolicy {
        allow_origin_string_match: vec![origin],
        allow_methods: "GET,PUT".into(),
        max_age: "60".into(),
        allow_credentials: Some(BoolValue { value: true }),
        ..Default::default()
    };
    let FilterChange::Config(FilterConfig::Cors(Some(found))) = said(&raw) else { panic!("no policy") };
    assert_eq!((found.origins.len(), found.methods.as_ref().unwrap().as_bytes()), (1, &b"GET,PUT"[..]));
    assert_eq!((found.credentials, found.headers.is_none(), found.forward_unmatched), (true, true, true));
    refused(&CorsPolicy { allow_headers: "a\n".into(), ..raw.clone() }, "allow_headers");
    let half = RuntimeFractionalPercent { default_value: percent(50), runtime_key: String::new() };
    refused(&CorsPolicy { filter_enabled: Some(half.clone()), ..raw.clone() }, "filter_enabled");
    refused(&CorsPolicy { shadow_enabled: Some(half), ..raw }, "shadow_enabled");
}

#[test]
fn a_route_may_switch_a_filter_off_or_on() {
    let off = RawFilterConfig { disabled: true, ..Default::default() };
    assert!(matches!(said(&off), FilterChange::Disabled));
    assert!(matches!(said(&RawFilterConfig::default()), FilterChange::Enabled));
    let disabled = buffer_per_route::Override::Disabled(true);
    assert!(matches!(said(&BufferPerRoute { r#override: Some(disabled) }), FilterChange::Disabled));
    let max = Buffer { max_request_bytes: Some(UInt32Value { value: 9 }) };
    let limit = BufferPerRoute { r#override: Some(buffer_per_route::Override::Buffer(max)) };
    let wrapped = RawFilterConfig { config: Some(any(&limit)), ..Default::default() };
    assert!(matches!(said(&wrapped), FilterChange::Config(FilterConfig::Buffer(9))));
    refused(&BufferPerRoute::default(), "override");
}

#[test]
fn an_unknown_filter_is_passed_over_only_where_the_control_plane_says_so() {
    refused(&Unknown::default(), "");
    let mut wrapped = RawFilterConfig { config: Some(any(&Unknown::default())), ..Default::default() };
    refused(&wrapped, "config");
    wrapped.is_optional = true;
    assert!(change(&any(&wrapped)).unwrap().is_none());
    assert!(of_listener(&any(&Unknown::default())).is_err());
    // What is known but cannot be honoured is refused, optional or not.
    let fault = HttpFault { upstream_cluster: "c".into(), ..Default::default() };
    let wrapped = RawFilterConfig { config: Some(any(&fault)), is_optional: true, ..Default::default() };
    refused(&wrapped, "config.upstream_cluster");
}

#[test]
fn the_more_specific_word_counts() {
    let says = |max| {
        let max = Buffer { max_request_bytes: Some(UInt32Value { value: max }) };
        any(&BufferPerRoute { r#override: Some(buffer_per_route::Override::Buffer(max)) })
    };
    let outer = overrides([("a".to_owned(), says(1)), ("b".to_owned(), says(2))].into(), &[]).unwrap();
    let found = overrides([("b".to_owned(), says(3))].into(), &outer).unwrap();
    let limits: Vec<_> = found
        .iter()
        .map(|of| match &of.change {
            FilterChange::Config(FilterConfig::Buffer(max)) => (&*of.name, *max),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(limits, [("a", 1), ("b", 3)]);
    let bad = overrides([("c".to_owned(), any(&BufferPerRoute::default()))].into(), &[]).unwrap_err();
    assert_eq!(bad.field, "typed_per_filter_config[c].override");
}
