//! Limits of requests in Envoy's words: the filter of local limits, which every listener has and which route tables configure.
//!
//! Each limit makes a descriptor of a request: its name, that the request meets its conditions, and the values that are
//! counted apart. Where a value is missing its entry is left out, so that such requests have a bucket of their own, together:
//! who sends no header gets no freer than who does.

use std::{borrow::Cow, collections::HashMap};

use weft_proto::xds::{
    envoy::{
        config::{
            core::v3::{RuntimeFractionalPercent, TypedExtensionConfig},
            route::v3::{
                HeaderMatcher, RateLimit,
                header_matcher::HeaderMatchSpecifier,
                rate_limit::{
                    Action, XRateLimitOption,
                    action::{ActionSpecifier, GenericKey, HeaderValueMatch, RemoteAddress, RequestHeaders},
                },
            },
        },
        extensions::{
            common::ratelimit::v3::{LocalRateLimitDescriptor, rate_limit_descriptor::Entry},
            filters::{
                http::local_ratelimit::v3::LocalRateLimit, network::http_connection_manager::v3::HttpFilter,
            },
            rate_limit_descriptors::expr::v3::{Descriptor, descriptor::ExprSpecifier},
        },
        r#type::{
            matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
            v3::TokenBucket,
        },
    },
    google::protobuf::{Any, Duration},
};

use super::{any, filter, flag, number, route::string_match};
use crate::{
    compile::ir::{Limits, LocalLimit, RouteConfig},
    documents::{LimitKey, LimitMatch, LimitPath, LimitSubject, Rate},
};

const LOCAL: &str = "envoy.filters.http.local_ratelimit";
const LOCAL_TYPE: &str = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
const EXPRESSION: &str = "envoy.rate_limit_descriptors.expr";
const EXPRESSION_TYPE: &str = "envoy.extensions.rate_limit_descriptors.expr.v3.Descriptor";

/// Most values that one limit counts apart at a time; of more, those are forgotten that were idle longest.
const VALUES_MAX: u32 = 4096;

/// Key of the entry that names the limit.
const NAME_KEY: &str = "limit";
/// Key and value of the entry that says that the conditions hold.
const MATCH_ENTRY: (&str, &str) = ("match", "yes");

/// The filters of every listener: they do nothing until a route table says so, and a policy that comes or goes leaves the
/// listener and its connections alone.
pub(super) fn filters() -> impl Iterator<Item = HttpFilter> {
    let idle = LocalRateLimit { stat_prefix: "http_local_rate_limiter".to_owned(), ..Default::default() };
    [HttpFilter { disabled: true, ..filter::filter((LOCAL, LOCAL_TYPE), &idle) }].into_iter()
}

/// What a route table says to them.
pub(super) fn of_table(table: &RouteConfig) -> HashMap<String, Any> {
    let Limits { local } = &table.limits;
    let said =
        (!local.is_empty()).then(|| (LOCAL.to_owned(), any(LOCAL_TYPE, &of_proxy(&table.name, local))));
    said.into_iter().collect()
}

/// The limits that a proxy keeps for itself. A request that none is for takes from a bucket that is never empty: Envoy wants
/// one.
fn of_proxy(table: &str, limits: &[LocalLimit]) -> LocalRateLimit {
    let all = Some(RuntimeFractionalPercent {
        default_value: Some(filter::share(1_000_000)),
        ..Default::default()
    });
    LocalRateLimit {
        stat_prefix: table.to_owned(),
        token_bucket: Some(bucket(u32::MAX, u32::MAX, 1)),
        always_consume_default_token_bucket: flag(false),
        filter_enabled: all.clone(),
        filter_enforced: all,
        max_dynamic_descriptors: number(VALUES_MAX),
        // What is refused must not be tried again at once, which `UNAVAILABLE` would ask gRPC's clients to do.
        rate_limited_as_resource_exhausted: true,
        rate_limits: limits.iter().map(|limit| descriptor(&limit.name, &limit.subject)).collect(),
        descriptors: limits.iter().flat_map(buckets).collect(),
        ..Default::default()
    }
}

/// How a limit makes its descriptor of a request.
fn descriptor(name: &str, subject: &LimitSubject) -> RateLimit {
    let named = ActionSpecifier::GenericKey(GenericKey {
        descriptor_key: NAME_KEY.to_owned(),
        descriptor_value: name.to_owned(),
        ..Default::default()
    });
    let headers = conditions(&subject.matches);
    let matched = (!headers.is_empty()).then(|| {
        ActionSpecifier::HeaderValueMatch(HeaderValueMatch {
            descriptor_key: MATCH_ENTRY.0.to_owned(),
            descriptor_value: MATCH_ENTRY.1.to_owned(),
            headers,
            ..Default::default()
        })
    });
    let actions = [named].into_iter().chain(matched).chain(subject.keys.iter().map(value));
    RateLimit {
        actions: actions.map(|action| Action { action_specifier: Some(action) }).collect(),
        x_ratelimit_option: XRateLimitOption::DraftVersion03.into(),
        ..Default::default()
    }
}

/// Key of the entry that has a value, and whether requests may lack it.
fn entry_of(key: &LimitKey) -> (Cow<'static, str>, bool) {
    match key {
        LimitKey::Principal => ("principal".into(), true),
        LimitKey::RemoteIp => ("remote_address".into(), false),
        LimitKey::Path => ("path".into(), false),
        LimitKey::Method => ("method".into(), false),
        LimitKey::Host => ("host".into(), false),
        LimitKey::Route => ("route".into(), true),
        LimitKey::Header(name) => (format!("header:{name}").into(), true),
    }
}

/// What adds the entry of a value.
fn value(key: &LimitKey) -> ActionSpecifier {
    let (entry, optional) = entry_of(key);
    let expression = |text: &str| {
        let config = Descriptor {
            descriptor_key: entry.to_string(),
            skip_if_error: optional,
            expr_specifier: Some(ExprSpecifier::Text(text.to_owned())),
        };
        ActionSpecifier::Extension(TypedExtensionConfig {
            name: EXPRESSION.to_owned(),
            typed_config: Some(any(EXPRESSION_TYPE, &config)),
        })
    };
    let header = |name: &str| {
        ActionSpecifier::RequestHeaders(RequestHeaders {
            header_name: name.to_owned(),
            descriptor_key: entry.to_string(),
            skip_if_absent: optional,
        })
    };
    match key {
        LimitKey::Principal => expression("connection.uri_san_peer_certificate"),
        LimitKey::Path => expression("request.url_path"),
        LimitKey::Route => expression("xds.route_name"),
        LimitKey::RemoteIp => ActionSpecifier::RemoteAddress(RemoteAddress {}),
        LimitKey::Method => header(":method"),
        LimitKey::Host => header(":authority"),
        LimitKey::Header(name) => header(name),
    }
}

/// The buckets of a limit: one for each set of values that requests may have or lack.
fn buckets(limit: &LocalLimit) -> Vec<LocalRateLimitDescriptor> {
    let entry = |key: &str, value: &str| Entry { key: key.to_owned(), value: value.to_owned() };
    let mut sets = vec![vec![entry(NAME_KEY, &limit.name)]];
    if limit.subject.matches != LimitMatch::default() {
        sets[0].push(entry(MATCH_ENTRY.0, MATCH_ENTRY.1));
    }
    for key in &limit.subject.keys {
        let (name, optional) = entry_of(key);
        let with = sets.iter().map(|set| [set.as_slice(), &[entry(&name, "")]].concat());
        let with: Vec<_> = with.collect();
        sets = if optional { [with, sets].concat() } else { with };
    }
    let Rate { requests, per, burst } = limit.rate;
    let of = |entries| LocalRateLimitDescriptor {
        entries,
        token_bucket: Some(bucket(burst, requests, per.seconds())),
        shadow_mode: limit.dry_run,
    };
    sets.into_iter().map(of).collect()
}

fn bucket(max_tokens: u32, tokens: u32, seconds: u32) -> TokenBucket {
    TokenBucket {
        max_tokens,
        tokens_per_fill: number(tokens),
        fill_interval: Some(Duration { seconds: seconds.into(), nanos: 0 }),
    }
}

/// The conditions of a limit. Those on paths and hosts hold whatever query or port is added.
fn conditions(matches: &LimitMatch) -> Vec<HeaderMatcher> {
    let text = |pattern| StringMatcher { match_pattern: Some(pattern), ..Default::default() };
    let regex = |regex: String| text(MatchPattern::SafeRegex(RegexMatcher { regex, ..Default::default() }));
    let matcher = |name: &str, value: StringMatcher| HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(value)),
        ..Default::default()
    };
    let path = matches.path.as_ref().map(|path| match path {
        LimitPath::Exact(path) => regex(format!("{}(\\?.*)?", regex::escape(path))),
        LimitPath::Prefix(path) => text(MatchPattern::Prefix(path.to_string())),
    });
    let method = matches.method.as_ref().map(|method| text(MatchPattern::Exact(method.to_string())));
    let host = matches.host.as_ref().map(|host| {
        let name = match host.strip_prefix('*') {
            Some(suffix) => format!(".*{}", regex::escape(suffix)),
            None => regex::escape(host),
        };
        regex(format!("(?i){name}\\.?(:[0-9]+)?"))
    });
    let own = [(":path", path), (":method", method), (":authority", host)];
    let own = own.into_iter().filter_map(|(name, value)| value.map(|value| matcher(name, value)));
    own.chain(matches.headers.iter().map(|(name, value)| matcher(name, string_match(value)))).collect()
}
