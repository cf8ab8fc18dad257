//! Settings of the adapter for Marathon.

use std::path::PathBuf;

use serde::Deserialize;

use super::access::RawAccess;
use super::{Access, SettingError, TRUST_DOMAIN, source_name};

/// Marathon, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMarathonSettings {
    /// Its instances; when one does not answer the next is asked. The token goes only to those named here, so name every
    /// one that may lead. Default `http://127.0.0.1:8080`.
    #[serde(default)]
    pub address: Vec<String>,
    /// `user:password`, or a token of DC/OS. Prefer `token_file`.
    pub token: Option<String>,
    /// File that holds it; read anew for every question.
    pub token_file: Option<PathBuf>,
    /// PEM file with the CA of Marathon's certificates. Default: the host's roots.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate and key, where Marathon asks for one.
    pub client_cert_file: Option<PathBuf>,
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
        let access = RawAccess {
            addresses: self.address,
            token: self.token,
            token_file: self.token_file,
            ca_file: self.ca_file,
            client_cert_file: self.client_cert_file,
        };
        Ok(MarathonSettings {
            access: access.check("http://127.0.0.1:8080")?,
            namespace: self.namespace.unwrap_or_else(|| "default".to_owned()),
            trust_domain: self.trust_domain.unwrap_or_else(|| TRUST_DOMAIN.to_owned()),
            source: source_name(self.source.unwrap_or_else(|| "marathon/local".to_owned()))?,
            region: self.region.unwrap_or_default(),
        })
    }
}
