//! Settings of the adapter for Consul.

use std::time::Duration;

use serde::Deserialize;

use super::access::RawAccess;
use super::{Access, SettingError, source_name, wrong};

/// Consul, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConsulSettings {
    /// How the agent's API is reached; one address. Default `http://127.0.0.1:8500`.
    #[serde(default)]
    pub access: RawAccess,
    /// Datacenter. Default: the agent's own.
    pub datacenter: Option<String>,
    /// Whether any server may answer, not only the leader. Default false.
    pub stale: Option<bool>,
    /// Oldest answer that is accepted when `stale`, in seconds. Default 10.
    pub stale_seconds_max: Option<u64>,
    /// Namespace of the mesh that the services are put in. Default `default`.
    pub namespace: Option<String>,
    /// Unique name of the source in the mesh. Default `consul/DATACENTER`, or `consul/local`.
    pub source: Option<String>,
    /// Region of endpoints that name none. Default: the datacenter.
    pub region: Option<String>,
}

/// Consul.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsulSettings {
    /// How its API is reached; one server counts, the agent.
    pub access: Access,
    /// Datacenter; the agent's own when `None`.
    pub datacenter: Option<String>,
    /// Oldest answer that is accepted from a server that is not the leader; `None` asks the leader.
    pub stale_max: Option<Duration>,
    /// Namespace of the mesh that the services are put in.
    pub namespace: String,
    /// Name of the source.
    pub source: String,
    /// Region of endpoints that name none; the datacenter when empty.
    pub region: String,
}

impl RawConsulSettings {
    /// Checks everything that can be checked without touching the world.
    pub fn check(self) -> Result<ConsulSettings, SettingError> {
        if self.access.address.len() > 1 {
            return wrong("access.address", "has several addresses; name one agent, which knows its servers");
        }
        let stale_max = Duration::from_secs(self.stale_seconds_max.unwrap_or(10));
        let datacenter = self.datacenter.filter(|datacenter| !datacenter.is_empty());
        let source = match (self.source, &datacenter) {
            (Some(source), _) => source,
            (None, Some(datacenter)) => format!("consul/{}", datacenter.to_ascii_lowercase()),
            (None, None) => "consul/local".to_owned(),
        };
        Ok(ConsulSettings {
            access: self.access.check("http://127.0.0.1:8500")?,
            stale_max: self.stale.unwrap_or(false).then_some(stale_max),
            namespace: self.namespace.unwrap_or_else(|| "default".to_owned()),
            source: source_name(source)?,
            region: self.region.or_else(|| datacenter.clone()).unwrap_or_default(),
            datacenter,
        })
    }
}
