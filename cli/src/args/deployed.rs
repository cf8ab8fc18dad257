//! Every command line in `deploy/` is one that this program takes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clap::Parser as _;
use serde_json::Value;

use super::Cli;

/// Folders whose files run or name commands.
const FOLDERS: [&str; 5] = ["docker", "kubernetes", "nomad", "prometheus", "systemd"];
/// What a container's arguments begin with, since its entry point is the program.
const RUN: [&str; 3] = ["control", "adapter", "proxy"];
/// What stands for something in a text, and one of the things that it stands for.
const STAND_INS: [(&str, &str); 4] = [
    ("{{ $labels.source }}", "nomad/eu"),
    ("PLATFORM", "nomad"),
    ("%i", "nomad"),
    ("%d", "/run/credentials"),
];

fn files() -> Vec<PathBuf> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let listed = FOLDERS.iter().flat_map(|folder| fs::read_dir(deploy.join(folder)).unwrap());
    let mut files: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Commands that a text names: in backticks, or given to `--`.
fn named(text: &str) -> Vec<Vec<String>> {
    let begins = ["`weft ", "-- weft "];
    let rests = begins.iter().flat_map(|begin| text.split(begin).skip(1));
    let command = |rest: &str| {
        let end = rest.find(['`', ')', '|', '\n']).unwrap_or(rest.len());
        rest[..end].split_whitespace().map(str::to_owned).collect()
    };
    rests.map(command).collect()
}

/// Commands in a list of strings, wherever one is.
fn listed(value: &Value, found: &mut Vec<Vec<String>>) {
    match value {
        Value::Array(items) => {
            let words: Option<Vec<String>> =
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            if let Some(words) = words {
                let program = words.iter().position(|word| word == "/usr/bin/weft");
                let runs = words.first().is_some_and(|word| RUN.contains(&word.as_str()));
                match program {
                    Some(at) => found.push(words[at + 1..].to_vec()),
                    None if runs => found.push(words),
                    None => {}
                }
            }
            items.iter().for_each(|item| listed(item, found));
        }
        Value::Object(fields) => fields.values().for_each(|field| listed(field, found)),
        _ => {}
    }
}

/// Commands that a file runs.
fn run(path: &Path, text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("service") => {
            let lines = text.lines().filter_map(|line| line.strip_prefix("ExecStart=/usr/bin/weft "));
            found.extend(lines.map(|line| line.split_whitespace().map(str::to_owned).collect()));
        }
        Some("hcl") => {
            for rest in text.split(" args ").skip(1) {
                let list = &rest[rest.find('[').unwrap()..=rest.find(']').unwrap()];
                found.push(serde_json::from_str(list).unwrap());
            }
        }
        Some("yaml") => {
            let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
            documents.iter().for_each(|document| listed(document, &mut found));
        }
        _ => {}
    }
    found
}

#[test]
fn every_command_line_of_the_examples_is_taken() {
    let mut counts = BTreeMap::new();
    for path in files() {
        let mut text = fs::read_to_string(&path).unwrap();
        for (stands, thing) in STAND_INS {
            text = text.replace(stands, thing);
        }
        let running = run(&path, &text);
        let folder = path.parent().unwrap().file_name().unwrap().to_owned();
        *counts.entry(folder).or_insert(0) += running.len();
        for words in running.into_iter().chain(named(&text)) {
            let line = ["weft".to_owned()].into_iter().chain(words);
            if let Err(error) = Cli::try_parse_from(line) {
                panic!("{}: {error}", path.display());
            }
        }
    }
    let counts: Vec<usize> = counts.into_values().collect();
    assert_eq!(counts, [4, 4, 3, 0, 3], "commands run in {FOLDERS:?}");
}
