//! Settings of the adapter for Mesos.

use std::path::PathBuf;

use serde::Deserialize;

use super::access::RawAccess;
use super::{Access, SettingError, TRUST_DOMAIN, source_name};

/// Mesos, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMesosSettings {
    /// Masters; any of them says which one leads. Name all, since the credentials go only to those named here. Default
    /// `http://127.0.0.1:5050`.
    #[serde(default)]
    pub address: Vec<String>,
    /// `user:password`. Prefer `token_file`.
    pub token: Option<String>,
    /// File that holds it; read anew for every question.
    pub token_file: Option<PathBuf>,
    /// PEM file with the CA of the masters' certificates. Default: the host's roots.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate and key, where Mesos asks for one.
    pub client_cert_file: Option<PathBuf>,
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
        let access = RawAccess {
            addresses: self.address,
            token: self.token,
            token_file: self.token_file,
            ca_file: self.ca_file,
            client_cert_file: self.client_cert_file,
        };
        Ok(MesosSettings {
            access: access.check("http://127.0.0.1:5050")?,
            namespace: self.namespace.unwrap_or_else(|| "default".to_owned()),
            trust_domain: self.trust_domain.unwrap_or_else(|| TRUST_DOMAIN.to_owned()),
            source: source_name(self.source.unwrap_or_else(|| "mesos/local".to_owned()))?,
            region: self.region.unwrap_or_default(),
        })
    }
}
