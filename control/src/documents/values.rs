//! Values that several kinds share: hosts, string matches, header operations, regular expressions.

use std::sync::Arc;

use super::{
    problem::Report,
    reader::{At, Located, Object},
};

/// How text is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StringMatch {
    /// The whole text.
    Exact(Arc<str>),
    /// Its beginning.
    Prefix(Arc<str>),
    /// A regular expression on the whole text, RE2 syntax.
    Regex(Arc<str>),
}

/// How a path is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// The whole path.
    Exact(Arc<str>),
    /// Its beginning.
    Prefix(Arc<str>),
    /// Its beginning in whole segments: `/a` takes `/a` and `/a/b`, but not `/ab`. Begins with a slash and ends without.
    Segments(Arc<str>),
    /// A regular expression on the whole path, RE2 syntax.
    Regex(Arc<str>),
}

impl From<StringMatch> for PathMatch {
    fn from(text: StringMatch) -> Self {
        match text {
            StringMatch::Exact(text) => Self::Exact(text),
            StringMatch::Prefix(text) => Self::Prefix(text),
            StringMatch::Regex(text) => Self::Regex(text),
        }
    }
}

/// Changes of request and response headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HeaderOperations {
    /// Of the request.
    pub request: HeaderChanges,
    /// Of the response.
    pub response: HeaderChanges,
    /// New host of the request: what its `set` gives for `host` or `:authority`, which no proxy changes as a header.
    pub host: Option<Arc<str>>,
}

/// Changes of headers, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HeaderChanges {
    /// Overwritten.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Appended.
    pub add: Vec<(Arc<str>, Arc<str>)>,
    /// Removed.
    pub remove: Vec<Arc<str>>,
}

/// Longest host name (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

/// A host name, short name, IP address, `*` or `*.suffix`; lower case.
pub(super) fn host(at: &At<'_>, report: &mut Report) -> Option<Located> {
    checked_host(at, at.located(report)?, report)
}

/// The same of a part of a text.
pub(super) fn checked_host(at: &At<'_>, host: Located, report: &mut Report) -> Option<Located> {
    if is_host_or_pattern(&host.text) {
        return Some(Located { text: host.text.to_lowercase().into(), ..host });
    }
    at.fail(
        report,
        format!("{:?} is no host name", host.text),
        "labels of letters, digits and - joined by dots",
    );
    None
}

/// A host name without a wildcard.
pub(super) fn exact_host(at: &At<'_>, report: &mut Report) -> Option<Located> {
    let found = host(at, report)?;
    if found.text.starts_with('*') {
        at.fail(report, "a destination cannot be a wildcard", "name one service");
        return None;
    }
    Some(found)
}

/// Whether it is a host, `*.suffix` or `*`.
pub(super) fn is_host_or_pattern(text: &str) -> bool {
    text == "*" || is_host(text.strip_prefix("*.").unwrap_or(text))
}

fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= HOST_BYTES_MAX && name.split('.').all(label)
}

/// Reports every text that occurs a second time.
pub(super) fn no_duplicates(items: &[Located], what: &str, report: &mut Report) {
    for (i, item) in items.iter().enumerate() {
        if items[..i].iter().any(|earlier| earlier.text == item.text) {
            report.error(
                item.place,
                &item.field,
                format!("{what} {:?} is named twice", item.text),
                "remove one",
            );
        }
    }
}

/// `{exact: ..}`, `{prefix: ..}` or `{regex: ..}`.
pub(super) fn string_match(at: &At<'_>, report: &mut Report) -> Option<StringMatch> {
    let found = optional_match(at, report);
    if found.is_none() && report.is_clean() {
        at.fail(report, "says nothing to compare with", "add exact, prefix or regex");
    }
    found
}

/// A string match, or `{}`: whatever the value is.
pub(super) fn optional_match(at: &At<'_>, report: &mut Report) -> Option<StringMatch> {
    let mut object = at.object(report)?;
    let mut found = Vec::new();
    if let Some(at) = object.field("exact", report) {
        found.extend(at.text(report).map(StringMatch::Exact));
    }
    if let Some(at) = object.field("prefix", report) {
        found.extend(at.text(report).map(StringMatch::Prefix));
    }
    if let Some(at) = object.field("regex", report) {
        found.extend(regex(&at, report).map(StringMatch::Regex));
    }
    object.finish(report);
    if found.len() > 1 {
        at.fail(report, "compares in more than one way", "keep one of exact, prefix and regex");
    }
    found.pop()
}

/// A regular expression that both dataplanes accept: RE2 and Rust's `regex` share this syntax.
pub(super) fn regex(at: &At<'_>, report: &mut Report) -> Option<Arc<str>> {
    let text = at.text(report)?;
    match regex::Regex::new(&text) {
        Ok(_) => Some(text),
        Err(error) => {
            let error = error.to_string();
            let last = error.lines().last().unwrap_or_default();
            let why = last.trim().trim_start_matches("error: ");
            at.fail(report, format!("bad regular expression {text:?}: {why}"), "RE2 syntax is wanted");
            None
        }
    }
}

/// `http` or `https`.
pub(super) fn scheme(at: &At<'_>, report: &mut Report) -> Option<Arc<str>> {
    let text = at.text(report)?;
    if matches!(&*text, "http" | "https") {
        return Some(text);
    }
    at.fail(report, format!("{text:?} is no scheme"), "http or https");
    None
}

/// A header name, lower case. `:` names are HTTP/2's own.
pub(super) fn header_name(key: &Located, report: &mut Report) -> Option<Arc<str>> {
    match http::HeaderName::from_bytes(key.text.as_bytes()) {
        Ok(name) => Some(name.as_str().into()),
        Err(_) => {
            let hint = if key.text.starts_with(':') { "use uri, method, authority or scheme" } else { "" };
            report.error(key.place, &key.field, format!("{:?} is no header name", key.text), hint);
            None
        }
    }
}

/// The `headers` field: `{request: .., response: ..}`.
pub(super) fn headers(object: &mut Object<'_>, report: &mut Report) -> HeaderOperations {
    let Some(mut headers) = object.field("headers", report).and_then(|at| at.object(report)) else {
        return HeaderOperations::default();
    };
    let mut host = None;
    let request = changes(&mut headers, "request", Some(&mut host), report);
    let response = changes(&mut headers, "response", None, report);
    headers.finish(report);
    HeaderOperations { request, response, host }
}

/// One side's changes. Where `host` is given, `set` may name the host, which goes there.
fn changes(
    object: &mut Object<'_>,
    name: &'static str,
    host: Option<&mut Option<Arc<str>>>,
    report: &mut Report,
) -> HeaderChanges {
    let Some(mut object) = object.field(name, report).and_then(|at| at.object(report)) else {
        return HeaderChanges::default();
    };
    let set = pairs(&mut object, "set", host, report);
    let add = pairs(&mut object, "add", None, report);
    let mut remove = Vec::new();
    for at in object.list("remove", report) {
        if let Some(name) = at.located(report).and_then(|name| changed_header(&name, report)) {
            remove.push(name);
        }
    }
    remove.sort();
    object.finish(report);
    HeaderChanges { set, add, remove }
}

fn pairs(
    object: &mut Object<'_>,
    name: &'static str,
    mut host: Option<&mut Option<Arc<str>>>,
    report: &mut Report,
) -> Vec<(Arc<str>, Arc<str>)> {
    let Some(at) = object.field(name, report) else { return Vec::new() };
    let mut found = Vec::new();
    for (key, value) in at.entries(report) {
        if let Some(host) = host.as_deref_mut().filter(|_| is_authority(&key.text)) {
            *host = exact_host(&value, report).map(|new| new.text);
            continue;
        }
        let Some(name) = changed_header(&key, report) else { continue };
        found.extend(header_value(&value, report).map(|text| (name, text)));
    }
    found.sort();
    found
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

/// A header value.
pub(super) fn header_value(at: &At<'_>, report: &mut Report) -> Option<Arc<str>> {
    let text = at.text(report)?;
    if http::HeaderValue::from_str(&text).is_err() {
        at.fail(report, "is no header value", "remove control characters");
        return None;
    }
    Some(text)
}

/// A header that may be changed: Envoy refuses `host`, which is the authority.
pub(super) fn changed_header(key: &Located, report: &mut Report) -> Option<Arc<str>> {
    let name = header_name(key, report)?;
    if &*name == "host" {
        report.error(
            key.place,
            &key.field,
            "host cannot be changed as a header",
            "rewrite the authority or host name",
        );
        return None;
    }
    Some(name)
}
