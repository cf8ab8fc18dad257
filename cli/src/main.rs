//! The weft command: one binary that runs every part of the mesh and speaks for its operators.

mod args;
mod client;
mod command;
mod demo;
mod failure;
mod kind;
mod logs;
mod manifest;
mod output;
mod problem;
mod progress;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // A usage error that cannot be printed (closed stderr) still has its exit code.
            let _ = usage.print();
            return match usage.exit_code() {
                0 => ExitCode::SUCCESS,
                _ => failure::Exit::Usage.into(),
            };
        }
    };
    // One TLS provider for the whole process, chosen before anything can ask for another.
    let installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    debug_assert!(installed.is_ok(), "the provider is installed once, first");
    if let Err(failure) = logs::start(&cli.log) {
        return failure.report();
    }
    if cli.exit_with_parent {
        command::watch_parent();
    }
    match cli.run() {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(),
    }
}
