//! What is accepted, and what is refused with which field named.

use prost::{Message, Name};
use weft_proto::xds::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy},
            },
            core::v3::{
                Address, AggregatedConfigSource, BindConfig, ConfigSource, HealthStatus,
                HttpProtocolOptions as CommonOptions, Metadata, SocketAddress, TransportSocket, address,
                config_source::ConfigSourceSpecifier, socket_address::PortSpecifier,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint as RawEndpoint, LbEndpoint, LocalityLbEndpoints,
                cluster_load_assignment::Policy, lb_endpoint::HostIdentifier,
            },
            listener::v3::{Filter, FilterChain, Listener, filter},
            route::v3::{
                Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route::Action,
                route_action::ClusterSpecifier, route_match::PathSpecifier,
            },
        },
        extensions::{
            filters::{
                http::{header_to_metadata::v3::Config as HeaderToMetadata, router::v3::Router},
                network::{
                    http_connection_manager::v3::{
                        HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier,
                        http_filter,
                    },
                    tcp_proxy::v3::{TcpProxy, tcp_proxy},
                },
            },
            upstreams::http::v3::{HttpProtocolOptions, http_protocol_options::UpstreamProtocolOptions},
        },
    },
    google::protobuf::{Any, BoolValue, Duration, Struct, UInt32Value, Value, value::Kind as ValueKind},
};

use super::{Kind, Resource, decode};

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn ads() -> Option<ConfigSource> {
    let specifier = ConfigSourceSpecifier::Ads(AggregatedConfigSource {});
    Some(ConfigSource { config_source_specifier: Some(specifier), ..Default::default() })
}

fn address(host: &str, port: u32) -> Option<Address> {
    let socket = SocketAddress {
        address: host.into(),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..Default::default()
    };
    Some(Address { address: Some(address::Address::SocketAddress(socket)) })
}

fn cluster() -> Cluster {
    Cluster {
        name: "c".into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: ads(), service_name: String::new() }),
        ..Default::default()
    }
}

fn http_filter(config: Any) -> HttpFilter {
    HttpFilter {
        name: "f".into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

fn manager() -> HttpConnectionManager {
    HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: ads(),
            route_config_name: "r".into(),
        })),
        http_filters: vec![http_filter(any(&Router::default()))],
        ..Default::default()
    }
}

fn listener<M: Message + Name>(config: &M) -> Listener {
    let filter = Filter { name: "f".into(), config_type: Some(filter::ConfigType::TypedConfig(any(config))) };
    let chain = FilterChain { filters: vec![filter], ..Default::default() };
    Listener {
        name: "l".into(),
        address: address("127.0.0.1", 80),
        filter_chains: vec![chain],
        ..Default::default()
    }
}

fn table(action: RouteAction) -> RouteConfiguration {
    let path = Some(PathSpecifier::Prefix("/".into()));
    let route = Route {
        r#match: Some(RouteMatch { path_specifier: path, ..Default::default() }),
        action: Some(Action::Route(action)),
        ..Default::default()
    };
    let host = VirtualHost {
        name: "h".into(),
        domains: vec!["*".into()],
        routes: vec![route],
        ..Default::default()
    };
    RouteConfiguration { name: "r".into(), virtual_hosts: vec![host], ..Default::default() }
}

fn to(cluster: &str) -> RouteAction {
    RouteAction { cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.into())), ..Default::default() }
}

#[track_caller]
fn accepted<M: Message + Name>(kind: Kind, message: &M) -> Resource {
    decode(kind, &any(message)).unwrap()
}

#[track_caller]
fn refused<M: Message + Name>(kind: Kind, message: &M, field: &str) {
    assert_eq!(decode(kind, &any(message)).unwrap_err().field, field);
}

#[test]
fn a_plain_resource_of_each_kind_is_accepted() {
    accepted(Kind::Cluster, &cluster());
    accepted(Kind::Listener, &listener(&manager()));
    accepted(Kind::Routes, &table(to("c")));
    let tcp = TcpProxy {
        cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster("c".into())),
        ..Default::default()
    };
    accepted(Kind::Listener, &listener(&tcp));
}

#[test]
fn a_security_field_is_never_ignored() {
    let transport_socket = Some(TransportSocket { name: "tls".into(), ..Default::default() });
    refused(
        Kind::Cluster,
        &Cluster { transport_socket: transport_socket.clone(), ..cluster() },
        "transport_socket.typed_config",
    );
    let mut tls = listener(&manager());
    tls.filter_chains[0].transport_socket = transport_socket;
    refused(Kind::Listener, &tls, "filter_chains[0].transport_socket.typed_config");
    let mut filtered = manager();
    filtered.http_filters.insert(0, http_filter(any(&HeaderToMetadata::default())));
    refused(
        Kind::Listener,
        &listener(&filtered),
        "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config",
    );
    let mut per_route = table(to("c"));
    per_route.virtual_hosts[0].typed_per_filter_config.insert("x".into(), any(&HeaderToMetadata::default()));
    refused(Kind::Routes, &per_route, "virtual_hosts[0].typed_per_filter_config[x]");
}

#[test]
fn an_unsupported_balancer_is_named() {
    refused(
        Kind::Cluster,
        &Cluster { lb_policy: LbPolicy::ClusterProvided as i32, ..cluster() },
        "lb_policy",
    );
}

#[test]
fn an_absent_timeout_is_envoys_and_zero_is_none() {
    let timeout = |action| match accepted(Kind::Routes, &table(action)) {
        Resource::Routes(table) => match &table.virtual_hosts[0].routes[0].action {
            crate::spec::RouteAction::Forward(forward) => forward.timeout,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(timeout(to("c")), Some(std::time::Duration::from_secs(15)));
    assert_eq!(timeout(RouteAction { timeout: Some(Duration::default()), ..to("c") }), None);
}

#[test]
fn a_host_name_is_no_listening_address() {
    let named = Listener { address: address("localhost", 80), ..listener(&manager()) };
    refused(Kind::Listener, &named, "address.socket_address.address");
}

#[test]
fn endpoints_keep_what_their_control_plane_says_of_them() {
    let endpoint = |status: HealthStatus, metadata: Option<Metadata>, weight: Option<u32>| LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(RawEndpoint {
            address: address("10.0.0.1", 80),
            hostname: "one.example".into(),
            ..Default::default()
        })),
        health_status: status as i32,
        metadata,
        load_balancing_weight: weight.map(|value| UInt32Value { value }),
    };
    let assignment = |endpoint, policy| ClusterLoadAssignment {
        cluster_name: "c".into(),
        endpoints: vec![LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..Default::default() }],
        policy,
        ..Default::default()
    };
    let key = Value { kind: Some(ValueKind::StringValue("k".into())) };
    let lb = Struct { fields: [("hash_key".to_owned(), key)].into() };
    let metadata = Metadata { filter_metadata: [("envoy.lb".to_owned(), lb)].into(), ..Default::default() };
    let policy = Policy {
        overprovisioning_factor: Some(UInt32Value { value: 100 }),
        weighted_priority_health: true,
        ..Default::default()
    };
    let raw = assignment(endpoint(HealthStatus::Degraded, Some(metadata), Some(3)), Some(policy.clone()));
    let Resource::Endpoints(_, set) = accepted(Kind::Endpoints, &raw) else { panic!("endpoints") };
    assert_eq!((set.overprovisioning_percent, set.health_by_weight), (100, true));
    let found = set.endpoints().next().unwrap();
    assert_eq!(found.health, crate::spec::EndpointHealth::Degraded);
    assert_eq!((&*found.hostname, found.hash_key.as_deref(), found.weight), ("one.example", Some("k"), 3));
    let plain = || endpoint(HealthStatus::Unknown, None, None);
    let Resource::Endpoints(_, set) = accepted(Kind::Endpoints, &assignment(plain(), None)) else {
        panic!("endpoints")
    };
    assert_eq!((set.overprovisioning_percent, set.health_by_weight), (140, false));
    let weightless = assignment(endpoint(HealthStatus::Unknown, None, Some(0)), None);
    refused(Kind::Endpoints, &weightless, "endpoints[0].lb_endpoints[0].load_balancing_weight");
    let none = Policy { overprovisioning_factor: Some(UInt32Value { value: 0 }), ..Default::default() };
    refused(Kind::Endpoints, &assignment(plain(), Some(none)), "policy.overprovisioning_factor");
    let dropping = Policy { drop_overloads: vec![Default::default()], ..Default::default() };
    refused(Kind::Endpoints, &assignment(plain(), Some(dropping)), "policy.drop_overloads");
}

#[test]
fn a_connections_greatest_age_is_taken_and_zero_is_none() {
    let age = |seconds| {
        let options = HttpProtocolOptions {
            common_http_protocol_options: Some(CommonOptions {
                max_connection_duration: Some(Duration { seconds, nanos: 0 }),
                ..Default::default()
            }),
            upstream_protocol_options: Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(
                Default::default(),
            )),
            ..Default::default()
        };
        let options = [("o".to_owned(), any(&options))].into();
        let raw = Cluster { typed_extension_protocol_options: options, ..cluster() };
        match accepted(Kind::Cluster, &raw) {
            Resource::Cluster(cluster) => cluster.connection_age_max,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(age(9), Some(std::time::Duration::from_secs(9)));
    assert_eq!(age(0), None);
}

#[test]
fn a_cluster_may_lead_where_its_clients_wanted_to_connect() {
    let to = |lb_policy: LbPolicy, port: u32| Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst as i32)),
        lb_policy: lb_policy as i32,
        upstream_bind_config: Some(BindConfig {
            source_address: Some(SocketAddress {
                address: "127.0.0.6".into(),
                port_specifier: Some(PortSpecifier::PortValue(port)),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Cluster { name: "c".into(), ..Default::default() }
    };
    let Resource::Cluster(found) = accepted(Kind::Cluster, &to(LbPolicy::ClusterProvided, 0)) else {
        panic!("a cluster")
    };
    assert!(matches!(found.discovery, crate::spec::Discovery::OriginalDestination));
    assert_eq!(found.source, Some([127, 0, 0, 6].into()));
    refused(Kind::Cluster, &to(LbPolicy::RoundRobin, 0), "lb_policy");
    let port = "upstream_bind_config.source_address.port_value";
    refused(Kind::Cluster, &to(LbPolicy::ClusterProvided, 80), port);
}

#[test]
fn a_listener_may_hand_over_or_have_no_socket() {
    let yes = |value| Some(BoolValue { value });
    for (bind, hands, expected) in
        [(None, None, (true, false)), (yes(false), None, (false, false)), (None, yes(true), (true, true))]
    {
        let raw = Listener { bind_to_port: bind, use_original_dst: hands, ..listener(&manager()) };
        let Resource::Listener(found) = accepted(Kind::Listener, &raw) else { panic!("a listener") };
        assert_eq!((found.has_socket, found.hands_over), expected);
        assert_eq!(found.original_destination, found.hands_over);
    }
}

#[test]
fn garbage_is_refused() {
    let garbage = Any { type_url: Kind::Cluster.type_url().into(), value: vec![0xff; 9] };
    assert!(decode(Kind::Cluster, &garbage).is_err());
}
