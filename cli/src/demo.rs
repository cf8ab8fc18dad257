//! `weft demo`: a whole mesh on this machine, of child processes of this program. No root, no Docker, no network.

pub mod documents;
mod live;
mod mesh;
mod plan;
mod process;
mod script;
pub mod service;
mod traffic;

use crate::failure::{Exit, Failure};

/// Options of `weft demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Take the whole tour unattended, and end with 0 or 1
    #[arg(long)]
    script: bool,
    /// Requests that the tour measures the canary with
    #[arg(long, default_value_t = 20_000, requires = "script", value_parser = clap::value_parser!(u64).range(1_000..))]
    requests: u64,
    /// Keep logs and data
    #[arg(long)]
    keep: bool,
}

/// Runs the demo.
pub async fn run(args: DemoArgs) -> Result<Exit, Failure> {
    if args.script { script::run(args.requests, args.keep).await } else { live::run(args.keep).await }
}
