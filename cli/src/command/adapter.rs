//! `weft adapter`: runs one adapter, which tells the control plane what its platform runs.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;
use weft_adapters::{
    app,
    settings::{AdapterSettings, RawAdapterSettings, RawFilesSettings, RawPlatform},
    source::SourceError,
};

use crate::{
    command::{self, SETTINGS_HINT},
    failure::{Exit, Failure},
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
}

/// The platform.
#[derive(Debug, clap::Subcommand)]
enum PlatformArgs {
    /// A directory of YAML: services, endpoints, Istio's ServiceEntry and WorkloadEntry
    Files(FilesArgs),
}

#[derive(Debug, clap::Args)]
struct FilesArgs {
    /// The directory to watch
    #[arg(long, env = "WEFT_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Label `cluster` of the workloads [default: the source's name after its last slash]
    #[arg(long, env = "WEFT_CLUSTER")]
    cluster: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Runs the adapter until SIGTERM or Ctrl-C.
pub fn run(args: AdapterArgs) -> Result<Exit, Failure> {
    let settings = args.settings()?;
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
    fn settings(self) -> Result<AdapterSettings, Failure> {
        let PlatformArgs::Files(args) = self.platform;
        let mut raw = file(args.common.config.as_deref())?;
        control_planes(&mut raw, args.common.control);
        let RawPlatform::Files(files) = &mut raw.platform;
        let RawFilesSettings { directory, source, cluster, region, .. } = files;
        over(directory, args.dir);
        over(source, args.common.name);
        over(cluster, args.cluster);
        over(region, args.common.region);
        raw.check().map_err(|error| {
            Failure::usage("cannot use the settings of the adapter", error.to_string(), SETTINGS_HINT)
        })
    }
}

/// What the file says; without one, nothing.
fn file(path: Option<&Path>) -> Result<RawAdapterSettings, Failure> {
    let Some(path) = path else { return Ok(RawAdapterSettings::default()) };
    let read = config::Config::builder().add_source(config::File::from(path)).build();
    read.and_then(config::Config::try_deserialize).map_err(|error| {
        Failure::usage(format!("cannot use {}", path.display()), error.to_string(), SETTINGS_HINT)
    })
}

fn control_planes(raw: &mut RawAdapterSettings, flags: Vec<String>) {
    if !flags.is_empty() {
        raw.control_planes = flags;
    }
    if raw.control_planes.is_empty() {
        raw.control_planes = vec![CONTROL_DEFAULT.to_owned()];
    }
}

/// A flag beats what the file says.
fn over<T>(setting: &mut Option<T>, flag: Option<T>) {
    if flag.is_some() {
        *setting = flag;
    }
}
