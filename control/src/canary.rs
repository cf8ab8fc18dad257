//! Shifting the traffic of a service between its versions: what documents say of it now, and the smallest change of their
//! text that says something else. Pure; `admin` reads and writes the documents.
//!
//! A version is a value of the label `version` on endpoints, and the subset of a DestinationRule that selects by it alone.
//! The shares are those of the one rule in the service's VirtualService that takes every request; rules before it, such as
//! testers by a header, stay as they are. Where there is no VirtualService, one is written, with the subsets it needs. What
//! cannot be edited without a guess is refused with what to do by hand.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    documents::{
        Destination, Document, DocumentSet, HttpAction, HttpRoute, MESH_GATEWAY, Subset, VirtualService,
        edit::{Editor, Step},
        hosts::Hosts,
    },
    model::{Health, Service},
};

mod shares;
#[cfg(test)]
mod tests;
mod verdict;
mod write;

pub use shares::{Shares, WantedError, promoted, wanted};
pub use verdict::{Verdict, judge};
pub use write::Change;

/// The label that tells versions apart.
pub const VERSION_LABEL: &str = "version";
/// Annotation of a VirtualService: the shares before the canary began, `v1=100,v2=0`.
pub const BASELINE: &str = "weft.dev/canary-baseline";

/// A service's versions, as documents and the registry have them.
#[derive(Clone, Debug)]
pub struct Canary {
    service: Arc<Service>,
    /// By version.
    pub versions: BTreeMap<Arc<str>, Version>,
    /// The document that shares the traffic.
    pub route: Option<Arc<Document>>,
    /// The DestinationRule that new subsets are added to.
    rules: Option<Arc<Document>>,
    /// The rule in `route` that takes every request.
    rule: usize,
    /// Shares that abort brings back; empty when no canary ever began.
    pub baseline: Shares,
    /// What to know about the route, for people.
    pub notes: Vec<String>,
    /// Why the route cannot be edited.
    pub obstacle: Option<Obstacle>,
}

/// One version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Subset that selects it.
    pub subset: Option<Arc<str>>,
    /// Share in percent.
    pub weight: u32,
    /// Whether the route names it.
    pub routed: bool,
    /// Endpoints that take traffic.
    pub endpoints: u32,
}

/// Why a program should not edit a document, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The document: `VirtualService/default/reviews`.
    pub document: Arc<str>,
    /// Field in it.
    pub field: String,
    /// What is in the way.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// The version that a subset selects: the label's value where it selects by that alone, else its own name.
pub fn version_of(subset: &Subset) -> &Arc<str> {
    match subset.labels.get(VERSION_LABEL) {
        Some(version) if subset.labels.len() == 1 => version,
        _ => &subset.name.text,
    }
}

/// The versions of subsets, for every host that a DestinationRule names: by host as [`Hosts::canonical`] writes it, and
/// subset.
pub fn versions_of_subsets(set: &DocumentSet, hosts: &Hosts) -> BTreeMap<(Arc<str>, Arc<str>), Arc<str>> {
    let mut found = BTreeMap::new();
    for (document, rule) in set.destination_rules() {
        let host = hosts.canonical(&rule.host.text, &document.namespace);
        for subset in &rule.subsets {
            let key = (host.clone(), subset.name.text.clone());
            found.entry(key).or_insert_with(|| version_of(subset).clone());
        }
    }
    found
}

impl Canary {
    /// What is said of a service.
    pub fn read(service: &Arc<Service>, set: &DocumentSet, hosts: &Hosts) -> Self {
        let ours = |host: &str, namespace: &str| hosts.canonical(host, namespace) == service.host;
        let mut canary = Self {
            service: service.clone(),
            versions: endpoints(service),
            route: None,
            rules: None,
            rule: 0,
            baseline: Shares::new(),
            notes: Vec::new(),
            obstacle: None,
        };
        let mut by_subset = BTreeMap::new();
        for (document, rule) in
            set.destination_rules().filter(|(d, rule)| ours(&rule.host.text, &d.namespace))
        {
            canary.rules.get_or_insert_with(|| document.clone());
            for subset in &rule.subsets {
                let version = version_of(subset);
                by_subset.entry(subset.name.text.clone()).or_insert_with(|| version.clone());
                let version = canary.versions.entry(version.clone()).or_default();
                version.subset.get_or_insert_with(|| subset.name.text.clone());
            }
        }
        let routed = set.virtual_services().find(|(document, spec)| {
            let on_mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|g| &*g.text == MESH_GATEWAY);
            on_mesh && spec.hosts.iter().any(|host| ours(&host.text, &document.namespace))
        });
        match routed {
            Some((document, spec)) => {
                canary.route = Some(document.clone());
                canary.baseline = baseline(&document.yaml);
                canary.read_route(document, spec, &by_subset, &ours);
            }
            None => canary.spread(),
        }
        canary
    }

    /// Shares of every version.
    pub fn weights(&self) -> Shares {
        self.versions.iter().map(|(name, version)| (name.clone(), version.weight)).collect()
    }

    /// The version that the others are compared with: the greatest share before the canary, else now.
    pub fn stable(&self) -> Option<Arc<str>> {
        let of = |shares: &Shares| {
            let known =
                shares.iter().filter(|(name, weight)| **weight > 0 && self.versions.contains_key(*name));
            known.max_by_key(|(_, weight)| **weight).map(|(name, _)| name.clone())
        };
        of(&self.baseline).or_else(|| of(&self.weights()))
    }

    /// The shares to remember when others are asked for: those before the canary that is under way. One begins where one
    /// version has everything, and where no rule divided the traffic; then what is asked for had nothing before.
    pub fn baseline_for(&self, asked: &Shares) -> Shares {
        let current = self.weights();
        let settled = current.values().any(|weight| *weight == 100);
        let divided = self.versions.values().any(|version| version.routed);
        if !settled && divided && !self.baseline.is_empty() {
            return self.baseline.clone();
        }
        let others = current.iter().filter(|(name, _)| settled || divided || !asked.contains_key(*name));
        let others: Shares = others.map(|(name, weight)| (name.clone(), *weight)).collect();
        let before = shares::divide(100, &others);
        if before.is_empty() {
            return current;
        }
        current.keys().map(|name| (name.clone(), before.get(name).copied().unwrap_or(0))).collect()
    }

    /// Shares as traffic has them that no route divides: every endpoint alike.
    fn spread(&mut self) {
        let endpoints: Shares = self.versions.iter().map(|(name, v)| (name.clone(), v.endpoints)).collect();
        for (name, weight) in shares::divide(100, &endpoints) {
            self.versions.entry(name).or_default().weight = weight;
        }
        self.notes.push("no rule divides the traffic: every endpoint gets its part".to_owned());
    }

    fn read_route(
        &mut self,
        document: &Arc<Document>,
        spec: &VirtualService,
        by_subset: &BTreeMap<Arc<str>, Arc<str>>,
        ours: &impl Fn(&str, &str) -> bool,
    ) {
        let everything = |rule: &&HttpRoute| rule.matches.is_empty();
        let Some(rule) = spec.http.iter().find(everything) else {
            let hint = "add a rule without match at the end";
            return self.refuse(document, "spec.http", "no rule takes every request", hint);
        };
        self.rule = spec.http.iter().position(|r| std::ptr::eq(r, rule)).unwrap_or_default();
        if self.rule > 0 {
            self.notes.push(format!("{} rules before the one that is shown stay as they are", self.rule));
        }
        let field = format!("spec.http[{}]", self.rule);
        if let HttpAction::Delegate(_) = &rule.action {
            let hint = "change the weights there by hand";
            return self.refuse(document, &field, "its rules stand in another document", hint);
        }
        let HttpAction::Route(destinations) = &rule.action else {
            return self.refuse(
                document,
                &field,
                "it answers by itself and routes nowhere",
                "give it a route",
            );
        };
        let foreign = destinations.iter().find(|to| !ours(&to.host.text, &document.namespace));
        if let Some(foreign) = foreign {
            let message = format!("it sends to {}, too, which is another service", foreign.host.text);
            return self.refuse(document, &format!("{field}.route"), &message, "change the weights by hand");
        }
        if let [Destination { subset: None, .. }] = &destinations[..] {
            return self.spread();
        }
        for destination in destinations {
            let Some(subset) = &destination.subset else {
                let message = "one destination is a part of the service, another all of it";
                return self.refuse(document, &format!("{field}.route"), message, "give each its subset");
            };
            let version = by_subset.get(&subset.text).unwrap_or(&subset.text);
            let version = self.versions.entry(version.clone()).or_default();
            if version.routed {
                let message = "two destinations are the same version";
                return self.refuse(document, &format!("{field}.route"), message, "make them one");
            }
            version.routed = true;
            version.subset = Some(subset.text.clone());
            version.weight = if destinations.len() == 1 { 100 } else { destination.weight };
        }
    }

    fn refuse(&mut self, document: &Document, field: &str, message: &str, hint: &str) {
        self.obstacle = Some(Obstacle {
            document: document.key(),
            field: field.to_owned(),
            message: message.to_owned(),
            hint: hint.to_owned(),
        });
    }
}

/// Versions by the labels of endpoints.
fn endpoints(service: &Service) -> BTreeMap<Arc<str>, Version> {
    let mut versions: BTreeMap<Arc<str>, Version> = BTreeMap::new();
    for endpoint in service.endpoints.values() {
        let Some(version) = endpoint.labels.get(VERSION_LABEL) else { continue };
        let version = versions.entry(version.clone()).or_default();
        version.endpoints += u32::from(endpoint.health == Health::Healthy);
    }
    versions
}

/// The shares that a document remembers; none that cannot be read.
fn baseline(yaml: &str) -> Shares {
    let way = [Step::Key("metadata"), Step::Key("annotations"), Step::Key(BASELINE)];
    let editor = Editor::open(yaml);
    let text = editor.as_ref().and_then(|editor| editor.text_at(&way)).unwrap_or_default();
    let part = |part: &str| {
        let (version, weight) = part.split_once('=')?;
        Some((version.into(), weight.parse().ok()?))
    };
    text.split(',').map(part).collect::<Option<Shares>>().unwrap_or_default()
}
