//! `ServiceEntry`: services that no platform registers.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{
    export,
    problem::Report,
    reader::{At, Located, Object},
    values,
};
use crate::model::{ExportTo, Port, Protocol};

/// Services that no platform registers: one for each host.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceEntry {
    /// Host names; where clients resolve them, also `*.suffix`.
    pub hosts: Vec<Located>,
    /// Addresses and ranges that clients connect to when they mean the hosts; none gives each host an address.
    pub addresses: Vec<IpNet>,
    /// Ports, with the number that endpoints use where it differs.
    pub ports: Vec<EntryPort>,
    /// How endpoints are found.
    pub resolution: EntryResolution,
    /// Whether it is a part of the mesh.
    pub internal: bool,
    /// Endpoints.
    pub endpoints: Vec<EntryEndpoint>,
    /// Labels of registered endpoints that serve it.
    pub selector: Option<BTreeMap<Arc<str>, Arc<str>>>,
    /// Where it counts.
    pub export_to: ExportTo,
    /// `subjectAltNames`: of these its certificates have one; empty is not said.
    pub certificate_names: Vec<Arc<str>>,
}

/// A port of a service entry.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryPort {
    /// The port that clients use.
    pub port: Port,
    /// What endpoints listen on; none is the same number.
    pub target: Option<u16>,
}

/// How endpoints of a service entry are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryResolution {
    /// As the client resolved it.
    None,
    /// The endpoints given.
    Static,
    /// By name; every address that it has.
    Dns,
    /// By name; the first address that it has when a connection is made.
    DnsRoundRobin,
}

/// One endpoint of a service entry.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryEndpoint {
    /// IP address, host name or `unix:///path`.
    pub address: Located,
    /// Number by port name.
    pub ports: BTreeMap<Arc<str>, u16>,
    /// Labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// `region/zone/subzone`.
    pub locality: Arc<str>,
    /// Share; at least 1.
    pub weight: u32,
    /// Network that its address belongs to; empty is the common one.
    pub network: Arc<str>,
    /// Service account of the workload; empty when none.
    pub service_account: Arc<str>,
}

impl EntryEndpoint {
    /// Whether its address is one, not a name.
    pub fn is_address(&self) -> bool {
        is_address(&self.address.text)
    }

    /// Whether it has all of some labels.
    pub fn has(&self, labels: &BTreeMap<Arc<str>, Arc<str>>) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(name) == Some(value))
    }
}

pub(super) fn read(spec: &At<'_>, report: &mut Report) -> Option<ServiceEntry> {
    let mut object = spec.object(report)?;
    let hosts: Vec<Located> = match object.required("hosts", report) {
        Some(at) => at.list(report).iter().filter_map(|at| values::host(at, report)).collect(),
        None => Vec::new(),
    };
    values::no_duplicates(&hosts, "host", report);
    let addresses = object.list("addresses", report).iter().filter_map(|at| network(at, report)).collect();
    let items = object.required("ports", report).map(|at| at.list(report)).unwrap_or_default();
    let mut ports: Vec<EntryPort> = Vec::new();
    for at in &items {
        let Some(port) = port(at, report) else { continue };
        let same = |earlier: &EntryPort| {
            earlier.port.number == port.port.number || earlier.port.name == port.port.name
        };
        if ports.iter().any(same) {
            at.fail(
                report,
                format!("port {} ({}) is named twice", port.port.number, port.port.name),
                "remove one",
            );
        }
        ports.push(port);
    }
    let internal = object.field("location", report).and_then(|at| match &*at.text(report)? {
        "MESH_EXTERNAL" => Some(false),
        "MESH_INTERNAL" => Some(true),
        other => {
            at.fail(report, format!("{other:?} is no location"), "MESH_EXTERNAL or MESH_INTERNAL");
            None
        }
    });
    let resolution = object.field("resolution", report).and_then(|at| match &*at.text(report)? {
        "NONE" => Some(EntryResolution::None),
        "STATIC" => Some(EntryResolution::Static),
        "DNS" => Some(EntryResolution::Dns),
        "DNS_ROUND_ROBIN" => Some(EntryResolution::DnsRoundRobin),
        other => {
            at.fail(
                report,
                format!("resolution {other:?} is not supported"),
                "NONE, STATIC, DNS or DNS_ROUND_ROBIN",
            );
            None
        }
    });
    let resolution = resolution.unwrap_or(EntryResolution::None);
    let items = object.list("endpoints", report);
    let endpoints = items.iter().filter_map(|at| endpoint(at, resolution, report)).collect();
    let selector = object.field("workloadSelector", report).and_then(|at| {
        let mut object = at.object(report)?;
        let labels = object.field("labels", report).map(|at| at.labels(report));
        object.finish(report);
        labels
    });
    if selector.is_some() && !items.is_empty() {
        items[0].fail(report, "workloadSelector is given too", "keep one of endpoints and workloadSelector");
    }
    if resolution == EntryResolution::DnsRoundRobin && (items.len() > 1 || selector.is_some()) {
        let message = "DNS_ROUND_ROBIN takes one endpoint, or the host itself";
        items.get(1).unwrap_or(spec).fail(report, message, "use DNS");
    }
    if resolution == EntryResolution::None && !items.is_empty() {
        items[0].fail(report, "endpoints need resolution STATIC or DNS", "set spec.resolution");
    }
    for host in hosts.iter().filter(|host| host.text.starts_with('*')) {
        let (message, hint) = match (&*host.text, resolution) {
            ("*", _) => ("stands for every host", "name a suffix: *.example.com"),
            (_, EntryResolution::None) => continue,
            _ => ("nobody can resolve a pattern", "set spec.resolution: NONE, or name each host"),
        };
        report.error(host.place, &host.field, message, hint);
    }
    let export_to = export::read(&mut object, report);
    let certificate_names =
        object.list("subjectAltNames", report).iter().filter_map(|at| at.text(report)).collect();
    object.finish(report);
    let internal = internal.unwrap_or_default();
    Some(ServiceEntry {
        hosts,
        addresses,
        ports,
        resolution,
        internal,
        endpoints,
        selector,
        export_to,
        certificate_names,
    })
}

/// An address or a range; what of it is beyond its length does not count.
fn network(at: &At<'_>, report: &mut Report) -> Option<IpNet> {
    let text = at.text(report)?;
    let found = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>());
    match found {
        Ok(network) => Some(network.trunc()),
        Err(_) => {
            at.fail(report, format!("{text:?} is no address"), "an IP address or a range such as 10.0.0.0/8");
            None
        }
    }
}

fn port(at: &At<'_>, report: &mut Report) -> Option<EntryPort> {
    let mut object = at.object(report)?;
    let number = object.required("number", report).and_then(|at| at.port(report));
    let name = object.required("name", report).and_then(|at| at.text(report));
    let protocol = object.field("protocol", report).and_then(|at| protocol(&at, report));
    let target = object.field("targetPort", report).and_then(|at| at.port(report));
    object.finish(report);
    let (name, number) = (name?, number?);
    let protocol = protocol.unwrap_or_else(|| by_name(&name));
    Some(EntryPort { port: Port { name, number, protocol }, target })
}

/// Istio's rule: the port's name, up to the first dash, is the protocol.
fn by_name(name: &str) -> Protocol {
    known_protocol(name.split('-').next().unwrap_or_default()).unwrap_or(Protocol::Tcp)
}

/// A protocol by Istio's name for it.
pub(super) fn protocol(at: &At<'_>, report: &mut Report) -> Option<Protocol> {
    let text = at.text(report)?;
    let found = known_protocol(&text);
    if found.is_none() {
        at.fail(
            report,
            format!("protocol {text:?} is not supported"),
            "HTTP, HTTP2, GRPC, TCP, TLS or HTTPS",
        );
    }
    found
}

fn known_protocol(text: &str) -> Option<Protocol> {
    match text.to_ascii_uppercase().as_str() {
        "HTTP" => Some(Protocol::Http),
        "HTTP2" => Some(Protocol::Http2),
        "GRPC" | "GRPC-WEB" => Some(Protocol::Grpc),
        "TCP" | "MONGO" | "MYSQL" | "REDIS" => Some(Protocol::Tcp),
        "TLS" | "HTTPS" => Some(Protocol::Tls),
        _ => None,
    }
}

/// An endpoint, or a `WorkloadEntry`, which is one.
pub(super) fn endpoint(
    at: &At<'_>,
    resolution: EntryResolution,
    report: &mut Report,
) -> Option<EntryEndpoint> {
    let mut object = at.object(report)?;
    let address_at = object.required("address", report);
    let address = address_at.as_ref().and_then(|at| at.located(report));
    if let (Some(at), Some(address), EntryResolution::Static) = (&address_at, &address, resolution)
        && !is_address(&address.text)
    {
        at.fail(report, format!("{:?} is no IP address", address.text), "or set spec.resolution: DNS");
    }
    let found = rest(&mut object, address, report);
    object.finish(report);
    found
}

fn is_address(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok() || text.starts_with("unix:///")
}

/// The template of a `WorkloadGroup`: an endpoint without an address.
pub(super) fn template(at: &At<'_>, report: &mut Report) {
    let Some(mut object) = at.object(report) else { return };
    rest(&mut object, None, report);
    object.finish(report);
}

fn rest(object: &mut Object<'_>, address: Option<Located>, report: &mut Report) -> Option<EntryEndpoint> {
    let mut ports = BTreeMap::new();
    if let Some(at) = object.field("ports", report) {
        for (key, value) in at.entries(report) {
            if let Some(number) = value.port(report) {
                ports.insert(key.text, number);
            }
        }
    }
    let labels = object.field("labels", report).map(|at| at.labels(report)).unwrap_or_default();
    let locality = object.field("locality", report).and_then(|at| at.text(report)).unwrap_or_default();
    let weight = object.field("weight", report).and_then(|at| at.integer(report, 0, 1_000_000)).unwrap_or(1);
    let mut text = |name, report: &mut Report| {
        object.field(name, report).and_then(|at| at.text(report)).unwrap_or_default()
    };
    let (network, service_account) = (text("network", report), text("serviceAccount", report));
    Some(EntryEndpoint {
        address: address?,
        ports,
        labels,
        locality,
        weight: weight.max(1),
        network,
        service_account,
    })
}
