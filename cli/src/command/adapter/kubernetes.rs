//! Flags of `weft adapter kubernetes`.

use std::path::PathBuf;

use weft_adapters::settings::{RawAdapterSettings, RawKubernetesSettings, RawPlatform};

use super::{CommonArgs, control_planes, file, other_platform, over, over_list};
use crate::failure::Failure;

/// Options of `weft adapter kubernetes`.
#[derive(Debug, clap::Args)]
pub(super) struct KubernetesArgs {
    /// API servers of one cluster; in a pod https://kubernetes.default.svc [default: http://127.0.0.1:8001]
    #[arg(long, value_delimiter = ',', value_name = "URL")]
    address: Vec<String>,
    /// File with the bearer token; read anew for every question
    #[arg(long, env = "KUBERNETES_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The bearer token, for where there is no file
    #[arg(long, env = "KUBERNETES_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// PEM file with the CA of Kubernetes's certificates [default: the host's roots]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate and key
    #[arg(long, value_name = "FILE")]
    client_cert_file: Option<PathBuf>,
    /// The one namespace of the cluster that is read [default: all]
    #[arg(long)]
    only_namespace: Option<String>,
    /// Name of the cluster [default: kubernetes]
    #[arg(long, env = "WEFT_CLUSTER")]
    cluster: Option<String>,
    /// Trust domain of the identities [default: cluster.local]
    #[arg(long)]
    trust_domain: Option<String>,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

impl KubernetesArgs {
    /// Flags over what the file says.
    pub(super) fn over_file(self) -> Result<RawAdapterSettings, Failure> {
        let mut raw = file(self.common.config.as_deref())?;
        let mut kubernetes = match raw {
            Some(RawAdapterSettings { platform: RawPlatform::Kubernetes(ref kubernetes), .. }) => {
                kubernetes.clone()
            }
            Some(_) => return Err(other_platform("kubernetes")),
            None => Box::<RawKubernetesSettings>::default(),
        };
        over_list(&mut kubernetes.address, self.address);
        over(&mut kubernetes.token, self.token);
        over(&mut kubernetes.token_file, self.token_file);
        over(&mut kubernetes.ca_file, self.ca_file);
        over(&mut kubernetes.client_cert_file, self.client_cert_file);
        over(&mut kubernetes.only_namespace, self.only_namespace);
        over(&mut kubernetes.cluster, self.cluster);
        over(&mut kubernetes.trust_domain, self.trust_domain);
        over(&mut kubernetes.source, self.common.name);
        over(&mut kubernetes.region, self.common.region);
        let control = control_planes(raw.take(), self.common.control);
        Ok(RawAdapterSettings { control, platform: RawPlatform::Kubernetes(kubernetes) })
    }
}
