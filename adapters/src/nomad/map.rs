//! From Nomad's registrations of one service to a service and its endpoints. Pure.

use std::collections::BTreeMap;

use weft_proto::registry::v1 as proto;

use super::region::{Name, Region};
use super::wire::{Alloc, Node, Registration};
use crate::gather::Claim;
use crate::settings::NomadSettings;
use crate::tags;

/// What one service of a region is in the mesh; nothing when nothing serves it.
pub(super) fn claims(region: &Region, name: &Name, settings: &NomadSettings) -> Vec<Claim> {
    let found: Vec<_> = region.registrations(name).collect();
    let Some(port) = port(found.iter().map(|(registration, ..)| *registration)) else { return Vec::new() };
    let namespace = settings.namespace.clone().unwrap_or_else(|| name.0.clone());
    let key = proto::ServiceKey { namespace, name: name.1.clone() };
    let endpoints = found
        .into_iter()
        .map(|(registration, alloc, node)| Seen { registration, alloc, node }.endpoint(&key, &port, settings))
        .collect();
    let service = proto::Service {
        key: Some(key),
        ports: vec![port],
        resolution: proto::service::Resolution::Static.into(),
        ..Default::default()
    };
    vec![Claim { service, endpoints }]
}

/// One registration with what else is known of it.
struct Seen<'a> {
    registration: &'a Registration,
    alloc: Option<&'a Alloc>,
    node: Option<&'a Node>,
}

impl Seen<'_> {
    fn endpoint(
        &self,
        key: &proto::ServiceKey,
        port: &proto::Port,
        settings: &NomadSettings,
    ) -> proto::Endpoint {
        let registration = self.registration;
        let labels = self.labels();
        let said = |name: &str| labels.get(name).cloned();
        let mtls = said("mtls").is_some_and(|value| value == "true");
        let account = || tags::identity(&settings.trust_domain, &key.namespace, &registration.job_id);
        proto::Endpoint {
            id: registration.id.clone(),
            service: Some(key.clone()),
            address: registration.address.clone(),
            ports: [(port.name.clone(), registration.port)].into(),
            weight: said("weight").and_then(|weight| weight.parse().ok()).unwrap_or(1),
            health: self.health().into(),
            locality: Some(self.locality(&settings.region)),
            identity: said("identity").unwrap_or_else(|| if mtls { account() } else { String::new() }),
            network: said("network").unwrap_or_default(),
            workload: registration.job_id.clone(),
            transport: tags::transport(mtls),
            labels: labels.into_iter().collect(),
        }
    }

    /// What the tags say; a canary is registered with its own. The group and whether it is a canary come from the
    /// allocation.
    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = tags::labels(&self.registration.tags);
        if let Some(alloc) = self.alloc {
            if alloc.deployment_status.canary {
                labels.entry("canary".to_owned()).or_insert_with(|| "true".to_owned());
            }
            if !alloc.task_group.is_empty() {
                labels.entry("group".to_owned()).or_insert_with(|| alloc.task_group.clone());
            }
        }
        labels
    }

    /// A registration says nothing of health: it is what the scheduler thinks of the allocation. What is not known serves.
    fn health(&self) -> proto::Health {
        let Some(alloc) = self.alloc else { return proto::Health::Unspecified };
        if matches!(alloc.desired_status.as_str(), "stop" | "evict")
            || alloc.desired_transition.migrate == Some(true)
        {
            return proto::Health::Draining;
        }
        match alloc.client_status.as_str() {
            "running" => match alloc.deployment_status.healthy {
                Some(false) => proto::Health::Unhealthy,
                // A deployment is still waiting for it to prove itself.
                None if !alloc.deployment_id.is_empty() => proto::Health::Unhealthy,
                _ => proto::Health::Healthy,
            },
            "pending" | "complete" | "failed" | "lost" => proto::Health::Unhealthy,
            // `unknown`: its node is cut off from the servers, not from its callers.
            _ => proto::Health::Unspecified,
        }
    }

    /// What the node's meta says, then its cloud, then its datacenter.
    fn locality(&self, region: &str) -> proto::Locality {
        let meta = |names: &[&str]| names.iter().find_map(|name| self.node?.meta.get(*name).cloned());
        let cloud = || {
            const ZONES: [&str; 3] = [
                "platform.aws.placement.availability-zone",
                "platform.gce.zone",
                "unique.platform.azure.zone",
            ];
            ZONES.iter().find_map(|name| self.node?.attributes.get(*name).cloned())
        };
        let datacenter = match self.node {
            Some(node) if self.registration.datacenter.is_empty() => &node.datacenter,
            _ => &self.registration.datacenter,
        };
        let fallback = if region.is_empty() { datacenter } else { region };
        proto::Locality {
            region: meta(&["region"]).unwrap_or_else(|| fallback.to_owned()),
            zone: meta(&["zone"]).or_else(cloud).unwrap_or_default(),
            subzone: meta(&["subzone", "rack"]).unwrap_or_default(),
        }
    }
}

/// Nomad gives a registration one port, and mostly a dynamic one. Clients use the number that the tag `port=` says, else
/// the usual one of what is spoken, else the most common one. `None` without registrations.
fn port<'a>(registrations: impl Iterator<Item = &'a Registration> + Clone) -> Option<proto::Port> {
    let said =
        |found: &Registration| found.tags.iter().find_map(|tag| tag.strip_prefix("port=")?.parse().ok());
    let protocol = registrations.clone().find_map(|found| tags::protocol_of(&found.tags));
    let (name, protocol) = protocol.unwrap_or(("tcp", proto::Protocol::Tcp));
    let mut uses = BTreeMap::<u32, usize>::new();
    for found in registrations.clone() {
        *uses.entry(found.port).or_default() += 1;
    }
    // Of equally common ports the lowest, so that the choice does not depend on order.
    let common = uses.into_iter().max_by_key(|(port, count)| (*count, std::cmp::Reverse(*port)));
    let common = common.map(|(port, _)| port)?;
    let number = { registrations }.find_map(said).or(tags::usual_port(protocol)).unwrap_or(common);
    Some(proto::Port { name: name.to_owned(), number, protocol: protocol.into() })
}

#[cfg(test)]
mod tests;
