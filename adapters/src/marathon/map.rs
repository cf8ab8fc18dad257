//! From an app or a pod with its tasks to a service and its endpoints. Pure: `now` comes in.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use weft_proto::registry::v1 as proto;

use super::port::{self, Port, Reached};
use super::wire::{App, Pod, PodInstance, Task};
use crate::gather::Claim;
use crate::settings::MarathonSettings;
use crate::tags;

/// How much later than its timeout a readiness check may have its first result.
const READINESS_GRACE: Duration = Duration::from_secs(5);
/// The timeout of a readiness check that names none.
const READINESS_TIMEOUT: Duration = Duration::from_secs(10);

/// What an app says; nothing when it has no TCP port or stays out of the mesh.
pub(super) fn app(app: &App, settings: &MarathonSettings, now: SystemTime) -> Vec<Claim> {
    let part = Part { id: &app.id, labels: &app.labels, settings };
    let ports = port::of_app(app);
    part.claim(&ports, |key| {
        let tasks = app.tasks.iter();
        tasks
            .flat_map(|task| {
                let address = task.ip_addresses.first().map(|found| found.ip_address.as_str());
                let reached = reached(&ports, &task.host, address, |_, place| task.ports.get(place).copied());
                let place = [task.region.as_str(), task.zone.as_str()];
                part.endpoints(key, &task.id, reached, health_of_task(app, task, now), place)
            })
            .collect()
    })
}

/// What a pod says.
pub(super) fn pod(pod: &Pod, settings: &MarathonSettings) -> Vec<Claim> {
    let part = Part { id: &pod.id, labels: &pod.spec.labels, settings };
    let ports = port::of_pod(pod);
    part.claim(&ports, |key| {
        let instances = pod.instances.iter();
        instances
            .flat_map(|instance| {
                let address = instance.networks.iter().flat_map(|network| &network.addresses).next();
                let statuses = || instance.containers.iter().flat_map(|container| &container.endpoints);
                let allocated =
                    |port: &Port, _| statuses().find(|e| e.name == port.native)?.allocated_host_port;
                let reached =
                    reached(&ports, &instance.agent_hostname, address.map(String::as_str), allocated);
                let place = [instance.agent_region.as_str(), instance.agent_zone.as_str()];
                part.endpoints(key, &instance.id, reached, health_of_instance(pod, instance), place)
            })
            .collect()
    })
}

/// Addresses with the ports that are reached there. A task may be reached at two: its agent's and its own.
fn reached<'a>(
    ports: &[Port],
    agent: &'a str,
    own: Option<&'a str>,
    on_agent: impl Fn(&Port, usize) -> Option<u32>,
) -> BTreeMap<&'a str, Vec<(String, u32)>> {
    let mut found = BTreeMap::<&str, Vec<(String, u32)>>::new();
    for port in ports {
        let at = match port.reached {
            Reached::Agent(place) => on_agent(port, place).map(|number| (agent, number)),
            // Without an address yet it cannot be reached.
            Reached::Container(number) => own.map(|own| (own, number)),
        };
        if let Some((address, number)) = at.filter(|(address, number)| !address.is_empty() && *number > 0) {
            found.entry(address).or_default().push((port.port.name.clone(), number));
        }
    }
    found
}

/// An app or a pod.
struct Part<'a> {
    id: &'a str,
    labels: &'a BTreeMap<String, String>,
    settings: &'a MarathonSettings,
}

impl Part<'_> {
    fn claim(
        &self,
        ports: &[Port],
        endpoints: impl FnOnce(&proto::ServiceKey) -> Vec<proto::Endpoint>,
    ) -> Vec<Claim> {
        let ignored = self.said("weft.ignore").is_some_and(|value| value == "true");
        if ports.is_empty() || ignored {
            return Vec::new();
        }
        let key = proto::ServiceKey {
            namespace: self.said("weft.namespace").unwrap_or(&self.settings.namespace).to_owned(),
            name: self.said("weft.service").map_or_else(|| self.name(), str::to_owned),
        };
        let endpoints = endpoints(&key);
        let service = proto::Service {
            key: Some(key),
            ports: ports.iter().map(|port| port.port.clone()).collect(),
            aliases: vec![format!("{}.marathon.mesos", self.name())],
            // Agents are known by their host names as often as by their addresses.
            resolution: if endpoints.iter().any(|e| e.address.parse::<std::net::IpAddr>().is_err()) {
                proto::service::Resolution::Dns
            } else {
                proto::service::Resolution::Static
            }
            .into(),
            ..Default::default()
        };
        vec![Claim { service, endpoints }]
    }

    fn endpoints(
        &self,
        key: &proto::ServiceKey,
        id: &str,
        reached: BTreeMap<&str, Vec<(String, u32)>>,
        health: proto::Health,
        [region, zone]: [&str; 2],
    ) -> Vec<proto::Endpoint> {
        let mtls = self.said("weft.mtls").is_some_and(|value| value == "true");
        let account = || tags::identity(&self.settings.trust_domain, &key.namespace, &self.name());
        let identity = self.said("weft.identity").map(str::to_owned);
        let several = reached.len() > 1;
        let endpoint = |(address, ports): (&str, Vec<(String, u32)>)| proto::Endpoint {
            id: if several { format!("{id}@{address}") } else { id.to_owned() },
            service: Some(key.clone()),
            address: address.to_owned(),
            ports: ports.into_iter().collect(),
            weight: self.said("weft.weight").and_then(|weight| weight.parse().ok()).unwrap_or(1),
            health: health.into(),
            locality: Some(proto::Locality {
                region: if region.is_empty() { self.settings.region.clone() } else { region.to_owned() },
                zone: zone.to_owned(),
                subzone: String::new(),
            }),
            labels: self.shown().collect(),
            identity: identity.clone().unwrap_or_else(|| if mtls { account() } else { String::new() }),
            network: self.said("weft.network").unwrap_or_default().to_owned(),
            workload: self.name(),
            transport: tags::transport(mtls),
        };
        reached.into_iter().map(endpoint).collect()
    }

    fn said(&self, label: &str) -> Option<&str> {
        self.labels.get(label).map(String::as_str)
    }

    /// Labels that are not for other tools or for us; `weft.version` is the version.
    fn shown(&self) -> impl Iterator<Item = (String, String)> {
        let version = self.said("weft.version").map(|version| ("version".to_owned(), version.to_owned()));
        let plain = self.labels.iter().filter(|(name, _)| {
            !["weft.", "HAPROXY_", "traefik.", "VIP_", "DCOS_"].iter().any(|begin| name.starts_with(begin))
        });
        plain.map(|(name, value)| (name.clone(), value.clone())).chain(version)
    }

    /// Mesos-DNS's name: the parts of the id from the last to the first, joined by dashes.
    fn name(&self) -> String {
        let parts: Vec<&str> = self.id.split('/').filter(|part| !part.is_empty()).rev().collect();
        tags::plain_name(&parts.join("-"))
    }
}

fn health_of_task(app: &App, task: &Task, now: SystemTime) -> proto::Health {
    match task.state.as_str() {
        "TASK_KILLING" => return proto::Health::Draining,
        // Cut off from the master, not from its callers.
        "TASK_UNREACHABLE" => return proto::Health::Unspecified,
        "TASK_RUNNING" | "" => {}
        _ => return proto::Health::Unhealthy,
    }
    let results = &task.health_check_results;
    let checked = app.health_checks.is_empty() || !results.is_empty();
    if !checked || results.iter().any(|result| !result.alive) || !is_ready(app, task, now) {
        return proto::Health::Unhealthy;
    }
    proto::Health::Healthy
}

/// Readiness counts only while something is being deployed. A task that has no result yet is not ready as long as it may
/// still be waiting for its first one; older tasks never get one.
fn is_ready(app: &App, task: &Task, now: SystemTime) -> bool {
    if app.deployments.is_empty() || app.readiness_checks.is_empty() {
        return true;
    }
    let mut results =
        app.readiness_check_results.iter().filter(|result| result.task_id == task.id).peekable();
    if results.peek().is_some() {
        return results.all(|result| result.ready);
    }
    let timeouts = app
        .readiness_checks
        .iter()
        .map(|check| check.timeout_seconds.map_or(READINESS_TIMEOUT, Duration::from_secs));
    let grace = timeouts.max().unwrap_or(READINESS_TIMEOUT) + READINESS_GRACE;
    match humantime::parse_rfc3339(&task.started_at) {
        // A start in the future is a clock that is wrong: it has just started.
        Ok(started) => now.duration_since(started).is_ok_and(|age| age > grace),
        Err(_) => false,
    }
}

fn health_of_instance(pod: &Pod, instance: &PodInstance) -> proto::Health {
    let unhealthy = |name: &str| {
        let status = instance.containers.iter().find(|container| container.name == name);
        let healthy = status.and_then(|status| status.conditions.iter().find(|c| c.name == "healthy"));
        healthy.is_none_or(|condition| condition.value != "true")
    };
    let mut checked = pod.spec.containers.iter().filter(|container| container.health_check.is_some());
    let sick = checked.any(|container| unhealthy(&container.name));
    match instance.status.as_str() {
        "TERMINAL" => proto::Health::Draining,
        "STABLE" | "DEGRADED" if !sick => proto::Health::Healthy,
        _ => proto::Health::Unhealthy,
    }
}

#[cfg(test)]
mod tests;
