//! `TLSRoute` and `TCPRoute`: where connections go, by server name or by port alone.

use super::{Route, RouteKind, RouteRules, refs};
use crate::documents::{
    Destination,
    problem::Report,
    reader::{At, Object},
};

/// Reads the `spec` of a `TLSRoute`.
pub(in crate::documents) fn read_tls(spec: &At<'_>, report: &mut Report) -> Option<Route> {
    let mut object = spec.object(report)?;
    let parents = refs::parents(&mut object, report);
    let hostnames = refs::hostnames(&mut object, report);
    if hostnames.is_empty() && report.is_clean() {
        report.error(object.place, "spec.hostnames", "names no server", "name at least one");
    }
    let backends = rule(&mut object, report);
    object.finish(report);
    Some(Route { kind: RouteKind::Tls, parents, hostnames, rules: RouteRules::Stream(backends) })
}

/// Reads the `spec` of a `TCPRoute`.
pub(in crate::documents) fn read_tcp(spec: &At<'_>, report: &mut Report) -> Option<Route> {
    let mut object = spec.object(report)?;
    let parents = refs::parents(&mut object, report);
    let backends = rule(&mut object, report);
    object.finish(report);
    let hostnames = Vec::new();
    Some(Route { kind: RouteKind::Tcp, parents, hostnames, rules: RouteRules::Stream(backends) })
}

/// The one rule: nothing could tell two apart.
fn rule(object: &mut Object<'_>, report: &mut Report) -> Vec<Destination> {
    object.unsupported(&["useDefaultGateways"], report);
    let Some(at) = object.required("rules", report) else { return Vec::new() };
    let items = at.list(report);
    let [only] = items.as_slice() else {
        at.fail(report, format!("{} rules", items.len()), "give exactly one: nothing tells two apart");
        return Vec::new();
    };
    let Some(mut object) = only.object(report) else { return Vec::new() };
    object.field("name", report).and_then(|at| refs::label(&at, report));
    let backends = refs::stream_backends(&mut object, report);
    object.finish(report);
    backends
}
