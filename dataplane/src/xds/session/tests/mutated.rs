//! Resources that something broke on their way: nothing panics, and neither their predecessors nor what came beside them is
//! disturbed. The same mutations in every run.

use rand::{Rng, SeedableRng, rngs::StdRng};
use weft_proto::xds::{
    envoy::config::{
        cluster::v3::{CircuitBreakers, OutlierDetection, circuit_breakers::Thresholds},
        endpoint::v3::{Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier},
        route::v3::{
            RetryPolicy, Route, RouteAction, RouteMatch, WeightedCluster, route::Action,
            route_action::ClusterSpecifier, route_match::PathSpecifier, weighted_cluster::ClusterWeight,
        },
    },
    google::protobuf::{Duration as ProtoDuration, UInt32Value},
};

use super::*;

/// Mutated resources of each kind.
const ROUNDS: u64 = 600;
/// Numbers at which fields change their meaning.
const VARINTS: [&[u8]; 6] = [
    &[0],
    &[0x7f],
    &[0xff, 0xff, 3],
    &[0xff; 5],
    &[0x80; 10],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
];

fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

fn endpoints(name: &str) -> ClusterLoadAssignment {
    let address = SocketAddress {
        address: "10.0.0.1".into(),
        port_specifier: Some(PortSpecifier::PortValue(80)),
        ..Default::default()
    };
    let address = Some(Address { address: Some(address::Address::SocketAddress(address)) });
    let host = HostIdentifier::Endpoint(Endpoint { address, ..Default::default() });
    let one =
        LbEndpoint { host_identifier: Some(host), load_balancing_weight: number(3), ..Default::default() };
    let place = LocalityLbEndpoints {
        lb_endpoints: vec![one.clone(), one],
        load_balancing_weight: number(1),
        ..Default::default()
    };
    ClusterLoadAssignment { cluster_name: name.into(), endpoints: vec![place], ..Default::default() }
}

/// A cluster that waits for nothing.
fn own(name: &str) -> Cluster {
    let second = Some(ProtoDuration { seconds: 1, nanos: 5 });
    Cluster {
        name: name.into(),
        connect_timeout: second,
        load_assignment: Some(endpoints(name)),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![Thresholds { max_requests: number(9), ..Default::default() }],
            ..Default::default()
        }),
        outlier_detection: Some(OutlierDetection { interval: second, ..Default::default() }),
        ..Default::default()
    }
}

fn table(name: &str) -> RouteConfiguration {
    let to = |name: &str, weight| ClusterWeight {
        name: name.into(),
        weight: number(weight),
        ..Default::default()
    };
    let clusters = WeightedCluster { clusters: vec![to("a", 90), to("b", 10)], ..Default::default() };
    let route = Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/a".into())),
            ..Default::default()
        }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::WeightedClusters(clusters)),
            timeout: Some(ProtoDuration { seconds: 3, nanos: 0 }),
            retry_policy: Some(RetryPolicy {
                retry_on: "5xx".into(),
                num_retries: number(2),
                ..Default::default()
            }),
            prefix_rewrite: "/b".into(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let host = VirtualHost {
        name: "h".into(),
        domains: vec!["*.example.com".into(), "a".into()],
        routes: vec![route],
        ..Default::default()
    };
    RouteConfiguration { name: name.into(), virtual_hosts: vec![host], ..Default::default() }
}

/// One thing that is broken.
fn mutate(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    if bytes.is_empty() {
        bytes.push(rng.random());
        return;
    }
    let at = rng.random_range(0..bytes.len());
    let end = rng.random_range(at..bytes.len().min(at + 24)) + 1;
    match rng.random_range(0..7) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = rng.random(),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let part = bytes[at..end].to_vec();
            let to = rng.random_range(0..bytes.len());
            bytes.splice(to..to, part);
        }
        5 => {
            let number = VARINTS[rng.random_range(0..VARINTS.len())];
            bytes.splice(at..=at, number.iter().copied());
        }
        // A field more at the end: what is repeated grows, what is single is another.
        _ => {
            let part = bytes[at..end].to_vec();
            bytes.extend(part);
        }
    }
}

fn names(spec: &Spec, kind: Kind) -> Vec<Arc<str>> {
    match kind {
        Kind::Cluster => spec.clusters.keys().cloned().collect(),
        Kind::Endpoints => spec.endpoints.keys().cloned().collect(),
        Kind::Listener => spec.listeners.keys().cloned().collect(),
        Kind::Routes => spec.routes.keys().cloned().collect(),
        Kind::Secret | Kind::VirtualHost | Kind::Names => Vec::new(),
    }
}

/// A session that holds one good resource of each kind.
fn held() -> Session {
    let mut session = Session::default();
    session.receive(response(Kind::Cluster, vec![wire("a", &own("a")), wire("e", &eds("e", ""))]));
    session.receive(response(Kind::Endpoints, vec![wire("e", &endpoints("e"))]));
    session.receive(response(Kind::Listener, vec![listener("a", "a")]));
    session.receive(response(Kind::Routes, vec![wire("a", &table("a"))]));
    session
}

#[test]
fn a_broken_resource_neither_panics_nor_disturbs_others() {
    let good: [(Kind, Wire, Wire); 4] = [
        (Kind::Cluster, wire("a", &own("a")), wire("b", &own("b"))),
        (Kind::Endpoints, wire("e", &endpoints("e")), wire("e", &endpoints("e"))),
        (Kind::Listener, listener("a", "a"), listener("b", "a")),
        (Kind::Routes, wire("a", &table("a")), wire("a", &table("a"))),
    ];
    let (mut refused, mut taken) = (0, 0);
    for (kind, seed, neighbour) in good {
        let mut rng = StdRng::seed_from_u64(kind as u64);
        for round in 0..ROUNDS {
            let mut broken = seed.clone();
            let bytes = &mut broken.resource.as_mut().unwrap().value;
            for _ in 0..rng.random_range(1..4) {
                mutate(bytes, &mut rng);
            }
            let mut session = held();
            let before = session.spec();
            let outcome = session.receive(response(kind, vec![broken]));
            let after = session.spec();
            for other in [Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::Routes] {
                assert_eq!(names(&before, other), names(&after, other), "{kind:?} {round}");
            }
            if outcome.refused.is_empty() {
                taken += 1;
            } else {
                refused += 1;
                assert!(Arc::ptr_eq(&before.clusters["a"], &after.clusters["a"]), "{kind:?} {round}");
                assert!(Arc::ptr_eq(&before.routes["a"], &after.routes["a"]), "{kind:?} {round}");
            }
            // What comes after it is taken as if it had never been.
            assert!(
                session.receive(response(kind, vec![neighbour.clone()])).refused.is_empty(),
                "{kind:?} {round}"
            );
            let found = names(&session.spec(), kind);
            assert!(found.iter().any(|name| **name == *neighbour.name), "{kind:?} {round}: {found:?}");
        }
    }
    // Both ways are walked.
    assert!(refused > ROUNDS && taken > ROUNDS / 10, "{refused} refused, {taken} taken");
}
