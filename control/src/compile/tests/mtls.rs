//! Mutual TLS between workloads: what ports take, and who is spoken to how.

use weft_proto::{
    node::Inbound,
    xds::envoy::config::{cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener},
};

use super::*;
use crate::{compile::peers, documents::MtlsMode};

const STRICT: MtlsMode = MtlsMode::Strict;
const PERMISSIVE: MtlsMode = MtlsMode::Permissive;
const DISABLE: MtlsMode = MtlsMode::Disable;

fn authentication(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

#[test]
fn the_narrowest_document_decides_then_the_oldest() {
    let mesh = authentication("istio-system", "mesh", "{mtls: {mode: STRICT}}");
    let shop = authentication("shop", "shop", "{mtls: {mode: DISABLE}}");
    let unset = authentication("shop", "a-shop", "{mtls: {mode: UNSET}}");
    let web = authentication(
        "shop",
        "web",
        "{selector: {matchLabels: {app: web}}, mtls: {mode: PERMISSIVE}, portLevelMtls: {8080: {mode: STRICT}, 8081: {mode: UNSET}}}",
    );
    let later =
        authentication("shop", "web-2", "{selector: {matchLabels: {app: web}}, mtls: {mode: DISABLE}}");
    let all = [&*mesh, &shop, &web, &later].concat();
    for (yaml, namespace, app, port, expected) in [
        ("", "shop", "web", Some(80), PERMISSIVE),
        (&*mesh, "shop", "web", Some(80), STRICT),
        (&mesh, "shop", "web", None, STRICT),
        (&all, "bank", "web", Some(80), STRICT),
        (&all, "shop", "db", Some(80), DISABLE),
        (&all, "shop", "web", Some(80), PERMISSIVE),
        (&all, "shop", "web", Some(8080), STRICT),
        (&all, "shop", "web", Some(8081), PERMISSIVE),
        (&all, "shop", "web", None, PERMISSIVE),
        (&[&*mesh, &unset].concat(), "shop", "web", Some(80), STRICT),
    ] {
        let documents = documents(yaml);
        let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
        let policies = peers::Policies::of(&documents);
        let found = policies.mode(peers::Workload { namespace, labels: &labels }, port);
        assert_eq!(found, expected, "{namespace} {app} {port:?}");
    }
}

#[test]
fn what_is_wrong_with_a_peer_authentication_has_its_place() {
    for (spec, field) in [
        ("{mtls: {mode: ON}}", "spec.mtls.mode"),
        ("{portLevelMtls: {80: {mode: STRICT}}}", "spec.portLevelMtls"),
        ("{selector: {matchLabels: {a: b}}, portLevelMtls: {x: {mode: STRICT}}}", "spec.portLevelMtls[x]"),
        ("{mtls: {mod: STRICT}}", "spec.mtls.mod"),
    ] {
        let (_, problems) = documents::parse(&authentication("shop", "a", spec), "test.yaml", 1);
        assert_eq!(problems.iter().map(|problem| &*problem.field).collect::<Vec<_>>(), [field], "{spec}");
    }
}

fn compiler() -> Compiler {
    Compiler::new(Options { trust_domains: vec!["td".to_owned(), "old".to_owned()], ..Options::default() })
}

fn decode<M: prost::Message + Default>(resource: &Resource) -> M {
    use weft_proto::xds::google::protobuf::Any;
    let any = <Any as prost::Message>::decode(&*resource.any).unwrap();
    let _ = &any.type_url;
    M::decode(&*any.value).unwrap()
}

fn chains(protocol: &str, mutual: bool, yaml: &str) -> Vec<(String, String, bool)> {
    let inbound = Inbound {
        bind: Some("127.0.0.1:9000".parse().unwrap()),
        service: "web".into(),
        port: 80,
        app: "127.0.0.1:8080".parse().unwrap(),
        protocol: protocol.into(),
        workload: String::new(),
    };
    let node = NodeMetadata { inbound: vec![inbound], outbound_http: None, mtls: mutual, ..sidecar() };
    let set = compiler().update(mesh(&[]), documents(yaml)).resources(&node);
    let listener: Listener = decode(set.of(Kind::Listener).next().unwrap());
    let shown = |chain: weft_proto::xds::envoy::config::listener::v3::FilterChain| {
        let matches = chain.filter_chain_match.unwrap_or_default();
        (
            matches.transport_protocol,
            matches.application_protocols.join(","),
            chain.transport_socket.is_some(),
        )
    };
    listener.filter_chains.into_iter().map(shown).collect()
}

#[test]
fn a_port_takes_what_its_mode_says_and_fails_closed_without_an_identity() {
    let chain =
        |transport: &str, applications: &str, tls| (transport.to_owned(), applications.to_owned(), tls);
    let strict = authentication("default", "a", "{mtls: {mode: STRICT}}");
    let disable = authentication("default", "a", "{mtls: {mode: DISABLE}}");
    assert_eq!(chains("http", false, ""), [chain("", "", false)]);
    assert_eq!(chains("http", true, ""), [chain("tls", "istio", true), chain("raw_buffer", "", false)]);
    assert_eq!(
        chains("tcp", true, ""),
        [chain("tls", "istio", true), chain("tls", "", false), chain("raw_buffer", "", false)]
    );
    for mutual in [true, false] {
        assert_eq!(chains("http", mutual, &strict), [chain("", "", true)]);
        assert_eq!(chains("tcp", mutual, &disable), [chain("", "", false)]);
    }
}

/// A service of which the first endpoint takes mutual TLS.
fn mixed() -> Arc<Service> {
    let mut mixed = Service::clone(&service("api", &[(80, Protocol::Http)], &["v1", "v2"]));
    let mut endpoints = BTreeMap::clone(&mixed.endpoints);
    let first = endpoints.values_mut().next().unwrap();
    let identity = "spiffe://td/ns/default/sa/api".into();
    *first = Arc::new(Endpoint { mtls: true, identity, ..Endpoint::clone(first) });
    mixed.endpoints = Arc::new(endpoints);
    Arc::new(mixed)
}

fn seen(mutual: bool, yaml: &str) -> (Cluster, ClusterLoadAssignment) {
    let node = NodeMetadata { mtls: mutual, ..sidecar() };
    let set = compiler().update(mesh(&[mixed()]), documents(yaml)).resources(&node);
    (decode(set.of(Kind::Cluster).next().unwrap()), decode(set.of(Kind::Endpoints).next().unwrap()))
}

fn labelled(endpoints: &ClusterLoadAssignment) -> usize {
    let all = endpoints.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
    let says = |endpoint: &&weft_proto::xds::envoy::config::endpoint::v3::LbEndpoint| {
        let metadata = endpoint.metadata.as_ref();
        metadata.is_some_and(|it| it.filter_metadata.contains_key("envoy.transport_socket_match"))
    };
    all.filter(says).count()
}

#[test]
fn who_has_an_identity_speaks_mutual_tls_to_the_endpoints_that_take_it_and_knows_who_they_are() {
    let (cluster, endpoints) = seen(false, "");
    assert!(cluster.transport_socket_matches.is_empty() && cluster.transport_socket.is_none());
    assert_eq!(labelled(&endpoints), 0);
    let (cluster, endpoints) = seen(true, "");
    assert!(cluster.transport_socket.is_none());
    assert_eq!((cluster.transport_socket_matches.len(), labelled(&endpoints)), (1, 1));
    let told = format!("{:?}", cluster.transport_socket_matches[0].transport_socket);
    let bytes = |text: &str| {
        let digits = format!("{:?}", text.as_bytes());
        digits[1..digits.len() - 1].to_owned()
    };
    assert!(told.contains(&bytes("spiffe://td/ns/default/sa/api")), "the identity is pinned");
    assert!(told.contains(&bytes("outbound_.80_._.api.default.svc.cluster.local")));

    let rule = |mode: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: api}}\nspec: {{host: api, trafficPolicy: {{tls: {{mode: {mode}}}}}}}\n"
        )
    };
    let (cluster, endpoints) = seen(true, &rule("DISABLE"));
    assert!(cluster.transport_socket_matches.is_empty() && cluster.transport_socket.is_none());
    assert_eq!(labelled(&endpoints), 0);
    for mutual in [true, false] {
        let (cluster, _) = seen(mutual, &rule("ISTIO_MUTUAL"));
        assert!(cluster.transport_socket_matches.is_empty() && cluster.transport_socket.is_some());
    }
}

#[test]
fn who_is_told_to_take_plain_text_is_spoken_to_in_plain_text() {
    let taking = |yaml: &str| {
        let (cluster, endpoints) = seen(true, yaml);
        (cluster.transport_socket_matches.len(), labelled(&endpoints))
    };
    let mesh = authentication("istio-system", "mesh", "{mtls: {mode: DISABLE}}");
    let port = |mode: &str| {
        format!("{{selector: {{matchLabels: {{version: v1}}}}, portLevelMtls: {{8080: {{mode: {mode}}}}}}}")
    };
    let back = authentication("default", "v1", &port("STRICT"));
    let off = authentication("default", "v1", &port("DISABLE"));
    let elsewhere = authentication("other", "all", "{mtls: {mode: DISABLE}}");
    for (yaml, expected) in [
        (&*mesh, (0, 0)),
        (&[&*mesh, &back].concat(), (1, 1)),
        (&off, (0, 0)),
        (&elsewhere, (1, 1)),
        ("", (1, 1)),
    ] {
        assert_eq!(taking(yaml), expected, "{yaml}");
    }

    // A document that comes or goes counts at once.
    let node = NodeMetadata { mtls: true, ..sidecar() };
    let (mut compiler, registered) = (compiler(), super::mesh(&[mixed()]));
    for (yaml, expected) in [("", 1), (&*mesh, 0), (&back, 1), (&off, 0), ("", 1)] {
        let set = compiler.update(registered.clone(), documents(yaml)).resources(&node);
        let cluster: Cluster = decode(set.of(Kind::Cluster).next().unwrap());
        assert_eq!(cluster.transport_socket_matches.len(), expected, "{yaml}");
    }
}
