//! `Gateway`: ports and hosts that edge proxies serve. HTTP servers; others are refused.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    problem::Report,
    reader::{At, Located},
    service_entry, values,
};
use crate::model::Protocol;

/// Ports and hosts of the edge proxies that a selector picks.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// Labels of the proxies; empty is every gateway.
    pub selector: BTreeMap<Arc<str>, Arc<str>>,
    /// Servers.
    pub servers: Vec<Server>,
}

/// One port and its hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Port.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Hosts: exact, `*.suffix` or `*`; any namespace part is removed.
    pub hosts: Vec<Located>,
}

pub(super) fn read(spec: &At<'_>, report: &mut Report) -> Option<Gateway> {
    let mut object = spec.object(report)?;
    let selector = object.field("selector", report).map(|at| at.labels(report)).unwrap_or_default();
    let servers = match object.required("servers", report) {
        Some(at) => at.list(report).iter().filter_map(|at| server(at, report)).collect(),
        None => Vec::new(),
    };
    object.finish(report);
    Some(Gateway { selector, servers })
}

fn server(at: &At<'_>, report: &mut Report) -> Option<Server> {
    let mut object = at.object(report)?;
    let port = object.required("port", report).and_then(|at| {
        let mut object = at.object(report)?;
        let number = object.required("number", report).and_then(|at| at.port(report));
        object.field("name", report).and_then(|at| at.text(report));
        let protocol_at = object.required("protocol", report);
        let protocol = protocol_at.as_ref().and_then(|at| service_entry::protocol(at, report));
        if let (Some(at), Some(protocol)) = (&protocol_at, protocol)
            && !protocol.is_http()
        {
            at.fail(report, "only HTTP servers are supported", "HTTP, HTTP2 or GRPC");
        }
        object.unsupported(&["targetPort"], report);
        object.finish(report);
        Some((number?, protocol?))
    });
    let hosts: Vec<Located> = match object.required("hosts", report) {
        Some(at) => at.list(report).iter().filter_map(|at| server_host(at, report)).collect(),
        None => Vec::new(),
    };
    object.field("name", report).and_then(|at| at.text(report));
    object.unsupported(&["tls", "bind", "defaultEndpoint"], report);
    object.finish(report);
    let (port, protocol) = port?;
    Some(Server { port, protocol, hosts })
}

/// A host, perhaps with `namespace/` before it. Only `*/` and `./` are taken: others would widen what they promise.
fn server_host(at: &At<'_>, report: &mut Report) -> Option<Located> {
    let located = at.located(report)?;
    let Some((namespace, host)) = located.text.split_once('/') else { return values::host(at, report) };
    if !matches!(namespace, "*" | ".") {
        at.fail(report, "a namespace before the host is not supported", "write the host alone");
        return None;
    }
    Some(Located { text: host.to_lowercase().into(), ..located })
}
