//! Limits: what is taken, and what is refused with which field named.

use prost::{Message, Name};
use weft_proto::xds::{
    envoy::{
        config::{
            core::v3::RuntimeFractionalPercent,
            route::v3::rate_limit::action::{GenericKey, RemoteAddress, RequestHeaders},
        },
        extensions::common::ratelimit::v3::rate_limit_descriptor::Entry,
        r#type::v3::{FractionalPercent, fractional_percent::DenominatorType},
    },
    google::protobuf::{BoolValue, Duration as RawDuration, UInt32Value},
};

use super::*;

fn packed<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn share(numerator: u32) -> Option<RuntimeFractionalPercent> {
    let share = FractionalPercent { numerator, denominator: DenominatorType::Hundred as i32 };
    Some(RuntimeFractionalPercent { default_value: Some(share), ..Default::default() })
}

fn bucket(tokens: u32) -> Option<TokenBucket> {
    let fill_interval = Some(RawDuration { seconds: 1, nanos: 0 });
    let tokens_per_fill = Some(UInt32Value { value: tokens });
    Some(TokenBucket { max_tokens: tokens, tokens_per_fill, fill_interval })
}

fn actions(specifiers: Vec<ActionSpecifier>) -> RawLimit {
    let action = |specifier| RawAction { action_specifier: Some(specifier) };
    RawLimit { actions: specifiers.into_iter().map(action).collect(), ..Default::default() }
}

fn named(name: &str) -> ActionSpecifier {
    ActionSpecifier::GenericKey(GenericKey { descriptor_value: name.into(), ..Default::default() })
}

fn header(name: &str) -> ActionSpecifier {
    ActionSpecifier::RequestHeaders(RequestHeaders {
        header_name: name.into(),
        descriptor_key: name.into(),
        skip_if_absent: true,
    })
}

fn buckets(entries: &[(&str, &str)]) -> LocalRateLimitDescriptor {
    let entry = |(key, value): &(&str, &str)| Entry { key: (*key).into(), value: (*value).into() };
    LocalRateLimitDescriptor {
        entries: entries.iter().map(entry).collect(),
        token_bucket: bucket(5),
        shadow_mode: false,
    }
}

fn raw() -> Raw {
    Raw {
        stat_prefix: "decode".into(),
        filter_enabled: share(100),
        filter_enforced: share(100),
        token_bucket: bucket(10),
        always_consume_default_token_bucket: Some(BoolValue { value: false }),
        rate_limited_as_resource_exhausted: true,
        rate_limits: vec![actions(vec![named("a"), header("x-user")]), actions(vec![named("b")])],
        descriptors: vec![
            buckets(&[("generic_key", "a"), ("x-user", "")]),
            buckets(&[("generic_key", "a")]),
            buckets(&[("generic_key", "b")]),
        ],
        ..Default::default()
    }
}

#[test]
fn each_limit_has_the_buckets_that_its_descriptors_can_be_for() {
    let FilterChange::Config(FilterConfig::LocalRateLimit(Some(found))) = of_route(&packed(&raw())).unwrap()
    else {
        panic!("no limits");
    };
    let counts: Vec<usize> = found.limits.iter().map(|limit| limit.buckets.len()).collect();
    assert_eq!((counts, found.shadow, found.rest_always, found.grpc_status), (vec![2, 1], false, false, 8));
}

#[test]
fn a_filter_that_no_request_is_for_does_nothing() {
    let idle = Raw { stat_prefix: "a".into(), ..Default::default() };
    assert!(matches!(of_listener(&packed(&idle)), Ok(FilterConfig::LocalRateLimit(None))));
    let watched = Raw { filter_enforced: share(0), ..raw() };
    let found = of_route(&packed(&watched)).unwrap();
    assert!(matches!(found, FilterChange::Config(FilterConfig::LocalRateLimit(Some(of))) if of.shadow));
}

#[test]
fn what_this_proxy_cannot_honour_is_refused_by_its_name() {
    let limit = |specifier| Raw { rate_limits: vec![actions(vec![specifier])], ..raw() };
    let expression = |text: &str| {
        let config = Descriptor {
            descriptor_key: "k".into(),
            skip_if_error: false,
            expr_specifier: Some(ExprSpecifier::Text(text.into())),
        };
        ActionSpecifier::Extension(TypedExtensionConfig {
            name: "e".into(),
            typed_config: Some(packed(&config)),
        })
    };
    for (raw, field) in [
        (Raw { stat_prefix: String::new(), ..raw() }, "stat_prefix"),
        (Raw { filter_enabled: share(50), ..raw() }, "filter_enabled"),
        (Raw { filter_enforced: share(50), ..raw() }, "filter_enforced"),
        (Raw { token_bucket: None, ..raw() }, "token_bucket"),
        (Raw { token_bucket: bucket(0), ..raw() }, "token_bucket.max_tokens"),
        (Raw { stage: 1, ..raw() }, "stage"),
        (
            Raw { local_rate_limit_per_downstream_connection: true, ..raw() },
            "local_rate_limit_per_downstream_connection",
        ),
        (Raw { rate_limits: vec![], ..raw() }, "rate_limits"),
        (Raw { rate_limits: vec![RawLimit::default()], ..raw() }, "rate_limits[0].actions"),
        (
            Raw {
                rate_limits: vec![RawLimit { disable_key: "k".into(), ..actions(vec![named("a")]) }],
                ..raw()
            },
            "rate_limits[0].disable_key",
        ),
        (limit(expression("request.size")), "rate_limits[0].actions[0].extension.typed_config"),
        (
            limit(ActionSpecifier::SourceCluster(Default::default())),
            "rate_limits[0].actions[0].action_specifier",
        ),
        (
            Raw { max_dynamic_descriptors: Some(UInt32Value { value: 1 << 20 }), ..raw() },
            "max_dynamic_descriptors",
        ),
    ] {
        assert_eq!(of_route(&packed(&raw)).unwrap_err().field, field);
    }
    for specifier in [expression("request.url_path"), ActionSpecifier::RemoteAddress(RemoteAddress {})] {
        assert!(of_route(&packed(&limit(specifier))).is_ok());
    }
}
