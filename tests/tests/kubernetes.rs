//! A mesh over a simulated Kubernetes: what happens there is everywhere, and whatever it answers takes nothing away.

use std::net::SocketAddr;

use serde_json::json;
use weft_tests::{
    mesh::SYNC,
    sim::{fault::Fault, kubernetes::Kubernetes},
    town::Town,
    wait::until,
};

fn all(count: u8) -> Vec<SocketAddr> {
    (1..=count).map(|n| SocketAddr::from(([10, 0, 0, n], 8080))).collect()
}

/// A cluster in which some pods serve `web`.
fn running(count: u8) -> Kubernetes {
    let kubernetes = Kubernetes::default();
    kubernetes.service("web");
    kubernetes.ready("web", &all(count));
    kubernetes
}

async fn town(kubernetes: Kubernetes) -> Town<Kubernetes> {
    Town::open("kubernetes", kubernetes, &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_is_followed_and_an_address_that_moves_between_slices_stays() {
    let kubernetes = running(1);
    kubernetes
        .put("nodes", &json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "a"}}}));
    let town = town(kubernetes).await;
    town.settled(1).await;
    assert_eq!(town.web().await["10.0.0.1"].locality, "/a/");
    let kubernetes = town.platform();
    let (ready, leaving) =
        (json!({"ready": true}), json!({"ready": false, "serving": true, "terminating": true}));
    kubernetes.slice(
        "web",
        "web-new",
        8080,
        &[("10.0.0.1", json!({"ready": false})), ("10.0.0.2", json!({"ready": false}))],
    );
    town.healths(&[("10.0.0.1", "healthy"), ("10.0.0.2", "unhealthy")]).await;
    kubernetes.slice("web", "web-new", 8080, &[("10.0.0.1", ready.clone()), ("10.0.0.2", ready.clone())]);
    kubernetes.delete("endpointslices", "web-0");
    town.healths(&[("10.0.0.1", "healthy"), ("10.0.0.2", "healthy")]).await;
    kubernetes.slice("web", "web-new", 8080, &[("10.0.0.1", leaving), ("10.0.0.2", ready)]);
    town.healths(&[("10.0.0.1", "draining"), ("10.0.0.2", "healthy")]).await;
    kubernetes.delete("services", "web");
    town.healths(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_that_are_gone_and_pages_that_are_gone_lose_and_double_nothing() {
    let kubernetes = running(6);
    kubernetes.pages(2, true);
    let town = town(kubernetes).await;
    town.settled(6).await;
    // What happened while the watch was cut is forgotten: only a list can tell.
    town.sim.faults.set("/apis/discovery.k8s.io", Fault::Hang);
    town.sim.faults.cut_streams();
    town.platform().delete("endpointslices", "web-0");
    town.platform().compact();
    town.sim.faults.heal();
    town.settled(5).await;
    // A line in pieces, and one that is cut in the middle.
    town.sim.faults.set("/apis", Fault::Split(1));
    town.platform().ready("web", &all(6));
    town.settled(6).await;
    town.sim.faults.heal();
    town.sim.faults.set("/apis", Fault::Cut(200));
    town.sim.faults.cut_streams();
    town.platform().delete("endpointslices", "web-1");
    town.sim.faults.heal();
    town.settled(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_an_api_server_answers_badly_costs_an_endpoint() {
    let town = town(running(6)).await;
    town.settled(6).await;
    // Watches resume where they were; the first error leads to new lists, which then go wrong in their turn.
    for (fault, reason) in [
        (Fault::Status(500), "500"),
        (Fault::Empty, "lists nothing where it had 6"),
        (Fault::Status(403), "give a token whose account may list"),
        (Fault::WrongType, "cannot be read"),
    ] {
        town.sim.faults.set("/api", fault);
        town.sim.faults.cut_streams();
        town.source("stale", reason).await;
        town.mesh.endpoints("web", 6, SYNC).await;
    }
    town.sim.faults.heal();
    town.settled(6).await;
    for n in 0..6 {
        town.platform().delete("endpointslices", &format!("web-{n}"));
    }
    town.mesh.endpoints("web", 0, SYNC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_come_and_go_with_their_objects() {
    let town = town(running(1)).await;
    town.settled(1).await;
    let spec = json!({"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]});
    town.platform()
        .put("virtualservices", &json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec}));
    let shown = async |wanted: bool| {
        until(&format!("document shown: {wanted}"), SYNC, async || {
            let output = town.mesh.command(&["get", "virtualservices"]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if text.contains("web") == wanted { Ok(()) } else { Err(text) }
        })
        .await;
    };
    shown(true).await;
    town.platform().delete("virtualservices", "web");
    shown(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_says_what_would_be_told_and_what_stands_in_the_way() {
    let town = town(running(2)).await;
    town.platform().guard(Some("Bearer secret"));
    let (code, table, said) = town.check(&["--token", "secret"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(table.contains("default     web    http:80/http   2           2"), "{table}");
    assert!(said.contains("endpointslices: 2 are read"), "{said}");
    let (code, _, said) = town.check(&[]).await;
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("may list and watch services and endpointslices"), "{said}");
}
