//! `HTTPRoute`: rules for requests, each the same value as a rule of a `VirtualService`, and how specific its matches
//! are.

use std::{sync::Arc, time::Duration};

use super::{
    Rank, Route, RouteKind, RouteRule, RouteRules,
    filters::{self, Filters},
    refs,
};
use crate::documents::{
    HttpRoute,
    problem::Report,
    reader::{At, Object},
    values::{self, PathMatch, StringMatch},
    virtual_service::{HttpAction, HttpMatch, Retries},
};

/// Methods that a match may name.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// Retries where only the time of a try is said: as many as without a word (`compile::routes`).
const RETRIES: u32 = 2;

/// Reads the `spec`.
pub(in crate::documents) fn read(spec: &At<'_>, report: &mut Report) -> Option<Route> {
    let mut object = spec.object(report)?;
    let parents = refs::parents(&mut object, report);
    let hostnames = refs::hostnames(&mut object, report);
    object.unsupported(&["useDefaultGateways"], report);
    let items = object.list("rules", report);
    let mut rules: Vec<RouteRule> = items.iter().filter_map(|at| rule(at, report)).collect();
    if items.is_empty() {
        // By definition a route without rules sends everything to nowhere.
        rules.extend(empty_rule(&object));
    }
    names_differ(&rules, report);
    object.finish(report);
    Some(Route { kind: RouteKind::Http, parents, hostnames, rules: RouteRules::Http(rules) })
}

fn empty_rule(object: &Object<'_>) -> Option<RouteRule> {
    let rule = HttpRoute::new("".into(), HttpAction::Route(Vec::new()), object.place);
    Some(RouteRule { rule, ranks: vec![Rank::default()] })
}

/// Names of rules differ within a route.
pub(super) fn names_differ(rules: &[RouteRule], report: &mut Report) {
    for (i, RouteRule { rule, .. }) in rules.iter().enumerate().filter(|(_, it)| !it.rule.name.is_empty()) {
        if rules[..i].iter().any(|earlier| earlier.rule.name == rule.name) {
            let field = format!("spec.rules[{i}].name");
            report.error(rule.place, &field, format!("{:?} is used twice", rule.name), "rename one");
        }
    }
}

fn rule(at: &At<'_>, report: &mut Report) -> Option<RouteRule> {
    let mut object = at.object(report)?;
    let items = object.list("matches", report);
    let (matches, ranks): (Vec<HttpMatch>, Vec<Rank>) =
        items.iter().filter_map(|at| http_match(at, report)).unzip();
    let found = common(&mut object, report);
    let (timeout, try_timeout) = timeouts(&mut object, report);
    let retries = retries(&mut object, try_timeout, report);
    object.unsupported(&["sessionPersistence"], report);
    object.finish(report);
    let by_prefix =
        |found: &HttpMatch| matches!(found.uri, None | Some(PathMatch::Prefix(_) | PathMatch::Segments(_)));
    if found.replaces_prefix() && !matches.iter().all(by_prefix) {
        at.fail(
            report,
            "replaces a prefix, but not every match has one",
            "match by PathPrefix, or ReplaceFullPath",
        );
    }
    let ranks = if ranks.is_empty() { vec![Rank([0, 1, 0, 0, 0])] } else { ranks };
    Some(RouteRule { rule: HttpRoute { matches, timeout, retries, ..found }, ranks })
}

/// What rules of both kinds of routes for requests have: a name, filters and backends.
pub(super) fn common(object: &mut Object<'_>, report: &mut Report) -> HttpRoute {
    let name = object.field("name", report).and_then(|at| refs::label(&at, report));
    let mut filters = filters::of_rule(object, report);
    let backends = refs::backends(object, report);
    let action = match filters.redirect.take() {
        None => HttpAction::Route(backends),
        Some(redirect) => {
            if !backends.is_empty() {
                report.error(
                    object.place,
                    &object.path,
                    "redirects, and has backends",
                    "keep one of the two",
                );
            }
            HttpAction::Redirect(redirect)
        }
    };
    let name = name.map(|name| name.text).unwrap_or_default();
    let found = HttpRoute::new(name, action, object.place);
    let Filters { headers, rewrite, mirrors, cors, redirect: _ } = filters;
    HttpRoute { rewrite, headers, mirrors, cors, ..found }
}

fn http_match(at: &At<'_>, report: &mut Report) -> Option<(HttpMatch, Rank)> {
    let mut object = at.object(report)?;
    let path = object.field("path", report).map_or(Some((None, [0, 1])), |at| path(&at, report));
    let headers = named(&mut object, "headers", header_name, report);
    let query_params = named(&mut object, "queryParams", |at, report| at.text(report), report);
    let method = object.field("method", report).and_then(|at| {
        let text = at.text(report)?;
        if !METHODS.contains(&&*text) {
            at.fail(report, format!("{text:?} is no method"), METHODS.join(", "));
        }
        Some(StringMatch::Exact(text))
    });
    object.finish(report);
    let (uri, [kind, length]) = path?;
    let rank = Rank([kind, length, usize::from(method.is_some()), headers.len(), query_params.len()]);
    Some((HttpMatch { uri, method, headers, query_params, ..HttpMatch::default() }, rank))
}

/// A path match with its rank; every path is `/` as a prefix.
fn path(at: &At<'_>, report: &mut Report) -> Option<(Option<PathMatch>, [usize; 2])> {
    let mut object = at.object(report)?;
    let kind_at = object.field("type", report);
    let kind = kind_at.as_ref().and_then(|at| at.text(report)).unwrap_or("PathPrefix".into());
    let value_at = object.field("value", report);
    let value = match &value_at {
        Some(at) if &*kind == "RegularExpression" => values::regex(at, report)?,
        Some(at) => plain_path(at, report)?,
        None => "/".into(),
    };
    object.finish(report);
    let found = match &*kind {
        "Exact" => (2, PathMatch::Exact(value)),
        "RegularExpression" => (1, PathMatch::Regex(value)),
        "PathPrefix" => match value.trim_end_matches('/') {
            "" => return Some((None, [0, 1])),
            prefix => (0, PathMatch::Segments(prefix.into())),
        },
        other => {
            let at = kind_at.as_ref().unwrap_or(at);
            at.fail(report, format!("{other:?} is no path match"), "Exact, PathPrefix or RegularExpression");
            return None;
        }
    };
    let length = match &found.1 {
        PathMatch::Exact(text)
        | PathMatch::Prefix(text)
        | PathMatch::Segments(text)
        | PathMatch::Regex(text) => text.chars().count(),
    };
    Some((Some(found.1), [found.0, length]))
}

/// An absolute path that is in its normal form: no request could have another.
fn plain_path(at: &At<'_>, report: &mut Report) -> Option<Arc<str>> {
    let text = at.text(report)?;
    let odd = ["//", "/./", "/../", "%2f", "%2F", "#", "?"].into_iter().find(|part| text.contains(part));
    let odd = odd.or_else(|| ["/.", "/.."].into_iter().find(|end| text.ends_with(end)));
    match odd {
        Some(part) => {
            at.fail(report, format!("{text:?} has {part:?} in it"), "write the path in its normal form")
        }
        None if !text.starts_with('/') => at.fail(report, format!("{text:?} is no path"), "begin it with /"),
        None => return Some(text),
    }
    None
}

fn header_name(at: &At<'_>, report: &mut Report) -> Option<Arc<str>> {
    values::header_name(&at.located(report)?, report)
}

/// Values by name, each name once.
pub(super) fn named(
    object: &mut Object<'_>,
    list: &'static str,
    read_name: impl Fn(&At<'_>, &mut Report) -> Option<Arc<str>>,
    report: &mut Report,
) -> Vec<(Arc<str>, Option<StringMatch>)> {
    let mut found: Vec<(Arc<str>, Option<StringMatch>)> = Vec::new();
    for at in object.list(list, report) {
        let Some(mut object) = at.object(report) else { continue };
        let kind = text_match_kind(&mut object, report);
        let name = object.required("name", report).and_then(|at| read_name(&at, report));
        let value_at = object.required("value", report);
        object.finish(report);
        let value = value_at.and_then(|at| text_match(&at, kind?, report));
        let (Some(name), Some(value)) = (name, value) else { continue };
        if found.iter().any(|(earlier, _)| *earlier == name) {
            at.fail(report, format!("{name:?} is named twice"), "remove one");
        }
        found.push((name, Some(value)));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// How a text is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TextKind {
    Exact,
    Regex,
}

/// `type`: `Exact`, which it is when absent, or `RegularExpression`.
pub(super) fn text_match_kind(object: &mut Object<'_>, report: &mut Report) -> Option<TextKind> {
    let Some(at) = object.field("type", report) else { return Some(TextKind::Exact) };
    match &*at.text(report)? {
        "Exact" => Some(TextKind::Exact),
        "RegularExpression" => Some(TextKind::Regex),
        other => {
            at.fail(report, format!("{other:?} is no match"), "Exact or RegularExpression");
            None
        }
    }
}

fn text_match(at: &At<'_>, kind: TextKind, report: &mut Report) -> Option<StringMatch> {
    match kind {
        TextKind::Exact => at.text(report).map(StringMatch::Exact),
        TextKind::Regex => values::regex(at, report).map(StringMatch::Regex),
    }
}

/// Time for the request, and for a try.
fn timeouts(object: &mut Object<'_>, report: &mut Report) -> (Option<Duration>, Option<Duration>) {
    let Some(at) = object.field("timeouts", report) else { return (None, None) };
    let Some(mut object) = at.object(report) else { return (None, None) };
    let request = object.field("request", report).and_then(|at| at.duration(report));
    let each = object.field("backendRequest", report).and_then(|at| at.duration(report));
    object.finish(report);
    if let (Some(request), Some(each)) = (request, each)
        && !request.is_zero()
        && each > request
    {
        at.fail(report, "a try may take longer than the request", "make backendRequest the shorter");
    }
    (request, each.filter(|time| !time.is_zero()))
}

/// `retry`: on these statuses, and on what every route retries on.
fn retries(
    object: &mut Object<'_>,
    per_try_timeout: Option<Duration>,
    report: &mut Report,
) -> Option<Retries> {
    let plain = |attempts| Retries {
        attempts,
        per_try_timeout,
        retry_on: None,
        backoff: None,
        avoid_tried: true,
        leave_tried_localities: false,
    };
    let Some(at) = object.field("retry", report) else {
        return per_try_timeout.map(|_| plain(RETRIES));
    };
    let mut object = at.object(report)?;
    let codes = object.list("codes", report);
    let codes: Vec<String> =
        codes.iter().filter_map(|at| at.integer(report, 400, 599)).map(|code| code.to_string()).collect();
    let attempts = object.field("attempts", report).and_then(|at| at.integer(report, 0, 100));
    let backoff = object.field("backoff", report).and_then(|at| at.duration(report));
    object.finish(report);
    let retry_on = (!codes.is_empty())
        .then(|| format!("{},{}", crate::documents::SAFE_RETRY_ON, codes.join(",")).into());
    Some(Retries { retry_on, backoff, ..plain(attempts.unwrap_or(RETRIES)) })
}
