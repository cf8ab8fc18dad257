//! The same as gRPC clients and servers take it. Everything that they refuse is taken away here.

use std::net::SocketAddr;

use weft_proto::xds::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster as Encoded, LoadBalancingPolicy,
                cluster::{
                    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbConfig, LbPolicy,
                    RingHashLbConfig,
                },
                load_balancing_policy::Policy,
            },
            core::v3::{TrafficDirection, TypedExtensionConfig},
            listener::v3::{ApiListener, Filter, FilterChain, Listener, filter::ConfigType},
            route::v3::{
                NonForwardingAction, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
                route::Action,
                route_action::{
                    HashPolicy, MaxStreamDuration,
                    hash_policy::{FilterState, PolicySpecifier},
                },
                route_match::PathSpecifier,
            },
        },
        extensions::{
            filters::network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier,
            },
            load_balancing_policies::{
                least_request::v3::LeastRequest, round_robin::v3::RoundRobin, wrr_locality::v3::WrrLocality,
            },
        },
    },
    google::protobuf::{self, UInt64Value},
};

use super::{
    access, address, ads, any, cluster, filter,
    listener::{HCM, HCM_TYPE},
    route,
};
use crate::{
    compile::ir::{self, Discovery},
    documents::{HashTable, LoadBalancer},
};

const WRR_LOCALITY: &str = "envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality";
const LEAST_REQUEST: &str = "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest";
const ROUND_ROBIN: &str = "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin";

/// What gRPC calls the number of a channel (gRFC A42).
const CHANNEL_ID: &str = "io.grpc.channel_id";

/// grpc-js counts pauses before retries in whole milliseconds, and refuses none.
const BACKOFF_NANOS_MIN: i32 = 1_000_000;

/// The listener of a client's target, whose routes are the table of the same name.
pub(crate) fn client_listener(target: &str) -> Listener {
    let rds = Rds { config_source: ads(), route_config_name: target.to_owned() };
    Listener {
        name: target.to_owned(),
        api_listener: Some(ApiListener {
            api_listener: Some(any(HCM_TYPE, &manager(RouteSpecifier::Rds(rds), filter::of_grpc_client()))),
        }),
        ..Default::default()
    }
}

/// The listener of a server.
pub(crate) fn server_listener(name: &str, bind: SocketAddr, access: &ir::Access) -> Listener {
    let route = Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix(String::new())),
            ..Default::default()
        }),
        action: Some(Action::NonForwardingAction(NonForwardingAction {})),
        ..Default::default()
    };
    let host = VirtualHost {
        name: "inbound".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..Default::default()
    };
    let routes =
        RouteConfiguration { name: "inbound".to_owned(), virtual_hosts: vec![host], ..Default::default() };
    let filter = Filter {
        name: HCM.to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(
            HCM_TYPE,
            &manager(RouteSpecifier::RouteConfig(routes), access::of_grpc_server(access)),
        ))),
    };
    Listener {
        name: name.to_owned(),
        address: address(&bind.ip().to_string(), bind.port()),
        filter_chains: vec![FilterChain {
            name: "inbound".to_owned(),
            filters: vec![filter],
            ..Default::default()
        }],
        traffic_direction: TrafficDirection::Inbound.into(),
        ..Default::default()
    }
}

/// Without any limit of ours: grpc-js takes an idle timeout for the deadline of every call.
fn manager(routes: RouteSpecifier, http_filters: Vec<HttpFilter>) -> HttpConnectionManager {
    HttpConnectionManager { route_specifier: Some(routes), http_filters, ..Default::default() }
}

/// A route table.
pub(crate) fn routes(table: &ir::RouteConfig) -> RouteConfiguration {
    let mut encoded = route::route_config(table);
    let routes = encoded.virtual_hosts.iter_mut().flat_map(|host| &mut host.routes);
    for route in routes {
        route.typed_per_filter_config.retain(|name, _| filter::is_of_grpc_client(name));
        if let Some(Action::Route(forward)) = &mut route.action {
            shape(forward);
        }
    }
    encoded
}

/// The time limit of a call is called otherwise (gRFC A31), and so is what stands for the caller.
fn shape(forward: &mut RouteAction) {
    // A limit of zero would be "no limit", and hide the one that a caller sends along.
    if let Some(limit) = forward.timeout.take().filter(|limit| *limit != protobuf::Duration::default()) {
        forward.max_stream_duration =
            Some(MaxStreamDuration { max_stream_duration: Some(limit), ..Default::default() });
    }
    for HashPolicy { policy_specifier, .. } in &mut forward.hash_policy {
        if let Some(PolicySpecifier::ConnectionProperties(_)) = policy_specifier {
            *policy_specifier =
                Some(PolicySpecifier::FilterState(FilterState { key: CHANNEL_ID.to_owned() }));
        }
    }
    drop_old_limit(forward);
    // They choose endpoints for retries by themselves, and copy nothing.
    forward.request_mirror_policies.clear();
    if let Some(policy) = &mut forward.retry_policy {
        policy.retry_host_predicate.clear();
        policy.retry_priority = None;
        policy.host_selection_retry_max_attempts = 0;
    }
    let pause = forward.retry_policy.as_mut().and_then(|policy| policy.retry_back_off.as_mut());
    if let Some(base) = pause.and_then(|pause| pause.base_interval.as_mut())
        && base.seconds == 0
    {
        base.nanos = base.nanos.max(BACKOFF_NANOS_MIN);
    }
}

#[expect(deprecated, reason = "it is a proxy's")]
fn drop_old_limit(forward: &mut RouteAction) {
    forward.max_grpc_timeout = None;
}

/// A cluster that `compile/grpc` shaped.
pub(crate) fn cluster(shaped: &ir::Cluster) -> Encoded {
    let whole = cluster::cluster(shaped);
    let (lb_policy, lb_config) = match &shaped.balancer {
        LoadBalancer::ConsistentHash(hash) => {
            let ring = |size: u32| RingHashLbConfig {
                minimum_ring_size: Some(UInt64Value { value: size.into() }),
                ..Default::default()
            };
            let (HashTable::Ring { size_min: size } | HashTable::Maglev { size }) = hash.table;
            (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(ring(size))))
        }
        LoadBalancer::RoundRobin | LoadBalancer::LeastRequest | LoadBalancer::Random => {
            (LbPolicy::RoundRobin, None)
        }
    };
    let mut encoded = Encoded {
        name: whole.name,
        lb_policy: lb_policy.into(),
        lb_config,
        load_balancing_policy: least_request(&shaped.balancer),
        circuit_breakers: whole.circuit_breakers,
        outlier_detection: whole.outlier_detection,
        metadata: whole.metadata,
        ..Default::default()
    };
    let kind = match &shaped.discovery {
        Discovery::Eds => {
            encoded.eds_cluster_config =
                Some(EdsClusterConfig { eds_config: ads(), service_name: String::new() });
            DiscoveryType::Eds
        }
        Discovery::Dns(_) | Discovery::DnsFirst(_) | Discovery::Static(_) => {
            encoded.load_assignment = whole.load_assignment;
            DiscoveryType::LogicalDns
        }
        // No service has such a cluster, and what captures traffic is no gRPC client; one would refuse it.
        Discovery::OriginalDestination => DiscoveryType::OriginalDst,
    };
    encoded.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind.into()));
    encoded
}

/// The first policy that a client knows is its (gRFC A52); one that knows no list goes by `lb_policy`.
fn least_request(balancer: &LoadBalancer) -> Option<LoadBalancingPolicy> {
    if *balancer != LoadBalancer::LeastRequest {
        return None;
    }
    let endpoints = [
        policy("least_request", any(LEAST_REQUEST, &LeastRequest::default())),
        policy("round_robin", any(ROUND_ROBIN, &RoundRobin::default())),
    ];
    let picking = LoadBalancingPolicy { policies: endpoints.into() };
    let localities = WrrLocality { endpoint_picking_policy: Some(picking) };
    Some(LoadBalancingPolicy { policies: vec![policy("wrr_locality", any(WRR_LOCALITY, &localities))] })
}

fn policy(name: &str, config: protobuf::Any) -> Policy {
    let name = format!("envoy.load_balancing_policies.{name}");
    Policy { typed_extension_config: Some(TypedExtensionConfig { name, typed_config: Some(config) }) }
}
