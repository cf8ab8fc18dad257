//! Clusters and endpoints.

use std::{collections::HashMap, time::Duration};

use weft_proto::xds::{
    envoy::{
        config::{
            cluster::v3::{
                CircuitBreakers, Cluster as Encoded, UpstreamConnectionOptions,
                circuit_breakers::{Thresholds, thresholds::RetryBudget},
                cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy},
            },
            core::v3::{
                HealthStatus, Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as Common,
                Locality, Metadata, TcpKeepalive,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint as Host, LbEndpoint, LocalityLbEndpoints,
                lb_endpoint::HostIdentifier,
            },
        },
        extensions::upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{
                ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
            },
        },
        r#type::v3::Percent,
    },
    google::protobuf::{Any, Value, value::Kind as ValueKind},
};

use super::{address, ads, any, duration, list_value, number, object, text_value};
use crate::{
    compile::ir::{Cluster, Discovery, Endpoint, Endpoints, HttpVersion, ServiceName},
    documents::LoadBalancer,
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
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// A cluster.
pub(crate) fn cluster(cluster: &Cluster) -> Encoded {
    let mut encoded = Encoded {
        name: cluster.name.to_string(),
        connect_timeout: duration(cluster.tcp.connect_timeout.unwrap_or(CONNECT_TIMEOUT)),
        lb_policy: match cluster.balancer {
            LoadBalancer::RoundRobin => LbPolicy::RoundRobin,
            LoadBalancer::LeastRequest => LbPolicy::LeastRequest,
            LoadBalancer::Random => LbPolicy::Random,
        }
        .into(),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![thresholds(cluster)],
            ..Default::default()
        }),
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
            DiscoveryType::StrictDns
        }
        Discovery::Static(inline) => {
            encoded.load_assignment = Some(endpoints(inline));
            DiscoveryType::Static
        }
    };
    encoded.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind.into()));
    encoded
}

fn thresholds(cluster: &Cluster) -> Thresholds {
    let budget = RetryBudget {
        budget_percent: Some(Percent { value: RETRY_BUDGET_PERCENT }),
        min_retry_concurrency: number(RETRY_CONCURRENCY_MIN),
        ..Default::default()
    };
    Thresholds {
        max_connections: number(cluster.tcp.connections_max.unwrap_or(CONNECTIONS_MAX)),
        max_pending_requests: number(cluster.pool.pending_max.unwrap_or(PENDING_MAX)),
        max_requests: number(cluster.pool.requests_max.unwrap_or(REQUESTS_MAX)),
        max_retries: cluster.pool.retries_max.and_then(number),
        retry_budget: cluster.pool.retries_max.is_none().then_some(budget),
        ..Default::default()
    }
}

fn protocol_options(cluster: &Cluster) -> HashMap<String, Any> {
    let Some(version) = cluster.http else { return HashMap::new() };
    let config = match version {
        HttpVersion::Http1 => ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default()),
        HttpVersion::Http2 => ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions {
            max_concurrent_streams: cluster.pool.streams_max.and_then(number),
            ..Default::default()
        }),
    };
    let common = Common {
        idle_timeout: cluster.pool.idle_timeout.and_then(duration),
        max_connection_duration: cluster.tcp.connection_duration_max.and_then(duration),
        max_requests_per_connection: cluster.pool.requests_per_connection_max.and_then(number),
        ..Default::default()
    };
    let options = HttpProtocolOptions {
        common_http_protocol_options: (common != Common::default()).then_some(common),
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(config),
        })),
        ..Default::default()
    };
    HashMap::from([(HTTP_OPTIONS.to_owned(), any(HTTP_OPTIONS, &options))])
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
    let localities = endpoints.localities.iter().map(|(locality, hosts)| LocalityLbEndpoints {
        locality: Some(Locality {
            region: locality.region.to_string(),
            zone: locality.zone.to_string(),
            sub_zone: locality.subzone.to_string(),
        }),
        lb_endpoints: hosts.iter().map(endpoint).collect(),
        // gRPC clients drop a locality without a weight. Its share is that of its endpoints.
        load_balancing_weight: number(
            hosts.iter().fold(0u32, |sum, host| sum.saturating_add(host.weight)).max(1),
        ),
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
        metadata: (!endpoint.workload.is_empty())
            .then(|| istio([("workload", text_value(&endpoint.workload))])),
        load_balancing_weight: number(endpoint.weight),
        host_identifier: Some(HostIdentifier::Endpoint(Host {
            address: address(&endpoint.address, endpoint.port),
            ..Default::default()
        })),
    }
}
