//! The commands, one file each, and what several of them need.

pub mod adapter;
pub mod agent;
pub mod apply;
pub mod ca;
pub mod canary;
pub mod completion;
pub mod control;
pub mod delete;
mod document_status;
pub mod drain;
mod flow;
pub mod get;
pub mod intercept;
pub mod proxy;
pub mod source;
pub mod status;
pub mod token;
pub mod traffic;
pub mod validate;
pub mod version;

use std::{future::Future, io::Read as _, time::Duration};

use tokio::signal;
use tokio_util::sync::CancellationToken;

use crate::failure::{Exit, Failure};

/// Runs a short command to its end on one thread.
pub fn wait_for(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)?;
    runtime.block_on(work)
}

/// The failure of a process that the system gives no event loop.
pub fn no_runtime(error: std::io::Error) -> Failure {
    Failure::usage(
        "cannot start the event loop",
        error.to_string(),
        "check the limits on threads and open files (ulimit -a)",
    )
}

/// Said below every problem with settings.
pub const SETTINGS_HINT: &str =
    "correct the flag, the WEFT_ variable or the file given by --config; see --help";

/// Cancels the token on Ctrl-C or SIGTERM. Needs a tokio runtime, and lives as long as that.
pub fn cancel_on_signal(stop: CancellationToken) {
    tokio::spawn(async move {
        let terminated = async {
            match signal::unix::signal(signal::unix::SignalKind::terminate()) {
                Ok(mut received) => drop(received.recv().await),
                // Without a handler the system ends the process by itself.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = signal::ctrl_c() => {}
            () = terminated => {}
        }
        stop.cancel();
    });
}

/// Ends the process when stdin ends, so that a child dies with its parent even when that is killed.
pub fn watch_parent() {
    std::thread::spawn(|| {
        let mut sink = [0_u8; 64];
        while std::io::stdin().read(&mut sink).is_ok_and(|read| read > 0) {}
        std::process::exit(0);
    });
}

/// Reads a duration such as 30s, 500ms or 2m.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("{text:?} is no duration; write it like 30s, 500ms or 2m");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "30", "1h30", "-1s", "99999999999999999999s", "400000000000000000m"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
