//! Flags of `weft adapter consul`.

use std::path::PathBuf;

use weft_adapters::settings::{RawAdapterSettings, RawConsulSettings, RawPlatform};

use super::{CommonArgs, control_planes, file, other_platform, over};
use crate::failure::Failure;

/// Options of `weft adapter consul`.
#[derive(Debug, clap::Args)]
pub(super) struct ConsulArgs {
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
    pub(super) common: CommonArgs,
}

impl ConsulArgs {
    /// Flags over what the file says.
    pub(super) fn over_file(self) -> Result<RawAdapterSettings, Failure> {
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
