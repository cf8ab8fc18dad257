//! `weft agent`: an unmodified Envoy and an application have an identity by it, and speak mutual TLS with our proxy.

use std::{net::SocketAddr, process::Command};

use serde_json::{Value, json};
use weft_proto::{
    node::{Inbound, NodeMetadata, Upstream},
    workload::{X509svidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient},
};
use weft_tests::{
    backend::{Attempts, Backend},
    client::{Connection, Protocol, empty, get},
    envoy,
    mesh::{Mesh, SYNC},
    program::{Program, free_ports, weft},
    wait::until,
};

const EDGE: &str = "spiffe://cluster.local/ns/default/sa/edge";

fn service(name: &str, address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!(
        "---\napiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  ports: [{{number: 80, name: http, protocol: http}}]\n  \
         endpoints: [{{address: {ip}, port: {port}, mtls: true, identity: 'spiffe://cluster.local/ns/default/sa/{name}'}}]\n"
    )
}

fn workload(
    account: &str,
    bind: SocketAddr,
    app: SocketAddr,
    upstream: SocketAddr,
    to: &str,
) -> NodeMetadata {
    let inbound = Inbound {
        bind: Some(bind.into()),
        service: account.into(),
        port: 80,
        app: app.into(),
        protocol: String::new(),
        workload: String::new(),
    };
    NodeMetadata {
        namespace: "default".into(),
        service_account: account.into(),
        workload: account.into(),
        inbound: vec![inbound],
        upstreams: vec![Upstream { bind: upstream.into(), service: to.into(), port: 80 }],
        ..NodeMetadata::default()
    }
}

/// The bootstrap that operators are given, with the control plane over mutual TLS and everything secret from the agent.
fn with_agent(mut bootstrap: Value, socket: &str) -> Value {
    let sds = |name: &str| {
        let service = json!({"envoy_grpc": {"cluster_name": "sds-grpc"}});
        let api = json!({"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [service]});
        json!({"name": name, "sds_config": {"resource_api_version": "V3", "api_config_source": api}})
    };
    let clusters = &mut bootstrap["static_resources"]["clusters"];
    let control_plane = "spiffe://cluster.local/weft/control-plane";
    clusters[0]["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_3",
                    "tls_maximum_protocol_version": "TLSv1_3",
                },
                "alpn_protocols": ["h2"],
                "tls_certificate_sds_secret_configs": [sds("default")],
                "combined_validation_context": {
                    "default_validation_context": {
                        "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": control_plane}}]
                    },
                    "validation_context_sds_secret_config": sds("ROOTCA"),
                },
            },
        },
    });
    let mut agent = clusters[0].clone();
    agent["name"] = json!("sds-grpc");
    agent["load_assignment"] = json!({
        "cluster_name": "sds-grpc",
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": socket}}}}]}],
    });
    agent.as_object_mut().expect("a cluster is an object").remove("transport_socket");
    clusters.as_array_mut().expect("clusters are a list").push(agent);
    bootstrap
}

async fn answers(at: SocketAddr) {
    until("an answer", SYNC, async || {
        let mut connection =
            Connection::open(at, Protocol::H1).await.map_err(|error| format!("{error:?}"))?;
        let request = get(Protocol::H1, "api", "/").body(empty()).unwrap();
        let answer = connection.send(request).await.map_err(|error| format!("{error:?}"))?;
        if answer.status == 200 { Ok(()) } else { Err(answer.status.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn envoy_and_weft_speak_mutual_tls_both_ways_and_an_application_learns_who_it_is() {
    let mut mesh = Mesh::start_with_identities("1h").await;
    let tls = mesh.tls.unwrap();
    let backend = Backend::http("any", "v1", Attempts::default()).await;
    let [api, edge, to_api, to_edge, admin] = free_ports();
    mesh.publish("all.yaml", &(service("api", api) + &service("edge", edge)));
    mesh.endpoints("api", 1, SYNC).await;
    mesh.endpoints("edge", 1, SYNC).await;
    let strict = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: mesh, namespace: istio-system}\nspec: {mtls: {mode: STRICT}}\n";
    mesh.apply(strict).await.unwrap();

    let of_api = workload("api", api, backend.address, to_edge, "edge");
    let _weft = mesh.joining_proxy("api", &of_api, &mesh.token("default", "api")).await;

    let dir = mesh.dir.path();
    let (socket, token) = (dir.join("agent.sock"), dir.join("token"));
    std::fs::write(&token, mesh.token("default", "edge")).unwrap();
    let mut agent = Command::new(weft());
    agent.args(["agent", "--control"]).arg(format!("https://{tls}")).arg("--join-token-file").arg(&token);
    agent.arg("--workload-socket").arg(&socket);
    let _agent = Program::start("agent", dir, &mut agent);
    let of_edge = workload("edge", edge, backend.address, to_api, "api");
    let bootstrap = envoy::bootstrap("edge", &of_edge, tls, admin);
    let _envoy = envoy::start("edge", dir, &with_agent(bootstrap, &socket.to_string_lossy()));
    mesh.synced(2, SYNC).await;
    answers(to_api).await;
    answers(to_edge).await;

    let channel = tonic::transport::Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap();
    let mut application = SpiffeWorkloadApiClient::new(channel.connect().await.unwrap());
    let stranger = application.fetch_x509svid(X509svidRequest {}).await;
    assert_eq!(stranger.unwrap_err().code(), tonic::Code::InvalidArgument);
    let mut request = tonic::Request::new(X509svidRequest {});
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    let mut told = application.fetch_x509svid(request).await.unwrap().into_inner();
    let told = told.message().await.unwrap().unwrap();
    assert_eq!(told.svids[0].spiffe_id, EDGE);
    assert!(!told.svids[0].x509_svid.is_empty() && !told.svids[0].bundle.is_empty());
}
