//! What Marathon answers, as far as it is read. Everything else is ignored, as newer versions say more.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// `GET /v2/apps`.
#[derive(Debug, Deserialize)]
pub(super) struct Apps {
    pub(super) apps: Vec<App>,
}

/// `GET /v2/apps/ID`.
#[derive(Debug, Deserialize)]
pub(super) struct OneApp {
    pub(super) app: App,
}

/// One app with its tasks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct App {
    pub(super) id: String,
    #[serde(deserialize_with = "null")]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "null")]
    pub(super) networks: Vec<Network>,
    #[serde(deserialize_with = "null")]
    pub(super) container: Container,
    #[serde(deserialize_with = "null")]
    pub(super) port_definitions: Vec<PortDefinition>,
    /// Before 1.5: an address of its own for each task.
    pub(super) ip_address: Option<IpPerTask>,
    #[serde(deserialize_with = "null")]
    pub(super) health_checks: Vec<serde::de::IgnoredAny>,
    #[serde(deserialize_with = "null")]
    pub(super) readiness_checks: Vec<ReadinessCheck>,
    #[serde(deserialize_with = "null")]
    pub(super) readiness_check_results: Vec<ReadinessResult>,
    #[serde(deserialize_with = "null")]
    pub(super) deployments: Vec<serde::de::IgnoredAny>,
    #[serde(deserialize_with = "null")]
    pub(super) tasks: Vec<Task>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Network {
    pub(super) mode: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Container {
    #[serde(deserialize_with = "null")]
    pub(super) port_mappings: Vec<PortDefinition>,
    /// Before 1.5 the mappings and the network are here.
    #[serde(deserialize_with = "null")]
    pub(super) docker: Docker,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Docker {
    #[serde(deserialize_with = "null")]
    pub(super) port_mappings: Vec<PortDefinition>,
    #[serde(deserialize_with = "null")]
    pub(super) network: String,
}

/// A port of a container or of the host.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PortDefinition {
    #[serde(deserialize_with = "null")]
    pub(super) name: String,
    #[serde(deserialize_with = "null")]
    pub(super) protocol: String,
    pub(super) container_port: Option<u32>,
    /// Absent: the port is reached at the container's own address.
    pub(super) host_port: Option<u32>,
    #[serde(deserialize_with = "null")]
    pub(super) service_port: u32,
    #[serde(deserialize_with = "null")]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct IpPerTask {
    #[serde(deserialize_with = "null")]
    pub(super) discovery: Discovery,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Discovery {
    #[serde(deserialize_with = "null")]
    pub(super) ports: Vec<DiscoveryPort>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DiscoveryPort {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) protocol: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ReadinessCheck {
    pub(super) timeout_seconds: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ReadinessResult {
    pub(super) task_id: String,
    pub(super) ready: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Task {
    pub(super) id: String,
    #[serde(deserialize_with = "null")]
    pub(super) host: String,
    #[serde(deserialize_with = "null")]
    pub(super) ports: Vec<u32>,
    #[serde(deserialize_with = "null")]
    pub(super) ip_addresses: Vec<IpAddress>,
    #[serde(deserialize_with = "null")]
    pub(super) state: String,
    #[serde(deserialize_with = "null")]
    pub(super) started_at: String,
    #[serde(deserialize_with = "null")]
    pub(super) region: String,
    #[serde(deserialize_with = "null")]
    pub(super) zone: String,
    #[serde(deserialize_with = "null")]
    pub(super) health_check_results: Vec<Alive>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct IpAddress {
    pub(super) ip_address: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Alive {
    pub(super) alive: bool,
}

/// `GET /v2/pods/ID::status`, and one element of `GET /v2/pods/::status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pod {
    pub(super) id: String,
    #[serde(deserialize_with = "null")]
    pub(super) spec: PodSpec,
    #[serde(deserialize_with = "null")]
    pub(super) instances: Vec<PodInstance>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodSpec {
    #[serde(deserialize_with = "null")]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "null")]
    pub(super) containers: Vec<PodContainer>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodContainer {
    pub(super) name: String,
    #[serde(deserialize_with = "null")]
    pub(super) endpoints: Vec<PodEndpoint>,
    pub(super) health_check: Option<serde::de::IgnoredAny>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodEndpoint {
    pub(super) name: String,
    pub(super) container_port: Option<u32>,
    /// Absent: the port is reached at the pod's own address.
    pub(super) host_port: Option<u32>,
    #[serde(deserialize_with = "null")]
    pub(super) protocol: Vec<String>,
    #[serde(deserialize_with = "null")]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodInstance {
    pub(super) id: String,
    #[serde(deserialize_with = "null")]
    pub(super) status: String,
    #[serde(deserialize_with = "null")]
    pub(super) agent_hostname: String,
    #[serde(deserialize_with = "null")]
    pub(super) agent_region: String,
    #[serde(deserialize_with = "null")]
    pub(super) agent_zone: String,
    #[serde(deserialize_with = "null")]
    pub(super) networks: Vec<PodNetwork>,
    #[serde(deserialize_with = "null")]
    pub(super) containers: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodNetwork {
    #[serde(deserialize_with = "null")]
    pub(super) addresses: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ContainerStatus {
    pub(super) name: String,
    #[serde(deserialize_with = "null")]
    pub(super) endpoints: Vec<EndpointStatus>,
    #[serde(deserialize_with = "null")]
    pub(super) conditions: Vec<ContainerCondition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct EndpointStatus {
    pub(super) name: String,
    pub(super) allocated_host_port: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ContainerCondition {
    pub(super) name: String,
    pub(super) value: String,
}

/// Scala writes what is absent as null.
fn null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}
