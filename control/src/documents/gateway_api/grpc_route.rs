//! `GRPCRoute`: rules for calls. A call is a request whose path is `/service/method`, so that a match becomes one of the
//! path.

use std::sync::Arc;

use super::{Rank, Route, RouteKind, RouteRule, RouteRules, http_route, refs};
use crate::documents::{
    HttpRoute,
    problem::Report,
    reader::At,
    values::{self, PathMatch},
    virtual_service::{HttpAction, HttpMatch},
};
use http_route::{TextKind, common, named, names_differ, text_match_kind};

/// Reads the `spec`.
pub(in crate::documents) fn read(spec: &At<'_>, report: &mut Report) -> Option<Route> {
    let mut object = spec.object(report)?;
    let parents = refs::parents(&mut object, report);
    let hostnames = refs::hostnames(&mut object, report);
    object.unsupported(&["useDefaultGateways"], report);
    let items = object.list("rules", report);
    let rules: Vec<RouteRule> = items.iter().filter_map(|at| rule(at, report)).collect();
    names_differ(&rules, report);
    object.finish(report);
    Some(Route { kind: RouteKind::Grpc, parents, hostnames, rules: RouteRules::Http(rules) })
}

fn rule(at: &At<'_>, report: &mut Report) -> Option<RouteRule> {
    let mut object = at.object(report)?;
    let items = object.list("matches", report);
    let (matches, ranks): (Vec<HttpMatch>, Vec<Rank>) =
        items.iter().filter_map(|at| call_match(at, report)).unzip();
    let found = common(&mut object, report);
    object.unsupported(&["sessionPersistence"], report);
    object.finish(report);
    if matches!(found.action, HttpAction::Redirect(_)) || found.rewrite.is_some() {
        at.fail(report, "a call is neither redirected nor rewritten", "remove the filter");
    }
    if found.cors.is_some() {
        at.fail(report, "a GRPCRoute has no filter CORS", "remove the filter");
    }
    let ranks = if ranks.is_empty() { vec![Rank::default()] } else { ranks };
    Some(RouteRule { rule: HttpRoute { matches, ..found }, ranks })
}

fn call_match(at: &At<'_>, report: &mut Report) -> Option<(HttpMatch, Rank)> {
    let mut object = at.object(report)?;
    let method = object.field("method", report).map(|at| method(&at, report));
    let name = |at: &At<'_>, report: &mut Report| values::header_name(&at.located(report)?, report);
    let headers = named(&mut object, "headers", name, report);
    object.finish(report);
    let (uri, [service, method]) = match method {
        Some(found) => found.map(|(path, rank)| (Some(path), rank))?,
        None => (None, [0, 0]),
    };
    let rank = Rank([service, method, headers.len(), 0, 0]);
    Some((HttpMatch { uri, headers, ..HttpMatch::default() }, rank))
}

/// The path of a service, a method, or both.
fn method(at: &At<'_>, report: &mut Report) -> Option<(PathMatch, [usize; 2])> {
    let mut object = at.object(report)?;
    let kind = text_match_kind(&mut object, report);
    let mut part = |name, report: &mut Report| match (object.field(name, report), kind) {
        (Some(at), Some(TextKind::Regex)) => values::regex(&at, report).map(Some),
        (Some(at), _) => exact(&at, report).map(Some),
        (None, _) => Some(None),
    };
    let service = part("service", report);
    let method = part("method", report);
    object.finish(report);
    let (service, method) = (service?, method?);
    let length = |part: &Option<Arc<str>>| part.as_ref().map_or(0, |text| text.chars().count());
    let rank = [length(&service), length(&method)];
    let any = || "[^/]+".to_owned();
    let path = match (kind?, service, method) {
        (_, None, None) => {
            at.fail(report, "names neither service nor method", "name one of the two");
            return None;
        }
        (TextKind::Exact, Some(service), Some(method)) => {
            PathMatch::Exact(format!("/{service}/{method}").into())
        }
        (TextKind::Exact, Some(service), None) => PathMatch::Prefix(format!("/{service}/").into()),
        (TextKind::Exact, None, Some(method)) => {
            PathMatch::Regex(format!("/{}/{}", any(), regex::escape(&method)).into())
        }
        (TextKind::Regex, service, method) => {
            let part = |text: Option<Arc<str>>| text.map_or_else(any, |text| format!("(?:{text})"));
            PathMatch::Regex(format!("/{}/{}", part(service), part(method)).into())
        }
    };
    Some((path, rank))
}

/// A name of a service or method: letters, digits, `_` and dots.
fn exact(at: &At<'_>, report: &mut Report) -> Option<Arc<str>> {
    let text = at.text(report)?;
    let fits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b));
    if !fits {
        at.fail(report, format!("{text:?} is no name of a service or method"), "letters, digits, _ and dots");
        return None;
    }
    Some(text)
}
