//! The kinds of documents: how they are written, how keys name them, and who reads them.

use super::{
    DocumentSpec, destination_rule, gateway, health_check,
    problem::Report,
    reader::{At, Located, nearest},
    service_entry, sidecar, virtual_service, workload_group,
};

/// One kind.
pub(super) struct Kind {
    /// API group.
    group: &'static str,
    /// As documents write it.
    name: &'static str,
    /// As keys name it: with its group where another group has a kind of the same name
    /// (`weft_proto::document::kind_in_keys`).
    pub(super) key: &'static str,
    /// Reads its `spec`.
    pub(super) read: fn(&At<'_>, &mut Report) -> Option<DocumentSpec>,
}

/// A group, and the versions in which its kinds are written; they all mean the same.
type Group = (&'static str, &'static [&'static str]);

const ISTIO_NETWORKING: &str = "networking.istio.io";

const WEFT: &str = "weft.dev";

const GROUPS: [Group; 2] = [(ISTIO_NETWORKING, &["v1", "v1beta1", "v1alpha3"]), (WEFT, &["v1"])];

const KINDS: [Kind; 8] = [
    Kind {
        group: ISTIO_NETWORKING,
        name: "VirtualService",
        key: "VirtualService",
        read: |at, report| virtual_service::read(at, report).map(DocumentSpec::VirtualService),
    },
    Kind {
        group: ISTIO_NETWORKING,
        name: "DestinationRule",
        key: "DestinationRule",
        read: |at, report| {
            destination_rule::read(at, report).map(Box::new).map(DocumentSpec::DestinationRule)
        },
    },
    Kind {
        group: ISTIO_NETWORKING,
        name: "ServiceEntry",
        key: "ServiceEntry",
        read: |at, report| service_entry::read(at, report).map(DocumentSpec::ServiceEntry),
    },
    Kind {
        group: ISTIO_NETWORKING,
        name: "WorkloadEntry",
        key: "WorkloadEntry",
        read: |at, report| workload_group::read_entry(at, report).map(DocumentSpec::WorkloadEntry),
    },
    Kind {
        group: ISTIO_NETWORKING,
        name: "WorkloadGroup",
        key: "WorkloadGroup",
        read: |at, report| workload_group::read_group(at, report).map(DocumentSpec::WorkloadGroup),
    },
    Kind {
        group: ISTIO_NETWORKING,
        name: "Gateway",
        key: "Gateway",
        read: |at, report| gateway::read(at, report).map(DocumentSpec::Gateway),
    },
    Kind {
        group: ISTIO_NETWORKING,
        name: "Sidecar",
        key: "Sidecar",
        read: |at, report| sidecar::read(at, report).map(DocumentSpec::Sidecar),
    },
    Kind {
        group: WEFT,
        name: "HealthCheckPolicy",
        key: "HealthCheckPolicy",
        read: |at, report| health_check::read(at, report).map(DocumentSpec::HealthCheckPolicy),
    },
];

/// The kind that a document says it is.
pub(super) fn find(api_version: &Located, kind: &Located, report: &mut Report) -> Option<&'static Kind> {
    let (group, version) = api_version.text.split_once('/').unwrap_or(("", &api_version.text));
    let Some((_, versions)) = GROUPS.iter().find(|(known, _)| *known == group) else {
        let message = format!("kind {} {} is not supported", api_version.text, kind.text);
        report.error(kind.place, "kind", message, format!("{} are", all()));
        return None;
    };
    if !versions.contains(&version) {
        let message = format!("version {version:?} is not known");
        report.error(api_version.place, "apiVersion", message, format!("known are {}", versions.join(", ")));
        return None;
    }
    let found = KINDS.iter().find(|known| known.group == group && known.name == &*kind.text);
    if found.is_none() {
        let hint = nearest(&kind.text, &names(group));
        report.error(kind.place, "kind", format!("kind {} is not supported", kind.text), hint);
    }
    found
}

/// Every kind, group by group.
fn all() -> String {
    let group = |(group, _): &Group| format!("{group}/v1 {}", names(group).join(", "));
    GROUPS.iter().map(group).collect::<Vec<_>>().join("; ")
}

fn names(group: &str) -> Vec<&'static str> {
    KINDS.iter().filter(|kind| kind.group == group).map(|kind| kind.name).collect()
}
