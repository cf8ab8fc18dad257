//! The Consul source against a real Consul: registration, checks, deregistration, and a server that comes back empty.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::control_plane::{ControlPlane, Known};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use weft_adapters::app;
use weft_adapters::client::Plaintext;
use weft_adapters::settings::{RawAccess, RawAdapterSettings, RawConsulSettings, RawPlatform};
use weft_proto::registry::v1::Health;

/// Longest that an agent may take to be ready.
const START_MAX: Duration = Duration::from_secs(60);

/// First port that tests take, and how many.
const PORTS_FROM: u16 = 12_000;
const PORTS: u16 = 8_000;

fn binary() -> PathBuf {
    let peers = concat!(env!("CARGO_MANIFEST_DIR"), "/../.cache/peers/consul/root/usr/bin/consul");
    let binary = PathBuf::from(peers);
    assert!(binary.exists(), "no Consul at {peers}: run tests/run, or tests/peers/install once");
    binary
}

/// A development agent; killed when dropped.
struct Agent {
    process: Child,
    url: String,
    http: reqwest::Client,
}

impl Agent {
    async fn start(http_port: u16) -> Self {
        let [serf_lan, serf_wan, server] = [free_port(), free_port(), free_port()];
        let process = Command::new(binary())
            .args(["agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1", "-node=dev1", "-log-level=err"])
            .args([format!("-http-port={http_port}"), format!("-server-port={server}")])
            .args([format!("-serf-lan-port={serf_lan}"), format!("-serf-wan-port={serf_wan}")])
            .args(["-dns-port=-1", "-grpc-port=-1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("Consul starts");
        let agent =
            Agent { process, url: format!("http://127.0.0.1:{http_port}"), http: reqwest::Client::new() };
        tokio::time::timeout(START_MAX, agent.ready()).await.expect("Consul is ready in time");
        agent
    }

    async fn ready(&self) {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            tick.tick().await;
            let leader = self.http.get(format!("{}/v1/health/service/consul", self.url)).send().await;
            if let Ok(answer) = leader
                && answer.text().await.is_ok_and(|text| text.contains("\"consul\""))
            {
                return;
            }
        }
    }

    async fn put(&self, path: &str, body: &Value) {
        let answer = self.http.put(format!("{}/v1/agent/{path}", self.url)).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    }

    /// Registers instance `id` of `web` with a check that passes until it is told otherwise.
    async fn register(&self, id: &str, port: u16) {
        let body = json!({"ID": id, "Name": "web", "Address": "10.0.0.1", "Port": port, "Tags": ["http", "v1"],
            "Check": {"CheckID": format!("check-{id}"), "TTL": "10m", "Status": "passing"}});
        self.put("service/register", &body).await;
    }

    async fn kill(mut self) {
        self.process.kill().await.expect("Consul can be killed");
    }
}

/// A port that is free now. It is below those that the system gives to clients, so it stays free while a server that had
/// it is away, and no port is handed out twice.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id() as u16;
    loop {
        let offset = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if std::net::TcpListener::bind(("127.0.0.1", PORTS_FROM + offset)).is_ok() {
            return PORTS_FROM + offset;
        }
    }
}

/// Runs the adapter until the guard is dropped.
fn adapt(agent: &str, plane: &ControlPlane) -> tokio_util::sync::DropGuard {
    let consul = RawConsulSettings {
        access: RawAccess { address: vec![agent.to_owned()], ..Default::default() },
        ..Default::default()
    };
    let raw = RawAdapterSettings {
        control: vec![plane.url()],
        platform: RawPlatform::Consul(Box::new(consul)),
        ..Default::default()
    };
    let stop = CancellationToken::new();
    tokio::spawn(app::run(raw.check().expect("good settings"), Arc::new(Plaintext), stop.clone()));
    stop.drop_guard()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_in_consul_reaches_the_control_plane() {
    let agent = Agent::start(free_port()).await;
    let plane = ControlPlane::start().await;
    let _adapter = adapt(&agent.url, &plane);
    plane.until("listed", |known| known.listings == [""]).await;

    agent.register("web-1", 8001).await;
    agent.register("web-2", 8002).await;
    let known = plane.until("two endpoints", |known| known.endpoints.len() == 2).await;
    let web = &known.endpoints["dev1/web-1"];
    assert_eq!((web.address.as_str(), web.ports["http"], web.health()), ("10.0.0.1", 8001, Health::Healthy));
    assert_eq!(web.labels["version"], "v1");

    let told = known.upserts;
    let health = |known: &Known| known.endpoints.get("dev1/web-1").map(|web| web.health());
    agent.put("check/fail/check-web-1", &Value::Null).await;
    let known = plane.until("unhealthy", |known| health(known) == Some(Health::Unhealthy)).await;
    assert_eq!(known.upserts, told + 1, "only what changed is told");
    agent.put("check/pass/check-web-1", &Value::Null).await;
    plane.until("healthy again", |known| health(known) == Some(Health::Healthy)).await;
    agent.put("service/maintenance/web-1?enable=true", &Value::Null).await;
    plane.until("draining", |known| health(known) == Some(Health::Draining)).await;

    agent.put("service/deregister/web-1", &Value::Null).await;
    plane.until("one endpoint", |known| known.endpoints.len() == 1).await;
    agent.put("service/deregister/web-2", &Value::Null).await;
    let known = plane.until("nothing", |known| known.services.is_empty() && known.endpoints.is_empty()).await;
    assert_eq!(known.listings, [""], "removals of a trusted Consul are told as such");
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consul_that_dies_makes_facts_stale_and_one_that_comes_back_empty_is_doubted() {
    let port = free_port();
    let agent = Agent::start(port).await;
    let url = agent.url.clone();
    let plane = ControlPlane::start().await;
    let _adapter = adapt(&url, &plane);
    for id in 0..6 {
        agent.register(&format!("web-{id}"), 9000 + id).await;
    }
    plane.until("six endpoints", |known| known.endpoints.len() == 6).await;

    agent.kill().await;
    let known = plane.until("stale", |known| known.stale.is_some()).await;
    assert!(known.stale.as_deref().is_some_and(|reason| reason.contains(&url)), "{:?}", known.stale);
    assert_eq!((known.endpoints.len(), known.listings.len()), (6, 1), "an error removes nothing");

    let agent = Agent::start(port).await;
    let known = plane.until("a second listing", |known| known.listings.len() > 1).await;
    assert!(!known.listings[1].is_empty(), "an empty comeback is told in doubt");

    agent.register("web-0", 9000).await;
    plane.until("live with the endpoint", |known| known.endpoints.len() == 1 && known.stale.is_none()).await;
    agent.kill().await;
}
