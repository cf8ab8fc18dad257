//! Flags of `weft adapter consul`.

use weft_adapters::settings::{RawAdapterSettings, RawPlatform};

use super::{CommonArgs, access::AccessArgs, over};
use crate::failure::Failure;

const ADDRESS: &str = "Address of the agent [default: http://127.0.0.1:8500]";

/// Options of `weft adapter consul`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("address", |arg| arg.env("CONSUL_HTTP_ADDR").help(ADDRESS)))]
#[command(mut_arg("token_file", |arg| arg.env("CONSUL_HTTP_TOKEN_FILE")))]
#[command(mut_arg("token", |arg| arg.env("CONSUL_HTTP_TOKEN")))]
#[command(mut_arg("ca_file", |arg| arg.env("CONSUL_CACERT")))]
pub(super) struct ConsulArgs {
    #[command(flatten)]
    access: AccessArgs,
    /// Datacenter [default: the agent's own]
    #[arg(long)]
    datacenter: Option<String>,
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
    pub(super) common: CommonArgs,
}

impl ConsulArgs {
    /// Flags over what the file says.
    pub(super) fn over_file(self) -> Result<RawAdapterSettings, Failure> {
        let (mut raw, mut consul) = self.common.over_file("consul", |platform| match platform {
            RawPlatform::Consul(own) => Some(own),
            _ => None,
        })?;
        self.access.over(&mut consul.access);
        // Consul's own variable may leave the scheme out.
        for address in consul.access.address.iter_mut().filter(|address| !address.contains("://")) {
            address.insert_str(0, "http://");
        }
        over(&mut consul.datacenter, self.datacenter);
        over(&mut consul.stale, self.stale.then_some(true));
        over(&mut consul.stale_seconds_max, self.stale_seconds_max);
        over(&mut consul.namespace, self.namespace);
        over(&mut consul.source, self.common.name);
        over(&mut consul.region, self.common.region);
        raw.platform = RawPlatform::Consul(consul);
        Ok(raw)
    }
}
