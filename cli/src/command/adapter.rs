//! `weft adapter`: runs one adapter, which tells the control plane what its platform runs.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;
use weft_adapters::{
    app,
    settings::{AdapterSettings, RawAdapterSettings, RawConsulSettings, RawFilesSettings, RawPlatform},
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
    /// Consul: the catalogue and health of one datacenter, by blocking queries
    Consul(Box<ConsulArgs>),
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

#[derive(Debug, clap::Args)]
struct ConsulArgs {
    /// The agent's or a server's address [default: http://127.0.0.1:8500]
    #[arg(long, env = "WEFT_CONSUL_ADDRESS", value_name = "URL")]
    address: Option<String>,
    /// Datacenter [default: the agent's own]
    #[arg(long, env = "WEFT_CONSUL_DATACENTER")]
    datacenter: Option<String>,
    /// File that holds the ACL token; a new one in it works at once
    #[arg(long, env = "WEFT_CONSUL_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file with the CA of Consul's certificate [default: the host's roots]
    #[arg(long, env = "WEFT_CONSUL_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate and key, where Consul asks for one
    #[arg(long, env = "WEFT_CONSUL_CLIENT_CERT_FILE", value_name = "FILE")]
    client_cert_file: Option<PathBuf>,
    /// Let any server answer, not only the leader
    #[arg(long, env = "WEFT_CONSUL_STALE")]
    stale: bool,
    /// Namespace of the mesh that the services are put in [default: default]
    #[arg(long, env = "WEFT_CONSUL_NAMESPACE")]
    namespace: Option<String>,
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
        let raw = match self.platform {
            PlatformArgs::Files(args) => args.raw(),
            PlatformArgs::Consul(args) => args.raw(),
        }?;
        raw.check().map_err(|error| {
            Failure::usage("cannot use the settings of the adapter", error.to_string(), SETTINGS_HINT)
        })
    }
}

impl FilesArgs {
    fn raw(self) -> Result<RawAdapterSettings, Failure> {
        let (mut raw, path) = self.common.raw()?;
        let mut files = match (raw.platform, path) {
            (RawPlatform::Files(files), _) => files,
            (RawPlatform::Consul(_), path) => return Err(other_platform(path, "consul")),
        };
        let RawFilesSettings { directory, source, cluster, region, .. } = &mut files;
        over(directory, self.dir);
        over(source, self.common.name);
        over(cluster, self.cluster);
        over(region, self.common.region);
        raw.platform = RawPlatform::Files(files);
        Ok(raw)
    }
}

impl ConsulArgs {
    fn raw(self) -> Result<RawAdapterSettings, Failure> {
        let (mut raw, path) = self.common.raw()?;
        let mut consul = match (raw.platform, path) {
            (RawPlatform::Consul(consul), _) => consul,
            // Without a file the platform is whatever the command says.
            (RawPlatform::Files(_), None) => Box::<RawConsulSettings>::default(),
            (RawPlatform::Files(_), path) => return Err(other_platform(path, "files")),
        };
        over(&mut consul.address, self.address);
        over(&mut consul.datacenter, self.datacenter);
        over(&mut consul.token_file, self.token_file);
        over(&mut consul.ca_file, self.ca_file);
        over(&mut consul.client_cert_file, self.client_cert_file);
        over(&mut consul.stale, self.stale.then_some(true));
        over(&mut consul.namespace, self.namespace);
        over(&mut consul.source, self.common.name);
        over(&mut consul.region, self.common.region);
        raw.platform = RawPlatform::Consul(consul);
        Ok(raw)
    }
}

impl CommonArgs {
    /// What the file says, with the control planes of the flags, and the file.
    fn raw(&self) -> Result<(RawAdapterSettings, Option<PathBuf>), Failure> {
        let mut raw = file(self.config.as_deref())?;
        control_planes(&mut raw, self.control.clone());
        Ok((raw, self.config.clone()))
    }
}

fn other_platform(path: Option<PathBuf>, found: &str) -> Failure {
    let path = path.map(|path| path.display().to_string()).unwrap_or_default();
    Failure::usage(
        format!("cannot use {path}"),
        format!("its platform is {found}, and the command names another one"),
        SETTINGS_HINT,
    )
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
