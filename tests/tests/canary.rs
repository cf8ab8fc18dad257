//! A canary from its first share to its end, by the command line, with traffic through both proxies, which report it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use serde_json::Value as Json;
use weft_proto::{admin::v1::TrafficRequest, node::NodeMetadata};
use weft_tests::{
    backend::{Attempts, Backend},
    client::{Connection, Protocol, empty, get},
    mesh::{Mesh, Proxy, SYNC},
    program::free_ports,
    services::{Registered, files_yaml},
    wait::until,
};

/// Time for traffic to be reported: two intervals, and what a busy machine needs.
const REPORTED: Duration = Duration::from_secs(30);

/// Requests of one measurement.
const REQUESTS: u32 = 200;

struct Shop {
    mesh: Mesh,
    /// Of the weft proxy and of Envoy.
    doors: [SocketAddr; 2],
    _proxies: [Proxy; 2],
    _backends: Vec<Backend>,
}

impl Shop {
    async fn open() -> Self {
        let mut mesh = Mesh::start().await;
        let (mut backends, mut endpoints) = (Vec::new(), Vec::new());
        for version in ["v1", "v2"] {
            let backend = Backend::http("reviews", version, Attempts::default()).await;
            endpoints.push((version.to_owned(), backend.address));
            backends.push(backend);
        }
        let service = Registered { name: "reviews".into(), protocol: "http", endpoints };
        mesh.publish("reviews.yaml", &files_yaml(&[service]));
        mesh.endpoints("reviews", 2, SYNC).await;
        let doors = free_ports();
        let metadata = |workload: &str, door| NodeMetadata {
            namespace: "default".into(),
            workload: workload.into(),
            outbound_http: Some(door),
            ..NodeMetadata::default()
        };
        let weft = mesh.weft_proxy("weft", &metadata("web", doors[0])).await;
        let envoy = mesh.envoy("envoy", &metadata("batch", doors[1])).await;
        mesh.synced(2, SYNC).await;
        Self { mesh, doors, _proxies: [weft, envoy], _backends: backends }
    }

    /// Sends requests through each proxy, and answers which versions answered. Version `failing` answers with 500.
    async fn ask(&self, failing: Option<&str>) -> BTreeMap<String, u32> {
        let mut versions = BTreeMap::new();
        for door in self.doors {
            let mut connection = Connection::open(door, Protocol::H1).await.unwrap();
            for _ in 0..REQUESTS {
                let mut request = get(Protocol::H1, "reviews", "/");
                if let Some(version) = failing {
                    request = request.header("x-echo-status", "500").header("x-echo-only", version);
                }
                let answer = connection.send(request.body(empty()).unwrap()).await.unwrap();
                *versions.entry(answer.version().to_owned()).or_default() += 1;
            }
        }
        versions
    }

    /// Runs `weft canary ...`; the exit code, and the versions by name.
    fn canary(&self, arguments: &[&str]) -> (Option<i32>, BTreeMap<String, Json>, String) {
        let arguments = [&["canary"], arguments, &["-o", "json"]].concat();
        let output = self.mesh.command(&arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let listed: Json = serde_json::from_str(&text).unwrap_or_default();
        let items = listed["items"].as_array().cloned().unwrap_or_default();
        let by_name = items.into_iter().map(|item| (item["version"].as_str().unwrap().to_owned(), item));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), by_name.collect(), errors)
    }

    /// Runs a shift that must succeed; the weights after it.
    fn shift(&self, arguments: &[&str]) -> BTreeMap<String, u64> {
        let (code, versions, errors) = self.canary(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {errors}");
        assert!(errors.contains("live on 2 proxies"), "{errors}");
        versions.into_iter().map(|(name, item)| (name, item["weight"].as_u64().unwrap())).collect()
    }
}

fn weights(v1: u64, v2: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([("v1".to_owned(), v1), ("v2".to_owned(), v2)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_goes_out_is_judged_by_its_traffic_and_comes_back_in_one_step() {
    let shop = Shop::open().await;
    let (code, before, _) = shop.canary(&["status", "reviews"]);
    assert_eq!((code, before["v1"]["weight"].as_u64(), before.len()), (Some(0), Some(50), 2));

    assert_eq!(shop.shift(&["set", "reviews", "v2=20"]), weights(80, 20));
    let answered = shop.ask(None).await;
    let share = f64::from(answered["v2"]) / f64::from(2 * REQUESTS);
    assert!((0.1..0.3).contains(&share), "{answered:?}");
    until("both versions judged", REPORTED, async || {
        let (code, versions, errors) = shop.canary(&["status", "reviews"]);
        let verdicts = (versions["v1"]["verdict"].as_str(), versions["v2"]["verdict"].as_str());
        let timed = versions["v2"]["flow"]["p99Ms"].is_number();
        // The whole service is listed, too, if anything was sent before there were versions. How long answers take is
        // the machine's business.
        match (code, verdicts) {
            (Some(0), (Some("stable"), Some("good"))) | (Some(1), (Some("stable"), Some("slow")))
                if timed =>
            {
                Ok(())
            }
            _ => Err(format!("{code:?} {versions:#?} {errors}")),
        }
    })
    .await;

    shop.ask(Some("v2")).await;
    until("failures seen", REPORTED, async || {
        let (code, versions, _) = shop.canary(&["status", "reviews"]);
        let failing = versions["v2"]["verdict"] == "failing" && code == Some(1);
        if failing { Ok(()) } else { Err(format!("{code:?} {versions:#?}")) }
    })
    .await;

    assert_eq!(shop.shift(&["set", "reviews", "v2=50"]), weights(50, 50));
    assert_eq!(shop.shift(&["abort", "reviews"]), weights(100, 0));
    assert_eq!(shop.ask(None).await, BTreeMap::from([("v1".to_owned(), 2 * REQUESTS)]));
    assert_eq!(shop.shift(&["set", "reviews", "v2=10"]), weights(90, 10));
    assert_eq!(shop.shift(&["promote", "reviews"]), weights(0, 100));
    assert_eq!(shop.ask(None).await, BTreeMap::from([("v2".to_owned(), 2 * REQUESTS)]));

    both_proxies_are_seen(&shop).await;
}

/// Who called whom, as each proxy reports it: latency is only our proxy's.
async fn both_proxies_are_seen(shop: &Shop) {
    until("traffic of both proxies", REPORTED, async || {
        let mut client = shop.mesh.client().await.map_err(|error| error.to_string())?;
        let request = TrafficRequest { service: "reviews".into(), window_seconds: 900, ..Default::default() };
        let found = client.traffic(request).await.map_err(|status| status.to_string())?.into_inner();
        let of = |workload: &str| {
            let edges = found.edges.iter().filter(move |edge| edge.source_workload == workload);
            edges.fold((0, 0, false), |(v1, v2, timed), edge| {
                let flow = edge.flow.unwrap_or_default();
                let add = |version: &str| if edge.version == version { flow.requests } else { 0 };
                (v1 + add("v1"), v2 + add("v2"), timed || flow.p99_ms.is_some())
            })
        };
        let ((weft_v1, weft_v2, weft_timed), (envoy_v1, envoy_v2, envoy_timed)) = (of("web"), of("batch"));
        // Every request of four measurements; Envoy forgets what it has not told of a cluster that goes.
        let (all, envoy) = (u64::from(4 * REQUESTS), envoy_v1 + envoy_v2);
        if weft_v1 + weft_v2 == all && (1..=all).contains(&envoy) && weft_timed && !envoy_timed {
            return Ok(());
        }
        Err(format!("{found:#?}"))
    })
    .await;
    let items = |arguments: &[&str]| {
        let output = shop.mesh.command(&[arguments, &["--window", "15m", "-o", "json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let listed: Json = serde_json::from_slice(&output.stdout).unwrap();
        listed["items"].as_array().cloned().unwrap()
    };
    let edges = items(&["edges", "reviews"]);
    let from = |edge: &Json| edge["sourceWorkload"].as_str().unwrap().to_owned();
    assert_eq!(edges.iter().map(from).collect::<BTreeSet<_>>(), ["batch", "web"].map(str::to_owned).into());
    let parts = items(&["stat", "reviews", "-n", "default"]);
    let versions = parts.iter().map(|part| part["version"].as_str().unwrap().to_owned());
    assert!(
        versions.collect::<BTreeSet<_>>().is_superset(&["v1", "v2"].map(str::to_owned).into()),
        "{parts:#?}"
    );
    assert_eq!(shop.mesh.command(&["edges", "nobody"]).status.code(), Some(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_said_and_changes_nothing() {
    let mut mesh = Mesh::start().await;
    let backend = Backend::http("reviews", "v1", Attempts::default()).await;
    let endpoints = vec![("v1".to_owned(), backend.address)];
    let service = Registered { name: "reviews".into(), protocol: "http", endpoints };
    mesh.publish("reviews.yaml", &files_yaml(&[service]));
    mesh.endpoints("reviews", 1, SYNC).await;
    let special = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\nspec:\n  hosts: \
                   [reviews]\n  http:\n  - redirect: {uri: /gone}\n";
    for (arguments, code, says) in [
        (vec!["canary", "status", "nobody"], 4, "service default/nobody does not exist"),
        (vec!["canary", "set", "reviews", "v9=5"], 2, "there is no version \"v9\"; v1 are known"),
        (vec!["canary", "set", "reviews", "v1=5"], 2, "the weights sum to 5"),
        (vec!["canary", "promote", "reviews"], 2, "which version to promote is not clear"),
        (vec!["canary", "abort", "reviews"], 1, "no canary began"),
    ] {
        let output = mesh.command(&arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(says), "{arguments:?}: {errors}");
    }
    let dry = mesh.command(&["canary", "set", "reviews", "v1=100", "--dry-run"]);
    assert_eq!(dry.status.code(), Some(0), "{dry:?}");
    assert!(String::from_utf8_lossy(&dry.stdout).contains("kind: VirtualService"), "{dry:?}");
    assert!(mesh.command(&["get", "documents", "-o", "name"]).stdout.is_empty());

    mesh.apply(special).await.unwrap();
    let refused = mesh.command(&["canary", "set", "reviews", "v1=100"]);
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("VirtualService/default/reviews") && errors.contains("give it a route"),
        "{errors}"
    );
}
