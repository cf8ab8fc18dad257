//! Mutual TLS between workloads: both sides know each other, and who cannot prove anything gets only what is allowed.

use std::{net::SocketAddr, time::Duration};

use weft_proto::node::{Inbound, NodeMetadata, Upstream};
use weft_tests::{
    backend::{Attempts, Backend},
    client::{Answer, Connection, Protocol, empty, get},
    mesh::{Mesh, Proxy, SYNC},
    program::free_ports,
    wait::until,
};

const API: &str = "spiffe://cluster.local/ns/default/sa/api";
const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";

/// A mesh with a client and a server that have identities, each with its proxy.
struct Pair {
    mesh: Mesh,
    /// Leads to the server through the client's proxy.
    client: SocketAddr,
    /// Where the mesh reaches the server.
    server: SocketAddr,
    server_proxy: Proxy,
    _client_proxy: Proxy,
    _backend: Backend,
}

fn api(address: SocketAddr, identity: &str) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!(
        "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: api}}\nspec:\n  ports: [{{number: 80, name: http, protocol: http}}]\n  \
         endpoints: [{{address: {ip}, port: {port}, mtls: true, identity: '{identity}'}}]\n"
    )
}

fn workload(account: &str) -> NodeMetadata {
    NodeMetadata {
        namespace: "default".into(),
        service_account: account.into(),
        workload: account.into(),
        ..NodeMetadata::default()
    }
}

impl Pair {
    async fn start(life: &str) -> Self {
        let mut mesh = Mesh::start_with_identities(life).await;
        let backend = Backend::http("api", "v1", Attempts::default()).await;
        let [server, client] = free_ports();
        mesh.publish("api.yaml", &api(server, API));
        mesh.endpoints("api", 1, SYNC).await;
        let inbound = Inbound {
            bind: Some(server.into()),
            service: "api".into(),
            port: 80,
            app: backend.address.into(),
            protocol: String::new(),
            workload: String::new(),
        };
        let of_api = NodeMetadata { inbound: vec![inbound], ..workload("api") };
        let server_proxy = mesh.joining_proxy("api", &of_api, &mesh.token("default", "api")).await;
        let upstream = Upstream { bind: client.into(), service: "api".into(), port: 80 };
        let of_web = NodeMetadata { upstreams: vec![upstream], ..workload("web") };
        let client_proxy = mesh.joining_proxy("web", &of_web, &mesh.token("default", "web")).await;
        mesh.synced(2, SYNC).await;
        Self { mesh, client, server, server_proxy, _client_proxy: client_proxy, _backend: backend }
    }

    /// Waits until a request at an address is answered with a status; none is that there is no answer.
    async fn answers(&self, at: SocketAddr, expected: Option<u16>) {
        until(&format!("{expected:?}"), SYNC, async || {
            let found = ask(at).await.map(|answer| answer.status.as_u16());
            if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }

    async fn metrics(&self) -> String {
        let mut connection = Connection::open(self.server_proxy.admin, Protocol::H1).await.unwrap();
        let request = get(Protocol::H1, "admin", "/metrics").body(empty()).unwrap();
        String::from_utf8_lossy(&connection.send(request).await.unwrap().body).into_owned()
    }
}

async fn ask(at: SocketAddr) -> Option<Answer> {
    let mut connection = Connection::open(at, Protocol::H1).await.ok()?;
    let request = get(Protocol::H1, "api", "/").header("x-forwarded-client-cert", "By=forged");
    connection.send(request.body(empty()).unwrap()).await.ok()
}

#[tokio::test]
async fn workloads_with_identities_speak_mutual_tls_and_know_each_other() {
    let pair = Pair::start("1h").await;
    pair.answers(pair.client, Some(200)).await;
    let metrics = pair.metrics().await;
    let told = metrics.lines().find(|line| line.contains("connection_security_policy=\"mutual_tls\""));
    let told = told.unwrap_or_else(|| panic!("no mutual TLS: {metrics}"));
    assert!(told.contains(&format!("source_principal=\"{WEB}\"")), "{told}");
    assert!(told.contains(&format!("destination_principal=\"{API}\"")), "{told}");

    // So is the workload, and what its caller says itself of certificates is not passed on.
    let seen = ask(pair.client).await.unwrap();
    let seen = String::from_utf8_lossy(&seen.body);
    let told = seen.contains(&format!("By={API};Hash=")) && seen.contains(&format!("URI={WEB}"));
    assert!(told && !seen.contains("forged"), "{seen}");

    // Who has no identity is served as long as plain text is taken.
    pair.answers(pair.server, Some(200)).await;
    let strict = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: mesh, namespace: istio-system}\nspec: {mtls: {mode: STRICT}}\n";
    pair.mesh.apply(strict).await.unwrap();
    pair.mesh.synced(2, SYNC).await;
    pair.answers(pair.server, None).await;
    pair.answers(pair.client, Some(200)).await;
}

#[tokio::test]
async fn a_server_that_is_someone_else_gets_no_request() {
    let mut pair = Pair::start("1h").await;
    pair.answers(pair.client, Some(200)).await;
    pair.mesh.publish("api.yaml", &api(pair.server, "spiffe://cluster.local/ns/default/sa/other"));
    pair.answers(pair.client, Some(503)).await;
}

#[tokio::test]
async fn certificates_and_roots_are_replaced_under_load_without_a_failed_request() {
    let pair = Pair::start("20s").await;
    pair.answers(pair.client, Some(200)).await;
    // Each request has connections of its own, and so a handshake.
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: api}\nspec: {host: api, trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 1}}}}\n";
    pair.mesh.apply(rule).await.unwrap();
    pair.mesh.synced(2, SYNC).await;
    let rotate = || assert!(pair.mesh.command(&["ca", "rotate"]).status.success());
    let renewals = |log: &str| log.matches("certificate came").count();
    let mut proxy_log = String::new();
    rotate();
    let begun = std::time::Instant::now();
    let mut requests = 0;
    while begun.elapsed() < Duration::from_secs(30) {
        let answer = ask(pair.client).await;
        assert_eq!(answer.map(|answer| answer.status.as_u16()), Some(200), "request {requests}");
        requests += 1;
    }
    proxy_log += &std::fs::read_to_string(pair.server_proxy.output()).unwrap();
    assert!(renewals(&proxy_log) >= 3, "{proxy_log}");
    assert!(
        pair.mesh.control.log().matches("certificate authority changed").count() >= 2,
        "the new root signs"
    );
    assert!(requests > 100, "{requests}");
}
