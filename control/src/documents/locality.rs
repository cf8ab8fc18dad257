//! `localityLbSetting`: how load stays near, and where it goes when what is near fails.

use std::sync::Arc;

use super::{
    problem::{Problem, Report},
    reader::{At, Object},
    root_of,
};
use crate::model::Locality;

/// How load goes by locality. The default is Istio's: near first, elsewhere by distance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LocalityLb {
    /// Whether locality decides anything.
    pub enabled: bool,
    /// Shares of localities, by where the client is; the first that takes it holds. Takes the place of failover.
    pub distribute: Vec<Distribute>,
    /// Region that takes over from another; a region that is not named is taken over by any.
    pub failover: Vec<(Arc<str>, Arc<str>)>,
    /// Labels by which endpoints are near, the most important first; takes the place of locality.
    pub failover_priority: Vec<PriorityLabel>,
}

/// Where requests of some clients go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Distribute {
    /// Where the clients are.
    pub from: LocalityPattern,
    /// Percent of their requests for each place; no two overlap.
    pub to: Vec<(LocalityPattern, u32)>,
}

/// A label that endpoints share with a client that they are near to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PriorityLabel {
    /// Its name.
    pub key: Arc<str>,
    /// The value that counts as near, where that is not the client's own (`key=value`).
    pub value: Option<Arc<str>>,
}

/// `region/zone/subzone`, `region/zone/*`, `region/*` or `*`: the parts that are given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LocalityPattern(Vec<Arc<str>>);

impl Default for LocalityLb {
    fn default() -> Self {
        Self { enabled: true, distribute: Vec::new(), failover: Vec::new(), failover_priority: Vec::new() }
    }
}

impl LocalityPattern {
    /// Whether a place is meant.
    pub fn takes(&self, locality: &Locality) -> bool {
        self.0.iter().zip([&locality.region, &locality.zone, &locality.subzone]).all(|(a, b)| a == b)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a == b)
    }
}

/// Reads the setting of the whole mesh from YAML, as a document has it.
pub fn parse(yaml: &str) -> Result<LocalityLb, Vec<Problem>> {
    let mut report = Report::new(&"locality_lb_setting".into(), 0);
    let found = root_of(yaml, 0, &mut report).and_then(|root| {
        let at = At::new(&root, "", &report);
        read(&at, &mut report)
    });
    let problems = report.into_problems();
    match found {
        Some(found) if problems.is_empty() => Ok(found),
        _ => Err(problems),
    }
}

/// Reads a `localityLbSetting`.
pub(super) fn read(at: &At<'_>, report: &mut Report) -> Option<LocalityLb> {
    let mut object = at.object(report)?;
    let enabled = object.field("enabled", report).and_then(|at| at.boolean(report)).unwrap_or(true);
    let distribute: Vec<_> =
        object.list("distribute", report).iter().filter_map(|at| distribute(at, report)).collect();
    let failover: Vec<_> =
        object.list("failover", report).iter().filter_map(|at| failover(at, report)).collect();
    let labels = object.list("failoverPriority", report);
    let failover_priority: Vec<_> = labels.iter().filter_map(|at| priority_label(at, report)).collect();
    object.finish(report);
    let given = [!distribute.is_empty(), !failover.is_empty(), !failover_priority.is_empty()];
    if given.iter().filter(|given| **given).count() > 1 {
        let hint = "keep one of distribute, failover and failoverPriority";
        at.fail(report, "says more than one way to go by locality", hint);
    }
    Some(LocalityLb { enabled, distribute, failover, failover_priority })
}

fn distribute(at: &At<'_>, report: &mut Report) -> Option<Distribute> {
    let mut object = at.object(report)?;
    let from = object.required("from", report).and_then(|at| pattern(&at.text(report)?, &at, report));
    let shares = shares(&mut object, report);
    object.finish(report);
    Some(Distribute { from: from?, to: shares? })
}

fn shares(object: &mut Object<'_>, report: &mut Report) -> Option<Vec<(LocalityPattern, u32)>> {
    let at = object.required("to", report)?;
    let mut to: Vec<(LocalityPattern, u32)> = Vec::new();
    for (key, value) in at.entries(report) {
        let (Some(place), Some(weight)) = (pattern(&key.text, &value, report), value.integer(report, 1, 100))
        else {
            continue;
        };
        if to.iter().any(|(other, _)| other.overlaps(&place)) {
            value.fail(report, format!("{:?} overlaps another place", key.text), "name each place once");
        }
        to.push((place, weight));
    }
    let sum: u32 = to.iter().map(|(_, weight)| weight).sum();
    if sum != 100 {
        at.fail(report, format!("the weights sum to {sum}"), "100 is wanted");
    }
    Some(to)
}

fn failover(at: &At<'_>, report: &mut Report) -> Option<(Arc<str>, Arc<str>)> {
    let mut object = at.object(report)?;
    let mut region = |name, report: &mut Report| {
        let at = object.required(name, report)?;
        let text = at.text(report)?;
        if text.is_empty() || text.contains(['/', '*']) {
            at.fail(report, format!("{text:?} is no region"), "failover goes from region to region");
        }
        Some(text)
    };
    let (from, to) = (region("from", report), region("to", report));
    object.finish(report);
    let (from, to) = (from?, to?);
    if from == to {
        at.fail(report, format!("{from:?} cannot take over from itself"), "name another region");
    }
    Some((from, to))
}

fn priority_label(at: &At<'_>, report: &mut Report) -> Option<PriorityLabel> {
    let text = at.text(report)?;
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.into())),
        None => (&*text, None),
    };
    if key.is_empty() {
        at.fail(report, format!("{text:?} names no label"), "write it like topology.kubernetes.io/zone");
        return None;
    }
    Some(PriorityLabel { key: key.into(), value })
}

fn pattern(text: &str, at: &At<'_>, report: &mut Report) -> Option<LocalityPattern> {
    let parts: Vec<&str> = text.split('/').collect();
    let given = parts.iter().position(|part| *part == "*").unwrap_or(parts.len());
    let (named, rest) = parts.split_at(given);
    let fits = parts.len() <= 3
        && named.iter().all(|part| !part.is_empty() && !part.contains('*'))
        && rest.iter().all(|part| *part == "*");
    if !fits {
        let hint = "write it like region/zone/subzone, region/zone/*, region/* or *";
        at.fail(report, format!("{text:?} is no locality"), hint);
        return None;
    }
    Some(LocalityPattern(named.iter().map(|part| Arc::from(*part)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(yaml: &str, expected: &str) {
        let problems = parse(yaml).unwrap_err();
        let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(found.join("\n"), format!("locality_lb_setting:{expected}"));
    }

    #[test]
    fn a_pattern_takes_the_places_that_begin_like_it() {
        let place = |text: &str| {
            let mut parts = text.split('/').map(Arc::from);
            let mut next = || parts.next().unwrap_or_default();
            Locality { region: next(), zone: next(), subzone: next() }
        };
        let setting = parse("distribute: [{from: a/b/*, to: {\"a/*\": 70, c/d/e: 30}}]").unwrap();
        let from = &setting.distribute[0].from;
        assert!(from.takes(&place("a/b/c")) && from.takes(&place("a/b")) && !from.takes(&place("a")));
        let all = parse("distribute: [{from: \"*\", to: {\"*\": 100}}]").unwrap();
        assert!(all.distribute[0].from.takes(&place("")));
    }

    #[test]
    fn labels_may_have_values() {
        let found = parse("failoverPriority: [topology.kubernetes.io/zone, tier=gold]").unwrap();
        let label =
            |key: &str, value: Option<&str>| PriorityLabel { key: key.into(), value: value.map(Arc::from) };
        let expected = [label("topology.kubernetes.io/zone", None), label("tier", Some("gold"))];
        assert_eq!(found.failover_priority, expected);
        assert_eq!(parse("{}"), Ok(LocalityLb::default()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_at_its_place() {
        refused(
            "distribute: [{from: a, to: {a: 50}}]",
            "1:28: error: distribute[0].to: the weights sum to 50 (100 is wanted)",
        );
        refused(
            "distribute: [{from: a, to: {\"a/*\": 50, a/b: 50}}]",
            "1:45: error: distribute[0].to[a/b]: \"a/b\" overlaps another place (name each place once)",
        );
        refused(
            "distribute: [{from: \"*/b\", to: {a: 100}}]",
            "1:21: error: distribute[0].from: \"*/b\" is no locality (write it like region/zone/subzone, \
             region/zone/*, region/* or *)",
        );
        refused(
            "failover: [{from: a, to: a}]",
            "1:12: error: failover[0]: \"a\" cannot take over from itself (name another region)",
        );
        refused(
            "{failover: [{from: a, to: b}], failoverPriority: [c]}",
            "1:1: error: says more than one way to go by locality (keep one of distribute, failover and \
             failoverPriority)",
        );
        refused(
            "failoverPriority: [\"=a\"]",
            "1:20: error: failoverPriority[0]: \"=a\" names no label (write it like topology.kubernetes.io/zone)",
        );
        refused("enable: true", "1:1: error: enable: unknown field (did you mean enabled?)");
    }
}
