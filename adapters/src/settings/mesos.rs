//! Settings of the adapter for Mesos.

use serde::Deserialize;

use super::access::RawAccess;
use super::{Access, SettingError, TRUST_DOMAIN, source_name};

/// Mesos, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMesosSettings {
    /// How the masters are reached; any of them says which one leads. Default `http://127.0.0.1:5050`.
    #[serde(default)]
    pub access: RawAccess,
    /// Namespace of the mesh for tasks without a label `weft.namespace`. Default `default`.
    pub namespace: Option<String>,
    /// Trust domain of the identities. Default `cluster.local`.
    pub trust_domain: Option<String>,
    /// Unique name of the source in the mesh. Default `mesos/local`.
    pub source: Option<String>,
    /// Region of endpoints whose agent has no fault domain. Default empty.
    pub region: Option<String>,
}

/// Mesos.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MesosSettings {
    /// How its API is reached.
    pub access: Access,
    /// Namespace of tasks that name none.
    pub namespace: String,
    /// Trust domain of the identities.
    pub trust_domain: String,
    /// Name of the source.
    pub source: String,
    /// Region of endpoints whose agent has no fault domain.
    pub region: String,
}

impl RawMesosSettings {
    /// Checks everything that can be checked without touching the world.
    pub fn check(self) -> Result<MesosSettings, SettingError> {
        Ok(MesosSettings {
            access: self.access.check("http://127.0.0.1:5050")?,
            namespace: self.namespace.unwrap_or_else(|| "default".to_owned()),
            trust_domain: self.trust_domain.unwrap_or_else(|| TRUST_DOMAIN.to_owned()),
            source: source_name(self.source.unwrap_or_else(|| "mesos/local".to_owned()))?,
            region: self.region.unwrap_or_default(),
        })
    }
}
