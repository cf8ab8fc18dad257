//! Which pages of other origins may use what a rule routes to.

use std::{sync::Arc, time::Duration};

use crate::documents::{
    problem::Report,
    reader::{At, Object, nearest},
    values::{self, StringMatch},
};

/// A policy of cross-origin resource sharing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cors {
    /// Origins that are allowed; any that matches counts.
    pub origins: Vec<StringMatch>,
    /// Methods that a page may use.
    pub methods: Vec<Arc<str>>,
    /// Request headers that a page may set.
    pub headers: Vec<Arc<str>>,
    /// Response headers that a page may read.
    pub expose: Vec<Arc<str>>,
    /// How long a browser may remember the answer to a preflight, in whole seconds.
    pub max_age: Option<Duration>,
    /// Whether a page may send cookies and the like; none says nothing of it.
    pub credentials: Option<bool>,
    /// Whether preflights of origins that are not allowed go to the service.
    pub forward_unmatched: bool,
}

const UNMATCHED: [&str; 3] = ["UNSPECIFIED", "FORWARD", "IGNORE"];

pub(super) fn read(at: &At<'_>, report: &mut Report) -> Option<Cors> {
    let mut object = at.object(report)?;
    let mut origins: Vec<StringMatch> = Vec::new();
    for at in object.list("allowOrigins", report) {
        origins.extend(values::string_match(&at, report));
    }
    let old = object.field("allowOrigin", report);
    if let (Some(at), false) = (&old, origins.is_empty()) {
        at.fail(report, "allowOrigins is given too", "keep allowOrigins");
    }
    for at in old.map(|at| at.list(report)).unwrap_or_default() {
        origins.extend(at.text(report).map(StringMatch::Exact));
    }
    let forward_unmatched = object.field("unmatchedPreflights", report).and_then(|at| {
        let text = at.text(report)?;
        if !UNMATCHED.contains(&&*text) {
            at.fail(report, format!("{text:?} is unknown"), nearest(&text, &UNMATCHED));
        }
        Some(&*text != "IGNORE")
    });
    let found = Cors {
        origins,
        methods: tokens(&mut object, "allowMethods", report),
        headers: tokens(&mut object, "allowHeaders", report),
        expose: tokens(&mut object, "exposeHeaders", report),
        max_age: object.field("maxAge", report).and_then(|at| at.duration(report)),
        credentials: object.field("allowCredentials", report).and_then(|at| at.boolean(report)),
        forward_unmatched: forward_unmatched.unwrap_or(true),
    };
    object.finish(report);
    Some(found)
}

/// Names of methods or headers, `*` among them.
pub(in crate::documents) fn tokens(
    object: &mut Object<'_>,
    name: &'static str,
    report: &mut Report,
) -> Vec<Arc<str>> {
    let mut found = Vec::new();
    for at in object.list(name, report) {
        let Some(text) = at.text(report) else { continue };
        match http::Method::from_bytes(text.as_bytes()) {
            Ok(_) => found.push(text),
            Err(_) => at.fail(report, format!("{text:?} is no name"), "one name in each entry"),
        }
    }
    found
}
