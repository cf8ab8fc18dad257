//! `weft control`: runs the control plane.

use std::{collections::HashMap, path::PathBuf};

use tokio_util::sync::CancellationToken;
use weft_control::{
    app,
    settings::{RawSettings, Settings},
};

use crate::{
    command::{self, SETTINGS_HINT},
    failure::{Exit, Failure},
};

/// Options of `weft control`. Each is also read from WEFT_ and its name, and from the file given by --config.
#[derive(Debug, clap::Args)]
pub struct ControlArgs {
    /// File with settings (YAML, TOML or JSON); flags and WEFT_* beat it
    #[arg(long, env = "WEFT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve proxies and adapters in plaintext, on loopback only
    #[arg(long)]
    insecure_loopback: bool,
    /// Where proxies and adapters connect [default: 127.0.0.1:15010]
    #[arg(long, value_name = "ADDRESS")]
    xds_bind: Option<String>,
    /// Where people and their tools connect [default: 127.0.0.1:15014]
    #[arg(long, value_name = "ADDRESS")]
    admin_bind: Option<String>,
    /// Folder of the document store and the last known registry
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address of ADS, Registry and Identity over mutual TLS [default: 0.0.0.0:15012; none with --insecure-loopback]
    #[arg(long, value_name = "ADDRESS")]
    tls_bind: Option<String>,
    /// Trust domain of the mesh's identities [default: the mesh domain]
    #[arg(long, value_name = "DOMAIN")]
    trust_domain: Option<String>,
    /// Folder of a certificate authority of your own: ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem
    #[arg(long, value_name = "DIR")]
    ca_dir: Option<PathBuf>,
    /// Life of the certificates of workloads, 10s to 7d [default: 24h]
    #[arg(long, value_name = "TIME")]
    certificate_life: Option<String>,
    /// Last part of full host names [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    mesh_domain: Option<String>,
    /// How long a doubtful removal is held back [default: 60s]
    #[arg(long, value_name = "TIME")]
    hold_down: Option<String>,
    /// How load goes by locality where no DestinationRule says, as its localityLbSetting [default: near first]
    #[arg(long, value_name = "YAML")]
    locality_lb_setting: Option<String>,
    /// File in which every proxy logs its requests, e.g. /dev/stdout [default: none]
    #[arg(long, value_name = "FILE")]
    access_log_file: Option<String>,
    /// Form of access logs: text or json [default: text]
    #[arg(long, value_name = "FORM")]
    access_log_encoding: Option<String>,
    /// Captured outbound traffic that no service claims: ALLOW_ANY or REGISTRY_ONLY [default: ALLOW_ANY]
    #[arg(long, value_name = "MODE")]
    outbound_traffic_policy: Option<String>,
    /// Hosts, with commas, whose keys for tokens may be fetched without TLS and from this machine [default: none]
    #[arg(long, value_name = "HOSTS")]
    jwks_hosts: Option<String>,
}

/// Runs the control plane until SIGTERM or Ctrl-C.
pub fn run(args: ControlArgs) -> Result<Exit, Failure> {
    let environment = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let settings = args.settings(&environment)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(command::no_runtime)?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        command::cancel_on_signal(shutdown.clone());
        app::run(settings, shutdown).await.map(|()| Exit::Yes).map_err(|error| {
            Failure::new(
                Exit::No,
                "the control plane cannot start",
                error.to_string(),
                "free what it needs, or choose others; see `weft control --help`",
            )
        })
    })
}

impl ControlArgs {
    fn settings(&self, environment: &HashMap<String, String>) -> Result<Settings, Failure> {
        let flags = RawSettings {
            xds_bind: self.xds_bind.clone(),
            tls_bind: self.tls_bind.clone(),
            trust_domain: self.trust_domain.clone(),
            ca_dir: self.ca_dir.clone(),
            certificate_life: self.certificate_life.clone(),
            admin_bind: self.admin_bind.clone(),
            data_dir: self.data_dir.clone(),
            mesh_domain: self.mesh_domain.clone(),
            hold_down: self.hold_down.clone(),
            outbound_traffic_policy: self.outbound_traffic_policy.clone(),
            insecure_loopback: self.insecure_loopback.then_some(true),
            locality_lb_setting: self.locality_lb_setting.clone(),
            access_log_file: self.access_log_file.clone(),
            access_log_encoding: self.access_log_encoding.clone(),
            jwks_hosts: self.jwks_hosts.clone(),
            ..RawSettings::default()
        };
        Settings::load(self.config.as_deref(), environment, &flags).map_err(|error| {
            Failure::usage("cannot use the settings of the control plane", error.to_string(), SETTINGS_HINT)
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ControlArgs,
    }

    fn settings(line: &str, environment: &[(&str, &str)]) -> Result<Settings, Failure> {
        let environment =
            environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Line::try_parse_from(line.split_whitespace()).unwrap().args.settings(&environment)
    }

    #[test]
    fn a_flag_beats_the_environment() {
        let environment = [("WEFT_XDS_BIND", "127.0.0.1:1"), ("WEFT_DATA_DIR", "/d")];
        let found = settings("x --insecure-loopback --xds-bind 127.0.0.1:2", &environment).unwrap();
        assert_eq!((found.xds_bind.unwrap().port(), found.data_dir), (2, PathBuf::from("/d")));
    }

    #[test]
    fn what_is_missing_is_said_with_exit_code_2() {
        let failure = settings("x --insecure-loopback", &[]).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.why.contains("--data-dir"), "{}", failure.why);
    }
}
