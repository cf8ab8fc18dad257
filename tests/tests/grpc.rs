//! Proxyless gRPC clients of two libraries, and a server, with nothing between them but our control plane.

use std::net::SocketAddr;

use weft_tests::{
    backend::Backend,
    grpc::{Calls, GrpcClient, Library, server},
    mesh::{Mesh, SYNC},
    program::free_port,
    wait::until,
};

/// Chance alone misses 1% of 10,000 calls once in a thousand runs, of 20,000 once in three hundred thousand.
const CALLS: u32 = 20_000;

/// Calls that show that something has no part in them any more.
const STREAK: u32 = 400;

const SUBSETS: &str = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: echo}\nspec:\n  \
    host: echo\n  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}\n  subsets:\n  \
    - {name: v1, labels: {version: v1}}\n  - {name: v2, labels: {version: v2}}\n";

fn split(v1: u32, v2: u32) -> String {
    let to = |version, weight| {
        format!("    - {{destination: {{host: echo, subset: {version}}}, weight: {weight}}}\n")
    };
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: echo}}\nspec:\n  hosts: [echo]\n  \
         http:\n  - match: [{{headers: {{x-test: {{exact: \"yes\"}}}}, withoutHeaders: {{x-stop: {{exact: \"1\"}}}}}}]\n    \
         route: [{{destination: {{host: echo, subset: v2}}}}]\n  - route:\n{}{}",
        to("v1", v1),
        to("v2", v2)
    )
}

/// A service of the file adapter, which marks some endpoints as draining.
fn echo(endpoints: &[(&str, SocketAddr, &str)]) -> String {
    let mut yaml = "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: echo}\nspec:\n  aliases: [echo.mesh.test]\n  \
                    ports: [{number: 80, name: grpc, protocol: grpc}]\n  endpoints:\n"
        .to_owned();
    for (version, address, health) in endpoints {
        let (ip, port) = (address.ip(), address.port());
        yaml += &format!(
            "  - {{address: {ip}, ports: {{grpc: {port}}}, labels: {{version: {version}}}, health: {health}}}\n"
        );
    }
    yaml
}

/// A service in two versions, the first of two endpoints.
struct Echo {
    mesh: Mesh,
    backends: Vec<(&'static str, Backend)>,
}

impl Echo {
    async fn start() -> Self {
        let mut backends = Vec::new();
        for version in ["v1", "v1", "v2"] {
            let name = if backends.len() == 1 { "v1-more" } else { version };
            backends.push((version, Backend::grpc(name).await));
        }
        let mut echo = Self { mesh: Mesh::start().await, backends };
        echo.publish(|_| "healthy");
        echo.mesh.endpoints("echo", 3, SYNC).await;
        echo.mesh.apply(SUBSETS).await.unwrap();
        echo
    }

    fn publish(&mut self, health: impl Fn(usize) -> &'static str) {
        let of = |(i, (version, backend)): (usize, &(&'static str, Backend))| {
            (*version, backend.address, health(i))
        };
        let endpoints: Vec<_> = self.backends.iter().enumerate().map(of).collect();
        self.mesh.publish("echo.yaml", &echo(&endpoints));
    }
}

/// Calls until `done` holds for a streak of them; no call may fail.
async fn calls_until(client: &mut GrpcClient, what: &str, done: impl Fn(&Calls) -> bool) {
    until(what, SYNC, async || {
        let calls = client.call(STREAK, &[]);
        assert_eq!(calls.failed(), 0, "{calls:?}");
        if done(&calls) { Ok(()) } else { Err(format!("{calls:?}")) }
    })
    .await;
}

async fn routes_splits_and_drains(library: Library) {
    let mut echo = Echo::start().await;
    echo.mesh.apply(&split(90, 10)).await.unwrap();
    let mut client = GrpcClient::start(&echo.mesh, library, "echo");

    let calls = client.call(CALLS, &[]);
    assert_eq!(calls.failed(), 0, "{calls:?}");
    let share = f64::from(calls.by("v2")) / f64::from(CALLS);
    assert!((0.09..=0.11).contains(&share), "{share}: {calls:?}");
    assert!(calls.by("v1").abs_diff(calls.by("v1-more")) < CALLS / 50, "turns: {calls:?}");
    let calls = client.call(50, &[("x-test", "yes")]);
    assert_eq!(calls.by("v2"), 50, "a header that may be absent is absent: {calls:?}");
    let calls = client.call(50, &[("x-test", "yes"), ("x-stop", "1")]);
    assert!(calls.by("v2") < 25, "{calls:?}");

    // Draining, then gone: no call notices.
    echo.publish(|i| if i == 1 { "draining" } else { "healthy" });
    calls_until(&mut client, "a drained endpoint to be left alone", |calls| calls.by("v1-more") == 0).await;
    echo.backends.remove(1);
    echo.publish(|_| "healthy");
    calls_until(&mut client, "calls without it", |calls| calls.by("v1") > 0).await;

    echo.mesh.apply(&split(0, 100)).await.unwrap();
    calls_until(&mut client, "a route change", |calls| calls.by("v2") == STREAK).await;

    echo.mesh.synced(1, SYNC).await;
    let (_, metrics) = weft_tests::mesh::http_get(echo.mesh.admin, "/metrics").await.unwrap();
    let refused: Vec<_> =
        metrics.lines().filter(|line| line.starts_with("weft_xds_rejections_total")).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpcio_routes_splits_and_drains() {
    routes_splits_and_drains(Library::Grpcio).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_js_routes_splits_and_drains() {
    routes_splits_and_drains(Library::GrpcJs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_make_the_faults_of_their_calls_themselves() {
    let echo = Echo::start().await;
    let fault = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: echo}\nspec:\n  hosts: [echo]\n  \
                 http:\n  - match: [{headers: {x-test: {exact: \"yes\"}}}]\n    fault: {abort: {grpcStatus: \
                 DATA_LOSS, percentage: {value: 100}}, delay: {fixedDelay: 1ms, percentage: {value: 100}}}\n    \
                 route: [{destination: {host: echo}}]\n  - route: [{destination: {host: echo}}]\n";
    echo.mesh.apply(fault).await.unwrap();
    for library in [Library::Grpcio, Library::GrpcJs] {
        let mut client = GrpcClient::start(&echo.mesh, library, "echo");
        assert_eq!(client.call(20, &[]).failed(), 0, "{library:?}");
        let calls = client.call(20, &[("x-test", "yes")]);
        let made =
            calls.failed.iter().filter(|(why, _)| why.starts_with("DATA_LOSS")).map(|(_, calls)| calls);
        assert_eq!(made.sum::<u32>(), 20, "{library:?}: {calls:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_name_of_a_service_is_a_target() {
    let echo = Echo::start().await;
    let full = "echo.default.svc.cluster.local";
    for target in ["echo", "echo:80", "echo.default", "echo.default:80", full, "echo.mesh.test:80"] {
        let library = if target.ends_with("80") { Library::GrpcJs } else { Library::Grpcio };
        let calls = GrpcClient::start(&echo.mesh, library, target).call(10, &[]);
        assert_eq!(calls.failed(), 0, "{target}: {calls:?}");
    }
    let calls = GrpcClient::start(&echo.mesh, Library::Grpcio, "nowhere").call(1, &[]);
    assert_eq!(calls.failed(), 1, "{calls:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_serves_by_the_listener_that_it_asks_for() {
    let mut mesh = Mesh::start().await;
    let address = free_port();
    let _server = server(&mesh, address, "by-xds");
    mesh.publish("echo.yaml", &echo(&[("v1", address, "healthy")]));
    mesh.endpoints("echo", 1, SYNC).await;
    mesh.synced(1, SYNC).await;
    let calls = GrpcClient::start(&mesh, Library::Grpcio, "echo").call(10, &[]);
    assert_eq!((calls.by("by-xds"), calls.failed()), (10, 0), "{calls:?}");
}
