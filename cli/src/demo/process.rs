//! The demo's processes: children of this program, of the same executable, that never outlive it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
};

use super::plan::Part;
use crate::failure::{Exit, Failure};

/// How long a child may take to end when asked, before it is killed.
const FAREWELL: Duration = Duration::from_secs(3);

/// One running child.
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

/// How a command that ran to its end answered.
pub struct Answer {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it told on stderr.
    pub stderr: String,
}

impl Process {
    /// Starts a part; its log goes to a file in the directory, after what is there.
    pub fn start(part: &Part, directory: &Path) -> Result<Self, Failure> {
        let log = directory.join(format!("{}.log", part.name));
        let file = File::options().create(true).append(true).open(&log);
        let file = file.map_err(|error| trouble(&part.name, &error.to_string(), &log))?;
        let copy = file.try_clone().map_err(|error| trouble(&part.name, &error.to_string(), &log))?;
        let mut command = weft().map_err(|error| trouble(&part.name, &error.to_string(), &log))?;
        // stdin stays open as long as this process lives: its end tells the child to end, whatever happened to us.
        let child = command
            .arg("--exit-with-parent")
            .args(&part.arguments)
            .stdin(Stdio::piped())
            .stdout(file)
            .stderr(copy)
            .process_group(0)
            .spawn()
            .map_err(|error| trouble(&part.name, &error.to_string(), &log))?;
        Ok(Self { name: part.name.clone(), log, child })
    }

    /// Fails when the process has ended by itself.
    pub fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                let last = said.lines().rev().take(3).collect::<Vec<_>>();
                let last = last.into_iter().rev().collect::<Vec<_>>().join(" | ");
                Err(trouble(&self.name, &format!("it ended with {status}: {last}"), &self.log))
            }
            Err(error) => Err(trouble(&self.name, &error.to_string(), &self.log)),
        }
    }

    /// Ends the process at once, as a crash would.
    pub async fn kill(&mut self) {
        // It may have ended by itself: then there is nothing to do.
        let _ = self.child.kill().await;
    }

    /// Asks the process to end by closing its stdin, and kills it when it takes too long.
    pub async fn stop(mut self) {
        drop(self.child.stdin.take());
        if tokio::time::timeout(FAREWELL, self.child.wait()).await.is_err() {
            self.kill().await;
        }
    }
}

/// Runs a weft command to its end, as a person would.
pub async fn ask(arguments: &[&str], stdin: &str) -> Result<Answer, Failure> {
    let title = format!("weft {}", arguments.join(" "));
    let failed = |error: std::io::Error| trouble(&title, &error.to_string(), Path::new("stderr"));
    let mut child = weft()
        .map_err(failed)?
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut pipe) = child.stdin.take() {
        // A command that fails before it reads closes the pipe; its exit code tells.
        let _ = pipe.write_all(stdin.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    Ok(Answer {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// This very program, without the settings of the caller's shell.
fn weft() -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("WEFT_") {
            command.env_remove(key);
        }
    }
    command.kill_on_drop(true);
    Ok(command)
}

fn trouble(name: &str, why: &str, log: &Path) -> Failure {
    Failure::new(
        Exit::No,
        format!("{name} does not run"),
        why,
        format!("read {} (kept with --keep)", log.display()),
    )
}
