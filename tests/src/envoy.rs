//! Unmodified Envoy as a dataplane of our control plane: its bootstrap, and its process.

use std::{net::SocketAddr, path::Path, process::Command};

use serde_json::{Value as Json, json};
use weft_proto::{
    node::NodeMetadata,
    xds::google::protobuf::{Struct, Value, value::Kind},
};

use crate::program::{Program, peer};

/// How long lines of access logs wait to be written together.
const LOG_FLUSH_MS: &str = "20";

/// Bootstrap of an Envoy that takes everything from one control plane over delta ADS in plaintext.
pub fn bootstrap(id: &str, metadata: &NodeMetadata, ads: SocketAddr, admin: SocketAddr) -> Json {
    let address = |at: SocketAddr| json!({"socket_address": {"address": at.ip(), "port_value": at.port()}});
    let from_ads = json!({"resource_api_version": "V3", "ads": {}});
    let [region, zone, sub_zone] = &metadata.locality;
    json!({
        "node": {
            "id": id,
            "cluster": metadata.workload,
            "metadata": object(&metadata.to_struct()),
            "locality": {"region": region, "zone": zone, "sub_zone": sub_zone},
        },
        "admin": {"address": address(admin)},
        "dynamic_resources": {
            "lds_config": from_ads,
            "cds_config": from_ads,
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "control"}}],
            },
        },
        "static_resources": {"clusters": [{
            "name": "control",
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                },
            },
            "load_assignment": {
                "cluster_name": "control",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(ads)}}]}],
            },
        }]},
    })
}

/// Starts Envoy with one worker.
pub fn start(name: &str, dir: &Path, bootstrap: &Json) -> Program {
    let file = dir.join(format!("{name}.json"));
    std::fs::write(&file, bootstrap.to_string()).expect("the bootstrap can be written");
    let envoy = peer("envoy", "envoy/bin/envoy").expect("Envoy is missing: run tests/peers/install");
    let mut command = Command::new(envoy);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]);
    command.args(["--file-flush-interval-msec", LOG_FLUSH_MS, "-c"]).arg(file);
    Program::start(name, dir, &mut command)
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
