//! Settings of the adapter for Nomad.

use serde::Deserialize;

use super::access::RawAccess;
use super::{Access, SettingError, TRUST_DOMAIN, source_name};

/// Nomad, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawNomadSettings {
    /// How agents or servers of one region are reached. Default `http://127.0.0.1:4646`.
    #[serde(default)]
    pub access: RawAccess,
    /// Nomad's region. Default: the agent's own.
    pub nomad_region: Option<String>,
    /// Nomad's namespace, or `*` for all that the token may read. Default `*`.
    pub nomad_namespace: Option<String>,
    /// Namespace of the mesh that the services are put in. Default: Nomad's own.
    pub namespace: Option<String>,
    /// Trust domain of the identities. Default `cluster.local`.
    pub trust_domain: Option<String>,
    /// Unique name of the source in the mesh. Default `nomad/REGION`, or `nomad/local`.
    pub source: Option<String>,
    /// Region of endpoints whose node names none. Default: the datacenter.
    pub region: Option<String>,
}

/// Nomad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NomadSettings {
    /// How its API is reached.
    pub access: Access,
    /// Nomad's region; the agent's own when `None`.
    pub nomad_region: Option<String>,
    /// Nomad's namespace, or `*`.
    pub nomad_namespace: String,
    /// Namespace of the mesh; Nomad's own when `None`.
    pub namespace: Option<String>,
    /// Trust domain of the identities.
    pub trust_domain: String,
    /// Name of the source.
    pub source: String,
    /// Region of endpoints whose node names none; the datacenter when empty.
    pub region: String,
}

impl RawNomadSettings {
    /// Checks everything that can be checked without touching the world.
    pub fn check(self) -> Result<NomadSettings, SettingError> {
        let nomad_region = self.nomad_region.filter(|region| !region.is_empty());
        let place = nomad_region.as_deref().unwrap_or("local").to_ascii_lowercase();
        Ok(NomadSettings {
            access: self.access.check("http://127.0.0.1:4646")?,
            nomad_region,
            nomad_namespace: self.nomad_namespace.unwrap_or_else(|| "*".to_owned()),
            namespace: self.namespace,
            trust_domain: self.trust_domain.unwrap_or_else(|| TRUST_DOMAIN.to_owned()),
            source: source_name(self.source.unwrap_or_else(|| format!("nomad/{place}")))?,
            region: self.region.unwrap_or_default(),
        })
    }
}
