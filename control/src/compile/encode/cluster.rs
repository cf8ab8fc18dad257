//! Clusters and endpoints.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use weft_proto::extension::v1::PeakEwma as RawPeakEwma;
use weft_proto::xds::{
    envoy::{
        config::{
            cluster::v3::{
                CircuitBreakers, Cluster as Encoded, LoadBalancingPolicy, OutlierDetection as EncodedOutlier,
                UpstreamConnectionOptions,
                circuit_breakers::{Thresholds, thresholds::RetryBudget},
                cluster::{
                    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, EdsClusterConfig, LbConfig,
                    LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig, RoundRobinLbConfig,
                    SlowStartConfig, TransportSocketMatch,
                    common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig},
                },
                load_balancing_policy::Policy,
            },
            core::v3::{
                BindConfig, HealthStatus, Http1ProtocolOptions, Http2ProtocolOptions,
                HttpProtocolOptions as Common, Locality, Metadata, RuntimeDouble, SocketAddress,
                TcpKeepalive, TypedExtensionConfig, socket_address::PortSpecifier,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint as Host, LbEndpoint, LocalityLbEndpoints,
                endpoint::HealthCheckConfig, lb_endpoint::HostIdentifier,
            },
        },
        extensions::upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{
                AutoHttpConfig, ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
                explicit_http_config::ProtocolConfig,
            },
        },
        r#type::v3::Percent,
    },
    google::protobuf::{Any, UInt64Value, Value, value::Kind as ValueKind},
};

use super::{address, ads, any, check, duration, list_value, number, object, text_value, tls};
use crate::{
    compile::ir::{ClientTls, Cluster, Discovery, Endpoint, Endpoints, HttpVersion, ServiceName},
    documents::{HashTable, LoadBalancer, OutlierDetection, PeakEwma, Warmup},
    model::Health,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Envoy's 1024 is a trap under load; these only guard against a flood.
const CONNECTIONS_MAX: u32 = 10_000;
const REQUESTS_MAX: u32 = 10_000;
const PENDING_MAX: u32 = 1024;
/// Retries may add this share to what is in flight, and may always be this many.
const RETRY_BUDGET_PERCENT: f64 = 20.0;
const RETRY_CONCURRENCY_MIN: u32 = 3;
/// What proxies name that can balance by latency.
pub(crate) const PEAK_EWMA: &str = "weft.extension.v1.PeakEwma";
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// What endpoints that take mutual TLS are labelled with; Istio's.
const TAKES_TLS: (&str, &str) = ("tlsMode", "istio");
/// Where labels are that decide how connections begin.
const TLS_LABELS: &str = "envoy.transport_socket_match";

/// A cluster.
pub(crate) fn cluster(cluster: &Cluster) -> Encoded {
    let mut encoded = Encoded {
        name: cluster.name.to_string(),
        connect_timeout: duration(cluster.tcp.connect_timeout.unwrap_or(CONNECT_TIMEOUT)),
        lb_policy: match cluster.discovery {
            Discovery::OriginalDestination => LbPolicy::ClusterProvided,
            Discovery::Eds | Discovery::Dns(_) | Discovery::DnsFirst(_) | Discovery::Static(_) => {
                lb_policy(&cluster.balancer)
            }
        }
        .into(),
        upstream_bind_config: cluster.source.map(bind_config),
        lb_config: lb_config(cluster),
        load_balancing_policy: cluster.peak_ewma.map(peak_ewma),
        common_lb_config: common_lb(cluster),
        health_checks: cluster.check.iter().map(|of| check::health_check(of, cluster)).collect(),
        // The registry knows what is gone.
        ignore_health_on_host_removal: cluster.check.is_some(),
        outlier_detection: cluster.outlier.as_ref().map(outlier_detection),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![thresholds(cluster)],
            ..Default::default()
        }),
        transport_socket: cluster.tls.as_ref().filter(|_| !cluster.tls_where_taken).map(tls::upstream),
        transport_socket_matches: match &cluster.tls {
            Some(tls) if cluster.tls_where_taken => vec![where_taken(tls)],
            _ => Vec::new(),
        },
        typed_extension_protocol_options: protocol_options(cluster),
        upstream_connection_options: keepalive(cluster),
        metadata: cluster.service.as_ref().map(service_metadata),
        ..Default::default()
    };
    let kind = match &cluster.discovery {
        Discovery::Eds => {
            encoded.eds_cluster_config =
                Some(EdsClusterConfig { eds_config: ads(), service_name: String::new() });
            DiscoveryType::Eds
        }
        Discovery::Dns(inline) => {
            encoded.load_assignment = Some(endpoints(inline));
            respect_ttl(&mut encoded);
            DiscoveryType::StrictDns
        }
        Discovery::DnsFirst(inline) => {
            encoded.load_assignment = Some(endpoints(inline));
            respect_ttl(&mut encoded);
            DiscoveryType::LogicalDns
        }
        Discovery::Static(inline) => {
            encoded.load_assignment = Some(endpoints(inline));
            DiscoveryType::Static
        }
        Discovery::OriginalDestination => DiscoveryType::OriginalDst,
    };
    encoded.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind.into()));
    encoded
}

/// TLS to the endpoints that say that they take it, in Istio's words.
fn where_taken(of: &ClientTls) -> TransportSocketMatch {
    TransportSocketMatch {
        name: "tlsMode-istio".to_owned(),
        r#match: Some(object([(TAKES_TLS.0, text_value(TAKES_TLS.1))])),
        transport_socket: Some(tls::upstream(of)),
    }
}

/// Names are resolved again as their records say.
#[expect(deprecated, reason = "what takes its place is an extension that only the newest proxies know")]
fn respect_ttl(cluster: &mut Encoded) {
    cluster.respect_dns_ttl = true;
}

fn lb_policy(balancer: &LoadBalancer) -> LbPolicy {
    match balancer {
        LoadBalancer::RoundRobin => LbPolicy::RoundRobin,
        LoadBalancer::LeastRequest => LbPolicy::LeastRequest,
        LoadBalancer::Random => LbPolicy::Random,
        LoadBalancer::ConsistentHash(hash) => match hash.table {
            HashTable::Ring { .. } => LbPolicy::RingHash,
            HashTable::Maglev { .. } => LbPolicy::Maglev,
        },
    }
}

fn lb_config(cluster: &Cluster) -> Option<LbConfig> {
    let slow_start = cluster.warmup.as_ref().map(slow_start);
    match &cluster.balancer {
        LoadBalancer::RoundRobin if slow_start.is_some() => {
            Some(LbConfig::RoundRobinLbConfig(RoundRobinLbConfig { slow_start_config: slow_start }))
        }
        LoadBalancer::LeastRequest if slow_start.is_some() => {
            let config = LeastRequestLbConfig { slow_start_config: slow_start, ..Default::default() };
            Some(LbConfig::LeastRequestLbConfig(config))
        }
        LoadBalancer::RoundRobin | LoadBalancer::LeastRequest | LoadBalancer::Random => None,
        LoadBalancer::ConsistentHash(hash) => Some(match hash.table {
            HashTable::Ring { size_min } => LbConfig::RingHashLbConfig(RingHashLbConfig {
                minimum_ring_size: Some(UInt64Value { value: size_min.into() }),
                ..Default::default()
            }),
            HashTable::Maglev { size } => LbConfig::MaglevLbConfig(MaglevLbConfig {
                table_size: Some(UInt64Value { value: size.into() }),
            }),
        }),
    }
}

/// A balancer of ours, which has the last word over the one named beside it.
fn peak_ewma(of: PeakEwma) -> LoadBalancingPolicy {
    let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    let config = RawPeakEwma { decay_ms: ms(of.half_life), initial_ms: ms(of.initial) };
    let config =
        TypedExtensionConfig { name: PEAK_EWMA.to_owned(), typed_config: Some(any(PEAK_EWMA, &config)) };
    LoadBalancingPolicy { policies: vec![Policy { typed_extension_config: Some(config) }] }
}

fn slow_start(warmup: &Warmup) -> SlowStartConfig {
    SlowStartConfig {
        slow_start_window: duration(warmup.duration),
        aggression: Some(RuntimeDouble {
            default_value: f64::from(warmup.aggression_milli) / 1000.0,
            // Envoy wants a key; nobody sets it.
            runtime_key: "weft.slow_start_aggression".to_owned(),
        }),
        min_weight_percent: Some(Percent { value: warmup.percent_min.into() }),
    }
}

fn common_lb(cluster: &Cluster) -> Option<CommonLbConfig> {
    let percent = |percent: u32| Percent { value: percent.into() };
    let weighted = || LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {});
    let config = CommonLbConfig {
        healthy_panic_threshold: cluster.health_percent_min.map(percent),
        // An endpoint that just came neither serves nor counts until it was checked.
        ignore_new_hosts_until_first_hc: cluster.check.is_some(),
        locality_config_specifier: cluster.locality_weighted.then(weighted),
        ..Default::default()
    };
    (config != CommonLbConfig::default()).then_some(config)
}

fn outlier_detection(outlier: &OutlierDetection) -> EncodedOutlier {
    // Envoy has a count and whether it is enforced; zero is off in Istio's words.
    let all_or_nothing = |count: u32| number(if count == 0 { 0 } else { 100 });
    let counted = |count: u32| number(count.max(1));
    let (rate, share) = (&outlier.statistics.success_rate, &outlier.statistics.failure_percentage);
    let (rate, share) = (rate.as_ref(), share.as_ref());
    EncodedOutlier {
        consecutive_5xx: counted(outlier.consecutive_5xx),
        enforcing_consecutive_5xx: all_or_nothing(outlier.consecutive_5xx),
        consecutive_gateway_failure: counted(outlier.consecutive_gateway),
        enforcing_consecutive_gateway_failure: all_or_nothing(outlier.consecutive_gateway),
        split_external_local_origin_errors: outlier.split_local,
        consecutive_local_origin_failure: counted(outlier.consecutive_local).filter(|_| outlier.split_local),
        enforcing_consecutive_local_origin_failure: all_or_nothing(outlier.consecutive_local)
            .filter(|_| outlier.split_local),
        enforcing_success_rate: all_or_nothing(u32::from(rate.is_some())),
        success_rate_stdev_factor: rate.and_then(|rate| number(rate.deviations_milli)),
        success_rate_minimum_hosts: rate.and_then(|rate| number(rate.hosts_min)),
        success_rate_request_volume: rate.and_then(|rate| number(rate.requests_min)),
        enforcing_failure_percentage: share.and_then(|_| number(100)),
        failure_percentage_threshold: share.and_then(|share| number(share.threshold)),
        failure_percentage_minimum_hosts: share.and_then(|share| number(share.hosts_min)),
        failure_percentage_request_volume: share.and_then(|share| number(share.requests_min)),
        interval: duration(outlier.interval),
        base_ejection_time: duration(outlier.ejection_base),
        max_ejection_percent: number(outlier.ejection_percent_max),
        ..Default::default()
    }
}

fn thresholds(cluster: &Cluster) -> Thresholds {
    let (percent, concurrency) = match &cluster.retry_budget {
        Some(budget) => (f64::from(budget.percent_milli) / 1000.0, budget.concurrency_min),
        None => (RETRY_BUDGET_PERCENT, RETRY_CONCURRENCY_MIN),
    };
    let budget = RetryBudget {
        budget_percent: Some(Percent { value: percent }),
        min_retry_concurrency: number(concurrency),
        ..Default::default()
    };
    let fixed = cluster.pool.retries_max.filter(|_| cluster.retry_budget.is_none());
    Thresholds {
        max_connections: number(cluster.tcp.connections_max.unwrap_or(CONNECTIONS_MAX)),
        max_pending_requests: number(cluster.pool.pending_max.unwrap_or(PENDING_MAX)),
        max_requests: number(cluster.pool.requests_max.unwrap_or(REQUESTS_MAX)),
        max_retries: fixed.and_then(number),
        retry_budget: fixed.is_none().then_some(budget),
        ..Default::default()
    }
}

fn protocol_options(cluster: &Cluster) -> HashMap<String, Any> {
    let Some(version) = cluster.http else { return HashMap::new() };
    let http2 = Http2ProtocolOptions {
        max_concurrent_streams: cluster.pool.streams_max.and_then(number),
        ..Default::default()
    };
    let explicit = |config| {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(config) })
    };
    let protocol = match version {
        HttpVersion::Http1 => explicit(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())),
        HttpVersion::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(http2)),
        HttpVersion::Agreed => UpstreamProtocolOptions::AutoConfig(AutoHttpConfig {
            http2_protocol_options: Some(http2),
            ..Default::default()
        }),
        HttpVersion::Downstream => {
            UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                http_protocol_options: Some(Http1ProtocolOptions::default()),
                http2_protocol_options: Some(http2),
                ..Default::default()
            })
        }
    };
    let common = Common {
        idle_timeout: cluster.pool.idle_timeout.and_then(duration),
        max_connection_duration: cluster.tcp.connection_duration_max.and_then(duration),
        max_requests_per_connection: cluster.pool.requests_per_connection_max.and_then(number),
        ..Default::default()
    };
    let options = HttpProtocolOptions {
        common_http_protocol_options: (common != Common::default()).then_some(common),
        upstream_protocol_options: Some(protocol),
        ..Default::default()
    };
    HashMap::from([(HTTP_OPTIONS.to_owned(), any(HTTP_OPTIONS, &options))])
}

fn bind_config(source: IpAddr) -> BindConfig {
    let source = SocketAddress {
        address: source.to_string(),
        port_specifier: Some(PortSpecifier::PortValue(0)),
        ..Default::default()
    };
    BindConfig { source_address: Some(source), ..Default::default() }
}

fn keepalive(cluster: &Cluster) -> Option<UpstreamConnectionOptions> {
    let keepalive = cluster.tcp.keepalive.as_ref()?;
    let seconds = |time: Duration| number(u32::try_from(time.as_secs().max(1)).unwrap_or(u32::MAX));
    Some(UpstreamConnectionOptions {
        tcp_keepalive: Some(TcpKeepalive {
            keepalive_probes: keepalive.probes.and_then(number),
            keepalive_time: keepalive.time.and_then(seconds),
            keepalive_interval: keepalive.interval.and_then(seconds),
        }),
        ..Default::default()
    })
}

fn service_metadata(service: &ServiceName) -> Metadata {
    let fields = [
        ("host", text_value(&service.host)),
        ("name", text_value(&service.name)),
        ("namespace", text_value(&service.namespace)),
    ];
    let entry = Value { kind: Some(ValueKind::StructValue(object(fields))) };
    istio([("services", list_value(vec![entry]))])
}

fn istio(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Metadata {
    Metadata { filter_metadata: HashMap::from([("istio".to_owned(), object(fields))]), ..Default::default() }
}

/// The endpoints of a cluster.
pub(crate) fn endpoints(endpoints: &Endpoints) -> ClusterLoadAssignment {
    let localities = endpoints.localities.iter().map(|of| LocalityLbEndpoints {
        locality: Some(Locality {
            region: of.locality.region.to_string(),
            zone: of.locality.zone.to_string(),
            sub_zone: of.locality.subzone.to_string(),
        }),
        lb_endpoints: of.endpoints.iter().map(endpoint).collect(),
        // gRPC clients drop a locality without a weight.
        load_balancing_weight: number(of.weight),
        priority: of.priority,
        ..Default::default()
    });
    ClusterLoadAssignment {
        cluster_name: endpoints.cluster.to_string(),
        endpoints: localities.collect(),
        ..Default::default()
    }
}

fn endpoint(endpoint: &Endpoint) -> LbEndpoint {
    LbEndpoint {
        health_status: match endpoint.health {
            Health::Healthy => HealthStatus::Healthy,
            Health::Draining => HealthStatus::Draining,
            Health::Unhealthy => HealthStatus::Unhealthy,
        }
        .into(),
        metadata: endpoint_metadata(endpoint),
        load_balancing_weight: number(endpoint.weight),
        host_identifier: Some(HostIdentifier::Endpoint(Host {
            address: address(&endpoint.address, endpoint.port),
            health_check_config: endpoint
                .check_port
                .map(|port| HealthCheckConfig { port_value: port.into(), ..Default::default() }),
            ..Default::default()
        })),
    }
}

fn endpoint_metadata(endpoint: &Endpoint) -> Option<Metadata> {
    let workload = (!endpoint.workload.is_empty())
        .then(|| ("istio".to_owned(), object([("workload", text_value(&endpoint.workload))])));
    let tls =
        endpoint.takes_tls.then(|| (TLS_LABELS.to_owned(), object([(TAKES_TLS.0, text_value(TAKES_TLS.1))])));
    let filter_metadata: HashMap<_, _> = workload.into_iter().chain(tls).collect();
    (!filter_metadata.is_empty()).then(|| Metadata { filter_metadata, ..Default::default() })
}
