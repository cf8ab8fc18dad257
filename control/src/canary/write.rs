//! The change of documents that gives versions their shares: edits of a text that is there, or new documents. Pure.

use std::sync::Arc;

use super::{BASELINE, Canary, Obstacle, Shares, VERSION_LABEL};
use crate::documents::{
    self, Document, DocumentSpec, HttpAction,
    edit::{Editor, Step},
};

/// A document that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Kind.
    pub kind: &'static str,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// The text before; none when it is new.
    pub before: Option<Arc<str>>,
    /// The text after.
    pub after: String,
}

impl Change {
    /// `VirtualService/default/reviews`.
    pub fn key(&self) -> Arc<str> {
        documents::key(self.kind, &self.namespace, &self.name)
    }
}

impl Canary {
    /// The documents that give every version its share, and remember `baseline`. `taken` tells whether there is a document
    /// of a key.
    pub fn shift(
        &self,
        shares: &Shares,
        baseline: &Shares,
        taken: impl Fn(&str) -> bool,
    ) -> Result<Vec<Change>, Obstacle> {
        if let Some(obstacle) = &self.obstacle {
            return Err(obstacle.clone());
        }
        let new: Vec<&Arc<str>> =
            self.versions.iter().filter(|(_, v)| v.subset.is_none()).map(|(name, _)| name).collect();
        let mut changes = Vec::new();
        if !new.is_empty() {
            changes.push(match &self.rules {
                Some(document) => self.add_subsets(document, &new)?,
                None => self.new_rules(&new, &taken),
            });
        }
        changes.push(match &self.route {
            Some(document) => self.edit_route(document, shares, baseline)?,
            None => self.new_route(shares, baseline, &taken),
        });
        Ok(changes)
    }

    fn subset(&self, version: &str) -> Arc<str> {
        let known = self.versions.get(version).and_then(|version| version.subset.clone());
        known.unwrap_or_else(|| subset_name(version).into())
    }

    fn add_subsets(&self, document: &Arc<Document>, new: &[&Arc<str>]) -> Result<Change, Obstacle> {
        let entries = |version: &Arc<str>| {
            [("name", subset_name(version)), ("labels", format!("{{{VERSION_LABEL}: {version:?}}}"))]
        };
        let edit = || {
            let mut editor = Editor::open(&document.yaml)?;
            let list = [Step::Key("spec"), Step::Key("subsets")];
            if editor.has(&list) {
                new.iter().try_for_each(|version| editor.add_item(&list, &entries(version)))?;
            } else {
                let item = |version: &&Arc<str>| {
                    let [(_, name), (_, labels)] = entries(version);
                    format!("{{name: {name}, labels: {labels}}}")
                };
                let items: Vec<String> = new.iter().map(item).collect();
                editor.add_key(&list[..1], "subsets", &format!("[{}]", items.join(", ")))?;
            }
            let after = editor.finish();
            let (read, _) = documents::parse(&after, "", 1);
            let [Document { spec: DocumentSpec::DestinationRule(rule), .. }] = &read[..] else { return None };
            let all = new.iter().all(|version| {
                let name = subset_name(version);
                rule.subsets.iter().any(|subset| *subset.name.text == *name)
            });
            all.then_some(after)
        };
        let names: Vec<String> = new.iter().map(|version| subset_name(version)).collect();
        let after = edit().ok_or_else(|| Obstacle {
            document: document.key(),
            field: "spec.subsets".to_owned(),
            message: "its text cannot be edited".to_owned(),
            hint: format!("add the subsets {} by hand", names.join(", ")),
        })?;
        Ok(changed(document, after))
    }

    fn new_rules(&self, new: &[&Arc<str>], taken: impl Fn(&str) -> bool) -> Change {
        let mut spec = format!("  host: {}\n  subsets:\n", self.service.key.name);
        for version in new {
            let name = subset_name(version);
            spec.push_str(&format!("  - name: {name}\n    labels: {{{VERSION_LABEL}: {version:?}}}\n"));
        }
        self.created("DestinationRule", "", &spec, taken)
    }

    fn new_route(&self, shares: &Shares, baseline: &Shares, taken: impl Fn(&str) -> bool) -> Change {
        let host = &self.service.key.name;
        let annotations = format!("  annotations:\n    {BASELINE}: {:?}\n", text(baseline));
        let mut spec = format!("  hosts:\n  - {host}\n  http:\n  - route:\n");
        for (version, weight) in shares {
            let subset = self.subset(version);
            spec.push_str(&format!(
                "    - destination:\n        host: {host}\n        subset: {subset}\n      weight: {weight}\n"
            ));
        }
        self.created("VirtualService", &annotations, &spec, taken)
    }

    fn created(
        &self,
        kind: &'static str,
        annotations: &str,
        spec: &str,
        taken: impl Fn(&str) -> bool,
    ) -> Change {
        let (namespace, name) = (&self.service.key.namespace, &self.service.key.name);
        let free = |name: &str| !taken(&documents::key(kind, namespace, name));
        // One of this name that is about something else stays.
        let name = [name.to_string(), format!("{name}-canary")].into_iter().find(|name| free(name));
        let name = name.unwrap_or_else(|| format!("{}-versions", self.service.key.name));
        let after = format!(
            "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
             {annotations}spec:\n{spec}"
        );
        Change { kind, namespace: namespace.clone(), name: name.into(), before: None, after }
    }

    fn edit_route(
        &self,
        document: &Arc<Document>,
        shares: &Shares,
        baseline: &Shares,
    ) -> Result<Change, Obstacle> {
        let obstacle = |field: &str, message: &str, hint: String| Obstacle {
            document: document.key(),
            field: field.to_owned(),
            message: message.to_owned(),
            hint,
        };
        let field = format!("spec.http[{}].route", self.rule);
        let DocumentSpec::VirtualService(spec) = &document.spec else {
            return Err(obstacle("kind", "it is no VirtualService", String::new()));
        };
        let HttpAction::Route(destinations) = &spec.http[self.rule].action else {
            return Err(obstacle(&field, "it has no route", String::new()));
        };
        let added = shares.iter().any(|(v, weight)| *weight > 0 && !self.versions[v].routed);
        if added && destinations.iter().any(|to| to.headers != Default::default()) {
            let message = "its destinations change headers, and a new one may have to do so, too";
            return Err(obstacle(&field, message, format!("add a destination for {} by hand", text(shares))));
        }
        let after = self.edited(document, destinations, shares, baseline).ok_or_else(|| {
            obstacle(&field, "its text cannot be edited", format!("set {} by hand", text(shares)))
        })?;
        Ok(changed(document, after))
    }

    /// The text with the new weights; none where an edit would not say what it should.
    fn edited(
        &self,
        document: &Document,
        destinations: &[documents::Destination],
        shares: &Shares,
        baseline: &Shares,
    ) -> Option<String> {
        let mut editor = Editor::open(&document.yaml)?;
        remember(&mut editor, baseline)?;
        let list = [Step::Key("spec"), Step::Key("http"), Step::Index(self.rule), Step::Key("route")];
        let at = |rest: &[Step<'static>]| list.iter().chain(rest).copied().collect::<Vec<_>>();
        let mut missing: Vec<(&Arc<str>, u32)> = Vec::new();
        let mut whole = destinations.iter().position(|to| to.subset.is_none());
        for (version, weight) in shares {
            let subset = self.subset(version);
            let place =
                destinations.iter().position(|to| to.subset.as_ref().is_some_and(|s| s.text == subset));
            let place = match (place, whole.filter(|_| *weight > 0)) {
                (Some(place), _) => place,
                // What was all of the service becomes the first version that has a share.
                (None, Some(place)) => {
                    whole = None;
                    editor.add_key(
                        &at(&[Step::Index(place), Step::Key("destination")]),
                        "subset",
                        &subset,
                    )?;
                    place
                }
                (None, None) => {
                    missing.push((version, *weight));
                    continue;
                }
            };
            let weight_at = at(&[Step::Index(place), Step::Key("weight")]);
            if editor.has(&weight_at) {
                editor.set(&weight_at, &weight.to_string())?;
            } else {
                editor.add_key(&at(&[Step::Index(place)]), "weight", &weight.to_string())?;
            }
        }
        let first = destinations.first()?;
        let port = first.port.map(|port| format!(", port: {{number: {port}}}")).unwrap_or_default();
        for (version, weight) in missing.into_iter().filter(|(_, weight)| *weight > 0) {
            let destination =
                format!("{{host: {}, subset: {}{port}}}", first.host.text, self.subset(version));
            editor.add_item(&list, &[("destination", destination), ("weight", weight.to_string())])?;
        }
        let after = editor.finish();
        self.says(&after, document, shares).then_some(after)
    }

    /// Whether a text gives these shares and leaves the other rules alone.
    fn says(&self, after: &str, document: &Document, shares: &Shares) -> bool {
        let (read, _) = documents::parse(after, "", 1);
        let ([new], DocumentSpec::VirtualService(old)) = (&read[..], &document.spec) else { return false };
        let DocumentSpec::VirtualService(spec) = &new.spec else { return false };
        let weights = |rule: &documents::HttpRoute| match &rule.action {
            HttpAction::Route(to) => {
                let subset =
                    |to: &documents::Destination| to.subset.as_ref().map(|subset| subset.text.clone());
                to.iter().map(|to| (subset(to), to.weight)).collect::<Vec<_>>()
            }
            HttpAction::Redirect(_) | HttpAction::Direct(_) | HttpAction::Delegate(_) => Vec::new(),
        };
        let others = old.http.iter().zip(&spec.http).enumerate().filter(|(i, _)| *i != self.rule);
        let mut found = spec.http.get(self.rule).map(weights).unwrap_or_default();
        found.retain(|(_, weight)| *weight > 0);
        found.sort();
        let mut wanted: Vec<_> = shares.iter().filter(|(_, weight)| **weight > 0).collect();
        wanted.sort();
        let mut wanted: Vec<_> =
            wanted.into_iter().map(|(version, weight)| (Some(self.subset(version)), *weight)).collect();
        wanted.sort();
        new.key() == document.key()
            && old.http.len() == spec.http.len()
            && others.into_iter().all(|(_, (old, new))| weights(old) == weights(new))
            && found == wanted
    }
}

fn changed(document: &Document, after: String) -> Change {
    Change {
        kind: document.kind,
        namespace: document.namespace.clone(),
        name: document.name.clone(),
        before: Some(document.yaml.clone()),
        after,
    }
}

/// Notes the shares before the canary in the document's annotations.
fn remember(editor: &mut Editor<'_>, baseline: &Shares) -> Option<()> {
    let way = [Step::Key("metadata"), Step::Key("annotations"), Step::Key(BASELINE)];
    let value = format!("{:?}", text(baseline));
    if editor.has(&way) {
        editor.set(&way, &value)
    } else if editor.has(&way[..2]) {
        editor.add_key(&way[..2], BASELINE, &value)
    } else {
        editor.add_key(&way[..1], "annotations", &format!("{{{BASELINE}: {value}}}"))
    }
}

/// `v1=95,v2=5`.
fn text(shares: &Shares) -> String {
    let parts: Vec<String> = shares.iter().map(|(version, weight)| format!("{version}={weight}")).collect();
    parts.join(",")
}

/// A name that a subset may have, for any label.
fn subset_name(version: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = version.chars().map(legal).collect();
    // A number would be read as one.
    if name.parse::<f64>().is_ok() { format!("v{name}") } else { name }
}
