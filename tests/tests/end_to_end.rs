//! What the mesh promises while it changes, crashes and restarts, under a steady load of HTTP/1.1 and HTTP/2.

use std::{net::SocketAddr, time::Duration};

use weft_proto::node::NodeMetadata;
use weft_tests::{
    backend::{Attempts, Backend},
    client::{Connection, Protocol, empty, get},
    load::{Load, Plan},
    mesh::{Mesh, Proxy, SYNC},
    program::free_port,
    services::{Registered, files_yaml},
    wait::{START, until},
};

/// Requests a second of every load, half of them HTTP/1.1 and half HTTP/2.
const RATE: u32 = 2_200;

/// Time in which a restarted control plane has every proxy in sync.
const SYNC_AFTER_RESTART: Duration = Duration::from_secs(5);

const SUBSETS: &str = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: shop}\nspec:\n  \
    host: shop\n  subsets:\n  - {name: v1, labels: {version: v1}}\n  - {name: v2, labels: {version: v2}}\n";

fn all_to(version: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: shop}}\nspec:\n  \
         hosts: [shop]\n  http:\n  - route: [{{destination: {{host: shop, subset: {version}}}}}]\n"
    )
}

struct Shop {
    mesh: Mesh,
    proxy: Proxy,
    door: SocketAddr,
    attempts: Attempts,
    _backends: Vec<Backend>,
}

impl Shop {
    /// One service in two versions behind one proxy, all traffic to v1.
    async fn open() -> Self {
        let mut mesh = Mesh::start().await;
        let attempts = Attempts::default();
        let mut backends = Vec::new();
        let mut endpoints = Vec::new();
        for version in ["v1", "v2"] {
            let backend = Backend::http("shop", version, attempts.clone()).await;
            endpoints.push((version.to_owned(), backend.address));
            backends.push(backend);
        }
        mesh.publish(
            "shop.yaml",
            &files_yaml(&[Registered { name: "shop".into(), protocol: "http", endpoints }]),
        );
        mesh.endpoints("shop", 2, SYNC).await;
        mesh.apply(SUBSETS).await.unwrap();
        mesh.apply(&all_to("v1")).await.unwrap();
        let door = free_port();
        let metadata = NodeMetadata { outbound_http: Some(door), ..NodeMetadata::default() };
        let proxy = mesh.weft_proxy("proxy", &metadata).await;
        mesh.synced(1, SYNC).await;
        Self { mesh, proxy, door, attempts, _backends: backends }
    }

    fn load(&self) -> Load {
        let (host, path) = ("shop".to_owned(), "/".to_owned());
        Load::start(Plan { target: self.door, host, path, rate: RATE, connections: 8 })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_route_changes_fail_no_request() {
    let shop = Shop::open().await;
    let load = shop.load();
    for change in 0..100 {
        let version = if change % 2 == 0 { "v2" } else { "v1" };
        shop.mesh.apply(&all_to(version)).await.unwrap();
        shop.mesh.synced(1, SYNC).await;
    }
    let (tally, rate) = load.stop().await;
    assert_eq!(tally.failed(), 0, "{tally:?}");
    assert!(tally.versions.keys().all(|version| version == "v1" || version == "v2"), "{tally:?}");
    assert!(tally.versions.len() == 2, "the changes were seen: {tally:?}");
    for protocol in [Protocol::H1, Protocol::H2] {
        assert!(tally.good_over(protocol) > tally.good() / 3, "{protocol:?}: {tally:?}");
    }
    // The schedule offers more than 2,000 a second; a machine too busy to send them makes this slower, not wrong.
    println!("{rate:.0} requests a second of {RATE} offered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_control_plane_fails_no_request_and_is_in_sync_soon_after() {
    let mut shop = Shop::open().await;
    let load = shop.load();
    load.answered(1_000).await;
    shop.mesh.kill_control();
    load.answered(load.tally().good() + 2_000).await;
    shop.mesh.restart_control().await;
    shop.mesh.synced(1, SYNC_AFTER_RESTART).await;
    let (tally, _) = load.stop().await;
    assert_eq!(tally.failed(), 0, "{tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_starts_from_its_disk_while_the_control_plane_is_down() {
    let mut shop = Shop::open().await;
    // What was never asked for would not be there.
    let load = shop.load();
    load.answered(1).await;
    load.stop().await;
    shop.proxy.saved().await;
    shop.mesh.kill_control();
    shop.proxy.program().kill();
    shop.proxy.restart();
    shop.proxy.ready().await;
    let load = shop.load();
    load.answered(200).await;
    let (tally, _) = load.stop().await;
    assert_eq!((tally.failed(), tally.versions.len()), (0, 1), "{tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_document_is_lost_by_kills() {
    let mut mesh = Mesh::start().await;
    let mut acknowledged = 0;
    for n in 0..1_000 {
        if n % 100 == 99 {
            mesh.kill_control();
            mesh.restart_control().await;
        }
        let host = format!("host-{n}.test");
        let entry = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: entry-{n}}}\nspec:\n  \
             hosts: [{host}]\n  resolution: DNS\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n"
        );
        mesh.apply(&entry).await.unwrap();
        acknowledged += 1;
    }
    mesh.kill_control();
    mesh.restart_control().await;
    let request = weft_proto::admin::v1::ListRequest { kind: "ServiceEntry".into(), ..Default::default() };
    let kept = mesh.client().await.unwrap().list(request).await.unwrap().into_inner().documents.len();
    assert_eq!(kept, acknowledged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_document_is_refused_with_its_place_and_changes_nothing() {
    let mesh = Mesh::start().await;
    let unknown = all_to("v1").replace("hosts:", "hostz:");
    let refused = mesh.apply(&unknown).await.unwrap_err();
    assert!(refused.contains("case.yaml:5:") && refused.contains("hostz"), "{refused}");
    assert_eq!(mesh.status().await.unwrap().proxies.len(), 0);
    let listed =
        mesh.client().await.unwrap().list(weft_proto::admin::v1::ListRequest::default()).await.unwrap();
    assert!(listed.into_inner().documents.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_asked_to_end_finishes_and_exits_cleanly() {
    let mut shop = Shop::open().await;
    shop.proxy.program().terminate();
    assert_eq!(shop.proxy.program().ended(START).await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_drained_by_command_finishes_what_it_has_and_ends() {
    let shop = Shop::open().await;
    let mut connection = Connection::open(shop.door, Protocol::H1).await.unwrap();
    let slow = get(Protocol::H1, "shop", "/").header("x-echo-id", "slow").header("x-echo-delay-ms", "700");
    let answer = tokio::spawn(async move { connection.send(slow.body(empty()).unwrap()).await });
    until("a request under way", START, async || match shop.attempts.of("slow") {
        0 => Err("it has not come".to_owned()),
        _ => Ok(()),
    })
    .await;
    let admin = shop.proxy.admin.to_string();
    let drained = tokio::task::block_in_place(|| shop.mesh.command(&["drain", "--admin", &admin]));
    assert!(drained.status.success(), "{drained:?}");
    assert_eq!(answer.await.unwrap().unwrap().status, 200);
    let again = shop.mesh.command(&["drain", "--admin", &admin]);
    assert_eq!(again.status.code(), Some(3), "nobody is there: {again:?}");
}
