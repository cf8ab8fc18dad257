//! Flags of `weft adapter files`.

use std::path::PathBuf;

use weft_adapters::settings::{RawAdapterSettings, RawPlatform};

use super::{CommonArgs, over};
use crate::failure::Failure;

/// Options of `weft adapter files`.
#[derive(Debug, clap::Args)]
pub(super) struct FilesArgs {
    /// The directory to watch
    #[arg(long, env = "WEFT_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Label `cluster` of the workloads [default: the source's name after its last slash]
    #[arg(long, env = "WEFT_CLUSTER")]
    cluster: Option<String>,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

impl FilesArgs {
    /// Flags over what the file says.
    pub(super) fn over_file(self) -> Result<RawAdapterSettings, Failure> {
        let (mut raw, mut files) = self.common.over_file("files", |platform| match platform {
            RawPlatform::Files(own) => Some(own),
            _ => None,
        })?;
        over(&mut files.directory, self.dir);
        over(&mut files.source, self.common.name);
        over(&mut files.cluster, self.cluster);
        over(&mut files.region, self.common.region);
        raw.platform = RawPlatform::Files(files);
        Ok(raw)
    }
}
