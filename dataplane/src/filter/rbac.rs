//! Access control (Envoy's RBAC filters): what rules say of a request, or of a connection before any byte of it goes on.

pub mod engine;

use std::sync::{Arc, LazyLock};

use super::{Exchange, Verdict};
use crate::{
    fault::{Cause, Details},
    listener::Serving,
    spec::{Counted, Rbac, RbacAction, Rules},
};
use engine::{Decision, Subject, client, decide};

/// What is named where no policy matched.
static NONE: LazyLock<Arc<str>> = LazyLock::new(|| "none".into());
/// What a refusal is called that no policy allowed.
const UNMATCHED: &str = "rbac_access_denied_matched_policy[none]";

/// Checks a request.
pub(super) fn check(rbac: &Rbac, exchange: &Exchange<'_>) -> Verdict {
    let Some(view) = exchange.view() else { return Verdict::Fail(Cause::BadRequest.into()) };
    let serving = exchange.serving;
    let peer = serving.ends.remote.map(|end| end.ip());
    let subject = Subject {
        view: Some(view),
        client: client(serving.is_edge(), view.headers, peer),
        metadata: &exchange.effects.metadata,
        ..connection(serving)
    };
    match refusal(rbac, &subject) {
        None => Verdict::Pass,
        Some(details) => Verdict::Refuse(Cause::AccessDenied.into(), details),
    }
}

/// Why a connection may not pass, if it may not. All rules must let it.
pub fn refuses_connection(serving: &Serving) -> Option<Details> {
    let guards = &serving.chain.guards;
    guards.iter().find_map(|rbac| refusal(rbac, &connection(serving)))
}

/// What is known of a connection.
fn connection(serving: &Serving) -> Subject<'_> {
    let secured = serving.secured.as_deref();
    Subject {
        view: None,
        peer: secured.and_then(|of| of.peer.as_ref()),
        tls: serving.chain.tls.is_some(),
        ends: serving.ends,
        client: serving.ends.remote.map(|end| end.ip()),
        server_name: secured.map_or(&serving.asked_for, |of| &of.server_name).as_deref(),
        metadata: &[],
    }
}

/// Counts what watched rules would do, and gives the refusal of those that are enforced.
fn refusal(rbac: &Rbac, subject: &Subject<'_>) -> Option<Details> {
    if let Some(rules) = &rbac.shadow {
        let decision = decide(rules, subject);
        let what = match (rules.action, decision.policy, decision.allowed) {
            (RbacAction::Log, Some(_), _) => Some(Counted::Audited),
            (RbacAction::Log, None, _) => None,
            (RbacAction::Allow | RbacAction::Deny, _, true) => Some(Counted::WouldAllow),
            (RbacAction::Allow | RbacAction::Deny, _, false) => Some(Counted::WouldDeny),
        };
        what.iter().for_each(|what| count(*what, rules, decision));
    }
    let rules = rbac.rules.as_ref()?;
    let decision = decide(rules, subject);
    if decision.allowed {
        if rules.action == RbacAction::Log && decision.policy.is_some() {
            count(Counted::Audited, rules, decision);
        }
        return None;
    }
    count(Counted::Denied, rules, decision);
    Some(decision.policy.map_or(Details::Fixed(UNMATCHED), |policy| Details::Named(policy.details.clone())))
}

fn count(what: Counted, rules: &Rules, decision: Decision<'_>) {
    match decision.policy {
        Some(policy) => policy.tallies.count(what, &policy.name),
        None => rules.unmatched.count(what, &NONE),
    }
}
