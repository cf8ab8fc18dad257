//! `RouteConfiguration`: virtual hosts, routes, actions.

use std::{mem::take, sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode, uri::Scheme};
use weft_proto::xds::envoy::config::{
    core::v3::data_source::Specifier,
    route::v3::{
        DirectResponseAction, RedirectAction, Route as RawRoute, RouteAction as RawAction,
        RouteConfiguration, VirtualHost as RawHost, WeightedCluster as RawWeighted,
        redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
        route::Action,
        route_action::{
            ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy,
            UpgradeConfig,
        },
        weighted_cluster::{ClusterWeight, cluster_weight},
    },
};

use super::{
    At, Refusal, cluster::ads_only, filter, hash, headers, matching, nothing_left, optional_duration,
    pass_over, required, retry,
};
use crate::body::{REPLAY_BYTES, REPLAY_BYTES_MAX};
use crate::spec::{
    DirectResponse, FilterOverride, Forward, HeaderMutation, Mirror, MirrorHost, PathRedirect, Redirect,
    RetryPolicy, Route, RouteAction, RouteConfig, VirtualHost, WeightedCluster,
};

/// Envoy's default, which control planes rely on when they leave the field out.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(15);
/// Most routes of one table.
const ROUTES_MAX: usize = 100_000;
/// Largest body of a fixed response, bytes.
const BODY_BYTES_MAX: usize = 64 << 10;

/// What one level says beside its routes: changes of headers, and what filters do.
struct Changes {
    request: HeaderMutation,
    response: HeaderMutation,
    filters: Vec<FilterOverride>,
}

impl Changes {
    /// What is said around says it too.
    fn within(&mut self, outer: &Self) {
        headers::append(&mut self.request, &outer.request);
        headers::append(&mut self.response, &outer.response);
    }
}

/// The fields that tables, hosts and routes have alike; `outer` is what the level around says of filters.
macro_rules! changes {
    ($raw:ident, $outer:expr) => {{
        let filters = filter::overrides(take(&mut $raw.typed_per_filter_config), $outer)?;
        let (request, response) = header_changes!($raw);
        Changes { request, response, filters }
    }};
}

/// The four header fields that weighted clusters have, too.
macro_rules! header_changes {
    ($raw:ident) => {{
        let (add, remove) =
            (take(&mut $raw.request_headers_to_add), take(&mut $raw.request_headers_to_remove));
        let request = headers::mutation(&headers::REQUEST, add, remove)?;
        let (add, remove) =
            (take(&mut $raw.response_headers_to_add), take(&mut $raw.response_headers_to_remove));
        let response = headers::mutation(&headers::RESPONSE, add, remove)?;
        (request, response)
    }};
}

pub(super) fn route_config(mut raw: RouteConfiguration) -> Result<RouteConfig, Refusal> {
    let name = take(&mut raw.name).into();
    let outer = changes!(raw, &[]);
    let ignore_port = take(&mut raw.ignore_port_in_host_matching);
    let mut virtual_hosts = Vec::with_capacity(raw.virtual_hosts.len());
    let mut count = 0;
    for (i, host) in take(&mut raw.virtual_hosts).into_iter().enumerate() {
        let host = virtual_host(host, &outer).at_index("virtual_hosts", i)?;
        count += host.routes.len();
        virtual_hosts.push(host);
    }
    if count > ROUTES_MAX {
        return Err(Refusal::new("virtual_hosts", format!("{count} routes; at most {ROUTES_MAX} are taken")));
    }
    unique_domains(&virtual_hosts)?;
    let on_demand = raw.vhds.take().map(|vhds| ads_only(vhds.config_source).at("vhds.config_source"));
    let on_demand = on_demand.transpose()?.is_some();
    let plain = |mutation: &HeaderMutation| mutation.is_empty();
    if on_demand && !(plain(&outer.request) && plain(&outer.response) && outer.filters.is_empty()) {
        return Err(Refusal::new(
            "vhds",
            "what a table says of headers and filters does not reach hosts on demand",
        ));
    }
    // A route to an unknown cluster answers 503, so nothing needs to be validated; bodies have a limit of their own.
    pass_over!(raw: metadata, validate_clusters, max_direct_response_body_size_bytes);
    nothing_left(&raw)?;
    Ok(RouteConfig { name, virtual_hosts, ignore_port, on_demand })
}

/// A virtual host that comes by itself.
pub(super) fn host_on_demand(raw: RawHost) -> Result<VirtualHost, Refusal> {
    let none = Changes {
        request: HeaderMutation::default(),
        response: HeaderMutation::default(),
        filters: Vec::new(),
    };
    let host = virtual_host(raw, &none)?;
    if host.routes.len() > ROUTES_MAX {
        let problem = format!("{} routes; at most {ROUTES_MAX} are taken", host.routes.len());
        return Err(Refusal::new("routes", problem));
    }
    Ok(VirtualHost { used: Some(Arc::default()), ..host })
}

fn unique_domains(hosts: &[VirtualHost]) -> Result<(), Refusal> {
    let mut seen = std::collections::HashSet::new();
    for (i, host) in hosts.iter().enumerate() {
        if let Some(twice) = host.domains.iter().find(|domain| !seen.insert(domain.as_str())) {
            let problem = format!("{twice:?} belongs to two virtual hosts");
            return Err(Refusal::new("domains", problem)).at_index("virtual_hosts", i);
        }
    }
    Ok(())
}

fn virtual_host(mut raw: RawHost, table: &Changes) -> Result<VirtualHost, Refusal> {
    let name = required(take(&mut raw.name), "name")?.into();
    let domains = take(&mut raw.domains);
    if domains.is_empty() {
        return Err(Refusal::new("domains", "empty"));
    }
    let domains = domains.into_iter().enumerate();
    let domains = domains.map(|(i, text)| domain(text).at_index("domains", i)).collect::<Result<_, _>>()?;
    let mut outer = changes!(raw, &table.filters);
    outer.within(table);
    let retry = raw.retry_policy.take().map(retry::retry_policy).transpose().at("retry_policy")?.flatten();
    let routes = take(&mut raw.routes).into_iter().enumerate();
    let routes = routes
        .map(|(i, raw)| route(raw, &outer, retry.as_ref()).map(Arc::new).at_index("routes", i))
        .collect::<Result<_, _>>()?;
    // Attempt counts are told to people through metrics and logs; virtual clusters are statistics.
    pass_over!(raw: metadata, virtual_clusters, include_request_attempt_count, include_attempt_count_in_response);
    nothing_left(&raw)?;
    Ok(VirtualHost { name, domains, routes, used: None })
}

fn domain(text: String) -> Result<String, Refusal> {
    let stars = text.matches('*').count();
    let star_at_an_end = text.starts_with('*') || text.ends_with('*');
    if text.is_empty() || stars > 1 || (stars == 1 && !star_at_an_end) {
        return Err(Refusal::new(
            "",
            format!("{text:?} is no host name, and no pattern with one * at an end"),
        ));
    }
    Ok(text.to_ascii_lowercase())
}

fn route(mut raw: RawRoute, outer: &Changes, host_retry: Option<&RetryPolicy>) -> Result<Route, Refusal> {
    let name = take(&mut raw.name).into();
    let found = raw.r#match.take().ok_or_else(|| Refusal::new("match", "missing"))?;
    let matches = matching::route_match(found).at("match")?;
    let mut changes = changes!(raw, &outer.filters);
    changes.within(outer);
    let replay_bytes_max = replay_bytes_max(&mut raw)?;
    let action = match raw.action.take() {
        Some(Action::Route(action)) => {
            let forward = forward(action, host_retry).at("route")?;
            RouteAction::Forward(Box::new(Forward { replay_bytes_max, ..forward }))
        }
        Some(Action::Redirect(action)) => RouteAction::Redirect(redirect(action).at("redirect")?),
        Some(Action::DirectResponse(action)) => RouteAction::Direct(direct(action).at("direct_response")?),
        Some(Action::FilterAction(_)) => {
            return Err(Refusal::new("filter_action", "not supported by this proxy"));
        }
        Some(Action::NonForwardingAction(_)) => {
            return Err(Refusal::new("non_forwarding_action", "not supported by this proxy"));
        }
        None => return Err(Refusal::new("action", "missing")),
    };
    // A decorator names spans and a prefix names statistics.
    pass_over!(raw: metadata, decorator, stat_prefix);
    nothing_left(&raw)?;
    let Changes { request: request_headers, response: response_headers, filters } = changes;
    Ok(Route { name, matches, action, request_headers, response_headers, filters })
}

/// How much of a request's body is kept for another try.
fn replay_bytes_max(raw: &mut RawRoute) -> Result<usize, Refusal> {
    let old = raw.per_request_buffer_limit_bytes.take().map(|limit| u64::from(limit.value));
    let limit = raw.request_body_buffer_limit.take().map(|limit| limit.value).or(old);
    match limit {
        None => Ok(REPLAY_BYTES),
        Some(limit) => match usize::try_from(limit).ok().filter(|limit| *limit <= REPLAY_BYTES_MAX) {
            Some(limit) => Ok(limit),
            None => Err(Refusal::new(
                "request_body_buffer_limit",
                format!("{limit} bytes; at most {REPLAY_BYTES_MAX} are kept"),
            )),
        },
    }
}

fn forward(mut raw: RawAction, host_retry: Option<&RetryPolicy>) -> Result<Forward, Refusal> {
    let clusters = match raw.cluster_specifier.take() {
        Some(ClusterSpecifier::Cluster(name)) => vec![WeightedCluster {
            name: required(name, "cluster")?.into(),
            weight: 1,
            request_headers: HeaderMutation::default(),
            response_headers: HeaderMutation::default(),
        }],
        Some(ClusterSpecifier::WeightedClusters(list)) => weighted(list).at("weighted_clusters")?,
        Some(ClusterSpecifier::ClusterHeader(_)) => {
            return Err(Refusal::new("cluster_header", "not supported by this proxy"));
        }
        Some(
            ClusterSpecifier::ClusterSpecifierPlugin(_) | ClusterSpecifier::InlineClusterSpecifierPlugin(_),
        ) => {
            return Err(Refusal::new("cluster_specifier_plugin", "not supported by this proxy"));
        }
        None => return Err(Refusal::new("cluster", "missing")),
    };
    let missing = take(&mut raw.cluster_not_found_response_code);
    let cluster_not_found = match ClusterNotFoundResponseCode::try_from(missing) {
        Ok(ClusterNotFoundResponseCode::ServiceUnavailable) => StatusCode::SERVICE_UNAVAILABLE,
        Ok(ClusterNotFoundResponseCode::NotFound) => StatusCode::NOT_FOUND,
        Ok(ClusterNotFoundResponseCode::InternalServerError) => StatusCode::INTERNAL_SERVER_ERROR,
        Err(_) => return Err(Refusal::new("cluster_not_found_response_code", "an unknown value")),
    };
    let timeout = optional_duration(raw.timeout.take(), "timeout")?.unwrap_or(ROUTE_TIMEOUT);
    let idle_timeout = optional_duration(raw.idle_timeout.take(), "idle_timeout")?;
    let retry = match raw.retry_policy.take() {
        Some(policy) => retry::retry_policy(policy).at("retry_policy")?,
        None => host_retry.cloned(),
    };
    let prefix_rewrite = Some(take(&mut raw.prefix_rewrite)).filter(|prefix| !prefix.is_empty());
    let regex_rewrite = match raw.regex_rewrite.take() {
        Some(rewrite) => {
            let pattern = rewrite.pattern.unwrap_or_default();
            let pattern = matching::partial_regex(&pattern).at("regex_rewrite.pattern")?;
            Some((pattern, matching::substitution(&rewrite.substitution).at("regex_rewrite.substitution")?))
        }
        None => None,
    };
    if prefix_rewrite.is_some() && regex_rewrite.is_some() {
        return Err(Refusal::new("regex_rewrite", "not together with prefix_rewrite"));
    }
    let host_rewrite = match raw.host_rewrite_specifier.take() {
        None => None,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => Some(literal_host(&host)?),
        Some(_) => {
            return Err(Refusal::new("host_rewrite_specifier", "only host_rewrite_literal is supported"));
        }
    };
    let upgrades = take(&mut raw.upgrade_configs).into_iter().enumerate();
    let upgrades =
        upgrades.map(|(i, u)| upgrade(u).at_index("upgrade_configs", i)).collect::<Result<Vec<_>, _>>()?;
    let hash = hash::policies(take(&mut raw.hash_policy))?;
    let mirrors = take(&mut raw.request_mirror_policies).into_iter().enumerate();
    let mirrors = mirrors
        .map(|(i, raw)| mirror(raw).at_index("request_mirror_policies", i))
        .collect::<Result<_, _>>()?;
    // Priority DEFAULT is 0 and any other is refused.
    pass_over!(raw: flush_timeout);
    let mut grpc_timeout_max = old_grpc_timeout_max(&mut raw)?;
    if let Some(mut stream) = raw.max_stream_duration.take() {
        let max = optional_duration(stream.grpc_timeout_header_max.take(), "grpc_timeout_header_max");
        grpc_timeout_max = max.at("max_stream_duration")?.or(grpc_timeout_max);
        stream.max_stream_duration =
            stream.max_stream_duration.filter(|max| (max.seconds, max.nanos) != (0, 0));
        nothing_left(&stream).at("max_stream_duration")?;
    }
    nothing_left(&raw)?;
    Ok(Forward {
        clusters,
        cluster_not_found,
        timeout: Some(timeout).filter(|timeout| !timeout.is_zero()),
        grpc_timeout_max,
        idle_timeout,
        retry,
        prefix_rewrite,
        regex_rewrite,
        host_rewrite,
        upgrades: upgrades.into_iter().flatten().collect(),
        hash,
        mirrors,
        replay_bytes_max: REPLAY_BYTES,
    })
}

#[expect(deprecated, reason = "control planes still send it: what takes its place answers in another way")]
fn old_grpc_timeout_max(raw: &mut RawAction) -> Result<Option<Duration>, Refusal> {
    optional_duration(raw.max_grpc_timeout.take(), "max_grpc_timeout")
}

fn mirror(mut raw: RequestMirrorPolicy) -> Result<Mirror, Refusal> {
    let cluster = required(take(&mut raw.cluster), "cluster")?.into();
    let ppm = matching::fraction(raw.runtime_fraction.take()).at("runtime_fraction")?;
    let unchanged = take(&mut raw.disable_shadow_host_suffix_append);
    let host = match take(&mut raw.host_rewrite_literal) {
        text if text.is_empty() && unchanged => MirrorHost::Same,
        text if text.is_empty() => MirrorHost::Shadow,
        text => MirrorHost::Literal(literal_host(&text)?),
    };
    // Whether a copy's span is sampled is for who makes spans.
    pass_over!(raw: trace_sampled);
    nothing_left(&raw)?;
    Ok(Mirror { cluster, ppm, host })
}

fn weighted(mut raw: RawWeighted) -> Result<Vec<WeightedCluster>, Refusal> {
    let clusters = take(&mut raw.clusters).into_iter().enumerate();
    let clusters = clusters
        .map(|(i, raw)| cluster_weight(raw).at_index("clusters", i))
        .collect::<Result<Vec<_>, _>>()?;
    weight_total(clusters.iter().map(|cluster| cluster.weight))?;
    // The sum of the weights is what counts; a runtime key has no runtime here.
    pass_over!(raw: total_weight, runtime_key_prefix);
    nothing_left(&raw)?;
    Ok(clusters)
}

/// Refuses weights that sum to zero or to more than 32 bits.
pub(super) fn weight_total(weights: impl Iterator<Item = u32>) -> Result<(), Refusal> {
    match weights.map(u64::from).sum::<u64>() {
        0 => Err(Refusal::new("clusters", "the weights sum to zero")),
        total if u32::try_from(total).is_err() => {
            Err(Refusal::new("clusters", "the weights sum to more than 2^32"))
        }
        _ => Ok(()),
    }
}

fn cluster_weight(mut raw: ClusterWeight) -> Result<WeightedCluster, Refusal> {
    let name = required(take(&mut raw.name), "name")?.into();
    let weight = raw.weight.take().map_or(0, |weight| weight.value);
    let (mut request_headers, response_headers) = header_changes!(raw);
    request_headers.host = match raw.host_rewrite_specifier.take() {
        None => None,
        Some(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host)) => Some(literal_host(&host)?),
    };
    nothing_left(&raw)?;
    Ok(WeightedCluster { name, weight, request_headers, response_headers })
}

fn literal_host(host: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(host)
        .map_err(|_| Refusal::new("host_rewrite_literal", format!("{host:?} is no host")))
}

/// The upgrade's name, unless it is switched off.
fn upgrade(raw: UpgradeConfig) -> Result<Option<String>, Refusal> {
    if raw.connect_config.is_some() {
        return Err(Refusal::new("connect_config", "not supported by this proxy"));
    }
    let enabled = raw.enabled.is_none_or(|enabled| enabled.value);
    upgrade_name(&raw.upgrade_type).map(|name| enabled.then_some(name))
}

/// An upgrade that is a plain exchange of bytes after a 101.
pub(super) fn upgrade_name(text: &str) -> Result<String, Refusal> {
    if text.is_empty() || text.eq_ignore_ascii_case("connect") || text.eq_ignore_ascii_case("connect-udp") {
        return Err(Refusal::new("upgrade_type", format!("{text:?} is not supported by this proxy")));
    }
    Ok(text.to_ascii_lowercase())
}

fn redirect(mut raw: RedirectAction) -> Result<Redirect, Refusal> {
    let scheme = match raw.scheme_rewrite_specifier.take() {
        None | Some(SchemeRewriteSpecifier::HttpsRedirect(false)) => None,
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some(Scheme::HTTPS),
        Some(SchemeRewriteSpecifier::SchemeRedirect(text)) => Some(
            text.parse().map_err(|_| Refusal::new("scheme_redirect", format!("{text:?} is no scheme")))?,
        ),
    };
    let host = Some(take(&mut raw.host_redirect)).filter(|host| !host.is_empty());
    let port = match take(&mut raw.port_redirect) {
        0 => None,
        port => Some(
            u16::try_from(port).map_err(|_| Refusal::new("port_redirect", format!("{port} is no port")))?,
        ),
    };
    let path = match raw.path_rewrite_specifier.take() {
        None => PathRedirect::Keep,
        Some(PathRewriteSpecifier::PathRedirect(path)) => PathRedirect::Full(path),
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => PathRedirect::Prefix(prefix),
        Some(_) => return Err(Refusal::new("path_rewrite_specifier", "not supported by this proxy")),
    };
    let code = take(&mut raw.response_code);
    let status = match RedirectResponseCode::try_from(code) {
        Ok(RedirectResponseCode::MovedPermanently) => StatusCode::MOVED_PERMANENTLY,
        Ok(RedirectResponseCode::Found) => StatusCode::FOUND,
        Ok(RedirectResponseCode::SeeOther) => StatusCode::SEE_OTHER,
        Ok(RedirectResponseCode::TemporaryRedirect) => StatusCode::TEMPORARY_REDIRECT,
        Ok(RedirectResponseCode::PermanentRedirect) => StatusCode::PERMANENT_REDIRECT,
        Err(_) => return Err(Refusal::new("response_code", format!("{code} is unknown"))),
    };
    let strip_query = take(&mut raw.strip_query);
    nothing_left(&raw)?;
    Ok(Redirect { scheme, host, port, path, status, strip_query })
}

fn direct(mut raw: DirectResponseAction) -> Result<DirectResponse, Refusal> {
    let code = take(&mut raw.status);
    let status = u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.filter(|status| status.as_u16() >= 200);
    let status = status.ok_or_else(|| Refusal::new("status", format!("{code} is no final HTTP status")))?;
    let body = match raw.body.take().and_then(|body| body.specifier) {
        None => bytes::Bytes::new(),
        Some(Specifier::InlineString(text)) => text.into(),
        Some(Specifier::InlineBytes(bytes)) => bytes.into(),
        // A control plane must not be able to read the files or the environment of a proxy.
        Some(_) => {
            return Err(Refusal::new(
                "body",
                "only inline_string and inline_bytes are supported by this proxy",
            ));
        }
    };
    if body.len() > BODY_BYTES_MAX {
        return Err(Refusal::new(
            "body",
            format!("{} bytes; at most {BODY_BYTES_MAX} are taken", body.len()),
        ));
    }
    nothing_left(&raw)?;
    Ok(DirectResponse { status, body })
}
