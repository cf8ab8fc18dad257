//! From the entries of every file to what the registry is told: names joined, duplicates refused. Pure.

use std::collections::BTreeMap;

use weft_proto::registry::v1 as proto;

use super::format::{
    EndpointSpec, EntryProtocol, EntryResolution, Health, Locality, Protocol, Resolution, ServiceEntrySpec,
    ServiceSpec, WorkloadEntrySpec,
};
use super::parse::{Entry, Object, Place, Problem};
use crate::catalog::{Invalid, Item, Key};

/// Port numbers by port name.
type Ports = BTreeMap<String, u32>;

/// What all entries together say, and what had to be left out.
pub(super) fn assemble<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    trust_domain: &str,
) -> (Vec<Item>, Vec<Problem>) {
    let entries: Vec<&Entry> = entries.collect();
    let mut assembly =
        Assembly { trust_domain, items: BTreeMap::new(), problems: Vec::new(), entries: &entries };
    for entry in &entries {
        if let Err(reason) = assembly.entry(entry) {
            assembly.problems.push(Problem { place: entry.place.clone(), reason });
        }
    }
    (assembly.items.into_values().map(|(item, _)| item).collect(), assembly.problems)
}

struct Assembly<'a> {
    trust_domain: &'a str,
    items: BTreeMap<Key, (Item, Place)>,
    problems: Vec<Problem>,
    entries: &'a [&'a Entry],
}

impl Assembly<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<(), String> {
        match &entry.object {
            Object::Service(spec) => self.service(entry, spec),
            Object::Endpoint(spec) => self.lone_endpoint(entry, spec),
            Object::ServiceEntry(spec) => self.service_entry(entry, spec),
            // Told by the service entries that select it.
            Object::WorkloadEntry(_) => Ok(()),
            Object::Document { kind, document } => {
                let key = proto::DocumentKey {
                    kind: kind.clone(),
                    namespace: entry.namespace.clone(),
                    name: entry.name.clone(),
                };
                self.add(entry, Item::document(key, document.clone()))
            }
        }
    }

    fn add(&mut self, entry: &Entry, item: Result<Item, Invalid>) -> Result<(), String> {
        let item = item.map_err(|invalid| invalid.to_string())?;
        if let Some((_, place)) = self.items.get(item.key()) {
            return Err(format!("{} is already defined at {place}; remove one of the two", item.key()));
        }
        self.items.insert(item.key().clone(), (item, entry.place.clone()));
        Ok(())
    }

    fn service(&mut self, entry: &Entry, spec: &ServiceSpec) -> Result<(), String> {
        let key = service_key(entry, &entry.name);
        let service = proto::Service {
            key: Some(key.clone()),
            ports: spec
                .ports
                .iter()
                .map(|port| proto::Port {
                    name: port.name.clone(),
                    number: port.number,
                    protocol: proto::Protocol::from(port.protocol).into(),
                })
                .collect(),
            aliases: spec.aliases.clone(),
            labels: entry.labels.clone().into_iter().collect(),
            resolution: match spec.resolution {
                Resolution::Static => proto::service::Resolution::Static,
                Resolution::Dns => proto::service::Resolution::Dns,
            }
            .into(),
        };
        self.add(entry, Item::service(service))?;
        let ports = ports_of(spec);
        for endpoint in &spec.endpoints {
            if endpoint.service.is_some() {
                return Err(
                    "endpoints[].service: is the service that it stands in; remove the field".to_owned()
                );
            }
            let endpoint = self.endpoint(&key, &ports, endpoint, None)?;
            self.add(entry, Item::endpoint(endpoint))?;
        }
        Ok(())
    }

    fn lone_endpoint(&mut self, entry: &Entry, spec: &EndpointSpec) -> Result<(), String> {
        let name =
            spec.service.as_ref().ok_or("spec.service: is missing; name the service that it serves")?;
        let ports = self.entries.iter().find_map(|other| match &other.object {
            Object::Service(service) if other.namespace == entry.namespace && other.name == *name => {
                Some(ports_of(service))
            }
            _ => None,
        });
        let ports = match ports {
            Some(ports) => ports,
            None if !spec.ports.is_empty() => Ports::new(),
            None => {
                return Err(format!(
                    "spec.service: no service {}/{name} in these files; give spec.ports by port name",
                    entry.namespace
                ));
            }
        };
        let id = format!("{}/{}", entry.namespace, entry.name);
        let endpoint = self.endpoint(&service_key(entry, name), &ports, spec, Some(id))?;
        self.add(entry, Item::endpoint(endpoint))
    }

    fn endpoint(
        &self,
        key: &proto::ServiceKey,
        ports: &Ports,
        spec: &EndpointSpec,
        id: Option<String>,
    ) -> Result<proto::Endpoint, String> {
        let ports = endpoint_ports(ports, spec.port, &spec.ports)?;
        let id = spec.id.clone().or(id).unwrap_or_else(|| endpoint_id(key, &spec.address, &ports));
        Ok(proto::Endpoint {
            id,
            service: Some(key.clone()),
            address: spec.address.clone(),
            ports: ports.into_iter().collect(),
            weight: spec.weight.unwrap_or(1),
            health: match spec.health {
                Health::Healthy => proto::Health::Healthy,
                Health::Draining => proto::Health::Draining,
                Health::Unhealthy => proto::Health::Unhealthy,
                Health::Unknown => proto::Health::Unspecified,
            }
            .into(),
            locality: spec.locality.as_ref().map(locality),
            labels: spec.labels.clone().into_iter().collect(),
            identity: spec.identity.clone(),
            network: spec.network.clone(),
            workload: spec.workload.clone(),
            transport: if spec.mtls {
                proto::endpoint::Transport::Mtls
            } else {
                proto::endpoint::Transport::Plaintext
            }
            .into(),
        })
    }

    fn service_entry(&mut self, entry: &Entry, spec: &ServiceEntrySpec) -> Result<(), String> {
        check_service_entry(spec)?;
        let host = spec.hosts[0].to_ascii_lowercase();
        let key = service_key(entry, &host);
        let service = proto::Service {
            key: Some(key.clone()),
            ports: spec
                .ports
                .iter()
                .map(|port| proto::Port {
                    name: port.name.clone(),
                    number: port.number,
                    protocol: proto::Protocol::from(port.protocol).into(),
                })
                .collect(),
            aliases: spec.hosts.clone(),
            labels: entry.labels.clone().into_iter().collect(),
            resolution: match spec.resolution {
                EntryResolution::Dns => proto::service::Resolution::Dns,
                _ => proto::service::Resolution::Static,
            }
            .into(),
        };
        self.add(entry, Item::service(service))?;
        for (name, workload, namespace) in workloads(self.entries, entry, spec, &host) {
            let endpoint = self.workload(&key, spec, &workload, (&name, &namespace));
            self.add(entry, Item::endpoint(endpoint))?;
        }
        Ok(())
    }

    fn workload(
        &self,
        key: &proto::ServiceKey,
        spec: &ServiceEntrySpec,
        workload: &WorkloadEntrySpec,
        (name, namespace): (&str, &str),
    ) -> proto::Endpoint {
        let target = |port: &super::format::EntryPort| {
            workload.ports.get(&port.name).copied().or(port.target_port).unwrap_or(port.number)
        };
        let ports: Ports = spec.ports.iter().map(|port| (port.name.clone(), target(port))).collect();
        let identity = match (&workload.service_account, spec.subject_alt_names.first()) {
            (Some(account), _) => format!("spiffe://{}/ns/{namespace}/sa/{account}", self.trust_domain),
            (None, Some(san)) => san.clone(),
            (None, None) => String::new(),
        };
        proto::Endpoint {
            id: endpoint_id(key, &workload.address, &ports),
            service: Some(key.clone()),
            address: workload.address.strip_prefix("unix://").unwrap_or(&workload.address).to_owned(),
            ports: ports.into_iter().collect(),
            weight: workload.weight.unwrap_or(1),
            health: proto::Health::Healthy.into(),
            locality: workload.locality.as_ref().map(|path| locality(&Locality::Path(path.clone()))),
            labels: workload.labels.clone().into_iter().collect(),
            identity,
            network: workload.network.clone(),
            workload: name.to_owned(),
            transport: proto::endpoint::Transport::Plaintext.into(),
        }
    }
}

/// What a service entry asks for and cannot have.
fn check_service_entry(spec: &ServiceEntrySpec) -> Result<(), String> {
    if spec.hosts.is_empty() {
        return Err("spec.hosts: is empty; name at least one host".to_owned());
    }
    if let Some(host) = spec.hosts.iter().find(|host| host.contains('*')) {
        return Err(format!("spec.hosts: the wildcard '{host}' has no endpoints to send to; name each host"));
    }
    if spec.resolution == EntryResolution::None {
        return Err("spec.resolution: NONE needs transparent capture; use STATIC or DNS".to_owned());
    }
    if spec.export_to.iter().any(|to| to != "*") {
        return Err("spec.exportTo: only '*' is supported; remove the field".to_owned());
    }
    if spec.subject_alt_names.len() > 1 {
        return Err("spec.subjectAltNames: more than one is not supported; keep the one SPIFFE id".to_owned());
    }
    if spec.workload_selector.is_some() && !spec.endpoints.is_empty() {
        return Err("spec.endpoints: cannot stand beside workloadSelector; remove one of the two".to_owned());
    }
    Ok(())
}

/// The workloads behind a service entry: inline, selected, or the host itself. With name and namespace.
fn workloads(
    entries: &[&Entry],
    entry: &Entry,
    spec: &ServiceEntrySpec,
    host: &str,
) -> Vec<(String, WorkloadEntrySpec, String)> {
    let namespace = entry.namespace.clone();
    if let Some(selector) = &spec.workload_selector {
        let selected = entries.iter().filter_map(|other| match &other.object {
            Object::WorkloadEntry(workload)
                if other.namespace == entry.namespace
                    && selector
                        .labels
                        .iter()
                        .all(|(name, value)| workload.labels.get(name) == Some(value)) =>
            {
                Some((other.name.clone(), WorkloadEntrySpec::clone(workload), namespace.clone()))
            }
            _ => None,
        });
        return selected.collect();
    }
    if spec.endpoints.is_empty() && spec.resolution == EntryResolution::Dns {
        let itself = WorkloadEntrySpec {
            address: host.to_owned(),
            ports: Ports::new(),
            labels: BTreeMap::new(),
            network: String::new(),
            locality: None,
            weight: None,
            service_account: None,
        };
        return vec![(String::new(), itself, namespace)];
    }
    spec.endpoints.iter().map(|inline| (String::new(), inline.clone(), namespace.clone())).collect()
}

fn service_key(entry: &Entry, name: &str) -> proto::ServiceKey {
    proto::ServiceKey { namespace: entry.namespace.clone(), name: name.to_owned() }
}

fn ports_of(spec: &ServiceSpec) -> Ports {
    spec.ports.iter().map(|port| (port.name.clone(), port.number)).collect()
}

/// The numbers that an endpoint listens on: given by name, as the one port, or the service's own.
fn endpoint_ports(service: &Ports, port: Option<u32>, ports: &Ports) -> Result<Ports, String> {
    if let Some(unknown) = ports.keys().find(|name| !service.is_empty() && !service.contains_key(*name)) {
        return Err(format!("endpoint port '{unknown}': the service has no port of that name"));
    }
    match port {
        Some(_) if !ports.is_empty() => {
            Err("endpoint port: cannot stand beside ports; remove one".to_owned())
        }
        Some(number) if service.len() == 1 => Ok(service.keys().map(|name| (name.clone(), number)).collect()),
        Some(_) => Err("endpoint port: the service has several ports; give ports by name".to_owned()),
        None => {
            let mut all = service.clone();
            all.extend(ports.clone());
            Ok(all)
        }
    }
}

/// The same in every run: what an operator did not name is named by where it is.
fn endpoint_id(key: &proto::ServiceKey, address: &str, ports: &Ports) -> String {
    let numbers = ports.values().map(u32::to_string).collect::<Vec<_>>().join("+");
    format!("{}/{}/{address}:{numbers}", key.namespace, key.name)
}

fn locality(locality: &Locality) -> proto::Locality {
    match locality {
        Locality::Parts(parts) => proto::Locality {
            region: parts.region.clone(),
            zone: parts.zone.clone(),
            subzone: parts.subzone.clone(),
        },
        Locality::Path(path) => {
            let mut parts = path.splitn(3, '/').map(str::to_owned);
            let mut next = || parts.next().unwrap_or_default();
            proto::Locality { region: next(), zone: next(), subzone: next() }
        }
    }
}

impl From<Protocol> for proto::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => proto::Protocol::Tcp,
            Protocol::Http => proto::Protocol::Http,
            Protocol::Http2 => proto::Protocol::Http2,
            Protocol::Grpc => proto::Protocol::Grpc,
            Protocol::Tls => proto::Protocol::Tls,
        }
    }
}

impl From<EntryProtocol> for proto::Protocol {
    fn from(protocol: EntryProtocol) -> Self {
        match protocol {
            EntryProtocol::Tcp => proto::Protocol::Tcp,
            EntryProtocol::Http => proto::Protocol::Http,
            EntryProtocol::Http2 => proto::Protocol::Http2,
            EntryProtocol::Grpc => proto::Protocol::Grpc,
            EntryProtocol::Tls => proto::Protocol::Tls,
        }
    }
}

#[cfg(test)]
mod tests;
