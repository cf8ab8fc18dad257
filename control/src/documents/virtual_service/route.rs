//! Reads one rule of a `VirtualService`: when it applies, and that it does one thing.

use std::sync::Arc;

use super::{HttpAction, HttpMatch, HttpRoute, Source, action, cors, fault, mirror};
use crate::documents::{
    problem::Report,
    reader::{At, Object},
    values::{self, PathMatch, StringMatch},
};

pub(super) fn read(at: &At<'_>, report: &mut Report) -> Option<HttpRoute> {
    let mut object = at.object(report)?;
    let name = object.field("name", report).and_then(|at| at.text(report)).unwrap_or_default();
    let matches = object.list("match", report).iter().filter_map(|at| http_match(at, report)).collect();
    let destinations = object.field("route", report).map(|at| (action::destinations(&at, report), at));
    let redirect = object.field("redirect", report).map(|at| (action::redirect(&at, report), at));
    let direct = object.field("directResponse", report).map(|at| (action::direct_response(&at, report), at));
    let rewrite =
        object.field("rewrite", report).and_then(|at| Some((action::rewrite(&at, report)?, at.place)));
    let timeout = object.field("timeout", report).and_then(|at| at.duration(report));
    let retries = object.field("retries", report).and_then(|at| action::retries(&at, report));
    let headers = values::headers(&mut object, report);
    let fault = object.field("fault", report).and_then(|at| fault::read(&at, report));
    let mirrors = mirror::read(&mut object, report);
    let cors = object.field("corsPolicy", report).and_then(|at| cors::read(&at, report));
    let delegate = object.field("delegate", report).map(|at| (action::delegate(&at, report), at));
    let place = object.place;
    let path = object.path.clone();
    object.finish(report);
    if let (Some((_, place)), true) = (&rewrite, redirect.is_some() || direct.is_some()) {
        let field = format!("{path}.rewrite");
        report.error(*place, &field, "only a rule with route can rewrite", "remove it");
    }
    let action = match (destinations, redirect, direct, delegate) {
        (Some((found, _)), None, None, None) => HttpAction::Route(found?),
        (None, Some((found, _)), None, None) => HttpAction::Redirect(found?),
        (None, None, Some((found, _)), None) => HttpAction::Direct(found?),
        (None, None, None, Some((found, _))) => HttpAction::Delegate(found?),
        (None, None, None, None) => {
            report.error(place, &path, "does nothing", "add route, redirect, directResponse or delegate");
            return None;
        }
        (_, _, _, Some((_, at))) | (_, Some((_, at)), _, None) | (_, _, Some((_, at)), None) => {
            at.fail(
                report,
                "a rule does one thing",
                "keep one of route, redirect, directResponse and delegate",
            );
            return None;
        }
    };
    let rewrite = rewrite.map(|(rewrite, _)| rewrite);
    Some(HttpRoute {
        matches,
        rewrite,
        timeout,
        retries,
        headers,
        fault,
        mirrors,
        cors,
        ..HttpRoute::new(name, action, place)
    })
}

/// `sourceNamespace` and `sourceLabels`.
pub(super) fn source(object: &mut Object<'_>, report: &mut Report) -> Source {
    let namespace = object.field("sourceNamespace", report).and_then(|at| at.text(report));
    let labels = object.field("sourceLabels", report).map(|at| at.labels(report));
    Source {
        namespace: namespace.filter(|namespace| !namespace.is_empty()),
        labels: labels.unwrap_or_default(),
    }
}

fn http_match(at: &At<'_>, report: &mut Report) -> Option<HttpMatch> {
    let mut object = at.object(report)?;
    let mut one = |name, report: &mut Report| {
        let at = object.field(name, report)?;
        values::string_match(&at, report)
    };
    let uri = one("uri", report).map(PathMatch::from);
    let scheme = one("scheme", report);
    let method = one("method", report);
    let authority = one("authority", report);
    let headers = header_matches(&mut object, "headers", report);
    let without_headers = header_matches(&mut object, "withoutHeaders", report);
    let query_params = matches_by_name(&mut object, "queryParams", report);
    let ignore_case = object.field("ignoreUriCase", report);
    let ignore_uri_case = ignore_case.as_ref().and_then(|at| at.boolean(report)).unwrap_or_default();
    let found = HttpMatch {
        name: object.field("name", report).and_then(|at| at.text(report)).unwrap_or_default(),
        uri,
        ignore_uri_case,
        scheme,
        method,
        authority,
        headers,
        without_headers,
        query_params,
        port: object.field("port", report).and_then(|at| at.port(report)),
        gateways: object.list("gateways", report).iter().filter_map(|at| at.located(report)).collect(),
        stat_prefix: object.field("statPrefix", report).and_then(|at| at.text(report)),
        source: source(&mut object, report),
    };
    object.finish(report);
    Some(found)
}

type NamedMatch = (Arc<str>, Option<StringMatch>);

fn matches_by_name(object: &mut Object<'_>, name: &'static str, report: &mut Report) -> Vec<NamedMatch> {
    let Some(at) = object.field(name, report) else { return Vec::new() };
    let mut found: Vec<NamedMatch> = Vec::new();
    for (key, value) in at.entries(report) {
        found.push((key.text, values::optional_match(&value, report)));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn header_matches(object: &mut Object<'_>, name: &'static str, report: &mut Report) -> Vec<NamedMatch> {
    let Some(at) = object.field(name, report) else { return Vec::new() };
    let mut found: Vec<NamedMatch> = Vec::new();
    for (key, value) in at.entries(report) {
        if let Some(header) = values::header_name(&key, report) {
            found.push((header, values::optional_match(&value, report)));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}
