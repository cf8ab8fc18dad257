//! Generated policies and requests: the engine decides as the oracle does. `WEFT_PAIRS` asks for more of them.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    net::{IpAddr, SocketAddr},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use weft_proto::xds::envoy::r#type::matcher::v3::{ListMatcher, OrMatcher};

use super::{
    oracle::{Request, verdict},
    *,
};
use crate::{
    filter::rbac::engine::{Found, Subject, decide},
    router::View,
    stream::Ends,
    tls::{names::Names, peer::Peer},
};

/// Pairs of a set of rules and a request that are tried when nobody asks for more.
const PAIRS: usize = 100_000;
/// Requests for each set of rules.
const REQUESTS: usize = 20;

const WORDS: [&str; 8] = ["a", "ab", "b", "ba", "abc", "B", "a,b", "b, a"];
const PATHS: [&str; 10] = ["/", "/a", "/a/", "/a/b", "/ab", "/a/b/a", "/b", "/a*", "/a//b", "/A"];
const TEMPLATES: [&str; 6] = ["/*", "/a/*", "/**", "/a/**", "/*/b", "/a/**/a"];
const IDS: [&str; 4] = ["spiffe://t/ns/a/sa/b", "spiffe://t/ns/ab/sa/b", "spiffe://o/ns/a/sa/a", "t"];
const HEADERS: [&str; 4] = ["x-a", "x-b", ":authority", ":method"];

fn pick<T: Copy>(rng: &mut StdRng, of: &[T]) -> T {
    *of.choose(rng).expect("there is one")
}

fn ip(rng: &mut StdRng) -> IpAddr {
    Ipv4Addr::new(10, rng.random_range(0..2), 0, rng.random_range(0..3)).into()
}

fn request(rng: &mut StdRng) -> Request {
    let mut headers = HeaderMap::new();
    for name in ["x-a", "x-b"] {
        for _ in 0..pick(rng, &[0, 1, 1, 2]) {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(pick(rng, &WORDS)));
        }
    }
    let names = Names {
        uris: vec![pick(rng, &IDS[..3]).to_owned()],
        dns: if rng.random() { vec!["t".to_owned()] } else { Vec::new() },
        ..Names::default()
    };
    let peer = Peer { chain: Vec::new(), names, verified: rng.random_range(0..4) > 0, spiffe: None };
    let claims = match rng.random_range(0..4) {
        0 => json!({"iss": pick(rng, &WORDS), "g": {"n": pick(rng, &WORDS)}}),
        1 => json!({"iss": [pick(rng, &WORDS), pick(rng, &WORDS)], "g": true}),
        2 => json!({"g": {"n": 7, "m": null}}),
        _ => Value::Null,
    };
    let found = Found { filter: "f".into(), key: "p".into(), value: claims };
    let socket = |rng: &mut StdRng| Some(SocketAddr::new(ip(rng), rng.random_range(79..82)));
    Request {
        method: if rng.random() { Method::GET } else { Method::POST },
        path: pick(rng, &PATHS),
        host: pick(rng, &WORDS[..5]),
        headers,
        peer: rng.random::<bool>().then_some(peer),
        ends: Ends { remote: socket(rng), local: socket(rng), original: None },
        client: rng.random::<bool>().then(|| ip(rng)),
        server_name: rng.random::<bool>().then(|| pick(rng, &WORDS[..5])),
        metadata: if rng.random() { vec![found] } else { Vec::new() },
        tcp: rng.random_range(0..5) == 0,
    }
}

fn string(rng: &mut StdRng, words: &[&str]) -> StringMatcher {
    let word = pick(rng, words).to_owned();
    let part = rng.random_range(1..=word.len());
    let pattern = match rng.random_range(0..5) {
        0 | 1 => StringPattern::Exact(word),
        2 => StringPattern::Prefix(word[..part].to_owned()),
        3 => StringPattern::Suffix(word[word.len() - part..].to_owned()),
        _ => StringPattern::Contains(word[..part].to_owned()),
    };
    StringMatcher { match_pattern: Some(pattern), ignore_case: rng.random_range(0..4) == 0 }
}

fn header(rng: &mut StdRng) -> HeaderMatcher {
    let name = pick(rng, &HEADERS);
    let words: &[&str] = if name == ":method" { &["GET", "POST"] } else { &WORDS };
    let specifier = match rng.random_range(0..5) {
        0 => HeaderMatchSpecifier::PresentMatch(rng.random()),
        _ => HeaderMatchSpecifier::StringMatch(string(rng, words)),
    };
    HeaderMatcher {
        name: name.to_owned(),
        invert_match: rng.random_range(0..4) == 0,
        treat_missing_header_as_empty: rng.random_range(0..6) == 0,
        header_match_specifier: Some(specifier),
    }
}

fn cidr(rng: &mut StdRng) -> CidrRange {
    let prefix_len = Some(UInt32Value { value: pick(rng, &[0, 8, 16, 32]) });
    CidrRange { address_prefix: ip(rng).to_string(), prefix_len }
}

fn url_path(rng: &mut StdRng) -> PathMatcher {
    PathMatcher { rule: Some(path_matcher::Rule::Path(string(rng, &PATHS))) }
}

fn value(rng: &mut StdRng, depth: u32) -> ValueMatcher {
    let pattern = match rng.random_range(0..if depth > 2 { 5 } else { 7 }) {
        0 => MatchPattern::NullMatch(Default::default()),
        1 => MatchPattern::BoolMatch(rng.random()),
        2 => MatchPattern::PresentMatch(rng.random()),
        3 | 4 => MatchPattern::StringMatch(string(rng, &WORDS)),
        5 => {
            let one = list_matcher::MatchPattern::OneOf(Box::new(value(rng, depth + 1)));
            MatchPattern::ListMatch(Box::new(ListMatcher { match_pattern: Some(one) }))
        }
        _ => {
            let value_matchers = vec![value(rng, depth + 1), value(rng, depth + 1)];
            MatchPattern::OrMatch(OrMatcher { value_matchers })
        }
    };
    ValueMatcher { match_pattern: Some(pattern) }
}

fn sourced_metadata(rng: &mut StdRng) -> SourcedMetadata {
    let path = pick(rng, &[&["p", "iss"][..], &["p", "g", "n"], &["p", "g"], &["q"], &["p"]]);
    let segment = |key: &&str| PathSegment { segment: Some(path_segment::Segment::Key((*key).to_owned())) };
    let matcher = MetadataMatcher {
        filter: pick(rng, &["f", "f", "f", "g"]).to_owned(),
        path: path.iter().map(segment).collect(),
        value: Some(value(rng, 0)),
        invert: rng.random_range(0..4) == 0,
    };
    SourcedMetadata { metadata_matcher: Some(matcher), metadata_source: MetadataSource::Dynamic.into() }
}

fn permission(rng: &mut StdRng, depth: u32) -> Permission {
    let set = |rng: &mut StdRng| {
        let rules = (0..rng.random_range(1..4)).map(|_| permission(rng, depth + 1)).collect();
        permission::Set { rules }
    };
    let rule = match rng.random_range(if depth > 2 { 3 } else { 0 }..12) {
        0 => Rule::AndRules(set(rng)),
        1 => Rule::OrRules(set(rng)),
        2 => Rule::NotRule(Box::new(permission(rng, depth + 1))),
        3 => Rule::Any(true),
        4 | 5 => Rule::Header(header(rng)),
        6 => Rule::UrlPath(url_path(rng)),
        7 => Rule::DestinationIp(cidr(rng)),
        8 => Rule::DestinationPort(rng.random_range(79..82)),
        9 => Rule::DestinationPortRange(Int32Range { start: 80, end: rng.random_range(81..83) }),
        10 => Rule::RequestedServerName(string(rng, &WORDS[..5])),
        _ => template_of(pick(rng, &TEMPLATES)),
    };
    Permission { rule: Some(rule) }
}

fn principal(rng: &mut StdRng, depth: u32) -> Principal {
    let set = |rng: &mut StdRng| {
        let ids = (0..rng.random_range(1..4)).map(|_| principal(rng, depth + 1)).collect();
        principal::Set { ids }
    };
    let identifier = match rng.random_range(if depth > 2 { 3 } else { 0 }..11) {
        0 => Identifier::AndIds(set(rng)),
        1 => Identifier::OrIds(set(rng)),
        2 => Identifier::NotId(Box::new(principal(rng, depth + 1))),
        3 => Identifier::Any(true),
        4 | 5 => Identifier::Authenticated(Authenticated { principal_name: Some(string(rng, &IDS)) }),
        6 => Identifier::DirectRemoteIp(cidr(rng)),
        7 => Identifier::RemoteIp(cidr(rng)),
        8 => Identifier::Header(header(rng)),
        9 => Identifier::UrlPath(url_path(rng)),
        _ => Identifier::SourcedMetadata(sourced_metadata(rng)),
    };
    Principal { identifier: Some(identifier) }
}

fn some_rules(rng: &mut StdRng) -> RawRules {
    let policy = |rng: &mut StdRng| RawPolicy {
        permissions: (0..rng.random_range(1..3)).map(|_| permission(rng, 0)).collect(),
        principals: (0..rng.random_range(1..3)).map(|_| principal(rng, 0)).collect(),
        ..Default::default()
    };
    RawRules {
        action: pick(rng, &[Action::Allow, Action::Deny, Action::Log]).into(),
        policies: (0..rng.random_range(0..4)).map(|i| (format!("p{i}"), policy(rng))).collect(),
        ..Default::default()
    }
}

#[test]
fn the_engine_decides_as_the_protocol_reads() {
    let pairs = std::env::var("WEFT_PAIRS").ok().and_then(|pairs| pairs.parse().ok()).unwrap_or(PAIRS);
    let mut rng = StdRng::seed_from_u64(4);
    let mut seen: BTreeMap<_, usize> = BTreeMap::new();
    for _ in 0..pairs / REQUESTS {
        let raw = some_rules(&mut rng);
        let checked = rules(raw.clone()).unwrap();
        for _ in 0..REQUESTS {
            let request = request(&mut rng);
            let view = View {
                method: &request.method,
                scheme: "http",
                host: request.host,
                path: request.path,
                query: None,
                headers: &request.headers,
            };
            let subject = Subject {
                view: (!request.tcp).then_some(view),
                peer: request.peer.as_ref(),
                tls: request.peer.is_some(),
                ends: request.ends,
                client: request.client,
                server_name: request.server_name,
                metadata: if request.tcp { &[] } else { &request.metadata },
            };
            let decision = decide(&checked, &subject);
            let found = (decision.allowed, decision.policy.map(|policy| policy.name.to_string()));
            assert_eq!(found, verdict(&raw, &request), "{raw:#?}\n{request:#?}");
            *seen.entry((raw.action, found.0, found.1.is_some())).or_default() += 1;
        }
    }
    // Every action was seen to match and not to match, often.
    assert_eq!(seen.len(), 6, "{seen:?}");
    assert!(seen.values().all(|count| *count > pairs / 50), "{seen:?}");
}
