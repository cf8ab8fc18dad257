//! `weft adapter`: runs one adapter, which tells the control plane what its platform runs, or looks once with `--check`.

mod check;
mod consul;
mod files;
mod kubernetes;
mod marathon;
mod mesos;
mod nomad;

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;
use weft_adapters::{
    app,
    settings::{AdapterSettings, RawAdapterSettings},
    source::SourceError,
};

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
    /// Control planes; all are told everything [default: http://127.0.0.1:15010]
    #[arg(long, env = "WEFT_CONTROL", value_delimiter = ',', value_name = "URL")]
    control: Vec<String>,
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
    let settings = args.settings()?;
    if only_check {
        return command::wait_for(check::run(settings, output));
    }
    command::wait_for(async move {
        let stop = CancellationToken::new();
        command::cancel_on_signal(stop.clone());
        match app::run(settings, stop).await {
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

    fn settings(self) -> Result<AdapterSettings, Failure> {
        let raw = match self.platform {
            PlatformArgs::Files(args) => args.over_file()?,
            PlatformArgs::Consul(args) => args.over_file()?,
            PlatformArgs::Nomad(args) => args.over_file()?,
            PlatformArgs::Marathon(args) => args.over_file()?,
            PlatformArgs::Mesos(args) => args.over_file()?,
            PlatformArgs::Kubernetes(args) => args.over_file()?,
        };
        raw.check().map_err(|error| {
            Failure::usage("cannot use the settings of the adapter", error.to_string(), SETTINGS_HINT)
        })
    }
}

fn other_platform(name: &str) -> Failure {
    Failure::usage(
        "cannot use the settings of the adapter",
        format!("the file given by --config is of another platform than {name}"),
        SETTINGS_HINT,
    )
}

/// What the file says; `None` without one.
fn file(path: Option<&Path>) -> Result<Option<RawAdapterSettings>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let read = config::Config::builder().add_source(config::File::from(path)).build();
    read.and_then(config::Config::try_deserialize).map(Some).map_err(|error| {
        Failure::usage(format!("cannot use {}", path.display()), error.to_string(), SETTINGS_HINT)
    })
}

/// Flags beat the file, which beats the default.
fn control_planes(file: Option<RawAdapterSettings>, flags: Vec<String>) -> Vec<String> {
    let written = file.map(|file| file.control).unwrap_or_default();
    match (flags.is_empty(), written.is_empty()) {
        (false, _) => flags,
        (true, false) => written,
        (true, true) => vec![CONTROL_DEFAULT.to_owned()],
    }
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
