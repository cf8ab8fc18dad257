//! Flags of `weft adapter mesos`.

use std::path::PathBuf;

use weft_adapters::settings::{RawAdapterSettings, RawMesosSettings, RawPlatform};

use super::{CommonArgs, control_planes, file, other_platform, over, over_list};
use crate::failure::Failure;

/// Options of `weft adapter mesos`.
#[derive(Debug, clap::Args)]
pub(super) struct MesosArgs {
    /// Masters, all of them; each says which one leads [default: http://127.0.0.1:5050]
    #[arg(long, env = "MESOS_MASTERS", value_delimiter = ',', value_name = "URL")]
    address: Vec<String>,
    /// File with user:password; read anew for every question
    #[arg(long, env = "MESOS_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// user:password, for where there is no file
    #[arg(long, env = "MESOS_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// PEM file with the CA of Mesos's certificates [default: the host's roots]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate and key
    #[arg(long, value_name = "FILE")]
    client_cert_file: Option<PathBuf>,
    /// Namespace of the mesh for tasks without a label weft.namespace [default: default]
    #[arg(long)]
    namespace: Option<String>,
    /// Trust domain of the identities [default: cluster.local]
    #[arg(long)]
    trust_domain: Option<String>,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

impl MesosArgs {
    /// Flags over what the file says.
    pub(super) fn over_file(self) -> Result<RawAdapterSettings, Failure> {
        let mut raw = file(self.common.config.as_deref())?;
        let mut mesos = match raw {
            Some(RawAdapterSettings { platform: RawPlatform::Mesos(ref mesos), .. }) => mesos.clone(),
            Some(_) => return Err(other_platform("mesos")),
            None => Box::<RawMesosSettings>::default(),
        };
        over_list(&mut mesos.address, self.address);
        over(&mut mesos.token, self.token);
        over(&mut mesos.token_file, self.token_file);
        over(&mut mesos.ca_file, self.ca_file);
        over(&mut mesos.client_cert_file, self.client_cert_file);
        over(&mut mesos.namespace, self.namespace);
        over(&mut mesos.trust_domain, self.trust_domain);
        over(&mut mesos.source, self.common.name);
        over(&mut mesos.region, self.common.region);
        let control = control_planes(raw.take(), self.common.control);
        Ok(RawAdapterSettings { control, platform: RawPlatform::Mesos(mesos) })
    }
}
