//! Flags of `weft adapter marathon`.

use std::path::PathBuf;

use weft_adapters::settings::{RawAdapterSettings, RawMarathonSettings, RawPlatform};

use super::{CommonArgs, control_planes, file, other_platform, over, over_list};
use crate::failure::Failure;

/// Options of `weft adapter marathon`.
#[derive(Debug, clap::Args)]
pub(super) struct MarathonArgs {
    /// Its instances; when one does not answer the next is asked [default: http://127.0.0.1:8080]
    #[arg(long, env = "MARATHON_URL", value_delimiter = ',', value_name = "URL")]
    address: Vec<String>,
    /// File with user:password or a token of DC/OS; read anew for every question
    #[arg(long, env = "MARATHON_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// user:password or a token of DC/OS, for where there is no file
    #[arg(long, env = "MARATHON_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// PEM file with the CA of Marathon's certificates [default: the host's roots]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate and key
    #[arg(long, value_name = "FILE")]
    client_cert_file: Option<PathBuf>,
    /// Namespace of the mesh for apps without a label weft.namespace [default: default]
    #[arg(long)]
    namespace: Option<String>,
    /// Trust domain of the identities [default: cluster.local]
    #[arg(long)]
    trust_domain: Option<String>,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

impl MarathonArgs {
    /// Flags over what the file says.
    pub(super) fn over_file(self) -> Result<RawAdapterSettings, Failure> {
        let mut raw = file(self.common.config.as_deref())?;
        let mut marathon = match raw {
            Some(RawAdapterSettings { platform: RawPlatform::Marathon(ref marathon), .. }) => {
                marathon.clone()
            }
            Some(_) => return Err(other_platform("marathon")),
            None => Box::<RawMarathonSettings>::default(),
        };
        over_list(&mut marathon.address, self.address);
        over(&mut marathon.token, self.token);
        over(&mut marathon.token_file, self.token_file);
        over(&mut marathon.ca_file, self.ca_file);
        over(&mut marathon.client_cert_file, self.client_cert_file);
        over(&mut marathon.namespace, self.namespace);
        over(&mut marathon.trust_domain, self.trust_domain);
        over(&mut marathon.source, self.common.name);
        over(&mut marathon.region, self.common.region);
        let control = control_planes(raw.take(), self.common.control);
        Ok(RawAdapterSettings { control, platform: RawPlatform::Marathon(marathon) })
    }
}
