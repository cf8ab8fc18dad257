//! Signs of life on stderr for what takes longer than a second; nothing at all where nobody watches.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Pace of the spinner.
const TICK: Duration = Duration::from_millis(100);

/// Answers sooner than this need no spinner.
const PATIENCE: Duration = Duration::from_secs(1);

/// A spinner that shows after a second, and only on a terminal.
pub struct Spinner {
    bar: ProgressBar,
    starter: Option<tokio::task::JoinHandle<()>>,
}

impl Spinner {
    /// Starts the wait with a first message. Needs a tokio runtime.
    pub fn start(message: impl Into<String>) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden(), starter: None };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_message(message.into());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        let shown = bar.clone();
        let starter = tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            shown.set_draw_target(ProgressDrawTarget::stderr());
            shown.enable_steady_tick(TICK);
        });
        Self { bar, starter: Some(starter) }
    }

    /// Changes the message.
    pub fn say(&self, message: impl Into<String>) {
        self.bar.set_message(message.into());
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(starter) = self.starter.take() {
            starter.abort();
        }
        self.bar.finish_and_clear();
    }
}
