//! Logs on stderr: text for people on a terminal, one JSON object a line for everything else.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// What is logged when nothing else was asked for.
const FILTER_DEFAULT: &str = "info";

/// Starts logging with the filter given by --log or RUST_LOG.
pub fn start(filter: &Option<String>) -> Result<(), Failure> {
    let text = filter.as_deref().unwrap_or(FILTER_DEFAULT);
    let filter = EnvFilter::try_new(text).map_err(|error| {
        Failure::usage(
            format!("cannot use the log filter {text:?}"),
            error.to_string(),
            "write it like --log info or --log weft_control=debug,warn",
        )
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.with_ansi(std::env::var_os("NO_COLOR").is_none()).init();
    } else {
        builder.json().init();
    }
    Ok(())
}
