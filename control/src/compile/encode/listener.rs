//! Listeners, with limits that are safe against any peer.

use std::{net::Ipv6Addr, sync::Arc, time::Duration};

use ipnet::IpNet;
use weft_proto::node::Address;
use weft_proto::xds::envoy::{
    config::{
        core::v3::{
            Address as EncodedAddress, CidrRange, Http2ProtocolOptions, HttpProtocolOptions,
            TrafficDirection, address::Address as AddressKind,
        },
        listener::v3::{
            Filter, FilterChain, FilterChainMatch, Listener as Encoded, ListenerFilter, filter::ConfigType,
            listener_filter,
        },
    },
    extensions::filters::{
        listener::{
            http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst, tls_inspector::v3::TlsInspector,
        },
        network::{
            http_connection_manager::v3::{
                HttpConnectionManager, Rds,
                http_connection_manager::{
                    CodecType, ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier,
                    SetCurrentClientCertDetails, UpgradeConfig,
                },
            },
            tcp_proxy::v3::{
                TcpProxy,
                tcp_proxy::{ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight},
            },
        },
    },
};

use super::{access, access_log, address, ads, any, duration, filter, flag, number, tls, tracing};
use crate::compile::ir::{
    Application, Chain, ChainMatch, Direction, Http, Listener, Serves, Tcp, Transport, Way,
};

pub(super) const HCM: &str = "envoy.filters.network.http_connection_manager";
pub(super) const HCM_TYPE: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const TCP: &str = "envoy.filters.network.tcp_proxy";
const TCP_TYPE: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

const ORIGINAL_DST: &str = "envoy.filters.listener.original_dst";
const ORIGINAL_DST_TYPE: &str = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst";
const TLS_INSPECTOR: &str = "envoy.filters.listener.tls_inspector";
const TLS_INSPECTOR_TYPE: &str = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
const HTTP_INSPECTOR: &str = "envoy.filters.listener.http_inspector";
const HTTP_INSPECTOR_TYPE: &str = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector";

const HEADERS_KIB_MAX: u32 = 64;
const HEADERS_COUNT_MAX: u32 = 100;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
const H2_STREAMS_MAX: u32 = 100;
const H2_STREAM_WINDOW_BYTES: u32 = 64 << 10;
const H2_CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// A listener.
pub(crate) fn listener(listener: &Listener) -> Encoded {
    let patience = listener.inspection.patience;
    Encoded {
        name: listener.name.to_string(),
        address: bound(&listener.bind),
        bind_to_port: flag(false).filter(|_| listener.way == Way::Handed),
        use_original_dst: flag(true).filter(|_| listener.way == Way::HandOver),
        listener_filters: listener_filters(listener),
        listener_filters_timeout: patience.and_then(duration),
        continue_on_listener_filters_timeout: patience.is_some(),
        filter_chains: listener.chains.iter().map(|of| chain(listener, of)).collect(),
        default_filter_chain: listener.default.as_ref().map(|of| chain(listener, of)),
        traffic_direction: match listener.direction {
            Direction::Inbound => TrafficDirection::Inbound,
            Direction::Outbound | Direction::Gateway => TrafficDirection::Outbound,
        }
        .into(),
        ..Default::default()
    }
}

/// Where a listener is. What listens on every IPv6 address listens on every IPv4 address too.
fn bound(bind: &Address) -> Option<EncodedAddress> {
    let (found, both) = match bind {
        Address::Tcp(bind) => {
            (address(&bind.ip().to_string(), bind.port()), bind.ip() == Ipv6Addr::UNSPECIFIED)
        }
        Address::Unix(path) => (address(path, 0), false),
    };
    let mut found = found?;
    if let Some(AddressKind::SocketAddress(socket)) = &mut found.address {
        socket.ipv4_compat = both;
    }
    Some(found)
}

/// What finds out what the conditions of the chains ask for.
fn listener_filters(listener: &Listener) -> Vec<ListenerFilter> {
    let needs = |of: fn(&ChainMatch) -> bool| listener.all_chains().any(|chain| of(&chain.matches));
    let http = needs(|matches| matches.applications.iter().any(|one| !is_of_tls(one)));
    let tls = needs(|matches| !matches.server_names.is_empty() || matches.transport.is_some());
    let tls = tls || needs(|matches| matches.applications.iter().any(is_of_tls));
    let filter = |name: &str, config| ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    };
    let original = listener.inspection.original_destination;
    [
        original.then(|| filter(ORIGINAL_DST, any(ORIGINAL_DST_TYPE, &OriginalDst {}))),
        tls.then(|| filter(TLS_INSPECTOR, any(TLS_INSPECTOR_TYPE, &TlsInspector::default()))),
        http.then(|| filter(HTTP_INSPECTOR, any(HTTP_INSPECTOR_TYPE, &HttpInspector {}))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Whether a client says it in its TLS.
fn is_of_tls(application: &Application) -> bool {
    match application {
        Application::Mesh => true,
        Application::Http10 | Application::Http11 | Application::H2c => false,
    }
}

fn chain(listener: &Listener, chain: &Chain) -> FilterChain {
    let filters = match &chain.serves {
        Serves::Http(of) => vec![http(listener, of)],
        Serves::Tcp(tcp) => {
            let mut filters = access::of_connections(&tcp.access);
            filters.push(typed(TCP, any(TCP_TYPE, &tcp_proxy(listener, tcp))));
            filters
        }
    };
    let matches = &chain.matches;
    FilterChain {
        name: chain.name.to_string(),
        filter_chain_match: (*matches != ChainMatch::default()).then(|| chain_match(matches)),
        filters,
        transport_socket: chain.tls.as_ref().map(tls::downstream),
        // Nobody holds a connection without finishing its handshake.
        transport_socket_connect_timeout: chain.tls.as_ref().and_then(|_| duration(HANDSHAKE_TIMEOUT)),
        ..Default::default()
    }
}

fn chain_match(matches: &ChainMatch) -> FilterChainMatch {
    let prefix = |net: &IpNet| CidrRange {
        address_prefix: net.addr().to_string(),
        prefix_len: number(net.prefix_len().into()),
    };
    let application = |application: &Application| match application {
        Application::Http10 => "http/1.0",
        Application::Http11 => "http/1.1",
        Application::H2c => "h2c",
        Application::Mesh => tls::MESH,
    };
    FilterChainMatch {
        destination_port: matches.destination_port.and_then(|port| number(port.into())),
        prefix_ranges: matches.destinations.iter().map(prefix).collect(),
        server_names: matches.server_names.iter().map(|name| name.to_string()).collect(),
        transport_protocol: match matches.transport {
            None => String::new(),
            Some(Transport::Raw) => "raw_buffer".to_owned(),
            Some(Transport::Tls) => "tls".to_owned(),
        },
        application_protocols: matches.applications.iter().map(application).map(str::to_owned).collect(),
        ..Default::default()
    }
}

fn tcp_proxy(listener: &Listener, tcp: &Tcp) -> TcpProxy {
    let weighted = |(name, weight): &(Arc<str>, u32)| ClusterWeight {
        name: name.to_string(),
        weight: *weight,
        ..Default::default()
    };
    let clusters = match tcp.clusters.as_slice() {
        [(only, _)] => ClusterSpecifier::Cluster(only.to_string()),
        several => ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: several.iter().map(weighted).collect(),
        }),
    };
    TcpProxy {
        stat_prefix: listener.name.to_string(),
        idle_timeout: tcp.idle_timeout.and_then(duration),
        access_log: access_log::logs(&listener.access_logs),
        cluster_specifier: Some(clusters),
        ..Default::default()
    }
}

fn typed(name: &str, config: weft_proto::xds::google::protobuf::Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(ConfigType::TypedConfig(config)) }
}

fn http(listener: &Listener, of: &Http) -> Filter {
    let rds = Rds { config_source: ads(), route_config_name: of.table.to_string() };
    // Workloads are told who their clients proved to be, and nothing that a client says itself unless it proved something;
    // strangers are not believed at all.
    let client_cert = match listener.direction {
        Direction::Inbound => ForwardClientCertDetails::AppendForward,
        Direction::Gateway => ForwardClientCertDetails::SanitizeSet,
        Direction::Outbound => ForwardClientCertDetails::Sanitize,
    };
    let cert_parts = (client_cert != ForwardClientCertDetails::Sanitize).then(|| {
        SetCurrentClientCertDetails { subject: flag(true), uri: true, dns: true, ..Default::default() }
    });
    let manager = HttpConnectionManager {
        codec_type: CodecType::Auto.into(),
        stat_prefix: listener.name.to_string(),
        route_specifier: Some(RouteSpecifier::Rds(rds)),
        http_filters: filter::of_listener(listener.direction, &of.tokens),
        access_log: access_log::logs(&listener.access_logs),
        tracing: listener.tracing.as_ref().map(tracing::tracing),
        request_id_extension: listener.tracing.as_ref().map(|_| tracing::request_id()),
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
        forward_client_cert_details: client_cert.into(),
        set_current_client_cert_details: cert_parts,
        generate_request_id: flag(true),
        normalize_path: flag(true),
        merge_slashes: true,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::RejectRequest.into(),
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..Default::default() }],
        ..Default::default()
    };
    typed(HCM, any(HCM_TYPE, &manager))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(matches: ChainMatch, original_destination: bool) -> Vec<String> {
        let serves = Serves::Tcp(Tcp::to("c".into(), None));
        let mut of = Listener::plain(
            "l".into(),
            std::net::SocketAddr::from(([127, 0, 0, 1], 80)),
            Direction::Outbound,
            serves,
        );
        of.chains[0].matches = matches;
        of.inspection.original_destination = original_destination;
        let names = listener(&of).listener_filters.into_iter().map(|filter| filter.name);
        names.map(|name| name.replace("envoy.filters.listener.", "")).collect()
    }

    #[test]
    fn connections_are_inspected_for_what_the_conditions_need() {
        let any = ChainMatch::default;
        for (matches, original, expected) in [
            (any(), false, &[][..]),
            (any(), true, &["original_dst"]),
            (ChainMatch { destination_port: Some(80), ..any() }, false, &[]),
            (ChainMatch { destinations: vec!["10.0.0.0/8".parse().unwrap()], ..any() }, false, &[]),
            (ChainMatch { server_names: vec!["a.b".into()], ..any() }, false, &["tls_inspector"]),
            (ChainMatch { transport: Some(Transport::Tls), ..any() }, false, &["tls_inspector"]),
            (ChainMatch { transport: Some(Transport::Raw), ..any() }, false, &["tls_inspector"]),
            (ChainMatch { applications: vec![Application::Mesh], ..any() }, false, &["tls_inspector"]),
            (
                ChainMatch { applications: vec![Application::Http11, Application::Mesh], ..any() },
                true,
                &["original_dst", "tls_inspector", "http_inspector"],
            ),
            (
                ChainMatch { applications: vec![Application::Http10, Application::H2c], ..any() },
                false,
                &["http_inspector"],
            ),
        ] {
            assert_eq!(filters(matches.clone(), original), expected, "{matches:?}");
        }
    }
}
