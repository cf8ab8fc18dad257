//! The peers' configuration: one route, one backend, one worker, no logs; and the backend, an nginx that answers at once.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, process::Command};

use serde_json::{Value, json};
use weft_tests::{
    envoy,
    program::{Program, peer},
};

use crate::Contender;

type Doors = BTreeMap<&'static str, SocketAddr>;

fn nginx(name: &str, dir: &Path, body: &str) -> Program {
    let file = dir.join(format!("{name}.conf"));
    let head = format!(
        "daemon off; master_process off; worker_processes 1; pid {}/{name}.pid; error_log stderr crit;\n\
         events {{ worker_connections 4096; }}\n",
        dir.display()
    );
    fs::write(&file, head + body).expect("the configuration can be written");
    let program = peer("nginx", "nginx").expect("nginx is missing: install nginx-light");
    Program::start(name, dir, Command::new(program).arg("-c").arg(file))
}

/// The backend of everybody: 200 and two bytes, HTTP/1.1 on one port and HTTP/2 on the other.
pub fn backend(dir: &Path, h1: SocketAddr, h2: SocketAddr) -> Program {
    let body = format!(
        "http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;\n\
         server {{ listen {h1}; location / {{ return 200 'ok'; }} }}\n\
         server {{ listen {h2} http2; http2_max_concurrent_streams 1000; location / {{ return 200 'ok'; }} }} }}\n"
    );
    nginx("backend", dir, &body)
}

/// Starts every peer that this machine has.
pub fn start(
    dir: &Path,
    h1: SocketAddr,
    h2: SocketAddr,
    doors: impl Fn() -> Doors,
) -> (Vec<Program>, Vec<Contender>) {
    let mut programs = Vec::new();
    let mut contenders = Vec::new();
    let mut join = |name: &'static str, program: Program, doors: Doors| {
        contenders.push(Contender { name, process: program.id(), doors });
        programs.push(program);
    };
    if let Some(program) = peer("haproxy", "haproxy") {
        let at = doors();
        let file = dir.join("haproxy.cfg");
        fs::write(&file, haproxy(&at, h1, h2)).expect("the configuration can be written");
        let mut command = Command::new(program);
        join("haproxy", Program::start("haproxy", dir, command.arg("-db").arg("-f").arg(file)), at);
    }
    let mut at = doors();
    at.remove("tcp");
    let body = format!(
        "http {{ access_log off; keepalive_requests 1000000000; upstream b {{ server {h1}; keepalive 64; }}\n\
         server {{ listen {}; location / {{ proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection ''; }} }}\n\
         server {{ listen {} http2; location / {{ proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection ''; }} }} }}\n",
        at["h1"], at["h2"]
    );
    join("nginx", nginx("nginx", dir, &body), at);
    if peer("envoy", "envoy/bin/envoy").is_some() {
        let at = doors();
        join("envoy", envoy::start("envoy", dir, &envoy_bootstrap(&at, h1, h2)), at);
    }
    (programs, contenders)
}

fn haproxy(at: &Doors, h1: SocketAddr, h2: SocketAddr) -> String {
    format!(
        "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  \
         timeout server 60s\n  http-reuse always\nlisten h1\n  bind {}\n  server b {h1}\nlisten h2\n  bind {} proto h2\n  \
         server b {h2} proto h2\nlisten tcp\n  mode tcp\n  bind {}\n  server b {h1}\n",
        at["h1"], at["h2"], at["tcp"]
    )
}

fn envoy_bootstrap(at: &Doors, h1: SocketAddr, h2: SocketAddr) -> Value {
    let address = |a: SocketAddr| json!({"socket_address": {"address": a.ip(), "port_value": a.port()}});
    let cluster = |name: &str, to: SocketAddr, h2: bool| {
        let protocol = if h2 { "http2_protocol_options" } else { "http_protocol_options" };
        json!({"name": name, "type": "STATIC",
            "load_assignment": {"cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(to)}}]}]},
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {protocol: {}}}}})
    };
    let http = |name: &str| {
        json!({"name": name, "address": address(at[name]), "filter_chains": [{"filters": [{
            "name": "http", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": name}}]}]},
                "http_filters": [{"name": "router", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]})
    };
    let tcp = json!({"name": "tcp", "address": address(at["tcp"]), "filter_chains": [{"filters": [{
        "name": "tcp", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "tcp", "cluster": "h1"}}]}]});
    json!({"static_resources": {
        "listeners": [http("h1"), http("h2"), tcp],
        "clusters": [cluster("h1", h1, false), cluster("h2", h2, true)]}})
}
