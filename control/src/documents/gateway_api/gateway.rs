//! `Gateway` and `GatewayClass`.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    EdgeGateway, GROUP, GatewayClass, GatewayListener, LabelOperator, LabelSelector, ListenerProtocol,
    RouteNamespaces, frontend, listener_tls, refs,
};
use crate::documents::{
    problem::Report,
    reader::{At, Object},
};

/// Reads the `spec` of a `GatewayClass`.
pub(in crate::documents) fn read_class(spec: &At<'_>, report: &mut Report) -> Option<GatewayClass> {
    let mut object = spec.object(report)?;
    let controller = object.required("controllerName", report).and_then(|at| at.located(report));
    object.field("description", report).and_then(|at| at.text(report));
    object.unsupported(&["parametersRef"], report);
    object.finish(report);
    Some(GatewayClass { controller: controller? })
}

/// Reads the `spec` of a `Gateway`.
pub(in crate::documents) fn read(spec: &At<'_>, report: &mut Report) -> Option<EdgeGateway> {
    let mut object = spec.object(report)?;
    let class = object.required("gatewayClassName", report).and_then(|at| refs::label(&at, report));
    let items = object.required("listeners", report).map(|at| (at.list(report), at));
    let mut listeners: Vec<GatewayListener> = Vec::new();
    if let Some((items, at)) = items {
        if items.is_empty() {
            at.fail(report, "has no listener", "name at least one");
        }
        for item in items {
            let Some(listener) = listener(&item, report) else { continue };
            if listeners.iter().any(|earlier| earlier.name.text == listener.name.text) {
                let name = &listener.name;
                report.error(
                    name.place,
                    &name.field,
                    format!("listener {:?} is named twice", name.text),
                    "rename one",
                );
            }
            listeners.push(listener);
        }
    }
    let labels = object.field("infrastructure", report).map(|at| infrastructure(&at, report));
    if let Some(frontend) = object.field("tls", report).and_then(|at| frontend::read(&at, report)) {
        listeners.iter_mut().for_each(|listener| frontend.apply(listener));
    }
    let later = ["addresses", "allowedListeners", "backendTLS", "defaultScope"];
    object.unsupported(&later, report);
    object.finish(report);
    Some(EdgeGateway { class: class?, listeners, labels: labels.unwrap_or_default() })
}

fn infrastructure(at: &At<'_>, report: &mut Report) -> BTreeMap<Arc<str>, Arc<str>> {
    let Some(mut object) = at.object(report) else { return BTreeMap::new() };
    let labels = object.field("labels", report).map(|at| at.labels(report)).unwrap_or_default();
    // For the platform that runs the proxies.
    object.field("annotations", report).map(|at| at.labels(report));
    object.unsupported(&["parametersRef"], report);
    object.finish(report);
    labels
}

fn listener(at: &At<'_>, report: &mut Report) -> Option<GatewayListener> {
    let mut object = at.object(report)?;
    let name = refs::name(&mut object, report);
    let hostname = object.field("hostname", report).and_then(|at| match &*at.text(report)? {
        "" => None,
        _ => refs::hostname(&at, report),
    });
    let port = object.required("port", report).and_then(|at| at.port(report));
    let protocol_at = object.required("protocol", report);
    let protocol = protocol_at.as_ref().and_then(|at| at.text(report)).map(|text| match &*text {
        "HTTP" => ListenerProtocol::Http,
        "HTTPS" => ListenerProtocol::Https,
        "TLS" => ListenerProtocol::Tls,
        "TCP" => ListenerProtocol::Tcp,
        _ => ListenerProtocol::Other(text),
    });
    let tls_at = object.field("tls", report);
    let tls = tls_at.as_ref().and_then(|at| listener_tls::read(at, report));
    let (namespaces, kinds) = match object.field("allowedRoutes", report) {
        Some(at) => allowed(&at, report),
        None => (RouteNamespaces::Same, Vec::new()),
    };
    object.finish(report);
    let protocol = protocol?;
    match (&protocol, &tls_at, &tls) {
        (ListenerProtocol::Http | ListenerProtocol::Tcp, Some(at), _) => {
            at.fail(report, "has TLS on a port without", "set protocol HTTPS or TLS");
        }
        (ListenerProtocol::Https | ListenerProtocol::Tls, None, _) => {
            at.fail(report, "has no TLS on a port with", "add tls with certificateRefs");
        }
        (ListenerProtocol::Https, Some(at), Some(tls)) if !tls.terminates() => {
            at.fail(report, "TLS that passes through cannot be read as HTTP", "set protocol TLS");
        }
        _ => {}
    }
    if let (ListenerProtocol::Tcp, Some(_)) = (&protocol, &hostname) {
        at.fail(report, "TCP has no host names", "remove hostname");
    }
    let hostname = hostname.map(|host| host.text);
    Some(GatewayListener { name: name?, hostname, port: port?, protocol, tls, namespaces, kinds })
}

type Kinds = Vec<(Arc<str>, Arc<str>)>;

fn allowed(at: &At<'_>, report: &mut Report) -> (RouteNamespaces, Kinds) {
    let Some(mut object) = at.object(report) else { return (RouteNamespaces::Same, Vec::new()) };
    let namespaces = object.field("namespaces", report).and_then(|at| namespaces(&at, report));
    let mut kinds = Vec::new();
    for at in object.list("kinds", report) {
        let Some(mut object) = at.object(report) else { continue };
        let group = object.field("group", report).and_then(|at| at.text(report)).unwrap_or(GROUP.into());
        let kind = object.required("kind", report).and_then(|at| at.text(report));
        object.finish(report);
        kinds.extend(kind.map(|kind| (group, kind)));
    }
    object.finish(report);
    (namespaces.unwrap_or(RouteNamespaces::Same), kinds)
}

fn namespaces(at: &At<'_>, report: &mut Report) -> Option<RouteNamespaces> {
    let mut object = at.object(report)?;
    let from_at = object.field("from", report);
    let from = from_at.as_ref().and_then(|at| at.text(report)).unwrap_or("Same".into());
    let selector = object.field("selector", report).and_then(|at| selector(&at, report));
    object.finish(report);
    match (&*from, selector) {
        ("All", None) => Some(RouteNamespaces::All),
        ("Same", None) => Some(RouteNamespaces::Same),
        ("Selector", Some(selector)) => Some(RouteNamespaces::Selector(selector)),
        ("Selector", None) => {
            at.fail(report, "has no selector", "add selector");
            None
        }
        ("All" | "Same", Some(_)) => {
            at.fail(report, "has a selector that is not used", "set from: Selector");
            None
        }
        (other, _) => {
            at.fail(report, format!("{other:?} is no choice of namespaces"), "All, Same or Selector");
            None
        }
    }
}

fn selector(at: &At<'_>, report: &mut Report) -> Option<LabelSelector> {
    let mut object = at.object(report)?;
    let labels = object.field("matchLabels", report).map(|at| at.labels(report)).unwrap_or_default();
    let items = object.list("matchExpressions", report);
    let expressions = items.iter().filter_map(|at| expression(at, report)).collect();
    object.finish(report);
    Some(LabelSelector { labels, expressions })
}

fn expression(at: &At<'_>, report: &mut Report) -> Option<(Arc<str>, LabelOperator)> {
    let mut object: Object<'_> = at.object(report)?;
    let key = object.required("key", report).and_then(|at| at.text(report));
    let operator_at = object.required("operator", report);
    let values: Vec<Arc<str>> =
        object.list("values", report).iter().filter_map(|at| at.text(report)).collect();
    object.finish(report);
    let operator = match &*operator_at.as_ref()?.text(report)? {
        "In" => LabelOperator::In(values),
        "NotIn" => LabelOperator::NotIn(values),
        "Exists" => LabelOperator::Exists,
        "DoesNotExist" => LabelOperator::DoesNotExist,
        other => {
            let hint = "In, NotIn, Exists or DoesNotExist";
            operator_at?.fail(report, format!("{other:?} is no operator"), hint);
            return None;
        }
    };
    Some((key?, operator))
}
