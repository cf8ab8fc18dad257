//! The ports of an app or a pod: what clients use, and where each is reached. Pure.
//!
//! Any network but the host's has mappings: one **with** a host port takes the next of the task's ports and is reached on
//! the agent; one **without** takes none and is reached at the container's own address. On the host's network the ports
//! are the task's, in order.

use std::collections::BTreeMap;

use weft_proto::registry::v1 as proto;

use super::wire::{App, Pod, PortDefinition};
use crate::tags;

/// Where a port is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// On the agent, at the task's port of this place in its list.
    Agent(usize),
    /// At the container's own address, on this port.
    Container(u32),
}

/// One port.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Port {
    /// What clients use.
    pub(super) port: proto::Port,
    /// The platform's own name for it; empty when it has none.
    pub(super) native: String,
    /// Where it is reached.
    pub(super) reached: Reached,
}

/// What is written about one port.
struct Written<'a> {
    name: &'a str,
    protocol: &'a str,
    labels: &'a BTreeMap<String, String>,
    service_port: u32,
    container_port: u32,
    reached: Reached,
}

/// The TCP ports of an app.
pub(super) fn of_app(app: &App) -> Vec<Port> {
    let none = BTreeMap::new();
    let docker = &app.container.docker;
    let on_host = match app.networks.first() {
        Some(network) => network.mode == "host",
        None => app.ip_address.is_none() && !matches!(docker.network.as_str(), "BRIDGE" | "USER"),
    };
    let discovery = app.ip_address.iter().flat_map(|ip| &ip.discovery.ports);
    let mappings =
        [&app.container.port_mappings, &docker.port_mappings].into_iter().find(|all| !all.is_empty());
    let mut next = 0;
    let mut on_agent = || {
        next += 1;
        Reached::Agent(next - 1)
    };
    let mut written: Vec<Written> = Vec::new();
    if on_host {
        for found in &app.port_definitions {
            written.push(Written::new(found, on_agent()));
        }
    } else if let Some(mappings) = mappings {
        for found in mappings {
            let container = found.container_port.unwrap_or(0);
            let reached = if found.host_port.is_some() { on_agent() } else { Reached::Container(container) };
            written.push(Written::new(found, reached));
        }
    } else {
        written.extend(discovery.map(|found| Written {
            name: &found.name,
            protocol: &found.protocol,
            labels: &none,
            service_port: 0,
            container_port: found.number,
            reached: Reached::Container(found.number),
        }));
    }
    name_all(written, &app.labels)
}

/// The TCP ports of a pod, by container; `Agent` counts the pod's own host ports, which go by name.
pub(super) fn of_pod(pod: &Pod) -> Vec<Port> {
    let endpoints = pod.spec.containers.iter().flat_map(|container| &container.endpoints);
    let written = endpoints.enumerate().map(|(place, found)| Written {
        name: &found.name,
        protocol: found.protocol.first().map_or("tcp", String::as_str),
        labels: &found.labels,
        service_port: 0,
        container_port: found.container_port.unwrap_or(0),
        reached: match (found.host_port, found.container_port) {
            (None, Some(port)) => Reached::Container(port),
            _ => Reached::Agent(place),
        },
    });
    name_all(written.collect(), &pod.spec.labels)
}

impl<'a> Written<'a> {
    fn new(found: &'a PortDefinition, reached: Reached) -> Self {
        Written {
            name: &found.name,
            protocol: &found.protocol,
            labels: &found.labels,
            service_port: found.service_port,
            container_port: found.container_port.unwrap_or(0),
            reached,
        }
    }

    /// What is spoken: a label says it, or the beginning of the name, as in `http-admin`.
    fn protocol(&self, place: usize, app: &BTreeMap<String, String>) -> (&'static str, proto::Protocol) {
        let labels = [format!("weft.protocol.{}", self.name), format!("weft.protocol.{place}")];
        let said =
            self.labels.get("weft.protocol").or_else(|| labels.iter().find_map(|label| app.get(label)));
        let said = said.or_else(|| app.get("weft.protocol").filter(|_| place == 0));
        let begin = self.name.split('-').next().unwrap_or_default();
        said.and_then(|word| tags::protocol(word))
            .or_else(|| tags::protocol(begin))
            .unwrap_or(("tcp", proto::Protocol::Tcp))
    }

    /// The number that a label gives, ours or that of a virtual address of DC/OS (`VIP_0: /web:80`).
    fn said_number(&self, place: usize, app: &BTreeMap<String, String>) -> Option<u32> {
        let labels = [format!("weft.port.{}", self.name), format!("weft.port.{place}")];
        let said = self.labels.get("weft.port").or_else(|| labels.iter().find_map(|label| app.get(label)));
        let vip = || {
            let vip = self.labels.iter().find(|(name, _)| name.starts_with("VIP_"));
            vip.and_then(|(_, value)| value.rsplit(':').next())
        };
        said.map(String::as_str).or_else(vip)?.parse().ok()
    }
}

/// Gives each TCP port a name and a number of its own. The order of places decides, which does not change with the tasks.
fn name_all(written: Vec<Written>, app: &BTreeMap<String, String>) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for (place, found) in written.into_iter().enumerate() {
        if found.protocol == "udp" {
            continue;
        }
        let (word, protocol) = found.protocol(place, app);
        let free = |ports: &[Port], number: u32| ports.iter().all(|port| port.port.number != number);
        let candidates = [
            found.said_number(place, app),
            tags::usual_port(protocol),
            Some(found.service_port),
            Some(found.container_port),
        ];
        let number = candidates.into_iter().flatten().find(|number| *number > 0 && free(&ports, *number));
        let Some(number) = number else { continue };
        let named = |ports: &[Port], name: &str| ports.iter().any(|port| port.port.name == name);
        let name = [found.name, word].into_iter().find(|name| !name.is_empty() && !named(&ports, name));
        let name = name.map_or_else(|| format!("port-{place}"), str::to_owned);
        ports.push(Port {
            port: proto::Port { name, number, protocol: protocol.into() },
            native: found.name.to_owned(),
            reached: found.reached,
        });
    }
    ports
}
