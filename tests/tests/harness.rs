//! The harness itself: what stands behind and before the proxies does what the other tests rely on.

use weft_tests::{
    backend::{Attempts, Backend, tcp_exchange},
    case::{Door, Doors, Group, play::Stage},
    load::{Load, Plan},
};

/// The table has at least this many rows.
const CASES_MIN: usize = 480;

#[test]
fn every_case_file_can_be_read() {
    let groups = Group::all();
    let rows: usize = groups.values().map(|group| group.cases.len()).sum();
    assert!(rows >= CASES_MIN, "only {rows} cases");
    let mut services: Vec<_> = groups.values().flat_map(|group| group.services.keys()).collect();
    let all = services.len();
    services.sort();
    services.dedup();
    assert_eq!(services.len(), all, "two case files use one service name");
}

#[tokio::test]
async fn a_backend_without_a_proxy_passes_the_cases_about_the_wire() {
    let attempts = Attempts::default();
    let wire = Backend::http("wire", "v1", attempts.clone()).await;
    let tcp = Backend::tcp("v1").await;
    let doors = Doors {
        http: [(Door::Http, wire.address)].into(),
        tcp: [("tcp-wire".to_owned(), tcp.address)].into(),
    };
    let stage = Stage { name: "direct", doors: &doors, attempts: &attempts, single: &|_| true };
    let mut wrong = Vec::new();
    for case in &Group::all()["wire"].cases {
        let found = case.play("wire", &stage).await.check(case);
        wrong.extend(found.into_iter().map(|w| format!("{}: {}: {}", case.name, w.field, w.text)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_load_counts_every_request() {
    let backend = Backend::http("load", "v7", Attempts::default()).await;
    let plan =
        Plan { target: backend.address, host: "load".into(), path: "/".into(), rate: 400, connections: 2 };
    let load = Load::start(plan);
    load.answered(100).await;
    let (tally, rate) = load.stop().await;
    assert_eq!(
        (tally.failed(), tally.versions.keys().map(String::as_str).collect::<Vec<_>>()),
        (0, vec!["v7"])
    );
    assert!(rate > 100.0 && rate < 1_000.0, "{rate}");
}

#[tokio::test]
async fn a_tcp_backend_greets_and_echoes() {
    let backend = Backend::tcp("v3").await;
    assert_eq!(tcp_exchange(backend.address, "abc").await.unwrap(), ("v3".to_owned(), "abc".to_owned()));
}
