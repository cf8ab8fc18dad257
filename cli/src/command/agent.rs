//! `weft agent`: an identity for what has no proxy of ours beside it, told on a unix socket.

use std::path::PathBuf;

use weft_dataplane::{app, settings::Settings};

use crate::{
    command::SETTINGS_HINT,
    failure::{Exit, Failure},
};

/// Options of `weft agent`. A flag beats WEFT_*, which beats the file given by --config; settings are those of a proxy.
#[derive(Debug, clap::Args)]
pub struct AgentArgs {
    /// File with settings (YAML)
    #[arg(long, env = "WEFT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Control planes over mutual TLS, e.g. https://control:15012 [env: WEFT_CONTROL]
    #[arg(long, value_name = "URL")]
    control: Vec<String>,
    /// File with the join token, for the first time
    #[arg(long, value_name = "FILE")]
    join_token_file: Option<PathBuf>,
    /// Token of the platform in place of a join token: kubernetes:FILE, nomad:FILE or consul:FILE
    #[arg(long, value_name = "KIND:FILE")]
    proof: Option<String>,
    /// PEM file with the root by which the control plane is known [default: the hash in the join token]
    #[arg(long, value_name = "FILE")]
    control_ca_file: Option<PathBuf>,
    /// Folder in which the identity is kept; without it a restart has to join anew
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Unix socket of the SPIFFE Workload API, and of SDS for an Envoy
    #[arg(long, value_name = "PATH")]
    workload_socket: Option<PathBuf>,
}

/// Runs the agent until SIGTERM or Ctrl-C.
pub fn run(args: AgentArgs) -> Result<Exit, Failure> {
    let path = |path: Option<PathBuf>| path.map(|path| path.to_string_lossy().into_owned());
    let flags = [
        ("control", (!args.control.is_empty()).then(|| args.control.join(","))),
        ("join_token_file", path(args.join_token_file)),
        ("proof", args.proof),
        ("control_ca_file", path(args.control_ca_file)),
        ("data_dir", path(args.data_dir)),
        ("workload_socket", path(args.workload_socket)),
    ];
    let flags: Vec<(String, String)> =
        flags.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let settings = Settings::load(args.config.as_deref(), &flags).map_err(|error| {
        Failure::usage("cannot use the settings of the agent", error.to_string(), SETTINGS_HINT)
    })?;
    app::run_agent(settings).map(|()| Exit::Yes).map_err(|error| {
        Failure::new(Exit::No, "the agent cannot start", error.to_string(), "see `weft agent --help`")
    })
}
