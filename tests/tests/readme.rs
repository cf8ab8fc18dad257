//! Every command in the README is run, on a live mesh. The table below says with which ports and paths: a line that it
//! lacks fails the test, and so does one that the README lacks.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, process::Command};

use weft_tests::{
    backend::{Attempts, Backend},
    client::{Connection, Protocol, empty, get},
    consul::Consul,
    program::{Program, free_ports, root, weft},
    wait::{START, until},
};

/// How a line is tried.
enum Try {
    /// It runs until it is asked to end, and does not end before; then it ends with 0.
    Stays,
    /// It ends with 0, and prints this.
    Prints(&'static str),
    /// It has a test of its own.
    Elsewhere,
}

/// A line of the README, what is run for it, and how. `{NAME}` stands for a port or path of this test; nothing else of
/// the line may be left out.
const LINES: [(&str, &str, Try); 12] = [
    ("cargo run --release -- demo", "", Try::Elsewhere),
    ("tests/run", "", Try::Elsewhere),
    (
        "weft control --insecure-loopback --data-dir /var/lib/weft",
        "weft control --insecure-loopback --data-dir {data} --xds-bind {ads} --admin-bind {admin}",
        Try::Stays,
    ),
    (
        "weft adapter consul --address http://127.0.0.1:8500",
        "weft adapter consul --address http://{consul} --control {ads}",
        Try::Stays,
    ),
    ("weft adapter files --dir deploy/files", "weft adapter files --dir {files} --control {ads}", Try::Stays),
    (
        "weft proxy --service web --upstream 127.0.0.1:9001=api:80",
        "weft proxy --service web --upstream {upstream}=api:80 --control {ads} --admin-bind {proxy}",
        Try::Stays,
    ),
    ("weft intercept --dry-run", "weft intercept --dry-run", Try::Prints("redirect to :15001")),
    (
        "weft apply -f canary.yaml --wait",
        "weft apply -f {canary} --wait --address {admin}",
        Try::Prints("VirtualService    default     api    created   1"),
    ),
    (
        "weft canary set api v2=50",
        "weft canary set api v2=50 --address {admin}",
        Try::Prints("v2        50%"),
    ),
    ("weft status", "weft status --address {admin}", Try::Prints("synced")),
    ("weft get services", "weft get services --address {admin}", Try::Prints("api")),
    ("weft validate -f canary.yaml", "weft validate -f {canary}", Try::Prints("")),
];

/// The commands of the README's code blocks, without their comments.
fn readme() -> Vec<String> {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).map(|line| line.split(" #").next().unwrap_or(line).trim());
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn the_table_has_every_line_of_the_readme_and_no_other() {
    let table: Vec<String> = LINES.iter().map(|(line, ..)| (*line).to_owned()).collect();
    assert_eq!(readme(), table);
    for (line, run, _) in LINES.iter().filter(|(.., how)| !matches!(how, Try::Elsewhere)) {
        let fixed = |word: &&str| word.starts_with('-') || word.bytes().all(|b| b.is_ascii_lowercase());
        for word in line.split_whitespace().filter(fixed) {
            assert!(run.split_whitespace().any(|found| found == word), "{line}: the table leaves out {word}");
        }
    }
}

/// What the names in braces stand for.
struct Places(BTreeMap<&'static str, String>);

impl Places {
    fn fill(&self, line: &str) -> Vec<String> {
        let mut line = line.to_owned();
        for (name, place) in &self.0 {
            line = line.replace(&format!("{{{name}}}"), place);
        }
        line.split_whitespace().skip(1).map(str::to_owned).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tour_works() {
    let dir = tempfile::TempDir::new().unwrap();
    let consul = Consul::start(dir.path()).await;
    consul.register("billing", "billing-1", "v1", consul.http).await;
    let api = [
        Backend::http("api", "v1", Attempts::default()).await,
        Backend::http("api", "v2", Attempts::default()).await,
    ];
    // The example's own addresses, but for those of the service that is called here.
    let files = dir.path().join("files");
    fs::create_dir(&files).unwrap();
    for name in ["shop.yaml", "workloads.yaml"] {
        let text = fs::read_to_string(root().join("deploy/files").join(name)).unwrap();
        let text = text.replace("7002", &api[0].address.port().to_string());
        fs::write(files.join(name), text.replace("7003", &api[1].address.port().to_string())).unwrap();
    }
    let canary = dir.path().join("canary.yaml");
    let example = |name: &str| fs::read_to_string(root().join("deploy/examples/demo").join(name)).unwrap();
    fs::write(&canary, example("versions.yaml") + "---\n" + &example("canary.yaml")).unwrap();
    let [ads, admin, upstream, proxy] = free_ports();
    let places = Places(BTreeMap::from([
        ("data", dir.path().join("data").display().to_string()),
        ("files", files.display().to_string()),
        ("canary", canary.display().to_string()),
        ("consul", consul.http.to_string()),
        ("ads", ads.to_string()),
        ("admin", admin.to_string()),
        ("upstream", upstream.to_string()),
        ("proxy", proxy.to_string()),
    ]));
    let command = |line: &str| {
        let mut command = Command::new(weft());
        command.args(places.fill(line));
        command
    };
    let run = |line: &str| {
        let output = command(line).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let mut staying = Vec::new();
    for (number, (line, filled, how)) in LINES.iter().enumerate() {
        match how {
            Try::Elsewhere => {}
            Try::Stays => {
                let name = format!("line-{number}");
                staying.push((line, Program::start(&name, dir.path(), &mut command(filled))));
            }
            Try::Prints(text) => {
                connected(&command).await;
                let printed = run(filled);
                assert!(printed.contains(text), "{line}: no {text:?} in {printed}");
            }
        }
    }
    let services = run("weft get services -o name --address {admin}");
    for name in ["api", "billing", "search", "web"] {
        assert!(services.lines().any(|line| line.ends_with(&format!("/{name}"))), "{name}: {services}");
    }
    let mut connection = Connection::open(upstream, Protocol::H1).await.unwrap();
    let answer = connection.send(get(Protocol::H1, "api", "/").body(empty()).unwrap()).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("x-echo-service").as_deref()), (200, Some("api")));
    drop(connection);
    for (line, mut program) in staying.into_iter().rev() {
        assert!(program.running(), "{line} ended by itself");
        program.terminate();
        assert_eq!(program.ended(START).await, Some(0), "{line}");
    }
}

/// Waits until the proxy is in sync and both sources are live.
async fn connected(command: &impl Fn(&str) -> Command) {
    until("a proxy and two live sources", START, async || {
        let lists = ["weft get proxies --address {admin}", "weft get sources --address {admin}"];
        let text = lists.map(|line| {
            let output = command(line).output().expect("weft can be run");
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
        });
        let text = text.concat();
        let ready = text.matches(" synced ").count() == 1 && text.matches(" live ").count() == 2;
        if ready { Ok(()) } else { Err(text) }
    })
    .await;
}

#[test]
fn the_demo_takes_its_tour_and_every_step_passes() {
    let output = Command::new(weft()).args(["demo", "--script", "--requests", "4000"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains('✗') && text.contains("every step passed"), "{text}");
    let split = text.split("a canary gets 5% of the requests").nth(1).and_then(|rest| rest.lines().nth(1));
    assert!(split.is_some_and(|line| line.contains("4000 answered, 0 failed, v2 ")), "{text}");
}

#[test]
fn what_passes_the_tests_is_what_ci_runs() {
    let run = root().join("tests/run");
    assert!(fs::metadata(&run).unwrap().permissions().mode() & 0o111 != 0, "tests/run is no program");
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(ci.lines().any(|line| line.trim() == "tests/run"), "CI runs something else: {ci}");
}
