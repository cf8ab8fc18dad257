//! A service and its destination rules become clusters, one for each port and subset, and their endpoints.

use std::{collections::BTreeMap, sync::Arc};

use weft_proto::node::cluster_name;

use super::ir::{Cluster, Discovery, Endpoint, Endpoints, HttpVersion, ServiceName};
use crate::{
    documents::{DestinationRule, HashKey, LoadBalancer, Subset, TrafficPolicy},
    model::{self, Port, Protocol, Resolution, Service},
};

/// The clusters of a service, each with its endpoints where they come over the stream. Of several rules the first wins
/// where both say something.
pub(crate) fn of_service(service: &Service, rules: &[&DestinationRule]) -> Vec<(Cluster, Option<Endpoints>)> {
    let (base, subsets) = merged(rules);
    let mut found = Vec::new();
    for port in &service.ports {
        found.push(cluster(service, port, None, &base));
        let parts = subsets.values();
        found.extend(parts.map(|subset| cluster(service, port, Some(subset), &subset.policy.over(&base))));
    }
    found
}

/// The policy of the host, and its subsets by name.
fn merged<'a>(rules: &[&'a DestinationRule]) -> (TrafficPolicy, BTreeMap<&'a str, &'a Subset>) {
    let mut base = TrafficPolicy::default();
    let mut subsets = BTreeMap::new();
    for rule in rules {
        base = base.over(&rule.policy);
        for subset in &rule.subsets {
            subsets.entry(&*subset.name.text).or_insert(subset);
        }
    }
    (base, subsets)
}

/// What requests to a port of a host, or to a subset of it, are hashed by.
pub(crate) fn hash_key(rules: &[&DestinationRule], subset: &str, port: u16) -> Option<HashKey> {
    let (base, subsets) = merged(rules);
    let policy = subsets.get(subset).map_or_else(|| base.clone(), |subset| subset.policy.over(&base));
    match &policy.of_port(port).load_balancer {
        Some(LoadBalancer::ConsistentHash(hash)) => Some(hash.key.clone()),
        _ => None,
    }
}

fn cluster(
    service: &Service,
    port: &Port,
    subset: Option<&Subset>,
    policy: &TrafficPolicy,
) -> (Cluster, Option<Endpoints>) {
    let policy = policy.of_port(port.number);
    let subset_name = subset.map(|subset| &*subset.name.text).unwrap_or_default();
    let name: Arc<str> = cluster_name(port.number, subset_name, &service.host).into();
    let endpoints = endpoints(service, port, subset, &name);
    let (discovery, streamed) = match service.resolution {
        Resolution::Static => (Discovery::Eds, Some(endpoints)),
        Resolution::Dns => (Discovery::Dns(endpoints), None),
    };
    let upgraded = policy.http.upgrade == Some(true);
    let http = match port.protocol {
        Protocol::Http if upgraded => Some(HttpVersion::Http2),
        Protocol::Http => Some(HttpVersion::Http1),
        Protocol::Http2 | Protocol::Grpc => Some(HttpVersion::Http2),
        Protocol::Tcp | Protocol::Tls => None,
    };
    let cluster = Cluster {
        name,
        service: Some(ServiceName {
            host: service.host.clone(),
            name: service.key.name.clone(),
            namespace: service.key.namespace.clone(),
        }),
        discovery,
        balancer: policy.load_balancer.clone().unwrap_or(LoadBalancer::LeastRequest),
        warmup: policy.warmup.clone(),
        outlier: policy.outlier.clone(),
        retry_budget: policy.retry_budget.clone(),
        http,
        tcp: policy.tcp.clone(),
        pool: policy.http.clone(),
    };
    (cluster, streamed)
}

fn endpoints(service: &Service, port: &Port, subset: Option<&Subset>, cluster: &Arc<str>) -> Endpoints {
    let mut localities: BTreeMap<model::Locality, Vec<Endpoint>> = BTreeMap::new();
    for endpoint in service.endpoints.values() {
        let selected = |subset: &&Subset| {
            subset.labels.iter().all(|(name, value)| endpoint.labels.get(name) == Some(value))
        };
        if subset.as_ref().is_some_and(|subset| !selected(subset)) {
            continue;
        }
        let Some(number) = endpoint.ports.get(&port.name) else { continue };
        let found = Endpoint {
            address: endpoint.address.clone(),
            port: *number,
            weight: endpoint.weight.max(1),
            health: endpoint.health,
            workload: workload(service, endpoint),
        };
        localities.entry(endpoint.locality.clone()).or_default().push(found);
    }
    Endpoints { cluster: cluster.clone(), localities: localities.into_iter().collect() }
}

fn workload(service: &Service, endpoint: &model::Endpoint) -> Arc<str> {
    let label = |names: [&str; 2]| names.into_iter().find_map(|name| endpoint.labels.get(name)).map(|s| &**s);
    let canonical = label(["service.istio.io/canonical-name", "app"]).unwrap_or(&service.key.name);
    let revision = label(["service.istio.io/canonical-revision", "version"]).unwrap_or("latest");
    let name = if endpoint.workload.is_empty() { canonical } else { &endpoint.workload };
    format!("{name};{};{canonical};{revision};{}", service.key.namespace, endpoint.cluster).into()
}
