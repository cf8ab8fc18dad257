//! Strict reading of a located tree: every field is asked for by name, and what nobody asked for is an error.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use super::{
    duration,
    problem::Report,
    tree::{Node, Place, Value},
};

/// Text with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The text.
    pub text: Arc<str>,
    /// Where it stands.
    pub place: Place,
    /// Path of the field that holds it.
    pub field: String,
}

/// A value and the path that leads to it.
pub(super) struct At<'a> {
    node: &'a Node,
    pub(super) path: String,
    pub(super) place: Place,
}

impl<'a> At<'a> {
    pub(super) fn new(node: &'a Node, path: &str, report: &Report) -> Self {
        Self { node, path: path.to_owned(), place: report.place(node.location) }
    }

    pub(super) fn fail(&self, report: &mut Report, message: impl Into<String>, hint: impl Into<String>) {
        report.error(self.place, &self.path, message, hint);
    }

    fn wanted(&self, report: &mut Report, wanted: &str) {
        let hint = match (&self.node.value, wanted) {
            (Value::Bool(_) | Value::Integer(_) | Value::Float(_), "a string") => "put it in quotes",
            _ => "",
        };
        self.fail(report, format!("{wanted} is wanted, not {}", self.node.value.describe()), hint);
    }

    pub(super) fn text(&self, report: &mut Report) -> Option<Arc<str>> {
        match &self.node.value {
            Value::Text(text) => Some(text.as_str().into()),
            _ => {
                self.wanted(report, "a string");
                None
            }
        }
    }

    pub(super) fn located(&self, report: &mut Report) -> Option<Located> {
        let text = self.text(report)?;
        Some(Located { text, place: self.place, field: self.path.clone() })
    }

    pub(super) fn boolean(&self, report: &mut Report) -> Option<bool> {
        match self.node.value {
            Value::Bool(value) => Some(value),
            _ => {
                self.wanted(report, "true or false");
                None
            }
        }
    }

    /// A whole number within bounds.
    pub(super) fn integer(&self, report: &mut Report, min: u32, max: u32) -> Option<u32> {
        let Value::Integer(value) = self.node.value else {
            self.wanted(report, "a whole number");
            return None;
        };
        match u32::try_from(value) {
            Ok(number) if (min..=max).contains(&number) => Some(number),
            _ => {
                self.fail(report, format!("{value} is out of range"), format!("{min} to {max} are allowed"));
                None
            }
        }
    }

    /// A number with up to three decimals, in thousandths; a whole number is taken as well.
    pub(super) fn milli(&self, report: &mut Report, min: u32, max: u32) -> Option<u32> {
        let number = match self.node.value {
            Value::Integer(number) => number as f64,
            Value::Float(number) => number,
            _ => {
                self.wanted(report, "a number");
                return None;
            }
        };
        let milli = (number * 1000.0).round();
        if (f64::from(min)..=f64::from(max)).contains(&milli) {
            return Some(milli as u32);
        }
        let allowed = format!("{} to {} are allowed", f64::from(min) / 1000.0, f64::from(max) / 1000.0);
        self.fail(report, format!("{number} is out of range"), allowed);
        None
    }

    /// A share in percent, in thousandths of a percent.
    pub(super) fn percent_milli(&self, report: &mut Report) -> Option<u32> {
        self.milli(report, 0, 100_000)
    }

    /// A share, written `{value: 12.5}` in percent, in millionths.
    pub(super) fn percentage_ppm(&self, report: &mut Report) -> Option<u32> {
        let mut object = self.object(report)?;
        let value = object.required("value", report);
        object.finish(report);
        let at = value?;
        let percent = match at.node.value {
            Value::Integer(number) => number as f64,
            Value::Float(number) => number,
            _ => {
                at.wanted(report, "a number");
                return None;
            }
        };
        if (0.0..=100.0).contains(&percent) {
            return Some((percent * 10_000.0).round() as u32);
        }
        at.fail(report, format!("{percent} is out of range"), "0 to 100 are allowed");
        None
    }

    pub(super) fn port(&self, report: &mut Report) -> Option<u16> {
        self.integer(report, 1, 65535).and_then(|port| u16::try_from(port).ok())
    }

    pub(super) fn duration(&self, report: &mut Report) -> Option<Duration> {
        let text = self.text(report)?;
        match duration::parse(&text) {
            Ok(duration) => Some(duration),
            Err(message) => {
                self.fail(report, message, "write it like 10s, 1.5s, 200ms or 1h30m");
                None
            }
        }
    }

    /// A duration that is no instant.
    pub(super) fn duration_above_zero(&self, report: &mut Report) -> Option<Duration> {
        let duration = self.duration(report)?;
        if duration.is_zero() {
            self.fail(report, "must be more than zero", "");
            return None;
        }
        Some(duration)
    }

    /// A moment (RFC 3339), in seconds since 1970.
    pub(super) fn time(&self, report: &mut Report) -> Option<i64> {
        let text = self.text(report)?;
        let since =
            humantime::parse_rfc3339(&text).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        if since.is_none() {
            self.fail(report, format!("{text:?} is no time"), "write it like 2026-01-31T12:00:00Z");
        }
        since.and_then(|since| i64::try_from(since.as_secs()).ok())
    }

    pub(super) fn list(&self, report: &mut Report) -> Vec<At<'a>> {
        let Value::List(items) = &self.node.value else {
            self.wanted(report, "a list");
            return Vec::new();
        };
        let at = |(i, node)| At::new(node, &format!("{}[{i}]", self.path), report);
        items.iter().enumerate().map(at).collect()
    }

    /// An object whose keys are data, such as labels.
    pub(super) fn entries(&self, report: &mut Report) -> Vec<(Located, At<'a>)> {
        let Value::Map(entries) = &self.node.value else {
            self.wanted(report, "an object");
            return Vec::new();
        };
        let entry = |(key, node): &'a (super::tree::Key, Node)| {
            let path = format!("{}[{}]", self.path, key.text);
            let at = At::new(node, &path, report);
            (Located { text: key.text.as_str().into(), place: report.place(key.location), field: path }, at)
        };
        entries.iter().map(entry).collect()
    }

    pub(super) fn labels(&self, report: &mut Report) -> BTreeMap<Arc<str>, Arc<str>> {
        let entries = self.entries(report);
        entries.into_iter().filter_map(|(key, value)| Some((key.text, value.text(report)?))).collect()
    }

    /// An object with a fixed set of fields.
    pub(super) fn object(&self, report: &mut Report) -> Option<Object<'a>> {
        let entries = match &self.node.value {
            Value::Map(entries) => entries.as_slice(),
            _ => {
                self.wanted(report, "an object");
                return None;
            }
        };
        Some(Object { entries, path: self.path.clone(), place: self.place, known: Vec::new() })
    }
}

/// An object being read; `finish` refuses what was not asked for.
pub(super) struct Object<'a> {
    entries: &'a [(super::tree::Key, Node)],
    pub(super) path: String,
    pub(super) place: Place,
    known: Vec<&'static str>,
}

impl<'a> Object<'a> {
    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A field; null is absent.
    pub(super) fn field(&mut self, name: &'static str, report: &Report) -> Option<At<'a>> {
        self.known.push(name);
        let (_, node) = self.entries.iter().find(|(key, _)| key.text == name)?;
        match node.value {
            Value::Null => None,
            _ => Some(At::new(node, &self.path_of(name), report)),
        }
    }

    /// A field that must be there.
    pub(super) fn required(&mut self, name: &'static str, report: &mut Report) -> Option<At<'a>> {
        let found = self.field(name, report);
        if found.is_none() {
            report.error(self.place, &self.path_of(name), "is missing", "");
        }
        found
    }

    /// The items of a list field; none when it is absent.
    pub(super) fn list(&mut self, name: &'static str, report: &mut Report) -> Vec<At<'a>> {
        self.field(name, report).map(|at| at.list(report)).unwrap_or_default()
    }

    /// Refuses fields of the kind that exist, but that nothing here implements.
    pub(super) fn unsupported(&mut self, names: &[&'static str], report: &mut Report) {
        for name in names {
            if let Some((key, _)) = self.entries.iter().find(|(key, _)| key.text == *name) {
                let (place, path) = (report.place(key.location), self.path_of(name));
                report.error(place, &path, "is not supported", "remove it");
            }
        }
        self.known.extend(names);
    }

    /// Reports every field that was not asked for.
    pub(super) fn finish(self, report: &mut Report) {
        for (key, _) in self.entries {
            if !self.known.contains(&key.text.as_str()) {
                let place = report.place(key.location);
                let path = self.path_of(&key.text);
                report.error(place, &path, "unknown field", nearest(&key.text, &self.known));
            }
        }
    }
}

/// Which known name was meant.
pub(super) fn nearest(word: &str, known: &[&str]) -> String {
    let close = known.iter().map(|name| (distance(word, name), *name)).min();
    match close {
        Some((edits, name)) if edits <= 2.max(word.len() / 3) => format!("did you mean {name}?"),
        _ => format!("known are {}", known.join(", ")),
    }
}

/// Levenshtein distance, without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}
