//! `weft adapter`: runs one adapter, which tells the control plane what its platform runs, or looks once with `--check`.

mod access;
mod check;
mod consul;
mod files;
mod identity;
mod kubernetes;
mod marathon;
mod mesos;
mod nomad;

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;
use weft_adapters::{
    app,
    settings::{RawAdapterSettings, RawPlatform},
    source::SourceError,
};
use weft_dataplane::identity::joining::RawJoining;

use self::{
    consul::ConsulArgs, files::FilesArgs, kubernetes::KubernetesArgs, marathon::MarathonArgs,
    mesos::MesosArgs, nomad::NomadArgs,
};
use crate::{
    command::{self, SETTINGS_HINT},
    failure::{Exit, Failure},
    output::OutputArgs,
};

/// Where the control plane takes adapters when nothing else is said.
const CONTROL_DEFAULT: &str = "http://127.0.0.1:15010";

/// Options of `weft adapter`.
#[derive(Debug, clap::Args)]
pub struct AdapterArgs {
    #[command(subcommand)]
    platform: PlatformArgs,
}

/// What every adapter has.
#[derive(Debug, clap::Args)]
struct CommonArgs {
    /// File with settings (YAML, TOML or JSON); flags and WEFT_* beat it
    #[arg(long, env = "WEFT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Control planes, e.g. https://control:15012; all are told everything [default: http://127.0.0.1:15010]
    #[arg(long, env = "WEFT_CONTROL", value_delimiter = ',', value_name = "URL")]
    control: Vec<String>,
    /// Folder in which the identity is kept; without it a restart has to join anew
    #[arg(long, env = "WEFT_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// File with the join token of `weft token create --adapter NAME`, for the first time
    #[arg(long, env = "WEFT_JOIN_TOKEN_FILE", value_name = "FILE")]
    join_token_file: Option<PathBuf>,
    /// The join token, for where there is no file
    #[arg(long, env = "WEFT_JOIN_TOKEN", hide_env_values = true, conflicts_with = "join_token_file")]
    join_token: Option<String>,
    /// Token of the platform in place of a join token: kubernetes:FILE, nomad:FILE or consul:FILE
    #[arg(long, env = "WEFT_PROOF", value_name = "KIND:FILE")]
    proof: Option<String>,
    /// PEM file with the root by which the control plane is known [default: the hash in the join token]
    #[arg(long, env = "WEFT_CONTROL_CA_FILE", value_name = "FILE")]
    control_ca_file: Option<PathBuf>,
    /// Unique name of the source in the mesh, e.g. consul/dc1
    #[arg(long, env = "WEFT_SOURCE", value_name = "NAME")]
    name: Option<String>,
    /// Region of endpoints that name none
    #[arg(long, env = "WEFT_REGION")]
    region: Option<String>,
    /// Look once, say what would be told and what stands in its way, and tell nothing
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// The platform.
#[derive(Debug, clap::Subcommand)]
enum PlatformArgs {
    /// A directory of YAML: services, endpoints, Istio's ServiceEntry and WorkloadEntry
    Files(FilesArgs),
    /// A Consul datacenter: services, health, tags and meta
    Consul(ConsulArgs),
    /// A Nomad region: native services, allocations, nodes
    Nomad(NomadArgs),
    /// Marathon: apps and pods
    Marathon(MarathonArgs),
    /// Mesos: the tasks of every framework
    Mesos(MesosArgs),
    /// A Kubernetes cluster: services, endpoint slices, pods, nodes, documents
    Kubernetes(KubernetesArgs),
}

/// Runs the adapter until SIGTERM or Ctrl-C.
pub fn run(args: AdapterArgs) -> Result<Exit, Failure> {
    let (only_check, output) = (args.common().check, args.common().output);
    let mut raw = args.over_file()?;
    let joining = joining(&mut raw);
    let settings = raw.check().map_err(|error| unusable(error.to_string()))?;
    let joining = joining.check(&settings.control_planes).map_err(|error| unusable(error.to_string()))?;
    if only_check {
        return command::wait_for(check::run(settings, joining, output));
    }
    let agent = joining.map(identity::agent).transpose()?;
    command::wait_for(async move {
        let stop = CancellationToken::new();
        command::cancel_on_signal(stop.clone());
        let dial = identity::dial(agent.as_ref());
        let renewing = agent.map(|agent| tokio::spawn(agent.run(stop.clone())));
        let ran = app::run(settings, dial, stop.clone()).await;
        stop.cancel();
        if let Some(renewing) = renewing {
            // What it keeps on disk it has kept; nothing else is lost with it.
            let _ = renewing.await;
        }
        match ran {
            Ok(()) => Ok(Exit::Yes),
            Err(SourceError::Settings(why)) => {
                Err(Failure::usage("the adapter cannot work", why, SETTINGS_HINT))
            }
            Err(error @ SourceError::System { .. }) => Err(Failure::new(
                Exit::No,
                "the adapter cannot work",
                error.to_string(),
                "check the machine's limits and permissions",
            )),
        }
    })
}

/// How the adapter gets its identity, taken out of its settings.
fn joining(raw: &mut RawAdapterSettings) -> RawJoining {
    RawJoining {
        data_dir: raw.data_dir.take(),
        join_token_file: raw.join_token_file.take(),
        join_token: raw.join_token.take(),
        proof: raw.proof.take(),
        control_ca_file: raw.control_ca_file.take(),
    }
}

fn unusable(why: String) -> Failure {
    Failure::usage("cannot use the settings of the adapter", why, SETTINGS_HINT)
}

impl CommonArgs {
    /// Flags over what the file says of every adapter, and what it says of this platform.
    fn over_file<T: Default>(
        &self,
        platform: &str,
        own: impl FnOnce(RawPlatform) -> Option<T>,
    ) -> Result<(RawAdapterSettings, T), Failure> {
        let (mut raw, own) = match file(self.config.as_deref())? {
            None => (RawAdapterSettings::default(), T::default()),
            Some(mut raw) => {
                let found = own(std::mem::take(&mut raw.platform));
                (
                    raw,
                    found.ok_or_else(|| {
                        unusable(format!("the file given by --config is of another platform than {platform}"))
                    })?,
                )
            }
        };
        over_list(&mut raw.control, self.control.clone());
        if raw.control.is_empty() {
            raw.control = vec![CONTROL_DEFAULT.to_owned()];
        }
        over(&mut raw.data_dir, self.data_dir.clone());
        over(&mut raw.proof, self.proof.clone());
        over(&mut raw.control_ca_file, self.control_ca_file.clone());
        if self.join_token.is_some() || self.join_token_file.is_some() {
            (raw.join_token, raw.join_token_file) = (self.join_token.clone(), self.join_token_file.clone());
        }
        Ok((raw, own))
    }
}

impl AdapterArgs {
    fn common(&self) -> &CommonArgs {
        match &self.platform {
            PlatformArgs::Files(args) => &args.common,
            PlatformArgs::Consul(args) => &args.common,
            PlatformArgs::Nomad(args) => &args.common,
            PlatformArgs::Marathon(args) => &args.common,
            PlatformArgs::Mesos(args) => &args.common,
            PlatformArgs::Kubernetes(args) => &args.common,
        }
    }

    fn over_file(self) -> Result<RawAdapterSettings, Failure> {
        match self.platform {
            PlatformArgs::Files(args) => args.over_file(),
            PlatformArgs::Consul(args) => args.over_file(),
            PlatformArgs::Nomad(args) => args.over_file(),
            PlatformArgs::Marathon(args) => args.over_file(),
            PlatformArgs::Mesos(args) => args.over_file(),
            PlatformArgs::Kubernetes(args) => args.over_file(),
        }
    }
}

/// What the file says; `None` without one.
fn file(path: Option<&Path>) -> Result<Option<RawAdapterSettings>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let read = config::Config::builder().add_source(config::File::from(path)).build();
    read.and_then(config::Config::try_deserialize).map(Some).map_err(|error| {
        Failure::usage(format!("cannot use {}", path.display()), error.to_string(), SETTINGS_HINT)
    })
}

/// A flag beats what the file says.
fn over<T>(setting: &mut Option<T>, flag: Option<T>) {
    if flag.is_some() {
        *setting = flag;
    }
}

/// A list of flags beats what the file says.
fn over_list<T>(setting: &mut Vec<T>, flags: Vec<T>) {
    if !flags.is_empty() {
        *setting = flags;
    }
}
