//! Everything that documents are told: what is wrong with them, and the conditions that say so as Kubernetes does. Pure.
//!
//! A document that claims what another has is told so, and so is the other. Istio's kinds have conditions in the words of
//! the Gateway API: `Accepted` unless nothing of the document takes effect, `ResolvedRefs` unless something that it names
//! is not there, and `Conflicted` where two claim the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Document, DocumentSet, DocumentSpec, MESH_GATEWAY, Problem, Server,
    attach::{self, Attachments},
    check::{self, Layer, View},
    claims::{self, Contest, Side},
    gateway_api::ParentKind,
    status::{Condition, ConditionKind, Status, Statuses},
};
use crate::{model::Mesh, providers::Providers};

/// What documents are told, and what comes of routes.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What is wrong, kind by kind, the oldest document first.
    pub problems: Vec<Problem>,
    /// The status of every document.
    pub statuses: Statuses,
    /// What routes of the Gateway API attach to.
    pub attachments: Attachments,
}

/// Why one of two has what both claim.
const OVERRULED: &str = "Overruled";
const OVERRULES: &str = "Overrules";

/// Problems of a set of documents over a mesh, kind by kind, the oldest document first. Errors are what no change of the
/// mesh can heal; what a service that appears later would heal is a warning.
pub fn check(documents: &DocumentSet, mesh: &Mesh) -> Vec<Problem> {
    judge(documents, mesh, None).problems
}

/// Problems as [`check`] has them, those of providers that documents name where it is known which there are, and all that
/// comes of the same look at things.
pub fn judge(documents: &DocumentSet, mesh: &Mesh, providers: Option<&Providers>) -> Verdict {
    let view = View::new(documents, mesh);
    let mut problems = check::problems(&view, documents);
    problems.extend(providers.into_iter().flat_map(|known| check::providers::problems(documents, known)));
    let (attachments, mut statuses) = attach::attach(documents, &mesh.services, &mut problems);
    let rules = claims::mesh_rules(
        documents,
        |host, namespace| view.canonical(host, namespace),
        // As strangers see it.
        |document, _| document.is_visible_in(""),
    );
    let (mut contests, winners) = claims::contests(&mesh.services, &rules, &attachments);
    let idle = idle(documents, &view, &contests);
    contests.extend(claims::edge_contests(documents, &attachments));
    contests.extend(claims::connection_contests(
        documents,
        &mesh.services,
        |host, namespace| view.canonical(host, namespace),
        &attachments,
    ));
    check::gateways::check(documents, &attachments, &mut problems);
    check::gateways::check_listeners(documents, &attachments, &mut problems);
    tell(&contests, &winners, &mut problems, &mut statuses);
    let index = Index::new(&problems);
    for document in documents.iter() {
        statuses
            .entry(document.key())
            .or_insert_with(|| Status { conditions: index.conditions(document, &idle), ..Status::default() });
    }
    Verdict { problems, statuses, attachments }
}

/// Tells both sides of every contest. A route that has nothing at all of a service is not accepted there: `winners` are
/// those that have some.
fn tell(
    contests: &[Contest<'_>],
    winners: &[(&Arc<Document>, usize)],
    problems: &mut Vec<Problem>,
    statuses: &mut Statuses,
) {
    let mut told = BTreeSet::new();
    for Contest { what, winner, loser } in contests {
        let (winner_key, key) = (winner.document().key(), loser.document().key());
        let Some(at) = loser.at() else { continue };
        if !told.insert((winner_key.clone(), key.clone(), &at.field, what)) {
            continue;
        }
        let message = format!("conflict: {winner_key} routes {what} too, and it wins");
        let hint = "remove one of the two";
        problems.push(check::conflict(loser.document(), at, &winner_key, message.clone(), hint));
        if let Side::Route(document, parent) = loser {
            let lost = Condition::new(ConditionKind::Conflicted, true, OVERRULED, message.clone());
            add(statuses, &key, *parent, lost);
            let has =
                |(known, index): &(&Arc<Document>, usize)| Arc::ptr_eq(known, document) && index == parent;
            if is_of_service(document, *parent) && !winners.iter().any(has) {
                let refused = Condition::new(ConditionKind::Accepted, false, OVERRULED, message);
                add(statuses, &key, *parent, refused);
            }
        }
        if let Side::Route(_, parent) = winner {
            let message = format!("{key} claims {what} too; this one has them");
            let won = Condition::new(ConditionKind::Conflicted, true, OVERRULES, message);
            add(statuses, &winner_key, *parent, won);
        }
    }
}

fn is_of_service(document: &Document, parent: usize) -> bool {
    let parent = document.route().and_then(|route| route.parents.get(parent));
    parent.is_some_and(|parent| parent.kind == ParentKind::Service)
}

/// Gives a parent a condition, in place of one of its kind.
fn add(statuses: &mut Statuses, key: &str, parent: usize, condition: Condition) {
    let parents = statuses.get_mut(key).map(|status| status.parents.as_mut_slice()).unwrap_or_default();
    let Some(parent) = parents.iter_mut().find(|known| known.index == parent) else { return };
    match parent.conditions.iter_mut().find(|known| known.kind == condition.kind) {
        Some(known) => *known = condition,
        None => parent.conditions.push(condition),
    }
}

/// Virtual services of which nothing takes effect.
fn idle(documents: &DocumentSet, view: &View<'_>, contests: &[Contest<'_>]) -> BTreeSet<Arc<str>> {
    let lost: BTreeSet<(Arc<str>, &str)> = contests
        .iter()
        .filter_map(|contest| match &contest.loser {
            Side::Rule(document, host) => Some((document.key(), &*host.field)),
            Side::Route(..) => None,
        })
        .collect();
    let (mut claimed, mut idle) = (BTreeSet::new(), BTreeSet::new());
    for (document, service) in documents.virtual_services() {
        let key = document.key();
        let mut has = false;
        for host in &service.hosts {
            let canonical = view.canonical(&host.text, &document.namespace);
            for (gateway, layer) in check::claims_of(document, service) {
                let to_routes = gateway == MESH_GATEWAY
                    && layer == Layer::Requests
                    && lost.contains(&(key.clone(), &*host.field));
                has |= claimed.insert((canonical.clone(), gateway, layer)) && !to_routes;
            }
        }
        if !has {
            idle.insert(key);
        }
    }
    idle
}

/// Problems by the documents that they are about.
struct Index<'a> {
    /// Of losers: what they are told.
    lost: BTreeMap<&'a str, Vec<&'a Problem>>,
    /// Of winners: what the first loser is told.
    won: BTreeMap<&'a str, &'a Problem>,
    /// All else: the first of each document.
    missing: BTreeMap<&'a str, &'a Problem>,
}

impl<'a> Index<'a> {
    fn new(problems: &'a [Problem]) -> Self {
        let mut index = Self { lost: BTreeMap::new(), won: BTreeMap::new(), missing: BTreeMap::new() };
        for problem in problems {
            match &problem.conflict {
                Some(winner) => {
                    index.lost.entry(&*problem.document).or_default().push(problem);
                    index.won.entry(&**winner).or_insert(problem);
                }
                None => drop(index.missing.entry(&*problem.document).or_insert(problem)),
            }
        }
        index
    }

    /// What a document of Istio's kinds, or of our own, is told.
    fn conditions(&self, document: &Document, idle: &BTreeSet<Arc<str>>) -> Vec<Condition> {
        let key = document.key();
        let lost = self.lost.get(&*key).map(Vec::as_slice).unwrap_or_default();
        let idle = match &document.spec {
            DocumentSpec::ServiceEntry(entry) => lost.len() >= entry.hosts.len(),
            DocumentSpec::Gateway(gateway) => {
                let refused = |server: &Server| lost.iter().any(|problem| problem.field == server.at.field);
                gateway.servers.iter().all(refused)
            }
            _ => idle.contains(&key),
        };
        let accepted = match lost.first().filter(|_| idle) {
            Some(lost) => Condition::new(ConditionKind::Accepted, false, OVERRULED, lost.message.clone()),
            None => Condition::new(ConditionKind::Accepted, true, "Accepted", ""),
        };
        let resolved = match self.missing.get(&*key) {
            Some(problem) => {
                let message = format!("{}: {}", problem.field, problem.message);
                Condition::new(ConditionKind::ResolvedRefs, false, "RefNotFound", message)
            }
            None => Condition::new(ConditionKind::ResolvedRefs, true, "ResolvedRefs", ""),
        };
        let conflicted = |reason, message| Condition::new(ConditionKind::Conflicted, true, reason, message);
        let conflicted = match (lost.first(), self.won.get(&*key)) {
            (Some(lost), _) => conflicted(OVERRULED, lost.message.clone()),
            (None, Some(won)) => {
                conflicted(OVERRULES, format!("{} claims the same; this one has it", won.document))
            }
            (None, None) => Condition::new(ConditionKind::Conflicted, false, "NoConflicts", ""),
        };
        vec![accepted, resolved, conflicted]
    }
}
