//! `ClusterLoadAssignment`: endpoints by locality, with their weights, health and workload.

use std::{collections::BTreeMap, mem::take, sync::Arc};

use weft_proto::xds::{
    envoy::config::{
        core::v3::{
            Address, HealthStatus, Metadata, address::Address as AddressKind, socket_address,
            socket_address::PortSpecifier,
        },
        endpoint::v3::{ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier},
    },
    google::protobuf::{Struct, Value, value::Kind},
};

use super::{At, Refusal, check, nothing_left, pass_over, required};
use crate::spec::{Endpoint, EndpointAddress, EndpointHealth, EndpointSet, LocalityEndpoints, Workload};

/// Most endpoints of one cluster.
const ENDPOINTS_MAX: usize = 100_000;

/// Decodes an EDS resource; its name is `cluster_name`.
pub(super) fn assignment(mut raw: ClusterLoadAssignment) -> Result<(Arc<str>, EndpointSet), Refusal> {
    let name = take(&mut raw.cluster_name);
    let mut localities = Vec::with_capacity(raw.endpoints.len());
    let mut count = 0;
    for (i, raw) in take(&mut raw.endpoints).into_iter().enumerate() {
        let locality = locality(raw).at_index("endpoints", i)?;
        count += locality.endpoints.len();
        localities.push(locality);
    }
    if count > ENDPOINTS_MAX {
        return Err(Refusal::new(
            "endpoints",
            format!("{count} endpoints; at most {ENDPOINTS_MAX} are taken"),
        ));
    }
    let mut policy = raw.policy.take().unwrap_or_default();
    let factor = policy.overprovisioning_factor.take();
    let overprovisioning_percent =
        factor.map_or(EndpointSet::OVERPROVISIONING_PERCENT, |factor| factor.value);
    if overprovisioning_percent == 0 {
        return Err(Refusal::new("policy.overprovisioning_factor", "must be above zero"));
    }
    let health_by_weight = take(&mut policy.weighted_priority_health);
    nothing_left(&policy).at("policy")?;
    nothing_left(&raw)?;
    localities.sort_by_key(|locality| locality.priority);
    Ok((name.into(), EndpointSet { localities, overprovisioning_percent, health_by_weight }))
}

fn locality(mut raw: LocalityLbEndpoints) -> Result<LocalityEndpoints, Refusal> {
    let place = raw.locality.take().unwrap_or_default();
    let place = [place.region, place.zone, place.sub_zone].join("/");
    let weight = raw.load_balancing_weight.take().map_or(0, |weight| weight.value);
    let priority = take(&mut raw.priority);
    pass_over!(raw: metadata, proximity);
    let endpoints = take(&mut raw.lb_endpoints).into_iter().enumerate();
    let endpoints = endpoints
        .map(|(i, raw)| endpoint(raw).map(Arc::new).at_index("lb_endpoints", i))
        .collect::<Result<_, _>>()?;
    nothing_left(&raw)?;
    let locality = place.trim_end_matches('/').into();
    Ok(LocalityEndpoints { priority, weight, locality, endpoints })
}

fn endpoint(mut raw: LbEndpoint) -> Result<Endpoint, Refusal> {
    let weight = raw.load_balancing_weight.take().map_or(1, |weight| weight.value);
    if weight == 0 {
        return Err(Refusal::new("load_balancing_weight", "must be above zero"));
    }
    let health = match HealthStatus::try_from(take(&mut raw.health_status)) {
        Ok(HealthStatus::Unknown | HealthStatus::Healthy) => EndpointHealth::Admitting,
        Ok(HealthStatus::Degraded) => EndpointHealth::Degraded,
        Ok(HealthStatus::Draining) => EndpointHealth::Draining,
        // A state from a later protocol version is not one in which we would send traffic.
        Ok(HealthStatus::Unhealthy | HealthStatus::Timeout) | Err(_) => EndpointHealth::Unhealthy,
    };
    let metadata = raw.metadata.take();
    let workload = workload(metadata.as_ref());
    let hash_key = hash_key(metadata.as_ref());
    let tls_labels = tls_labels(metadata.as_ref());
    let mut host = match raw.host_identifier.take() {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
        Some(HostIdentifier::EndpointName(_)) => {
            return Err(Refusal::new("endpoint_name", "not supported by this proxy"));
        }
        None => return Err(Refusal::new("endpoint", "missing")),
    };
    let at = "endpoint";
    let found = host.address.take().ok_or_else(|| Refusal::new("endpoint.address", "missing"))?;
    let address = address(found).at("address").at(at)?;
    let hostname = take(&mut host.hostname).into();
    let check = host.health_check_config.take().map(check::of_endpoint).transpose();
    let check = check.at("health_check_config").at(at)?.unwrap_or_default();
    pass_over!(host: observability_name);
    nothing_left(&host).at(at)?;
    Ok(Endpoint { address, weight, health, hostname, hash_key, check, workload, tls_labels })
}

/// An address: IP and port, host name and port, or a unix socket.
pub(super) fn address(raw: Address) -> Result<EndpointAddress, Refusal> {
    match raw.address {
        Some(AddressKind::SocketAddress(mut raw)) => {
            let host = required(take(&mut raw.address), "address")?;
            if take(&mut raw.protocol) != socket_address::Protocol::Tcp as i32 {
                return Err(Refusal::new("protocol", "only TCP is supported by this proxy"));
            }
            let port = match raw.port_specifier.take() {
                Some(PortSpecifier::PortValue(port)) => u16::try_from(port)
                    .map_err(|_| Refusal::new("port_value", format!("{port} is no port")))?,
                _ => return Err(Refusal::new("port_value", "missing")),
            };
            pass_over!(raw: ipv4_compat);
            nothing_left(&raw)?;
            Ok(match host.parse() {
                Ok(ip) => EndpointAddress::Tcp(std::net::SocketAddr::new(ip, port)),
                Err(_) => EndpointAddress::Name(host.into(), port),
            })
        }
        Some(AddressKind::Pipe(pipe)) => Ok(EndpointAddress::Unix(required(pipe.path, "path")?.into())),
        Some(AddressKind::EnvoyInternalAddress(_)) => {
            Err(Refusal::new("envoy_internal_address", "not supported by this proxy"))
        }
        None => Err(Refusal::new("address", "missing")),
    }
    .at("socket_address")
}

/// `filter_metadata["istio"].workload`: `name;namespace;canonical-service;canonical-revision;cluster`.
fn workload(metadata: Option<&Metadata>) -> Workload {
    let text = istio(metadata).and_then(|istio| match istio.fields.get("workload")?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text.as_str()),
        _ => None,
    });
    let mut parts = text.unwrap_or_default().split(';').map(known);
    let mut next = || parts.next().unwrap_or_else(|| known(""));
    Workload { name: next(), namespace: next(), service: next(), revision: next(), cluster: next() }
}

/// `filter_metadata["envoy.lb"].hash_key`.
fn hash_key(metadata: Option<&Metadata>) -> Option<Arc<str>> {
    match metadata?.filter_metadata.get("envoy.lb")?.fields.get("hash_key")?.kind.as_ref()? {
        Kind::StringValue(text) if !text.is_empty() => Some(text.as_str().into()),
        _ => None,
    }
}

/// `filter_metadata["envoy.transport_socket_match"]`, as far as it is text, which is all that is compared.
fn tls_labels(metadata: Option<&Metadata>) -> BTreeMap<String, String> {
    let fields = metadata.and_then(|metadata| metadata.filter_metadata.get("envoy.transport_socket_match"));
    let text = |(name, value): (&String, &Value)| match value.kind.as_ref()? {
        Kind::StringValue(text) => Some((name.clone(), text.clone())),
        _ => None,
    };
    fields.into_iter().flat_map(|fields| &fields.fields).filter_map(text).collect()
}

/// What Istio's control plane says about a resource.
pub(super) fn istio(metadata: Option<&Metadata>) -> Option<&Struct> {
    metadata?.filter_metadata.get("istio")
}

/// A label, or `unknown`.
pub(super) fn known(text: &str) -> Arc<str> {
    if text.is_empty() { "unknown".into() } else { text.into() }
}
