//! Flags of `weft adapter mesos`.

use weft_adapters::settings::{RawAdapterSettings, RawPlatform};

use super::{CommonArgs, access::AccessArgs, over};
use crate::failure::Failure;

const ADDRESS: &str = "Masters, all of them; each says which one leads [default: http://127.0.0.1:5050]";
const TOKEN_FILE: &str = "File with user:password; read anew for every question";
const TOKEN: &str = "user:password, for where there is no file";

/// Options of `weft adapter mesos`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("address", |arg| arg.env("MESOS_MASTERS").help(ADDRESS)))]
#[command(mut_arg("token_file", |arg| arg.env("MESOS_TOKEN_FILE").help(TOKEN_FILE)))]
#[command(mut_arg("token", |arg| arg.env("MESOS_TOKEN").help(TOKEN)))]
pub(super) struct MesosArgs {
    #[command(flatten)]
    access: AccessArgs,
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
        let (mut raw, mut mesos) = self.common.over_file("mesos", |platform| match platform {
            RawPlatform::Mesos(own) => Some(own),
            _ => None,
        })?;
        self.access.over(&mut mesos.access);
        over(&mut mesos.namespace, self.namespace);
        over(&mut mesos.trust_domain, self.trust_domain);
        over(&mut mesos.source, self.common.name);
        over(&mut mesos.region, self.common.region);
        raw.platform = RawPlatform::Mesos(mesos);
        Ok(raw)
    }
}
