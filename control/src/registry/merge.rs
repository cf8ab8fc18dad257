//! Several sources' facts become one mesh. Pure. A service that several sources know is one service; where they
//! disagree, the first source by name wins and the disagreement is told, never guessed away.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{fact::ServiceFact, source::Facts};
use crate::{
    model::{Endpoint, ExportTo, Mesh, Port, Resolution, Service, ServiceKey},
    virtual_ips::VirtualIps,
};

/// Conflicts told of one service.
const CONFLICTS_MAX: usize = 32;

/// Merges the services named by `changed` again; all else is shared with `before`. `sources` are sorted by name.
pub fn merge(
    before: &Mesh,
    sources: &[(Arc<str>, &Facts)],
    changed: &BTreeSet<ServiceKey>,
    virtual_ips: &mut VirtualIps,
) -> Mesh {
    let mut mesh = before.clone();
    let mut differs = false;
    for key in changed {
        let known = mesh.services.get(key);
        match merge_service(key, sources, known, virtual_ips, &before.domain) {
            Some(service) => {
                if known.is_none_or(|known| **known != service) {
                    mesh.services.insert(key.clone(), Arc::new(service));
                    differs = true;
                }
            }
            None => {
                virtual_ips.release(key);
                differs |= mesh.services.remove(key).is_some();
            }
        }
    }
    if differs {
        mesh.revision += 1;
    }
    mesh
}

fn merge_service(
    key: &ServiceKey,
    sources: &[(Arc<str>, &Facts)],
    known: Option<&Arc<Service>>,
    virtual_ips: &mut VirtualIps,
    mesh_domain: &str,
) -> Option<Service> {
    let speakers: Vec<(&Arc<str>, &ServiceFact)> =
        sources.iter().filter_map(|(name, facts)| Some((name, facts.service(key)?))).collect();
    let (_, first) = speakers.first()?;
    let mut conflicts = Vec::new();
    let ports = merge_ports(&speakers, &mut conflicts);
    let resolution = merge_resolution(&speakers, &mut conflicts);
    let mut endpoints = BTreeMap::new();
    for (_, facts) in sources {
        for endpoint in facts.endpoints_of(key) {
            let renames = facts.service(key).map_or_else(Vec::new, |fact| renames(fact, &ports));
            let endpoint = rename_ports(endpoint, &renames);
            let endpoint = match known.and_then(|known| known.endpoints.get(&endpoint.id)) {
                Some(same) if *same == endpoint => same.clone(),
                _ => endpoint,
            };
            endpoints.insert(endpoint.id.clone(), endpoint);
        }
    }
    let endpoints = match known {
        Some(known) if *known.endpoints == endpoints => known.endpoints.clone(),
        _ => Arc::new(endpoints),
    };
    conflicts.truncate(CONFLICTS_MAX);
    let (host, hosts) = host_names(key, &speakers, mesh_domain);
    Some(Service {
        key: first.key.clone(),
        host,
        hosts,
        ports,
        resolution,
        export_to: ExportTo::Everywhere,
        virtual_ip: virtual_ips.assign(key),
        addresses: Vec::new(),
        certificate_names: Vec::new(),
        endpoints,
        sources: speakers.iter().map(|(name, _)| Arc::clone(name)).collect(),
        conflicts,
    })
}

/// The union of ports; the first source to use a number or a name keeps it.
fn merge_ports(speakers: &[(&Arc<str>, &ServiceFact)], conflicts: &mut Vec<String>) -> Vec<Port> {
    let mut merged: Vec<(Port, &Arc<str>)> = Vec::new();
    for (source, fact) in speakers {
        for port in &fact.ports {
            match merged.iter().find(|(known, _)| known.number == port.number) {
                Some((known, _)) if known == port => {}
                Some((known, winner)) => conflicts.push(format!(
                    "port {}: {source} says {}/{:?}, {winner} says {}/{:?}; {winner} wins",
                    port.number, port.name, port.protocol, known.name, known.protocol
                )),
                None => match merged.iter().find(|(known, _)| known.name == port.name) {
                    Some((known, winner)) => conflicts.push(format!(
                        "port {:?}: {source} says {}, {winner} says {}; {winner} wins",
                        port.name, port.number, known.number
                    )),
                    None => merged.push((port.clone(), source)),
                },
            }
        }
    }
    let mut ports: Vec<Port> = merged.into_iter().map(|(port, _)| port).collect();
    ports.sort_by_key(|port| port.number);
    ports
}

fn merge_resolution(speakers: &[(&Arc<str>, &ServiceFact)], conflicts: &mut Vec<String>) -> Resolution {
    let (winner, first) = speakers[0];
    for (source, fact) in &speakers[1..] {
        if fact.resolution != first.resolution {
            conflicts.push(format!(
                "resolution: {source} says {:?}, {winner} says {:?}; {winner} wins",
                fact.resolution, first.resolution
            ));
        }
    }
    first.resolution
}

/// Port names of a source that the merged service calls otherwise, by the number that both mean.
fn renames(fact: &ServiceFact, merged: &[Port]) -> Vec<(Arc<str>, Arc<str>)> {
    let of = |port: &Port| {
        let known = merged.iter().find(|known| known.number == port.number)?;
        (known.name != port.name).then(|| (port.name.clone(), known.name.clone()))
    };
    fact.ports.iter().filter_map(of).collect()
}

fn rename_ports(endpoint: &Arc<Endpoint>, renames: &[(Arc<str>, Arc<str>)]) -> Arc<Endpoint> {
    if !renames.iter().any(|(from, _)| endpoint.ports.contains_key(from)) {
        return endpoint.clone();
    }
    let named =
        |name: &Arc<str>| renames.iter().find(|(from, _)| from == name).map_or(name, |(_, to)| to).clone();
    let ports = endpoint.ports.iter().map(|(name, number)| (named(name), *number)).collect();
    Arc::new(Endpoint { ports, ..Endpoint::clone(endpoint) })
}

/// The full host name, and every host name, sorted.
fn host_names(
    key: &ServiceKey,
    speakers: &[(&Arc<str>, &ServiceFact)],
    mesh_domain: &str,
) -> (Arc<str>, Vec<Arc<str>>) {
    let ServiceKey { namespace, name } = key;
    let mut hosts: BTreeSet<Arc<str>> = BTreeSet::new();
    let host: Arc<str> = if name.contains('.') {
        name.clone()
    } else {
        hosts.insert(name.clone());
        hosts.insert(format!("{name}.{namespace}").into());
        hosts.insert(format!("{name}.{namespace}.svc").into());
        format!("{name}.{namespace}.svc.{mesh_domain}").into()
    };
    hosts.insert(host.clone());
    hosts.extend(speakers.iter().flat_map(|(_, fact)| fact.aliases.iter().cloned()));
    (host, hosts.into_iter().collect())
}

#[cfg(test)]
mod tests;
