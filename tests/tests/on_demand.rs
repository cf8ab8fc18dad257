//! A proxy holds what its requests need: hosts are fetched on demand, and what is fetched outlives the control plane.

use std::net::SocketAddr;

use weft_proto::node::NodeMetadata;
use weft_tests::{
    backend::{Attempts, Backend},
    client::{Answer, Connection, Protocol, empty, get},
    mesh::{Mesh, Proxy, SYNC, http_get},
    program::free_port,
    services::{Registered, files_yaml},
    wait::until,
};

/// Services of the large mesh.
const SERVICES: usize = 10_000;

fn service(name: String, address: SocketAddr) -> Registered {
    Registered { name, protocol: "http", endpoints: vec![("v1".to_owned(), address)] }
}

fn metadata(door: SocketAddr) -> NodeMetadata {
    NodeMetadata { outbound_http: Some(door), ..NodeMetadata::default() }
}

async fn ask(door: SocketAddr, host: &str) -> Answer {
    try_to_ask(door, host).await.unwrap()
}

async fn try_to_ask(door: SocketAddr, host: &str) -> Result<Answer, String> {
    let mut connection = Connection::open(door, Protocol::H1).await.map_err(|error| error.to_string())?;
    let request = get(Protocol::H1, host, "/").body(empty()).unwrap();
    connection.send(request).await.map_err(|error| error.to_string())
}

/// The value of a counter of a proxy.
async fn counter(proxy: &Proxy, name: &str) -> u64 {
    let (_, metrics) = http_get(proxy.admin, "/metrics").await.unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or("0").parse().unwrap()
}

fn resident_kib(proxy: &mut Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.program().id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_there_when_a_request_needs_it_and_after_a_restart_without_the_control_plane() {
    let mut mesh = Mesh::start().await;
    let backend = Backend::http("any", "v1", Attempts::default()).await;
    mesh.publish("a.yaml", &files_yaml(&[service("a".into(), backend.address)]));
    mesh.endpoints("a", 1, SYNC).await;
    let door = free_port();
    let mut proxy = mesh.weft_proxy("proxy", &metadata(door)).await;
    for host in ["a", "a.default:80", "a.default.svc.cluster.local"] {
        assert_eq!(ask(door, host).await.status, 200, "{host}");
    }
    // A host that does not exist is known not to, and is known when it appears.
    assert_eq!(ask(door, "later").await.status, 404);
    assert_eq!(ask(door, "later").await.status, 404);
    mesh.publish("later.yaml", &files_yaml(&[service("later".into(), backend.address)]));
    until("a host that appeared", SYNC, async || match ask(door, "later").await.status.as_u16() {
        200 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;

    proxy.saved().await;
    mesh.kill_control();
    proxy.program().kill();
    proxy.restart();
    proxy.ready().await;
    assert_eq!(ask(door, "a").await.status, 200);
    assert_eq!(ask(door, "later").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_of_a_large_mesh_holds_what_it_uses() {
    let mut mesh = Mesh::start().await;
    let backend = Backend::http("any", "v1", Attempts::default()).await;
    let services: Vec<_> = (0..SERVICES).map(|i| service(format!("s{i}"), backend.address)).collect();
    mesh.publish("services.yaml", &files_yaml(&services));
    mesh.endpoints(&format!("s{}", SERVICES - 1), 1, SYNC * 2).await;
    let mut found = Vec::new();
    for on_demand in [false, true] {
        let door = free_port();
        let name = if on_demand { "on-demand" } else { "whole" };
        let mut proxy = match on_demand {
            true => mesh.weft_proxy(name, &metadata(door)).await,
            false => mesh.weft_proxy_of_all_hosts(name, &metadata(door)).await,
        };
        until("the large mesh at the proxy", SYNC * 4, async || {
            match ask(door, "s1").await.status.as_u16() {
                200 => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
        for host in ["s1", "s2", "s3"] {
            assert_eq!(ask(door, host).await.status, 200, "{name}: {host}");
        }
        let bytes = counter(&proxy, "weft_xds_received_bytes_total").await;
        let resident = resident_kib(&mut proxy);
        println!("{name}: {bytes} bytes received, {resident} KiB resident");
        found.push((bytes, resident));
    }
    let [(bytes_whole, resident_whole), (bytes, resident)] = found[..] else { panic!("{found:?}") };
    assert!(bytes * 100 < bytes_whole && resident * 2 < resident_whole, "{found:?}");
}
