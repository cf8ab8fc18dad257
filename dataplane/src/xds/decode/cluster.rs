//! `Cluster`: discovery, balancing, protocol, limits.

use std::{mem::take, net::IpAddr, sync::Arc, time::Duration};

use weft_proto::xds::{
    envoy::{
        config::{
            cluster::v3::{
                CircuitBreakers, Cluster as RawCluster, UpstreamConnectionOptions,
                circuit_breakers::Thresholds,
                cluster::{
                    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, LbPolicy, RefreshRate,
                    common_lb_config::LocalityConfigSpecifier,
                },
            },
            core::v3::{
                BindConfig, ConfigSource, HttpProtocolOptions as CommonOptions, Metadata, RoutingPriority,
                config_source::ConfigSourceSpecifier, socket_address::PortSpecifier,
            },
        },
        extensions::upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{UpstreamProtocolOptions, explicit_http_config::ProtocolConfig},
        },
    },
    google::protobuf::{Struct, UInt32Value, value::Kind},
};

use super::{
    At, Refusal, balancing, check, endpoint, nothing_left, optional_duration, outlier, pass_over, required,
    tls, unpack,
};
use crate::spec::{
    Cluster, ClusterLimits, Destination, Discovery, EndpointAddress, EndpointSet, Keepalive, Refresh,
    UpstreamProtocol,
};

/// Envoy's defaults, which control planes rely on when they leave a field out.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const DNS_REFRESH: Duration = Duration::from_secs(5);
/// The longest wait after failed lookups, in base intervals.
const DNS_FAILURE_FACTOR: u32 = 10;
const LIMIT: u32 = 1024;
const RETRIES_MAX: u32 = 3;
const BUDGET_PERCENT: u32 = 20;
const BUDGET_CONCURRENCY_MIN: u32 = 3;
const PANIC_PERCENT: u32 = 50;
/// Shortest time between two resolutions of a name, so that a resource cannot make us flood a resolver.
const DNS_REFRESH_MIN: Duration = Duration::from_millis(100);

pub(super) fn cluster(mut raw: RawCluster) -> Result<Cluster, Refusal> {
    let name: Arc<str> = required(take(&mut raw.name), "name")?.into();
    let discovery = discovery(&mut raw, &name)?;
    if matches!(discovery, Discovery::OriginalDestination) {
        // There is nothing to pick from, and only this word for that is taken.
        if take(&mut raw.lb_policy) != LbPolicy::ClusterProvided as i32 {
            return Err(Refusal::new("lb_policy", "ORIGINAL_DST needs CLUSTER_PROVIDED"));
        }
    }
    let source = raw.upstream_bind_config.take().map(source).transpose().at("upstream_bind_config")?;
    let picking = balancing::picking(&mut raw)?;
    let common =
        raw.common_lb_config.take().map_or(Ok(Common::default()), common_lb).at("common_lb_config")?;
    let mut limits =
        raw.circuit_breakers.take().map_or(Ok(default_limits()), limits).at("circuit_breakers")?;
    let outlier = raw.outlier_detection.take().map(outlier::outlier).transpose().at("outlier_detection")?;
    let check = check::check(take(&mut raw.health_checks), &name)?;
    let options = protocol_options(&mut raw)?;
    let per_connection = legacy_requests_per_connection(&mut raw).or(options.requests_per_connection_max);
    limits.requests_per_connection_max = per_connection.unwrap_or(0);
    let connect_timeout =
        optional_duration(raw.connect_timeout.take(), "connect_timeout")?.unwrap_or(CONNECT_TIMEOUT);
    let options_of_connections = raw.upstream_connection_options.take().unwrap_or_default();
    let keepalive = connection_options(options_of_connections).at("upstream_connection_options")?;
    let destination = destination(raw.metadata.take().as_ref());
    let tls = tls::upstream(raw.transport_socket.take())?;
    let mut tls_matches = Vec::new();
    for (i, raw) in take(&mut raw.transport_socket_matches).into_iter().enumerate() {
        tls_matches.push(tls::matched(raw).at_index("transport_socket_matches", i)?);
    }
    if options.protocol == UpstreamProtocol::Agreed && tls.is_none() {
        let field = "typed_extension_protocol_options.auto_config";
        return Err(Refusal::new(field, "needs ALPN: add a TLS transport_socket"));
    }
    // Names of statistics, buffer hints and load reporting: nothing that changes where or how a request goes. An endpoint
    // that is removed is gone at once, whatever its checks say.
    pass_over!(raw: alt_stat_name, stats_matcher, per_connection_buffer_limit_bytes, cleanup_interval, lrs_server,
        lrs_report_endpoint_metrics, track_timeout_budgets, track_cluster_stats, wait_for_warm_on_init,
        close_connections_on_host_health_failure, ignore_health_on_host_removal, preconnect_policy);
    nothing_left(&raw)?;
    Ok(Cluster {
        name,
        discovery,
        balancing: picking.balancing,
        slow_start: picking.slow_start,
        locality_weighted: picking.locality_weighted || common.locality_weighted,
        panic_percent: common.panic_percent,
        outlier,
        tls,
        tls_matches,
        check,
        unchecked_count: common.unchecked_count,
        protocol: options.protocol,
        connect_timeout,
        keepalive,
        source: source.flatten(),
        limits,
        idle_timeout: options.idle_timeout.unwrap_or(IDLE_TIMEOUT),
        connection_age_max: options.connection_age_max,
        destination,
    })
}

fn discovery(raw: &mut RawCluster, name: &Arc<str>) -> Result<Discovery, Refusal> {
    let assignment =
        raw.load_assignment.take().map(endpoint::assignment).transpose().at("load_assignment")?;
    let endpoints = assignment.map(|(_, set)| set);
    let kind = match raw.cluster_discovery_type.take() {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(kind)) => {
            DiscoveryType::try_from(kind).map_err(|_| Refusal::new("type", format!("{kind} is unknown")))?
        }
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            return Err(Refusal::new(
                "cluster_type",
                format!("{:?} is not supported by this proxy", custom.name),
            ));
        }
    };
    let refresh = refresh(raw)?;
    pass_over!(raw: dns_lookup_family);
    match kind {
        DiscoveryType::Eds => {
            let mut config = raw.eds_cluster_config.take().unwrap_or_default();
            ads_only(config.eds_config.take()).at("eds_cluster_config.eds_config")?;
            let service = take(&mut config.service_name);
            Ok(Discovery::Eds(if service.is_empty() { name.clone() } else { service.into() }))
        }
        DiscoveryType::Static => {
            let endpoints = endpoints.unwrap_or_default();
            if names(&endpoints) {
                return Err(Refusal::new(
                    "load_assignment",
                    "a static cluster needs IP addresses, not host names",
                ));
            }
            Ok(Discovery::Static(Arc::new(endpoints)))
        }
        DiscoveryType::StrictDns | DiscoveryType::LogicalDns => Ok(Discovery::Dns {
            endpoints: Arc::new(endpoints.unwrap_or_default()),
            refresh,
            first: kind == DiscoveryType::LogicalDns,
        }),
        DiscoveryType::OriginalDst => Ok(Discovery::OriginalDestination),
    }
}

fn refresh(raw: &mut RawCluster) -> Result<Refresh, Refusal> {
    let every = optional_duration(raw.dns_refresh_rate.take(), "dns_refresh_rate")?.unwrap_or(DNS_REFRESH);
    let failure = raw.dns_failure_refresh_rate.take().map(failure).transpose();
    Ok(Refresh {
        every: every.max(DNS_REFRESH_MIN),
        by_ttl: take(&mut raw.respect_dns_ttl),
        jitter: optional_duration(raw.dns_jitter.take(), "dns_jitter")?,
        failure: failure.at("dns_failure_refresh_rate")?,
    })
}

fn failure(mut raw: RefreshRate) -> Result<(Duration, Duration), Refusal> {
    let base = optional_duration(raw.base_interval.take(), "base_interval")?
        .ok_or_else(|| Refusal::new("base_interval", "missing"))?;
    let longest = optional_duration(raw.max_interval.take(), "max_interval")?;
    if longest.is_some_and(|longest| longest < base) {
        return Err(Refusal::new("max_interval", "below base_interval"));
    }
    nothing_left(&raw)?;
    let base = base.max(DNS_REFRESH_MIN);
    Ok((base, longest.unwrap_or(base.saturating_mul(DNS_FAILURE_FACTOR)).max(base)))
}

fn connection_options(mut raw: UpstreamConnectionOptions) -> Result<Option<Keepalive>, Refusal> {
    let keepalive = raw.tcp_keepalive.take().map(|raw| {
        let seconds = |value: Option<UInt32Value>| value.map(|value| Duration::from_secs(value.value.into()));
        Keepalive {
            probes: raw.keepalive_probes.map(|probes| probes.value),
            idle: seconds(raw.keepalive_time),
            interval: seconds(raw.keepalive_interval),
        }
    });
    // What is counted, and which of several addresses comes first: an endpoint of ours has one.
    pass_over!(raw: set_local_interface_name_on_upstream_connections, happy_eyeballs_config);
    nothing_left(&raw)?;
    Ok(keepalive)
}

/// The address that connections come from; which port is up to the system.
fn source(mut raw: BindConfig) -> Result<Option<IpAddr>, Refusal> {
    let address = raw.source_address.take().map(|mut address| {
        take(&mut address.protocol);
        let port = address.port_specifier.take();
        if !matches!(port, None | Some(PortSpecifier::PortValue(0))) {
            return Err(Refusal::new("port_value", "only 0 is supported by this proxy"));
        }
        let text = take(&mut address.address);
        nothing_left(&address)?;
        text.parse().map_err(|_| Refusal::new("address", format!("{text:?} is no IP address")))
    });
    raw.freebind = raw.freebind.filter(|freebind| freebind.value);
    nothing_left(&raw)?;
    address.transpose().at("source_address")
}

fn names(set: &EndpointSet) -> bool {
    let mut endpoints = set.localities.iter().flat_map(|locality| &locality.endpoints);
    endpoints.any(|endpoint| matches!(endpoint.address, EndpointAddress::Name(..)))
}

/// Further resources come over the one stream that this one came over.
pub(super) fn ads_only(source: Option<ConfigSource>) -> Result<(), Refusal> {
    match source.and_then(|source| source.config_source_specifier) {
        Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_)) => Ok(()),
        _ => Err(Refusal::new("", "only ads or self is supported by this proxy")),
    }
}

struct Common {
    panic_percent: u32,
    locality_weighted: bool,
    unchecked_count: bool,
}

impl Default for Common {
    fn default() -> Self {
        Self { panic_percent: PANIC_PERCENT, locality_weighted: false, unchecked_count: true }
    }
}

fn common_lb(mut raw: CommonLbConfig) -> Result<Common, Refusal> {
    let panic_percent = match raw.healthy_panic_threshold.take() {
        Some(percent) => whole_percent(percent.value).at("healthy_panic_threshold")?,
        None => PANIC_PERCENT,
    };
    let locality_weighted = match raw.locality_config_specifier.take() {
        None => false,
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => true,
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(_)) => {
            return Err(Refusal::new("zone_aware_lb_config", "not supported by this proxy"));
        }
    };
    let unchecked_count = !take(&mut raw.ignore_new_hosts_until_first_hc);
    // Updates are applied as they come, which no window can forbid.
    pass_over!(raw: update_merge_window);
    nothing_left(&raw)?;
    Ok(Common { panic_percent, locality_weighted, unchecked_count })
}

fn whole_percent(value: f64) -> Result<u32, Refusal> {
    if (0.0..=100.0).contains(&value) {
        Ok(value.round() as u32)
    } else {
        Err(Refusal::new("value", format!("{value} is not between 0 and 100")))
    }
}

fn default_limits() -> ClusterLimits {
    ClusterLimits {
        connections_max: LIMIT,
        pending_max: LIMIT,
        requests_max: LIMIT,
        retries_max: RETRIES_MAX,
        retry_budget_percent: 0,
        retry_concurrency_min: 0,
        requests_per_connection_max: 0,
    }
}

fn limits(mut raw: CircuitBreakers) -> Result<ClusterLimits, Refusal> {
    let mut limits = default_limits();
    for (i, threshold) in take(&mut raw.thresholds).into_iter().enumerate() {
        // Every request of ours has the default priority: routes that ask for another one are refused.
        if threshold.priority == RoutingPriority::Default as i32 {
            limits = thresholds(threshold).at_index("thresholds", i)?;
        }
    }
    nothing_left(&raw)?;
    Ok(limits)
}

fn thresholds(mut raw: Thresholds) -> Result<ClusterLimits, Refusal> {
    let mut limits = default_limits();
    let fields = [
        (raw.max_connections.take(), &mut limits.connections_max),
        (raw.max_pending_requests.take(), &mut limits.pending_max),
        (raw.max_requests.take(), &mut limits.requests_max),
        (raw.max_retries.take(), &mut limits.retries_max),
    ];
    for (value, limit) in fields {
        if let Some(value) = value {
            *limit = value.value;
        }
    }
    if let Some(mut budget) = raw.retry_budget.take() {
        let percent = budget.budget_percent.take().map(|percent| whole_percent(percent.value)).transpose();
        limits.retry_budget_percent = percent.at("retry_budget.budget_percent")?.unwrap_or(BUDGET_PERCENT);
        let min = budget.min_retry_concurrency.take();
        limits.retry_concurrency_min = min.map_or(BUDGET_CONCURRENCY_MIN, |min| min.value);
        nothing_left(&budget).at("retry_budget")?;
    }
    pass_over!(raw: priority, track_remaining);
    nothing_left(&raw)?;
    Ok(limits)
}

struct Options {
    protocol: UpstreamProtocol,
    idle_timeout: Option<Duration>,
    connection_age_max: Option<Duration>,
    requests_per_connection_max: Option<u32>,
}

/// What HTTP versions have in common.
#[derive(Default)]
struct ConnectionOptions {
    idle_timeout: Option<Duration>,
    age_max: Option<Duration>,
    requests_max: Option<u32>,
}

fn legacy_requests_per_connection(raw: &mut RawCluster) -> Option<u32> {
    raw.max_requests_per_connection.take().map(|max| max.value)
}

fn protocol_options(raw: &mut RawCluster) -> Result<Options, Refusal> {
    let mut options = Options {
        protocol: UpstreamProtocol::Http1,
        idle_timeout: None,
        connection_age_max: None,
        requests_per_connection_max: None,
    };
    if raw.http2_protocol_options.take().is_some() {
        options.protocol = UpstreamProtocol::Http2;
    }
    for (key, any) in take(&mut raw.typed_extension_protocol_options) {
        let at = format!("typed_extension_protocol_options[{key}]");
        options = unpack::<HttpProtocolOptions>(&any).and_then(http_options).at(&at)?;
    }
    Ok(options)
}

fn http_options(mut raw: HttpProtocolOptions) -> Result<Options, Refusal> {
    let common = raw.common_http_protocol_options.take();
    let common = common.map(common_options).transpose().at("common_http_protocol_options")?;
    let common = common.unwrap_or_default();
    let protocol = match raw.upstream_protocol_options.take() {
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(config)) => match config.protocol_config {
            Some(ProtocolConfig::HttpProtocolOptions(_)) => UpstreamProtocol::Http1,
            Some(ProtocolConfig::Http2ProtocolOptions(_)) => UpstreamProtocol::Http2,
            Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                return Err(Refusal::new(
                    "explicit_http_config.http3_protocol_options",
                    "not supported by this proxy",
                ));
            }
            None => return Err(Refusal::new("explicit_http_config.protocol_config", "missing")),
        },
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)) => {
            if config.http3_protocol_options.is_some() {
                let field = "use_downstream_protocol_config.http3_protocol_options";
                return Err(Refusal::new(field, "not supported by this proxy"));
            }
            UpstreamProtocol::Downstream
        }
        Some(UpstreamProtocolOptions::AutoConfig(config)) => {
            if config.http3_protocol_options.is_some() || config.alternate_protocols_cache_options.is_some() {
                return Err(Refusal::new(
                    "auto_config.http3_protocol_options",
                    "not supported by this proxy",
                ));
            }
            UpstreamProtocol::Agreed
        }
        None => return Err(Refusal::new("upstream_protocol_options", "missing")),
    };
    // The router comes last and is what this proxy always does.
    for (i, filter) in take(&mut raw.http_filters).into_iter().enumerate() {
        if filter.name != "envoy.filters.http.upstream_codec" {
            let problem = format!("{:?} is not supported by this proxy", filter.name);
            return Err(Refusal::new("", problem)).at_index("http_filters", i);
        }
    }
    nothing_left(&raw)?;
    Ok(Options {
        protocol,
        idle_timeout: common.idle_timeout,
        connection_age_max: common.age_max,
        requests_per_connection_max: common.requests_max,
    })
}

fn common_options(mut raw: CommonOptions) -> Result<ConnectionOptions, Refusal> {
    let idle_timeout = optional_duration(raw.idle_timeout.take(), "idle_timeout")?;
    // Zero is no limit, as in Envoy.
    let age_max = optional_duration(raw.max_connection_duration.take(), "max_connection_duration")?
        .filter(|max| !max.is_zero());
    let requests_max = raw.max_requests_per_connection.take().map(|max| max.value);
    pass_over!(raw: max_headers_count, max_response_headers_kb);
    nothing_left(&raw)?;
    Ok(ConnectionOptions { idle_timeout, age_max, requests_max })
}

/// `filter_metadata["istio"].services[0]`: `host`, `name`, `namespace`.
fn destination(metadata: Option<&Metadata>) -> Destination {
    let service = endpoint::istio(metadata).and_then(|istio| {
        let Kind::ListValue(services) = istio.fields.get("services")?.kind.as_ref()? else { return None };
        let Kind::StructValue(service) = services.values.first()?.kind.as_ref()? else { return None };
        Some(service)
    });
    let label =
        |key: &str| endpoint::known(service.and_then(|service| text(service, key)).unwrap_or_default());
    Destination { host: label("host"), name: label("name"), namespace: label("namespace") }
}

fn text<'a>(fields: &'a Struct, key: &str) -> Option<&'a str> {
    match fields.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use weft_proto::xds::envoy::config::core::v3::TcpKeepalive;

    use super::*;

    #[test]
    fn keepalive_probes_are_read_and_what_is_left_out_is_the_systems() {
        assert_eq!(connection_options(UpstreamConnectionOptions::default()), Ok(None));
        let raw = TcpKeepalive { keepalive_time: Some(UInt32Value { value: 30 }), ..Default::default() };
        let raw = UpstreamConnectionOptions { tcp_keepalive: Some(raw), ..Default::default() };
        let expected = Keepalive { idle: Some(Duration::from_secs(30)), ..Keepalive::default() };
        assert_eq!(connection_options(raw), Ok(Some(expected)));
    }
}
