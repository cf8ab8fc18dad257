//! Reads references: parents, backends, objects of other kinds; and hosts as routes and listeners write them.

use std::sync::Arc;

use super::{GROUP, ObjectRef, ParentKind, ParentRef, filters};
use crate::documents::{
    Destination,
    problem::Report,
    reader::{At, Located, Object},
    values::{self, HeaderOperations},
    virtual_service::Backend,
};

/// Largest weight of a backend.
const WEIGHT_MAX: u32 = 1_000_000;

/// A name of an object, its place with it.
pub(super) fn name(object: &mut Object<'_>, report: &mut Report) -> Option<Located> {
    let at = object.required("name", report)?;
    label(&at, report)
}

/// An optional namespace.
pub(super) fn namespace(object: &mut Object<'_>, report: &mut Report) -> Option<Arc<str>> {
    let at = object.field("namespace", report)?;
    label(&at, report).map(|found| found.text)
}

/// Letters, digits, dashes and dots, as Kubernetes names objects.
pub(super) fn label(at: &At<'_>, report: &mut Report) -> Option<Located> {
    crate::documents::dns_name(at, report)
}

/// `parentRefs`, of which there must be one.
pub(super) fn parents(object: &mut Object<'_>, report: &mut Report) -> Vec<ParentRef> {
    let Some(at) = object.required("parentRefs", report) else { return Vec::new() };
    let items = at.list(report);
    if items.is_empty() {
        at.fail(report, "attaches to nothing", "name a Gateway or a Service");
    }
    let found: Vec<ParentRef> = items.iter().filter_map(|at| parent(at, report)).collect();
    for (i, parent) in found.iter().enumerate() {
        let same = |other: &&ParentRef| {
            (other.kind, &other.namespace, &other.name.text, &other.section, other.port)
                == (parent.kind, &parent.namespace, &parent.name.text, &parent.section, parent.port)
        };
        if found[..i].iter().any(|other| same(&other)) {
            report.error(parent.name.place, &parent.name.field, "is named twice", "remove one");
        }
    }
    found
}

fn parent(at: &At<'_>, report: &mut Report) -> Option<ParentRef> {
    let mut object = at.object(report)?;
    let group = object.field("group", report).and_then(|at| at.text(report));
    let kind = object.field("kind", report).and_then(|at| at.text(report)).unwrap_or("Gateway".into());
    // Samples name Services without a group; the group that is meant without a word has none.
    let usual = if &*kind == "Service" { "" } else { GROUP };
    let group = group.unwrap_or_else(|| usual.into());
    let namespace = namespace(&mut object, report);
    let name = name(&mut object, report);
    let section = object.field("sectionName", report).and_then(|at| label(&at, report));
    let port = object.field("port", report).and_then(|at| at.port(report));
    object.finish(report);
    let kind = match (&*group, &*kind) {
        (GROUP, "Gateway") => ParentKind::Gateway,
        ("", "Service") => ParentKind::Service,
        _ => {
            at.fail(
                report,
                format!("a route cannot attach to a {kind} of group {group:?}"),
                format!("to a Gateway ({GROUP}) or a Service (group \"\")"),
            );
            return None;
        }
    };
    if let (ParentKind::Service, Some(section)) = (kind, &section) {
        report.error(section.place, &section.field, "a Service has no sections", "give its port");
    }
    // What is said of a parent is shown where the reference begins.
    let name = Located { place: at.place, field: at.path.clone(), ..name? };
    Some(ParentRef { kind, namespace, name, section: section.map(|section| section.text), port })
}

/// `hostnames` of a route.
pub(super) fn hostnames(object: &mut Object<'_>, report: &mut Report) -> Vec<Located> {
    let items = object.list("hostnames", report);
    let found: Vec<Located> = items.iter().filter_map(|at| hostname(at, report)).collect();
    values::no_duplicates(&found, "host", report);
    found
}

/// A host name, or one with `*.` in front; no IP address.
pub(super) fn hostname(at: &At<'_>, report: &mut Report) -> Option<Located> {
    let host = values::host(at, report)?;
    if &*host.text == "*" || host.text.parse::<std::net::IpAddr>().is_ok() {
        at.fail(report, format!("{:?} is no host name", host.text), "name a host or *.suffix; none is all");
        return None;
    }
    Some(host)
}

/// A reference to an object of another kind; `kind` and `group` have defaults.
pub(super) fn object(at: &At<'_>, group: &str, kind: &str, report: &mut Report) -> Option<ObjectRef> {
    let mut object = at.object(report)?;
    let group = object.field("group", report).and_then(|at| at.text(report)).unwrap_or(group.into());
    let kind = object.field("kind", report).and_then(|at| at.text(report)).unwrap_or(kind.into());
    let namespace = namespace(&mut object, report);
    let name = name(&mut object, report);
    object.finish(report);
    let name = Located { place: at.place, field: at.path.clone(), ..name? };
    Some(ObjectRef { group, kind, namespace, name })
}

/// `backendRefs` of a rule for requests; each may have filters.
pub(super) fn backends(object: &mut Object<'_>, report: &mut Report) -> Vec<Destination> {
    let items = object.list("backendRefs", report);
    items.iter().filter_map(|at| backend(at, Besides::Filters, report)).collect()
}

/// `backendRefs` of a rule for connections, of which there must be one.
pub(super) fn stream_backends(object: &mut Object<'_>, report: &mut Report) -> Vec<Destination> {
    let Some(at) = object.required("backendRefs", report) else { return Vec::new() };
    let items = at.list(report);
    if items.is_empty() {
        at.fail(report, "has no backend", "name at least one");
    }
    items.iter().filter_map(|at| backend(at, Besides::Weight, report)).collect()
}

/// `backendRef` of a mirror.
pub(super) fn mirrored(at: &At<'_>, report: &mut Report) -> Option<Destination> {
    backend(at, Besides::Nothing, report)
}

/// What a reference to a backend may have besides the backend.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Besides {
    Filters,
    Weight,
    Nothing,
}

fn backend(at: &At<'_>, besides: Besides, report: &mut Report) -> Option<Destination> {
    let mut object = at.object(report)?;
    let group = object.field("group", report).and_then(|at| at.text(report)).unwrap_or_default();
    let kind = object.field("kind", report).and_then(|at| at.text(report)).unwrap_or("Service".into());
    let namespace = namespace(&mut object, report);
    let name = name(&mut object, report);
    let port = object.field("port", report).and_then(|at| at.port(report));
    let weight = match besides {
        Besides::Filters | Besides::Weight => {
            object.field("weight", report).and_then(|at| at.integer(report, 0, WEIGHT_MAX))
        }
        Besides::Nothing => None,
    };
    let headers = match besides {
        Besides::Filters => filters::of_backend(&mut object, report),
        Besides::Weight | Besides::Nothing => HeaderOperations::default(),
    };
    object.finish(report);
    let known = (&*group, &*kind) == ("", "Service");
    if known && port.is_none() && report.is_clean() {
        at.fail(report, "names no port", "give the Service's port");
    }
    let name = name?;
    let host = match &namespace {
        Some(namespace) => format!("{}.{namespace}.svc", name.text).into(),
        None => name.text.clone(),
    };
    let host = Located { text: host, place: at.place, field: at.path.clone() };
    let backend = Some(Backend { group, kind, namespace, name: name.text });
    Some(Destination { host, subset: None, port, weight: weight.unwrap_or(1), headers, backend })
}
