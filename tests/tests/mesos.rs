//! A mesh over a simulated and a real Mesos: what happens there is everywhere, and whatever it answers takes nothing away.

use std::net::SocketAddr;

use weft_tests::{
    backend::{Attempts, Backend},
    mesh::{Mesh, SYNC},
    mesos::RealMesos,
    program::free_port,
    sim::{fault::Fault, mesos::Mesos, server::Sim},
    town::{NOTICED, Town},
    wait::until,
};

fn at(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 31_000 + n))
}

/// A master of a cluster that runs some tasks of `web`.
fn running(count: u16) -> Mesos {
    let mesos = Mesos::default();
    (0..count).for_each(|n| mesos.run("web", &format!("web.{n}"), at(n)));
    mesos
}

async fn town(mesos: Mesos) -> Town<Mesos> {
    Town::open("mesos", mesos, &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_are_followed_through_health_and_end_and_what_is_late_says_nothing() {
    let town = town(running(1)).await;
    town.settled(1).await;
    let found = town.web().await.remove("web.0").unwrap();
    assert_eq!((found.locality.as_str(), found.ports), ("r1/a/", vec!["http:31000".to_owned()]));
    town.platform().run("web", "web.1", at(1));
    town.settled(2).await;
    for (healthy, shown) in [(false, "unhealthy"), (true, "healthy")] {
        town.platform().update("web.1", "TASK_RUNNING", Some(healthy));
        town.healths(&[("web.0", "healthy"), ("web.1", shown)]).await;
    }
    town.platform().update("web.0", "TASK_KILLING", None);
    town.healths(&[("web.0", "draining"), ("web.1", "healthy")]).await;
    town.platform().update("web.0", "TASK_KILLED", None);
    town.healths(&[("web.1", "healthy")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_mesos_answers_badly_costs_an_endpoint_or_a_request() {
    let (mesos, mut backends) = (Mesos::default(), Vec::new());
    for n in 0..6 {
        let backend = Backend::http("web", "v1", Attempts::default()).await;
        mesos.run("web", &format!("web.{n}"), backend.address);
        backends.push(backend);
    }
    let town = town(mesos).await;
    town.settled(6).await;
    town.bad_weather("/master", 6).await;
    for n in 0..6 {
        town.platform().update(&format!("web.{n}"), "TASK_FINISHED", None);
    }
    town.mesh.endpoints("web", 0, SYNC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_has_just_taken_over_takes_nothing_away() {
    let town = town(running(6)).await;
    town.settled(6).await;
    let subscribed = async |times: u64| {
        until(&format!("{times} subscriptions"), NOTICED, async || match town.platform().subscriptions() {
            found if found >= times => Ok(()),
            found => Err(found),
        })
        .await;
    };
    town.platform().recover();
    town.sim.faults.cut_streams();
    subscribed(2).await;
    // What comes after it shows that the new state has been taken in.
    town.platform().run("web", "web.6", at(6));
    town.settled(7).await;
    town.platform().agent(true);
    subscribed(3).await;
    town.platform().run("web", "web.7", at(7));
    town.settled(8).await;
    town.platform().recover();
    town.sim.faults.cut_streams();
    subscribed(4).await;
    town.platform().agent(false);
    town.mesh.endpoints("web", 0, SYNC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_master_leads_to_the_one_that_leads_and_masters_that_name_each_other_are_no_leader() {
    let standby = running(0);
    let leader = Sim::start(running(2), free_port()).await.unwrap();
    standby.follow(Some(&leader.address.to_string()));
    let town = town(standby).await;
    town.settled(2).await;
    leader.platform.follow(Some(&town.sim.address.to_string()));
    leader.faults.cut_streams();
    town.source("stale", "is there a leader?").await;
    town.mesh.endpoints("web", 2, SYNC).await;
    leader.platform.follow(None);
    leader.platform.run("web", "web.2", at(2));
    town.settled(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_in_pieces_is_read_and_one_without_heartbeats_is_given_up() {
    let town = town(running(1)).await;
    town.settled(1).await;
    town.sim.faults.set("/master", Fault::Split(1));
    town.platform().run("web", "web.1", at(1));
    town.settled(2).await;
    town.sim.faults.set("/master", Fault::Hang);
    town.source("stale", "silent for 3 s").await;
    town.platform().update("web.1", "TASK_FINISHED", None);
    town.sim.faults.heal();
    town.settled(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_says_what_would_be_told_and_what_stands_in_the_way() {
    let town = town(running(2)).await;
    let (code, table, said) = town.check(&[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(table.contains("default     web    http:80/http   2           2"), "{table}");
    town.platform().guard(Some("Basic bWU6c2VjcmV0"));
    let (code, _, said) = town.check(&[]).await;
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("give user:password of a principal that may view tasks"), "{said}");
    assert_eq!(town.check(&["--token", "me:secret"]).await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_mesos_is_followed_from_launch_through_health_to_the_end() {
    let mesh = Mesh::start().await;
    let mut mesos = RealMesos::start(mesh.dir.path()).await;
    let _adapter = mesh.adapter("mesos", &["--address", &mesos.url()]);
    mesos.launch("web", "web.1", 31_000);
    mesos.launch("web", "web.2", 31_001);
    // Their checks have not said anything yet.
    mesh.endpoints("web", 0, NOTICED).await;
    mesos.health("web.1", true);
    mesos.health("web.2", true);
    mesh.endpoints("web", 2, NOTICED).await;
    mesos.health("web.2", false);
    mesh.endpoints("web", 1, NOTICED).await;
    mesos.health("web.2", true);
    mesh.endpoints("web", 2, NOTICED).await;
    mesos.kill("web.1");
    mesh.endpoints("web", 1, NOTICED).await;

    drop(mesos);
    mesh.source("mesos/local", "stale", "does not answer", NOTICED).await;
    mesh.endpoints("web", 1, SYNC).await;
}
