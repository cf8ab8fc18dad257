//! Which route a request takes: tables of hosts, paths and conditions.

use http::{HeaderName, HeaderValue, StatusCode};

use super::*;
use crate::spec::{
    DirectResponse, HeaderMatch, HeaderMutation, PathMatch, QueryMatch, RouteAction, RouteMatch, ValueMatch,
    VirtualHost,
};

struct Fixed(u32);

impl Dice for Fixed {
    fn roll(&mut self, below: u32) -> u32 {
        self.0 % below
    }
}

fn route(name: &str, path: PathMatch) -> Route {
    Route {
        name: name.into(),
        matches: RouteMatch {
            path,
            ignore_case: false,
            headers: Vec::new(),
            query: Vec::new(),
            fraction_ppm: 1_000_000,
        },
        action: RouteAction::Direct(DirectResponse { status: StatusCode::OK, body: bytes::Bytes::new() }),
        request_headers: HeaderMutation::default(),
        response_headers: HeaderMutation::default(),
        filters: Vec::new(),
    }
}

fn prefix(name: &str) -> Route {
    route(name, PathMatch::Prefix("/".into()))
}

fn table(hosts: Vec<(&[&str], Vec<Route>)>) -> Router {
    Router::new(Arc::new(RouteConfig {
        name: "t".into(),
        ignore_port: false,
        on_demand: false,
        virtual_hosts: hosts
            .into_iter()
            .map(|(domains, routes)| VirtualHost {
                name: domains[0].into(),
                domains: domains.iter().map(|d| (*d).to_owned()).collect(),
                routes: routes.into_iter().map(Arc::new).collect(),
                used: None,
            })
            .collect(),
    }))
}

#[track_caller]
fn check(router: &Router, host: &str, path_query: &str, headers: &[(&str, &str)], expected: Option<&str>) {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let (path, query) = match path_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_query, None),
    };
    let view = View { method: &Method::GET, scheme: "http", host, path, query, headers: &map };
    let found = router.route(&view, &mut Fixed(500_000)).map(|route| &*route.name);
    assert_eq!(found, expected, "{host}{path_query}");
}

#[test]
fn hosts_match_exactly_then_by_longest_suffix_then_prefix_then_any() {
    let router = table(vec![
        (&["*"], vec![prefix("any")]),
        (&["a.b", "a.b:80"], vec![prefix("exact")]),
        (&["*.b"], vec![prefix("suffix")]),
        (&["*.c.b"], vec![prefix("longer-suffix")]),
        (&["a.*"], vec![prefix("prefix")]),
    ]);
    check(&router, "a.b", "/", &[], Some("exact"));
    check(&router, "a.b:80", "/", &[], Some("exact"));
    check(&router, "a.b:81", "/", &[], Some("prefix"));
    check(&router, "x.b", "/", &[], Some("suffix"));
    check(&router, "x.c.b", "/", &[], Some("longer-suffix"));
    check(&router, ".b", "/", &[], Some("any"));
    check(&router, "a.z", "/", &[], Some("prefix"));
    check(&router, "other", "/", &[], Some("any"));
}

#[test]
fn the_first_matching_route_wins() {
    let router = table(vec![(
        &["*"],
        vec![
            route("exact", PathMatch::Exact("/a".into())),
            route("segment", PathMatch::SegmentPrefix("/seg".into())),
            route("regex", PathMatch::Regex(regex::bytes::Regex::new("^(?:/r/[0-9]+)$").unwrap())),
            route("prefix", PathMatch::Prefix("/p".into())),
        ],
    )]);
    check(&router, "h", "/a", &[], Some("exact"));
    check(&router, "h", "/ab", &[], None);
    check(&router, "h", "/seg", &[], Some("segment"));
    check(&router, "h", "/seg/x", &[], Some("segment"));
    check(&router, "h", "/segment", &[], None);
    check(&router, "h", "/r/12", &[], Some("regex"));
    check(&router, "h", "/r/12x", &[], None);
    check(&router, "h", "/pq", &[], Some("prefix"));
}

#[test]
fn header_conditions_know_absence_inversion_and_joined_values() {
    let with = |name: &str, value: ValueMatch, invert: bool| {
        let mut made = prefix("hit");
        made.matches.headers.push(HeaderMatch { name: name.into(), value, invert, missing_as_empty: false });
        table(vec![(&["*"], vec![made])])
    };
    let exact = |text: &str| ValueMatch::Exact { text: text.into(), ignore_case: false };
    check(&with("x", exact("1"), false), "h", "/", &[("x", "1")], Some("hit"));
    check(&with("x", exact("1"), false), "h", "/", &[], None);
    check(&with("x", exact("1"), true), "h", "/", &[("x", "2")], Some("hit"));
    check(&with("x", exact("1"), true), "h", "/", &[], None);
    check(&with("x", exact("1,2"), false), "h", "/", &[("x", "1"), ("x", "2")], Some("hit"));
    check(&with("x", ValueMatch::Present(false), false), "h", "/", &[], Some("hit"));
    check(&with("x", ValueMatch::Present(true), true), "h", "/", &[("x", "")], None);
    check(&with(":method", exact("GET"), false), "h", "/", &[], Some("hit"));
    check(&with(":path", exact("/a?b=c"), false), "h", "/a?b=c", &[], Some("hit"));
    check(&with("n", ValueMatch::Range { start: 1, end: 5 }, false), "h", "/", &[("n", "4")], Some("hit"));
    check(&with("n", ValueMatch::Range { start: 1, end: 5 }, false), "h", "/", &[("n", "5")], None);
}

#[test]
fn query_conditions_look_at_the_first_value() {
    let mut made = prefix("hit");
    made.matches.query.push(QueryMatch {
        name: "q".into(),
        value: ValueMatch::Exact { text: "1".into(), ignore_case: false },
    });
    let router = table(vec![(&["*"], vec![made])]);
    check(&router, "h", "/?q=1&q=2", &[], Some("hit"));
    check(&router, "h", "/?q=2&q=1", &[], None);
    check(&router, "h", "/", &[], None);
}

#[test]
fn a_fraction_lets_its_share_through() {
    let at = |ppm| {
        let mut made = prefix("hit");
        made.matches.fraction_ppm = ppm;
        table(vec![(&["*"], vec![made])])
    };
    check(&at(500_001), "h", "/", &[], Some("hit"));
    check(&at(500_000), "h", "/", &[], None);
}

#[test]
fn weights_share_out_clusters() {
    let clusters: Vec<_> = [("a", 10), ("zero", 0), ("b", 30)]
        .map(|(name, weight)| WeightedCluster {
            name: name.into(),
            weight,
            request_headers: HeaderMutation::default(),
            response_headers: HeaderMutation::default(),
        })
        .into();
    let name = |roll| weighted(&clusters, &mut Fixed(roll)).map(|place| &*clusters[place].name);
    assert_eq!([name(0), name(9), name(10), name(39)], [Some("a"), Some("a"), Some("b"), Some("b")]);
}
