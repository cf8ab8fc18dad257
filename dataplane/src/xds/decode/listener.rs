//! `Listener`: address, direction, listener filters, and the filters that end a chain: HTTP connection manager or TCP
//! proxy.

use std::{mem::take, sync::Arc, time::Duration};

use weft_proto::xds::{
    envoy::{
        config::{
            core::v3::{HttpProtocolOptions, TrafficDirection},
            listener::v3::{Listener as RawListener, ListenerFilter, listener_filter},
        },
        extensions::{
            filters::{
                http::router::v3::Router,
                listener::{
                    http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst,
                    tls_inspector::v3::TlsInspector,
                },
                network::{
                    http_connection_manager::v3::{
                        HttpConnectionManager, HttpFilter as RawFilter,
                        http_connection_manager::{
                            CodecType, ForwardClientCertDetails, RouteSpecifier, UpgradeConfig,
                        },
                        http_filter,
                    },
                    tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
                },
            },
            request_id::uuid::v3::UuidRequestIdConfig,
        },
    },
    google::protobuf::{Any, BoolValue, UInt32Value},
};

use super::{
    At, Refusal, access_log, chain, cluster::ads_only, duration, endpoint, filter, hash, is, nothing_left,
    optional_duration, pass_over, required, route, tracing, unknown_type, unpack,
};
use crate::spec::{
    AccessLogs, CertParts, ClientCert, Direction, EndpointAddress, HeaderMutation, HttpFilter, HttpListener,
    Inspection, ListenAddress, Listener, ListenerProtocol, RouteSource, TcpListener, WeightedCluster,
};

/// Defaults where the control plane leaves a field out: Envoy's, except that a request head may not take for ever.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
const REQUEST_HEADERS_TIMEOUT: Duration = Duration::from_secs(15);
const HEADERS_KIB: u32 = 60;
const HEADERS_KIB_MAX: u32 = 8192;
const HEADERS_COUNT: u32 = 100;
const H2_STREAMS: u32 = 1024;
const LISTENER_FILTERS_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) fn listener(mut raw: RawListener) -> Result<Listener, Refusal> {
    let name: Arc<str> = required(take(&mut raw.name), "name")?.into();
    let address = raw.address.take().ok_or_else(|| Refusal::new("address", "missing"))?;
    let address = match endpoint::address(address).at("address")? {
        EndpointAddress::Tcp(address) => ListenAddress::Tcp(address),
        EndpointAddress::Unix(path) => ListenAddress::Unix(path),
        EndpointAddress::Name(name, _) => {
            return Err(Refusal::new("address.socket_address.address", format!("{name:?} is no IP address")));
        }
    };
    let direction = match TrafficDirection::try_from(take(&mut raw.traffic_direction)) {
        Ok(TrafficDirection::Inbound) => Direction::Inbound,
        // A gateway's listeners have no direction; it reports as the source of what it sends.
        Ok(TrafficDirection::Outbound | TrafficDirection::Unspecified) => Direction::Outbound,
        Err(_) => return Err(Refusal::new("traffic_direction", "an unknown value")),
    };
    let (mut inspection, original_destination) = listener_filters(take(&mut raw.listener_filters))?;
    inspection.timeout =
        match optional_duration(raw.listener_filters_timeout.take(), "listener_filters_timeout")? {
            None => Some(LISTENER_FILTERS_TIMEOUT),
            given => given.filter(|timeout| !timeout.is_zero()),
        };
    inspection.proceed_after_timeout = take(&mut raw.continue_on_listener_filters_timeout);
    let default = raw.default_filter_chain.take();
    let chains = chain::chains(take(&mut raw.filter_chains), default)?;
    let has_socket = raw.bind_to_port.take().is_none_or(|bind| bind.value);
    let hands_over = raw.use_original_dst.take().is_some_and(|hands_over| hands_over.value);
    if !has_socket && matches!(address, ListenAddress::Unix(_)) {
        return Err(Refusal::new("bind_to_port", "a unix socket can have no listener without it"));
    }
    raw.transparent = unless(raw.transparent, false);
    raw.freebind = unless(raw.freebind, false);
    // Statistics, buffer hints and socket sharing, which is our own affair.
    pass_over!(raw: reuse_port);
    pass_over!(raw: stat_prefix, stats_matcher, per_connection_buffer_limit_bytes, metadata, drain_type, enable_reuse_port,
        tcp_backlog_size, tcp_keepalive, max_connections_to_accept_per_socket_event, connection_balance_config, ignore_global_conn_limit,
        bypass_overload_manager);
    nothing_left(&raw)?;
    // Who hands over must know where to.
    let original_destination = original_destination || hands_over;
    Ok(Listener {
        name,
        address,
        direction,
        inspection,
        original_destination,
        hands_over,
        has_socket,
        chains,
    })
}

/// What is to be found out of a connection, and whether its original destination is.
fn listener_filters(raw: Vec<ListenerFilter>) -> Result<(Inspection, bool), Refusal> {
    let (mut inspection, mut original_destination) = (Inspection::default(), false);
    for (i, mut filter) in raw.into_iter().enumerate() {
        let Some(listener_filter::ConfigType::TypedConfig(any)) = filter.config_type.take() else {
            return Err(Refusal::new("typed_config", "missing")).at_index("listener_filters", i);
        };
        let decoded = if is::<TlsInspector>(&any) {
            inspection.tls = true;
            unpack::<TlsInspector>(&any).and_then(tls_inspector)
        } else if is::<HttpInspector>(&any) {
            inspection.http = true;
            Ok(())
        } else if is::<OriginalDst>(&any) {
            original_destination = true;
            Ok(())
        } else {
            Err(unknown_type(&any))
        };
        decoded.at("typed_config").at_index("listener_filters", i)?;
        pass_over!(filter: name);
        nothing_left(&filter).at_index("listener_filters", i)?;
    }
    Ok((inspection, original_destination))
}

fn tls_inspector(mut raw: TlsInspector) -> Result<(), Refusal> {
    // What is broken or too long is always refused, and there is one buffer.
    pass_over!(raw: initial_read_buffer_size, close_connection_on_client_hello_parsing_errors, max_client_hello_size);
    nothing_left(&raw)
}

/// Drops a switch that is in the only position that is implemented.
fn unless(switch: Option<BoolValue>, only: bool) -> Option<BoolValue> {
    switch.filter(|switch| switch.value != only)
}

/// What the filter at the end of a chain says.
pub(super) struct Served {
    /// What serves the connections.
    pub(super) protocol: ListenerProtocol,
    /// After how much idleness they are closed.
    pub(super) idle_timeout: Duration,
    /// What is written of them or of their requests.
    pub(super) access_logs: AccessLogs,
}

type Decoded = Result<Served, Refusal>;

/// What serves the connections of a chain.
pub(super) fn network_filter(any: &Any) -> Decoded {
    if is::<HttpConnectionManager>(any) {
        http(unpack(any)?)
    } else if is::<TcpProxy>(any) {
        tcp(unpack(any)?)
    } else {
        Err(unknown_type(any))
    }
}

fn http(mut raw: HttpConnectionManager) -> Decoded {
    let access_logs = access_log::logs(take(&mut raw.access_log))?;
    if take(&mut raw.codec_type) != CodecType::Auto as i32 {
        return Err(Refusal::new("codec_type", "only AUTO is supported by this proxy"));
    }
    let stat_prefix = take(&mut raw.stat_prefix).into();
    let routes = match raw.route_specifier.take() {
        Some(RouteSpecifier::Rds(rds)) => {
            ads_only(rds.config_source).at("rds.config_source")?;
            RouteSource::Named(required(rds.route_config_name, "rds.route_config_name")?.into())
        }
        Some(RouteSpecifier::RouteConfig(table)) => {
            RouteSource::Inline(Arc::new(route::route_config(table).at("route_config")?))
        }
        Some(RouteSpecifier::ScopedRoutes(_)) => {
            return Err(Refusal::new("scoped_routes", "not supported by this proxy"));
        }
        None => return Err(Refusal::new("route_specifier", "missing")),
    };
    let tracing = raw.tracing.take().map_or(Ok(None), tracing::tracing).at("tracing")?;
    let filters = http_filters(take(&mut raw.http_filters))?;
    let common = raw.common_http_protocol_options.take().unwrap_or_default();
    let common = common_options(common).at("common_http_protocol_options")?;
    let mut h2 = raw.http2_protocol_options.take().unwrap_or_default();
    let h2_concurrent_streams_max = value(h2.max_concurrent_streams.take(), H2_STREAMS).max(1);
    if h2.allow_connect || h2.allow_metadata {
        return Err(Refusal::new(
            "http2_protocol_options",
            "allow_connect and allow_metadata are not supported",
        ));
    }
    let kib = value(raw.max_request_headers_kb.take(), HEADERS_KIB);
    if !(1..=HEADERS_KIB_MAX).contains(&kib) {
        return Err(Refusal::new(
            "max_request_headers_kb",
            format!("{kib} is not between 1 and {HEADERS_KIB_MAX}"),
        ));
    }
    let request_headers_timeout =
        optional_duration(raw.request_headers_timeout.take(), "request_headers_timeout")?
            .filter(|timeout| !timeout.is_zero())
            .unwrap_or(REQUEST_HEADERS_TIMEOUT);
    let stream_idle_timeout = optional_duration(raw.stream_idle_timeout.take(), "stream_idle_timeout")?;
    let upgrades = take(&mut raw.upgrade_configs).into_iter().enumerate();
    let upgrades =
        upgrades.map(|(i, u)| upgrade(u).at_index("upgrade_configs", i)).collect::<Result<Vec<_>, _>>()?;
    let merge_slashes = take(&mut raw.merge_slashes);
    let client_cert = client_cert(&mut raw)?;
    let edge = raw.use_remote_address.take().is_some_and(|edge| edge.value);
    http_leftovers(raw)?;
    let listener = HttpListener {
        stat_prefix,
        routes,
        tracing,
        filters,
        headers_bytes_max: kib as usize * 1024,
        headers_count_max: common.headers_count_max as usize,
        request_headers_timeout,
        stream_idle_timeout: stream_idle_timeout.unwrap_or(STREAM_IDLE_TIMEOUT),
        h2_concurrent_streams_max,
        edge,
        client_cert,
        merge_slashes,
        upgrades: upgrades.into_iter().flatten().collect(),
    };
    Ok(Served { protocol: ListenerProtocol::Http(listener), idle_timeout: common.idle_timeout, access_logs })
}

/// What workloads are told of their clients' certificates.
fn client_cert(raw: &mut HttpConnectionManager) -> Result<ClientCert, Refusal> {
    let mut details = raw.set_current_client_cert_details.take().unwrap_or_default();
    let parts = CertParts {
        subject: details.subject.take().is_some_and(|subject| subject.value),
        uri: take(&mut details.uri),
        dns: take(&mut details.dns),
    };
    nothing_left(&details).at("set_current_client_cert_details")?;
    match ForwardClientCertDetails::try_from(take(&mut raw.forward_client_cert_details)) {
        Ok(ForwardClientCertDetails::Sanitize) => Ok(ClientCert::Sanitize),
        Ok(ForwardClientCertDetails::ForwardOnly) => Ok(ClientCert::Forward),
        Ok(ForwardClientCertDetails::AppendForward) => Ok(ClientCert::Append(parts)),
        Ok(ForwardClientCertDetails::SanitizeSet) => Ok(ClientCert::Set(parts)),
        Ok(ForwardClientCertDetails::AlwaysForwardOnly) => Ok(ClientCert::Always),
        Err(_) => Err(Refusal::new("forward_client_cert_details", "an unknown value")),
    }
}

/// What of an HTTP connection manager is safe to pass over.
fn http_leftovers(mut raw: HttpConnectionManager) -> Result<(), Refusal> {
    if let Some(mut http1) = raw.http_protocol_options.take() {
        pass_over!(http1: allow_absolute_url, enable_trailers, use_balsa_parser, override_stream_error_on_invalid_http_message);
        nothing_left(&http1).at("http_protocol_options")?;
    }
    // Paths are always normalised, and an ambiguous one is rejected, which is the strictest of all the settings.
    raw.normalize_path = unless(raw.normalize_path, true);
    pass_over!(raw: path_with_escaped_slashes_action, stream_error_on_invalid_http_message);
    // The peer's address is the remote address, and requests get an id, with or without these.
    pass_over!(raw: generate_request_id, preserve_external_request_id, internal_address_config);
    // Cosmetics of the `server` header and patience while closing.
    pass_over!(raw: server_name, server_header_transformation, drain_timeout, drain_timeout_jitter, delayed_close_timeout,
        stream_flush_timeout, http1_safe_max_connection_duration, append_local_overload);
    if let Some(extension) = raw.request_id_extension.take() {
        let any = extension.typed_config.unwrap_or_default();
        request_id(&any).at("request_id_extension.typed_config")?;
    }
    let zero =
        |timeout: &weft_proto::xds::google::protobuf::Duration| (timeout.seconds, timeout.nanos) != (0, 0);
    raw.request_timeout = raw.request_timeout.filter(zero);
    nothing_left(&raw)
}

/// Ids of requests say nothing of traces here, and traces are not drawn by them.
fn request_id(any: &Any) -> Result<(), Refusal> {
    if !is::<UuidRequestIdConfig>(any) {
        return Err(unknown_type(any));
    }
    let mut raw: UuidRequestIdConfig = unpack(any)?;
    pass_over!(raw: pack_trace_reason, use_request_id_for_trace_sampling);
    nothing_left(&raw)
}

fn value(given: Option<UInt32Value>, default: u32) -> u32 {
    given.map_or(default, |given| given.value)
}

struct Common {
    idle_timeout: Duration,
    headers_count_max: u32,
}

fn common_options(mut raw: HttpProtocolOptions) -> Result<Common, Refusal> {
    let idle = raw.idle_timeout.take().map(duration).transpose().at("idle_timeout")?;
    let headers_count_max = value(raw.max_headers_count.take(), HEADERS_COUNT).max(1);
    nothing_left(&raw)?;
    Ok(Common { idle_timeout: idle.unwrap_or(IDLE_TIMEOUT), headers_count_max })
}

fn upgrade(raw: UpgradeConfig) -> Result<Option<String>, Refusal> {
    if !raw.filters.is_empty() {
        return Err(Refusal::new("filters", "not supported by this proxy"));
    }
    let enabled = raw.enabled.is_none_or(|enabled| enabled.value);
    route::upgrade_name(&raw.upgrade_type).map(|name| enabled.then_some(name))
}

/// The filters before the router, which must be there and last.
fn http_filters(raw: Vec<RawFilter>) -> Result<Vec<HttpFilter>, Refusal> {
    let last =
        raw.len().checked_sub(1).ok_or_else(|| Refusal::new("http_filters", "the router is missing"))?;
    let mut filters: Vec<HttpFilter> = Vec::new();
    for (i, raw) in raw.into_iter().enumerate() {
        let Some(http_filter::ConfigType::TypedConfig(any)) = &raw.config_type else {
            return Err(Refusal::new("typed_config", "missing")).at_index("http_filters", i);
        };
        if !is::<Router>(any) {
            if i == last {
                return Err(unknown_type(any)).at("typed_config").at_index("http_filters", i);
            }
            // `is_optional` is the control plane's own word that the filter may be missing.
            if raw.is_optional && !filter::known_of_listener(any) {
                continue;
            }
            let config = filter::of_listener(any).at("typed_config").at_index("http_filters", i)?;
            if filters.iter().any(|earlier| *earlier.name == raw.name) {
                let problem = format!("{:?} is the name of two filters", raw.name);
                return Err(Refusal::new("name", problem)).at_index("http_filters", i);
            }
            filters.push(HttpFilter { name: raw.name.into(), disabled: raw.disabled, config });
            continue;
        }
        if i != last {
            return Err(Refusal::new("", "the router must be the last filter")).at_index("http_filters", i);
        }
        let router = unpack::<Router>(any).and_then(router);
        router.at("typed_config").at_index("http_filters", i)?;
    }
    Ok(filters)
}

fn router(mut raw: Router) -> Result<(), Refusal> {
    // Statistics and spans; `x-envoy-*` headers are not added by this proxy.
    pass_over!(raw: dynamic_stats, start_child_span, suppress_envoy_headers, suppress_grpc_request_failure_code_stats,
        respect_expected_rq_timeout, upstream_log_options);
    nothing_left(&raw)
}

fn tcp(mut raw: TcpProxy) -> Decoded {
    let access_logs = access_log::logs(take(&mut raw.access_log))?;
    let stat_prefix = take(&mut raw.stat_prefix).into();
    let clusters = match raw.cluster_specifier.take() {
        Some(ClusterSpecifier::Cluster(name)) => vec![tcp_cluster(name, 1).at("cluster")?],
        Some(ClusterSpecifier::WeightedClusters(list)) => {
            let mut clusters = Vec::with_capacity(list.clusters.len());
            for (i, mut cluster) in list.clusters.into_iter().enumerate() {
                let (name, weight) = (take(&mut cluster.name), take(&mut cluster.weight));
                nothing_left(&cluster).at_index("weighted_clusters.clusters", i)?;
                clusters.push(tcp_cluster(name, weight).at_index("weighted_clusters.clusters", i)?);
            }
            route::weight_total(clusters.iter().map(|cluster| cluster.weight)).at("weighted_clusters")?;
            clusters
        }
        None => return Err(Refusal::new("cluster_specifier", "missing")),
    };
    let idle = optional_duration(raw.idle_timeout.take(), "idle_timeout")?.unwrap_or(IDLE_TIMEOUT);
    raw.max_connect_attempts = raw.max_connect_attempts.filter(|attempts| attempts.value != 1);
    let hash_source_ip = hash::tcp(take(&mut raw.hash_policy))?;
    nothing_left(&raw)?;
    let protocol = ListenerProtocol::Tcp(TcpListener { stat_prefix, clusters, hash_source_ip });
    Ok(Served { protocol, idle_timeout: idle, access_logs })
}

fn tcp_cluster(name: String, weight: u32) -> Result<WeightedCluster, Refusal> {
    Ok(WeightedCluster {
        name: required(name, "name")?.into(),
        weight,
        request_headers: HeaderMutation::default(),
        response_headers: HeaderMutation::default(),
    })
}
