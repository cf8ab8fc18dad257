//! Which requests a limit counts, and what of them is counted apart.

use std::sync::Arc;

use super::super::{
    problem::Report,
    reader::{At, Object, nearest},
    values::{self, StringMatch},
};

/// Most things that one limit tells apart.
const KEYS_MAX: usize = 3;
/// Longest name of a rule.
const NAME_BYTES_MAX: usize = 63;

/// Which requests a limit counts, and what is counted apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LimitSubject {
    /// Which requests.
    pub matches: LimitMatch,
    /// What each has a count of its own for: every combination of values. Requests that lack one are counted together.
    pub keys: Vec<LimitKey>,
}

/// Conditions on a request, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LimitMatch {
    /// The path without its query.
    pub path: Option<LimitPath>,
    /// The method.
    pub method: Option<Arc<str>>,
    /// The host, or `*.suffix`, at any port.
    pub host: Option<Arc<str>>,
    /// Headers by lower case name.
    pub headers: Vec<(Arc<str>, StringMatch)>,
}

/// A condition on a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LimitPath {
    /// The whole path.
    Exact(Arc<str>),
    /// Its beginning.
    Prefix(Arc<str>),
}

/// What a limit counts apart, in the words of Istio's conditions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LimitKey {
    /// `source.principal`: who calls, as its certificate proves.
    Principal,
    /// `remote.ip`: the client's address, as proxies before us tell.
    RemoteIp,
    /// `request.path`: the path without its query.
    Path,
    /// `request.method`.
    Method,
    /// `request.host`.
    Host,
    /// `route.name`: the route's name, at a gateway.
    Route,
    /// `request.headers[NAME]`, lower case.
    Header(Arc<str>),
}

impl LimitKey {
    /// All but headers, each with its word.
    const WORDS: [(&'static str, Self); 6] = [
        ("source.principal", Self::Principal),
        ("remote.ip", Self::RemoteIp),
        ("request.path", Self::Path),
        ("request.method", Self::Method),
        ("request.host", Self::Host),
        ("route.name", Self::Route),
    ];
}

/// The `match` and `key` fields.
pub(super) fn read(object: &mut Object<'_>, report: &mut Report) -> LimitSubject {
    let matches = object.field("match", report).and_then(|at| matches(&at, report)).unwrap_or_default();
    let mut keys: Vec<LimitKey> = Vec::new();
    if let Some(at) = object.field("key", report) {
        let items = at.list(report);
        match items.len() {
            0 => at.fail(report, "is empty", "remove it: one count for all is the default"),
            1..=KEYS_MAX => {}
            _ => at.fail(report, format!("more than {KEYS_MAX} keys"), "write several rules"),
        }
        for at in items {
            let Some(key) = key(&at, report) else { continue };
            if keys.contains(&key) {
                at.fail(report, "is named twice", "remove one");
            }
            keys.push(key);
        }
    }
    LimitSubject { matches, keys }
}

fn matches(at: &At<'_>, report: &mut Report) -> Option<LimitMatch> {
    let mut object = at.object(report)?;
    let path = object.field("path", report).and_then(|at| path(&at, report));
    let method = object.field("method", report).and_then(|at| method(&at, report));
    let host = object.field("host", report).and_then(|at| {
        let host = values::host(&at, report)?;
        if &*host.text == "*" {
            at.fail(report, "is every host", "remove it");
        }
        Some(host.text)
    });
    let mut headers = Vec::new();
    for (name, at) in object.field("headers", report).map(|at| at.entries(report)).unwrap_or_default() {
        let name = values::header_name(&name, report);
        headers.extend(name.zip(values::string_match(&at, report)));
    }
    headers.sort_by(|(a, _), (b, _)| a.cmp(b));
    object.finish(report);
    let found = LimitMatch { path, method, host, headers };
    if found == LimitMatch::default() && report.is_clean() {
        at.fail(report, "says nothing", "remove it: every request is the default");
    }
    Some(found)
}

fn path(at: &At<'_>, report: &mut Report) -> Option<LimitPath> {
    let mut object = at.object(report)?;
    // An expression could look past the path, at a query that callers add to get around it.
    object.unsupported(&["regex"], report);
    let mut text = |name, report: &mut Report| {
        let at = object.field(name, report)?;
        let text = at.text(report)?;
        if !text.starts_with('/') || text.contains(['?', '#']) {
            at.fail(report, format!("{text:?} is no path"), "it begins with / and has no query");
        }
        Some(text)
    };
    let (exact, prefix) = (text("exact", report), text("prefix", report));
    object.finish(report);
    match (exact, prefix) {
        (Some(text), None) => Some(LimitPath::Exact(text)),
        (None, Some(text)) => Some(LimitPath::Prefix(text)),
        (Some(_), Some(_)) => {
            at.fail(report, "compares in more than one way", "keep one of exact and prefix");
            None
        }
        (None, None) => {
            at.fail(report, "says nothing to compare with", "add exact or prefix");
            None
        }
    }
}

fn method(at: &At<'_>, report: &mut Report) -> Option<Arc<str>> {
    let text = at.text(report)?;
    if http::Method::from_bytes(text.as_bytes()).is_err() {
        at.fail(report, format!("{text:?} is no method"), "");
    }
    Some(text)
}

fn key(at: &At<'_>, report: &mut Report) -> Option<LimitKey> {
    let located = at.located(report)?;
    let text = &*located.text;
    if let Some(name) = text.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']')) {
        let name = super::super::Located { text: name.into(), ..located.clone() };
        return values::header_name(&name, report).map(LimitKey::Header);
    }
    let found = LimitKey::WORDS.into_iter().find(|(word, _)| *word == text);
    if found.is_none() {
        let mut known: Vec<&str> = LimitKey::WORDS.iter().map(|(word, _)| *word).collect();
        known.push("request.headers[NAME]");
        at.fail(report, format!("{text:?} is no key"), nearest(text, &known));
    }
    found.map(|(_, key)| key)
}

/// A name that logs, metrics and counters carry.
pub(super) fn rule_name(at: &At<'_>, report: &mut Report) -> Option<Arc<str>> {
    let text = at.text(report)?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(fits) {
        let hint = format!("letters, digits, -, _ and ., at most {NAME_BYTES_MAX}");
        at.fail(report, format!("{text:?} is no name"), hint);
        return None;
    }
    Some(text)
}
