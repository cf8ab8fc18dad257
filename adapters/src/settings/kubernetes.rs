//! Settings of the adapter for Kubernetes.

use std::path::PathBuf;

use serde::Deserialize;

use super::access::RawAccess;
use super::{Access, SettingError, TRUST_DOMAIN, source_name};

/// Kubernetes, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawKubernetesSettings {
    /// API servers of one cluster. Default `http://127.0.0.1:8001`, where `kubectl proxy` is.
    #[serde(default)]
    pub address: Vec<String>,
    /// Bearer token. Prefer `token_file`.
    pub token: Option<String>,
    /// File that holds the token; read anew for every question, as it is exchanged every hour.
    pub token_file: Option<PathBuf>,
    /// PEM file with the CA of the API server's certificate. Default: the host's roots.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate and key.
    pub client_cert_file: Option<PathBuf>,
    /// The one namespace of the cluster that is read. Default: all.
    pub only_namespace: Option<String>,
    /// Name of the cluster: label `cluster` of the workloads. Default `kubernetes`.
    pub cluster: Option<String>,
    /// Trust domain of the identities. Default `cluster.local`.
    pub trust_domain: Option<String>,
    /// Unique name of the source in the mesh. Default `kubernetes/CLUSTER`, or `kubernetes/local`.
    pub source: Option<String>,
    /// Region of endpoints whose node names none. Default empty.
    pub region: Option<String>,
}

/// Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesSettings {
    /// How its API is reached.
    pub access: Access,
    /// The one namespace that is read; all when `None`.
    pub only_namespace: Option<String>,
    /// Name of the cluster.
    pub cluster: String,
    /// Trust domain of the identities.
    pub trust_domain: String,
    /// Name of the source.
    pub source: String,
    /// Region of endpoints whose node names none.
    pub region: String,
}

impl RawKubernetesSettings {
    /// Checks everything that can be checked without touching the world.
    pub fn check(self) -> Result<KubernetesSettings, SettingError> {
        let access = RawAccess {
            addresses: self.address,
            token: self.token,
            token_file: self.token_file,
            ca_file: self.ca_file,
            client_cert_file: self.client_cert_file,
        };
        let place = self.cluster.as_deref().unwrap_or("local").to_ascii_lowercase();
        Ok(KubernetesSettings {
            access: access.check("http://127.0.0.1:8001")?,
            only_namespace: self.only_namespace,
            source: source_name(self.source.unwrap_or_else(|| format!("kubernetes/{place}")))?,
            cluster: self.cluster.unwrap_or_else(|| "kubernetes".to_owned()),
            trust_domain: self.trust_domain.unwrap_or_else(|| TRUST_DOMAIN.to_owned()),
            region: self.region.unwrap_or_default(),
        })
    }
}
