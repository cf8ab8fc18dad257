//! From a task to a service with one endpoint. Pure.

use std::collections::BTreeMap;

use weft_proto::registry::v1 as proto;

use super::cluster::Running;
use super::wire::{Agent, Labels, Port};
use crate::gather::Claim;
use crate::settings::MesosSettings;
use crate::tags;

/// What a task says; nothing when it has no TCP port, no address, or is not for others.
pub(super) fn claims(running: &Running, agent: Option<&Agent>, settings: &MesosSettings) -> Vec<Claim> {
    let task = Seen { running, agent, labels: plain(&running.task.labels), settings };
    let hidden = running.task.discovery.as_ref().is_some_and(|found| found.visibility == "FRAMEWORK");
    let ignored = task.said("weft.ignore").is_some_and(|value| value == "true");
    let (ports, Some(address)) = (task.ports(), task.address()) else { return Vec::new() };
    if ports.is_empty() || hidden || ignored {
        return Vec::new();
    }
    let (service, endpoint) = task.claim(&ports, &address);
    vec![Claim { service, endpoints: vec![endpoint] }]
}

/// A task with what else is known.
struct Seen<'a> {
    running: &'a Running,
    agent: Option<&'a Agent>,
    labels: BTreeMap<&'a str, &'a str>,
    settings: &'a MesosSettings,
}

/// Where a task is.
struct Address {
    address: String,
    /// Whether that is its own, so that ports are those inside of the container.
    own: bool,
}

impl Seen<'_> {
    fn claim(&self, ports: &[Port], address: &Address) -> (proto::Service, proto::Endpoint) {
        let task = &self.running.task;
        let name = task.discovery.as_ref().map(|found| found.name.as_str()).filter(|name| !name.is_empty());
        let name = tags::plain_name(self.said("weft.service").or(name).unwrap_or(&task.name));
        let namespace = self.said("weft.namespace").unwrap_or(&self.settings.namespace).to_owned();
        let key = proto::ServiceKey { namespace, name: name.clone() };
        let (mut said, mut reached) = (Vec::<proto::Port>::new(), Vec::new());
        for (place, port) in ports.iter().enumerate() {
            let found = self.port(place, port);
            if said.iter().all(|other| other.name != found.name && other.number != found.number) {
                reached.push((found.name.clone(), self.reached(port.number, address)));
                said.push(found);
            }
        }
        let is_ip = address.address.parse::<std::net::IpAddr>().is_ok();
        let resolution =
            if is_ip { proto::service::Resolution::Static } else { proto::service::Resolution::Dns };
        let mtls = self.said("weft.mtls").is_some_and(|value| value == "true");
        let account = || tags::identity(&self.settings.trust_domain, &key.namespace, &name);
        let identity = self.said("weft.identity").map(str::to_owned);
        let endpoint = proto::Endpoint {
            id: format!("{}/{}", task.framework_id.value, task.task_id.value),
            service: Some(key.clone()),
            address: address.address.clone(),
            ports: reached.into_iter().collect(),
            weight: self.said("weft.weight").and_then(|weight| weight.parse().ok()).unwrap_or(1),
            health: self.health().into(),
            locality: Some(self.locality()),
            labels: self.shown(),
            identity: identity.unwrap_or_else(|| if mtls { account() } else { String::new() }),
            network: self.said("weft.network").unwrap_or_default().to_owned(),
            workload: name,
            transport: tags::transport(mtls),
        };
        let service = proto::Service {
            key: Some(key),
            ports: said,
            resolution: resolution.into(),
            ..Default::default()
        };
        (service, endpoint)
    }

    fn said(&self, label: &str) -> Option<&str> {
        self.labels.get(label).copied()
    }

    /// The ports that it tells others, else those that it was given; never UDP.
    fn ports(&self) -> Vec<Port> {
        let task = &self.running.task;
        let told = task.discovery.iter().flat_map(|found| found.ports.ports.clone());
        let told: Vec<Port> = told.filter(|port| port.protocol != "udp" && port.number > 0).collect();
        if !told.is_empty() {
            return told;
        }
        let given = task.resources.iter().filter(|resource| resource.name == "ports");
        let numbers =
            given.flat_map(|resource| &resource.ranges.range).flat_map(|range| range.begin..=range.end);
        // A range may be as large as the agent's; what is meant to be called is told.
        numbers.take(GIVEN_MAX).map(|number| Port { number, ..Port::default() }).collect()
    }

    /// What clients use: a label's number, that of a virtual address, the usual one, or the port itself.
    fn port(&self, place: usize, port: &Port) -> proto::Port {
        let own = plain(&port.labels);
        let label = |what: &str| {
            let named = [format!("weft.{what}.{}", port.name), format!("weft.{what}.{place}")];
            let first = self.said(&format!("weft.{what}")).filter(|_| place == 0);
            named.iter().find_map(|name| self.said(name)).or(first)
        };
        let begin = port.name.split('-').next().unwrap_or_default();
        let protocol = label("protocol")
            .and_then(tags::protocol)
            .or_else(|| tags::protocol(begin))
            .or_else(|| tags::protocol(&port.protocol))
            .unwrap_or(("tcp", proto::Protocol::Tcp));
        let vip = || {
            let (_, value) = own.iter().find(|(name, _)| name.starts_with("VIP_"))?;
            value.rsplit(':').next()
        };
        let number = label("port").or_else(vip).and_then(|text| text.parse().ok());
        proto::Port {
            name: match (port.name.as_str(), place) {
                ("", 0) => protocol.0.to_owned(),
                ("", _) => format!("port-{place}"),
                (name, _) => name.to_owned(),
            },
            number: number.or(tags::usual_port(protocol.1)).unwrap_or(port.number),
            protocol: protocol.1.into(),
        }
    }

    /// The address of its own network, else its agent's.
    fn address(&self) -> Option<Address> {
        let infos = &self.running.status.container_status.network_infos;
        let own = infos.iter().filter(|info| !info.name.is_empty() && info.port_mappings.is_empty());
        if let Some(ip) = own.flat_map(|info| &info.ip_addresses).next() {
            return Some(Address { address: ip.ip_address.clone(), own: true });
        }
        let agent = self.agent?;
        let ip = agent.pid.rsplit_once('@').and_then(|(_, at)| at.rsplit_once(':')).map(|(ip, _)| ip);
        let address = ip.filter(|ip| !ip.is_empty()).unwrap_or(&agent.agent_info.hostname);
        Some(Address { address: address.trim_matches(['[', ']']).to_owned(), own: false })
    }

    /// Where a port is reached: a container's own port may be mapped to one of the agent's.
    fn reached(&self, number: u32, address: &Address) -> u32 {
        let infos = &self.running.status.container_status.network_infos;
        let mapped =
            infos.iter().flat_map(|info| &info.port_mappings).find(|map| map.container_port == number);
        match mapped {
            Some(mapped) if !address.own => mapped.host_port,
            _ => number,
        }
    }

    fn health(&self) -> proto::Health {
        // What a new master has not heard of yet, and what is cut off from it, is not cut off from its callers.
        if self.running.recovered || self.running.task.state == "TASK_UNREACHABLE" {
            return proto::Health::Unspecified;
        }
        match (self.running.task.state.as_str(), self.running.status.healthy) {
            ("TASK_KILLING", _) => proto::Health::Draining,
            ("TASK_RUNNING", Some(true)) => proto::Health::Healthy,
            ("TASK_RUNNING", None) if self.running.task.health_check.is_none() => proto::Health::Healthy,
            _ => proto::Health::Unhealthy,
        }
    }

    fn locality(&self) -> proto::Locality {
        let domain = self.agent.map(|agent| &agent.agent_info.domain.fault_domain);
        let region = domain.map(|domain| domain.region.name.as_str()).filter(|name| !name.is_empty());
        proto::Locality {
            region: region.unwrap_or(&self.settings.region).to_owned(),
            zone: domain.map(|domain| domain.zone.name.clone()).unwrap_or_default(),
            subzone: String::new(),
        }
    }

    /// Labels that are not for us; `weft.version` is the version.
    fn shown(&self) -> BTreeMap<String, String> {
        let plain = self.labels.iter().filter(|(name, _)| !name.starts_with("weft."));
        let version = self.said("weft.version").map(|version| ("version", version));
        let all = plain.map(|(name, value)| (*name, *value)).chain(version);
        all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

/// Most ports that are taken of those that a task was only given.
const GIVEN_MAX: usize = 8;

fn plain(labels: &Labels) -> BTreeMap<&str, &str> {
    labels.labels.iter().map(|label| (label.key.as_str(), label.value.as_str())).collect()
}

#[cfg(test)]
mod tests;
