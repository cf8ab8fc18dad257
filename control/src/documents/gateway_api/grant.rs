//! `ReferenceGrant`.

use super::{GrantFrom, GrantTo, ReferenceGrant, refs};
use crate::documents::{
    problem::Report,
    reader::{At, Object},
};

/// Reads the `spec` of a `ReferenceGrant`.
pub(in crate::documents) fn read(spec: &At<'_>, report: &mut Report) -> Option<ReferenceGrant> {
    let mut object = spec.object(report)?;
    let from = each(&mut object, "from", report, |object, report| {
        let group = object.required("group", report).and_then(|at| at.text(report));
        let kind = object.required("kind", report).and_then(|at| at.text(report));
        let namespace = object.required("namespace", report).and_then(|at| refs::label(&at, report));
        Some(GrantFrom { group: group?, kind: kind?, namespace: namespace?.text })
    });
    let to = each(&mut object, "to", report, |object, report| {
        let group = object.required("group", report).and_then(|at| at.text(report));
        let kind = object.required("kind", report).and_then(|at| at.text(report));
        let name = object.field("name", report).and_then(|at| refs::label(&at, report));
        Some(GrantTo { group: group?, kind: kind?, name: name.map(|name| name.text) })
    });
    object.finish(report);
    Some(ReferenceGrant { from, to })
}

/// The items of a list that must have one.
fn each<T>(
    object: &mut Object<'_>,
    name: &'static str,
    report: &mut Report,
    read: impl Fn(&mut Object<'_>, &mut Report) -> Option<T>,
) -> Vec<T> {
    let Some(at) = object.required(name, report) else { return Vec::new() };
    let items = at.list(report);
    if items.is_empty() {
        at.fail(report, "is empty", "name at least one");
    }
    let mut found = Vec::new();
    for item in items {
        let Some(mut object) = item.object(report) else { continue };
        found.extend(read(&mut object, report));
        object.finish(report);
    }
    found
}
