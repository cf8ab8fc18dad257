//! Settings of the control plane: what a human wrote ([`RawSettings`]) and what the program trusts ([`Settings`]). A flag
//! beats the environment, which beats the file, which beats the default. The environment comes in as a value.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use config::{Config, Environment, File};
use serde::{Deserialize, Serialize};
use weft_proto::spiffe::check_trust_domain;

use crate::{
    access_log::{AccessLog, RawMeshLogs},
    documents::{LocalityLb, locality},
    identity::{self, issue},
    model::{MESH_DOMAIN_DEFAULT, OutboundPolicy},
    providers::{Providers, RawProvider},
};

mod attestation;

/// Where proxies and adapters connect in plaintext.
pub const XDS_BIND_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15010);
/// Where proxies and adapters connect over TLS.
pub const TLS_BIND_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 15012);
/// Lives that the certificates of workloads may have: shorter ones would be renewed all the time, longer ones could only be
/// ended by a new root.
const CERTIFICATE_LIFE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(7 * 24 * 3600);
/// Where people and their tools connect.
pub const ADMIN_BIND_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15014);
/// How long a doubtful removal is held back.
pub const HOLD_DOWN_DEFAULT: Duration = Duration::from_secs(60);
/// Every option; each is read from `WEFT_` and its name in upper case.
pub const OPTIONS: [&str; 22] = [
    "xds_bind",
    "admin_bind",
    "data_dir",
    "mesh_domain",
    "hold_down",
    "insecure_loopback",
    "locality_lb_setting",
    "access_log_file",
    "access_log_encoding",
    "access_log_format",
    "outbound_traffic_policy",
    "tls_bind",
    "trust_domain",
    "trust_domain_aliases",
    "ca_dir",
    "certificate_life",
    "jwks_hosts",
    "kubernetes_api",
    "kubernetes_token_file",
    "kubernetes_ca_file",
    "kubernetes_audience",
    "kubernetes_adapters",
];

/// What a human wrote: everything may be left out, nothing unknown is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawSettings {
    /// Address of plaintext ADS and Registry; loopback only. Default 127.0.0.1:15010; port 0 lets the system choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xds_bind: Option<String>,
    /// Address of ADS, Registry and Identity over mutual TLS. Default 0.0.0.0:15012, but none beside `insecure_loopback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_bind: Option<String>,
    /// Trust domain of the mesh's identities. Default: the mesh domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    /// Former names of the trust domain, with commas: identities of these are the mesh's too. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain_aliases: Option<String>,
    /// Folder of an authority of the operator's: `ca-cert.pem`, `ca-key.pem`, `root-cert.pem`, `cert-chain.pem`. Default: a
    /// built-in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_dir: Option<PathBuf>,
    /// Life of the certificates of workloads: `24h` (default), from 10s to 7d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_life: Option<String>,
    /// API server by whose word service accounts of Kubernetes are known, `https://kubernetes.default.svc` in a pod. Our own
    /// account may create `tokenreviews`. Default: none, and such tokens prove nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_api: Option<String>,
    /// File with our token for it. Default over https: where pods have theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_token_file: Option<PathBuf>,
    /// PEM file with the CA of its certificate. Default over https: where pods have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_ca_file: Option<PathBuf>,
    /// Audience that tokens must be for. Default `weft`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_audience: Option<String>,
    /// Service accounts of adapters and the source that each may speak for, with commas:
    /// `weft-system/weft-adapter=kubernetes/local`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_adapters: Option<String>,
    /// Address of the admin API, `/metrics` and `/healthz`. Default 127.0.0.1:15014.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_bind: Option<String>,
    /// Folder of the document store and the last known registry. No default: data is never put where nobody chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Last part of full host names. Default `cluster.local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh_domain: Option<String>,
    /// How long a doubtful removal is held back: `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_down: Option<String>,
    /// What becomes of captured outbound traffic that no service claims: `ALLOW_ANY` (default) or `REGISTRY_ONLY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound_traffic_policy: Option<String>,
    /// Asks for plaintext on loopback. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insecure_loopback: Option<bool>,
    /// How load goes by locality where no DestinationRule says: YAML of Istio's `localityLbSetting`. Default: near first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality_lb_setting: Option<String>,
    /// File in which every proxy logs its requests, `/dev/stdout` say; Istio's `accessLogFile`. Default: none is logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_log_file: Option<String>,
    /// `text` (default) or `json`; Istio's `accessLogEncoding`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_log_encoding: Option<String>,
    /// Format string, or an object of them with `json`; Istio's `accessLogFormat`. Default: Istio's formats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_log_format: Option<String>,
    /// Hosts, with commas, whose keys for tokens may be fetched without TLS and from this machine. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_hosts: Option<String>,
    /// Log files and collectors that documents may name; Istio's `extensionProviders`. From a file only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extension_providers: Vec<RawProvider>,
}

/// What the program trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Loopback address of plaintext ADS and Registry, where it was asked for.
    pub xds_bind: Option<SocketAddr>,
    /// Address of the same over mutual TLS.
    pub tls_bind: Option<SocketAddr>,
    /// Who is who.
    pub identity: identity::Options,
    /// Former names of the trust domain.
    pub trust_domain_aliases: Vec<String>,
    /// Loopback address for people.
    pub admin_bind: SocketAddr,
    /// Folder of what is kept.
    pub data_dir: PathBuf,
    /// Last part of full host names.
    pub mesh_domain: String,
    /// How long a doubtful removal is held back.
    pub hold_down: Duration,
    /// How load goes by locality where no DestinationRule says.
    pub locality_lb: LocalityLb,
    /// What every proxy logs where no document says otherwise.
    pub log: Option<AccessLog>,
    /// What documents may name.
    pub providers: Providers,
    /// What becomes of captured outbound traffic that no service claims.
    pub outbound_policy: OutboundPolicy,
    /// Hosts whose keys for tokens may be fetched without TLS and from this machine.
    pub jwks_hosts: BTreeSet<String>,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file or a variable cannot be read.
    #[error("settings cannot be read: {0}")]
    Unreadable(#[from] config::ConfigError),
    /// One value is wrong.
    #[error("{option}: {problem}")]
    Bad {
        /// The option.
        option: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
}

impl Settings {
    /// From a file, the environment and flags.
    pub fn load(
        file: Option<&Path>,
        environment: &HashMap<String, String>,
        flags: &RawSettings,
    ) -> Result<Self, SettingsError> {
        Self::check(RawSettings::load(file, environment, flags)?)
    }

    /// Checks what a human wrote.
    pub fn check(raw: RawSettings) -> Result<Self, SettingsError> {
        let plaintext = raw.insecure_loopback == Some(true);
        if raw.xds_bind.is_some() && !plaintext {
            return Err(bad(
                "xds_bind",
                "it is of the plaintext port, which must be asked for with --insecure-loopback \
                 (or WEFT_INSECURE_LOOPBACK=true)",
            ));
        }
        let data_dir = raw.data_dir.filter(|path| !path.as_os_str().is_empty()).ok_or_else(|| {
            bad("data_dir", "it is not set; name a folder with --data-dir (or WEFT_DATA_DIR)")
        })?;
        let mesh_domain = raw.mesh_domain.unwrap_or_else(|| MESH_DOMAIN_DEFAULT.to_owned());
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if mesh_domain.len() > 253
            || mesh_domain.split('.').any(|label| label.is_empty() || !label.chars().all(legal))
        {
            return Err(bad(
                "mesh_domain",
                format!("{mesh_domain:?} is no domain; write it like cluster.local"),
            ));
        }
        let hold_down = match raw.hold_down {
            None => HOLD_DOWN_DEFAULT,
            Some(text) => humantime::parse_duration(&text)
                .map_err(|error| bad("hold_down", format!("{text:?}: {error}; write it like 60s")))?,
        };
        let logs = RawMeshLogs {
            file: raw.access_log_file,
            encoding: raw.access_log_encoding,
            format: raw.access_log_format,
        };
        let (log, format) = logs.check().map_err(|(option, problem)| bad(option, problem))?;
        let outbound_policy = match raw.outbound_traffic_policy.as_deref() {
            None | Some("ALLOW_ANY") => OutboundPolicy::AllowAny,
            Some("REGISTRY_ONLY") => OutboundPolicy::RegistryOnly,
            Some(other) => {
                return Err(bad(
                    "outbound_traffic_policy",
                    format!("{other:?} is no policy; write ALLOW_ANY or REGISTRY_ONLY"),
                ));
            }
        };
        Ok(Self {
            log,
            providers: Providers::check(raw.extension_providers, &format)
                .map_err(|problem| bad("extension_providers", problem))?,
            xds_bind: plaintext.then(|| loopback("xds_bind", raw.xds_bind, XDS_BIND_DEFAULT)).transpose()?,
            tls_bind: match raw.tls_bind {
                Some(text) => Some(address("tls_bind", &text, TLS_BIND_DEFAULT)?),
                None => (!plaintext).then_some(TLS_BIND_DEFAULT),
            },
            trust_domain_aliases: aliases(raw.trust_domain_aliases.as_deref())?,
            identity: identity::Options {
                trust_domain: trust_domain(raw.trust_domain, &mesh_domain)?,
                leaf_life: certificate_life(raw.certificate_life)?,
                folder: data_dir.join("identity"),
                supplied: raw.ca_dir,
                kubernetes: attestation::Raw {
                    api: raw.kubernetes_api,
                    token_file: raw.kubernetes_token_file,
                    ca_file: raw.kubernetes_ca_file,
                    audience: raw.kubernetes_audience,
                    adapters: raw.kubernetes_adapters,
                }
                .check()
                .map_err(|(option, problem)| bad(option, problem))?,
            },
            admin_bind: loopback("admin_bind", raw.admin_bind, ADMIN_BIND_DEFAULT)?,
            data_dir,
            mesh_domain,
            hold_down,
            locality_lb: raw.locality_lb_setting.as_deref().map_or(Ok(LocalityLb::default()), locality_lb)?,
            outbound_policy,
            jwks_hosts: (raw.jwks_hosts.as_deref().unwrap_or_default().split(','))
                .map(str::trim)
                .filter(|host| !host.is_empty())
                .map(str::to_owned)
                .collect(),
        })
    }
}

impl Settings {
    /// Trust domains whose identities are the mesh's, its own first.
    pub fn trust_domains(&self) -> Vec<String> {
        [&self.identity.trust_domain].into_iter().chain(&self.trust_domain_aliases).cloned().collect()
    }
}

impl RawSettings {
    /// Reads the three layers over each other. Of the environment only `WEFT_` and the name of an option are read.
    fn load(
        file: Option<&Path>,
        environment: &HashMap<String, String>,
        flags: &Self,
    ) -> Result<Self, config::ConfigError> {
        let variable = |option: &str| format!("WEFT_{}", option.to_ascii_uppercase());
        let ours: config::Map<String, String> = OPTIONS
            .into_iter()
            .filter_map(|option| Some((variable(option), environment.get(&variable(option))?.clone())))
            .collect();
        let mut builder = Config::builder();
        if let Some(file) = file {
            builder = builder.add_source(File::from(file));
        }
        let environment = Environment::with_prefix("WEFT").prefix_separator("_").source(Some(ours));
        builder.add_source(environment).add_source(Config::try_from(flags)?).build()?.try_deserialize()
    }
}

fn locality_lb(yaml: &str) -> Result<LocalityLb, SettingsError> {
    locality::parse(yaml).map_err(|problems| {
        let told: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.field, p.message)).collect();
        bad("locality_lb_setting", format!("{}; write it like {{enabled: false}}", told.join("; ")))
    })
}

fn loopback(
    option: &'static str,
    text: Option<String>,
    default: SocketAddr,
) -> Result<SocketAddr, SettingsError> {
    let Some(text) = text else { return Ok(default) };
    let address = address(option, &text, default)?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err(bad(
        option,
        format!(
            "{address} can be reached from other machines, and this port has no encryption; bind 127.0.0.1"
        ),
    ))
}

fn address(option: &'static str, text: &str, default: SocketAddr) -> Result<SocketAddr, SettingsError> {
    text.parse().map_err(|_| bad(option, format!("{text:?} is no address and port; write it like {default}")))
}

fn trust_domain(text: Option<String>, default: &str) -> Result<String, SettingsError> {
    let domain = text.unwrap_or_else(|| default.to_owned());
    match check_trust_domain(&domain) {
        Ok(()) => Ok(domain),
        Err(error) => Err(bad("trust_domain", format!("{domain:?}: {error}"))),
    }
}

fn aliases(text: Option<&str>) -> Result<Vec<String>, SettingsError> {
    let parts = text.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty());
    let check = |domain: &str| match check_trust_domain(domain) {
        Ok(()) => Ok(domain.to_owned()),
        Err(error) => Err(bad("trust_domain_aliases", format!("{domain:?}: {error}"))),
    };
    parts.map(check).collect()
}

fn certificate_life(text: Option<String>) -> Result<Duration, SettingsError> {
    let Some(text) = text else { return Ok(issue::LEAF_LIFE_DEFAULT) };
    let life = humantime::parse_duration(&text)
        .map_err(|error| bad("certificate_life", format!("{text:?}: {error}; write it like 24h")))?;
    match CERTIFICATE_LIFE.contains(&life) {
        true => Ok(life),
        false => Err(bad("certificate_life", format!("{text:?} is not between 10s and 7d"))),
    }
}

fn bad(option: &'static str, problem: impl Into<String>) -> SettingsError {
    SettingsError::Bad { option, problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> RawSettings {
        RawSettings {
            data_dir: Some("/var/lib/weft".into()),
            insecure_loopback: Some(true),
            ..RawSettings::default()
        }
    }

    #[track_caller]
    fn refuses(raw: RawSettings, option: &str) {
        let error = Settings::check(raw).unwrap_err().to_string();
        assert!(error.starts_with(option), "{error}");
    }

    #[test]
    fn the_defaults_are_the_ports_people_know() {
        let settings = Settings::load(None, &HashMap::new(), &flags()).unwrap();
        assert_eq!((settings.xds_bind, settings.tls_bind), (Some(XDS_BIND_DEFAULT), None));
        let tls = Settings::check(RawSettings { insecure_loopback: None, ..flags() }).unwrap();
        assert_eq!((tls.xds_bind, tls.tls_bind), (None, Some(TLS_BIND_DEFAULT)));
        assert_eq!(tls.identity.trust_domain, "cluster.local");
        assert_eq!(settings.admin_bind.to_string(), "127.0.0.1:15014");
        assert_eq!(settings.hold_down, Duration::from_secs(60));
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("control.yaml");
        std::fs::write(&file, "hold_down: 1s\nmesh_domain: file.mesh\nxds_bind: 127.0.0.1:1\n").unwrap();
        let environment = HashMap::from([
            ("WEFT_MESH_DOMAIN".to_owned(), "environment.mesh".to_owned()),
            ("WEFT_XDS_BIND".to_owned(), "127.0.0.1:2".to_owned()),
            ("WEFT_ADDR".to_owned(), "someone else's".to_owned()),
        ]);
        let flags = RawSettings { xds_bind: Some("127.0.0.1:3".to_owned()), ..flags() };
        let settings = Settings::load(Some(&file), &environment, &flags).unwrap();
        assert_eq!(settings.hold_down, Duration::from_secs(1));
        assert_eq!(settings.mesh_domain, "environment.mesh");
        assert_eq!(settings.xds_bind.unwrap().port(), 3);
    }

    #[test]
    fn an_unknown_option_in_the_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("control.yaml");
        std::fs::write(&file, "hold_dwon: 1s\n").unwrap();
        let error = Settings::load(Some(&file), &HashMap::new(), &flags()).unwrap_err();
        assert!(error.to_string().contains("hold_dwon"), "{error}");
    }

    #[test]
    fn the_environment_can_ask_for_plaintext() {
        let environment = HashMap::from([("WEFT_INSECURE_LOOPBACK".to_owned(), "true".to_owned())]);
        let flags = RawSettings { insecure_loopback: None, ..flags() };
        assert!(Settings::load(None, &environment, &flags).unwrap().xds_bind.is_some());
    }

    #[test]
    fn plaintext_is_served_only_when_asked_for_and_only_on_loopback() {
        let xds_bind = Some("127.0.0.1:15010".to_owned());
        refuses(RawSettings { insecure_loopback: None, xds_bind, ..flags() }, "xds_bind");
        refuses(RawSettings { xds_bind: Some("0.0.0.0:15010".to_owned()), ..flags() }, "xds_bind");
        refuses(RawSettings { admin_bind: Some("10.0.0.1:15014".to_owned()), ..flags() }, "admin_bind");
    }

    #[test]
    fn a_bad_value_names_its_option() {
        refuses(RawSettings { data_dir: None, ..flags() }, "data_dir");
        refuses(RawSettings { trust_domain: Some("A b".to_owned()), ..flags() }, "trust_domain");
        refuses(RawSettings { certificate_life: Some("1s".to_owned()), ..flags() }, "certificate_life");
        refuses(RawSettings { tls_bind: Some("here".to_owned()), ..flags() }, "tls_bind");
        refuses(RawSettings { hold_down: Some("soon".to_owned()), ..flags() }, "hold_down");
        let policy = Some("SOME".to_owned());
        refuses(RawSettings { outbound_traffic_policy: policy, ..flags() }, "outbound_traffic_policy");
        refuses(RawSettings { mesh_domain: Some("a..b".to_owned()), ..flags() }, "mesh_domain");
        refuses(RawSettings { xds_bind: Some("here".to_owned()), ..flags() }, "xds_bind");
        let near = Some("{failover: [{from: a}]}".to_owned());
        refuses(RawSettings { locality_lb_setting: near, ..flags() }, "locality_lb_setting: failover[0].to");
    }
}
