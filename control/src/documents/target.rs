//! Where a policy of security holds: at the workloads that it selects, or at what it is attached to (`targetRefs`).

use std::{collections::BTreeMap, sync::Arc};

use super::{
    dns_name, gateway_api,
    problem::Report,
    reader::{At, Object},
};

/// Most targets of one policy: Istio's number.
const TARGETS_MAX: usize = 16;

/// Where a policy holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// Labels of the workloads; none is every workload of the namespace, or of the mesh in the root namespace.
    pub selector: Option<BTreeMap<Arc<str>, Arc<str>>>,
    /// What it is attached to, of its own namespace; none is that the selector says where it holds.
    pub targets: Vec<Target>,
}

/// What a policy is attached to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Its kind.
    pub kind: TargetKind,
    /// Its name.
    pub name: Arc<str>,
}

/// Kinds that policies attach to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetKind {
    /// A `Gateway` of the Gateway API: the ports of its proxies on which it listens.
    Gateway,
    /// A `Service`: the ports of its workloads.
    Service,
}

impl Scope {
    /// Whether it holds for a workload with these labels, of a namespace in which it counts, or for one of these targets
    /// of its own namespace.
    pub fn holds<'a>(
        &self,
        labels: &BTreeMap<String, String>,
        mut targets: impl Iterator<Item = (TargetKind, &'a str)>,
    ) -> bool {
        if !self.targets.is_empty() {
            return targets.any(|(kind, name)| {
                self.targets.iter().any(|target| target.kind == kind && *target.name == *name)
            });
        }
        let has = |(name, value): (&Arc<str>, &Arc<str>)| {
            labels.get(&**name).is_some_and(|found| **found == **value)
        };
        self.selector.as_ref().is_none_or(|selector| selector.iter().all(has))
    }
}

/// Reads `selector`, `targetRef` and `targetRefs`, of which a policy has one at most.
pub(super) fn scope(object: &mut Object<'_>, report: &mut Report) -> Scope {
    let selector_at = object.field("selector", report);
    let selector = selector_at.as_ref().and_then(|at| selector(at, report));
    let one = object.field("targetRef", report);
    let several = object.field("targetRefs", report);
    if let (Some(_), Some(at)) = (&selector_at, one.as_ref().or(several.as_ref())) {
        at.fail(
            report,
            "a policy that selects workloads is attached to nothing",
            "remove the selector or this",
        );
    }
    let items = match &several {
        Some(at) => {
            let items = at.list(report);
            if items.is_empty() {
                at.fail(report, "is empty", "name what it is for, or remove it");
            }
            if items.len() > TARGETS_MAX {
                at.fail(report, format!("more than {TARGETS_MAX} targets"), "write several policies");
            }
            items
        }
        None => Vec::new(),
    };
    let targets = one.iter().chain(&items).filter_map(|at| target(at, report)).collect();
    Scope { selector, targets }
}

/// `matchLabels`; without any it selects every workload, as in Istio.
pub(super) fn selector(at: &At<'_>, report: &mut Report) -> Option<BTreeMap<Arc<str>, Arc<str>>> {
    let mut object = at.object(report)?;
    let labels = object.field("matchLabels", report).map(|at| at.labels(report)).unwrap_or_default();
    object.finish(report);
    (!labels.is_empty()).then_some(labels)
}

fn target(at: &At<'_>, report: &mut Report) -> Option<Target> {
    let mut object = at.object(report)?;
    let group = object.field("group", report).and_then(|at| at.text(report)).unwrap_or_default();
    let kind = object.required("kind", report).and_then(|at| at.text(report));
    let name = object.required("name", report).and_then(|at| dns_name(&at, report));
    object.unsupported(&["namespace"], report);
    object.finish(report);
    let kind = match (&*group, &*kind?) {
        (gateway_api::GROUP, "Gateway") => TargetKind::Gateway,
        ("" | "core", "Service") => TargetKind::Service,
        (group, kind) => {
            let message = format!("a policy cannot be attached to a {kind} of group {group:?}");
            let hint = format!("to a Gateway (group {}) or a Service (group \"\")", gateway_api::GROUP);
            at.fail(report, message, hint);
            return None;
        }
    };
    Some(Target { kind, name: name?.text })
}
