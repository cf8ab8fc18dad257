//! What `deploy/` holds: each file is checked by the tool that knows its kind, and a file that none knows fails.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use weft_tests::program::{peer, root, weft};

/// Worst exposure that a unit may have, tenths (`systemd-analyze security`).
const EXPOSURE_MAX: &str = "20";
/// Folders that other tests read: what the demo and the file adapter use, and configurations of Envoy.
const ELSEWHERE: [&str; 3] = ["envoy", "examples", "files"];

/// Files of a folder whose names end so.
fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let listed = fs::read_dir(root().join("deploy").join(folder)).unwrap();
    let found = listed.map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = found.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    found.sort();
    assert!(!found.is_empty(), "no {end} in {folder}");
    found
}

/// Runs a tool of `.cache/peers/deploy`, which must find nothing wrong.
#[track_caller]
fn passes(tool: &str, arguments: &[&str], file: &Path) {
    let path = peer(tool, &format!("deploy/{tool}"));
    accepted(
        Command::new(path.expect("a tool is missing: run tests/peers/install")).args(arguments).arg(file),
    );
}

#[track_caller]
fn accepted(command: &mut Command) {
    let output = command.output().expect("the tool can be run");
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn every_file_has_a_tool_that_checks_it() {
    let known = [
        ("docker", "Dockerfile"),
        ("docker", "compose.yaml"),
        ("kubernetes", ".yaml"),
        ("nomad", ".nomad.hcl"),
        ("prometheus", ".yaml"),
        ("systemd", ".service"),
    ];
    let known: BTreeSet<PathBuf> = known.into_iter().flat_map(|(folder, end)| files(folder, end)).collect();
    for entry in fs::read_dir(root().join("deploy")).unwrap() {
        let folder = entry.unwrap().path();
        if ELSEWHERE.iter().any(|name| folder.ends_with(name)) {
            continue;
        }
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            assert!(known.contains(&path), "{} is checked by nothing", path.display());
        }
    }
}

#[test]
fn units_are_well_formed_and_leave_little_open() {
    let folder = tempfile::tempdir().unwrap();
    for path in files("systemd", ".service") {
        // The program is where this build has put it, and a template is tried by an instance.
        let text = fs::read_to_string(&path).unwrap();
        let text = text.replace("/usr/bin/weft", &weft().display().to_string());
        let name = path.file_name().unwrap().to_string_lossy().replace('@', "@nomad");
        let unit = folder.path().join(name);
        fs::write(&unit, text).unwrap();
        accepted(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit));
        let threshold = format!("--threshold={EXPOSURE_MAX}");
        accepted(Command::new("systemd-analyze").args(["security", "--offline=true", &threshold]).arg(&unit));
    }
}

#[test]
fn alerts_fire_when_they_should_and_ask_for_metrics_that_there_are() {
    let folder = root().join("deploy/prometheus");
    passes("promtool", &["check", "config"], &folder.join("prometheus.yaml"));
    passes("promtool", &["check", "rules"], &folder.join("alerts.yaml"));
    passes("promtool", &["test", "rules"], &folder.join("alerts_test.yaml"));
    let mut sources = String::new();
    let mut folders: Vec<PathBuf> =
        ["control", "dataplane"].iter().map(|name| root().join(name).join("src")).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => sources.push_str(&fs::read_to_string(path).unwrap()),
            }
        }
    }
    let alerts = fs::read_to_string(folder.join("alerts.yaml")).unwrap();
    let asked = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let words = asked.flat_map(|line| line.split(|c: char| !c.is_ascii_lowercase() && c != '_'));
    for metric in words.filter(|word| word.starts_with("weft_")) {
        assert!(sources.contains(&format!("\"{metric}\"")), "no metric {metric}");
    }
}

#[test]
fn jobs_manifests_and_images_are_what_their_platforms_take() {
    for path in files("nomad", ".nomad.hcl") {
        passes("bin/hcl2tojson", &[], &path);
    }
    for path in files("kubernetes", ".yaml") {
        passes("bin/kubernetes-validate", &["--strict"], &path);
    }
    let docker = root().join("deploy/docker");
    let schema = ["--builtin-schema", "vendor.compose-spec"];
    passes("bin/check-jsonschema", &schema, &docker.join("compose.yaml"));
    passes("bin/hadolint", &[], &docker.join("Dockerfile"));
}
