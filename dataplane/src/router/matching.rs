//! Whether a route's conditions hold for a request. Pure.

use std::borrow::Cow;

use http::HeaderMap;

use super::{Dice, View};
use crate::spec::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch};

/// All of a fraction.
const PPM: u32 = 1_000_000;

/// Whether every condition holds.
pub(super) fn matches(conditions: &RouteMatch, view: &View<'_>, dice: &mut impl Dice) -> bool {
    path_matches(&conditions.path, conditions.ignore_case, view.path)
        && conditions.headers.iter().all(|condition| header_matches(condition, view))
        && conditions.query.iter().all(|condition| query_matches(condition, view.query))
        && (conditions.fraction_ppm >= PPM || dice.roll(PPM) < conditions.fraction_ppm)
}

fn path_matches(condition: &PathMatch, ignore_case: bool, path: &str) -> bool {
    match condition {
        PathMatch::Prefix(prefix) => starts_with(path, prefix, ignore_case),
        PathMatch::SegmentPrefix(prefix) => {
            starts_with(path, prefix, ignore_case)
                && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
        }
        PathMatch::Exact(text) => equals(path, text, ignore_case),
        PathMatch::Regex(regex) => whole(regex, path.as_bytes()),
    }
}

/// Whether a condition on a header holds.
pub(crate) fn header_matches(condition: &HeaderMatch, view: &View<'_>) -> bool {
    holds(condition, header(&condition.name, view))
}

/// Whether a condition on a header of a response holds.
pub(crate) fn field_matches(condition: &HeaderMatch, headers: &HeaderMap) -> bool {
    holds(condition, field(&condition.name, headers))
}

fn holds(condition: &HeaderMatch, value: Option<Cow<'_, [u8]>>) -> bool {
    let value = if condition.missing_as_empty { value.or(Some(Cow::Borrowed(b""))) } else { value };
    match (&condition.value, value) {
        (ValueMatch::Present(wanted), value) => (value.is_some() == *wanted) != condition.invert,
        // What is absent matches no value, and Envoy does not turn that around either.
        (_, None) => false,
        (matcher, Some(value)) => value_matches(matcher, &value) != condition.invert,
    }
}

/// A header's value. Pseudo headers have theirs.
fn header<'a>(name: &str, view: &View<'a>) -> Option<Cow<'a, [u8]>> {
    match name {
        ":method" => Some(Cow::Borrowed(view.method.as_str().as_bytes())),
        ":authority" | "host" => Some(Cow::Borrowed(view.host.as_bytes())),
        ":scheme" => Some(Cow::Borrowed(view.scheme.as_bytes())),
        ":path" => Some(match view.query {
            None => Cow::Borrowed(view.path.as_bytes()),
            Some(query) => Cow::Owned([view.path.as_bytes(), b"?", query.as_bytes()].concat()),
        }),
        _ => field(name, view.headers),
    }
}

/// The value of a header; several are joined with a comma.
fn field<'a>(name: &str, headers: &'a HeaderMap) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    let mut joined = Cow::Borrowed(first.as_bytes());
    for value in values {
        let joined = joined.to_mut();
        joined.push(b',');
        joined.extend_from_slice(value.as_bytes());
    }
    Some(joined)
}

fn query_matches(condition: &QueryMatch, query: Option<&str>) -> bool {
    let mut pairs =
        query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let value = pairs.find(|(name, _)| *name == condition.name).map(|(_, value)| value);
    match (&condition.value, value) {
        (ValueMatch::Present(wanted), value) => value.is_some() == *wanted,
        (_, None) => false,
        (matcher, Some(value)) => value_matches(matcher, value.as_bytes()),
    }
}

/// Whether a value meets a condition.
pub(crate) fn value_matches(matcher: &ValueMatch, value: &[u8]) -> bool {
    if let ValueMatch::Regex(regex) = matcher {
        return whole(regex, value);
    }
    // Bytes that are no text match no text.
    let Ok(value) = std::str::from_utf8(value) else { return false };
    match matcher {
        ValueMatch::Present(wanted) => *wanted,
        ValueMatch::Exact { text, ignore_case } => equals(value, text, *ignore_case),
        ValueMatch::Prefix { text, ignore_case } => starts_with(value, text, *ignore_case),
        ValueMatch::Suffix { text, ignore_case } => {
            value.len() >= text.len()
                && value.as_bytes()[value.len() - text.len()..]
                    .iter()
                    .zip(text.as_bytes())
                    .all(|(a, b)| same(*a, *b, *ignore_case))
        }
        ValueMatch::Contains { text, ignore_case: false } => value.contains(text.as_str()),
        ValueMatch::Contains { text, ignore_case: true } => {
            value.to_ascii_lowercase().contains(&text.to_ascii_lowercase())
        }
        ValueMatch::Range { start, end } => value.parse::<i64>().is_ok_and(|n| (*start..*end).contains(&n)),
        ValueMatch::Regex(regex) => whole(regex, value.as_bytes()),
    }
}

/// Whether the regex matches from the first byte to the last, whatever its alternatives prefer.
pub(crate) fn whole(regex: &regex::bytes::Regex, value: &[u8]) -> bool {
    regex.find(value).is_some_and(|found| found.len() == value.len())
}

fn starts_with(value: &str, prefix: &str, ignore_case: bool) -> bool {
    if !ignore_case {
        return value.starts_with(prefix);
    }
    value.as_bytes().get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
}

fn equals(value: &str, text: &str, ignore_case: bool) -> bool {
    if ignore_case { value.eq_ignore_ascii_case(text) } else { value == text }
}

fn same(a: u8, b: u8, ignore_case: bool) -> bool {
    a == b || (ignore_case && a.eq_ignore_ascii_case(&b))
}
