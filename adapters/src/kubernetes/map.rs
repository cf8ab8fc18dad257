//! From a Service with its EndpointSlices to a service and its endpoints. Pure.

use std::collections::BTreeMap;

use weft_proto::registry::v1 as proto;

use super::cluster::{Cluster, Name};
use super::wire::{Conditions, Endpoint, Pod, Service, ServicePort, Slice};
use crate::gather::Claim;
use crate::settings::KubernetesSettings;
use crate::tags;

/// What a Service says; nothing when there is none, or none of its ports is TCP.
pub(super) fn claims(cluster: &Cluster, name: &Name, settings: &KubernetesSettings) -> Vec<Claim> {
    let Some((service, slices)) = cluster.service(name) else { return Vec::new() };
    let ports: Vec<proto::Port> = service.spec.ports.iter().filter_map(port).collect();
    if ports.is_empty() {
        return Vec::new();
    }
    let key = proto::ServiceKey { namespace: name.0.clone(), name: name.1.clone() };
    let external = service.spec.kind == "ExternalName";
    let endpoints = if external {
        vec![external_endpoint(&key, service, &ports)]
    } else {
        Seen { cluster, key: &key, ports: &ports, settings }.endpoints(&slices)
    };
    let resolution =
        if external { proto::service::Resolution::Dns } else { proto::service::Resolution::Static };
    let labels = service.metadata.labels.clone();
    let service = proto::Service {
        key: Some(key),
        ports,
        labels: labels.into_iter().collect(),
        resolution: resolution.into(),
        ..Default::default()
    };
    vec![Claim { service, endpoints }]
}

/// What is spoken: `appProtocol`, else the beginning of the port's name, as in Istio.
fn port(port: &ServicePort) -> Option<proto::Port> {
    if !matches!(port.protocol.as_str(), "" | "TCP") {
        return None;
    }
    let app = match port.app_protocol.as_str() {
        "kubernetes.io/h2c" => "http2",
        "kubernetes.io/ws" => "http",
        "kubernetes.io/wss" | "https" => "tls",
        other => other,
    };
    let begin = match port.name.split('-').next().unwrap_or_default() {
        "https" => "tls",
        other => other,
    };
    let protocol = tags::protocol(app).or_else(|| tags::protocol(begin));
    let (word, protocol) = protocol.unwrap_or(("tcp", proto::Protocol::Tcp));
    Some(proto::Port {
        name: if port.name.is_empty() { word.to_owned() } else { port.name.clone() },
        number: port.port,
        protocol: protocol.into(),
    })
}

fn external_endpoint(key: &proto::ServiceKey, service: &Service, ports: &[proto::Port]) -> proto::Endpoint {
    proto::Endpoint {
        id: format!("{}/{}/{}", key.namespace, key.name, service.spec.external_name),
        service: Some(key.clone()),
        address: service.spec.external_name.clone(),
        ports: ports.iter().map(|port| (port.name.clone(), port.number)).collect(),
        health: proto::Health::Healthy.into(),
        workload: key.name.clone(),
        ..Default::default()
    }
}

/// A service with what is known around it.
struct Seen<'a> {
    cluster: &'a Cluster,
    key: &'a proto::ServiceKey,
    ports: &'a [proto::Port],
    settings: &'a KubernetesSettings,
}

impl Seen<'_> {
    /// While endpoints move from one slice to another an address is in two: the better one counts.
    fn endpoints(&self, slices: &[&Slice]) -> Vec<proto::Endpoint> {
        let mut found = BTreeMap::<&str, proto::Endpoint>::new();
        // Addresses that are host names are for other consumers of slices.
        for slice in slices.iter().filter(|slice| slice.address_type != "FQDN") {
            for endpoint in &slice.endpoints {
                let Some(address) = endpoint.addresses.first() else { continue };
                let mut new = self.endpoint(slice, endpoint, address);
                if new.ports.is_empty() {
                    continue;
                }
                if let Some(known) = found.remove(address.as_str()) {
                    let (better, other) =
                        if rank(known.health()) <= rank(new.health()) { (known, new) } else { (new, known) };
                    new = better;
                    for (name, number) in other.ports {
                        new.ports.entry(name).or_insert(number);
                    }
                }
                found.insert(address, new);
            }
        }
        found.into_values().collect()
    }

    fn endpoint(&self, slice: &Slice, endpoint: &Endpoint, address: &str) -> proto::Endpoint {
        let of_pod = (self.key.namespace.clone(), endpoint.target_ref.name.clone());
        let pod = self.cluster.pod(&of_pod).filter(|_| endpoint.target_ref.kind == "Pod");
        let leaves = pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
        let health = match health(endpoint.conditions) {
            proto::Health::Healthy if leaves => proto::Health::Draining,
            health => health,
        };
        let mtls = pod.is_some_and(in_mesh);
        let account = pod.map_or("default", |pod| match pod.spec.service_account_name.as_str() {
            "" => "default",
            name => name,
        });
        let weight = pod.and_then(|pod| pod.metadata.annotations.get("weft.dev/weight")?.parse().ok());
        let labels = pod.map(labels).unwrap_or_default();
        let workload = labels.get("app").or_else(|| labels.get("app.kubernetes.io/name"));
        proto::Endpoint {
            id: format!("{}/{}/{address}", self.key.namespace, self.key.name),
            service: Some(self.key.clone()),
            address: address.to_owned(),
            ports: self.reached(slice),
            weight: weight.unwrap_or(1),
            health: health.into(),
            locality: Some(self.locality(endpoint)),
            identity: if mtls {
                tags::identity(&self.settings.trust_domain, &self.key.namespace, account)
            } else {
                String::new()
            },
            network: String::new(),
            workload: workload.unwrap_or(&self.key.name).clone(),
            transport: tags::transport(mtls),
            labels: labels.into_iter().collect(),
        }
    }

    /// A port of a slice serves the port of the Service that has its name; the one port without a name has none there, too.
    fn reached(&self, slice: &Slice) -> BTreeMap<String, u32> {
        let named = |name: &str| match (name, self.ports) {
            ("", [only]) => Some(only.name.clone()),
            _ => self.ports.iter().find(|port| port.name == name).map(|port| port.name.clone()),
        };
        slice.ports.iter().filter_map(|port| Some((named(&port.name)?, port.port?))).collect()
    }

    fn locality(&self, endpoint: &Endpoint) -> proto::Locality {
        let node = self.cluster.node(&endpoint.node_name);
        let label = |name: &str| node.and_then(|node| node.metadata.labels.get(name)).cloned();
        let zone = Some(endpoint.zone.clone()).filter(|zone| !zone.is_empty());
        proto::Locality {
            region: label("topology.kubernetes.io/region").unwrap_or_else(|| self.settings.region.clone()),
            zone: zone.or_else(|| label("topology.kubernetes.io/zone")).unwrap_or_default(),
            subzone: label("topology.istio.io/subzone").unwrap_or_default(),
        }
    }
}

/// Absent conditions mean what `EndpointConditions` says: ready, serving as it is ready, not terminating.
fn health(conditions: Conditions) -> proto::Health {
    let ready = conditions.ready.unwrap_or(true);
    let serving = conditions.serving.unwrap_or(ready);
    match (ready, serving, conditions.terminating.unwrap_or(false)) {
        (true, ..) => proto::Health::Healthy,
        (false, true, true) => proto::Health::Draining,
        _ => proto::Health::Unhealthy,
    }
}

fn rank(health: proto::Health) -> u8 {
    match health {
        proto::Health::Healthy | proto::Health::Unspecified => 0,
        proto::Health::Draining => 1,
        proto::Health::Unhealthy => 2,
    }
}

/// A proxy of the mesh is in the pod: our annotation, or the label that Istio's proxies have.
fn in_mesh(pod: &Pod) -> bool {
    let meta = &pod.metadata;
    meta.annotations.get("weft.dev/mtls").is_some_and(|value| value == "true")
        || meta.labels.get("security.istio.io/tlsMode").is_some_and(|value| value == "istio")
}

/// Labels of the pod; the recommended label for versions is `version`, too.
fn labels(pod: &Pod) -> BTreeMap<String, String> {
    let mut labels = pod.metadata.labels.clone();
    if let Some(version) = labels.get("app.kubernetes.io/version").cloned() {
        labels.entry("version".to_owned()).or_insert(version);
    }
    labels
}

#[cfg(test)]
mod tests;
