//! A mesh over a real Consul: how fast what happens there is everywhere, and that its absence takes nothing away.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use weft_proto::node::NodeMetadata;
use weft_tests::{
    backend::{Attempts, Backend},
    client::{Connection, Protocol, empty, get},
    consul::Consul,
    load::{Load, Plan, Tally},
    mesh::{Mesh, Proxy, SYNC, http_get},
    program::{free_port, weft},
    wait::until,
};

/// The longest that a change in Consul may take until every proxy has acknowledged it and acts on it.
const CHANGE_MAX: Duration = Duration::from_secs(1);

/// Tries of a change, of which the best counts: this machine does other things, too.
const TRIES: usize = 3;

/// How long Consul stays away.
const AWAY: Duration = Duration::from_secs(60);

/// When the adapter asks again at the latest, and a little.
const NOTICED: Duration = Duration::from_secs(45);

/// Requests that show which versions serve: an endpoint is overlooked once in 60,000 looks.
const LOOKS: usize = 16;

/// The adapter's name for Consul.
const SOURCE: &str = "consul/local";

/// Consul, a control plane, the adapter between, and a proxy of either kind.
struct Town {
    consul: Consul,
    mesh: Mesh,
    doors: [SocketAddr; 2],
    _proxies: [Proxy; 2],
}

impl Town {
    async fn open() -> Self {
        let mut mesh = Mesh::start().await;
        let consul = Consul::start(mesh.dir.path()).await;
        mesh.follow(&consul);
        let doors = [free_port(), free_port()];
        let metadata = doors.map(|door| NodeMetadata {
            namespace: "default".into(),
            workload: "client".into(),
            outbound_http: Some(door),
            ..NodeMetadata::default()
        });
        let proxies = [mesh.weft_proxy("weft", &metadata[0]).await, mesh.envoy("envoy", &metadata[1]).await];
        mesh.synced(2, SYNC).await;
        let town = Self { consul, mesh, doors, _proxies: proxies };
        town.source("live", 0).await;
        town
    }

    /// Versions of `web` that answer at a door.
    async fn serving(&self, door: SocketAddr) -> Result<BTreeSet<String>, String> {
        let mut connection = Connection::open(door, Protocol::H1).await.map_err(|error| error.to_string())?;
        let mut found = BTreeSet::new();
        for _ in 0..LOOKS {
            let request = get(Protocol::H1, "web", "/").body(empty()).expect("a fixed request is valid");
            let answer = connection.send(request).await.map_err(|error| error.to_string())?;
            if answer.status == 200 {
                found.insert(answer.version().to_owned());
            }
        }
        Ok(found)
    }

    /// Waits until both proxies send to these versions of `web`, and have acknowledged a revision after `before`.
    async fn everywhere(&self, versions: &[&str], before: u64) {
        let wanted: BTreeSet<String> = versions.iter().map(|version| (*version).to_owned()).collect();
        until(&format!("{wanted:?} everywhere"), SYNC, async || {
            let status = self.mesh.status().await?;
            let current = status.revision > before
                && status.live_revision >= status.revision
                && status.proxies.iter().all(|proxy| proxy.state == "synced" && proxy.rejections.is_empty());
            if !current {
                return Err(format!("{status:#?}"));
            }
            for door in self.doors {
                let found = self.serving(door).await?;
                if found != wanted {
                    return Err(format!("{found:?}"));
                }
            }
            Ok(())
        })
        .await;
    }

    /// Does something in Consul and measures from there until it is everywhere.
    async fn measure(&self, change: impl Future<Output = ()>, versions: &[&str]) -> Duration {
        let before = self.mesh.status().await.unwrap().revision;
        change.await;
        let done = Instant::now();
        self.everywhere(versions, before).await;
        done.elapsed()
    }

    /// Waits until `weft status` shows the source in this state with so many endpoints held back, and the metrics too.
    async fn source(&self, state: &str, held: u32) -> String {
        until(&format!("{SOURCE} {state} with {held} held"), NOTICED, async || {
            let shown = self.mesh.command(&["status"]);
            let text = String::from_utf8_lossy(&shown.stdout).into_owned();
            let row = text.lines().find(|line| line.starts_with(SOURCE)).unwrap_or_default();
            let cells: Vec<&str> = row.split_whitespace().collect();
            let metric = format!("weft_source_state{{source=\"{SOURCE}\",state=\"{state}\"}} 1");
            let held_metric = format!("weft_source_held_endpoints{{source=\"{SOURCE}\"}} {held}");
            let (_, metrics) = http_get(self.mesh.admin, "/metrics").await?;
            let told =
                metrics.lines().any(|line| line == metric) && metrics.lines().any(|line| line == held_metric);
            if cells.get(2) == Some(&state) && cells.get(5) == Some(&held.to_string().as_str()) && told {
                Ok(row.to_owned())
            } else {
                Err(format!("{text}\n{metrics}"))
            }
        })
        .await
    }

    fn loads(&self) -> [Load; 2] {
        self.doors.map(|target| {
            let (host, path) = ("web".to_owned(), "/".to_owned());
            Load::start(Plan { target, host, path, rate: 200, connections: 4 })
        })
    }
}

async fn backends(count: usize) -> Vec<Backend> {
    let mut backends = Vec::new();
    for n in 1..=count {
        backends.push(Backend::http("web", &format!("v{n}"), Attempts::default()).await);
    }
    backends
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_in_consul_is_acknowledged_by_every_proxy_within_a_second() {
    let town = Town::open().await;
    let (consul, backends) = (&town.consul, backends(2).await);
    let steps = ["registered", "joined", "failing", "passing again", "left", "gone"];
    let mut best = [Duration::MAX; 6];
    for _ in 0..TRIES {
        let took = [
            town.measure(consul.register("web", "web-1", "v1", backends[0].address), &["v1"]).await,
            town.measure(consul.register("web", "web-2", "v2", backends[1].address), &["v1", "v2"]).await,
            town.measure(consul.check("web-2", false), &["v1"]).await,
            town.measure(consul.check("web-2", true), &["v1", "v2"]).await,
            town.measure(consul.deregister("web-2"), &["v1"]).await,
            town.measure(consul.deregister("web-1"), &[]).await,
        ];
        best.iter_mut().zip(took).for_each(|(best, took)| *best = took.min(*best));
        if best.iter().all(|took| *took <= CHANGE_MAX) {
            break;
        }
    }
    let told: Vec<_> = steps.iter().zip(best).collect();
    println!("{told:?}");
    assert!(best.iter().all(|took| *took <= CHANGE_MAX), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_without_consul_and_an_empty_comeback_cost_no_endpoint_and_no_request() {
    const COUNT: usize = 6;
    let mut town = Town::open().await;
    let backends = backends(COUNT).await;
    let names: Vec<(String, String)> = (1..=COUNT).map(|n| (format!("web-{n}"), format!("v{n}"))).collect();
    let versions: Vec<&str> = names.iter().map(|(_, version)| version.as_str()).collect();
    for ((id, version), backend) in names.iter().zip(&backends) {
        town.consul.register("web", id, version, backend.address).await;
    }
    town.everywhere(&versions, 0).await;
    let loads = town.loads();

    town.consul.kill();
    let killed = Instant::now();
    let row = town.source("stale", 0).await;
    assert!(row.contains(&town.consul.url()), "it says who does not answer: {row}");
    tokio::time::sleep_until((killed + AWAY).into()).await;
    town.mesh.endpoints("web", COUNT, Duration::ZERO).await;

    town.consul.restart().await;
    let row = town.source("held", COUNT as u32).await;
    assert!(row.contains("held back"), "{row}");
    town.mesh.endpoints("web", COUNT, Duration::ZERO).await;
    town.everywhere(&versions, 0).await;

    for ((id, version), backend) in names.iter().zip(&backends) {
        town.consul.register("web", id, version, backend.address).await;
    }
    town.source("live", 0).await;
    town.mesh.endpoints("web", COUNT, SYNC).await;
    town.everywhere(&versions, 0).await;
    for load in loads {
        let (tally, rate): (Tally, f64) = load.stop().await;
        assert_eq!(tally.failed(), 0, "{tally:?}");
        assert_eq!(tally.versions.keys().collect::<Vec<_>>(), versions.iter().collect::<Vec<_>>());
        assert!(
            rate * killed.elapsed().as_secs_f64() > 100.0 * AWAY.as_secs_f64(),
            "the load was steady: {rate}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_lets_a_removal_through_that_was_held_back() {
    let mut town = Town::open().await;
    let backends = backends(2).await;
    town.consul.register("web", "web-1", "v1", backends[0].address).await;
    town.consul.register("web", "web-2", "v2", backends[1].address).await;
    town.everywhere(&["v1", "v2"], 0).await;
    town.consul.kill();
    town.source("stale", 0).await;
    town.consul.restart().await;
    town.source("held", 2).await;

    let unknown = town.mesh.command(&["source", "confirm", "consul/elsewhere"]);
    assert_eq!(unknown.status.code(), Some(4), "{unknown:?}");
    let before = town.mesh.status().await.unwrap().revision;
    let confirmed = town.mesh.command(&["source", "confirm", SOURCE, "-o", "jsonl"]);
    assert_eq!(confirmed.status.code(), Some(0), "{confirmed:?}");
    let told: serde_json::Value = serde_json::from_slice(&confirmed.stdout).unwrap();
    assert_eq!(told["removed"], 2, "{told}");
    town.everywhere(&[], before).await;
    town.source("live", 0).await;

    town.consul.register("web", "web-1", "v1", backends[0].address).await;
    town.everywhere(&["v1"], before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_says_what_would_be_told_and_what_stands_in_the_way() {
    let mesh = Mesh::start().await;
    let open = Consul::start(mesh.dir.path()).await;
    open.register("web", "web-1", "v1", free_port()).await;
    open.register("web", "web-2", "v2", free_port()).await;
    open.check("web-2", false).await;
    let (guarded, token) = Consul::start_guarded(mesh.dir.path()).await;
    let nobody = format!("http://{}", free_port());
    let control = format!("http://{}", mesh.ads);
    let look = |consul: &str, control: &str, more: &[&str]| {
        let mut command = std::process::Command::new(weft());
        command.args(["adapter", "consul", "--check", "--address", consul, "--control", control]).args(more);
        let output = command.output().expect("weft can be run");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };

    let (code, table, said) = look(&open.url(), &control, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(table.contains("default     web    http:80/http   2           1"), "{table}");
    assert!(said.contains("no token is given") && said.contains("takes connections"), "{said}");

    let cases: [(&str, &str, &[&str], i32, &str); 5] = [
        (&nobody, &control, &[], 1, "does not answer: Connection refused"),
        (&open.url(), &nobody, &[], 3, "start it with `weft control`"),
        (&guarded.url(), &control, &[], 5, "give a token that may read services and nodes"),
        (&guarded.url(), &control, &["--token", "no-such-token"], 5, "give a token"),
        (&guarded.url(), &control, &["--token", token], 0, "the token is taken"),
    ];
    for (consul, control, more, code, reason) in cases {
        let (got, _, said) = look(consul, control, more);
        assert_eq!(got, Some(code), "{more:?}: {said}");
        assert!(said.contains(reason), "{more:?}: {said}");
    }
}
