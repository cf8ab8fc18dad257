//! Settings of the adapter for Kubernetes.

use serde::Deserialize;

use super::access::RawAccess;
use super::{Access, SettingError, TRUST_DOMAIN, source_name};

/// Kubernetes, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawKubernetesSettings {
    /// How the API servers of one cluster are reached. Default `http://127.0.0.1:8001`, where `kubectl proxy` is.
    #[serde(default)]
    pub access: RawAccess,
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
        let place = self.cluster.as_deref().unwrap_or("local").to_ascii_lowercase();
        Ok(KubernetesSettings {
            access: self.access.check("http://127.0.0.1:8001")?,
            only_namespace: self.only_namespace,
            source: source_name(self.source.unwrap_or_else(|| format!("kubernetes/{place}")))?,
            cluster: self.cluster.unwrap_or_else(|| "kubernetes".to_owned()),
            trust_domain: self.trust_domain.unwrap_or_else(|| TRUST_DOMAIN.to_owned()),
            region: self.region.unwrap_or_default(),
        })
    }
}
