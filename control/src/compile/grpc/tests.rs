//! What gRPC would pass over or refuse is said so that it cannot.

use super::*;
use crate::{
    compile::ir::{Action, Forward, Match},
    documents::HeaderOperations,
    model::Locality,
};

#[test]
fn a_listener_is_asked_for_by_target_or_by_address() {
    let client = |host, port| Some(Asking::Client { host, port });
    for (name, expected) in [
        ("reviews", client("reviews", None)),
        ("reviews.default:80", client("reviews.default", Some(80))),
        ("reviews:http", None),
        (":80", None),
        ("", None),
        ("xds.istio.io/grpc/lds/inbound/0.0.0.0:50051", "0.0.0.0:50051".parse().ok().map(Asking::Server)),
        ("xds.istio.io/grpc/lds/inbound/[::]:50051", "[::]:50051".parse().ok().map(Asking::Server)),
        ("xds.istio.io/grpc/lds/inbound/nowhere", None),
    ] {
        assert_eq!(Asking::read(name), expected, "{name}");
    }
}

fn route(headers: &[(&str, Option<StringMatch>, bool)]) -> Route {
    let header = |(name, value, invert): &(&str, Option<StringMatch>, bool)| HeaderMatch {
        name: (*name).into(),
        value: value.clone(),
        invert: *invert,
    };
    Route {
        name: "r".into(),
        matches: Match { headers: headers.iter().map(header).collect(), ..Match::default() },
        filters: Default::default(),
        stat_prefix: None,
        action: Action::Forward(Forward::plain("c".into(), None)),
        headers: HeaderOperations::default(),
    }
}

/// The conditions of each route, `!` before what must not be.
fn shown(route: &Route) -> Vec<String> {
    let header = |header: &HeaderMatch| {
        let not = if header.invert { "!" } else { "" };
        match &header.value {
            Some(StringMatch::Exact(value)) => format!("{not}{}={value}", header.name),
            _ => format!("{not}{}", header.name),
        }
    };
    let text = |route: Route| route.matches.headers.iter().map(header).collect::<Vec<_>>().join(" ");
    shaped_routes(route, "api:80").into_iter().map(text).collect()
}

fn exact(text: &str) -> Option<StringMatch> {
    Some(StringMatch::Exact(text.into()))
}

#[test]
fn what_is_the_same_for_every_call_is_decided_at_once() {
    let regex = |text: &str| Some(StringMatch::Regex(text.into()));
    for (name, value, invert, there) in [
        (":method", exact("POST"), false, true),
        (":method", exact("GET"), false, false),
        (":method", exact("GET"), true, true),
        (":scheme", exact("https"), false, false),
        (":authority", exact("api:80"), false, true),
        (":authority", regex("api"), false, false),
        (":authority", regex("api:.*"), false, true),
        (":authority", Some(StringMatch::Prefix("api".into())), true, false),
        (":authority", None, false, true),
    ] {
        let expected = if there { vec![String::new()] } else { Vec::new() };
        assert_eq!(shown(&route(&[(name, value.clone(), invert)])), expected, "{name} {value:?} {invert}");
    }
    let mut with_query = route(&[]);
    with_query.matches.query.push(("q".into(), None));
    assert_eq!(shown(&with_query), Vec::<String>::new());
}

#[test]
fn a_header_that_must_not_have_a_value_may_be_absent() {
    let negative = |name| (name, exact("1"), true);
    assert_eq!(shown(&route(&[negative("a")])), ["!a", "!a=1"]);
    let found = shown(&route(&[("x", None, false), negative("a"), ("y", None, true), negative("b")]));
    assert_eq!(found, ["x !a !y !b", "x !a !y !b=1", "x !a=1 !y !b", "x !a=1 !y !b=1"]);
    let many = ["a", "b", "c", "d", "e", "f"].map(negative);
    assert_eq!((shown(&route(&many[..5])).len(), shown(&route(&many)).len()), (32, 0));
}

fn endpoint(address: &str, weight: u32, health: Health) -> Endpoint {
    Endpoint {
        address: address.into(),
        port: 1,
        weight,
        health,
        check_port: None,
        takes_tls: false,
        workload: "".into(),
    }
}

#[test]
fn endpoints_of_different_weights_are_localities_of_their_own_and_what_cannot_be_used_is_left_out() {
    let zone = |subzone: &str| Locality { region: "eu".into(), zone: "a".into(), subzone: subzone.into() };
    let healthy = |address, weight| endpoint(address, weight, Health::Healthy);
    let all = vec![
        healthy("10.0.0.1", 1),
        healthy("10.0.0.2", 3),
        healthy("10.0.0.1", 1),
        healthy("name.test", 1),
        healthy("unix:///socket", 1),
        endpoint("10.0.0.3", 1, Health::Draining),
        endpoint("10.0.0.4", 1, Health::Unhealthy),
    ];
    let even = vec![healthy("10.1.0.1", 2), healthy("10.1.0.2", 2)];
    let gone = vec![endpoint("10.2.0.1", 1, Health::Draining)];
    let of = |priority, zone_name: &str, weight, endpoints| LocalityEndpoints {
        priority,
        locality: zone(zone_name),
        weight,
        endpoints,
    };
    let localities = vec![of(0, "x", 8, all), of(1, "z", 1, gone), of(2, "y", 4, even.clone())];
    let endpoints = Endpoints { cluster: "c".into(), localities };
    let found = |weighted| usable(&endpoints, weighted).localities;
    let expected = |shares: [u32; 3]| {
        vec![
            of(0, "x~1", shares[0], vec![healthy("10.0.0.1", 1)]),
            of(0, "x~3", shares[1], vec![healthy("10.0.0.2", 3)]),
            of(1, "y", shares[2], even.clone()),
        ]
    };
    assert_eq!(found(false), expected([1, 3, 4]));
    assert_eq!(found(true), expected([2, 6, 4]));
}
