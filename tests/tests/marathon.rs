//! A mesh over a simulated Marathon: what happens there is everywhere, and whatever it answers takes nothing away.

use std::net::SocketAddr;

use serde_json::json;
use weft_tests::{
    backend::{Attempts, Backend},
    mesh::SYNC,
    program::free_port,
    sim::{fault::Fault, marathon::Marathon, server::Sim},
    town::Town,
};

fn at(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 31_000 + n))
}

fn all(count: u16) -> Vec<SocketAddr> {
    (0..count).map(at).collect()
}

async fn town(marathon: Marathon, flags: &[&str]) -> Town<Marathon> {
    Town::open("marathon", marathon, flags).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_is_followed_and_blue_and_green_are_subsets_of_one_service() {
    let marathon = Marathon::default();
    marathon.run("/shop/blue", &json!({"weft.service": "web", "weft.version": "blue"}), &all(1));
    let town = town(marathon, &[]).await;
    town.settled(1).await;
    town.platform().run("/shop/green", &json!({"weft.service": "web", "weft.version": "green"}), &[at(7)]);
    town.settled(2).await;
    let web = town.web().await;
    let green = &web["shop_green.instance-0._app.1"];
    assert_eq!((green.labels["version"].as_str(), green.locality.as_str()), ("green", "eu/a/"));
    assert_eq!(green.ports, ["http:31007"]);

    town.platform().task("/shop/blue", 0, &json!({"state": "TASK_KILLING"}));
    town.healths(&[("shop_blue.instance-0._app.1", "draining"), ("shop_green.instance-0._app.1", "healthy")])
        .await;
    town.platform().remove("/shop/blue");
    town.healths(&[("shop_green.instance-0._app.1", "healthy")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_marathon_answers_badly_costs_an_endpoint_or_a_request() {
    let (marathon, mut backends) = (Marathon::default(), Vec::new());
    for _ in 0..6 {
        backends.push(Backend::http("web", "v1", Attempts::default()).await);
    }
    let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    marathon.run("/web", &json!({}), &addresses);
    let town = town(marathon, &[]).await;
    town.settled(6).await;
    town.bad_weather("/v2", 6).await;
    town.platform().remove("/web");
    town.mesh.endpoints("web", 0, SYNC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_are_lost_or_say_nothing_leave_the_registry_as_the_lists_are() {
    let marathon = Marathon::default();
    marathon.run("/web", &json!({}), &all(6));
    let town = town(marathon, &[]).await;
    town.settled(6).await;
    town.platform().mute(true);
    town.platform().run("/web", &json!({}), &all(4));
    town.platform().mute(false);
    town.platform().tell("deployment_success", json!({"id": "d"}));
    town.settled(4).await;
    // One after the other in the wrong order, and one that means nothing.
    town.platform().run("/web", &json!({}), &all(5));
    town.platform().tell("app_terminated_event", json!({"appId": "/web"}));
    town.platform().tell("status_update_event", json!({"appId": "/nothing"}));
    town.settled(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_leads_to_its_leader_and_a_cut_stream_is_attached_anew() {
    let marathon = Marathon::default();
    marathon.run("/web", &json!({}), &all(2));
    let leader = Sim::start(Marathon::default(), free_port()).await.unwrap();
    marathon.follow(Some(&leader.url()));
    let town = town(marathon, &[]).await;
    town.settled(2).await;
    town.platform().run("/web", &json!({}), &all(3));
    leader.platform.tell("status_update_event", json!({"appId": "/web"}));
    town.settled(3).await;
    // The leader is gone, and the standby leads.
    town.platform().follow(None);
    leader.faults.cut_streams();
    drop(leader);
    town.platform().run("/web", &json!({}), &all(4));
    town.settled(4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_in_pieces_is_read_and_credentials_are_given() {
    let marathon = Marathon::default();
    marathon.run("/web", &json!({}), &all(2));
    marathon.guard(Some("Basic bWU6c2VjcmV0"));
    let town = town(marathon, &["--token", "me:secret"]).await;
    town.settled(2).await;
    town.sim.faults.set("/v2/events", Fault::Split(1));
    town.platform().run("/web", &json!({}), &all(3));
    town.settled(3).await;
    town.sim.faults.heal();

    let (code, table, said) = town.check(&["--token", "me:secret"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(table.contains("default     web    http:80/http   3           3"), "{table}");
    let (code, _, said) = town.check(&[]).await;
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("give user:password, or a token of DC/OS"), "{said}");
    // The token goes to nobody whom the settings do not name.
    town.platform().follow(Some("http://127.0.0.1:1"));
    let (code, _, said) = town.check(&["--token", "me:secret"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("add it to address"), "{said}");
}
