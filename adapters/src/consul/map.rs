//! From Consul's instances of one service to a service and its endpoints. Pure.

use std::collections::BTreeMap;

use weft_proto::registry::v1 as proto;

use super::wire::{Check, Instance};
use crate::catalog::{Invalid, Item};
use crate::tags;

/// The service of this name and its endpoints; what cannot be told is left out and named.
pub(super) fn map(
    name: &str,
    namespace: &str,
    region: &str,
    instances: &[Instance],
) -> (Vec<Item>, Vec<Invalid>) {
    // Sidecars and gateways register under the names of the services that they stand for.
    let own: Vec<&Instance> = instances.iter().filter(|instance| instance.service.kind.is_empty()).collect();
    let Some(port) = port(&own) else { return (Vec::new(), Vec::new()) };
    let key = proto::ServiceKey { namespace: namespace.to_owned(), name: name.to_owned() };
    let mut aliases = vec![format!("{name}.service.consul")];
    for instance in own.iter().filter(|instance| !instance.node.datacenter.is_empty()) {
        aliases.push(format!("{name}.service.{}.consul", instance.node.datacenter));
    }
    let port_name = port.name.clone();
    let service = Item::service(proto::Service {
        key: Some(key.clone()),
        ports: vec![port],
        aliases,
        labels: Default::default(),
        resolution: proto::service::Resolution::Static.into(),
    });
    let service = match service {
        Ok(service) => service,
        Err(invalid) => return (Vec::new(), vec![invalid]),
    };
    let (mut items, mut refused) = (vec![service], Vec::new());
    for instance in own {
        match Item::endpoint(endpoint(instance, &key, &port_name, region)) {
            Ok(item) => items.push(item),
            Err(invalid) => refused.push(invalid),
        }
    }
    (items, refused)
}

fn endpoint(instance: &Instance, key: &proto::ServiceKey, port_name: &str, region: &str) -> proto::Endpoint {
    let (node, service) = (&instance.node, &instance.service);
    let health = health(&instance.checks);
    let address = if service.address.is_empty() { &node.address } else { &service.address };
    let place = |name: &str| service.meta.get(name).or(node.meta.get(name)).cloned();
    let fallback = if region.is_empty() { &node.datacenter } else { region };
    let mtls = service.meta.get("mtls").is_some_and(|value| value == "true");
    proto::Endpoint {
        id: format!("{}/{}", node.node, service.id),
        service: Some(key.clone()),
        address: address.clone(),
        ports: [(port_name.to_owned(), service.port)].into(),
        weight: match health {
            Health::Warning => service.weights.warning,
            _ => service.weights.passing,
        },
        health: proto::Health::from(health).into(),
        locality: Some(proto::Locality {
            region: place("region").unwrap_or_else(|| fallback.to_owned()),
            zone: place("zone").unwrap_or_default(),
            subzone: place("subzone").unwrap_or_default(),
        }),
        labels: labels(instance).into_iter().collect(),
        identity: service.meta.get("identity").cloned().unwrap_or_default(),
        network: service.meta.get("network").cloned().unwrap_or_default(),
        workload: key.name.clone(),
        transport: tags::transport(mtls),
    }
}

/// All meta, and what the tags say; meta wins.
fn labels(instance: &Instance) -> BTreeMap<String, String> {
    let mut labels = tags::labels(&instance.service.tags);
    labels.extend(instance.service.meta.clone());
    labels
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Passing,
    Warning,
    Critical,
    Maintenance,
}

/// Maintenance is an operator's word and goes before what a check found.
fn health(checks: &[Check]) -> Health {
    let maintenance =
        |check: &Check| check.id == "_node_maintenance" || check.id.starts_with("_service_maintenance:");
    if checks.iter().any(maintenance) {
        Health::Maintenance
    } else if checks.iter().any(|check| check.status == "critical") {
        Health::Critical
    } else if checks.iter().any(|check| check.status == "warning") {
        Health::Warning
    } else {
        Health::Passing
    }
}

impl From<Health> for proto::Health {
    fn from(health: Health) -> Self {
        match health {
            Health::Passing | Health::Warning => proto::Health::Healthy,
            Health::Critical => proto::Health::Unhealthy,
            Health::Maintenance => proto::Health::Draining,
        }
    }
}

/// Consul gives a service one port; it is named for what is spoken on it. `None` without instances.
fn port(instances: &[&Instance]) -> Option<proto::Port> {
    let said = instances.iter().find_map(|instance| instance.service.meta.get("port")?.parse().ok());
    let mut uses = BTreeMap::<u32, usize>::new();
    for instance in instances.iter().filter(|instance| instance.service.port > 0) {
        *uses.entry(instance.service.port).or_default() += 1;
    }
    // Of equally common ports the lowest, so that the choice does not depend on order.
    let common = uses.into_iter().max_by_key(|(port, count)| (*count, std::cmp::Reverse(*port)));
    let number = said.or(common.map(|(port, _)| port))?;
    let protocol = instances.iter().find_map(|instance| protocol(instance));
    let (name, protocol) = protocol.unwrap_or(("tcp", proto::Protocol::Tcp));
    Some(proto::Port { name: name.to_owned(), number, protocol: protocol.into() })
}

fn protocol(instance: &Instance) -> Option<(&'static str, proto::Protocol)> {
    let meta = instance.service.meta.get("protocol").and_then(|word| tags::protocol(word));
    meta.or_else(|| tags::protocol_of(&instance.service.tags))
}

#[cfg(test)]
mod tests;
