//! `PeerAuthentication`: whether workloads take plain text, mutual TLS, or both. Istio's fields.

use std::{collections::BTreeMap, sync::Arc};

use super::{problem::Report, reader::At, target};

/// What some workloads take.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerAuthentication {
    /// Labels of the workloads; none is every workload of the namespace, or of the mesh in the root namespace.
    pub selector: Option<BTreeMap<Arc<str>, Arc<str>>>,
    /// None is as the next wider document says.
    pub mode: Option<MtlsMode>,
    /// For ports of the workload; none is as `mode`.
    pub ports: BTreeMap<u16, Option<MtlsMode>>,
}

/// `mtls.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MtlsMode {
    /// Plain text.
    Disable,
    /// Either.
    #[default]
    Permissive,
    /// Mutual TLS.
    Strict,
}

pub(super) fn read(spec: &At<'_>, report: &mut Report) -> Option<PeerAuthentication> {
    let mut object = spec.object(report)?;
    let selector = object.field("selector", report).and_then(|at| target::selector(&at, report));
    let mode = object.field("mtls", report).and_then(|at| mtls(&at, report)).flatten();
    let mut ports = BTreeMap::new();
    if let Some(at) = object.field("portLevelMtls", report) {
        if selector.is_none() {
            at.fail(report, "needs workloads to be selected", "add selector.matchLabels");
        }
        for (key, at) in at.entries(report) {
            let Some(port) = key.text.parse().ok().filter(|port| *port > 0) else {
                report.error(key.place, &key.field, format!("{:?} is no port", key.text), "1 to 65535");
                continue;
            };
            ports.extend(mtls(&at, report).map(|mode| (port, mode)));
        }
    }
    object.finish(report);
    Some(PeerAuthentication { selector, mode, ports })
}

/// The outer none is a mistake, the inner one that nothing is said.
fn mtls(at: &At<'_>, report: &mut Report) -> Option<Option<MtlsMode>> {
    let mut object = at.object(report)?;
    let mode = object.field("mode", report);
    object.finish(report);
    let Some(at) = mode else { return Some(None) };
    match &*at.text(report)? {
        "UNSET" => Some(None),
        "DISABLE" => Some(Some(MtlsMode::Disable)),
        "PERMISSIVE" => Some(Some(MtlsMode::Permissive)),
        "STRICT" => Some(Some(MtlsMode::Strict)),
        other => {
            at.fail(report, format!("mode {other:?} is not known"), "UNSET, DISABLE, PERMISSIVE or STRICT");
            None
        }
    }
}
