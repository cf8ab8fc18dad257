//! What scripts see of the binary: exit codes, stdout for data only, errors in three lines.

use std::{
    io::Write as _,
    net::TcpListener,
    process::{Command, Output, Stdio},
};

fn weft(arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(arguments)
        .env_remove("WEFT_ADDR")
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that fails before it reads leaves the pipe broken: no matter.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

/// An address where nothing listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[track_caller]
fn check(arguments: &[&str], stdin: &str, code: i32, stderr_has: &str) {
    let output = weft(arguments, stdin);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    assert!(stderr.contains(stderr_has), "{arguments:?}: {stderr}");
    if code != 0 {
        assert_eq!(output.stdout, b"", "stdout is for data");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    check(&["get", "pods"], "", 2, "possible values");
    check(&["apply"], "", 2, "--file");
    check(&["frobnicate"], "", 2, "unrecognized subcommand");
    check(&["apply", "-f", "/nowhere.yaml"], "", 2, "cannot read /nowhere.yaml");
    check(&["get", "services", "--address", "not an address"], "", 2, "is no address");
    check(&["version", "--log", "a=b=c"], "", 2, "--log info");
}

#[test]
fn an_absent_control_plane_ends_with_3_and_says_what_to_do() {
    let address = nowhere();
    for arguments in [
        &["get", "services"][..],
        &["status"],
        &["status", "--wait=1s"],
        &["edges"],
        &["stat", "api"],
        &["delete", "vs", "x"],
        &["source", "confirm", "consul/dc1"],
    ] {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--address", &address]).collect();
        let output = weft(&arguments, "");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = stderr.lines().collect();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {stderr}");
        assert_eq!(lines.len(), 3, "{stderr}");
        assert!(
            lines[0].starts_with("error: cannot reach the control plane at http://127.0.0.1:"),
            "{stderr}"
        );
        assert!(lines[1].starts_with("  why: "), "{stderr}");
        assert!(lines[2].contains("weft control"), "{stderr}");
    }
    check(&["apply", "-f", "-", "--address", &address], "kind: X\n", 3, "cannot reach");
}

#[test]
fn version_and_help_end_with_0() {
    let output = weft(&["version", "-o", "json"], "");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    let help = weft(&["--help"], "");
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("Exit codes: 0 yes or done"));
}

#[test]
fn every_shell_has_a_completion_script() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = weft(&["completion", shell], "");
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains("apply"), "{shell}");
    }
}

#[test]
fn validate_needs_no_control_plane() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/demo");
    let good = weft(&["validate", &format!("{examples}/canary.yaml")], "");
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    let broken = weft(&["validate", &format!("{examples}/broken.yaml"), "-o", "json"], "");
    assert_eq!(broken.status.code(), Some(1), "{broken:?}");
    let text = String::from_utf8(broken.stdout).unwrap();
    assert!(text.contains("\"line\": 13"), "{text}");
}
