//! `weft completion`: what a shell needs to complete commands.

use clap_complete::Shell;

use crate::{
    failure::{Exit, Failure},
    output,
};

/// Options of `weft completion`.
#[derive(Debug, clap::Args)]
pub struct CompletionArgs {
    /// Shell to write for
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script for the command tree.
pub fn run(args: CompletionArgs, mut tree: clap::Command) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut tree, "weft", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Yes)
}
