//! Which configuration of a filter is in force on a route.

use std::sync::Arc;

use super::*;
use crate::spec::{DirectResponse, FilterOverride, HeaderMutation, PathMatch, RouteAction, RouteMatch};

fn filter(disabled: bool) -> HttpFilter {
    HttpFilter { name: "f".into(), disabled, config: FilterConfig::Buffer(1) }
}

fn route(filters: Vec<FilterOverride>) -> Route {
    Route {
        name: "r".into(),
        matches: RouteMatch {
            path: PathMatch::Prefix("/".into()),
            ignore_case: false,
            headers: Vec::new(),
            query: Vec::new(),
            fraction_ppm: 1_000_000,
        },
        action: RouteAction::Direct(DirectResponse { status: http::StatusCode::OK, body: Bytes::new() }),
        request_headers: HeaderMutation::default(),
        response_headers: HeaderMutation::default(),
        filters,
    }
}

#[test]
fn a_route_has_the_last_word_on_a_filter_of_its_name() {
    let said = |name: &str, change| vec![FilterOverride { name: Arc::from(name), change }];
    let config = || FilterChange::Config(FilterConfig::Buffer(2));
    for (disabled, overrides, limit) in [
        (false, vec![], Some(1)),
        (true, vec![], None),
        (false, said("f", FilterChange::Disabled), None),
        (true, said("f", FilterChange::Enabled), Some(1)),
        (true, said("f", config()), Some(2)),
        (false, said("other", config()), Some(1)),
    ] {
        let route = route(overrides);
        let found = match in_force(&filter(disabled), Some(&route)) {
            Some(FilterConfig::Buffer(limit)) => Some(*limit),
            None => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(found, limit, "{disabled} {:?}", route.filters);
    }
    assert!(in_force(&filter(false), None).is_some(), "without a route the listener's word counts");
}
