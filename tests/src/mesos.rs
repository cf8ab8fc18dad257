//! A real Mesos: a master and an agent in one process, with a framework that is told what to run.

use std::{
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{
    mesh::http_get,
    program::{free_port, root},
    wait::{START, until},
};

/// A cluster. Killed when dropped, and its tasks with it.
pub struct RealMesos {
    /// Where the master serves HTTP.
    pub http: SocketAddr,
    process: Child,
    work: PathBuf,
}

impl RealMesos {
    /// Starts a cluster that keeps its things in a folder.
    pub async fn start(dir: &Path) -> Self {
        let base = root().join(".cache/peers/mesos");
        assert!(base.join("installed").exists(), "Mesos is missing: run tests/peers/install");
        let (http, work) = (free_port(), dir.join("mesos"));
        let log = std::fs::File::create(dir.join("mesos.log")).expect("the log can be made");
        let mut command = Command::new(root().join("tests/peers/mesos/run"));
        command.arg(&base).arg(http.port().to_string()).arg(&work);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().expect("Mesos starts");
        let mesos = Self { http, process, work };
        until("Mesos to answer", START, async || match http_get(mesos.http, "/master/health").await? {
            (200, _) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        mesos
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Runs a task that tells an HTTP port.
    pub fn launch(&mut self, name: &str, id: &str, port: u16) {
        self.say(&format!("launch {name} {id} {port}"));
    }

    /// Ends a task.
    pub fn kill(&mut self, id: &str) {
        self.say(&format!("kill {id}"));
    }

    /// Lets a task's health check pass or fail.
    pub fn health(&self, id: &str, passes: bool) {
        let file = self.work.join("health").join(id);
        std::fs::write(file, if passes { "1" } else { "0" }).expect("the file can be written");
    }

    fn say(&mut self, command: &str) {
        let stdin = self.process.stdin.as_mut().expect("it was piped");
        writeln!(stdin, "{command}").expect("Mesos reads its commands");
    }
}

impl Drop for RealMesos {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
