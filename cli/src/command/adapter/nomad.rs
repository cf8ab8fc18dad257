//! Flags of `weft adapter nomad`.

use weft_adapters::settings::{RawAdapterSettings, RawPlatform};

use super::{CommonArgs, access::AccessArgs, over};
use crate::failure::Failure;

const ADDRESS: &str = "Agents or servers of one region, tried in turn [default: http://127.0.0.1:4646]";
const TOKEN_FILE: &str = "File with the ACL token or workload identity; read anew for every question";

/// Options of `weft adapter nomad`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("address", |arg| arg.env("NOMAD_ADDR").help(ADDRESS)))]
#[command(mut_arg("token_file", |arg| arg.env("NOMAD_TOKEN_FILE").help(TOKEN_FILE)))]
#[command(mut_arg("token", |arg| arg.env("NOMAD_TOKEN")))]
#[command(mut_arg("ca_file", |arg| arg.env("NOMAD_CACERT")))]
pub(super) struct NomadArgs {
    #[command(flatten)]
    access: AccessArgs,
    /// Nomad's region [default: the agent's own]
    #[arg(long, env = "NOMAD_REGION", value_name = "REGION")]
    nomad_region: Option<String>,
    /// Nomad's namespace, or * for all that the token may read [default: *]
    #[arg(long, env = "NOMAD_NAMESPACE", value_name = "NAMESPACE")]
    nomad_namespace: Option<String>,
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
        let (mut raw, mut nomad) = self.common.over_file("nomad", |platform| match platform {
            RawPlatform::Nomad(own) => Some(own),
            _ => None,
        })?;
        self.access.over(&mut nomad.access);
        over(&mut nomad.nomad_region, self.nomad_region);
        over(&mut nomad.nomad_namespace, self.nomad_namespace);
        over(&mut nomad.namespace, self.namespace);
        over(&mut nomad.trust_domain, self.trust_domain);
        over(&mut nomad.source, self.common.name);
        over(&mut nomad.region, self.common.region);
        raw.platform = RawPlatform::Nomad(nomad);
        Ok(raw)
    }
}
