//! `weft version`: which program this is.

use serde_json::json;

use crate::{
    failure::{Exit, Failure},
    output::{self, Format, OutputArgs},
};

/// Options of `weft version`.
#[derive(Debug, clap::Args)]
pub struct VersionArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints the version.
pub fn run(args: VersionArgs) -> Result<Exit, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let value = json!({"name": "weft", "version": version});
    let text = match args.output.output {
        Format::Table | Format::Wide => format!("weft {version}\n"),
        Format::Name => format!("{version}\n"),
        Format::Json => output::pretty(&value),
        Format::Jsonl => format!("{value}\n"),
        Format::Yaml => output::yaml(&value),
    };
    output::print(&text)?;
    Ok(Exit::Yes)
}
