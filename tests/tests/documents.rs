//! Broken documents: `weft apply` and `weft validate` refuse each with file, line and column, and nothing changes.

use std::path::Path;

use weft_tests::mesh::Mesh;

/// What a command ends with when documents are refused: it ran, and the answer is no.
const REFUSED: i32 = 1;

/// What the mesh has before, and must have after.
const GOOD: &str = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop}
spec:
  host: shop
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop]
  http:
  - route: [{destination: {host: shop, subset: v1}}]
";

/// A good document that stands beside the broken one: it must not be stored either.
const NEIGHBOUR: &str = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: neighbour}
spec: {host: neighbour}
---
";

/// One document that is refused.
struct Case {
    name: &'static str,
    /// The text; `HEAD` stands for the first three lines of a routing document of the shop.
    yaml: &'static str,
    /// Line and column, counted from the first line of the text.
    place: (u32, u32),
    /// Part of the message.
    message: &'static str,
    /// Whether it can be seen without the mesh.
    offline: bool,
}

const HEAD: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: shop}\n";

const CASES: [Case; 10] = [
    Case {
        name: "bad YAML",
        yaml: "HEADspec:\n  hosts: [shop\n  http: []\n",
        place: (6, 7),
        message: "bad YAML",
        offline: true,
    },
    Case {
        name: "an unknown field",
        yaml: "HEADspec:\n  hosts: [shop]\n  http:\n  - route: [{destination: {host: shop, subset: v2}}]\n    timeuot: 1s\n",
        place: (8, 5),
        message: "timeuot",
        offline: true,
    },
    Case {
        name: "a field that is not supported",
        yaml: "HEADspec:\n  hosts: [shop]\n  http:\n  - fault: {abort: {http2Error: REFUSED}}\n    route: [{destination: {host: shop, subset: v2}}]\n",
        place: (7, 21),
        message: "http2Error",
        offline: true,
    },
    Case {
        name: "a missing subset",
        yaml: "HEADspec:\n  hosts: [shop]\n  http:\n  - route: [{destination: {host: shop, subset: v9}}]\n",
        place: (7, 48),
        message: "subset \"v9\"",
        offline: false,
    },
    Case {
        name: "weights that do not sum to 100",
        yaml: "HEADspec:\n  hosts: [shop]\n  http:\n  - route:\n    - {destination: {host: shop, subset: v1}, weight: 90}\n    - {destination: {host: shop, subset: v2}, weight: 20}\n",
        place: (8, 7),
        message: "the weights sum to 110",
        offline: true,
    },
    Case {
        name: "one document twice in a file",
        yaml: "HEADspec: {hosts: [shop], http: [{directResponse: {status: 200}}]}\n---\nHEADspec: {hosts: [shop], http: [{directResponse: {status: 404}}]}\n",
        place: (8, 18),
        message: "VirtualService/default/shop is defined twice",
        offline: true,
    },
    Case {
        name: "two routes of one name",
        yaml: "HEADspec:\n  hosts: [shop]\n  http:\n  - name: all\n    match: [{uri: {prefix: /a}}]\n    directResponse: {status: 200}\n  - name: all\n    directResponse: {status: 404}\n",
        place: (10, 5),
        message: "\"all\" is used twice",
        offline: true,
    },
    Case {
        name: "two subsets of one name",
        yaml: "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: shop}\nspec:\n  host: shop\n  subsets:\n  - {name: v1, labels: {version: v1}}\n  - {name: v1, labels: {version: v2}}\n",
        place: (8, 12),
        message: "subset \"v1\" is named twice",
        offline: true,
    },
    Case {
        name: "an unknown kind",
        yaml: "apiVersion: networking.istio.io/v1\nkind: VirtualServices\nmetadata: {name: shop}\nspec: {}\n",
        place: (2, 7),
        message: "VirtualServices",
        offline: true,
    },
    Case {
        name: "a value of the wrong type",
        yaml: "HEADspec:\n  hosts: [shop]\n  http:\n  - route: [{destination: {host: shop, port: {number: http}}}]\n",
        place: (7, 55),
        message: "port.number",
        offline: true,
    },
];

/// Everything that is stored, with versions; and the revision of the configuration.
async fn state(mesh: &Mesh) -> (String, u64) {
    let listed = mesh.command(&["get", "documents", "-A", "-o", "json"]);
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
    (String::from_utf8(listed.stdout).unwrap(), mesh.status().await.unwrap().revision)
}

fn write(folder: &Path, name: &str, yaml: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, yaml).unwrap();
    file.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_broken_document_is_refused_at_its_place_and_nothing_changes() {
    let mesh = Mesh::start().await;
    let folder = mesh.dir.path();
    let good = write(folder, "good.yaml", GOOD);
    assert_eq!(mesh.command(&["apply", "-f", &good]).status.code(), Some(0));
    let before = state(&mesh).await;
    let mut wrong = String::new();
    for case in &CASES {
        let yaml = NEIGHBOUR.to_owned() + &case.yaml.replace("HEAD", HEAD);
        let file = write(folder, "broken.yaml", &yaml);
        let line = case.place.0 + NEIGHBOUR.lines().count() as u32;
        let told = format!("{file}:{line}:{}: error: ", case.place.1);
        let mut commands = vec![vec!["apply", "-f", &file], vec!["validate", &file, "--live"]];
        if case.offline {
            commands.push(vec!["validate", &file]);
        }
        for command in commands {
            let output = mesh.command(&command);
            // Where nothing can be done the problems are the answer; where something was to be done they are why not.
            let answer = if command[0] == "apply" { &output.stderr } else { &output.stdout };
            let text = String::from_utf8_lossy(answer);
            let found = text.lines().any(|line| line.starts_with(&told) && line.contains(case.message));
            if output.status.code() != Some(REFUSED) || !found {
                wrong.push_str(&format!("{}: {command:?}: {:?}\n{text}\n", case.name, output.status.code()));
            }
        }
        assert_eq!(state(&mesh).await, before, "{} changed something", case.name);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_document_in_two_files_of_one_apply_is_refused_in_the_second() {
    let mesh = Mesh::start().await;
    let [first, second] = ["a.yaml", "b.yaml"].map(|name| write(mesh.dir.path(), name, GOOD));
    let before = state(&mesh).await;
    for command in [["apply", "-f", &first, &second], ["validate", "-f", &first, &second]] {
        let output = mesh.command(&command);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(REFUSED), "{command:?}: {text}");
        for (line, name) in [(1, "DestinationRule/default/shop"), (8, "VirtualService/default/shop")] {
            let place =
                format!("{second}:{line}:1: error: metadata.name: {name} is also defined in {first}:{line}");
            assert!(text.contains(&place), "{command:?}: no {place:?} in {text}");
        }
    }
    assert_eq!(state(&mesh).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_file_of_documents_is_bad_input() {
    let mesh = Mesh::start().await;
    for command in [["apply", "-f", "/nowhere.yaml"], ["validate", "-f", "/nowhere.yaml"]] {
        let output = mesh.command(&command);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {output:?}");
    }
}
