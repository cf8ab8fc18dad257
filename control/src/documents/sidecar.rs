//! `Sidecar`: what the proxies of some workloads need to know of. Istio's fields; where proxies listen is told by their own
//! settings, so `bind` and other capture modes of what they call are refused.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use weft_proto::node::Address;

use super::{
    hosts::host_matches,
    problem::Report,
    reader::{At, Located},
    service_entry, values,
};
use crate::model::{OutboundPolicy, Protocol};

/// What proxies know of, and what they do with the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Sidecar {
    /// Labels of the workloads; none is every workload of the namespace, or of the mesh in the root namespace.
    pub selector: Option<BTreeMap<Arc<str>, Arc<str>>>,
    /// What they may call; none is everything.
    pub egress: Option<Vec<Egress>>,
    /// What becomes of calls to the unknown; none is what the mesh does.
    pub outbound: Option<OutboundPolicy>,
    /// Ports at which others reach the workload, beside those that the proxy's own settings name.
    pub ingress: Vec<Ingress>,
}

/// A port at which others reach a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Ingress {
    /// The port.
    pub port: u16,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where the proxy listens itself (`captureMode: NONE`); none is where it captures.
    pub bind: Option<IpAddr>,
    /// Where the workload listens: an address of loopback or a unix socket.
    pub app: Address,
}

/// Hosts that may be called, on one port or on all that no other entry names.
#[derive(Clone, Debug, PartialEq)]
pub struct Egress {
    /// Service port.
    pub port: Option<u16>,
    /// Hosts.
    pub hosts: Vec<EgressHost>,
}

/// `namespace/host`.
#[derive(Clone, Debug, PartialEq)]
pub struct EgressHost {
    /// Where services and documents come from.
    pub namespace: FromNamespace,
    /// Host, `*.suffix` or `*`.
    pub host: Arc<str>,
    /// As it is written.
    pub written: Located,
}

/// The namespace part of an egress host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromNamespace {
    /// `*`.
    Any,
    /// `.`.
    Own,
    /// `~`: none at all.
    Nowhere,
    /// This one.
    Named(Arc<str>),
}

impl Sidecar {
    /// Whether its proxies know of a host of a namespace, on a port. `home` is the proxies' namespace.
    pub fn imports(&self, home: &str, namespace: &str, host: &str, port: Option<u16>) -> bool {
        let Some(egress) = &self.egress else { return true };
        let takes = |entry: &&Egress| entry.hosts.iter().any(|of| of.takes(home, namespace, host));
        match port.and_then(|port| egress.iter().find(|entry| entry.port == Some(port))) {
            Some(entry) => takes(&entry),
            None if port.is_none() => egress.iter().any(|entry| takes(&entry)),
            None => egress.iter().filter(|entry| entry.port.is_none()).any(|entry| takes(&entry)),
        }
    }
}

impl EgressHost {
    fn takes(&self, home: &str, namespace: &str, host: &str) -> bool {
        let from = match &self.namespace {
            FromNamespace::Any => true,
            FromNamespace::Own => namespace == home,
            FromNamespace::Nowhere => false,
            FromNamespace::Named(name) => **name == *namespace,
        };
        // What a document says of many hosts is of use where one of them is known.
        from && (host_matches(&self.host, host) || host_matches(host, &self.host))
    }
}

pub(super) fn read(spec: &At<'_>, report: &mut Report) -> Option<Sidecar> {
    let mut object = spec.object(report)?;
    let selector = object.field("workloadSelector", report).and_then(|at| {
        let mut object = at.object(report)?;
        let labels = object.field("labels", report).map(|at| at.labels(report)).unwrap_or_default();
        object.finish(report);
        if labels.is_empty() {
            at.fail(report, "selects nothing", "give labels, or remove it for the whole namespace");
        }
        Some(labels)
    });
    let egress = object.field("egress", report).map(|at| {
        let items = at.list(report);
        let entries: Vec<Egress> = items.iter().filter_map(|at| egress(at, report)).collect();
        if let Some(early) = entries.iter().rev().skip(1).position(|entry| entry.port.is_none()) {
            let at = &items[entries.len() - 2 - early];
            at.fail(report, "only the last entry may be without a port", "give it one, or move its hosts");
        }
        for (i, at) in items.iter().enumerate().take(entries.len()) {
            let port = entries[i].port;
            if port.is_some() && entries[..i].iter().any(|earlier| earlier.port == port) {
                at.fail(report, "its port is named twice", "merge the two");
            }
        }
        entries
    });
    let outbound = object.field("outboundTrafficPolicy", report).and_then(|at| outbound(&at, report));
    let items = object.list("ingress", report);
    let mut entries: Vec<Ingress> = Vec::new();
    for at in &items {
        let Some(entry) = ingress(at, report) else { continue };
        if entries.iter().any(|earlier| earlier.port == entry.port) {
            at.fail(report, "its port is named twice", "keep one");
        }
        entries.push(entry);
    }
    object.unsupported(&["inboundConnectionPool"], report);
    object.finish(report);
    let egress = egress.filter(|entries| !entries.is_empty());
    Some(Sidecar { selector, egress, outbound, ingress: entries })
}

fn ingress(at: &At<'_>, report: &mut Report) -> Option<Ingress> {
    let mut object = at.object(report)?;
    let port = object.required("port", report).and_then(|at| {
        let mut object = at.object(report)?;
        let number = object.required("number", report).and_then(|at| at.port(report));
        let protocol = object.required("protocol", report);
        let protocol = protocol.and_then(|at| service_entry::protocol(&at, report));
        object.field("name", report).and_then(|at| at.text(report));
        object.unsupported(&["targetPort"], report);
        object.finish(report);
        Some((number?, protocol?))
    });
    let mode = object.field("captureMode", report).and_then(|at| match &*at.text(report)? {
        "NONE" => Some(true),
        "DEFAULT" | "IPTABLES" => Some(false),
        other => {
            at.fail(report, format!("{other:?} is no capture mode"), "DEFAULT, IPTABLES or NONE");
            None
        }
    });
    let listens = mode.unwrap_or(false);
    let bind_at = object.field("bind", report);
    let bind = bind_at.as_ref().and_then(|at| ip(at, report));
    if let (Some(at), false) = (&bind_at, listens) {
        at.fail(report, "captured ports have no address of their own", "set captureMode: NONE, or remove it");
    }
    let app = object.required("defaultEndpoint", report).and_then(|at| endpoint(&at, report));
    object.unsupported(&["tls", "connectionPool"], report);
    object.finish(report);
    let (port, protocol) = port?;
    let every = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    Some(Ingress { port, protocol, bind: listens.then(|| bind.unwrap_or(every)), app: app? })
}

fn ip(at: &At<'_>, report: &mut Report) -> Option<IpAddr> {
    let text = at.text(report)?;
    let found = text.parse().ok();
    if found.is_none() {
        at.fail(report, format!("{text:?} is no IP address"), "");
    }
    found
}

/// Where a workload listens: beside its proxy, and nowhere else.
fn endpoint(at: &At<'_>, report: &mut Report) -> Option<Address> {
    let text = at.text(report)?;
    let near = |address: &Address| match address {
        Address::Tcp(address) => address.ip().is_loopback() && address.port() != 0,
        Address::Unix(_) => true,
    };
    let found = text.parse().ok().filter(near);
    if found.is_none() {
        let hint = "write 127.0.0.1:PORT, [::1]:PORT or unix:///path";
        at.fail(report, format!("{text:?} is not beside the proxy"), hint);
    }
    found
}

fn egress(at: &At<'_>, report: &mut Report) -> Option<Egress> {
    let mut object = at.object(report)?;
    let port = object.field("port", report).and_then(|at| {
        let mut object = at.object(report)?;
        let number = object.required("number", report).and_then(|at| at.port(report));
        // Services say themselves what is spoken.
        for name in ["name", "protocol"] {
            object.field(name, report).and_then(|at| at.text(report));
        }
        object.unsupported(&["targetPort"], report);
        object.finish(report);
        number
    });
    if let Some(at) = object.field("captureMode", report)
        && at.text(report).is_some_and(|mode| &*mode != "DEFAULT")
    {
        at.fail(report, "only DEFAULT is supported", "the proxy's own settings say what it captures");
    }
    object.unsupported(&["bind"], report);
    let items = object.required("hosts", report).map(|at| at.list(report)).unwrap_or_default();
    let hosts = items.iter().filter_map(|at| egress_host(at, report)).collect();
    object.finish(report);
    Some(Egress { port, hosts })
}

fn egress_host(at: &At<'_>, report: &mut Report) -> Option<EgressHost> {
    let written = at.located(report)?;
    let Some((namespace, host)) = written.text.split_once('/') else {
        at.fail(report, format!("{:?} has no namespace", written.text), "write ./host, */host or name/host");
        return None;
    };
    let namespace = match namespace {
        "*" => FromNamespace::Any,
        "." => FromNamespace::Own,
        "~" => FromNamespace::Nowhere,
        "" => {
            at.fail(report, "the namespace is empty", "write ./host, */host or name/host");
            return None;
        }
        name => FromNamespace::Named(name.into()),
    };
    let host: Arc<str> = host.to_lowercase().into();
    if !values::is_host_or_pattern(&host) {
        at.fail(report, format!("{host:?} is no host name"), "a host in full, *.suffix or *");
        return None;
    }
    Some(EgressHost { namespace, host, written })
}

fn outbound(at: &At<'_>, report: &mut Report) -> Option<OutboundPolicy> {
    let mut object = at.object(report)?;
    let mode = object.field("mode", report).and_then(|at| match &*at.text(report)? {
        "REGISTRY_ONLY" => Some(OutboundPolicy::RegistryOnly),
        "ALLOW_ANY" => Some(OutboundPolicy::AllowAny),
        other => {
            at.fail(report, format!("{other:?} is no mode"), "REGISTRY_ONLY or ALLOW_ANY");
            None
        }
    });
    object.unsupported(&["egressProxy"], report);
    object.finish(report);
    mode
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar(entries: &[(Option<u16>, &[&str])]) -> Sidecar {
        let host = |text: &&str| {
            let (namespace, host) = text.split_once('/').unwrap();
            let namespace = match namespace {
                "*" => FromNamespace::Any,
                "." => FromNamespace::Own,
                "~" => FromNamespace::Nowhere,
                name => FromNamespace::Named(name.into()),
            };
            let place = super::super::Place { line: 1, column: 1 };
            let written = Located { text: (*text).into(), place, field: String::new() };
            EgressHost { namespace, host: host.into(), written }
        };
        let entry = |(port, hosts): &(Option<u16>, &[&str])| Egress {
            port: *port,
            hosts: hosts.iter().map(host).collect(),
        };
        Sidecar {
            selector: None,
            egress: Some(entries.iter().map(entry).collect()),
            outbound: None,
            ingress: Vec::new(),
        }
    }

    #[test]
    fn a_sidecar_imports_what_its_entries_name() {
        let all = sidecar(&[(Some(9000), &["~/*"]), (None, &["./*", "shop/api.shop", "*/*.example.com"])]);
        for (namespace, host, port, expected) in [
            ("home", "web.home", Some(80), true),
            ("home", "web.home", Some(9000), false),
            ("shop", "api.shop", Some(80), true),
            ("shop", "db.shop", Some(80), false),
            ("any", "a.example.com", Some(80), true),
            ("any", "*.example.com", None, true),
            ("any", "*", None, true),
            ("any", "example.com", None, false),
        ] {
            assert_eq!(all.imports("home", namespace, host, port), expected, "{namespace}/{host}:{port:?}");
        }
        let none = Sidecar { egress: None, ..all };
        assert!(none.imports("home", "any", "host", Some(80)));
    }
}
