//! A mesh over a simulated Nomad: what happens there is everywhere, and whatever it answers takes nothing away.

use std::net::SocketAddr;

use serde_json::json;
use weft_tests::{
    backend::{Attempts, Backend},
    mesh::SYNC,
    sim::{fault::Fault, nomad::Nomad},
    town::Town,
};

fn at(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 23_000 + n))
}

/// A Nomad that runs some instances of `web`.
fn running(count: u16) -> Nomad {
    let nomad = Nomad::default();
    (0..count).for_each(|n| nomad.register("web", &format!("web-{n}"), &["http"], at(n)));
    nomad
}

async fn town(nomad: Nomad) -> Town<Nomad> {
    Town::open("nomad", nomad, &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_is_followed_and_at_no_time_is_there_no_endpoint() {
    let town = town(Nomad::default()).await;
    let nomad = town.platform();
    nomad.register("web", "web-1", &["http", "v1"], at(1));
    town.settled(1).await;
    let found = town.web().await.remove("web-1").unwrap();
    assert_eq!((found.locality.as_str(), found.labels["version"].as_str()), ("dc1/a/r7", "v1"));
    assert_eq!(found.ports, ["http:23001"]);

    nomad.register("web", "web-2", &["http", "v2"], at(2));
    town.settled(2).await;
    nomad.alloc("web-2", &json!({"DeploymentID": "d", "DeploymentStatus": {"Canary": true}}));
    town.healths(&[("web-1", "healthy"), ("web-2", "unhealthy")]).await;
    assert_eq!(town.web().await["web-2"].labels["canary"], "true");
    nomad.alloc("web-2", &json!({"DeploymentStatus": {"Healthy": true, "Canary": false}}));
    town.healths(&[("web-1", "healthy"), ("web-2", "healthy")]).await;
    nomad.alloc("web-1", &json!({"DesiredTransition": {"Migrate": true}}));
    town.healths(&[("web-1", "draining"), ("web-2", "healthy")]).await;
    nomad.deregister(&["web-1"]);
    town.healths(&[("web-2", "healthy")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_nomad_answers_badly_costs_an_endpoint_or_a_request() {
    let nomad = Nomad::default();
    let mut backends = Vec::new();
    for n in 0..6 {
        let backend = Backend::http("web", "v1", Attempts::default()).await;
        nomad.register("web", &format!("web-{n}"), &["http"], backend.address);
        backends.push(backend);
    }
    let town = town(nomad).await;
    town.settled(6).await;
    town.bad_weather("/v1", 6).await;

    town.platform().reset_index(3);
    town.sim.faults.cut_streams();
    town.platform().register("web", "web-6", &["http"], backends[0].address);
    town.settled(7).await;

    let all: Vec<String> = (0..7).map(|n| format!("web-{n}")).collect();
    town.platform().deregister(&all.iter().map(String::as_str).collect::<Vec<_>>());
    town.mesh.endpoints("web", 0, SYNC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_the_event_buffer_has_forgotten_is_found_by_the_next_list() {
    let town = town(running(6)).await;
    town.settled(6).await;
    town.sim.faults.set("/v1/event", Fault::Hang);
    town.platform().forget(&["web-0"]);
    town.sim.faults.cut_streams();
    town.sim.faults.heal();
    town.settled(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_may_not_be_had_is_replaced_by_blocking_queries() {
    let nomad = running(2);
    nomad.deny_events(true);
    let town = town(nomad).await;
    town.settled(2).await;
    town.platform().alloc("web-0", &json!({"DesiredStatus": "stop"}));
    town.healths(&[("web-0", "draining"), ("web-1", "healthy")]).await;
    town.platform().deregister(&["web-0"]);
    town.platform().register("web", "web-2", &["http"], at(2));
    town.healths(&[("web-1", "healthy"), ("web-2", "healthy")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_in_pieces_and_cut_records_lose_and_double_nothing() {
    let town = town(running(6)).await;
    town.settled(6).await;
    town.sim.faults.set("/v1/event", Fault::Split(1));
    town.platform().register("web", "web-6", &["http"], at(6));
    town.settled(7).await;
    town.sim.faults.set("/v1/event", Fault::Cut(100));
    town.sim.faults.cut_streams();
    town.platform().deregister(&["web-0", "web-1"]);
    town.platform().register("web", "web-7", &["http"], at(7));
    town.sim.faults.heal();
    town.settled(6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_token_in_the_file_heals_without_a_restart() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "old\n").unwrap();
    let nomad = running(1);
    nomad.guard(Some("new"));
    let town = Town::open("nomad", nomad, &["--token-file", file.to_str().unwrap()]).await;
    town.source("stale", "403: Permission denied; give a token").await;
    std::fs::write(&file, "new\n").unwrap();
    town.settled(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_says_what_would_be_told_and_what_stands_in_the_way() {
    let town = town(running(1)).await;
    let (code, table, said) = town.check(&[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(table.contains("default     web    http:80/http   1           1"), "{table}");
    assert!(said.contains("the event stream tells services, allocations and nodes"), "{said}");

    town.platform().deny_events(true);
    let (code, _, said) = town.check(&[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("changes come by blocking queries"), "{said}");

    town.platform().guard(Some("secret"));
    let (code, _, said) = town.check(&["--token", "wrong"]).await;
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("give a token with read-job"), "{said}");
    assert_eq!(town.check(&["--token", "secret"]).await.0, Some(0));
}
