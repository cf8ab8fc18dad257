//! Policies of access become rules for the proxy of a workload. Pure.
//!
//! Everything is read so that doubt refuses: where holding means that something may be done a value is taken as it is
//! written, and where it means that something may not, in every way that a backend could take it for. A host means itself
//! at any port, a header any of the values that came under its name. No regular expression is made of a name.
//!
//! What only a request can meet is unknown of a connection, as in Istio: a rule that allows by it allows nothing there,
//! and a rule that denies by it denies without it.

use std::{collections::BTreeMap, sync::Arc};

use super::ir::{Access, Condition, Doer, Done, Grant, Guard, Text};
use crate::documents::{
    AccessAction, AccessRule, AuthorizationPolicy, Clause, Document, DocumentSet, PathPattern,
    ROOT_NAMESPACE, Scope, TargetKind, TextPattern, Values,
};

#[cfg(test)]
mod tests;
mod texts;

use texts::Reading;

/// What every SPIFFE id begins with.
const SPIFFE: &str = "spiffe://";

/// The trust domain that stands for the mesh's own, whatever that is called.
const OWN_DOMAIN: &str = "cluster.local";

/// For whom policies are compiled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) labels: &'a BTreeMap<String, String>,
    /// What policies of its own namespace may be attached to, at the port.
    pub(crate) targets: &'a [(TargetKind, Arc<str>)],
}

impl Workload<'_> {
    /// Whether a policy of a namespace is for it.
    pub(crate) fn is_meant(&self, namespace: &str, scope: &Scope) -> bool {
        let own = *namespace == *self.namespace;
        let targets = self.targets.iter().filter(|_| own).map(|(kind, name)| (*kind, &**name));
        (own || *namespace == *ROOT_NAMESPACE) && scope.holds(self.labels, targets)
    }
}

/// Where they are checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot<'a> {
    pub(crate) layer: Layer,
    /// The workload's port; none where only a connection tells.
    pub(crate) port: Option<u16>,
    /// The mesh's trust domain.
    pub(crate) trust_domain: &'a str,
}

/// What is known there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// Requests.
    Http,
    /// Requests, by a gRPC library, which knows no tokens and no templates.
    Grpc,
    /// Connections.
    Tcp,
}

/// The policies of a workload, the oldest first.
pub(crate) fn policies<'a>(
    documents: &'a DocumentSet,
    workload: Workload<'a>,
) -> impl Iterator<Item = (&'a Arc<Document>, &'a AuthorizationPolicy)> {
    let meant = move |(document, policy): &(&Arc<Document>, &AuthorizationPolicy)| {
        workload.is_meant(&document.namespace, &policy.scope)
    };
    documents.authorization_policies().filter(meant)
}

/// What is checked of a workload's traffic at a spot, and the keys of the documents that say so.
pub(crate) fn compile(
    documents: &DocumentSet,
    workload: Workload<'_>,
    spot: Spot<'_>,
) -> (Access, Vec<Arc<str>>) {
    let (mut access, mut keys) = (Access::default(), Vec::new());
    for (document, policy) in policies(documents, workload) {
        let Guard { rules, shadow } = match policy.action {
            AccessAction::Deny => &mut access.deny,
            AccessAction::Allow => &mut access.allow,
            AccessAction::Audit => &mut access.audit,
        };
        let grants = if policy.dry_run { shadow } else { rules }.get_or_insert_default();
        let compiler = Compiler { spot, namespace: &document.namespace, action: policy.action };
        for (i, rule) in policy.rules.iter().enumerate() {
            let name = format!("ns[{}]-policy[{}]-rule[{i}]", document.namespace, document.name).into();
            grants.extend(compiler.rule(name, rule));
        }
        keys.push(document.key());
    }
    (access, keys)
}

struct Compiler<'a> {
    spot: Spot<'a>,
    /// The policy's.
    namespace: &'a str,
    action: AccessAction,
}

impl Compiler<'_> {
    /// None where it can never hold.
    fn rule(&self, name: Arc<str>, rule: &AccessRule) -> Option<Grant> {
        let all = || rule.from.iter().chain(&rule.to).flatten().chain(&rule.when);
        if self.action == AccessAction::Allow && !all().all(|clause| self.knows(clause)) {
            return None;
        }
        let (doers, done): (Vec<&Clause>, Vec<&Clause>) =
            rule.when.iter().partition(|clause| clause.is_of_source());
        let none = [Vec::new()];
        let or_none =
            |lists: &'_ [Vec<Clause>]| if lists.is_empty() { none.to_vec() } else { lists.to_vec() };
        let principal = |source: Vec<Clause>| {
            Condition::all(source.iter().chain(doers.iter().copied()).flat_map(|of| self.doer(of)).collect())
        };
        let permission = |operation: Vec<Clause>| {
            Condition::all(
                operation.iter().chain(done.iter().copied()).flat_map(|of| self.done(of)).collect(),
            )
        };
        Some(Grant {
            name,
            permissions: or_none(&rule.to).into_iter().map(permission).collect(),
            principals: or_none(&rule.from).into_iter().map(principal).collect(),
        })
    }

    /// Whether a clause can be checked here.
    fn knows(&self, clause: &Clause) -> bool {
        let template = |pattern: &PathPattern| matches!(pattern, PathPattern::Template(_));
        match (self.spot.layer, clause) {
            (Layer::Http, _) => true,
            (Layer::Tcp, clause) => !clause.is_of_requests(),
            (Layer::Grpc, Clause::RequestPrincipal(_) | Clause::Claim(..)) => false,
            (Layer::Grpc, Clause::Path(paths)) => !paths.any.iter().chain(&paths.none).any(template),
            (Layer::Grpc, _) => true,
        }
    }

    /// What a clause says of who does it; nothing where it says nothing of that, or cannot be checked.
    fn doer(&self, clause: &Clause) -> Vec<Condition<Doer>> {
        if !self.knows(clause) {
            return Vec::new();
        }
        let domain = self.spot.trust_domain;
        match clause {
            Clause::Principal(values) => {
                self.each(values, |value, reading| principal(value, domain, reading))
            }
            Clause::Namespace(values) => {
                self.each(values, |value, reading| namespace(value, domain, reading))
            }
            Clause::ServiceAccount(values) => self.each(values, |(namespace, account), reading| {
                let namespace = if namespace.is_empty() { self.namespace } else { namespace };
                service_account(namespace, account, domain, reading)
            }),
            Clause::RequestPrincipal(values) => self.each(values, |value, _| texts::request_principal(value)),
            Clause::Claim(path, values) => self
                .each(values, |value, _| Condition::Is(Doer::Claim(path.clone(), texts::as_written(value)))),
            Clause::SourceIp(values) => self.each(values, |net, _| Condition::Is(Doer::SourceIp(*net))),
            Clause::RemoteIp(values) => self.each(values, |net, _| Condition::Is(Doer::RemoteIp(*net))),
            Clause::Header(name, values) => self.each(values, |value, reading| {
                let text = |text| Condition::Is(Doer::Header(name.clone(), text));
                Condition::some(texts::header(value, reading).into_iter().map(text).collect())
            }),
            Clause::Host(_)
            | Clause::Method(_)
            | Clause::Path(_)
            | Clause::Port(_)
            | Clause::DestinationIp(_)
            | Clause::ServerName(_) => Vec::new(),
        }
    }

    /// What a clause says of what is done; nothing where it says nothing of that, or cannot be checked.
    fn done(&self, clause: &Clause) -> Vec<Condition<Done>> {
        if !self.knows(clause) {
            return Vec::new();
        }
        match clause {
            Clause::Host(values) => self.each(values, |value, reading| {
                let text = |text| Condition::Is(Done::Host(text));
                Condition::some(texts::host(value, reading).into_iter().map(text).collect())
            }),
            Clause::Method(values) => {
                self.each(values, |value, _| Condition::Is(Done::Method(texts::as_written(value))))
            }
            Clause::Path(values) => self.each(values, |value, _| {
                Condition::Is(match value {
                    PathPattern::Text(text) => Done::Path(texts::as_written(text)),
                    PathPattern::Template(template) => {
                        Done::Template(template.replace("{**}", "**").replace("{*}", "*").into())
                    }
                })
            }),
            Clause::Port(values) => self.each(values, |port, _| match self.spot.port {
                None => Condition::Is(Done::DestinationPort(*port)),
                Some(here) if here == *port => Condition::Any,
                Some(_) => Condition::never(),
            }),
            Clause::DestinationIp(values) => {
                self.each(values, |net, _| Condition::Is(Done::DestinationIp(*net)))
            }
            Clause::ServerName(values) => {
                self.each(values, |value, _| Condition::Is(Done::ServerName(texts::as_written(value))))
            }
            Clause::Principal(_)
            | Clause::Namespace(_)
            | Clause::ServiceAccount(_)
            | Clause::RequestPrincipal(_)
            | Clause::Claim(..)
            | Clause::SourceIp(_)
            | Clause::RemoteIp(_)
            | Clause::Header(..) => Vec::new(),
        }
    }

    /// One of the values, and none of the others.
    fn each<T, Leaf>(
        &self,
        values: &Values<T>,
        of: impl Fn(&T, Reading) -> Condition<Leaf>,
    ) -> Vec<Condition<Leaf>> {
        let allows = self.action == AccessAction::Allow;
        let set = |list: &[T], reading| {
            let list: Vec<_> = list.iter().map(|value| of(value, reading)).collect();
            (!list.is_empty()).then(|| Condition::some(list))
        };
        let any = set(&values.any, Reading { wide: !allows, grants: allows });
        let none = set(&values.none, Reading { wide: allows, grants: false });
        any.into_iter().chain(none.map(Condition::not)).collect()
    }
}

/// A peer by its certificate. What may be done by whom a star stands for is not done by other trust domains: these are
/// named where they are meant.
fn principal(value: &TextPattern, domain: &str, reading: Reading) -> Condition<Doer> {
    let is = |text| Condition::Is(Doer::Principal(text));
    let own = |rest: &str| -> Arc<str> {
        match rest.strip_prefix(OWN_DOMAIN) {
            Some(path) if path.starts_with('/') => format!("{SPIFFE}{domain}{path}").into(),
            _ => format!("{SPIFFE}{rest}").into(),
        }
    };
    let whose: Arc<str> = if reading.grants { format!("{SPIFFE}{domain}/").into() } else { SPIFFE.into() };
    match value {
        TextPattern::Any => is(Text::Prefix(whose)),
        TextPattern::Exact(text) => is(Text::Exact(own(text))),
        TextPattern::Prefix(text) => is(Text::Prefix(own(text))),
        TextPattern::Suffix(text) => {
            Condition::All(vec![is(Text::Prefix(whose)), is(Text::Suffix(text.clone()))])
        }
    }
}

/// A peer by its namespace, which is the mesh's own: `spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT`. An id has no other place for
/// what is looked for, since neither names nor trust domains have slashes.
fn namespace(value: &TextPattern, domain: &str, reading: Reading) -> Condition<Doer> {
    let is = |text| Condition::Is(Doer::Principal(text));
    let part: Arc<str> = match value {
        TextPattern::Any => "/ns/".into(),
        TextPattern::Exact(name) => format!("/ns/{name}/sa/").into(),
        TextPattern::Prefix(name) => format!("/ns/{name}").into(),
        TextPattern::Suffix(name) => format!("{name}/sa/").into(),
    };
    if reading.wide {
        return is(Text::Contains(part));
    }
    match value {
        TextPattern::Suffix(_) => Condition::All(vec![
            is(Text::Prefix(format!("{SPIFFE}{domain}/ns/").into())),
            is(Text::Contains(part)),
        ]),
        _ => is(Text::Prefix(format!("{SPIFFE}{domain}{part}").into())),
    }
}

fn service_account(namespace: &str, account: &str, domain: &str, reading: Reading) -> Condition<Doer> {
    let path = format!("/ns/{namespace}/sa/{account}");
    Condition::Is(Doer::Principal(match reading.wide {
        true => Text::Suffix(path.into()),
        false => Text::Exact(format!("{SPIFFE}{domain}{path}").into()),
    }))
}
