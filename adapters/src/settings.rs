//! What a person sets, raw and checked. Raw settings come from files, the environment and the command line through the
//! `config` crate; a checked value needs no further doubt.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tonic::transport::{Endpoint, Uri};

pub use self::access::{Access, RawAccess, Token};
pub use self::consul::{ConsulSettings, RawConsulSettings};
pub use self::files::{FilesSettings, RawFilesSettings};
pub use self::kubernetes::{KubernetesSettings, RawKubernetesSettings};
pub use self::marathon::{MarathonSettings, RawMarathonSettings};
pub use self::mesos::{MesosSettings, RawMesosSettings};
pub use self::nomad::{NomadSettings, RawNomadSettings};

mod access;
mod consul;
mod files;
mod kubernetes;
mod marathon;
mod mesos;
mod nomad;

/// Trust domain of identities when nothing else is said.
const TRUST_DOMAIN: &str = "cluster.local";
/// Longest accepted name of a source, in bytes.
pub const SOURCE_BYTES_MAX: usize = 253;

/// What is the same for every adapter, as written.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAdapterSettings {
    /// Control planes, all over mutual TLS (`https://control:15012`) or all in plaintext on loopback (`127.0.0.1:15010`).
    /// All are told everything. At least one.
    #[serde(default)]
    pub control: Vec<String>,
    /// Folder in which the adapter's identity is kept. Without it a restart has to join anew.
    #[serde(default)]
    pub data_dir: Option<PathBuf>,
    /// File with the join token by which the adapter gets its identity the first time.
    #[serde(default)]
    pub join_token_file: Option<PathBuf>,
    /// The join token itself, for where there is no file.
    #[serde(default)]
    pub join_token: Option<String>,
    /// A platform's token in place of a join token: `kubernetes:FILE`, `nomad:FILE` or `consul:FILE`.
    #[serde(default)]
    pub proof: Option<String>,
    /// PEM file with the root by which the control plane is known the first time. Default: the hash in the join token.
    #[serde(default)]
    pub control_ca_file: Option<PathBuf>,
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
    /// Nomad.
    Nomad(Box<RawNomadSettings>),
    /// Marathon.
    Marathon(Box<RawMarathonSettings>),
    /// Mesos.
    Mesos(Box<RawMesosSettings>),
    /// Kubernetes.
    Kubernetes(Box<RawKubernetesSettings>),
}

impl Default for RawPlatform {
    fn default() -> Self {
        RawPlatform::Files(RawFilesSettings::default())
    }
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
    /// Nomad.
    Nomad(Box<NomadSettings>),
    /// Marathon.
    Marathon(Box<MarathonSettings>),
    /// Mesos.
    Mesos(Box<MesosSettings>),
    /// Kubernetes.
    Kubernetes(Box<KubernetesSettings>),
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
            RawPlatform::Nomad(raw) => Platform::Nomad(Box::new(raw.check()?)),
            RawPlatform::Marathon(raw) => Platform::Marathon(Box::new(raw.check()?)),
            RawPlatform::Mesos(raw) => Platform::Mesos(Box::new(raw.check()?)),
            RawPlatform::Kubernetes(raw) => Platform::Kubernetes(Box::new(raw.check()?)),
        };
        Ok(AdapterSettings { control_planes, platform })
    }
}

/// A control plane: plaintext leaves this machine under no name.
fn control_plane(text: &str) -> Result<Endpoint, SettingError> {
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let parsed: Uri = match url.parse() {
        Ok(parsed) => parsed,
        Err(error) => return wrong("control", format!("'{text}' is no address: {error}")),
    };
    let host = parsed.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match parsed.scheme_str() {
        Some("https") => Ok(lively(parsed)),
        Some("http") if loopback => Ok(lively(parsed)),
        Some("http") => wrong(
            "control",
            format!("'{text}' is plaintext, which is only for loopback; write https://{host}:15012"),
        ),
        _ => wrong("control", format!("'{text}' must be https://host:15012, or host:port on loopback")),
    }
}

/// An endpoint whose silence is noticed.
fn lively(uri: Uri) -> Endpoint {
    Endpoint::from(uri)
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(15))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
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
        RawAdapterSettings {
            control: vec![control_plane.into()],
            platform: RawPlatform::Files(files),
            ..Default::default()
        }
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
        assert!(files("d", "https://10.0.0.1:15012", "a").check().is_ok());
        refused(files("d", "ftp://127.0.0.1:1", "a"), "must be https://");
    }

    #[test]
    fn a_directory_and_a_control_plane_are_needed() {
        refused(files("", "http://127.0.0.1:1", "a"), "directory: is missing");
        refused(RawAdapterSettings::default(), "control: is empty");
    }

    #[test]
    fn a_token_comes_from_one_place_and_stays_out_of_logs() {
        let access = RawAccess { token: Some("secret".into()), ..Default::default() };
        let raw = RawConsulSettings { access: access.clone(), ..Default::default() };
        assert!(!format!("{raw:?} {:?}", raw.clone().check().unwrap()).contains("secret"));
        let access = RawAccess { token_file: Some("f".into()), ..access };
        let both = RawConsulSettings { access, ..raw };
        assert!(both.check().unwrap_err().to_string().contains("keep one of the two"));
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        let error =
            serde_saphyr::from_str::<RawConsulSettings>("access: {adress: x}\n").unwrap_err().to_string();
        assert!(error.contains("adress"), "{error}");
    }
}
