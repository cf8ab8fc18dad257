//! Load stays near and fails over by distance, or goes in shares, alike through `weft proxy` and Envoy.

use std::{collections::BTreeMap, net::SocketAddr};

use weft_proto::node::NodeMetadata;
use weft_tests::{
    backend::{Attempts, Backend},
    client::{Connection, Protocol, empty, get},
    mesh::{Mesh, Proxy, SYNC},
    program::free_port,
    wait::until,
};

const PLACES: [(&str, &str); 3] = [("near", "eu/a/1"), ("region", "eu/b/1"), ("far", "us/a/1")];

const RULE: &str = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: shop}\nspec:\n  \
    host: shop\n  trafficPolicy:\n    outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}\n    \
    loadBalancer: {localityLbSetting: LOCALITY}\n";

/// One service with a backend in each place, and a proxy of each kind in the first of them.
struct Shop {
    mesh: Mesh,
    backends: BTreeMap<&'static str, Backend>,
    proxies: Vec<(&'static str, SocketAddr, Proxy)>,
}

impl Shop {
    async fn open() -> Self {
        let mut mesh = Mesh::start().await;
        let mut backends = BTreeMap::new();
        let mut yaml = String::from(
            "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: shop}\nspec:\n  \
             ports: [{number: 80, name: http, protocol: http}]\n  endpoints:\n",
        );
        for (name, place) in PLACES {
            let backend = Backend::http("shop", name, Attempts::default()).await;
            let (ip, port) = (backend.address.ip(), backend.address.port());
            yaml.push_str(&format!("  - {{address: {ip}, ports: {{http: {port}}}, locality: {place}}}\n"));
            backends.insert(name, backend);
        }
        mesh.publish("shop.yaml", &yaml);
        mesh.endpoints("shop", PLACES.len(), SYNC).await;
        let mut proxies = Vec::new();
        for kind in ["weft", "envoy"] {
            let door = free_port();
            let locality = ["eu", "a", "1"].map(str::to_owned);
            let metadata = NodeMetadata {
                outbound_http: Some(door),
                workload: "client".into(),
                locality,
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

    async fn set(&self, setting: &str) {
        self.mesh.apply(&RULE.replace("LOCALITY", setting)).await.unwrap();
        self.mesh.synced(2, SYNC).await;
    }

    /// Which backends answer how many of a hundred requests, where all are answered with 200.
    async fn answers(&self, door: SocketAddr) -> Result<BTreeMap<String, u32>, String> {
        let mut counts = BTreeMap::new();
        let mut connection = Connection::open(door, Protocol::H1).await.unwrap();
        for _ in 0..100 {
            let request = get(Protocol::H1, "shop", "/").body(empty()).unwrap();
            let answer = connection.send(request).await.unwrap();
            if answer.status != 200 {
                return Err(format!("{} after {counts:?}", answer.status));
            }
            *counts.entry(answer.version().to_owned()).or_default() += 1;
        }
        Ok(counts)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_is_cut_off_is_taken_over_by_the_next_without_a_failed_request() {
    let mut shop = Shop::open().await;
    shop.set("{}").await;
    let only = |name: &str| BTreeMap::from([(name.to_owned(), 100)]);
    for (name, _) in PLACES {
        for (kind, door, _) in &shop.proxies {
            // Envoy repeats a request within one priority, so that the first may fail before the ejection is seen; ours
            // goes on to the next priority when it has tried all of one.
            if *kind == "envoy" {
                until("failover of Envoy", SYNC, async || shop.answers(*door).await.map(drop)).await;
            }
            let found = shop.answers(*door).await;
            assert_eq!(found, Ok(only(name)), "{kind}, while {:?} are there", shop.backends.keys());
        }
        // Its connections close and nobody accepts new ones. A request that it was cut off in would not be repeated: it
        // may have been processed.
        if shop.backends.len() > 1 {
            shop.backends.remove(name).unwrap().finish().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_of_places_are_as_the_document_says() {
    let shop = Shop::open().await;
    shop.set("{distribute: [{from: eu/a/*, to: {eu/a/1: 70, us/*: 30}}]}").await;
    for (kind, door, _) in &shop.proxies {
        let found = shop.answers(*door).await.unwrap();
        assert_eq!(found.len(), 2, "{kind}: {found:?}");
        // Localities take turns by weight on both.
        assert!(found["near"].abs_diff(70) <= 3, "{kind}: {found:?}");
    }
}
