//! Settings of the adapter for Marathon.

use serde::Deserialize;

use super::access::RawAccess;
use super::{Access, SettingError, TRUST_DOMAIN, source_name};

/// Marathon, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMarathonSettings {
    /// How its instances are reached. Default `http://127.0.0.1:8080`.
    #[serde(default)]
    pub access: RawAccess,
    /// Namespace of the mesh for apps without a label `weft.namespace`. Default `default`.
    pub namespace: Option<String>,
    /// Trust domain of the identities. Default `cluster.local`.
    pub trust_domain: Option<String>,
    /// Unique name of the source in the mesh. Default `marathon/local`.
    pub source: Option<String>,
    /// Region of endpoints whose agent names none. Default empty.
    pub region: Option<String>,
}

/// Marathon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarathonSettings {
    /// How its API is reached.
    pub access: Access,
    /// Namespace of apps that name none.
    pub namespace: String,
    /// Trust domain of the identities.
    pub trust_domain: String,
    /// Name of the source.
    pub source: String,
    /// Region of endpoints whose agent names none.
    pub region: String,
}

impl RawMarathonSettings {
    /// Checks everything that can be checked without touching the world.
    pub fn check(self) -> Result<MarathonSettings, SettingError> {
        Ok(MarathonSettings {
            access: self.access.check("http://127.0.0.1:8080")?,
            namespace: self.namespace.unwrap_or_else(|| "default".to_owned()),
            trust_domain: self.trust_domain.unwrap_or_else(|| TRUST_DOMAIN.to_owned()),
            source: source_name(self.source.unwrap_or_else(|| "marathon/local".to_owned()))?,
            region: self.region.unwrap_or_default(),
        })
    }
}
