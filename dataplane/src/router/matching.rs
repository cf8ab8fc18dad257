//! Whether a route's conditions hold for a request. Pure.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue};

use super::{Dice, View};
use crate::spec::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch};

/// All of a fraction.
const PPM: u32 = 1_000_000;

/// Whether every condition holds.
pub(crate) fn matches(conditions: &RouteMatch, view: &View<'_>, dice: &mut impl Dice) -> bool {
    path_matches(&conditions.path, conditions.ignore_case, view.path)
        && conditions.headers.iter().all(|condition| header_matches(condition, view))
        && conditions.query.iter().all(|condition| query_matches(condition, view.query))
        && (conditions.fraction_ppm >= PPM || dice.roll(PPM) < conditions.fraction_ppm)
}

fn path_matches(condition: &PathMatch, ignore_case: bool, path: &str) -> bool {
    let path = path.as_bytes();
    match condition {
        PathMatch::Prefix(prefix) => starts_with(path, prefix, ignore_case),
        PathMatch::SegmentPrefix(prefix) => {
            starts_with(path, prefix, ignore_case) && matches!(path.get(prefix.len()), None | Some(b'/'))
        }
        PathMatch::Exact(text) => equals(path, text, ignore_case),
        PathMatch::Regex(regex) => whole(regex, path),
    }
}

/// Whether a condition on a header holds.
pub(crate) fn header_matches(condition: &HeaderMatch, view: &View<'_>) -> bool {
    holds(condition, header_value(&condition.name, view))
}

/// Whether a condition on a header holds for the lines that came under its name, each by itself: for all of them, or,
/// where doubt must not pass for a no, for any of them or for all in one, as some readers take them.
pub(crate) fn lines_match(condition: &HeaderMatch, view: &View<'_>, any: bool) -> bool {
    let all = view.headers.get_all(&condition.name);
    let several = all.iter().nth(1).is_some() && !matches!(condition.value, ValueMatch::Present(_));
    let mut lines = all.iter().map(HeaderValue::as_bytes);
    match (several, any) {
        (false, _) => header_matches(condition, view),
        (true, false) => lines.all(|line| holds(condition, Some(Cow::Borrowed(line)))),
        (true, true) => {
            lines.any(|line| holds(condition, Some(Cow::Borrowed(line)))) || header_matches(condition, view)
        }
    }
}

/// Whether a condition on a header holds where there are no headers.
pub(crate) fn absent_matches(condition: &HeaderMatch) -> bool {
    holds(condition, None)
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
pub(crate) fn header_value<'a>(name: &str, view: &View<'a>) -> Option<Cow<'a, [u8]>> {
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
    // Bytes that are no text are compared all the same: who adds one to a value does not get past a rule for it.
    match matcher {
        ValueMatch::Present(wanted) => *wanted,
        ValueMatch::Exact { text, ignore_case } => equals(value, text, *ignore_case),
        ValueMatch::Prefix { text, ignore_case } => starts_with(value, text, *ignore_case),
        ValueMatch::Suffix { text, ignore_case } => {
            let start = value.len().checked_sub(text.len());
            start.is_some_and(|start| equals(&value[start..], text, *ignore_case))
        }
        ValueMatch::Contains { text, ignore_case } => {
            text.is_empty() || value.windows(text.len()).any(|part| equals(part, text, *ignore_case))
        }
        ValueMatch::Range { start, end } => {
            let number = std::str::from_utf8(value).ok().and_then(|value| value.parse::<i64>().ok());
            number.is_some_and(|number| (*start..*end).contains(&number))
        }
        ValueMatch::Regex(regex) => whole(regex, value),
    }
}

/// Whether the regex matches from the first byte to the last, whatever its alternatives prefer.
pub(crate) fn whole(regex: &regex::bytes::Regex, value: &[u8]) -> bool {
    regex.find(value).is_some_and(|found| found.len() == value.len())
}

fn starts_with(value: &[u8], prefix: &str, ignore_case: bool) -> bool {
    value.get(..prefix.len()).is_some_and(|head| equals(head, prefix, ignore_case))
}

fn equals(value: &[u8], text: &str, ignore_case: bool) -> bool {
    if ignore_case { value.eq_ignore_ascii_case(text.as_bytes()) } else { value == text.as_bytes() }
}
