//! Route tables.

use std::sync::Arc;

use weft_proto::xds::envoy::{
    config::{
        core::v3::{
            DataSource, HeaderValue, HeaderValueOption, RuntimeFractionalPercent, data_source::Specifier,
            header_value_option::HeaderAppendAction,
        },
        route::v3::{
            self as api, DirectResponseAction, HeaderMatcher, QueryParameterMatcher, RedirectAction,
            RetryPolicy, RouteAction, RouteConfiguration, RouteMatch, WeightedCluster,
            header_matcher::HeaderMatchSpecifier,
            query_parameter_matcher::QueryParameterMatchSpecifier,
            redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
            retry_policy::{
                RetryBackOff, RetryHostPredicate, RetryPriority, retry_host_predicate, retry_priority,
            },
            route::Action as EncodedAction,
            route_action::{
                ClusterNotFoundResponseCode, ClusterSpecifier, HashPolicy, HostRewriteSpecifier,
                RequestMirrorPolicy,
                hash_policy::{self as policy, PolicySpecifier},
            },
            route_match::PathSpecifier,
            weighted_cluster::{ClusterWeight, cluster_weight},
        },
    },
    extensions::retry::{
        host::previous_hosts::v3::PreviousHostsPredicate,
        priority::previous_priorities::v3::PreviousPrioritiesConfig,
    },
    r#type::matcher::v3::{
        RegexMatchAndSubstitute, RegexMatcher, StringMatcher, string_matcher::MatchPattern,
    },
};

use super::{access, ads, any, duration, filter, flag, limits, number};
use crate::{
    compile::ir::{
        Action, Forward, HeaderMatch, Match, Mirror, Redirect, Retry, Route, RouteConfig, VirtualHost,
        Weighted,
    },
    documents::{HashKey, HeaderChanges, PathMatch, RedirectPath, StringMatch},
};

const PREVIOUS_PRIORITIES: &str = "envoy.retry_priorities.previous_priorities";
const PREVIOUS_PRIORITIES_TYPE: &str =
    "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig";
/// Tries after which the priorities that had them are left: Istio's.
const PRIORITY_TRIES: i32 = 2;
const PREVIOUS_HOSTS: &str = "envoy.retry_host_predicates.previous_hosts";
const PREVIOUS_HOSTS_TYPE: &str = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";

/// How often another endpoint is looked for before one that was tried is taken: Istio's number.
const HOST_SELECTIONS: i64 = 5;

/// A route table.
pub(crate) fn route_config(table: &RouteConfig) -> RouteConfiguration {
    RouteConfiguration {
        vhds: table.on_demand.then(|| api::Vhds { config_source: ads() }),
        name: table.name.to_string(),
        virtual_hosts: table.hosts.iter().map(virtual_host).collect(),
        ignore_port_in_host_matching: table.ignore_port,
        typed_per_filter_config: access::of_table(&table.access)
            .into_iter()
            .chain(limits::of_table(table))
            .collect(),
        // A route may name a cluster that is not there yet: it answers 503, and the rest of the table serves.
        validate_clusters: flag(false),
        ..Default::default()
    }
}

/// A virtual host, of a table or by itself.
pub(crate) fn virtual_host(host: &VirtualHost) -> api::VirtualHost {
    api::VirtualHost {
        name: host.name.to_string(),
        domains: host.domains.iter().map(ToString::to_string).collect(),
        routes: host.routes.iter().map(route).collect(),
        ..Default::default()
    }
}

fn route(route: &Route) -> api::Route {
    let (request, response) = (&route.headers.request, &route.headers.response);
    api::Route {
        name: route.name.to_string(),
        r#match: Some(route_match(&route.matches)),
        request_headers_to_add: added(request),
        request_headers_to_remove: removed(request),
        response_headers_to_add: added(response),
        response_headers_to_remove: removed(response),
        typed_per_filter_config: filter::of_route(&route.filters),
        stat_prefix: route.stat_prefix.as_deref().unwrap_or_default().to_owned(),
        action: Some(match &route.action {
            Action::Forward(to) => EncodedAction::Route(forward(to)),
            Action::Redirect(to) => EncodedAction::Redirect(redirect(to)),
            Action::Direct { status, body } => EncodedAction::DirectResponse(DirectResponseAction {
                status: (*status).into(),
                body: (!body.is_empty()).then(|| data(body)),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

fn data(bytes: &[u8]) -> DataSource {
    let specifier = match std::str::from_utf8(bytes) {
        Ok(text) => Specifier::InlineString(text.to_owned()),
        Err(_) => Specifier::InlineBytes(bytes.to_vec()),
    };
    DataSource { specifier: Some(specifier), ..Default::default() }
}

fn added(changes: &HeaderChanges) -> Vec<HeaderValueOption> {
    let option = |(name, value): &(Arc<str>, Arc<str>), action: HeaderAppendAction| HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_string(),
            // A % would begin one of Envoy's substitutions.
            value: value.replace('%', "%%"),
            ..Default::default()
        }),
        append_action: action.into(),
        keep_empty_value: true,
        ..Default::default()
    };
    let set = changes.set.iter().map(|pair| option(pair, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = changes.add.iter().map(|pair| option(pair, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add).collect()
}

fn removed(changes: &HeaderChanges) -> Vec<String> {
    changes.remove.iter().map(ToString::to_string).collect()
}

fn route_match(found: &Match) -> RouteMatch {
    let path = match &found.path {
        None => PathSpecifier::Prefix("/".to_owned()),
        Some(PathMatch::Exact(path)) => PathSpecifier::Path(path.to_string()),
        Some(PathMatch::Prefix(path)) => PathSpecifier::Prefix(path.to_string()),
        Some(PathMatch::Segments(path)) => PathSpecifier::PathSeparatedPrefix(path.to_string()),
        Some(PathMatch::Regex(regex)) => PathSpecifier::SafeRegex(self::regex(regex)),
    };
    let parameter = |(name, value): &(Arc<str>, Option<StringMatch>)| QueryParameterMatcher {
        name: name.to_string(),
        query_parameter_match_specifier: Some(match value {
            Some(value) => QueryParameterMatchSpecifier::StringMatch(string_match(value)),
            None => QueryParameterMatchSpecifier::PresentMatch(true),
        }),
    };
    let case_matters = !found.ignore_case || matches!(found.path, Some(PathMatch::Regex(_)));
    RouteMatch {
        path_specifier: Some(path),
        case_sensitive: flag(case_matters),
        headers: found.headers.iter().map(header_match).collect(),
        query_parameters: found.query.iter().map(parameter).collect(),
        ..Default::default()
    }
}

fn header_match(header: &HeaderMatch) -> HeaderMatcher {
    HeaderMatcher {
        name: header.name.to_string(),
        invert_match: header.invert,
        // "Does not have this value" holds for a request without the header.
        treat_missing_header_as_empty: header.invert && header.value.is_some(),
        header_match_specifier: Some(match &header.value {
            Some(value) => HeaderMatchSpecifier::StringMatch(string_match(value)),
            None => HeaderMatchSpecifier::PresentMatch(true),
        }),
    }
}

pub(super) fn string_match(value: &StringMatch) -> StringMatcher {
    let pattern = match value {
        StringMatch::Exact(text) => MatchPattern::Exact(text.to_string()),
        // An empty prefix holds for every value, but Envoy wants at least one byte.
        StringMatch::Prefix(text) if text.is_empty() => MatchPattern::SafeRegex(regex(".*")),
        StringMatch::Prefix(text) => MatchPattern::Prefix(text.to_string()),
        StringMatch::Regex(text) => MatchPattern::SafeRegex(regex(text)),
    };
    StringMatcher { match_pattern: Some(pattern), ..Default::default() }
}

fn regex(text: &str) -> RegexMatcher {
    RegexMatcher { regex: text.to_owned(), ..Default::default() }
}

fn forward(to: &Forward) -> RouteAction {
    let plain = |weighted: &Weighted| weighted.headers == Default::default();
    let cluster = match to.clusters.as_slice() {
        [only] if plain(only) => ClusterSpecifier::Cluster(only.cluster.to_string()),
        several => ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: several.iter().map(weighted).collect(),
            ..Default::default()
        }),
    };
    let mut encoded = RouteAction {
        cluster_specifier: Some(cluster),
        cluster_not_found_response_code: match to.missing_is_error {
            true => ClusterNotFoundResponseCode::InternalServerError,
            false => ClusterNotFoundResponseCode::ServiceUnavailable,
        }
        .into(),
        timeout: duration(to.timeout),
        retry_policy: to.retry.as_ref().map(retry),
        hash_policy: to.hash.iter().map(hash_policy).collect(),
        request_mirror_policies: to.mirrors.iter().map(mirror).collect(),
        prefix_rewrite: to.prefix_rewrite.as_deref().unwrap_or_default().to_owned(),
        regex_rewrite: to.regex_rewrite.as_ref().map(|(pattern, substitution)| RegexMatchAndSubstitute {
            pattern: Some(regex(pattern)),
            substitution: substitution.to_string(),
        }),
        host_rewrite_specifier: to
            .host_rewrite
            .as_ref()
            .map(|host| HostRewriteSpecifier::HostRewriteLiteral(host.to_string())),
        ..Default::default()
    };
    heed_grpc_timeout(&mut encoded);
    encoded
}

/// Calls may say themselves how long they take, up to what the route says, as Istio has it.
#[expect(deprecated, reason = "what takes its place lets a call run on that is late")]
fn heed_grpc_timeout(action: &mut RouteAction) {
    action.max_grpc_timeout = action.timeout;
}

fn mirror(to: &Mirror) -> RequestMirrorPolicy {
    RequestMirrorPolicy {
        cluster: to.cluster.to_string(),
        runtime_fraction: Some(RuntimeFractionalPercent {
            default_value: Some(filter::share(to.ppm)),
            ..Default::default()
        }),
        trace_sampled: flag(false),
        // What a copy is for sees what the original saw, as Istio has it.
        disable_shadow_host_suffix_append: true,
        ..Default::default()
    }
}

fn hash_policy(key: &HashKey) -> HashPolicy {
    let specifier = match key {
        HashKey::Header(name) => {
            PolicySpecifier::Header(policy::Header { header_name: name.to_string(), ..Default::default() })
        }
        HashKey::Cookie { name, path, ttl } => PolicySpecifier::Cookie(policy::Cookie {
            name: name.to_string(),
            path: path.to_string(),
            ttl: ttl.and_then(duration),
            ..Default::default()
        }),
        HashKey::SourceIp => {
            PolicySpecifier::ConnectionProperties(policy::ConnectionProperties { source_ip: true })
        }
        HashKey::QueryParameter(name) => {
            PolicySpecifier::QueryParameter(policy::QueryParameter { name: name.to_string() })
        }
    };
    HashPolicy { policy_specifier: Some(specifier), ..Default::default() }
}

fn weighted(weighted: &Weighted) -> ClusterWeight {
    let (request, response) = (&weighted.headers.request, &weighted.headers.response);
    ClusterWeight {
        name: weighted.cluster.to_string(),
        weight: number(weighted.weight),
        request_headers_to_add: added(request),
        request_headers_to_remove: removed(request),
        response_headers_to_add: added(response),
        response_headers_to_remove: removed(response),
        host_rewrite_specifier: weighted
            .headers
            .host
            .as_ref()
            .map(|host| cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host.to_string())),
        ..Default::default()
    }
}

fn retry(retry: &Retry) -> RetryPolicy {
    RetryPolicy {
        retry_on: retry.on.to_string(),
        num_retries: number(retry.retries),
        per_try_timeout: retry.per_try_timeout.and_then(duration),
        retriable_status_codes: retry.statuses.clone(),
        retry_back_off: retry
            .backoff
            .filter(|backoff| !backoff.is_zero())
            .map(|backoff| RetryBackOff { base_interval: duration(backoff), max_interval: None }),
        retry_priority: retry.leave_tried_priorities.then(previous_priorities),
        retry_host_predicate: retry.avoid_tried.then(previous_hosts).into_iter().collect(),
        host_selection_retry_max_attempts: if retry.avoid_tried { HOST_SELECTIONS } else { 0 },
        ..Default::default()
    }
}

fn previous_hosts() -> RetryHostPredicate {
    let config = any(PREVIOUS_HOSTS_TYPE, &PreviousHostsPredicate::default());
    RetryHostPredicate {
        name: PREVIOUS_HOSTS.to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(config)),
    }
}

fn previous_priorities() -> RetryPriority {
    let config = PreviousPrioritiesConfig { update_frequency: PRIORITY_TRIES };
    RetryPriority {
        name: PREVIOUS_PRIORITIES.to_owned(),
        config_type: Some(retry_priority::ConfigType::TypedConfig(any(PREVIOUS_PRIORITIES_TYPE, &config))),
    }
}

fn redirect(to: &Redirect) -> RedirectAction {
    let code = match to.code {
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::MovedPermanently,
    };
    RedirectAction {
        host_redirect: to.host.as_deref().unwrap_or_default().to_owned(),
        port_redirect: to.port.unwrap_or_default().into(),
        response_code: code.into(),
        scheme_rewrite_specifier: to
            .scheme
            .as_ref()
            .map(|scheme| SchemeRewriteSpecifier::SchemeRedirect(scheme.to_string())),
        path_rewrite_specifier: to.path.as_ref().map(|path| match path {
            RedirectPath::Full(path) => PathRewriteSpecifier::PathRedirect(path.to_string()),
            RedirectPath::Prefix(prefix) => PathRewriteSpecifier::PrefixRewrite(prefix.to_string()),
        }),
        ..Default::default()
    }
}
