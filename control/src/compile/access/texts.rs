//! The ways in which a value of a policy may be written in a request. Pure.

use std::sync::Arc;

use crate::{
    compile::ir::{Condition, Doer, Text},
    documents::TextPattern,
};

/// How a value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// In every way that somebody could take it for, else as it is written.
    pub(super) wide: bool,
    /// Holding means that something may be done.
    pub(super) grants: bool,
}

pub(super) fn as_written(value: &TextPattern) -> Text {
    match value {
        TextPattern::Any => Text::Any,
        TextPattern::Exact(text) => Text::Exact(text.clone()),
        TextPattern::Prefix(text) => Text::Prefix(text.clone()),
        TextPattern::Suffix(text) => Text::Suffix(text.clone()),
    }
}

/// A host: read widely it is the host at any port, with or without the dot of the root.
pub(super) fn host(value: &TextPattern, reading: Reading) -> Vec<Text> {
    let with = |text: &str, end: &str| -> Arc<str> { format!("{text}{end}").into() };
    match value {
        TextPattern::Exact(text) if reading.wide && !text.contains(':') => vec![
            Text::Exact(text.clone()),
            Text::Prefix(with(text, ":")),
            Text::Exact(with(text, ".")),
            Text::Prefix(with(text, ".:")),
        ],
        TextPattern::Suffix(text) if reading.wide && !text.contains(':') => vec![
            Text::Suffix(text.clone()),
            Text::Contains(with(text, ":")),
            Text::Suffix(with(text, ".")),
            Text::Contains(with(text, ".:")),
        ],
        other => vec![as_written(other)],
    }
}

/// A header: several lines of it are looked at as one, with commas between them. Read widely the value is one of the lines
/// or of the members of a list.
pub(super) fn header(value: &TextPattern, reading: Reading) -> Vec<Text> {
    let written = as_written(value);
    if !reading.wide {
        return vec![written];
    }
    let of = |text: String| -> Arc<str> { text.into() };
    let others = match value {
        TextPattern::Any => Vec::new(),
        TextPattern::Exact(text) => vec![
            Text::Prefix(of(format!("{text},"))),
            Text::Suffix(of(format!(",{text}"))),
            Text::Suffix(of(format!(", {text}"))),
            Text::Contains(of(format!(",{text},"))),
            Text::Contains(of(format!(", {text},"))),
        ],
        TextPattern::Prefix(text) => {
            vec![Text::Contains(of(format!(",{text}"))), Text::Contains(of(format!(", {text}")))]
        }
        TextPattern::Suffix(text) => vec![Text::Contains(of(format!("{text},")))],
    };
    [written].into_iter().chain(others).collect()
}

/// For whom a token speaks: `issuer/subject`, both of which may have slashes, so that every slash may be the one between.
pub(super) fn request_principal(value: &TextPattern) -> Condition<Doer> {
    let claim = |name: &str, text| Condition::Is(Doer::Claim(vec![name.into()], text));
    let both = |issuer, subject| Condition::All(vec![claim("iss", issuer), claim("sub", subject)]);
    let splits = |text: &Arc<str>| -> Vec<(Arc<str>, Arc<str>)> {
        let whole = text.clone();
        text.match_indices('/').map(|(i, _)| (whole[..i].into(), whole[i + 1..].into())).collect()
    };
    match value {
        TextPattern::Any => both(Text::Any, Text::Any),
        TextPattern::Exact(text) => {
            let named = splits(text)
                .into_iter()
                .filter(|(issuer, subject)| !(issuer.is_empty() || subject.is_empty()));
            let ways: Vec<_> =
                named.map(|(issuer, subject)| both(Text::Exact(issuer), Text::Exact(subject))).collect();
            // Without a slash it is nobody.
            if ways.is_empty() { Condition::never() } else { Condition::some(ways) }
        }
        TextPattern::Prefix(text) => {
            let way = |(issuer, subject): (Arc<str>, Arc<str>)| {
                both(Text::Exact(issuer), if subject.is_empty() { Text::Any } else { Text::Prefix(subject) })
            };
            let named = splits(text).into_iter().filter(|(issuer, _)| !issuer.is_empty()).map(way);
            Condition::some([both(Text::Prefix(text.clone()), Text::Any)].into_iter().chain(named).collect())
        }
        TextPattern::Suffix(text) => {
            let way = |(issuer, subject): (Arc<str>, Arc<str>)| {
                both(if issuer.is_empty() { Text::Any } else { Text::Suffix(issuer) }, Text::Exact(subject))
            };
            let named = splits(text).into_iter().filter(|(_, subject)| !subject.is_empty()).map(way);
            Condition::some([both(Text::Any, Text::Suffix(text.clone()))].into_iter().chain(named).collect())
        }
    }
}
