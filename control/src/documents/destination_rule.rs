//! `DestinationRule`: subsets of a service, and how proxies connect to it.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    export,
    problem::Report,
    reader::{At, Located},
    traffic_policy::{self, TrafficPolicy},
    values,
};
use crate::model::ExportTo;

/// Subsets and connection policy of a host.
#[derive(Clone, Debug, PartialEq)]
pub struct DestinationRule {
    /// Service name or host.
    pub host: Located,
    /// Policy of the whole host.
    pub policy: TrafficPolicy,
    /// Subsets, in the order given.
    pub subsets: Vec<Subset>,
    /// Where it counts.
    pub export_to: ExportTo,
    /// Labels of the clients that it is for, which are then of its own namespace; none is every client.
    pub selector: Option<super::Labels>,
}

impl DestinationRule {
    /// Whether any of its policies picks by hash.
    pub fn hashes(&self) -> bool {
        self.policy.hashes() || self.subsets.iter().any(|subset| subset.policy.hashes())
    }

    /// Names of the secrets that TLS needs.
    pub fn secrets(&self) -> impl Iterator<Item = Arc<str>> {
        let subsets = self.subsets.iter().flat_map(|subset| subset.policy.secrets());
        self.policy.secrets().into_iter().chain(subsets)
    }
}

/// A named part of a service's endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Subset {
    /// Name.
    pub name: Located,
    /// Labels that an endpoint must have.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// What differs from the host's policy.
    pub policy: TrafficPolicy,
}

pub(super) fn read(spec: &At<'_>, report: &mut Report) -> Option<DestinationRule> {
    let mut object = spec.object(report)?;
    let host = object.required("host", report).and_then(|at| values::host(&at, report));
    let policy = object.field("trafficPolicy", report).and_then(|at| traffic_policy::read(&at, report));
    let items = object.list("subsets", report);
    let subsets: Vec<Subset> = items.iter().filter_map(|at| subset(at, report)).collect();
    let names: Vec<Located> = subsets.iter().map(|subset| subset.name.clone()).collect();
    values::no_duplicates(&names, "subset", report);
    let export_to = export::read(&mut object, report);
    let selector = object.field("workloadSelector", report).and_then(|at| {
        let mut object = at.object(report)?;
        let labels = object.required("matchLabels", report).map(|at| at.labels(report));
        object.finish(report);
        labels
    });
    object.finish(report);
    let policy = policy.unwrap_or_default();
    let selector = selector.filter(|labels| !labels.is_empty());
    Some(DestinationRule { host: host?, policy, subsets, export_to, selector })
}

fn subset(at: &At<'_>, report: &mut Report) -> Option<Subset> {
    let mut object = at.object(report)?;
    let name_at = object.required("name", report);
    let name = name_at.as_ref().and_then(|at| at.located(report));
    if let (Some(at), Some(name)) = (&name_at, &name)
        && (name.text.is_empty()
            || !name.text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)))
    {
        at.fail(
            report,
            format!("{:?} is no subset name", name.text),
            "letters, digits, - _ and . are allowed",
        );
    }
    let labels = object.field("labels", report).map(|at| at.labels(report)).unwrap_or_default();
    let policy = object.field("trafficPolicy", report).and_then(|at| traffic_policy::read(&at, report));
    object.finish(report);
    Some(Subset { name: name?, labels, policy: policy.unwrap_or_default() })
}
