//! Proxyless gRPC: real clients and servers that take everything from our control plane, and what answers their calls.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    mesh::Mesh,
    program::{Program, peer, root},
};

/// Which library a client is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// C-core, by way of Python's grpcio.
    Grpcio,
    /// Node.js.
    GrpcJs,
}

/// A running client; stopped when dropped.
pub struct GrpcClient {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _dir: Arc<TempDir>,
}

/// What became of some calls.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Calls {
    /// How many each version answered.
    pub answered: BTreeMap<String, u32>,
    /// Why the others failed.
    pub failed: BTreeMap<String, u32>,
}

impl GrpcClient {
    /// Starts a client of `xds:///TARGET`.
    pub fn start(mesh: &Mesh, library: Library, target: &str) -> Self {
        let id = format!("{library:?}-{}", target.replace([':', '/'], "-"));
        let mut command = match library {
            Library::Grpcio => script("client.py"),
            Library::GrpcJs => {
                let modules = root().join(".cache/peers/grpc-js/node_modules");
                assert!(modules.exists(), "grpc-js is missing: run tests/peers/install");
                let mut command = Command::new(peer("node", "node/bin/node").expect("node is missing"));
                command.env("NODE_PATH", modules).arg(programs().join("client.js"));
                command
            }
        };
        command.arg(format!("xds:///{target}")).env("GRPC_XDS_BOOTSTRAP", bootstrap(mesh, &id));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the client can be started");
        let input = child.stdin.take().expect("it was asked for");
        let output = BufReader::new(child.stdout.take().expect("it was asked for"));
        Self { child, input, output, _dir: mesh.dir.clone() }
    }

    /// Makes so many calls with some metadata, and waits for their end. For runtimes with several threads.
    pub fn call(&mut self, calls: u32, metadata: &[(&str, &str)]) -> Calls {
        let metadata: BTreeMap<_, _> = metadata.iter().copied().collect();
        tokio::task::block_in_place(|| {
            writeln!(self.input, "{}", json!({"calls": calls, "metadata": metadata}))
                .expect("the client takes its work");
            let mut line = String::new();
            self.output.read_line(&mut line).expect("the client answers");
            serde_json::from_str(&line).expect("the client answers in JSON")
        })
    }
}

impl Drop for GrpcClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Calls {
    /// How many a version answered.
    pub fn by(&self, version: &str) -> u32 {
        self.answered.get(version).copied().unwrap_or_default()
    }

    /// How many failed.
    pub fn failed(&self) -> u32 {
        self.failed.values().sum()
    }
}

/// Starts a server that asks for its listener, and answers with its name.
pub fn server(mesh: &Mesh, address: SocketAddr, name: &str) -> Program {
    let mut command = script("server.py");
    command.arg(address.to_string()).arg(name).env("GRPC_XDS_BOOTSTRAP", bootstrap(mesh, name));
    Program::start(name, mesh.dir.path(), &mut command)
}

fn script(name: &str) -> Command {
    let python = root().join(".cache/peers/grpcio/bin/python");
    assert!(python.exists(), "grpcio is missing: run tests/peers/install");
    let mut command = Command::new(python);
    command.arg(programs().join(name));
    command
}

fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/grpc")
}

/// The file that tells gRPC where the control plane is.
fn bootstrap(mesh: &Mesh, id: &str) -> PathBuf {
    let file = mesh.dir.path().join(format!("{id}-bootstrap.json"));
    let bootstrap = json!({
        "xds_servers": [{
            "server_uri": mesh.ads.to_string(),
            "channel_creds": [{"type": "insecure"}],
            "server_features": ["xds_v3"],
        }],
        "node": {"id": id, "cluster": "tests", "locality": {"region": "here"}, "metadata": {"NAMESPACE": "default"}},
        "server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s",
    });
    std::fs::write(&file, bootstrap.to_string()).expect("the bootstrap can be written");
    file
}
