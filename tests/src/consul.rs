//! A real Consul: a development agent, which keeps everything in memory, so that it comes back empty.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use http::Method;
use serde_json::{Value, json};

use crate::{
    client::{Connection, Protocol, full, get},
    program::{Program, free_port, free_ports, peer},
    wait::{START, until},
};

/// An agent and what it is asked over HTTP. Killed when dropped.
pub struct Consul {
    /// Where it serves HTTP, also after a restart.
    pub http: SocketAddr,
    program: Option<Program>,
    dir: PathBuf,
    /// More of its configuration, as HCL.
    hcl: &'static str,
}

impl Consul {
    /// Starts an agent that anybody may ask everything.
    pub async fn start(dir: &Path) -> Self {
        let mut consul = Self { http: free_port(), program: None, dir: dir.to_owned(), hcl: "" };
        consul.restart().await;
        consul
    }

    /// Starts an agent that answers nobody without a token; `token` may do everything.
    pub async fn start_guarded(dir: &Path) -> (Self, &'static str) {
        const HCL: &str = r#"acl { enabled = true, default_policy = "deny", tokens { master = "2f0b2a67-0c5d-4f8e-9d0a-6d3c1f3f8a11" } }"#;
        let mut consul = Self { http: free_port(), program: None, dir: dir.to_owned(), hcl: HCL };
        let token = "2f0b2a67-0c5d-4f8e-9d0a-6d3c1f3f8a11";
        consul.launch();
        consul.ready(Some(token)).await;
        (consul, token)
    }

    /// Starts it again on the same address, with nothing in it.
    pub async fn restart(&mut self) {
        self.launch();
        self.ready(None).await;
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.program = None;
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Registers an instance whose check passes until it is told otherwise.
    pub async fn register(&self, service: &str, id: &str, version: &str, at: SocketAddr) {
        let body = json!({
            "ID": id, "Name": service, "Address": at.ip(), "Port": at.port(), "Tags": ["http", version],
            "Meta": {"port": "80"},
            "Check": {"CheckID": format!("check-{id}"), "TTL": "10m", "Status": "passing"},
        });
        self.put("service/register", &body).await;
    }

    /// Lets an instance's check pass or fail.
    pub async fn check(&self, id: &str, passes: bool) {
        let verb = if passes { "pass" } else { "fail" };
        self.put(&format!("check/{verb}/check-{id}"), &Value::Null).await;
    }

    /// Takes an instance out.
    pub async fn deregister(&self, id: &str) {
        self.put(&format!("service/deregister/{id}"), &Value::Null).await;
    }

    fn launch(&mut self) {
        let consul =
            peer("consul", "consul/root/usr/bin/consul").expect("Consul is missing: run tests/peers/install");
        let [serf_lan, serf_wan, server] = free_ports().map(|address: SocketAddr| address.port());
        let mut command = Command::new(consul);
        command.args([
            "agent",
            "-dev",
            "-bind=127.0.0.1",
            "-client=127.0.0.1",
            "-node=dev1",
            "-log-level=err",
        ]);
        command.args([format!("-http-port={}", self.http.port()), format!("-server-port={server}")]);
        command.args([format!("-serf-lan-port={serf_lan}"), format!("-serf-wan-port={serf_wan}")]);
        command.args(["-dns-port=-1", "-grpc-port=-1", "-hcl", self.hcl]);
        self.program = Some(Program::start("consul", &self.dir, &mut command));
    }

    async fn ready(&self, token: Option<&str>) {
        until("Consul to lead itself", START, async || {
            let answer = self.ask(Method::GET, "/v1/health/service/consul", token, &Value::Null).await?;
            if answer.contains("\"consul\"") { Ok(()) } else { Err(answer) }
        })
        .await;
    }

    async fn put(&self, path: &str, body: &Value) {
        if let Err(error) = self.ask(Method::PUT, &format!("/v1/agent/{path}"), None, body).await {
            panic!("Consul: {path}: {error}");
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: &Value,
    ) -> Result<String, String> {
        let mut connection =
            Connection::open(self.http, Protocol::H1).await.map_err(|error| error.to_string())?;
        let request = get(Protocol::H1, &self.http.to_string(), path)
            .method(method)
            .header("x-consul-token", token.unwrap_or_default())
            .body(full(body.to_string()))
            .expect("a fixed request is valid");
        let answer = connection.send(request).await.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.status.is_success() { Ok(text) } else { Err(format!("{}: {text}", answer.status)) }
    }
}
