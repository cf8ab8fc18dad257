//! Active health checks keep requests away from endpoints that fail them, alike through `weft proxy` and Envoy.

use std::{collections::BTreeMap, net::SocketAddr};

use weft_proto::node::NodeMetadata;
use weft_tests::{
    backend::{Attempts, Backend},
    client::{Connection, Protocol, empty, get},
    mesh::{Mesh, Proxy, SYNC, http_get},
    program::free_port,
    services::{Registered, files_yaml},
    wait::until,
};

fn policy(probe: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: HealthCheckPolicy\nmetadata: {{name: shop}}\nspec:\n  host: shop\n  checks:\n  \
         - {probe}\n    interval: 50ms\n    noTrafficInterval: 50ms\n    healthyThreshold: 1\n    unhealthyThreshold: 2\n"
    )
}

struct Shop {
    mesh: Mesh,
    backends: BTreeMap<&'static str, Backend>,
    proxies: Vec<(&'static str, SocketAddr, Proxy)>,
}

impl Shop {
    async fn open() -> Self {
        let mut mesh = Mesh::start().await;
        let mut backends = BTreeMap::new();
        let mut endpoints = Vec::new();
        for version in ["v1", "v2"] {
            let backend = Backend::http("shop", version, Attempts::default()).await;
            endpoints.push((version.to_owned(), backend.address));
            backends.insert(version, backend);
        }
        mesh.publish(
            "shop.yaml",
            &files_yaml(&[Registered { name: "shop".into(), protocol: "http", endpoints }]),
        );
        mesh.endpoints("shop", 2, SYNC).await;
        let mut proxies = Vec::new();
        for kind in ["weft", "envoy"] {
            let door = free_port();
            let metadata = NodeMetadata {
                outbound_http: Some(door),
                workload: "client".into(),
                ..NodeMetadata::default()
            };
            let proxy = match kind {
                "weft" => mesh.weft_proxy(kind, &metadata).await,
                _ => mesh.envoy(kind, &metadata).await,
            };
            proxies.push((kind, door, proxy));
        }
        Self { mesh, backends, proxies }
    }

    async fn check(&self, probe: &str) {
        self.mesh.apply(&policy(probe)).await.unwrap();
        self.mesh.synced(2, SYNC).await;
    }

    /// Waits until twenty requests in a row through each proxy are answered as they should be.
    async fn answers(&self, expected: &[&str]) {
        for (kind, door, _) in &self.proxies {
            until(&format!("answers of {expected:?} through {kind}"), SYNC, async || {
                let mut found = BTreeMap::<String, u32>::new();
                let mut connection =
                    Connection::open(*door, Protocol::H1).await.map_err(|error| error.to_string())?;
                for _ in 0..20 {
                    let request = get(Protocol::H1, "shop", "/").body(empty()).expect("it is valid");
                    let answer = connection.send(request).await.map_err(|error| error.to_string())?;
                    let seen = match answer.status.as_u16() {
                        200 => answer.version().to_owned(),
                        other => other.to_string(),
                    };
                    *found.entry(seen).or_default() += 1;
                }
                if found.keys().eq(expected) { Ok(()) } else { Err(format!("{found:?}")) }
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_fail_their_checks_get_no_request_until_they_pass() {
    let mut shop = Shop::open().await;
    shop.check("httpGet: {path: /healthz}").await;
    shop.answers(&["v1", "v2"]).await;
    // The backends answer checks as these ask for.
    shop.check("httpGet: {path: /healthz, httpHeaders: [{name: x-echo-status, value: \"500\"}]}").await;
    shop.answers(&["503"]).await;
    let (status, body) = http_get(shop.proxies[0].2.admin, "/clusters").await.unwrap();
    assert!(status == 200 && body.contains("\"failing_checks\": true"), "{body}");
    shop.check("tcpSocket: {}").await;
    shop.answers(&["v1", "v2"]).await;
    shop.backends.remove("v1");
    shop.answers(&["v2"]).await;
    let metrics = http_get(shop.proxies[0].2.admin, "/metrics").await.unwrap().1;
    let failing = "weft_health_checks_failing{cluster=\"outbound|80||shop.default.svc.cluster.local\"} 1";
    assert!(metrics.contains(failing), "{metrics}");
    // Without checks nothing is known but what the registry says.
    let removed = shop.mesh.command(&["delete", "healthcheckpolicy", "shop"]);
    assert!(removed.status.success(), "{removed:?}");
    shop.mesh.synced(2, SYNC).await;
    let (_, body) = http_get(shop.proxies[0].2.admin, "/clusters").await.unwrap();
    assert!(!body.contains("\"failing_checks\": true"), "{body}");
}
