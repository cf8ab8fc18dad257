//! Listeners, with limits that are safe against any peer.

use std::time::Duration;

use weft_proto::xds::envoy::{
    config::{
        core::v3::{Http2ProtocolOptions, HttpProtocolOptions, TrafficDirection},
        listener::v3::{Filter, FilterChain, Listener as Encoded, filter::ConfigType},
    },
    extensions::filters::{
        http::router::v3::Router,
        network::{
            http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, Rds,
                http_connection_manager::{
                    CodecType, PathWithEscapedSlashesAction, RouteSpecifier, UpgradeConfig,
                },
                http_filter,
            },
            tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
        },
    },
};

use super::{address, ads, any, duration, flag, number, route};
use crate::compile::ir::{Direction, Listener, Serves};

const HCM: &str = "envoy.filters.network.http_connection_manager";
const HCM_TYPE: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const TCP: &str = "envoy.filters.network.tcp_proxy";
const TCP_TYPE: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const ROUTER: &str = "envoy.filters.http.router";
const ROUTER_TYPE: &str = "envoy.extensions.filters.http.router.v3.Router";

const HEADERS_KIB_MAX: u32 = 64;
const HEADERS_COUNT_MAX: u32 = 100;
const REQUEST_HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
const H2_STREAMS_MAX: u32 = 100;
const H2_STREAM_WINDOW_BYTES: u32 = 64 << 10;
const H2_CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// A listener.
pub(crate) fn listener(listener: &Listener) -> Encoded {
    let filter = match &listener.serves {
        Serves::Named(name) => {
            let rds = Rds { config_source: ads(), route_config_name: name.to_string() };
            http(listener, RouteSpecifier::Rds(rds))
        }
        Serves::Inline(table) => http(listener, RouteSpecifier::RouteConfig(route::route_config(table))),
        Serves::Tcp { cluster, idle_timeout } => {
            let proxy = TcpProxy {
                stat_prefix: listener.name.to_string(),
                idle_timeout: idle_timeout.and_then(duration),
                cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_string())),
                ..Default::default()
            };
            typed(TCP, any(TCP_TYPE, &proxy))
        }
    };
    Encoded {
        name: listener.name.to_string(),
        address: address(&listener.bind.ip().to_string(), listener.bind.port()),
        filter_chains: vec![FilterChain { filters: vec![filter], ..Default::default() }],
        traffic_direction: match listener.direction {
            Direction::Inbound => TrafficDirection::Inbound,
            Direction::Outbound | Direction::Gateway => TrafficDirection::Outbound,
        }
        .into(),
        ..Default::default()
    }
}

fn typed(name: &str, config: weft_proto::xds::google::protobuf::Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(ConfigType::TypedConfig(config)) }
}

fn http(listener: &Listener, routes: RouteSpecifier) -> Filter {
    let router = HttpFilter {
        name: ROUTER.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any(ROUTER_TYPE, &Router::default()))),
        ..Default::default()
    };
    let manager = HttpConnectionManager {
        codec_type: CodecType::Auto.into(),
        stat_prefix: listener.name.to_string(),
        route_specifier: Some(routes),
        http_filters: vec![router],
        common_http_protocol_options: Some(HttpProtocolOptions {
            idle_timeout: duration(IDLE_TIMEOUT),
            max_headers_count: number(HEADERS_COUNT_MAX),
            ..Default::default()
        }),
        http2_protocol_options: Some(Http2ProtocolOptions {
            max_concurrent_streams: number(H2_STREAMS_MAX),
            initial_stream_window_size: number(H2_STREAM_WINDOW_BYTES),
            initial_connection_window_size: number(H2_CONNECTION_WINDOW_BYTES),
            ..Default::default()
        }),
        max_request_headers_kb: number(HEADERS_KIB_MAX),
        request_headers_timeout: duration(REQUEST_HEADERS_TIMEOUT),
        stream_idle_timeout: duration(STREAM_IDLE_TIMEOUT),
        // At the edge nobody's word about the client's address is taken.
        use_remote_address: flag(true).filter(|_| listener.direction == Direction::Gateway),
        generate_request_id: flag(true),
        normalize_path: flag(true),
        merge_slashes: true,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::RejectRequest.into(),
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..Default::default() }],
        ..Default::default()
    };
    typed(HCM, any(HCM_TYPE, &manager))
}
