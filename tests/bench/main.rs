//! Measures `weft proxy` beside HAProxy, nginx and Envoy: equal work, one worker each, taking turns. A tool, not a test.

mod peers;

use std::{collections::BTreeMap, fs, io::Write as _, net::SocketAddr, path::Path, process::Command};

use weft_proto::node::{NodeMetadata, Upstream};
use weft_tests::{
    mesh::{Mesh, SYNC},
    program::{free_ports, root},
    services::{Registered, files_yaml},
    wait::listening,
};

/// Turns of each proxy; the median counts.
const ROUNDS: usize = 3;

/// Seconds of load in one turn.
const SECONDS: u32 = 4;

/// Kernel ticks a second, as /proc counts CPU time on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Metrics in the order of the table, by the names of the raw results.
const METRICS: [&str; 5] = ["rps", "cpu_us_per_request", "p50_us", "p99_us", "rss_mb"];

/// One turn's results in the order of `METRICS`.
type Turn = [f64; METRICS.len()];

/// A proxy that takes part, and where it takes each work.
struct Contender {
    name: &'static str,
    process: u32,
    doors: BTreeMap<&'static str, SocketAddr>,
}

#[tokio::main]
async fn main() {
    let mut mesh = Mesh::start().await;
    let dir = mesh.dir.path().to_owned();
    let [h1, h2] = free_ports();
    let _backend = peers::backend(&dir, h1, h2);
    listening("backend", h1).await;
    let service = |name: &str, protocol, at| Registered {
        name: name.into(),
        protocol,
        endpoints: vec![("v1".into(), at)],
    };
    let services = [service("h1", "http", h1), service("h2", "http2", h2), service("tcp", "tcp", h1)];
    mesh.publish("services.yaml", &files_yaml(&services));
    mesh.endpoints("tcp", 1, SYNC).await;
    let doors = || -> BTreeMap<&'static str, SocketAddr> {
        let free: [SocketAddr; 3] = free_ports();
        ["h1", "h2", "tcp"].into_iter().zip(free).collect()
    };
    let metadata = |doors: &BTreeMap<&'static str, SocketAddr>| {
        let upstream = |(name, bind): (&&'static str, &SocketAddr)| Upstream {
            bind: (*bind).into(),
            service: (*name).to_owned(),
            port: 0,
        };
        NodeMetadata { upstreams: doors.iter().map(upstream).collect(), ..NodeMetadata::default() }
    };
    let ours = doors();
    let mut weft = mesh.weft_proxy("weft", &metadata(&ours)).await;
    mesh.synced(1, SYNC).await;
    let mut contenders = vec![Contender { name: "weft", process: weft.program().id(), doors: ours }];
    let (_programs, others) = peers::start(&dir, h1, h2, doors);
    contenders.extend(others);
    let mut turns = BTreeMap::<(&str, &str), Vec<Turn>>::new();
    for work in ["h1", "h2", "tcp"] {
        for _ in 0..ROUNDS {
            for contender in contenders.iter().filter(|contender| contender.doors.contains_key(work)) {
                listening(contender.name, contender.doors[work]).await;
                let turn = measure(contender, work, &dir);
                turns.entry((work, contender.name)).or_default().push(turn);
            }
        }
    }
    report(&turns);
}

/// Loads one proxy and returns what it took.
fn measure(contender: &Contender, work: &str, dir: &Path) -> Turn {
    let log = dir.join("h2load.log");
    let _ = fs::remove_file(&log);
    let url = format!("http://{}/", contender.doors[work]);
    let mut command = Command::new("h2load");
    command.args(["-t", "1", "-D", &SECONDS.to_string(), "--log-file"]).arg(&log);
    match work {
        "h2" => command.args(["-c", "4", "-m", "10"]),
        _ => command.args(["--h1", "-c", "32"]),
    };
    let before = cpu_seconds(contender.process);
    let output = command.arg(url).output().expect("h2load is missing: install nghttp2-client");
    let cpu = cpu_seconds(contender.process) - before;
    let text = fs::read_to_string(&log).unwrap_or_default();
    let mut times: Vec<f64> = Vec::new();
    for line in text.lines() {
        let mut fields = line.split('\t').skip(1);
        if fields.next() == Some("200") {
            times.extend(fields.next().and_then(|field| field.parse::<f64>().ok()));
        }
    }
    assert!(!times.is_empty(), "{} {work}: {}", contender.name, String::from_utf8_lossy(&output.stdout));
    times.sort_by(f64::total_cmp);
    let count = times.len() as f64;
    let at = |share: f64| times[((count - 1.0) * share) as usize];
    [count / f64::from(SECONDS), cpu * 1e6 / count, at(0.5), at(0.99), resident_mb(contender.process)]
}

/// A process and its direct children: a master with one worker counts as one.
fn family(process: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    std::iter::once(process).chain(children.split_whitespace().filter_map(|id| id.parse().ok())).collect()
}

fn cpu_seconds(process: u32) -> f64 {
    let ticks = |id: &u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("the process runs");
        let after = stat.rsplit_once(')').expect("stat names the program").1;
        let fields: Vec<f64> =
            after.split_whitespace().skip(11).take(2).filter_map(|f| f.parse().ok()).collect();
        fields.iter().sum::<f64>()
    };
    family(process).iter().map(ticks).sum::<f64>() / TICKS_PER_SECOND
}

fn resident_mb(process: u32) -> f64 {
    let kilobytes = |id: &u32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).map(str::to_owned);
        line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    family(process).iter().map(kilobytes).sum::<f64>() / 1024.0
}

fn median(turns: &[Turn], metric: usize) -> f64 {
    let mut values: Vec<_> = turns.iter().map(|turn| turn[metric]).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints the table and writes the raw results. nginx speaks HTTP/1.1 to its backend: its h2 is downstream only.
fn report(turns: &BTreeMap<(&str, &str), Vec<Turn>>) {
    let folder = root().join("target/bench");
    fs::create_dir_all(&folder).expect("target/ can be written");
    let mut raw = fs::File::create(folder.join("latest.jsonl")).expect("the results can be written");
    println!("work  proxy         req/s   CPU us/req    p50 us    p99 us    RSS MB");
    for ((work, name), all) in turns {
        let [rps, cpu, p50, p99, rss] = std::array::from_fn(|metric| median(all, metric));
        println!("{work:<5} {name:<8} {rps:>10.0} {cpu:>12.1} {p50:>9.0} {p99:>9.0} {rss:>9.1}");
        let Some(ours) = turns.get(&(*work, "weft")).filter(|_| *name != "weft") else {
            continue;
        };
        for (i, metric) in METRICS.iter().enumerate() {
            let (ours, theirs) = (median(ours, i), median(all, i));
            let line = serde_json::json!({"work": work, "metric": metric, "peer": name,
                "ours": ours, "theirs": theirs, "ratio": ours / theirs});
            writeln!(raw, "{line}").expect("the results can be written");
            println!("      weft is {:.2} of {name} in {metric}", ours / theirs);
        }
    }
    println!("(nginx speaks HTTP/1.1 to its backend: its h2 is downstream only)");
}
