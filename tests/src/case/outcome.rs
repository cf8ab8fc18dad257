//! What came of a case at one dataplane, as text by field; what differs from another's; what differs from what was expected.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, Expect};
use crate::{access_log::Entry, backend::Seen, client::Answer};

/// Headers that are no part of the comparison, on either side, with the reason.
pub const IGNORED: [(&str, &str); 14] = [
    ("date", "Envoy adds one"),
    ("server", "Envoy names itself"),
    ("connection", "concerns one hop"),
    ("keep-alive", "concerns one hop"),
    ("transfer-encoding", "concerns one hop"),
    ("x-envoy-upstream-service-time", "Envoy's own measure; our logs and metrics have it"),
    ("x-envoy-expected-rq-timeout-ms", "our proxy tells upstreams nothing about its configuration"),
    ("x-envoy-original-path", "our proxy tells upstreams nothing about its configuration"),
    ("x-envoy-original-host", "our proxy tells upstreams nothing about its configuration"),
    ("x-envoy-internal", "our proxy tells upstreams nothing about its configuration"),
    ("x-envoy-external-address", "x-forwarded-for says the same"),
    ("x-echo-id", "names the dataplane"),
    ("x-echo-service", "is the origin"),
    ("x-echo-version", "is the origin"),
];

/// Headers whose values are random: only their presence counts.
const RANDOM: [&str; 1] = ["x-request-id"];

/// What came of a case.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Text by field: `status`, `flags`, `header x-a`, `seen path`, `seen header x-a`, and so on.
    pub fields: BTreeMap<String, String>,
    /// How often each version answered.
    pub versions: BTreeMap<String, u32>,
    /// How often each status was answered.
    pub statuses: BTreeMap<u16, u32>,
    /// How many versions were asked.
    pub tried: usize,
}

/// A field that is not as it should be.
#[derive(Debug)]
pub struct Wrong {
    /// The field.
    pub field: String,
    /// What is wrong.
    pub text: String,
}

impl Outcome {
    /// Puts a field.
    pub fn put(&mut self, field: impl Into<String>, value: impl ToString) {
        self.fields.insert(field.into(), value.to_string());
    }

    /// Takes in an answer. `single` is whether its service has one version only.
    pub fn answer(&mut self, answer: &Answer, single: impl Fn(&str) -> bool) {
        self.put("status", answer.status.as_u16());
        let names: BTreeSet<&str> = answer.headers.keys().map(http::HeaderName::as_str).collect();
        for name in names {
            self.header("header", name, answer.header(name).unwrap_or_default());
        }
        for (name, value) in &answer.trailers {
            self.put(format!("trailer {name}"), value);
        }
        let service = answer.header("x-echo-service");
        match &service {
            Some(service) if single(service) => {
                self.put("origin", format!("{service}@{}", answer.version()));
            }
            Some(service) => self.put("origin", service),
            None => self.put("origin", "proxy"),
        }
        if service.is_none() {
            self.put("body", String::from_utf8_lossy(&answer.body));
        } else {
            // What a backend says of the request it saw has the length of that.
            self.fields.remove("header content-length");
        }
    }

    /// Takes in what the backend saw last, and how often it was asked.
    pub fn seen(&mut self, seen: &[Seen]) {
        self.put("attempts", seen.len());
        self.tried = seen.iter().map(|seen| &seen.version).collect::<BTreeSet<_>>().len();
        if let Some(seen) = seen.last() {
            self.arrival("seen", seen);
        }
    }

    /// Forgets what backends saw of a header.
    pub fn forget(&mut self, header: &str) {
        let end = format!(" header {header}");
        self.fields.retain(|field, _| field.starts_with("header ") || !field.ends_with(&end));
    }

    /// Takes in what a backend saw that got a copy, or that none came.
    pub fn copy(&mut self, to: &str, seen: Option<&Seen>) {
        match seen {
            Some(seen) => self.arrival(&format!("copy {to}"), seen),
            None => self.put(format!("copy {to}"), "none came"),
        }
    }

    fn arrival(&mut self, what: &str, seen: &Seen) {
        self.put(format!("{what} method"), &seen.method);
        self.put(format!("{what} path"), &seen.path);
        self.put(format!("{what} host"), &seen.host);
        self.put(format!("{what} protocol"), &seen.protocol);
        self.put(format!("{what} body bytes"), seen.body_bytes);
        for (name, values) in &seen.headers {
            if name != "host" {
                self.header(&format!("{what} header"), name, values.join(","));
            }
        }
        for (name, value) in &seen.trailers {
            self.put(format!("{what} trailer {name}"), value);
        }
    }

    /// Takes in what the access log says; of several requests what all of them say.
    pub fn logged(&mut self, entries: &[Entry]) {
        let mut flags: BTreeSet<String> = BTreeSet::new();
        let mut details: BTreeSet<String> = BTreeSet::new();
        for entry in entries {
            flags.insert(entry.flags.clone());
            details.insert(plain_details(entry.details.as_deref().unwrap_or("-")));
        }
        let joined = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(" ");
        self.put("flags", joined(flags));
        self.put("details", joined(details));
        if let [entry] = entries {
            self.put("logged status", entry.code);
            self.put("logged route", entry.route.as_deref().unwrap_or("-"));
            self.put("logged cluster", entry.cluster.as_deref().unwrap_or("-"));
            self.put("logged path", entry.path.as_deref().unwrap_or("-"));
            self.put("logged method", entry.method.as_deref().unwrap_or("-"));
            self.put("logged authority", entry.authority.as_deref().unwrap_or("-"));
            self.put("logged protocol", entry.protocol.as_deref().unwrap_or("-"));
            self.put("logged received", entry.received);
        }
    }

    fn header(&mut self, side: &str, name: &str, value: String) {
        if IGNORED.iter().any(|(ignored, _)| *ignored == name) {
            return;
        }
        let value = if RANDOM.contains(&name) { "(random)".to_owned() } else { value };
        self.put(format!("{side} {name}"), value);
    }

    fn get(&self, field: &str) -> Option<&str> {
        self.fields.get(field).map(String::as_str)
    }

    /// The fields that are not as in `other`; of those that are chance only that they are there.
    pub fn against(&self, other: &Self, random: &[String]) -> Vec<Wrong> {
        let fields: BTreeSet<&String> = self.fields.keys().chain(other.fields.keys()).collect();
        let differing = fields.into_iter().filter(|field| {
            let (ours, theirs) = (self.get(field), other.get(field));
            if random.contains(field) { ours.is_some() != theirs.is_some() } else { ours != theirs }
        });
        differing
            .map(|field| Wrong {
                field: field.clone(),
                text: format!("weft {:?}, envoy {:?}", self.get(field), other.get(field)),
            })
            .collect()
    }

    /// The fields that are not as the case expects.
    pub fn check(&self, case: &Case, answer: Option<&Answer>) -> Vec<Wrong> {
        let expect = &case.expect;
        let mut wrong = Vec::new();
        let mut want = |field: &str, wanted: Option<String>| {
            if let Some(wanted) = wanted
                && self.get(field) != Some(wanted.as_str())
            {
                let text = format!("expected {wanted:?}, got {:?}", self.get(field));
                wrong.push(Wrong { field: field.to_owned(), text });
            }
        };
        want("status", expect.status.as_ref().map(ToString::to_string));
        want("flags", expect.flags.clone());
        want("seen method", expect.method.clone());
        want("seen path", expect.path.clone());
        want("seen host", expect.host.clone());
        want("seen body bytes", expect.body_bytes.map(|bytes| bytes.to_string()));
        want("attempts", expect.attempts.map(|attempts| attempts.to_string()));
        want("greeting", expect.greeting.clone());
        for (name, value) in &expect.trailers {
            want(&format!("trailer {name}"), Some(value.clone()));
        }
        for (side, headers) in [("header", &expect.headers), ("seen header", &expect.seen)] {
            for (name, value) in headers {
                let field = format!("{side} {name}");
                if self.get(&field) != value.as_deref() {
                    let text = format!("expected {value:?}, got {:?}", self.get(&field));
                    wrong.push(Wrong { field, text });
                }
            }
        }
        let lost =
            expect.copies.iter().map(|to| format!("copy {to}")).filter(|field| self.get(field).is_some());
        wrong.extend(lost.map(|field| Wrong { field, text: "expected a copy, got none".to_owned() }));
        self.check_body(expect, answer, &mut wrong);
        self.check_shares(expect, &mut wrong);
        wrong
    }

    fn check_body(&self, expect: &Expect, answer: Option<&Answer>, wrong: &mut Vec<Wrong>) {
        let mut want = |field: &str, right: bool, text: String| {
            if !right {
                wrong.push(Wrong { field: field.to_owned(), text });
            }
        };
        let body = match answer {
            Some(answer) => String::from_utf8_lossy(&answer.body).into_owned(),
            None => self.get("body").unwrap_or_default().to_owned(),
        };
        if let Some(wanted) = &expect.body {
            want("body", *wanted == body, format!("expected {wanted:?}, got {body:?}"));
        }
        if let Some(wanted) = expect.size {
            want("size", wanted == body.len(), format!("expected {wanted} bytes, got {}", body.len()));
        }
        if let Some(wanted) = &expect.from {
            let service = answer.and_then(|answer| answer.header("x-echo-service")).unwrap_or_default();
            let from = format!("{service}@{}", answer.map_or("", Answer::version));
            want("origin", *wanted == from, format!("expected {wanted:?}, got {from:?}"));
        }
    }

    fn check_shares(&self, expect: &Expect, wrong: &mut Vec<Wrong>) {
        let tolerance = expect.tolerance.unwrap_or(5.0);
        let mut want = |field: &str, name: String, wanted: f64, count: u32, of: u32| {
            let got = 100.0 * f64::from(count) / f64::from(of.max(1));
            if (got - wanted).abs() > tolerance {
                let text = format!("share of {name}: expected {wanted} %, got {got} %");
                wrong.push(Wrong { field: field.to_owned(), text });
            }
        };
        for (version, wanted) in &expect.share {
            let count = self.versions.get(version).copied().unwrap_or(0);
            want("share", version.clone(), *wanted, count, self.versions.values().sum());
        }
        for (status, wanted) in &expect.statuses {
            let count = self.statuses.get(status).copied().unwrap_or(0);
            want("statuses", status.to_string(), *wanted, count, self.statuses.values().sum());
        }
        if let Some(wanted) = expect.tried.filter(|wanted| *wanted != self.tried) {
            let text = format!("expected {wanted} versions, got {}", self.tried);
            wrong.push(Wrong { field: "tried".to_owned(), text });
        }
        if let Some(wanted) = expect.distinct
            && wanted != self.versions.len()
        {
            let text = format!("expected {wanted} versions, got {:?}", self.versions);
            wrong.push(Wrong { field: "distinct".to_owned(), text });
        }
    }
}

/// Details without what the system said underneath: `a{b|c}` is `a{b}`.
fn plain_details(details: &str) -> String {
    match details.split_once(['|', ',']) {
        Some((before, _)) if before.contains('{') => format!("{before}}}"),
        _ => details.to_owned(),
    }
}
