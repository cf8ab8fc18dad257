//! Rules of a `VirtualService` that stand in another: `delegate`. As in Istio, one without hosts may be taken over by any
//! document in whose namespace it counts, which has its rules in the place of its own: where both say something of a request
//! both must hold, and of what is done to it the taken rule decides. Short names mean what they mean where they are written.
//!
//! A delegate that is not there leaves its place empty.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Delegate, Document, DocumentSet, DocumentSpec, HeaderOperations, HttpAction, HttpMatch, HttpRoute,
    Located, Mirror, PathMatch, Problem, Severity, Source, StringMatch, VirtualService,
    check::{gateway_name, warning, whole},
    key,
};

/// A set of documents in which every rule is where it counts.
#[derive(Debug, Default)]
pub struct Resolved {
    written: Arc<DocumentSet>,
    documents: Arc<DocumentSet>,
    roots: BTreeMap<Arc<str>, Root>,
}

/// A document that takes over rules.
#[derive(Clone, Debug)]
struct Root {
    written: Arc<Document>,
    delegates: Vec<Arc<Document>>,
    resolved: Arc<Document>,
}

impl Resolved {
    /// Of a set as it is written. What neither changed nor has a delegate that did stays the same allocation.
    pub fn following(&self, written: &Arc<DocumentSet>) -> Self {
        if Arc::ptr_eq(written, &self.written) {
            let (written, documents) = (written.clone(), self.documents.clone());
            return Self { written, documents, roots: self.roots.clone() };
        }
        let mut roots = BTreeMap::new();
        for (document, spec) in written.virtual_services() {
            let named: Vec<&Delegate> = spec.http.iter().filter_map(delegate_of).collect();
            if named.is_empty() {
                continue;
            }
            let found = named.iter().filter_map(|to| find(written, document, to).ok());
            let delegates: Vec<Arc<Document>> = found.map(|(delegate, _)| delegate.clone()).collect();
            let root = match self.roots.get(&document.key()) {
                Some(before) if before.is_of(document, &delegates) => before.clone(),
                _ => Root::new(written, document, spec, delegates),
            };
            roots.insert(document.key(), root);
        }
        let documents = match roots.is_empty() {
            true => written.clone(),
            false => {
                let mut documents = DocumentSet::clone(written);
                roots.values().for_each(|root| documents.insert(root.resolved.clone()));
                Arc::new(documents)
            }
        };
        Self { written: written.clone(), documents, roots }
    }

    /// The documents: none delegates any more.
    pub fn documents(&self) -> &Arc<DocumentSet> {
        &self.documents
    }
}

impl Root {
    fn new(
        documents: &DocumentSet,
        document: &Arc<Document>,
        spec: &VirtualService,
        delegates: Vec<Arc<Document>>,
    ) -> Self {
        let http = spec.http.iter().flat_map(|rule| match delegate_of(rule) {
            None => vec![rule.clone()],
            Some(to) => taken_over(documents, document, rule, to),
        });
        let spec = VirtualService { http: http.collect(), ..spec.clone() };
        let resolved = Document { spec: DocumentSpec::VirtualService(spec), ..Document::clone(document) };
        Self { written: document.clone(), delegates, resolved: Arc::new(resolved) }
    }

    fn is_of(&self, document: &Arc<Document>, delegates: &[Arc<Document>]) -> bool {
        Arc::ptr_eq(&self.written, document)
            && self.delegates.iter().map(Arc::as_ptr).eq(delegates.iter().map(Arc::as_ptr))
    }
}

fn delegate_of(rule: &HttpRoute) -> Option<&Delegate> {
    match &rule.action {
        HttpAction::Delegate(to) => Some(to),
        HttpAction::Route(_) | HttpAction::Redirect(_) | HttpAction::Direct(_) => None,
    }
}

/// Why rules cannot be taken over.
enum Missing {
    /// Nothing has the name.
    Nowhere,
    /// It has hosts of its own.
    Routes,
    /// It does not count in the namespace.
    Hidden,
}

type Found<'a> = (&'a Arc<Document>, &'a VirtualService);

fn find<'a>(documents: &'a DocumentSet, root: &Document, to: &Delegate) -> Result<Found<'a>, Missing> {
    let document = documents.get(&key_of(root, to)).ok_or(Missing::Nowhere)?;
    let DocumentSpec::VirtualService(spec) = &document.spec else { return Err(Missing::Nowhere) };
    if !spec.hosts.is_empty() {
        return Err(Missing::Routes);
    }
    match document.is_visible_in(&root.namespace) {
        true => Ok((document, spec)),
        false => Err(Missing::Hidden),
    }
}

fn key_of(root: &Document, to: &Delegate) -> Arc<str> {
    key(root.kind, to.namespace.as_ref().unwrap_or(&root.namespace), &to.name.text)
}

/// The rules that a rule takes over.
fn taken_over(documents: &DocumentSet, root: &Document, rule: &HttpRoute, to: &Delegate) -> Vec<HttpRoute> {
    let Ok((document, spec)) = find(documents, root, to) else { return Vec::new() };
    let rules = spec.http.iter().filter(|leaf| delegate_of(leaf).is_none());
    rules.filter_map(|leaf| joined(root, rule, document, leaf)).collect()
}

/// A rule in the place of the one that takes it over; none where no request can meet both.
fn joined(
    root: &Document,
    rule: &HttpRoute,
    written_in: &Arc<Document>,
    leaf: &HttpRoute,
) -> Option<HttpRoute> {
    let headers = match leaf.headers == HeaderOperations::default() {
        true => rule.headers.clone(),
        false => leaf.headers.clone(),
    };
    let of_root = |mirror: &Mirror| Mirror { namespace: Some(root.namespace.clone()), ..mirror.clone() };
    Some(HttpRoute {
        name: joined_name(&rule.name, &leaf.name),
        matches: joined_matches(root, &rule.matches, &leaf.matches)?,
        action: leaf.action.clone(),
        rewrite: leaf.rewrite.clone().or_else(|| rule.rewrite.clone()),
        timeout: leaf.timeout.or(rule.timeout),
        retries: leaf.retries.clone().or_else(|| rule.retries.clone()),
        headers,
        fault: leaf.fault.clone().or_else(|| rule.fault.clone()),
        mirrors: match leaf.mirrors.as_slice() {
            [] => rule.mirrors.iter().map(of_root).collect(),
            own => own.to_vec(),
        },
        cors: leaf.cors.clone().or_else(|| rule.cors.clone()),
        place: leaf.place,
        written_in: Some(written_in.clone()),
    })
}

fn joined_name(root: &Arc<str>, leaf: &Arc<str>) -> Arc<str> {
    match (root.is_empty(), leaf.is_empty()) {
        (false, false) => format!("{root}-{leaf}").into(),
        (false, true) => root.clone(),
        (true, _) => leaf.clone(),
    }
}

/// Every alternative of the one with every alternative of the other that it can hold with.
fn joined_matches(document: &Document, root: &[HttpMatch], leaf: &[HttpMatch]) -> Option<Vec<HttpMatch>> {
    let everything = [HttpMatch::default()];
    let or_everything = |matches| if <[_]>::is_empty(matches) { &everything[..] } else { matches };
    if root.is_empty() && leaf.is_empty() {
        return Some(Vec::new());
    }
    let pairs =
        or_everything(root).iter().flat_map(|root| or_everything(leaf).iter().map(move |leaf| (root, leaf)));
    let mut found: Vec<HttpMatch> = Vec::new();
    for both in pairs.filter_map(|(root, leaf)| joined_match(document, root, leaf)) {
        if !found.contains(&both) {
            found.push(both);
        }
    }
    (!found.is_empty()).then_some(found)
}

fn joined_match(document: &Document, root: &HttpMatch, leaf: &HttpMatch) -> Option<HttpMatch> {
    let of_root = |gateway: &Located| Located {
        text: gateway_name(&gateway.text, &document.namespace).into(),
        ..gateway.clone()
    };
    let root_gateways: Vec<Located> = root.gateways.iter().map(of_root).collect();
    let gateways = match (root_gateways.is_empty(), leaf.gateways.is_empty()) {
        (false, false) => {
            let named = |own: &&Located| root_gateways.iter().any(|gateway| gateway.text == own.text);
            leaf.gateways.iter().all(|own| named(&own)).then(|| leaf.gateways.clone())?
        }
        (_, true) => root_gateways,
        (true, false) => leaf.gateways.clone(),
    };
    let both_paths = root.uri.is_some() && leaf.uri.is_some();
    if both_paths && root.ignore_uri_case != leaf.ignore_uri_case {
        return None;
    }
    Some(HttpMatch {
        name: joined_name(&root.name, &leaf.name),
        uri: joined_path(root.uri.as_ref(), leaf.uri.as_ref())?,
        ignore_uri_case: if leaf.uri.is_some() { leaf.ignore_uri_case } else { root.ignore_uri_case },
        scheme: joined_text(root.scheme.as_ref(), leaf.scheme.as_ref())?,
        method: joined_text(root.method.as_ref(), leaf.method.as_ref())?,
        authority: joined_text(root.authority.as_ref(), leaf.authority.as_ref())?,
        headers: joined_list(&root.headers, &leaf.headers)?,
        without_headers: joined_list(&root.without_headers, &leaf.without_headers)?,
        query_params: joined_list(&root.query_params, &leaf.query_params)?,
        port: joined_value(root.port, leaf.port)?,
        gateways,
        stat_prefix: leaf.stat_prefix.clone().or_else(|| root.stat_prefix.clone()),
        source: joined_source(&root.source, &leaf.source)?,
    })
}

/// The narrower of two conditions on one text; the outer none: they exclude each other, or nothing tells which is narrower.
fn joined_text(root: Option<&StringMatch>, leaf: Option<&StringMatch>) -> Option<Option<StringMatch>> {
    let (root, leaf) = match (root, leaf) {
        (Some(root), Some(leaf)) => (root, leaf),
        (one, other) => return Some(other.or(one).cloned()),
    };
    let within = match (root, leaf) {
        (StringMatch::Prefix(root), StringMatch::Prefix(leaf) | StringMatch::Exact(leaf)) => {
            leaf.starts_with(&**root)
        }
        (root, leaf) => root == leaf,
    };
    within.then(|| Some(leaf.clone()))
}

fn joined_path(root: Option<&PathMatch>, leaf: Option<&PathMatch>) -> Option<Option<PathMatch>> {
    let (root, leaf) = match (root, leaf) {
        (Some(root), Some(leaf)) => (root, leaf),
        (one, other) => return Some(other.or(one).cloned()),
    };
    let within = match (root, leaf) {
        (PathMatch::Prefix(root), PathMatch::Prefix(leaf) | PathMatch::Exact(leaf)) => {
            leaf.starts_with(&**root)
        }
        (root, leaf) => root == leaf,
    };
    within.then(|| Some(leaf.clone()))
}

type Named = (Arc<str>, Option<StringMatch>);

fn joined_list(root: &[Named], leaf: &[Named]) -> Option<Vec<Named>> {
    let mut all: BTreeMap<Arc<str>, Option<StringMatch>> = root.iter().cloned().collect();
    for (name, own) in leaf {
        let both = match all.get(name) {
            Some(root) => joined_text(root.as_ref(), own.as_ref())?,
            None => own.clone(),
        };
        all.insert(name.clone(), both);
    }
    Some(all.into_iter().collect())
}

fn joined_source(root: &Source, leaf: &Source) -> Option<Source> {
    let mut labels = root.labels.clone();
    for (name, value) in &leaf.labels {
        if labels.insert(name.clone(), value.clone()).is_some_and(|before| before != *value) {
            return None;
        }
    }
    Some(Source { namespace: joined_value(root.namespace.clone(), leaf.namespace.clone())?, labels })
}

fn joined_value<T: PartialEq>(root: Option<T>, leaf: Option<T>) -> Option<Option<T>> {
    match (root, leaf) {
        (Some(root), Some(leaf)) => (root == leaf).then_some(Some(leaf)),
        (root, leaf) => Some(leaf.or(root)),
    }
}

/// What is wrong with delegates and with those that name them.
pub(super) fn check(documents: &DocumentSet, problems: &mut Vec<Problem>) {
    let mut named: Vec<Arc<str>> = Vec::new();
    for (root, spec) in documents.virtual_services().filter(|(_, spec)| !spec.hosts.is_empty()) {
        for rule in &spec.http {
            let Some(to) = delegate_of(rule) else { continue };
            let key = key_of(root, to);
            match find(documents, root, to) {
                Ok((document, delegate)) => check_joins(root, rule, document, delegate, problems),
                Err(missing) => problems.push(missing.problem(root, to, &key)),
            }
            named.push(key);
        }
    }
    for (document, _) in documents.virtual_services().filter(|(_, spec)| spec.hosts.is_empty()) {
        if !named.contains(&document.key()) {
            let message = "it has no hosts, and no VirtualService delegates to it".to_owned();
            problems.push(whole(document, message, "it takes effect when one does"));
        }
    }
}

impl Missing {
    fn problem(&self, root: &Document, to: &Delegate, key: &str) -> Problem {
        let at = &to.name;
        match self {
            Self::Nowhere => warning(
                root,
                at,
                format!("there is no {key}"),
                "apply it, or correct the name; until then the rule does nothing",
            ),
            Self::Hidden => {
                let message = format!("{key} is not exported to namespace {}", root.namespace);
                warning(root, at, message, "add it to its exportTo; until then the rule does nothing")
            }
            Self::Routes => {
                let message = format!("{key} has hosts of its own");
                let hint = "only a VirtualService without hosts can be delegated to";
                Problem { severity: Severity::Error, ..warning(root, at, message, hint) }
            }
        }
    }
}

/// A rule that no request can reach says so: it was meant to be reached.
fn check_joins(
    root: &Document,
    rule: &HttpRoute,
    document: &Arc<Document>,
    delegate: &VirtualService,
    problems: &mut Vec<Problem>,
) {
    for (i, leaf) in delegate.http.iter().enumerate() {
        if delegate_of(leaf).is_none() && joined(root, rule, document, leaf).is_none() {
            let at = Located { text: leaf.name.clone(), place: leaf.place, field: format!("spec.http[{i}]") };
            let message = format!(
                "none of its matches lies within those of the rule of {} that delegates to it",
                root.key()
            );
            let hint =
                "narrow them: a prefix or value must begin with that of the other, and a regex stand alone";
            problems.push(Problem { severity: Severity::Error, ..warning(document, &at, message, hint) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::parse;

    const ROOT: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root, namespace: edge}
spec:
  hosts: [shop.example.com]
  http:
  - MATCH
    delegate: {name: leaf, namespace: team}
  - route: [{destination: {host: site}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: leaf, namespace: team}
spec:
  http:
  - LEAF
    route: [{destination: {host: reviews}}]
";

    fn set(root: &str, leaf: &str) -> Arc<DocumentSet> {
        let (documents, problems) = parse(&ROOT.replace("MATCH", root).replace("LEAF", leaf), "test", 1);
        assert_eq!(problems, []);
        Arc::new(documents.into_iter().collect())
    }

    fn rules(resolved: &Resolved) -> Vec<HttpRoute> {
        let mut all = resolved.documents().virtual_services();
        all.find(|(document, _)| *document.name == *"root").map(|(_, spec)| spec.http.clone()).unwrap()
    }

    #[test]
    fn both_conditions_hold_or_the_rule_is_none() {
        for (root, leaf, expected) in [
            ("match: [{uri: {prefix: /a}}]", "match: [{uri: {prefix: /a/b}}]", Some("/a/b")),
            ("match: [{uri: {prefix: /a}}]", "match: [{uri: {exact: /a/b}}]", Some("/a/b")),
            ("match: [{uri: {prefix: /a}}]", "match: [{headers: {x: {exact: y}}}]", Some("/a")),
            (
                "match: [{headers: {x: {prefix: y}}}]",
                "match: [{uri: {prefix: /b}, headers: {x: {exact: yz}}}]",
                Some("/b"),
            ),
            ("match: [{uri: {prefix: /a}}]", "match: [{uri: {prefix: /b}}]", None),
            ("match: [{uri: {exact: /a}}]", "match: [{uri: {prefix: /a}}]", None),
            ("match: [{uri: {regex: /a.*}}]", "match: [{uri: {exact: /ab}}]", None),
            ("match: [{port: 80}]", "match: [{port: 81}]", None),
            ("match: [{sourceLabels: {a: b}}]", "match: [{sourceLabels: {a: c}}]", None),
            ("match: [{sourceNamespace: x}]", "match: [{sourceNamespace: y}]", None),
            ("match: [{gateways: [one]}]", "match: [{gateways: [edge/two]}]", None),
        ] {
            let set = set(root, leaf);
            let rules = rules(&Resolved::default().following(&set));
            let mut problems = Vec::new();
            check(&set, &mut problems);
            match expected {
                Some(path) => {
                    let uri = rules[0].matches[0].uri.clone();
                    let (Some(PathMatch::Prefix(found)) | Some(PathMatch::Exact(found))) = uri else {
                        panic!("{root}, {leaf}: {uri:?}");
                    };
                    assert_eq!((&*found, rules.len(), problems.len()), (path, 2, 0), "{root}, {leaf}");
                }
                None => {
                    assert_eq!((rules.len(), problems.len()), (1, 1), "{root}, {leaf}");
                    assert_eq!(problems[0].severity, Severity::Error);
                    assert_eq!(
                        (&*problems[0].document, &*problems[0].field),
                        ("VirtualService/team/leaf", "spec.http[0]")
                    );
                }
            }
        }
    }

    #[test]
    fn what_neither_changed_nor_has_a_changed_delegate_is_the_same_allocation() {
        let root =
            |resolved: &Resolved| resolved.documents().get("VirtualService/edge/root").unwrap().clone();
        let before = Resolved::default().following(&set("name: a", "name: b"));
        let mut documents = DocumentSet::clone(&before.written);
        documents.insert(Arc::new(
            parse(&ROOT.replace("MATCH", "name: x").replace("name: root", "name: other"), "test", 1)
                .0
                .remove(0),
        ));
        let after = before.following(&Arc::new(documents.clone()));
        assert!(Arc::ptr_eq(&root(&before), &root(&after)));
        let other = set("name: a", "name: c");
        documents.insert(other.get("VirtualService/team/leaf").unwrap().clone());
        let changed = after.following(&Arc::new(documents));
        assert_eq!(&*rules(&changed)[0].name, "a-c");
        assert!(!Arc::ptr_eq(&root(&after), &root(&changed)));
    }

    #[test]
    fn a_delegate_that_is_not_there_leaves_its_place_empty() {
        let set = set("name: a", "name: b");
        let alone: DocumentSet = set
            .iter()
            .filter(|document| *document.name == *"root")
            .map(|document| Document::clone(document))
            .collect();
        assert_eq!(rules(&Resolved::default().following(&Arc::new(alone.clone()))).len(), 1);
        let mut problems = Vec::new();
        check(&alone, &mut problems);
        let told: Vec<&str> = problems.iter().map(|problem| &*problem.message).collect();
        assert_eq!(told, ["there is no VirtualService/team/leaf"]);
    }
}
