//! `AuthorizationPolicy`: who may do what at some workloads. Istio's fields; what could be taken for "everything" by an
//! oversight, an empty list say, is refused.

use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;

use super::{
    problem::Report,
    reader::{At, Located, Object},
    target::{self, Scope},
};

mod condition;
mod pattern;
#[cfg(test)]
mod tests;

pub use pattern::{PathPattern, TextPattern};

/// The annotation of a policy that is only watched.
const DRY_RUN: &str = "istio.io/dry-run";

/// Most rules of one policy.
const RULES_MAX: usize = 1000;

/// Who may do what.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthorizationPolicy {
    /// Where it holds.
    pub scope: Scope,
    /// What it means that a rule holds.
    pub action: AccessAction,
    /// What it would do is counted, and not done.
    pub dry_run: bool,
    /// Any of these; none never holds.
    pub rules: Vec<AccessRule>,
}

/// What it means that a rule of a policy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccessAction {
    /// It may be done; where any policy allows something, nothing else may.
    Allow,
    /// It may not be done, whatever is allowed.
    Deny,
    /// It is noted.
    Audit,
}

/// One rule: any source, any operation, all conditions.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessRule {
    /// Sources, each of which is all of its clauses; none is anybody.
    pub from: Vec<Vec<Clause>>,
    /// Operations, each of which is all of its clauses; none is anything.
    pub to: Vec<Vec<Clause>>,
    /// Further conditions.
    pub when: Vec<Clause>,
}

/// Values of which one must hold, if there are any, and values of which none may.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Values<T> {
    /// One of these.
    pub any: Vec<T>,
    /// None of these.
    pub none: Vec<T>,
}

/// A condition on one thing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Clause {
    /// Who calls, as its certificate proves: `trust-domain/ns/NAMESPACE/sa/ACCOUNT`.
    Principal(Values<TextPattern>),
    /// Its namespace, from the same.
    Namespace(Values<TextPattern>),
    /// Its namespace and service account, from the same.
    ServiceAccount(Values<(Arc<str>, Arc<str>)>),
    /// For whom it calls, as a token proves: `issuer/subject`.
    RequestPrincipal(Values<TextPattern>),
    /// A claim of the token, by the names that lead to it.
    Claim(Vec<Arc<str>>, Values<TextPattern>),
    /// The peer's address.
    SourceIp(Values<IpNet>),
    /// The client's address, as proxies before us tell.
    RemoteIp(Values<IpNet>),
    /// A header of the request, lower case.
    Header(Arc<str>, Values<TextPattern>),
    /// The host that is asked for.
    Host(Values<TextPattern>),
    /// The method.
    Method(Values<TextPattern>),
    /// The path without its query.
    Path(Values<PathPattern>),
    /// The workload's port.
    Port(Values<u16>),
    /// The address that the client connected to.
    DestinationIp(Values<IpNet>),
    /// The server's name that a TLS client asked for.
    ServerName(Values<TextPattern>),
}

impl Clause {
    /// Whether only a request can meet it.
    pub fn is_of_requests(&self) -> bool {
        match self {
            Self::RequestPrincipal(_)
            | Self::Claim(..)
            | Self::Header(..)
            | Self::Host(_)
            | Self::Method(_)
            | Self::Path(_) => true,
            Self::Principal(_)
            | Self::Namespace(_)
            | Self::ServiceAccount(_)
            | Self::SourceIp(_)
            | Self::RemoteIp(_)
            | Self::Port(_)
            | Self::DestinationIp(_)
            | Self::ServerName(_) => false,
        }
    }

    /// Whether it says who does something, not what is done.
    pub fn is_of_source(&self) -> bool {
        match self {
            Self::Principal(_)
            | Self::Namespace(_)
            | Self::ServiceAccount(_)
            | Self::RequestPrincipal(_)
            | Self::Claim(..)
            | Self::SourceIp(_)
            | Self::RemoteIp(_)
            | Self::Header(..) => true,
            Self::Host(_)
            | Self::Method(_)
            | Self::Path(_)
            | Self::Port(_)
            | Self::DestinationIp(_)
            | Self::ServerName(_) => false,
        }
    }
}

pub(super) fn read(
    spec: &At<'_>,
    annotations: &BTreeMap<Arc<str>, Located>,
    report: &mut Report,
) -> Option<AuthorizationPolicy> {
    let mut object = spec.object(report)?;
    let scope = target::scope(&mut object, report);
    let action = object.field("action", report).map_or(Some(AccessAction::Allow), |at| action(&at, report));
    object.unsupported(&["provider"], report);
    let dry_run = dry_run(annotations, report);
    let rules = object.field("rules", report).map(|at| {
        let items = at.list(report);
        if items.len() > RULES_MAX {
            at.fail(report, format!("more than {RULES_MAX} rules"), "write several policies");
        }
        items.iter().filter_map(|at| rule(at, report)).collect()
    });
    object.finish(report);
    Some(AuthorizationPolicy { scope, action: action?, dry_run, rules: rules.unwrap_or_default() })
}

fn action(at: &At<'_>, report: &mut Report) -> Option<AccessAction> {
    match &*at.text(report)? {
        "ALLOW" => Some(AccessAction::Allow),
        "DENY" => Some(AccessAction::Deny),
        "AUDIT" => Some(AccessAction::Audit),
        "CUSTOM" => {
            at.fail(report, "CUSTOM is not supported", "ALLOW, DENY or AUDIT");
            None
        }
        other => {
            at.fail(report, format!("{other:?} is no action"), "ALLOW, DENY or AUDIT");
            None
        }
    }
}

fn dry_run(annotations: &BTreeMap<Arc<str>, Located>, report: &mut Report) -> bool {
    let Some(said) = annotations.get(DRY_RUN) else { return false };
    match &*said.text {
        "true" => true,
        "false" => false,
        other => {
            report.error(said.place, &said.field, format!("{other:?} is neither true nor false"), "");
            false
        }
    }
}

fn rule(at: &At<'_>, report: &mut Report) -> Option<AccessRule> {
    let mut object = at.object(report)?;
    let from = each(&mut object, "from", "source", source, report);
    let to = each(&mut object, "to", "operation", operation, report);
    let items = some_of(&mut object, "when", report);
    let when = items.iter().filter_map(|at| condition::read(at, report)).collect();
    object.finish(report);
    Some(AccessRule { from, to, when })
}

/// The items of a list that is not empty where it is given: an empty one would hold for everything.
fn some_of<'a>(object: &mut Object<'a>, name: &'static str, report: &mut Report) -> Vec<At<'a>> {
    let Some(at) = object.field(name, report) else { return Vec::new() };
    let items = at.list(report);
    if items.is_empty() {
        at.fail(report, "is empty", "remove it, or say what it is for");
    }
    items
}

/// The clauses of each item of a list, which are in the item's only field.
fn each(
    object: &mut Object<'_>,
    name: &'static str,
    inner: &'static str,
    read: fn(&mut Object<'_>, &mut Report) -> Vec<Clause>,
    report: &mut Report,
) -> Vec<Vec<Clause>> {
    let items = some_of(object, name, report);
    let one = |at: &At<'_>| {
        let mut object = at.object(report)?;
        let found = object.required(inner, report).and_then(|at| {
            let mut object = at.object(report)?;
            let clauses = read(&mut object, report);
            object.finish(report);
            if clauses.is_empty() && report.is_clean() {
                at.fail(report, "says nothing", "remove it, or say what it is for");
            }
            Some(clauses)
        });
        object.finish(report);
        found
    };
    items.iter().filter_map(one).collect()
}

fn source(object: &mut Object<'_>, report: &mut Report) -> Vec<Clause> {
    let text = pattern::text;
    let found = [
        values(object, "principals", "notPrincipals", text, report).map(Clause::Principal),
        values(object, "requestPrincipals", "notRequestPrincipals", text, report)
            .map(Clause::RequestPrincipal),
        values(object, "namespaces", "notNamespaces", text, report).map(Clause::Namespace),
        values(object, "serviceAccounts", "notServiceAccounts", pattern::account, report)
            .map(Clause::ServiceAccount),
        values(object, "ipBlocks", "notIpBlocks", pattern::net, report).map(Clause::SourceIp),
        values(object, "remoteIpBlocks", "notRemoteIpBlocks", pattern::net, report).map(Clause::RemoteIp),
    ];
    found.into_iter().flatten().collect()
}

fn operation(object: &mut Object<'_>, report: &mut Report) -> Vec<Clause> {
    let found = [
        values(object, "hosts", "notHosts", pattern::text, report).map(Clause::Host),
        values(object, "ports", "notPorts", pattern::port, report).map(Clause::Port),
        values(object, "methods", "notMethods", pattern::text, report).map(Clause::Method),
        values(object, "paths", "notPaths", pattern::path, report).map(Clause::Path),
    ];
    found.into_iter().flatten().collect()
}

/// What two fields say of one thing; none where neither is given.
fn values<T>(
    object: &mut Object<'_>,
    any: &'static str,
    none: &'static str,
    read: fn(&At<'_>, &mut Report) -> Option<T>,
    report: &mut Report,
) -> Option<Values<T>> {
    let mut of = |name| -> Vec<T> {
        let items = some_of(object, name, report);
        items.iter().filter_map(|at| read(at, report)).collect()
    };
    let found = Values { any: of(any), none: of(none) };
    (!found.any.is_empty() || !found.none.is_empty()).then_some(found)
}
