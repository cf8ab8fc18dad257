//! `weft demo`, as people leave it: interrupted, terminated or killed, it leaves nothing behind.

use std::{fs, path::PathBuf, process::Command};

use weft_tests::{
    program::{Program, weft},
    wait::{START, until},
};

/// Control plane, adapter, ingress, and an application with its proxy for each of four workloads.
const CHILDREN: usize = 11;

/// A demo that shows its mesh.
struct Demo {
    program: Program,
    directory: PathBuf,
    children: Vec<u32>,
    _logs: tempfile::TempDir,
}

impl Demo {
    async fn start() -> Self {
        let logs = tempfile::TempDir::new().unwrap();
        let program = Program::start("demo", logs.path(), Command::new(weft()).arg("demo"));
        let log = until("the demo to greet", START, async || {
            let log = program.log();
            if log.contains("Ctrl-C ends everything") { Ok(log) } else { Err(log) }
        })
        .await;
        let directory =
            log.lines().find_map(|line| line.strip_prefix("│ logs")).unwrap().trim_matches([' ', '│']);
        let children = children(program.id());
        assert_eq!(children.len(), CHILDREN, "{children:?}");
        Self { program, directory: directory.into(), children, _logs: logs }
    }

    async fn nothing_runs(&self) {
        until("the end of every child", START, async || {
            let left: Vec<_> = self.children.iter().filter(|id| runs(**id)).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?} still run")) }
        })
        .await;
    }
}

/// Processes whose parent is this one.
fn children(parent: u32) -> Vec<u32> {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.filter(|id| parent_of(*id) == Some(parent)).collect()
}

fn parent_of(id: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses may hold anything; state and parent follow it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Whether a process runs this program: its number may be another's by now, or its end not yet be noticed.
fn runs(id: u32) -> bool {
    fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe == fs::canonicalize(weft()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_or_terminated_demo_ends_well_and_leaves_nothing() {
    for signal in ["INT", "TERM"] {
        let mut demo = Demo::start().await;
        assert!(demo.directory.is_dir(), "{:?}", demo.directory);
        demo.program.signal(signal);
        assert_eq!(demo.program.ended(START).await, Some(0), "{signal}");
        let left: Vec<_> = demo.children.iter().filter(|id| runs(**id)).collect();
        assert!(left.is_empty(), "{signal}: {left:?} still run");
        assert!(!demo.directory.exists(), "{signal}: {:?} is still there", demo.directory);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_demo_takes_its_processes_along() {
    let mut demo = Demo::start().await;
    demo.program.kill();
    demo.nothing_runs().await;
    // Nobody was left to remove it.
    fs::remove_dir_all(&demo.directory).unwrap();
}
