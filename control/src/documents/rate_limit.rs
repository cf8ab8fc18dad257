//! `RateLimitPolicy`: how many requests some workloads take, each proxy for itself.

use std::sync::Arc;

use super::{
    problem::Report,
    reader::{At, Object},
    target::{self, Scope},
};

mod subject;
#[cfg(test)]
mod tests;

pub use subject::{LimitKey, LimitMatch, LimitPath, LimitSubject};

/// Most rules of one policy.
const RULES_MAX: usize = 100;

/// How many requests some workloads take. A request is taken where every rule that is for it takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimitPolicy {
    /// Where it holds.
    pub scope: Scope,
    /// What it would refuse is counted, and taken.
    pub dry_run: bool,
    /// At least one; their names differ.
    pub rules: Vec<RateLimitRule>,
}

/// One limit.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimitRule {
    /// Its name within the policy.
    pub name: Arc<str>,
    /// Which requests it counts, and what is counted apart.
    pub subject: LimitSubject,
    /// How many.
    pub rate: Rate,
}

/// A bucket that holds `burst` tokens, one a request, and is filled evenly with `requests` in each `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Requests in a unit of time; above zero.
    pub requests: u32,
    /// The unit.
    pub per: TimeUnit,
    /// Most requests at once; above zero.
    pub burst: u32,
}

/// A unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeUnit {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl TimeUnit {
    /// Each with its word.
    const ALL: [(&'static str, Self); 4] =
        [("second", Self::Second), ("minute", Self::Minute), ("hour", Self::Hour), ("day", Self::Day)];

    /// Its length, seconds.
    pub fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
        }
    }
}

pub(super) fn read(spec: &At<'_>, report: &mut Report) -> Option<RateLimitPolicy> {
    let mut object = spec.object(report)?;
    let scope = target::scope(&mut object, report);
    let dry_run = object.field("dryRun", report).and_then(|at| at.boolean(report)).unwrap_or(false);
    let items = object.required("rules", report).map(|at| {
        let items = at.list(report);
        match items.len() {
            0 => at.fail(report, "is empty", "add a rule, or delete the policy"),
            1..=RULES_MAX => {}
            _ => at.fail(report, format!("more than {RULES_MAX} rules"), "write several policies"),
        }
        items
    });
    let mut rules: Vec<RateLimitRule> = Vec::new();
    for at in items.unwrap_or_default() {
        let Some(rule) = rule(&at, report) else { continue };
        if rules.iter().any(|other| other.name == rule.name) {
            at.fail(report, format!("another rule is named {:?}", rule.name), "name each rule differently");
        }
        rules.push(rule);
    }
    object.finish(report);
    Some(RateLimitPolicy { scope, dry_run, rules })
}

fn rule(at: &At<'_>, report: &mut Report) -> Option<RateLimitRule> {
    let mut object = at.object(report)?;
    let name = object.required("name", report).and_then(|at| subject::rule_name(&at, report));
    let subject = subject::read(&mut object, report);
    let rate = object.required("limit", report).and_then(|at| rate(&at, report));
    object.finish(report);
    Some(RateLimitRule { name: name?, subject, rate: rate? })
}

fn rate(at: &At<'_>, report: &mut Report) -> Option<Rate> {
    let mut object = at.object(report)?;
    let requests = count(&mut object, "requests", report);
    let per = object.required("per", report).and_then(|at| unit(&at, report));
    let burst = match object.field("burst", report) {
        Some(at) => at.integer(report, 1, u32::MAX),
        None => requests,
    };
    object.finish(report);
    Some(Rate { requests: requests?, per: per?, burst: burst? })
}

fn count(object: &mut Object<'_>, name: &'static str, report: &mut Report) -> Option<u32> {
    object.required(name, report).and_then(|at| at.integer(report, 1, u32::MAX))
}

fn unit(at: &At<'_>, report: &mut Report) -> Option<TimeUnit> {
    let text = at.text(report)?;
    let found = TimeUnit::ALL.into_iter().find(|(word, _)| *word == &*text);
    if found.is_none() {
        let known: Vec<&str> = TimeUnit::ALL.into_iter().map(|(word, _)| word).collect();
        at.fail(report, format!("{text:?} is no unit of time"), known.join(", "));
    }
    found.map(|(_, unit)| unit)
}
