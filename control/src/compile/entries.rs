//! Service entries become services, beside those that platforms register.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use crate::{
    documents::{Document, DocumentSet, EntryEndpoint, EntryResolution, ServiceEntry},
    model::{Endpoint, Health, Locality, Mesh, Resolution, Service, ServiceKey},
};

/// The services of an entry, one for each host. NONE without a captured address to go to is resolved by name, unless the
/// host is a pattern.
pub(crate) fn services(
    document: &Document,
    entry: &ServiceEntry,
    mesh: &Mesh,
    documents: &DocumentSet,
) -> Vec<Service> {
    let resolution = match entry.resolution {
        EntryResolution::Static => Resolution::Static,
        // Who selects says where to go.
        EntryResolution::None if entry.selector.is_some() => Resolution::Static,
        EntryResolution::Dns => Resolution::Dns,
        EntryResolution::None => Resolution::Client,
        EntryResolution::DnsRoundRobin => Resolution::DnsFirst,
    };
    let service = |host: &Arc<str>| {
        let mut endpoints: Vec<Endpoint> = entry
            .endpoints
            .iter()
            .enumerate()
            .map(|(i, given)| endpoint(document, entry, Some(i), given, &mesh.domain))
            .collect();
        if let Some(selector) = &entry.selector {
            endpoints.extend(registered(document, entry, selector, mesh));
            endpoints.extend(workloads(document, entry, selector, documents, &mesh.domain));
            // A name is no address where none is resolved.
            endpoints.retain(|found| resolution != Resolution::Static || is_address(&found.address));
        } else if endpoints.is_empty() && resolution != Resolution::Static && !host.starts_with('*') {
            endpoints.push(by_name(document, entry, host));
        }
        Service {
            key: ServiceKey { namespace: document.namespace.clone(), name: host.clone() },
            host: host.clone(),
            hosts: vec![host.clone()],
            ports: entry.ports.iter().map(|port| port.port.clone()).collect(),
            resolution,
            export_to: entry.export_to.clone(),
            virtual_ip: None,
            addresses: entry.addresses.clone(),
            certificate_names: entry.certificate_names.clone(),
            endpoints: Arc::new(endpoints.into_iter().map(|e| (e.id.clone(), Arc::new(e))).collect()),
            sources: vec![document.key()],
            conflicts: Vec::new(),
        }
    };
    entry.hosts.iter().map(|host| service(&host.text)).collect()
}

/// What endpoints listen on, by port name.
fn ports(entry: &ServiceEntry, given: &BTreeMap<Arc<str>, u16>) -> BTreeMap<Arc<str>, u16> {
    let number = |port: &crate::documents::EntryPort| {
        given.get(&port.port.name).copied().or(port.target).unwrap_or(port.port.number)
    };
    entry.ports.iter().map(|port| (port.port.name.clone(), number(port))).collect()
}

/// An endpoint of a document: one of several, or the document itself.
fn endpoint(
    document: &Document,
    entry: &ServiceEntry,
    index: Option<usize>,
    given: &EntryEndpoint,
    domain: &str,
) -> Endpoint {
    let mut parts = given.locality.splitn(3, '/').map(Arc::<str>::from);
    let mut part = || parts.next().unwrap_or_default();
    Endpoint {
        id: index.map_or_else(|| document.key(), |index| format!("{}/{index}", document.key()).into()),
        address: given.address.text.clone(),
        ports: ports(entry, &given.ports),
        weight: given.weight,
        health: Health::Healthy,
        locality: Locality { region: part(), zone: part(), subzone: part() },
        labels: given.labels.clone(),
        identity: match &*given.service_account {
            "" => "".into(),
            account => format!("spiffe://{domain}/ns/{}/sa/{account}", document.namespace).into(),
        },
        workload: "".into(),
        cluster: "".into(),
        network: given.network.clone(),
        mtls: false,
        stale: false,
    }
}

fn is_address(address: &str) -> bool {
    address.parse::<IpAddr>().is_ok() || address.starts_with('/') || address.starts_with("unix://")
}

fn by_name(document: &Document, entry: &ServiceEntry, host: &Arc<str>) -> Endpoint {
    Endpoint {
        id: format!("{}/{host}", document.key()).into(),
        address: host.clone(),
        ports: ports(entry, &BTreeMap::new()),
        weight: 1,
        health: Health::Healthy,
        locality: Locality::default(),
        labels: BTreeMap::new(),
        identity: "".into(),
        workload: "".into(),
        cluster: "".into(),
        network: "".into(),
        mtls: false,
        stale: false,
    }
}

/// Registered endpoints of the document's namespace that have the labels.
fn registered(
    document: &Document,
    entry: &ServiceEntry,
    selector: &BTreeMap<Arc<str>, Arc<str>>,
    mesh: &Mesh,
) -> Vec<Endpoint> {
    let near = mesh.services.values().filter(|service| service.key.namespace == document.namespace);
    let fits = |endpoint: &&Arc<Endpoint>| {
        selector.iter().all(|(name, value)| endpoint.labels.get(name) == Some(value))
    };
    let found = near.flat_map(|service| service.endpoints.values().filter(fits));
    found.map(|found| Endpoint { ports: ports(entry, &found.ports), ..(**found).clone() }).collect()
}

/// Workload entries of the document's namespace that have the labels.
fn workloads(
    document: &Document,
    entry: &ServiceEntry,
    selector: &BTreeMap<Arc<str>, Arc<str>>,
    documents: &DocumentSet,
    domain: &str,
) -> Vec<Endpoint> {
    let near = documents.workload_entries().filter(|(of, _)| of.namespace == document.namespace);
    let fits = |(_, given): &(&Arc<Document>, &EntryEndpoint)| given.has(selector);
    let found = |(of, given): (&Arc<Document>, &EntryEndpoint)| Endpoint {
        workload: of.name.clone(),
        ..endpoint(of, entry, None, given, domain)
    };
    near.filter(fits).map(found).collect()
}
