//! Transparent capture over real network namespaces: clients and servers that know nothing of the mesh, on hosts whose
//! traffic `weft intercept` redirects.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::{Command, Stdio},
};

use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use weft_proto::{
    admin::v1::ServicesRequest,
    node::{HOST_NAMES, Inbound, NodeMetadata},
};
use weft_tests::{
    backend::{Attempts, Backend},
    mesh::{Mesh, SYNC},
    netns::{Host, Network, PROXY_GID},
    program::{Program, weft},
    wait::until,
};

/// An address that is nobody's in the mesh.
const WORLD: &str = "203.0.113.5";

/// Clients of a host that is cut off, one after the other, and after how many that happens.
const CLIENTS: usize = 120;
const CUT_AFTER: usize = 20;
/// Seconds in which traffic has left it.
const FAILOVER_S: f64 = 2.0;

/// Three hosts behind proxies of one kind. `web` is on the second and third, `orders` and `users`, both at port 5432, on
/// one each.
struct World {
    network: Network,
    mesh: Mesh,
    client: Host,
    second: Host,
    _third: Host,
    proxies: Vec<Program>,
    _backends: Vec<Backend>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Weft,
    Envoy,
}

fn services(second: &Host, third: &Host) -> String {
    let service = |name: &str, port: u16, protocol: &str, endpoints: &[(&Host, u16, &str)]| {
        let endpoint = |(host, port, zone): &(&Host, u16, &str)| {
            format!(
                "\n  - {{address: {}, ports: {{{protocol}: {port}}}, locality: {{region: eu, zone: {zone}}}}}",
                host.ip
            )
        };
        let endpoints: String = endpoints.iter().map(endpoint).collect();
        format!(
            "---\napiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  ports: [{{number: \
             {port}, name: {protocol}, protocol: {protocol}}}]\n  endpoints:{endpoints}\n"
        )
    };
    let web = service("web", 80, "http", &[(second, 8080, "near"), (third, 8080, "far")]);
    let orders = service("orders", 5432, "tcp", &[(second, 5432, "near")]);
    let users = service("users", 5432, "tcp", &[(third, 5433, "far")]);
    web + &orders + &users
}

/// What a sidecar is told: it captures both ways, and answers DNS where it can.
fn sidecar(kind: Kind, inbound: &[(&str, SocketAddr, &str)]) -> NodeMetadata {
    let port = |(service, app, protocol): &(&str, SocketAddr, &str)| Inbound {
        bind: None,
        service: (*service).to_owned(),
        port: 0,
        app: (*app).into(),
        protocol: (*protocol).to_owned(),
        workload: String::new(),
    };
    NodeMetadata {
        namespace: "default".to_owned(),
        workload: "sidecar".to_owned(),
        inbound: inbound.iter().map(port).collect(),
        outbound_capture: Some(([0, 0, 0, 0], 15001).into()),
        inbound_capture: Some("[::]:15006".parse().unwrap()),
        locality: ["eu", "near", ""].map(str::to_owned),
        extensions: (kind == Kind::Weft).then(|| HOST_NAMES.to_owned()).into_iter().collect(),
        ..NodeMetadata::default()
    }
}

/// Redirects a host's traffic to its proxy.
fn intercept(host: &Host, flags: &[&str]) {
    let mut command = Command::new(weft());
    let gid = PROXY_GID.to_string();
    command.args(["intercept", "--netns", &host.netns, "--proxy-gid", &gid]).args(flags);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl World {
    async fn start(kind: Kind, settings: &Json) -> Self {
        let mut network = Network::new();
        let (mut client, mut second, mut third) = (network.host(1), network.host(2), network.host(3));
        network.outside_address(WORLD);
        network.outside().resolver(WORLD.parse().unwrap());
        let loopback = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let any = |port: u16| SocketAddr::from(([0, 0, 0, 0], port));
        let http = |host: &Host, at, version: &str| {
            Backend::http_at(host.listen(at), "web", version, Attempts::default())
        };
        let backends = vec![
            http(&second, loopback(8080), "near"),
            http(&third, loopback(8080), "far"),
            Backend::tcp_at(second.listen(second.at(5432)), "orders"),
            Backend::tcp_at(third.listen(loopback(5433)), "users"),
            http(&third, any(7000), "undeclared"),
            http(network.outside(), any(80), "outside"),
            http(network.outside(), any(9090), "outside"),
            http(network.outside(), any(7070), "excluded"),
        ];
        let mut mesh = Mesh::start_with(settings).await;
        mesh.publish("services.yaml", &services(&second, &third));
        mesh.endpoints("web", 2, SYNC).await;
        mesh.endpoints("users", 1, SYNC).await;
        let nodes = [
            ("client", sidecar(kind, &[]), &mut client),
            (
                "second",
                // One behind loopback, one behind the host's own address.
                sidecar(kind, &[("web", loopback(8080), "http"), ("orders", second.at(5432), "tcp")]),
                &mut second,
            ),
            (
                "third",
                sidecar(kind, &[("web", loopback(8080), "http"), ("users", loopback(5433), "tcp")]),
                &mut third,
            ),
        ];
        let start = |(name, node, host): (&str, NodeMetadata, &mut Host)| match kind {
            Kind::Weft => mesh.weft_proxy_on(host, name, &node),
            Kind::Envoy => mesh.envoy_on(host, name, &node),
        };
        let proxies: Vec<Program> = nodes.into_iter().map(start).collect();
        mesh.synced(3, SYNC).await;
        for host in [&client, &second, &third] {
            let outbound =
                ["--exclude-outbound-ports", "7070", "--exclude-outbound-ip-ranges", "10.77.0.254/32"];
            intercept(host, &outbound);
            if kind == Kind::Envoy {
                // Again, without names: the table is exchanged.
                intercept(host, &[&outbound[..], &["--no-dns"]].concat());
            }
        }
        Self { network, mesh, client, second, _third: third, proxies, _backends: backends }
    }

    /// Waits until a line of shell on a host prints this.
    async fn says(&self, host: &Host, line: &str, expected: &str) {
        until(&format!("{line} on {}", host.netns), SYNC, async || {
            let output = host.shell(line);
            let (out, err) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            match out.trim() == expected {
                true => Ok(()),
                false => Err(format!("{out}{err} ({})", output.status)),
            }
        })
        .await;
    }

    /// The virtual IP of a service.
    async fn virtual_ip(&self, service: &str) -> String {
        let request = ServicesRequest { name: service.to_owned(), ..Default::default() };
        let found = self.mesh.client().await.unwrap().services(request).await.unwrap().into_inner();
        found.services[0].virtual_ip.clone()
    }
}

/// Which version answers a plain GET.
fn get(url: &str) -> String {
    format!("curl -sS -m 5 -o /dev/null -w '%header{{x-echo-version}}' {url}")
}

/// Who greets at a TCP port.
fn greeting(host: &str, port: u16) -> String {
    format!("exec 3<>/dev/tcp/{host}/{port} && head -n 1 <&3")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_and_servers_that_know_nothing_are_in_the_mesh() {
    let mut world = World::start(Kind::Weft, &json!({})).await;
    let client = &world.client;
    // Names, with addresses that only the mesh has, and none of the other family.
    let ip = world.virtual_ip("orders").await;
    world.says(client, "getent ahosts orders | cut -d' ' -f1 | sort -u", &ip).await;
    world.says(client, "getent ahosts anything.example.com | cut -d' ' -f1 | sort -u", WORLD).await;
    // Two services at one port never collide, whatever they are called by.
    world.says(client, &greeting("orders", 5432), "orders").await;
    world.says(client, &greeting("users.default.svc.cluster.local", 5432), "users").await;
    let both = "for i in 1 2 3 4 5 6 7 8; do curl -sS -m 5 -o /dev/null -w '%header{x-echo-version}\\n' \
                http://web/; done | sort -u | xargs";
    world.says(client, both, "far near").await;
    // Servers are behind their proxies too: those count what came in.
    let inbound = "curl -s 127.0.0.1:15000/metrics | grep -c 'istio_requests_total{reporter=\"destination\"'";
    world.says(&world.second, inbound, "1").await;
    // A host that calls its own service comes in as everyone does.
    world.says(&world.second, &greeting("orders", 5432), "orders").await;
    // A port that nobody declared, an address that nobody knows, a host that nobody knows at a port of the mesh.
    world.says(client, &get("http://10.77.0.3:7000/"), "undeclared").await;
    world.says(client, &get("http://outside.example.com:9090/"), "outside").await;
    world.says(client, &get("http://outside.example.com/"), "outside").await;
    world.mesh.apply(INGRESS).await.unwrap();
    world.says(client, &get("http://10.77.0.3:7001/"), "far").await;
    // What is excluded does not need the proxy; all else does.
    world.proxies[0].kill();
    let client = &world.client;
    world.says(client, &get(&format!("http://{WORLD}:7070/")), "excluded").await;
    world.says(client, &get("http://10.77.0.254:9090/"), "outside").await;
    let refused = get(&format!("http://{WORLD}:9090/"));
    assert!(!client.shell(&refused).status.success(), "captured traffic needs the proxy");
    // Until the redirection is taken away.
    for _ in 0..2 {
        let output = Command::new(weft()).args(["intercept", "--remove", "--netns", &client.netns]).output();
        assert!(output.unwrap().status.success());
    }
    world.says(client, &refused, "outside").await;
}

/// A port of the workloads that only their Sidecar names.
const INGRESS: &str = "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec:
  ingress:
  - {port: {number: 7001, name: http, protocol: HTTP}, defaultEndpoint: '127.0.0.1:8080'}
";

/// Hosts that their clients resolve, and connections to a captured address that go elsewhere.
const ROUTED: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec:
  hosts: ['*.example.com']
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  tcp:
  - route: [{destination: {host: users}}]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_captures_the_same() {
    let world = World::start(Kind::Envoy, &json!({})).await;
    let client = &world.client;
    let ips: BTreeMap<&str, String> = [
        ("web", world.virtual_ip("web").await),
        ("orders", world.virtual_ip("orders").await),
        ("users", world.virtual_ip("users").await),
    ]
    .into();
    world.says(client, &greeting(&ips["orders"], 5432), "orders").await;
    world.says(client, &greeting(&ips["users"], 5432), "users").await;
    let both = format!(
        "for i in 1 2 3 4 5 6 7 8; do curl -sS -m 5 -o /dev/null -w '%header{{x-echo-version}}\\n' --resolve \
         web:80:{} http://web/; done | sort -u | xargs",
        ips["web"]
    );
    world.says(client, &both, "far near").await;
    world.says(&world.second, &greeting(&ips["orders"], 5432), "orders").await;
    world.says(client, &get("http://10.77.0.3:7000/"), "undeclared").await;
    world.says(client, &get(&format!("http://{WORLD}:9090/")), "outside").await;
    world.says(client, &get(&format!("-H 'host: outside.example.com' http://{WORLD}/")), "outside").await;
    world.mesh.apply(ROUTED).await.unwrap();
    world.mesh.apply(INGRESS).await.unwrap();
    world.mesh.synced(3, SYNC).await;
    world.says(client, &get("http://10.77.0.3:7001/"), "far").await;
    world.says(client, &greeting(&ips["orders"], 5432), "users").await;
    world.says(client, &get(&format!("-H 'host: outside.example.com' http://{WORLD}/")), "outside").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_registered_is_reached_where_the_mesh_says_so() {
    let world = World::start(Kind::Weft, &json!({"outbound_traffic_policy": "REGISTRY_ONLY"})).await;
    let client = &world.client;
    world.says(client, &greeting("orders", 5432), "orders").await;
    let status = "curl -sS -m 5 -o /dev/null -w '%{http_code}' http://outside.example.com/";
    world.says(client, status, "502").await;
    let bytes = client.shell(&get(&format!("http://{WORLD}:9090/")));
    assert!(!bytes.status.success(), "{bytes:?}");
    // What is excluded is not the mesh's to refuse.
    world.says(client, &get(&format!("http://{WORLD}:7070/")), "excluded").await;
    // What becomes known is reached, and nothing else.
    world.mesh.apply(ROUTED).await.unwrap();
    world.says(client, &get("http://outside.example.com/"), "outside").await;
    world.says(client, &status.replace("example.com", "example.org"), "502").await;
    world.says(client, &greeting("orders", 5432), "users").await;
}

const RESILIENT: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
  - route: [{destination: {host: web}}]
    timeout: 5s
    retries: {attempts: 3, perTryTimeout: 400ms, retryOn: 'connect-failure,refused-stream,reset,gateway-error'}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec:
  host: web
  trafficPolicy:
    connectionPool: {tcp: {connectTimeout: 200ms}}
    outlierDetection: {consecutiveGatewayErrors: 2, interval: 1s, baseEjectionTime: 30s, maxEjectionPercent: 50}
    loadBalancer: {localityLbSetting: {enabled: true}}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_cut_off_costs_no_request() {
    let world = World::start(Kind::Weft, &json!({})).await;
    world.mesh.apply(RESILIENT).await.unwrap();
    world.mesh.synced(3, SYNC).await;
    let client = &world.client;
    world.says(client, &get("http://web/"), "near").await;
    // One client after the other; the cable is pulled after some.
    let line = format!(
        "for i in $(seq {CLIENTS}); do curl -sS -m 10 -o /dev/null -w '%{{http_code}} %header{{x-echo-version}} \
         %{{time_total}}\\n' http://web/ || echo failed; done"
    );
    let mut load = tokio::process::Command::from(client.command(&line));
    let mut load = load.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(load.stdout.take().unwrap()).lines();
    let mut answers = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        answers.push(line);
        if answers.len() == CUT_AFTER {
            world.network.connect(&world.second, false);
        }
    }
    load.wait().await.unwrap();
    world.network.connect(&world.second, true);
    let text = answers.join("\n");
    let failed = answers.iter().filter(|answer| !answer.starts_with("200 ")).count();
    assert_eq!((answers.len(), failed), (CLIENTS, 0), "{text}");
    assert!(answers[CUT_AFTER + 1..].iter().all(|answer| answer.contains(" far ")), "{text}");
    let times = answers[CUT_AFTER..].iter().map(|answer| answer.rsplit(' ').next().unwrap());
    // What waited longer than a connection may take to be made waited for the lost host.
    let waited: f64 = times.map(|time| time.parse::<f64>().unwrap()).filter(|time| *time > 0.2).sum();
    assert!(waited < FAILOVER_S, "{waited} s until nothing waited for the lost host: {text}");
}
