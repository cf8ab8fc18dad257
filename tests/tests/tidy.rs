//! House rules that no compiler checks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use weft_tests::program::root;

/// Lines of code, tests at the end not counted, that one file may have.
const FILE_LINES_MAX: usize = 600;

/// Crates of the workspace that hold code.
const CRATES: [&str; 6] = ["proto", "control", "dataplane", "adapters", "cli", "tests"];

/// Smallest versions that are free of known faults.
const FLOORS: [(&str, [u64; 3]); 4] = [
    ("rustls", [0, 23, 46]),
    ("h2", [0, 4, 16]),
    ("rustls-webpki", [0, 103, 13]),
    ("jsonwebtoken", [10, 3, 0]),
];

fn rust_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = CRATES.iter().map(|name| root().join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.retain(|path| !path.components().any(|part| part.as_os_str() == "generated"));
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// The lines before the inline test module.
fn code_lines(text: &str) -> usize {
    let code = text.find("#[cfg(test)]\nmod tests {").map_or(text, |end| &text[..end]);
    code.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//")).count()
}

/// Name and version of every locked package.
fn locked() -> Vec<(String, String)> {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let field = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim_matches(['=', ' ', '"']).to_owned())
    };
    lock.split("[[package]]")
        .skip(1)
        .filter_map(|b| Some((field(b, "name")?, field(b, "version")?)))
        .collect()
}

#[test]
fn every_file_has_one_idea_and_says_which() {
    let mut wrong = Vec::new();
    for path in rust_files() {
        let text = fs::read_to_string(&path).unwrap();
        if path.ends_with("mod.rs") {
            wrong.push(format!("{}: use foo.rs beside foo/, not mod.rs", shown(&path)));
        }
        if !text.starts_with("//! ") {
            wrong.push(format!("{}: the first line says what the file is", shown(&path)));
        }
        let lines = code_lines(&text);
        let is_test = path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests");
        if lines > FILE_LINES_MAX && (!is_test || path.starts_with(root().join("tests/src"))) {
            wrong.push(format!("{}: {lines} lines of code; at most {FILE_LINES_MAX}", shown(&path)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn locked_versions_are_free_of_known_faults() {
    let mut wrong = Vec::new();
    for (name, version) in locked() {
        let numbers: Vec<u64> = version.split(['.', '+', '-']).map_while(|part| part.parse().ok()).collect();
        if let Some((_, floor)) = FLOORS.iter().find(|(floor, _)| *floor == name)
            && numbers.as_slice() < floor.as_slice()
        {
            wrong.push(format!("{name} {version}: at least {floor:?}"));
        }
        let ours = CRATES.iter().any(|one| name == format!("weft-{one}"));
        if !ours && version.split('+').next().is_some_and(|core| core.contains('-')) {
            wrong.push(format!("{name} {version}: no pre-releases"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn aws_lc_rs_is_the_one_tls_provider() {
    let tree = ["tree", "--workspace", "--locked", "--offline", "--prefix", "none", "--format", "{p}"];
    let output = std::process::Command::new(env!("CARGO")).args(tree).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let built = String::from_utf8_lossy(&output.stdout);
    assert!(!built.lines().any(|line| line.starts_with("ring v")), "ring is built");
}

#[test]
fn crates_meet_only_in_protobuf() {
    let mut wrong = Vec::new();
    for name in ["proto", "control", "dataplane", "adapters"] {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        for other in ["weft-control", "weft-dataplane", "weft-adapters", "weft-tests"] {
            let depends = manifest
                .lines()
                .any(|line| line.strip_prefix(other).is_some_and(|rest| rest.starts_with(['.', ' ', '='])));
            if depends {
                wrong.push(format!("{name} depends on {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
