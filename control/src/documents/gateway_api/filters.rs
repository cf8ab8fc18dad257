//! Reads `filters` of rules and of backends into what a rule of a `VirtualService` has for the same.

use std::sync::Arc;

use super::{cors, refs};
use crate::documents::{
    Cors, Mirror,
    problem::Report,
    reader::{At, Object, nearest},
    values::{self, HeaderChanges, HeaderOperations},
    virtual_service::{Redirect, RedirectPath, RedirectPort, Rewrite, mirror::ALL_PPM},
};

/// What the filters of a rule say.
#[derive(Default)]
pub(super) struct Filters {
    pub(super) headers: HeaderOperations,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) redirect: Option<Redirect>,
    pub(super) mirrors: Vec<Mirror>,
    pub(super) cors: Option<Cors>,
}

/// Types of filters that a rule may have.
const TYPES: [&str; 6] = [
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestMirror",
    "RequestRedirect",
    "URLRewrite",
    "CORS",
];

/// One filter: its type, and the object that the type names.
struct Filter<'a> {
    kind: Arc<str>,
    body: At<'a>,
    at: At<'a>,
}

/// The filters of a rule.
pub(super) fn of_rule(object: &mut Object<'_>, report: &mut Report) -> Filters {
    let mut found = Filters::default();
    for filter in filters(object, report) {
        match &*filter.kind {
            "RequestHeaderModifier" => found.headers.request = changes(&filter.body, report),
            "ResponseHeaderModifier" => found.headers.response = changes(&filter.body, report),
            "RequestRedirect" => found.redirect = redirect(&filter.body, report),
            "URLRewrite" => found.rewrite = rewrite(&filter.body, report),
            "RequestMirror" => found.mirrors.extend(mirror(&filter.body, report)),
            "CORS" => found.cors = cors::read(&filter.body, report),
            other => filter.at.fail(report, format!("filter {other} is not supported"), "remove it"),
        }
    }
    if let (Some(_), Some(_)) = (&found.redirect, &found.rewrite) {
        report.error(object.place, &object.path, "both redirects and rewrites", "keep one of the filters");
    }
    found
}

/// The filters of a backend: changes of headers, and of the host.
pub(super) fn of_backend(object: &mut Object<'_>, report: &mut Report) -> HeaderOperations {
    let mut found = HeaderOperations::default();
    for filter in filters(object, report) {
        match &*filter.kind {
            "RequestHeaderModifier" => found.request = changes(&filter.body, report),
            "ResponseHeaderModifier" => found.response = changes(&filter.body, report),
            "URLRewrite" => {
                let rewrite = rewrite(&filter.body, report).unwrap_or_default();
                if rewrite.uri.is_some() || rewrite.uri_regex.is_some() {
                    filter.body.fail(report, "a backend cannot rewrite the path", "do it in the rule");
                }
                found.host = rewrite.authority;
            }
            other => {
                let hint = "give it to the rule, or split the rule";
                filter.at.fail(report, format!("filter {other} is not supported for a single backend"), hint);
            }
        }
    }
    found
}

/// Every filter of a list, each type once; mirrors may be several.
fn filters<'a>(object: &mut Object<'a>, report: &mut Report) -> Vec<Filter<'a>> {
    let mut found: Vec<Filter<'a>> = Vec::new();
    for at in object.list("filters", report) {
        let Some(filter) = filter(at, report) else { continue };
        let twice = found.iter().any(|earlier| earlier.kind == filter.kind);
        if twice && &*filter.kind != "RequestMirror" {
            filter.at.fail(report, format!("filter {} is given twice", filter.kind), "keep one");
        }
        found.push(filter);
    }
    found
}

fn filter<'a>(at: At<'a>, report: &mut Report) -> Option<Filter<'a>> {
    let mut object = at.object(report)?;
    let kind_at = object.required("type", report)?;
    let kind = kind_at.text(report)?;
    let field = match &*kind {
        "RequestHeaderModifier" => "requestHeaderModifier",
        "ResponseHeaderModifier" => "responseHeaderModifier",
        "RequestMirror" => "requestMirror",
        "RequestRedirect" => "requestRedirect",
        "URLRewrite" => "urlRewrite",
        "CORS" => "cors",
        "ExtensionRef" => {
            kind_at.fail(
                report,
                "filters of other APIs are not supported",
                "use one of the standard filters",
            );
            return None;
        }
        "ExternalAuth" => {
            kind_at.fail(report, "ExternalAuth is not supported", "remove it");
            return None;
        }
        other => {
            kind_at.fail(report, format!("{other:?} is no filter"), nearest(other, &TYPES));
            return None;
        }
    };
    let body = object.required(field, report);
    object.finish(report);
    Some(Filter { kind, body: body?, at })
}

/// `{set: [{name: .., value: ..}], add: [..], remove: [..]}`.
fn changes(at: &At<'_>, report: &mut Report) -> HeaderChanges {
    let Some(mut object) = at.object(report) else { return HeaderChanges::default() };
    let set = pairs(&mut object, "set", report);
    let add = pairs(&mut object, "add", report);
    let removed = object.list("remove", report);
    let removed = removed.iter().filter_map(|at| values::changed_header(&at.located(report)?, report));
    let mut remove: Vec<Arc<str>> = removed.collect();
    remove.sort();
    object.finish(report);
    HeaderChanges { set, add, remove }
}

fn pairs(object: &mut Object<'_>, list: &'static str, report: &mut Report) -> Vec<(Arc<str>, Arc<str>)> {
    let mut found: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    for at in object.list(list, report) {
        let Some(mut object) = at.object(report) else { continue };
        let name_at = object.required("name", report);
        let value_at = object.required("value", report);
        object.finish(report);
        let name = name_at.and_then(|at| values::changed_header(&at.located(report)?, report));
        let value = value_at.and_then(|at| values::header_value(&at, report));
        let (Some(name), Some(value)) = (name, value) else { continue };
        if found.iter().any(|(earlier, _)| *earlier == name) {
            at.fail(report, format!("header {name:?} is named twice"), "remove one");
        }
        found.push((name, value));
    }
    found.sort();
    found
}

/// A backend that gets copies of all requests, of a percentage, or of a fraction.
fn mirror(at: &At<'_>, report: &mut Report) -> Option<Mirror> {
    let mut object = at.object(report)?;
    let to = object.required("backendRef", report).and_then(|at| refs::mirrored(&at, report));
    let percent = object.field("percent", report).and_then(|at| at.integer(report, 0, 100));
    let fraction_at = object.field("fraction", report);
    let fraction = fraction_at.as_ref().and_then(|at| fraction(at, report));
    object.finish(report);
    if let (Some(at), Some(_)) = (&fraction_at, percent) {
        at.fail(report, "percent is given too", "keep one of percent and fraction");
    }
    let ppm = fraction.or(percent.map(|percent| percent * (ALL_PPM / 100))).unwrap_or(ALL_PPM);
    let to = to?;
    Some(Mirror { host: to.host, subset: None, port: to.port, ppm, namespace: None, backend: to.backend })
}

/// `{numerator: .., denominator: ..}` in millionths; without a denominator of a hundred.
fn fraction(at: &At<'_>, report: &mut Report) -> Option<u32> {
    let mut object = at.object(report)?;
    let numerator = object.required("numerator", report).and_then(|at| at.integer(report, 0, u32::MAX));
    let denominator = object.field("denominator", report).and_then(|at| at.integer(report, 1, u32::MAX));
    object.finish(report);
    let (numerator, denominator) = (numerator?, denominator.unwrap_or(100));
    if numerator > denominator {
        at.fail(report, "is more than all", "make numerator the smaller");
        return None;
    }
    u32::try_from(u64::from(numerator) * u64::from(ALL_PPM) / u64::from(denominator)).ok()
}

/// What a filter does to the path.
enum Path {
    Full(Arc<str>),
    Prefix(Arc<str>),
}

fn path(object: &mut Object<'_>, report: &mut Report) -> Option<Path> {
    let at = object.field("path", report)?;
    let mut object = at.object(report)?;
    let kind_at = object.required("type", report)?;
    let kind = kind_at.text(report)?;
    let found = match &*kind {
        "ReplaceFullPath" => {
            let text = object.required("replaceFullPath", report).and_then(|at| at.text(report));
            text.map(|text| Path::Full(if text.is_empty() { "/".into() } else { text }))
        }
        "ReplacePrefixMatch" => {
            let text = object.required("replacePrefixMatch", report).and_then(|at| at.text(report));
            // Segments are replaced by segments: the slash after them belongs to what follows.
            text.map(|text| Path::Prefix(text.trim_end_matches('/').into()))
        }
        other => {
            let hint = "ReplaceFullPath or ReplacePrefixMatch";
            kind_at.fail(report, format!("{other:?} is no change of a path"), hint);
            None
        }
    };
    object.finish(report);
    if let Some(Path::Full(text) | Path::Prefix(text)) = &found
        && !text.is_empty()
        && !text.starts_with('/')
    {
        at.fail(report, format!("{text:?} is no path"), "begin it with /");
    }
    found
}

fn rewrite(at: &At<'_>, report: &mut Report) -> Option<Rewrite> {
    let mut object = at.object(report)?;
    let authority = object.field("hostname", report).and_then(|at| values::exact_host(&at, report));
    let mut found = Rewrite { authority: authority.map(|host| host.text), ..Rewrite::default() };
    match path(&mut object, report) {
        // A backslash begins a reference to a group.
        Some(Path::Full(text)) => found.uri_regex = Some(("^.*$".into(), text.replace('\\', "\\\\").into())),
        Some(Path::Prefix(text)) => found.uri = Some(text),
        None => {}
    }
    object.finish(report);
    Some(found)
}

fn redirect(at: &At<'_>, report: &mut Report) -> Option<Redirect> {
    let mut object = at.object(report)?;
    let code_at = object.field("statusCode", report);
    let code = code_at.as_ref().and_then(|at| at.integer(report, 0, u32::MAX)).unwrap_or(302);
    if let (Some(at), false) = (&code_at, matches!(code, 301 | 302 | 303 | 307 | 308)) {
        at.fail(report, format!("{code} is no redirect"), "301, 302, 303, 307 and 308 are");
    }
    let mut found = Redirect {
        path: None,
        scheme: object.field("scheme", report).and_then(|at| values::scheme(&at, report)),
        authority: object
            .field("hostname", report)
            .and_then(|at| values::exact_host(&at, report))
            .map(|host| host.text),
        port: object.field("port", report).and_then(|at| at.port(report)).map(RedirectPort::Number),
        code: u16::try_from(code).unwrap_or(302),
    };
    match path(&mut object, report) {
        Some(Path::Full(text)) => found.path = Some(RedirectPath::Full(text)),
        Some(Path::Prefix(text)) => found.path = Some(RedirectPath::Prefix(text)),
        None => {}
    }
    object.finish(report);
    Some(found)
}
