//! The running demo: its processes, its directory, and the questions that the tour asks it.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    time::Duration,
};

use tempfile::TempDir;

use super::{
    plan::Plan,
    process::{self, Answer, Process},
    traffic::Client,
};
use crate::failure::{Exit, Failure};

/// Longest wait for the mesh to be whole.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause between two questions whether it is.
const POLL: Duration = Duration::from_millis(50);

/// A whole mesh on this machine. Dropping it kills its processes and removes its directory.
pub struct Mesh {
    /// What runs.
    pub plan: Plan,
    directory: TempDir,
    control: Process,
    parts: Vec<Process>,
}

impl Mesh {
    /// Starts every process.
    pub async fn start() -> Result<Self, Failure> {
        let plan = Plan::new(free_ports().map_err(no_room)?);
        let directory = tempfile::Builder::new().prefix("weft-demo-").tempdir().map_err(no_room)?;
        let facts = directory.path().join("facts");
        std::fs::create_dir(&facts).map_err(no_room)?;
        std::fs::write(facts.join("services.yaml"), plan.facts()).map_err(no_room)?;
        let control = Process::start(&plan.control(directory.path()), directory.path())?;
        let start = |part| Process::start(&part, directory.path());
        let parts = plan.parts(directory.path()).into_iter().map(start).collect::<Result<_, _>>()?;
        Ok(Self { plan, directory, control, parts })
    }

    /// Waits until every proxy runs the newest configuration.
    pub async fn synced(&mut self) -> Result<(), Failure> {
        let deadline = tokio::time::Instant::now() + READY_TIMEOUT;
        loop {
            self.check()?;
            let answer = self.ask(&["status", "-o", "json"], "").await?;
            let synced = serde_json::from_str::<serde_json::Value>(&answer.stdout)
                .ok()
                .and_then(|status| status["proxies"].as_array().map(Vec::len))
                .is_some_and(|proxies| proxies >= self.plan.proxies());
            if synced && answer.code == Some(0) {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(Failure::new(
                    Exit::No,
                    "the proxies did not come into sync",
                    format!("{}{}", answer.stdout, answer.stderr).trim().replace('\n', " | "),
                    format!("read the logs in {} (kept with --keep)", self.directory.path().display()),
                ));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until a request through the whole mesh is answered.
    pub async fn answers(&mut self) -> Result<(), Failure> {
        let deadline = tokio::time::Instant::now() + READY_TIMEOUT;
        let mut client = Client { ingress: self.plan.ingress(), connection: None };
        loop {
            self.check()?;
            match client.get(None).await {
                Ok(_) => return Ok(()),
                Err(problem) if tokio::time::Instant::now() >= deadline => {
                    return Err(Failure::new(
                        Exit::No,
                        format!("no answer through the mesh at http://{}", self.plan.ingress()),
                        problem.trim().replace('\n', " | "),
                        format!("read the logs in {} (kept with --keep)", self.directory.path().display()),
                    ));
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Runs `weft ...` against this mesh.
    pub async fn ask(&self, arguments: &[&str], stdin: &str) -> Result<Answer, Failure> {
        let address = self.plan.admin_url();
        let line: Vec<&str> = arguments.iter().copied().chain(["--address", &address]).collect();
        process::ask(&line, stdin).await
    }

    /// Applies a document and waits until every proxy runs it.
    pub async fn apply(&self, yaml: &str) -> Result<Answer, Failure> {
        let answer = self.ask(&["apply", "-f", "-", "--wait"], yaml).await?;
        if answer.code == Some(0) {
            return Ok(answer);
        }
        Err(Failure::new(
            Exit::No,
            "weft apply --wait failed",
            answer.stderr.trim().replace('\n', " | "),
            format!("read the logs in {} (kept with --keep)", self.directory.path().display()),
        ))
    }

    /// Kills the control plane, as a crash would.
    pub async fn kill_control(&mut self) {
        self.control.kill().await;
    }

    /// Starts the control plane again.
    pub fn restart_control(&mut self) -> Result<(), Failure> {
        self.control = Process::start(&self.plan.control(self.directory.path()), self.directory.path())?;
        Ok(())
    }

    /// The directory with logs and data.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends every process, callers before what they call, and removes the directory unless it is to be kept.
    pub async fn stop(mut self, keep: bool) {
        self.directory.disable_cleanup(keep);
        futures::future::join_all(self.parts.into_iter().map(Process::stop)).await;
        self.control.stop().await;
    }

    fn check(&mut self) -> Result<(), Failure> {
        self.control.check()?;
        self.parts.iter_mut().try_for_each(Process::check)
    }
}

/// Ports that were free a moment ago, all different: each is held until all are chosen.
fn free_ports() -> std::io::Result<[u16; Plan::PORTS]> {
    let mut held = Vec::with_capacity(Plan::PORTS);
    let mut ports = [0; Plan::PORTS];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

fn no_room(error: std::io::Error) -> Failure {
    Failure::new(
        Exit::No,
        "cannot prepare the demo",
        error.to_string(),
        "it needs a writable temporary directory (TMPDIR) and ports on 127.0.0.1",
    )
}
