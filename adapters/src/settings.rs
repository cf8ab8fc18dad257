//! What a person sets, raw and checked. Raw settings come from files, the environment and the command line through the
//! `config` crate; a checked value needs no further doubt.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tonic::transport::{Endpoint, Uri};

/// Longest accepted name of a source, in bytes.
pub const SOURCE_BYTES_MAX: usize = 253;

/// What is the same for every adapter, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAdapterSettings {
    /// Control planes, each as `127.0.0.1:15010` or `http://127.0.0.1:15010`. All are told everything. At least one.
    #[serde(default)]
    pub control: Vec<String>,
    /// The platform.
    pub platform: RawPlatform,
}

/// One platform, as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RawPlatform {
    /// A directory of YAML.
    Files(RawFilesSettings),
    /// Consul.
    Consul(Box<RawConsulSettings>),
}

impl Default for RawPlatform {
    fn default() -> Self {
        RawPlatform::Files(RawFilesSettings::default())
    }
}

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

/// Consul, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConsulSettings {
    /// The agent's or a server's address. Default `http://127.0.0.1:8500`.
    pub address: Option<String>,
    /// Datacenter. Default: the agent's own.
    pub datacenter: Option<String>,
    /// ACL token. Prefer `token_file`.
    pub token: Option<String>,
    /// File that holds the ACL token; read anew when it changes and when Consul refuses the token.
    pub token_file: Option<PathBuf>,
    /// PEM file with the CA of Consul's certificate. Default: the host's roots.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate and key, where Consul asks for one.
    pub client_cert_file: Option<PathBuf>,
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

/// What is wrong with a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {reason}")]
pub struct SettingError {
    /// The setting.
    pub setting: &'static str,
    /// What is wrong and what to do.
    pub reason: String,
}

fn wrong<T>(setting: &'static str, reason: impl Into<String>) -> Result<T, SettingError> {
    Err(SettingError { setting, reason: reason.into() })
}

/// What an adapter runs with.
#[derive(Clone, Debug)]
pub struct AdapterSettings {
    /// Control planes.
    pub control_planes: Vec<Endpoint>,
    /// The platform.
    pub platform: Platform,
}

/// One platform.
#[derive(Clone, Debug)]
pub enum Platform {
    /// A directory of YAML.
    Files(FilesSettings),
    /// Consul.
    Consul(Box<ConsulSettings>),
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

/// Consul.
#[derive(Clone, PartialEq, Eq)]
pub struct ConsulSettings {
    /// Base address without a slash at its end.
    pub address: String,
    /// Datacenter; the agent's own when `None`.
    pub datacenter: Option<String>,
    /// Where the ACL token comes from.
    pub token: Token,
    /// CA of Consul's certificate; the host's roots when `None`.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate and key.
    pub client_cert_file: Option<PathBuf>,
    /// Oldest answer that is accepted from a server that is not the leader; `None` asks the leader.
    pub stale_max: Option<Duration>,
    /// Namespace of the mesh that the services are put in.
    pub namespace: String,
    /// Name of the source.
    pub source: String,
    /// Region of endpoints that name none; the datacenter when empty.
    pub region: String,
}

/// Where an ACL token comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// There is none.
    Anonymous,
    /// It is given.
    Value(String),
    /// It is in a file.
    File(PathBuf),
}

/// The token stays out of logs.
impl std::fmt::Debug for ConsulSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsulSettings")
            .field("address", &self.address)
            .field("datacenter", &self.datacenter)
            .field("source", &self.source)
            .field("stale_max", &self.stale_max)
            .finish_non_exhaustive()
    }
}

impl RawAdapterSettings {
    /// Checks everything that can be checked without touching the world.
    pub fn check(self) -> Result<AdapterSettings, SettingError> {
        if self.control.is_empty() {
            return wrong("control", "is empty; name at least one control plane, such as 127.0.0.1:15010");
        }
        let control_planes =
            self.control.iter().map(|text| control_plane(text)).collect::<Result<Vec<_>, _>>()?;
        let platform = match self.platform {
            RawPlatform::Files(raw) => Platform::Files(raw.check()?),
            RawPlatform::Consul(raw) => Platform::Consul(Box::new(raw.check()?)),
        };
        Ok(AdapterSettings { control_planes, platform })
    }
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
            trust_domain: self.trust_domain.unwrap_or_else(|| "cluster.local".to_owned()),
            source,
        })
    }
}

impl RawConsulSettings {
    /// Checks everything that can be checked without touching the world.
    pub fn check(self) -> Result<ConsulSettings, SettingError> {
        let address = self.address.unwrap_or_else(|| "http://127.0.0.1:8500".to_owned());
        let address = address.trim_end_matches('/').to_owned();
        let uri: Uri = match address.parse() {
            Ok(uri) => uri,
            Err(error) => return wrong("address", format!("'{address}' is no address: {error}")),
        };
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return wrong("address", format!("'{address}' must begin with http:// or https://"));
        }
        let token = match (self.token, self.token_file) {
            (Some(_), Some(_)) => {
                return wrong("token", "cannot stand beside token_file; keep one of the two");
            }
            (Some(value), None) if !value.is_empty() => Token::Value(value),
            (_, Some(file)) => Token::File(file),
            (_, None) => Token::Anonymous,
        };
        let stale_max = Duration::from_secs(self.stale_seconds_max.unwrap_or(10));
        let datacenter = self.datacenter.filter(|datacenter| !datacenter.is_empty());
        let source = match (self.source, &datacenter) {
            (Some(source), _) => source,
            (None, Some(datacenter)) => format!("consul/{}", datacenter.to_ascii_lowercase()),
            (None, None) => "consul/local".to_owned(),
        };
        Ok(ConsulSettings {
            address,
            token,
            ca_file: self.ca_file,
            client_cert_file: self.client_cert_file,
            stale_max: self.stale.unwrap_or(false).then_some(stale_max),
            namespace: self.namespace.unwrap_or_else(|| "default".to_owned()),
            source: source_name(source)?,
            region: self.region.or_else(|| datacenter.clone()).unwrap_or_default(),
            datacenter,
        })
    }
}

/// A control plane in plaintext, which leaves this machine under no name.
fn control_plane(text: &str) -> Result<Endpoint, SettingError> {
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let parsed: Uri = match url.parse() {
        Ok(parsed) => parsed,
        Err(error) => return wrong("control", format!("'{text}' is no address: {error}")),
    };
    let host = parsed.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match parsed.scheme_str() {
        Some("http") if loopback => Ok(Endpoint::from(parsed)
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(Duration::from_secs(15))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)),
        Some("http") => wrong("control", format!("'{text}' is plaintext; that is only for loopback")),
        _ => wrong("control", format!("'{text}' must be host:port or begin with http://, on loopback")),
    }
}

fn source_name(source: String) -> Result<String, SettingError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"./_-".contains(&b);
    if source.is_empty() || source.len() > SOURCE_BYTES_MAX || !source.bytes().all(plain) {
        return wrong(
            "source",
            format!(
                "'{source}' is no source name; use 1 to {SOURCE_BYTES_MAX} of a-z, 0-9, '.', '/', '_', '-'"
            ),
        );
    }
    Ok(source)
}

fn last_part(source: &str) -> &str {
    source.rsplit('/').next().unwrap_or(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(raw: RawAdapterSettings, expected: &str) {
        let error = raw.check().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "'{expected}' is not in '{error}'");
    }

    fn files(directory: &str, control_plane: &str, source: &str) -> RawAdapterSettings {
        let files = RawFilesSettings {
            directory: Some(directory.into()),
            source: Some(source.into()),
            ..Default::default()
        };
        RawAdapterSettings { control: vec![control_plane.into()], platform: RawPlatform::Files(files) }
    }

    #[test]
    fn a_source_name_keeps_to_its_letters() {
        assert!(files("d", "http://127.0.0.1:1", "files/a.b_c-1").check().is_ok());
        refused(files("d", "http://127.0.0.1:1", "Files"), "no source name");
        refused(files("d", "http://127.0.0.1:1", ""), "no source name");
    }

    #[test]
    fn plaintext_stays_on_loopback() {
        assert!(files("d", "http://[::1]:1", "a").check().is_ok());
        assert!(files("d", "127.0.0.1:1", "a").check().is_ok());
        refused(files("d", "10.0.0.1:1", "a"), "only for loopback");
        refused(files("d", "http://10.0.0.1:1", "a"), "only for loopback");
        refused(files("d", "https://127.0.0.1:1", "a"), "begin with http://");
    }

    #[test]
    fn a_directory_and_a_control_plane_are_needed() {
        refused(files("", "http://127.0.0.1:1", "a"), "directory: is missing");
        refused(RawAdapterSettings::default(), "control: is empty");
    }

    #[test]
    fn a_token_comes_from_one_place_and_stays_out_of_logs() {
        let raw = RawConsulSettings { token: Some("secret".into()), ..Default::default() };
        assert!(!format!("{:?}", raw.clone().check().unwrap()).contains("secret"));
        let both = RawConsulSettings { token_file: Some("f".into()), ..raw };
        assert!(both.check().unwrap_err().to_string().contains("keep one of the two"));
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        let error = serde_saphyr::from_str::<RawConsulSettings>("adress: x\n").unwrap_err().to_string();
        assert!(error.contains("adress"), "{error}");
    }
}
