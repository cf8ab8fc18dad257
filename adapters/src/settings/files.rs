//! Settings of the adapter for a directory of YAML.

use std::path::PathBuf;

use serde::Deserialize;

use super::{SettingError, TRUST_DOMAIN, last_part, source_name, wrong};

/// A directory of YAML, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFilesSettings {
    /// The directory. No default.
    pub directory: Option<PathBuf>,
    /// Unique name of the source in the mesh. Default `files/local`.
    pub source: Option<String>,
    /// Label `cluster` of the workloads. Default: the source's name after its last slash.
    pub cluster: Option<String>,
    /// Region of endpoints that name none. Default empty.
    pub region: Option<String>,
    /// Trust domain of the identities of Istio's workload entries. Default `cluster.local`.
    pub trust_domain: Option<String>,
}

/// A directory of YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesSettings {
    /// The directory.
    pub directory: PathBuf,
    /// Name of the source.
    pub source: String,
    /// Label `cluster` of the workloads.
    pub cluster: String,
    /// Region of endpoints that name none.
    pub region: String,
    /// Trust domain of the identities of Istio's workload entries.
    pub trust_domain: String,
}

impl RawFilesSettings {
    /// Checks everything that can be checked without touching the world.
    pub fn check(self) -> Result<FilesSettings, SettingError> {
        let Some(directory) = self.directory.filter(|directory| !directory.as_os_str().is_empty()) else {
            return wrong("directory", "is missing; name the directory to watch");
        };
        let source = source_name(self.source.unwrap_or_else(|| "files/local".to_owned()))?;
        Ok(FilesSettings {
            directory,
            cluster: self.cluster.unwrap_or_else(|| last_part(&source).to_owned()),
            region: self.region.unwrap_or_default(),
            trust_domain: self.trust_domain.unwrap_or_else(|| TRUST_DOMAIN.to_owned()),
            source,
        })
    }
}
