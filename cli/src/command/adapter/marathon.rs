//! Flags of `weft adapter marathon`.

use weft_adapters::settings::{RawAdapterSettings, RawPlatform};

use super::{CommonArgs, access::AccessArgs, over};
use crate::failure::Failure;

const ADDRESS: &str = "Its instances, tried in turn [default: http://127.0.0.1:8080]";
const TOKEN_FILE: &str = "File with user:password or a token of DC/OS; read anew for every question";
const TOKEN: &str = "user:password or a token of DC/OS, for where there is no file";

/// Options of `weft adapter marathon`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("address", |arg| arg.env("MARATHON_URL").help(ADDRESS)))]
#[command(mut_arg("token_file", |arg| arg.env("MARATHON_TOKEN_FILE").help(TOKEN_FILE)))]
#[command(mut_arg("token", |arg| arg.env("MARATHON_TOKEN").help(TOKEN)))]
pub(super) struct MarathonArgs {
    #[command(flatten)]
    access: AccessArgs,
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
        let (mut raw, mut marathon) = self.common.over_file("marathon", |platform| match platform {
            RawPlatform::Marathon(own) => Some(own),
            _ => None,
        })?;
        self.access.over(&mut marathon.access);
        over(&mut marathon.namespace, self.namespace);
        over(&mut marathon.trust_domain, self.trust_domain);
        over(&mut marathon.source, self.common.name);
        over(&mut marathon.region, self.common.region);
        raw.platform = RawPlatform::Marathon(marathon);
        Ok(raw)
    }
}
