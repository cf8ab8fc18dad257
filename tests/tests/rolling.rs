//! A service whose endpoints are replaced one by one under load, and then leave but for one, fails no request: each backend ends only after the registry
//! called it draining and every proxy acknowledged that.

use std::{collections::BTreeMap, net::SocketAddr};

use weft_proto::node::NodeMetadata;
use weft_tests::{
    backend::{Attempts, Backend},
    load::{Load, Plan},
    mesh::{Mesh, SYNC},
    program::free_port,
    wait::until,
};

/// Requests a second that are offered, half of them HTTP/1.1 and half HTTP/2.
const RATE: u32 = 2_200;
const ENDPOINTS: usize = 4;
const ROUNDS: usize = 2;

/// The service as a scheduler tells it.
struct Shop {
    mesh: Mesh,
    backends: BTreeMap<usize, Backend>,
    draining: Option<usize>,
}

impl Shop {
    /// Tells the mesh what runs, and waits until every proxy has acknowledged it.
    async fn tell(&mut self, proxies: usize) {
        let before = self.mesh.status().await.unwrap().revision;
        let mut yaml = String::from(
            "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: shop}\nspec:\n  \
             ports: [{number: 80, name: http, protocol: http}]\n  endpoints:\n",
        );
        for (number, backend) in &self.backends {
            let (ip, port) = (backend.address.ip(), backend.address.port());
            let health = if self.draining == Some(*number) { "draining" } else { "healthy" };
            yaml.push_str(&format!("  - {{address: {ip}, ports: {{http: {port}}}, health: {health}}}\n"));
        }
        self.mesh.publish("shop.yaml", &yaml);
        until("a new revision", SYNC, async || {
            let status = self.mesh.status().await?;
            if status.revision > before { Ok(()) } else { Err(format!("still {before}")) }
        })
        .await;
        self.mesh.synced(proxies, SYNC).await;
    }

    async fn start(&mut self, number: usize) {
        let backend = Backend::http("shop", &format!("b{number}"), Attempts::default()).await;
        self.backends.insert(number, backend);
    }

    /// Replaces one endpoint as a careful scheduler does.
    async fn replace(&mut self, old: usize, new: usize) {
        self.start(new).await;
        self.tell(1).await;
        self.leave(old).await;
    }

    /// Takes one endpoint away.
    async fn leave(&mut self, old: usize) {
        self.draining = Some(old);
        self.tell(1).await;
        // Nobody sends anything new: it finishes what it has and ends.
        self.backends.remove(&old).unwrap().finish().await;
        self.draining = None;
        self.tell(1).await;
    }
}

async fn replace_all(kind: &str) {
    let mut shop = Shop { mesh: Mesh::start().await, backends: BTreeMap::new(), draining: None };
    for number in 0..ENDPOINTS {
        shop.start(number).await;
    }
    shop.tell(0).await;
    let door: SocketAddr = free_port();
    let metadata =
        NodeMetadata { outbound_http: Some(door), workload: "client".into(), ..NodeMetadata::default() };
    let _proxy = match kind {
        "weft" => shop.mesh.weft_proxy(kind, &metadata).await,
        _ => shop.mesh.envoy(kind, &metadata).await,
    };
    shop.mesh.synced(1, SYNC).await;
    let plan = Plan { target: door, host: "shop".into(), path: "/".into(), rate: RATE, connections: 8 };
    let load = Load::start(plan);
    for number in 0..ENDPOINTS * ROUNDS {
        load.answered(load.tally().good() + 200).await;
        shop.replace(number, number + ENDPOINTS).await;
    }
    // Down to one.
    for number in ENDPOINTS * ROUNDS..ENDPOINTS * (ROUNDS + 1) - 1 {
        load.answered(load.tally().good() + 200).await;
        shop.leave(number).await;
    }
    load.answered(load.tally().good() + 200).await;
    let (tally, rate) = load.stop().await;
    assert_eq!(tally.failed(), 0, "{kind}: {tally:?}");
    let all = ENDPOINTS * (ROUNDS + 1);
    assert_eq!(tally.versions.len(), all, "every endpoint had its time: {tally:?}");
    println!("{kind}: {rate:.0} requests a second of {RATE} offered, {} in all", tally.good());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weft_fails_no_request_while_every_endpoint_is_replaced_twice_and_all_but_one_leave() {
    replace_all("weft").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_fails_no_request_while_every_endpoint_is_replaced_twice_and_all_but_one_leave() {
    replace_all("envoy").await;
}
