//! Flags of `weft adapter nomad`.

use std::path::PathBuf;

use weft_adapters::settings::{RawAdapterSettings, RawNomadSettings, RawPlatform};

use super::{CommonArgs, control_planes, file, other_platform, over, over_list};
use crate::failure::Failure;

/// Options of `weft adapter nomad`.
#[derive(Debug, clap::Args)]
pub(super) struct NomadArgs {
    /// Agents or servers of one region; when one does not answer the next is asked [default: http://127.0.0.1:4646]
    #[arg(long, env = "NOMAD_ADDR", value_delimiter = ',', value_name = "URL")]
    address: Vec<String>,
    /// Nomad's region [default: the agent's own]
    #[arg(long, env = "NOMAD_REGION", value_name = "REGION")]
    nomad_region: Option<String>,
    /// Nomad's namespace, or * for all that the token may read [default: *]
    #[arg(long, env = "NOMAD_NAMESPACE", value_name = "NAMESPACE")]
    nomad_namespace: Option<String>,
    /// File with the ACL token or workload identity; read anew for every question
    #[arg(long, env = "NOMAD_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The ACL token, for where there is no file
    #[arg(long, env = "NOMAD_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// PEM file with the CA of Nomad's certificates [default: the host's roots]
    #[arg(long, env = "NOMAD_CACERT", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate and key
    #[arg(long, value_name = "FILE")]
    client_cert_file: Option<PathBuf>,
    /// Namespace of the mesh that the services are put in [default: Nomad's own]
    #[arg(long)]
    namespace: Option<String>,
    /// Trust domain of the identities [default: cluster.local]
    #[arg(long)]
    trust_domain: Option<String>,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

impl NomadArgs {
    /// Flags over what the file says.
    pub(super) fn over_file(self) -> Result<RawAdapterSettings, Failure> {
        let mut raw = file(self.common.config.as_deref())?;
        let mut nomad = match raw {
            Some(RawAdapterSettings { platform: RawPlatform::Nomad(ref nomad), .. }) => nomad.clone(),
            Some(_) => return Err(other_platform("nomad")),
            None => Box::<RawNomadSettings>::default(),
        };
        over_list(&mut nomad.address, self.address);
        over(&mut nomad.nomad_region, self.nomad_region);
        over(&mut nomad.nomad_namespace, self.nomad_namespace);
        over(&mut nomad.token, self.token);
        over(&mut nomad.token_file, self.token_file);
        over(&mut nomad.ca_file, self.ca_file);
        over(&mut nomad.client_cert_file, self.client_cert_file);
        over(&mut nomad.namespace, self.namespace);
        over(&mut nomad.trust_domain, self.trust_domain);
        over(&mut nomad.source, self.common.name);
        over(&mut nomad.region, self.common.region);
        let control = control_planes(raw.take(), self.common.control);
        Ok(RawAdapterSettings { control, platform: RawPlatform::Nomad(nomad) })
    }
}
