//! Bookinfo: the routing tasks of Istio's own sample application, by its file names, on both proxies.
//!
//! The documents under `tests/samples/bookinfo` are written for this test and say what Istio's samples of the same names
//! say; those for the Gateway API are in `gateway-api`. To run the samples themselves, unmodified, name the folder of the
//! first, beside which is that of the others: `WEFT_BOOKINFO=istio/samples/bookinfo/networking`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use weft_proto::node::{NodeMetadata, Role};
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

/// The tasks for the Gateway API: a file, and which versions of reviews answer. The versions are services of their own.
const ROUTES: [(&str, Shares); 5] = [
    ("route-all-v1", &[("v1", 100)]),
    ("route-reviews-90-10", &[("v1", 90), ("v2", 10)]),
    ("route-reviews-50-v3", &[("v1", 50), ("v3", 50)]),
    ("route-reviews-v3", &[("v3", 100)]),
    ("route-reviews-v1", &[("v1", 100)]),
];

/// The folder of samples for Istio's own kinds, or that for the Gateway API.
fn folder(gateway_api: bool) -> PathBuf {
    let given = std::env::var_os("WEFT_BOOKINFO").map(PathBuf::from);
    match (given, gateway_api) {
        (Some(given), false) => given,
        (Some(given), true) => given.with_file_name("gateway-api"),
        (None, false) => root().join("tests/samples/bookinfo"),
        (None, true) => root().join("tests/samples/bookinfo/gateway-api"),
    }
}

fn apply(mesh: &Mesh, folder: &Path, name: &str) {
    let file = folder.join(format!("{name}.yaml")).display().to_string();
    let applied = mesh.command(&["apply", "-f", &file, "--wait"]);
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

    let folder = folder(false);
    apply(&mesh, &folder, "destination-rule-all");
    let mut report = String::new();
    for (file, user, shares) in TASKS {
        apply(&mesh, &folder, file);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_routing_tasks_of_bookinfo_for_the_gateway_api_work_on_both_proxies() {
    let mut mesh = Mesh::start().await;
    let (mut backends, mut registered) = (Vec::new(), Vec::new());
    for (name, versions) in SERVICES {
        let mut endpoints = Vec::new();
        for version in versions {
            let backend = Backend::http(name, version, Attempts::default()).await;
            let endpoint = ((*version).to_owned(), backend.address);
            let alone = vec![endpoint.clone()];
            registered.push(Registered {
                name: format!("{name}-{version}"),
                protocol: "http",
                endpoints: alone,
            });
            endpoints.push(endpoint);
            backends.push(backend);
        }
        registered.push(Registered { name: name.to_owned(), protocol: "http", endpoints });
    }
    mesh.publish("bookinfo.yaml", &files_yaml(&registered).replace("number: 80,", "number: 9080,"));
    for service in &registered {
        mesh.endpoints(&service.name, service.endpoints.len(), SYNC).await;
    }
    let folder = folder(true);
    apply(&mesh, &folder, "bookinfo-gateway");
    let doors = [free_port(), free_port()];
    let edges = [free_port(), free_port()];
    let mut proxies = Vec::new();
    for ((proxy, door), edge) in ["weft", "envoy"].into_iter().zip(doors).zip(edges) {
        let sidecar = NodeMetadata {
            namespace: "default".into(),
            workload: "client".into(),
            outbound_http: Some(door),
            ..NodeMetadata::default()
        };
        let gateway = NodeMetadata {
            role: Role::Gateway,
            namespace: "default".into(),
            workload: "edge".into(),
            gateway_bind: Some(edge.ip()),
            gateway_ports: BTreeMap::from([(80, edge.port())]),
            ..NodeMetadata::default()
        };
        for metadata in [sidecar, gateway] {
            let name = format!("{proxy}-{}", metadata.workload);
            proxies.push(match proxy {
                "weft" => mesh.weft_proxy(&name, &metadata).await,
                _ => mesh.envoy(&name, &metadata).await,
            });
        }
    }
    let mut report = String::new();
    for (file, shares) in ROUTES {
        apply(&mesh, &folder, file);
        let requests = if shares.len() > 1 { REQUESTS } else { REQUESTS_PLAIN };
        for (proxy, door) in ["weft", "envoy"].into_iter().zip(doors) {
            let found = ask(door, Protocol::H1, "reviews", None, requests).await;
            if !fits(&found, shares, requests) {
                report.push_str(&format!("{file}: {proxy}: {found:?}, not {shares:?}\n"));
            }
        }
    }
    for (proxy, edge) in ["weft", "envoy"].into_iter().zip(edges) {
        let mut connection = Connection::open(edge, Protocol::H1).await.unwrap();
        for (path, expected) in [
            ("/productpage", 200),
            ("/static/a.css", 200),
            ("/api/v1/products", 200),
            ("/", 404),
            ("/login/", 404),
        ] {
            let request = get(Protocol::H1, "bookinfo.test", path).body(empty()).unwrap();
            let status = connection.send(request).await.unwrap().status;
            if status != expected {
                report.push_str(&format!("{proxy}: {path}: {status}, not {expected}\n"));
            }
        }
    }
    assert!(report.is_empty(), "{report}");
}
