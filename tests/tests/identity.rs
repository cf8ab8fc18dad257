//! Identities from outside: how proxies join, what they may claim, and what happens to who cannot prove anything.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use weft_proto::node::NodeMetadata;
use weft_tests::{
    mesh::{Mesh, Proxy, SYNC},
    program::{Program, free_port, free_ports},
    services::{Registered, files_yaml},
    sim::{kubernetes::Kubernetes, server::Sim},
    wait::until,
};

fn metadata(namespace: &str, account: &str) -> NodeMetadata {
    NodeMetadata {
        namespace: namespace.into(),
        service_account: account.into(),
        workload: "web".into(),
        ..NodeMetadata::default()
    }
}

/// Waits until a proxy's log says something.
async fn says(proxy: &mut Proxy, what: &str) {
    tells(proxy.program(), what, SYNC).await;
}

/// Waits until a program's log says something.
async fn tells(program: &Program, what: &str, limit: Duration) {
    until(what, limit, async || {
        let log = program.log();
        if log.contains(what) { Ok(()) } else { Err(log) }
    })
    .await;
}

/// Lets the file adapter see `web` with an endpoint at each of these ports.
fn web(folder: &Path, ports: &[u16]) {
    let endpoints = ports.iter().map(|port| ("v1".to_owned(), SocketAddr::from(([127, 0, 0, 1], *port))));
    let web = Registered { name: "web".into(), protocol: "http", endpoints: endpoints.collect() };
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("web.yaml.new"), files_yaml(&[web])).unwrap();
    fs::rename(folder.join("web.yaml.new"), folder.join("web.yaml")).unwrap();
}

#[tokio::test]
async fn a_proxy_joins_once_is_who_it_was_after_a_restart_and_renews_by_itself() {
    let mesh = Mesh::start_with_identities("20s").await;
    let token = mesh.token("shop", "web");
    let mut proxy = mesh.joining_proxy("web", &metadata("shop", ""), &token).await;
    mesh.synced(1, SYNC).await;
    let log = proxy.program().log();
    assert!(log.contains("spiffe://cluster.local/ns/shop/sa/web"), "{log}");

    // The token is used up, and is not needed again.
    proxy.program().kill();
    proxy.restart();
    proxy.ready().await;
    mesh.synced(1, SYNC).await;
    let renewed = |log: &str| log.matches("certificate came").count();
    until("a renewal", Duration::from_secs(30), async || {
        let log = proxy.program().log();
        if renewed(&log) >= 2 { Ok(()) } else { Err(log) }
    })
    .await;
    let thief = mesh.unready_proxy("thief", &metadata("shop", ""), &token);
    let mut thief = thief;
    thief.restart();
    says(&mut thief, "the credential proves nothing here").await;
    assert!(mesh.control.log().contains("credential refused"));
}

#[tokio::test]
async fn a_proxy_that_claims_another_identity_is_refused() {
    let mesh = Mesh::start_with_identities("1h").await;
    for (name, claimed, why) in [
        ("namespace", metadata("bank", ""), "NAMESPACE"),
        ("account", metadata("shop", "db"), "SERVICE_ACCOUNT"),
    ] {
        let mut proxy = mesh.unready_proxy(name, &claimed, &mesh.token("shop", "web"));
        proxy.restart();
        says(&mut proxy, why).await;
    }
    assert!(mesh.status().await.unwrap().proxies.is_empty());
}

#[tokio::test]
async fn a_proxy_believes_no_other_control_plane() {
    let (mesh, other) = (Mesh::start_with_identities("1h").await, Mesh::start_with_identities("1h").await);
    let mut proxy = mesh.unready_proxy("web", &metadata("shop", ""), &other.token("shop", "web"));
    proxy.restart();
    says(&mut proxy, "invalid peer certificate").await;
    assert!(!mesh.control.log().contains("credential refused"), "the token was told to a stranger");
}

#[tokio::test]
async fn an_adapter_joins_once_feeds_over_mutual_tls_and_renews_by_itself() {
    let mesh = Mesh::start_with_identities("20s").await;
    let dir = mesh.dir.path();
    web(&mesh.files(), &[1]);
    let token = mesh.token_of(&["--adapter", "files/a"]);
    let mut first = mesh.joining_adapter("files/a");
    let mut adapter = Program::start("first", dir, first.env("WEFT_JOIN_TOKEN", &token));
    mesh.endpoints("web", 1, SYNC).await;
    tells(&adapter, "spiffe://cluster.local/weft/adapter/files/a", SYNC).await;
    let kept = fs::metadata(dir.join("files-a/identity/identity.bin")).unwrap();
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);
    assert!(!adapter.log().contains(&token), "the token is in the log");

    // The token is used up, and is not needed again: neither by a look nor by the next process.
    adapter.kill();
    let look = mesh.joining_adapter("files/a").arg("--check").output().unwrap();
    let said = String::from_utf8_lossy(&look.stderr).into_owned();
    assert!(look.status.success() && said.contains("takes connections"), "{said}");
    web(&mesh.files(), &[1, 2]);
    let adapter = Program::start("second", dir, &mut mesh.joining_adapter("files/a"));
    mesh.endpoints("web", 2, SYNC).await;

    // The connection ends with the certificate that it began with, and goes on under the next one.
    tells(&adapter, "\"resume\":true", Duration::from_secs(45)).await;
    web(&mesh.files(), &[1, 2, 3]);
    mesh.endpoints("web", 3, SYNC).await;
}

#[tokio::test]
async fn an_adapter_speaks_for_the_source_of_its_token_alone_and_a_workload_for_none() {
    let mesh = Mesh::start_with_identities("1h").await;
    web(&mesh.files(), &[1]);
    for (name, token) in
        [("files/b", mesh.token_of(&["--adapter", "files/a"])), ("files/c", mesh.token("shop", "web"))]
    {
        let mut command = mesh.joining_adapter(name);
        let log = name.replace('/', "-of-");
        let adapter = Program::start(&log, mesh.dir.path(), command.env("WEFT_JOIN_TOKEN", token));
        tells(&adapter, "may not speak for the source", SYNC).await;
    }
    // Without an identity nothing is said at all, and the registry is empty.
    let nobody = mesh.joining_adapter("files/d").output().unwrap();
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("weft token create --adapter NAME"));
    assert!(mesh.status().await.unwrap().sources.is_empty());
}

#[tokio::test]
async fn a_service_account_token_of_our_audience_proves_who_a_pod_is_and_nothing_else_does() {
    let sim = Sim::start(Kubernetes::default(), free_port()).await.unwrap();
    let [tls] = free_ports();
    let settings = serde_json::json!({"tls_bind": tls, "kubernetes_api": sim.url(),
        "kubernetes_adapters": "weft-system/weft-adapter=files/k"});
    let mesh = Mesh { tls: Some(tls), ..Mesh::start_with(&settings).await };
    let dir = mesh.dir.path();
    web(&mesh.files(), &[1]);
    let pods = [
        ("files/k", "system:serviceaccount:weft-system:weft-adapter", "weft", "\"resume\":false"),
        ("files/workload", "system:serviceaccount:shop:web", "weft", "may not speak for the source"),
        ("files/foreign", "system:serviceaccount:weft-system:weft-adapter", "api", "proves nothing here"),
        ("files/person", "alice", "weft", "proves nothing here"),
    ];
    for (source, user, audience, said) in pods {
        let token = format!("token-of-{}", source.replace('/', "-"));
        sim.platform.token(&token, user, audience);
        fs::write(dir.join(&token), &token).unwrap();
        let mut command = mesh.joining_adapter(source);
        command.arg("--proof").arg(format!("kubernetes:{}", dir.join(&token).display()));
        command.arg("--control-ca-file").arg(dir.join("control/identity/root-cert.pem"));
        let adapter = Program::start(&format!("run-{token}"), dir, &mut command);
        tells(&adapter, said, SYNC).await;
        assert!(!mesh.control.log().contains(&token), "the token is in the log");
    }
    // An API server that is away proves nothing either.
    sim.faults.set("/apis/authentication", weft_tests::sim::fault::Fault::Status(500));
    let mut command = mesh.joining_adapter("files/away");
    command.arg("--proof").arg(format!("kubernetes:{}", dir.join("token-of-files-k").display()));
    command.arg("--control-ca-file").arg(dir.join("control/identity/root-cert.pem"));
    let adapter = Program::start("away", dir, &mut command);
    tells(&adapter, "proves nothing here", SYNC).await;
    assert!(mesh.control.log().contains("answers 500"));
}
