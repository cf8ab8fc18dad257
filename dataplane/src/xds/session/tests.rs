//! The conversation, without a network.

mod mutated;

use prost::{Message, Name};
use weft_proto::xds::envoy::{
    config::{
        cluster::v3::{
            Cluster,
            cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy},
        },
        core::v3::{
            Address, AggregatedConfigSource, ConfigSource, SocketAddress, TransportSocket, address,
            config_source::ConfigSourceSpecifier, socket_address::PortSpecifier, transport_socket,
        },
        endpoint::v3::ClusterLoadAssignment,
        listener::v3::{Filter, FilterChain, Listener, filter},
        route::v3::{RouteConfiguration, Vhds, VirtualHost},
    },
    extensions::{
        filters::{
            http::router::v3::Router,
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier, http_filter,
            },
        },
        transport_sockets::tls::v3::{
            CertificateValidationContext, CommonTlsContext, SdsSecretConfig, Secret, UpstreamTlsContext,
            common_tls_context::ValidationContextType, secret,
        },
    },
};

use weft_proto::extension::v1::HostNames;

use super::*;

fn eds(name: &str, service: &str) -> Cluster {
    let specifier = ConfigSourceSpecifier::Ads(AggregatedConfigSource {});
    let eds_config = Some(ConfigSource { config_source_specifier: Some(specifier), ..Default::default() });
    Cluster {
        name: name.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig { eds_config, service_name: service.into() }),
        ..Default::default()
    }
}

fn wire<M: Message + Name>(name: &str, message: &M) -> Wire {
    let any = Any { type_url: M::type_url(), value: message.encode_to_vec() };
    Wire { name: name.into(), version: "1".into(), resource: Some(any), ..Default::default() }
}

fn response(kind: Kind, resources: Vec<Wire>) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: kind.type_url().into(),
        nonce: "n".into(),
        resources,
        ..Default::default()
    }
}

fn assignment(name: &str) -> Wire {
    wire(name, &ClusterLoadAssignment { cluster_name: name.into(), ..Default::default() })
}

/// A listener with a table that comes by name.
fn listener(name: &str, table: &str) -> Wire {
    let specifier = ConfigSourceSpecifier::Ads(AggregatedConfigSource {});
    let config_source = Some(ConfigSource { config_source_specifier: Some(specifier), ..Default::default() });
    let router = Any { type_url: Router::type_url(), value: Vec::new() };
    let manager = HttpConnectionManager {
        stat_prefix: name.into(),
        http_filters: vec![HttpFilter {
            name: "router".into(),
            config_type: Some(http_filter::ConfigType::TypedConfig(router)),
            ..Default::default()
        }],
        route_specifier: Some(RouteSpecifier::Rds(Rds { config_source, route_config_name: table.into() })),
        ..Default::default()
    };
    let manager = Any { type_url: HttpConnectionManager::type_url(), value: manager.encode_to_vec() };
    let filter = Filter { name: "http".into(), config_type: Some(filter::ConfigType::TypedConfig(manager)) };
    let address = SocketAddress {
        address: "127.0.0.1".into(),
        port_specifier: Some(PortSpecifier::PortValue(0)),
        ..Default::default()
    };
    let chain = FilterChain { filters: vec![filter], ..Default::default() };
    wire(
        name,
        &Listener {
            name: name.into(),
            address: Some(Address { address: Some(address::Address::SocketAddress(address)) }),
            filter_chains: vec![chain],
            ..Default::default()
        },
    )
}

#[test]
fn the_endpoints_of_a_cluster_are_asked_for_before_it_is_acked() {
    let mut session = Session::default();
    assert_eq!(session.open().len(), 2);
    let outcome = session.receive(response(Kind::Cluster, vec![wire("a", &eds("a", "svc"))]));
    assert_eq!(outcome.requests[0].type_url, Kind::Endpoints.type_url());
    assert_eq!(outcome.requests[0].resource_names_subscribe, ["svc"]);
    assert_eq!(outcome.requests[1].response_nonce, "n");
    assert_eq!(outcome.requests[1].error_detail, None);
}

fn secured(name: &str, secret: &str) -> Cluster {
    let config = ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    };
    let named = SdsSecretConfig { name: secret.into(), sds_config: Some(config) };
    let common = CommonTlsContext {
        validation_context_type: Some(ValidationContextType::ValidationContextSdsSecretConfig(named)),
        ..Default::default()
    };
    let context = UpstreamTlsContext { common_tls_context: Some(common), ..Default::default() };
    let any = Any { type_url: UpstreamTlsContext::type_url(), value: context.encode_to_vec() };
    let typed = transport_socket::ConfigType::TypedConfig(any);
    let socket = TransportSocket { name: "tls".into(), config_type: Some(typed) };
    Cluster { name: name.into(), transport_socket: Some(socket), ..Default::default() }
}

#[test]
fn what_names_a_secret_waits_for_it_unless_it_will_not_come() {
    let plain = Cluster { name: "a".into(), ..Default::default() };
    let open = || {
        let mut session = Session::default();
        session.receive(response(Kind::Cluster, vec![wire("a", &plain)]));
        let outcome = session.receive(response(Kind::Cluster, vec![wire("a", &secured("a", "s"))]));
        assert_eq!(outcome.requests[0].type_url, Kind::Secret.type_url());
        assert_eq!(outcome.requests[0].resource_names_subscribe, ["s"]);
        assert!(
            session.spec().clusters["a"].tls.is_none(),
            "the predecessor stays while the secret is awaited"
        );
        session
    };
    let validation = secret::Type::ValidationContext(CertificateValidationContext::default());
    let secret = |r#type| Secret { name: "s".into(), r#type: Some(r#type) };
    let mut session = open();
    session.receive(response(Kind::Secret, vec![wire("s", &secret(validation))]));
    assert!(session.spec().clusters["a"].tls.is_some());
    assert_eq!(session.spec().secrets.len(), 1);
    session.receive(response(Kind::Cluster, vec![wire("a", &plain)]));
    assert_eq!(session.spec().secrets.len(), 0, "a secret that nothing names is not kept");

    let mut session = open();
    let gone =
        DeltaDiscoveryResponse { removed_resources: vec!["s".into()], ..response(Kind::Secret, vec![]) };
    assert!(session.receive(gone).changed);
    assert!(session.spec().clusters["a"].tls.is_some());

    let mut session = open();
    let bad = secret(secret::Type::GenericSecret(Default::default()));
    let outcome = session.receive(response(Kind::Secret, vec![wire("s", &bad)]));
    assert_eq!((outcome.refused.len(), outcome.changed), (1, true));
    assert!(session.spec().clusters["a"].tls.is_some());
}

#[test]
fn a_configuration_is_complete_once_listeners_were_told_be_there_none() {
    let mut session = Session::default();
    assert!(!session.receive(response(Kind::Cluster, vec![])).changed);
    assert!(!session.spec().complete);
    assert!(session.receive(response(Kind::Listener, vec![])).changed);
    assert!(session.spec().complete);
    assert!(!session.receive(response(Kind::Listener, vec![])).changed);
}

#[test]
fn a_configuration_is_not_complete_while_a_listener_waits_for_its_routes() {
    let table = RouteConfiguration { name: "r".into(), ..Default::default() };
    let mut session = Session::default();
    session.receive(response(Kind::Listener, vec![listener("l", "r")]));
    assert!(!session.spec().complete);
    session.receive(response(Kind::Routes, vec![wire("r", &table)]));
    assert!(session.spec().complete);
    session.receive(response(Kind::Listener, vec![listener("m", "s")]));
    assert!(session.spec().complete, "a listener more does not unsay it");
}

#[test]
fn a_bad_resource_keeps_its_predecessor_and_spares_its_neighbours() {
    let mut session = Session::default();
    session.receive(response(Kind::Cluster, vec![wire("a", &eds("a", ""))]));
    let before = session.spec().clusters["a"].clone();
    let bad = Cluster { lb_policy: LbPolicy::ClusterProvided as i32, ..eds("a", "") };
    let outcome = session.receive(response(Kind::Cluster, vec![wire("a", &bad), wire("b", &eds("b", ""))]));
    let message = &outcome.requests.last().unwrap().error_detail.as_ref().unwrap().message;
    assert!(message.contains("\"a\"") && message.contains("lb_policy"), "{message}");
    let spec = session.spec();
    assert!(Arc::ptr_eq(&before, &spec.clusters["a"]));
    assert!(spec.clusters.contains_key("b"));
}

#[test]
fn a_cluster_waits_for_its_new_endpoints_before_it_replaces_the_old_one() {
    let mut session = Session::default();
    session.receive(response(Kind::Cluster, vec![wire("a", &eds("a", "one"))]));
    session.receive(response(Kind::Endpoints, vec![assignment("one")]));
    session.receive(response(Kind::Cluster, vec![wire("a", &eds("a", "two"))]));
    assert_eq!(endpoints_of(&session.spec().clusters["a"]), Some("one"));
    let outcome = session.receive(response(Kind::Endpoints, vec![assignment("two")]));
    assert_eq!(endpoints_of(&session.spec().clusters["a"]), Some("two"));
    assert_eq!(outcome.requests[0].resource_names_unsubscribe, ["one"]);
}

#[test]
fn a_new_stream_tells_what_is_held() {
    let mut session = Session::default();
    session.receive(response(Kind::Cluster, vec![wire("a", &eds("a", ""))]));
    session.receive(response(Kind::Endpoints, vec![assignment("a")]));
    let mut other = Session::default();
    other.restore(session.saved(), Instant::now());
    let requests = other.open();
    assert_eq!(requests[0].initial_resource_versions["a"], "1");
    assert_eq!(requests[1].resource_names_subscribe, ["a"]);
    assert_eq!(other.spec().endpoints.len(), 1);
}

#[test]
fn a_removed_resource_is_gone() {
    let mut session = Session::default();
    session.receive(response(Kind::Cluster, vec![wire("a", &eds("a", ""))]));
    let removed_resources = vec!["a".to_owned()];
    let outcome =
        session.receive(DeltaDiscoveryResponse { removed_resources, ..response(Kind::Cluster, vec![]) });
    assert!(outcome.changed && session.spec().clusters.is_empty());
}

fn table(name: &str) -> Wire {
    let specifier = ConfigSourceSpecifier::Ads(AggregatedConfigSource {});
    let config_source = Some(ConfigSource { config_source_specifier: Some(specifier), ..Default::default() });
    let vhds = Some(Vhds { config_source });
    wire(name, &RouteConfiguration { name: name.into(), vhds, ..Default::default() })
}

fn host(name: &str) -> Wire {
    let domains = vec![name.rsplit('/').next().unwrap().to_owned()];
    wire(name, &VirtualHost { name: name.into(), domains, ..Default::default() })
}

/// The hosts that a table knows.
fn domains(session: &Session, table: &str) -> Vec<String> {
    session.spec().routes[table].virtual_hosts.iter().flat_map(|host| host.domains.clone()).collect()
}

#[test]
fn a_host_that_requests_need_is_asked_for_and_put_into_its_table() {
    let mut session = Session::default();
    session.receive(response(Kind::Routes, vec![table("t"), table("u")]));
    let now = Instant::now();
    let (requests, refused) = session.demand(vec!["t/a".into(), "t/b".into(), "t/a".into()], now);
    assert_eq!((requests.len(), refused), (1, 0));
    assert_eq!(requests[0].resource_names_subscribe, ["t/a", "t/b"]);
    assert_eq!(session.demand(vec!["t/a".into()], now).0, []);
    let outcome = session.receive(response(Kind::VirtualHost, vec![host("t/a")]));
    assert!(outcome.changed && outcome.requests.len() == 1);
    assert_eq!((domains(&session, "t"), domains(&session, "u")), (vec!["a".to_owned()], vec![]));

    // A host that does not exist is known as such, and heals by itself.
    let removed_resources = vec!["t/b".to_owned()];
    let none = DeltaDiscoveryResponse { removed_resources, ..response(Kind::VirtualHost, vec![]) };
    assert!(session.receive(none).changed);
    assert!(session.spec().absent.contains("t/b"));
    let table_before = session.spec().routes["u"].clone();
    session.receive(response(Kind::VirtualHost, vec![host("t/b")]));
    assert!(session.spec().absent.is_empty());
    assert_eq!(domains(&session, "t"), ["a", "b"]);
    assert!(Arc::ptr_eq(&table_before, &session.spec().routes["u"]));

    // A restart has them still, and asks for them again.
    let mut other = Session::default();
    other.restore(session.saved(), now);
    let first = other.open().remove(0);
    assert_eq!(
        (first.resource_names_subscribe, domains(&other, "t").len()),
        (vec!["t/a".into(), "t/b".into()], 2)
    );
}

#[test]
fn a_host_that_nobody_uses_is_given_up() {
    let mut session = Session::default();
    session.receive(response(Kind::Routes, vec![table("t")]));
    let now = Instant::now();
    session.demand(vec!["t/a".into(), "t/b".into()], now);
    session.receive(response(Kind::VirtualHost, vec![host("t/a"), host("t/b")]));
    let used = session.spec().routes["t"].virtual_hosts[1].used.clone().unwrap();
    used.note();
    let outcome = session.expire(now + super::super::demand::IDLE_MAX);
    assert!(outcome.changed);
    assert_eq!(outcome.requests[0].resource_names_unsubscribe, ["t/a"]);
    assert_eq!(domains(&session, "t"), ["b"]);
}

#[test]
fn endpoints_that_come_with_their_cluster_are_not_asked_for() {
    let mut session = Session::default();
    session.receive(response(Kind::Endpoints, vec![assignment("a")]));
    let outcome = session.receive(response(Kind::Cluster, vec![wire("a", &eds("a", ""))]));
    assert_eq!(outcome.requests.len(), 1);
    assert_eq!(outcome.requests[0].response_nonce, "n");
    assert_eq!(session.spec().endpoints.len(), 1);
}

fn named(addresses: &[&str]) -> Wire {
    let names = HostNames {
        host: "db.shop".into(),
        names: vec!["DB.shop".into()],
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let any = Any { type_url: Kind::Names.type_url().into(), value: names.encode_to_vec() };
    Wire { name: "db.shop".into(), version: "1".into(), resource: Some(any), ..Default::default() }
}

#[test]
fn names_are_asked_for_where_dns_is_answered_and_stay_one_allocation() {
    let mut session = Session::new(true);
    let asked = session.open();
    let names: Vec<_> = asked.iter().filter(|request| request.type_url == Kind::Names.type_url()).collect();
    assert_eq!((names.len(), names[0].resource_names_subscribe.as_slice()), (1, &["*".to_owned()][..]));
    session.receive(response(Kind::Names, vec![named(&["240.240.0.1"])]));
    let first = session.spec().hosts;
    assert_eq!((&*first["db.shop"].names[0], first["db.shop"].addresses.len()), ("db.shop", 1));
    session.receive(response(Kind::Cluster, vec![wire("a", &eds("a", ""))]));
    assert!(Arc::ptr_eq(&session.spec().hosts, &first), "a change of something else is none of names");
    let outcome = session.receive(response(Kind::Names, vec![named(&["here"])]));
    assert_eq!(outcome.refused[0].1.field, "addresses[0]");
    assert!(Arc::ptr_eq(&session.spec().hosts, &first));
    let removed = DeltaDiscoveryResponse {
        removed_resources: vec!["db.shop".into()],
        ..response(Kind::Names, Vec::new())
    };
    session.receive(removed);
    assert!(session.spec().hosts.is_empty());
}
