//! Unmodified Envoy as a dataplane of our control plane: its bootstrap, and its process.

use std::{net::SocketAddr, path::Path, process::Command};

use serde_json::{Value as Json, json};
use weft_proto::{
    node::NodeMetadata,
    xds::google::protobuf::{Struct, Value, value::Kind},
};

use crate::program::{Program, peer, root};

/// How long lines of access logs wait to be written together.
const LOG_FLUSH_MS: &str = "20";

/// Bootstrap of an Envoy that takes everything from one control plane in plaintext: the one that operators are given, with
/// a node and ports of its own.
pub fn bootstrap(id: &str, metadata: &NodeMetadata, ads: SocketAddr, admin: SocketAddr) -> Json {
    let address = |at: SocketAddr| json!({"socket_address": {"address": at.ip(), "port_value": at.port()}});
    let given = std::fs::read_to_string(root().join("deploy/envoy/bootstrap.yaml"));
    let mut bootstrap: Json =
        serde_saphyr::from_str(&given.expect("the file is there")).expect("the file is YAML");
    let [region, zone, sub_zone] = &metadata.locality;
    bootstrap["node"] = json!({
        "id": id,
        "cluster": metadata.workload,
        "metadata": object(&metadata.to_struct()),
        "locality": {"region": region, "zone": zone, "sub_zone": sub_zone},
    });
    bootstrap["admin"]["address"] = address(admin);
    bootstrap["static_resources"]["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        ["address"] = address(ads);
    bootstrap
}

/// Starts Envoy with one worker.
pub fn start(name: &str, dir: &Path, bootstrap: &Json) -> Program {
    Program::start(name, dir, &mut command(name, dir, bootstrap))
}

/// What starts Envoy with one worker.
pub fn command(name: &str, dir: &Path, bootstrap: &Json) -> Command {
    let file = dir.join(format!("{name}.json"));
    std::fs::write(&file, bootstrap.to_string()).expect("the bootstrap can be written");
    let envoy = peer("envoy", "envoy/bin/envoy").expect("Envoy is missing: run tests/peers/install");
    let mut command = Command::new(envoy);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]);
    command.args(["--file-flush-interval-msec", LOG_FLUSH_MS, "-c"]).arg(file);
    command
}

fn object(from: &Struct) -> Json {
    from.fields
        .iter()
        .map(|(key, value)| (key.clone(), plain(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn plain(value: &Value) -> Json {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::NumberValue(number)) => json!(number),
        Some(Kind::StringValue(text)) => json!(text),
        Some(Kind::BoolValue(yes)) => json!(yes),
        Some(Kind::StructValue(fields)) => object(fields),
        Some(Kind::ListValue(list)) => list.values.iter().map(plain).collect(),
    }
}
