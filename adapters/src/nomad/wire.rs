//! What Nomad answers, as far as it is read. Everything else is ignored, as newer versions say more.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// One element of `GET /v1/services`: the names in one namespace.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Names {
    pub(super) namespace: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) services: Vec<Name>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Name {
    pub(super) service_name: String,
}

/// One element of `GET /v1/service/NAME`, and the payload of its events.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Registration {
    #[serde(rename = "ID")]
    pub(super) id: String,
    pub(super) service_name: String,
    pub(super) namespace: String,
    #[serde(default, rename = "NodeID")]
    pub(super) node_id: String,
    #[serde(default)]
    pub(super) datacenter: String,
    #[serde(default, rename = "JobID")]
    pub(super) job_id: String,
    #[serde(default, rename = "AllocID")]
    pub(super) alloc_id: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) tags: Vec<String>,
    #[serde(default)]
    pub(super) address: String,
    #[serde(default)]
    pub(super) port: u32,
}

/// One element of `GET /v1/allocations`, all of `GET /v1/allocation/ID`, and the payload of its events.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Alloc {
    #[serde(rename = "ID")]
    pub(super) id: String,
    /// Absent from events.
    #[serde(default)]
    pub(super) job_type: String,
    #[serde(default)]
    pub(super) task_group: String,
    #[serde(default)]
    pub(super) desired_status: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) desired_transition: Transition,
    #[serde(default)]
    pub(super) client_status: String,
    /// Absent from lists.
    #[serde(default, rename = "DeploymentID")]
    pub(super) deployment_id: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) deployment_status: DeploymentStatus,
    #[serde(default)]
    pub(super) modify_index: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Transition {
    pub(super) migrate: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct DeploymentStatus {
    pub(super) healthy: Option<bool>,
    pub(super) canary: bool,
}

/// `GET /v1/node/ID`, and the payload of its events.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Node {
    #[serde(rename = "ID")]
    pub(super) id: String,
    pub(super) datacenter: String,
    #[serde(deserialize_with = "null")]
    pub(super) attributes: BTreeMap<String, String>,
    #[serde(deserialize_with = "null")]
    pub(super) meta: BTreeMap<String, String>,
}

/// One line of `GET /v1/event/stream`; a heartbeat is `{}`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Batch {
    #[serde(default)]
    pub(super) index: u64,
    #[serde(default, deserialize_with = "null")]
    pub(super) events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Event {
    #[serde(rename = "Type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) index: u64,
    #[serde(default, deserialize_with = "null")]
    pub(super) payload: Payload,
}

/// What an event is about: one of these, and none for topics that we do not read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Payload {
    pub(super) service: Option<Registration>,
    pub(super) allocation: Option<Alloc>,
    pub(super) node: Option<Node>,
}

/// Go writes an empty list or map as null.
fn null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}
