//! `weft adapter`: runs one adapter, which tells the control plane what its platform runs, or looks once with `--check`.

mod check;

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
    /// Address of the agent or a server [default: http://127.0.0.1:8500]
    #[arg(long, env = "CONSUL_HTTP_ADDR", value_name = "URL")]
    address: Option<String>,
    /// Datacenter [default: the agent's own]
    #[arg(long)]
    datacenter: Option<String>,
    /// File with the ACL token; read anew when it changes
    #[arg(long, env = "CONSUL_HTTP_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The ACL token, for where there is no file
    #[arg(long, env = "CONSUL_HTTP_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// PEM file with the CA of Consul's certificate [default: the host's roots]
    #[arg(long, env = "CONSUL_CACERT", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate and key
    #[arg(long, value_name = "FILE")]
    client_cert_file: Option<PathBuf>,
    /// Take answers of any server, not only of the leader
    #[arg(long)]
    stale: bool,
    /// Oldest answer taken with --stale, in seconds [default: 10]
    #[arg(long, value_name = "SECONDS")]
    stale_seconds_max: Option<u64>,
    /// Namespace of the mesh that the services are put in [default: default]
    #[arg(long)]
    namespace: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
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
        }
    }

    fn settings(self) -> Result<AdapterSettings, Failure> {
        let raw = match self.platform {
            PlatformArgs::Files(args) => args.over_file()?,
            PlatformArgs::Consul(args) => args.over_file()?,
        };
        raw.check().map_err(|error| {
            Failure::usage("cannot use the settings of the adapter", error.to_string(), SETTINGS_HINT)
        })
    }
}

impl FilesArgs {
    fn over_file(self) -> Result<RawAdapterSettings, Failure> {
        let mut raw = file(self.common.config.as_deref())?;
        let mut files = match raw {
            Some(RawAdapterSettings { platform: RawPlatform::Files(ref files), .. }) => files.clone(),
            Some(_) => return Err(other_platform("files")),
            None => RawFilesSettings::default(),
        };
        over(&mut files.directory, self.dir);
        over(&mut files.source, self.common.name);
        over(&mut files.cluster, self.cluster);
        over(&mut files.region, self.common.region);
        let control = control_planes(raw.take(), self.common.control);
        Ok(RawAdapterSettings { control, platform: RawPlatform::Files(files) })
    }
}

impl ConsulArgs {
    fn over_file(self) -> Result<RawAdapterSettings, Failure> {
        let mut raw = file(self.common.config.as_deref())?;
        let mut consul = match raw {
            Some(RawAdapterSettings { platform: RawPlatform::Consul(ref consul), .. }) => consul.clone(),
            Some(_) => return Err(other_platform("consul")),
            None => Box::<RawConsulSettings>::default(),
        };
        // Consul's own variable may leave the scheme out.
        let address =
            self.address.map(|text| if text.contains("://") { text } else { format!("http://{text}") });
        over(&mut consul.address, address);
        over(&mut consul.datacenter, self.datacenter);
        over(&mut consul.token, self.token);
        over(&mut consul.token_file, self.token_file);
        over(&mut consul.ca_file, self.ca_file);
        over(&mut consul.client_cert_file, self.client_cert_file);
        over(&mut consul.stale, self.stale.then_some(true));
        over(&mut consul.stale_seconds_max, self.stale_seconds_max);
        over(&mut consul.namespace, self.namespace);
        over(&mut consul.source, self.common.name);
        over(&mut consul.region, self.common.region);
        let control = control_planes(raw.take(), self.common.control);
        Ok(RawAdapterSettings { control, platform: RawPlatform::Consul(consul) })
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
