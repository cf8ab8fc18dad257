//! What a master says (operator API v1, as JSON), as far as it is read. Everything else is ignored, as newer versions
//! say more.

use serde::Deserialize;

/// An id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Id {
    pub(super) value: String,
}

/// One record of the stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) subscribed: Option<Subscribed>,
    pub(super) task_added: Option<TaskAdded>,
    pub(super) task_updated: Option<TaskUpdated>,
    pub(super) agent_added: Option<AgentAdded>,
    pub(super) agent_removed: Option<AgentRemoved>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Subscribed {
    pub(super) get_state: State,
    pub(super) heartbeat_interval_seconds: Option<f64>,
}

/// Everything that the master knows.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct State {
    pub(super) get_tasks: Tasks,
    pub(super) get_agents: Agents,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tasks {
    pub(super) tasks: Vec<Task>,
    pub(super) unreachable_tasks: Vec<Task>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Agents {
    pub(super) agents: Vec<Agent>,
    /// Agents that a new master remembers and has not heard of yet: their tasks are unknown to it.
    pub(super) recovered_agents: Vec<AgentInfo>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TaskAdded {
    pub(super) task: Task,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TaskUpdated {
    pub(super) framework_id: Id,
    pub(super) status: Status,
    /// The newest state; the status may be an older one.
    pub(super) state: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AgentAdded {
    pub(super) agent: Agent,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AgentRemoved {
    pub(super) agent_id: Id,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Agent {
    pub(super) agent_info: AgentInfo,
    /// `slave(1)@10.0.0.1:5051`.
    pub(super) pid: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AgentInfo {
    pub(super) id: Id,
    pub(super) hostname: String,
    pub(super) domain: Domain,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Domain {
    pub(super) fault_domain: FaultDomain,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FaultDomain {
    pub(super) region: Place,
    pub(super) zone: Place,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Place {
    pub(super) name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Task {
    pub(super) name: String,
    pub(super) task_id: Id,
    pub(super) framework_id: Id,
    pub(super) agent_id: Id,
    pub(super) state: String,
    pub(super) resources: Vec<Resource>,
    pub(super) statuses: Vec<Status>,
    pub(super) labels: Labels,
    pub(super) discovery: Option<Discovery>,
    pub(super) health_check: Option<serde::de::IgnoredAny>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Resource {
    pub(super) name: String,
    pub(super) ranges: Ranges,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ranges {
    pub(super) range: Vec<Range>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Range {
    pub(super) begin: u32,
    pub(super) end: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Labels {
    pub(super) labels: Vec<Label>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Label {
    pub(super) key: String,
    pub(super) value: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Discovery {
    pub(super) visibility: String,
    pub(super) name: String,
    pub(super) ports: Ports,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ports {
    pub(super) ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Port {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) protocol: String,
    pub(super) labels: Labels,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) task_id: Id,
    pub(super) agent_id: Id,
    pub(super) healthy: Option<bool>,
    pub(super) timestamp: f64,
    pub(super) container_status: ContainerStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ContainerStatus {
    pub(super) network_infos: Vec<NetworkInfo>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NetworkInfo {
    /// Name of the container's network; empty on the host's.
    pub(super) name: String,
    pub(super) ip_addresses: Vec<IpAddress>,
    pub(super) port_mappings: Vec<PortMapping>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct IpAddress {
    pub(super) ip_address: String,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PortMapping {
    pub(super) host_port: u32,
    pub(super) container_port: u32,
}
