//! Identities from outside: how proxies join, what they may claim, and what happens to who cannot prove anything.

use std::time::Duration;

use weft_proto::node::NodeMetadata;
use weft_tests::{
    mesh::{Mesh, Proxy, SYNC},
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

/// Waits until a program's log says something.
async fn says(proxy: &mut Proxy, what: &str) {
    until(what, SYNC, async || {
        let log = proxy.program().log();
        if log.contains(what) { Ok(()) } else { Err(log) }
    })
    .await;
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
