//! Bookinfo: the routing tasks of Istio's own sample application, by its file names, on both proxies.
//!
//! The documents under `tests/samples/bookinfo` are written for this test and say what Istio's samples of the same names
//! say. To run the samples themselves, unmodified, name their folder: `WEFT_BOOKINFO=istio/samples/bookinfo/networking`.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use weft_proto::node::NodeMetadata;
use weft_tests::{
    backend::{Attempts, Backend},
    client::{Connection, Protocol, empty, get},
    mesh::{Mesh, SYNC},
    program::{free_port, root},
    services::{Registered, files_yaml},
};

/// Requests that measure a split.
const REQUESTS: u32 = 1_000;

/// Requests that show that everything goes to one version.
const REQUESTS_PLAIN: u32 = 100;

/// What a share may be off, in standard deviations: by chance once in 150,000 splits.
const SIGMAS: f64 = 4.5;

/// Services and versions that run.
const SERVICES: [(&str, &[&str]); 4] = [
    ("productpage", &["v1"]),
    ("details", &["v1", "v2"]),
    ("reviews", &["v1", "v2", "v3"]),
    ("ratings", &["v1", "v2"]),
];

/// Versions and how many requests of a hundred they get.
type Shares = &'static [(&'static str, u32)];

/// A file, who asks, and which versions of reviews answer, in percent. Applied in this order, as Istio's tasks do.
const TASKS: [(&str, Option<&str>, Shares); 9] = [
    ("virtual-service-all-v1", None, &[("v1", 100)]),
    ("virtual-service-reviews-90-10", None, &[("v1", 90), ("v2", 10)]),
    ("virtual-service-reviews-80-20", None, &[("v1", 80), ("v2", 20)]),
    ("virtual-service-reviews-50-v3", None, &[("v1", 50), ("v3", 50)]),
    ("virtual-service-reviews-v3", Some("jason"), &[("v3", 100)]),
    ("virtual-service-reviews-test-v2", Some("jason"), &[("v2", 100)]),
    ("virtual-service-reviews-test-v2", None, &[("v1", 100)]),
    ("virtual-service-reviews-jason-v2-v3", Some("jason"), &[("v2", 100)]),
    ("virtual-service-reviews-jason-v2-v3", Some("mary"), &[("v3", 100)]),
];

fn sample(name: &str) -> String {
    let given = std::env::var_os("WEFT_BOOKINFO").map(PathBuf::from);
    let folder = given.unwrap_or_else(|| root().join("tests/samples/bookinfo"));
    folder.join(format!("{name}.yaml")).display().to_string()
}

fn apply(mesh: &Mesh, name: &str) {
    let applied = mesh.command(&["apply", "-f", &sample(name), "--wait"]);
    assert_eq!(applied.status.code(), Some(0), "{name}: {}", String::from_utf8_lossy(&applied.stderr));
}

/// Answers by version.
async fn ask(
    door: SocketAddr,
    protocol: Protocol,
    host: &str,
    user: Option<&str>,
    requests: u32,
) -> BTreeMap<String, u32> {
    let mut connection = Connection::open(door, protocol).await.unwrap();
    let mut versions = BTreeMap::new();
    for _ in 0..requests {
        let mut request = get(protocol, host, "/");
        if let Some(user) = user {
            request = request.header("end-user", user);
        }
        let answer = connection.send(request.body(empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
        *versions.entry(answer.version().to_owned()).or_default() += 1;
    }
    versions
}

/// Whether the versions have their shares; what has no share must have no answer.
fn fits(found: &BTreeMap<String, u32>, shares: &[(&str, u32)], requests: u32) -> bool {
    found.keys().all(|version| shares.iter().any(|(wanted, _)| version == wanted))
        && shares.iter().all(|(version, percent)| {
            let (n, p) = (f64::from(requests), f64::from(*percent) / 100.0);
            let got = f64::from(found.get(*version).copied().unwrap_or(0));
            (got - n * p).abs() <= SIGMAS * (n * p * (1.0 - p)).sqrt()
        })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_routing_tasks_of_bookinfo_work_on_both_proxies() {
    let mut mesh = Mesh::start().await;
    let (mut backends, mut registered) = (Vec::new(), Vec::new());
    for (name, versions) in SERVICES {
        let mut endpoints = Vec::new();
        for version in versions {
            let backend = Backend::http(name, version, Attempts::default()).await;
            endpoints.push(((*version).to_owned(), backend.address));
            backends.push(backend);
        }
        registered.push(Registered { name: name.to_owned(), protocol: "http", endpoints });
    }
    mesh.publish("bookinfo.yaml", &files_yaml(&registered));
    for service in &registered {
        mesh.endpoints(&service.name, service.endpoints.len(), SYNC).await;
    }
    let doors = [free_port(), free_port()];
    let metadata = doors.map(|door| NodeMetadata {
        namespace: "default".into(),
        workload: "client".into(),
        outbound_http: Some(door),
        ..NodeMetadata::default()
    });
    let _weft = mesh.weft_proxy("weft", &metadata[0]).await;
    let _envoy = mesh.envoy("envoy", &metadata[1]).await;

    apply(&mesh, "destination-rule-all");
    let mut report = String::new();
    for (file, user, shares) in TASKS {
        apply(&mesh, file);
        let requests = if shares.len() > 1 { REQUESTS } else { REQUESTS_PLAIN };
        for (proxy, door) in ["weft", "envoy"].into_iter().zip(doors) {
            for protocol in [Protocol::H1, Protocol::H2] {
                let found = ask(door, protocol, "reviews", user, requests).await;
                if !fits(&found, shares, requests) {
                    report.push_str(&format!(
                        "{file}: {user:?}: {proxy} {protocol:?}: {found:?}, not {shares:?}\n"
                    ));
                }
                for other in ["productpage", "details", "ratings"] {
                    let found = ask(door, protocol, other, user, 5).await;
                    if !fits(&found, &[("v1", 100)], 5) {
                        report.push_str(&format!("{file}: {other}: {proxy} {protocol:?}: {found:?}\n"));
                    }
                }
            }
        }
    }
    assert!(report.is_empty(), "{report}");
}
