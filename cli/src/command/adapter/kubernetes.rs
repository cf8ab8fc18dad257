//! Flags of `weft adapter kubernetes`.

use weft_adapters::settings::{RawAdapterSettings, RawPlatform};

use super::{CommonArgs, access::AccessArgs, over};
use crate::failure::Failure;

const ADDRESS: &str =
    "API servers of one cluster; in a pod https://kubernetes.default.svc [default: http://127.0.0.1:8001]";

/// Options of `weft adapter kubernetes`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("address", |arg| arg.help(ADDRESS)))]
#[command(mut_arg("token_file", |arg| arg.env("KUBERNETES_TOKEN_FILE")))]
#[command(mut_arg("token", |arg| arg.env("KUBERNETES_TOKEN")))]
pub(super) struct KubernetesArgs {
    #[command(flatten)]
    access: AccessArgs,
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
        let (mut raw, mut kubernetes) = self.common.over_file("kubernetes", |platform| match platform {
            RawPlatform::Kubernetes(own) => Some(own),
            _ => None,
        })?;
        self.access.over(&mut kubernetes.access);
        over(&mut kubernetes.only_namespace, self.only_namespace);
        over(&mut kubernetes.cluster, self.cluster);
        over(&mut kubernetes.trust_domain, self.trust_domain);
        over(&mut kubernetes.source, self.common.name);
        over(&mut kubernetes.region, self.common.region);
        raw.platform = RawPlatform::Kubernetes(kubernetes);
        Ok(raw)
    }
}
