//! The whole path over loopback: a worker, real sockets, origins of the test's own.

mod tls;

use std::{collections::BTreeMap, net::SocketAddr};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::*;

mod shaping;

use crate::{
    listener::chains::Chains,
    spec::*,
    stream::{Spoken, Stream},
};

mod on_demand;

fn unknown() -> Workload {
    let unknown: Arc<str> = "unknown".into();
    Workload {
        name: unknown.clone(),
        namespace: unknown.clone(),
        service: unknown.clone(),
        revision: unknown.clone(),
        cluster: unknown,
    }
}

fn endpoints(addresses: &[SocketAddr]) -> Arc<EndpointSet> {
    let endpoints = addresses
        .iter()
        .map(|address| {
            Arc::new(Endpoint {
                tls_labels: Default::default(),
                address: EndpointAddress::Tcp(*address),
                weight: 1,
                health: EndpointHealth::Admitting,
                hostname: "".into(),
                hash_key: None,
                check: EndpointCheck::default(),
                workload: unknown(),
            })
        })
        .collect();
    let locality = LocalityEndpoints { priority: 0, weight: 0, locality: "".into(), endpoints };
    Arc::new(EndpointSet { localities: vec![locality], ..EndpointSet::default() })
}

fn cluster(protocol: UpstreamProtocol, requests_max: u32) -> Cluster {
    Cluster {
        name: "c".into(),
        discovery: Discovery::Eds("c".into()),
        balancing: Balancing::RoundRobin,
        slow_start: None,
        locality_weighted: false,
        panic_percent: 0,
        outlier: None,
        tls: None,
        tls_matches: Vec::new(),
        check: None,
        unchecked_count: true,
        protocol,
        connect_timeout: Duration::from_secs(1),
        keepalive: None,
        source: None,
        limits: ClusterLimits {
            connections_max: 100,
            pending_max: 100,
            requests_max,
            retries_max: 3,
            retry_budget_percent: 0,
            retry_concurrency_min: 0,
            requests_per_connection_max: 0,
        },
        idle_timeout: Duration::from_secs(60),
        connection_age_max: None,
        destination: Destination { host: "c.local".into(), name: "c".into(), namespace: "default".into() },
    }
}

fn forward(timeout: Option<Duration>, retry: Option<RetryPolicy>) -> RouteAction {
    RouteAction::Forward(Box::new(Forward {
        clusters: vec![WeightedCluster {
            name: "c".into(),
            weight: 1,
            request_headers: HeaderMutation::default(),
            response_headers: HeaderMutation::default(),
        }],
        cluster_not_found: StatusCode::SERVICE_UNAVAILABLE,
        timeout,
        grpc_timeout_max: None,
        idle_timeout: None,
        retry,
        prefix_rewrite: None,
        regex_rewrite: None,
        host_rewrite: None,
        upgrades: Vec::new(),
        hash: Vec::new(),
        mirrors: Vec::new(),
        replay_bytes_max: crate::body::REPLAY_BYTES,
    }))
}

fn retry_503() -> RetryPolicy {
    RetryPolicy {
        on: RetryOn { gateway_error: true, connect_failure: true, ..RetryOn::default() },
        retries_max: 2,
        per_try_timeout: None,
        backoff_base: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
        retry_after: None,
        avoid_tried: true,
        leave_priorities_every: None,
    }
}

fn spec(cluster: Cluster, endpoints: Arc<EndpointSet>, action: RouteAction) -> Spec {
    let route = Route {
        name: "r".into(),
        matches: RouteMatch {
            path: PathMatch::Prefix("/".into()),
            ignore_case: false,
            headers: Vec::new(),
            query: Vec::new(),
            fraction_ppm: 1_000_000,
        },
        action,
        request_headers: HeaderMutation::default(),
        response_headers: HeaderMutation::default(),
        filters: Vec::new(),
    };
    let table = RouteConfig {
        name: "t".into(),
        ignore_port: false,
        on_demand: false,
        virtual_hosts: vec![VirtualHost {
            name: "v".into(),
            domains: vec!["*".into()],
            routes: vec![Arc::new(route)],
            used: None,
        }],
    };
    let listener = Listener {
        name: "l".into(),
        address: ListenAddress::Tcp(([127, 0, 0, 1], 0).into()),
        direction: Direction::Outbound,
        inspection: Inspection::default(),
        original_destination: false,
        hands_over: false,
        has_socket: true,
        chains: chains(ListenerProtocol::Http(HttpListener {
            stat_prefix: "l".into(),
            routes: RouteSource::Named("t".into()),
            tracing: None,
            filters: Vec::new(),
            headers_bytes_max: 64 * 1024,
            headers_count_max: 100,
            request_headers_timeout: Duration::from_secs(10),
            stream_idle_timeout: Duration::ZERO,
            h2_concurrent_streams_max: 100,
            edge: false,
            client_cert: ClientCert::default(),
            merge_slashes: true,
            upgrades: Vec::new(),
        })),
    };
    Spec {
        listeners: BTreeMap::from([(listener.name.clone(), Arc::new(listener))]),
        routes: BTreeMap::from([("t".into(), Arc::new(table))]),
        clusters: BTreeMap::from([("c".into(), Arc::new(cluster))]),
        endpoints: BTreeMap::from([("c".into(), endpoints)]),
        complete: true,
        ..Spec::default()
    }
}

fn chain(protocol: ListenerProtocol) -> Chain {
    let (matches, idle_timeout) = (ChainMatch::default(), Duration::from_secs(60));
    Chain {
        guards: Vec::new(),
        name: "".into(),
        matches,
        tls: None,
        protocol,
        idle_timeout,
        access_logs: None,
        digest: rand::random(),
    }
}

fn chains(protocol: ListenerProtocol) -> Chains {
    Chains::new(vec![chain(protocol)], None).unwrap()
}

/// A proxy, drained when dropped.
struct Proxy {
    shared: Arc<Shared>,
    spec: watch::Sender<Arc<Spec>>,
    workers: Vec<WorkerHandle>,
    /// Hosts that requests need.
    demands: mpsc::Receiver<String>,
    _answers: watch::Sender<Answers>,
}

impl Proxy {
    fn start(spec: Spec) -> Self {
        Self::start_with(spec, 2)
    }

    fn start_with(spec: Spec, workers: usize) -> Self {
        let (spec, spec_rx) = watch::channel(Arc::new(spec));
        let (answers, answers_rx) = watch::channel(Answers::default());
        let (on_demand, demands) = OnDemand::new();
        let shared = Arc::new(Shared::new(
            spec_rx,
            answers_rx,
            Limits::default(),
            CancellationToken::new(),
            unknown(),
            on_demand,
        ));
        let workers = (0..workers).map(|i| spawn(i, shared.clone()).unwrap()).collect();
        Self { shared, spec, workers, demands, _answers: answers }
    }

    async fn address(&self) -> SocketAddr {
        let mut bound = self.shared.bound.subscribe();
        let bound = bound.wait_for(|bound| bound.contains_key("l")).await.unwrap();
        match &bound["l"] {
            Bound::At(ListenAddress::Tcp(address)) => *address,
            other => panic!("{other:?}"),
        }
    }

    /// Drains; every worker must end.
    fn drain(mut self) {
        self.shared.drain.cancel();
        for worker in std::mem::take(&mut self.workers) {
            worker.join().unwrap();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.drain.cancel();
    }
}

/// An origin that answers each request with what `answer` makes of it.
async fn origin<F>(answer: F) -> SocketAddr
where
    F: Fn(usize, Request<()>, Bytes) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            number += 1;
            let answer = answer.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = answer.clone();
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await?.to_bytes();
                        hyper::Result::Ok(answer(number, Request::from_parts(parts, ()), body))
                    }
                });
                let mut stream = Stream::from(stream);
                let spoken = stream.sniff().await;
                let stream = TokioIo::new(stream);
                if matches!(spoken, Ok(Spoken::Http2)) {
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(stream, service).await;
                } else {
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(stream, service).await;
                }
            });
        }
    });
    address
}

fn text(text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::new(Full::new(text.into()))
}

/// Sends raw bytes and reads until the connection closes.
async fn raw(address: SocketAddr, request: impl AsRef<str>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_ref().as_bytes()).await.unwrap();
    let mut out = Vec::new();
    let _ = stream.read_to_end(&mut out).await;
    String::from_utf8_lossy(&out).into_owned()
}

const GET: &str = "GET /a HTTP/1.1\r\nhost: c\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_request_goes_to_the_endpoint_and_back() {
    let origin = origin(|_, request, body| {
        assert_eq!(request.headers()["x-forwarded-proto"], "http");
        assert_eq!(request.headers()["x-request-id"].len(), 36);
        assert!(!request.headers().contains_key("x-envoy-internal"));
        text(format!("{} {} {}", request.method(), request.uri(), String::from_utf8_lossy(&body)))
    })
    .await;
    let proxy =
        Proxy::start(spec(cluster(UpstreamProtocol::Http1, 10), endpoints(&[origin]), forward(None, None)));
    let post = "POST /a/../b?q HTTP/1.1\r\nhost: c\r\nx-envoy-internal: true\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc";
    let answer = raw(proxy.address().await, post).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("POST /b?q abc"), "{answer}");
    let mut metrics = String::new();
    proxy.shared.traffic.render(&mut metrics);
    proxy.drain();
    assert!(metrics.contains("destination_service=\"c.local\""), "{metrics}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_over_one_pooled_connection() {
    let origin = origin(|connection, request, _| text(format!("[{connection}{}]", request.uri()))).await;
    let proxy =
        Proxy::start(spec(cluster(UpstreamProtocol::Http1, 10), endpoints(&[origin]), forward(None, None)));
    let one = "GET /1 HTTP/1.1\r\nhost: c\r\n\r\nGET /2 HTTP/1.1\r\nhost: c\r\n\r\n";
    let answer = raw(proxy.address().await, &format!("{one}{GET}")).await;
    let place = |part: &str| answer.find(part).unwrap_or_else(|| panic!("{part} in {answer}"));
    assert!(place("[1/1]") < place("[1/2]") && place("[1/2]") < place("[1/a]"));
}

#[tokio::test]
async fn no_endpoint_no_route_and_no_connection_have_their_own_answers() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = Proxy::start(spec(cluster(UpstreamProtocol::Http1, 10), endpoints(&[]), forward(None, None)));
    let address = proxy.address().await;
    let answer = raw(address, GET).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("no healthy upstream"), "{answer}");
    let bad = raw(address, "GET /%2f HTTP/1.1\r\nhost: c\r\nconnection: close\r\n\r\n").await;
    assert!(bad.starts_with("HTTP/1.1 400"), "{bad}");
    let grpc = GET.replace("\r\n\r\n", "\r\ncontent-type: application/grpc\r\n\r\n");
    let answer = raw(address, &grpc).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("grpc-status: 14"), "{answer}");

    let proxy =
        Proxy::start(spec(cluster(UpstreamProtocol::Http1, 10), endpoints(&[gone]), forward(None, None)));
    let answer = raw(proxy.address().await, GET).await;
    assert!(answer.ends_with("remote connection failure"), "{answer}");
}

#[tokio::test]
async fn a_retry_goes_to_another_endpoint_with_the_whole_body() {
    let bad = origin(|_, _, _| {
        let mut response = text("bad");
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    })
    .await;
    let good = origin(|_, _, body| text(body)).await;
    let action = forward(None, Some(retry_503()));
    let proxy = Proxy::start(spec(cluster(UpstreamProtocol::Http1, 10), endpoints(&[bad, good]), action));
    let post = "POST / HTTP/1.1\r\nhost: c\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    for _ in 0..4 {
        let answer = raw(proxy.address().await, post).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    }
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_504() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let action = forward(Some(Duration::from_millis(50)), None);
    let endpoints = endpoints(&[silent.local_addr().unwrap()]);
    let proxy = Proxy::start(spec(cluster(UpstreamProtocol::Http1, 10), endpoints, action));
    let answer = raw(proxy.address().await, GET).await;
    assert!(answer.starts_with("HTTP/1.1 504") && answer.ends_with("upstream request timeout"), "{answer}");
}

#[tokio::test]
async fn requests_over_the_limit_are_refused() {
    let origin = origin(|_, _, _| text("ok")).await;
    let proxy =
        Proxy::start(spec(cluster(UpstreamProtocol::Http1, 0), endpoints(&[origin]), forward(None, None)));
    let answer = raw(proxy.address().await, GET).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("overflow"), "{answer}");
}

#[tokio::test]
async fn at_the_connection_limit_requests_wait_their_turn_and_the_next_one_is_refused() {
    let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut cluster = cluster(UpstreamProtocol::Http1, 10);
    cluster.limits.connections_max = 1;
    cluster.limits.pending_max = 1;
    let made = spec(cluster, endpoints(&[origin.local_addr().unwrap()]), forward(None, None));
    let proxy = Proxy::start_with(made, 1);
    let address = proxy.address().await;
    let first = tokio::spawn(raw(address, GET));
    let (mut connection, _) = origin.accept().await.unwrap();
    let mut head = [0; 1024];
    assert!(connection.read(&mut head).await.unwrap() > 0);
    // One of these two waits for the only connection; there is no place for the other.
    let (second, third) = (tokio::spawn(raw(address, GET)), tokio::spawn(raw(address, GET)));
    let refused = proxy.shared.counters(&"c".into());
    while refused.pending.load(Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (done, waiting) = match futures::future::select(second, third).await {
        futures::future::Either::Left((done, waiting)) => (done, waiting),
        futures::future::Either::Right((done, waiting)) => (done, waiting),
    };
    assert!(done.unwrap().ends_with("overflow"));
    connection.write_all(answer).await.unwrap();
    assert!(first.await.unwrap().ends_with("ok"));
    assert!(connection.read(&mut head).await.unwrap() > 0, "the same connection is used again");
    connection.write_all(answer).await.unwrap();
    assert!(waiting.await.unwrap().ends_with("ok"));
}

#[tokio::test]
async fn an_update_keeps_connections_and_serves_the_new_endpoints() {
    let first = origin(|connection, _, _| text(format!("first {connection}"))).await;
    let second = origin(|_, _, _| text("second")).await;
    let make = |addresses: &[SocketAddr]| {
        spec(cluster(UpstreamProtocol::Http1, 10), endpoints(addresses), forward(None, None))
    };
    let initial = make(&[first]);
    let listeners = initial.listeners.clone();
    let proxy = Proxy::start(initial);
    let address = proxy.address().await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let mut ask = async || {
        client.write_all(b"GET / HTTP/1.1\r\nhost: c\r\n\r\n").await.unwrap();
        let mut buffer = [0; 1024];
        let size = client.read(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..size]).into_owned()
    };
    assert!(ask().await.ends_with("first 1"));
    // Another cluster spec with the same endpoint: the pooled connection stays in use.
    proxy.spec.send_replace(Arc::new(Spec { listeners: listeners.clone(), ..make(&[first]) }));
    assert!(ask().await.ends_with("first 1"));
    proxy.spec.send_replace(Arc::new(Spec { listeners, ..make(&[second]) }));
    while !ask().await.ends_with("second") {}
}

#[tokio::test]
async fn a_connection_that_has_come_to_its_age_serves_no_further_request() {
    let origin = origin(|connection, _, _| text(format!("[{connection}]"))).await;
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        for (age_max, same) in [(None, true), (Some(Duration::ZERO), false), (Some(Duration::MAX), true)] {
            let cluster = Cluster { connection_age_max: age_max, ..cluster(protocol, 10) };
            let proxy = Proxy::start_with(spec(cluster, endpoints(&[origin]), forward(None, None)), 1);
            let address = proxy.address().await;
            let (first, second) = (raw(address, GET).await, raw(address, GET).await);
            let connection = |answer: &str| answer[answer.rfind('[').unwrap()..].to_owned();
            assert_eq!(connection(&first) == connection(&second), same, "{protocol:?} {age_max:?}");
        }
    }
}

#[tokio::test]
async fn a_session_cookie_keeps_a_caller_at_one_endpoint() {
    let origins = [origin(|_, _, _| text("[a]")).await, origin(|_, _, _| text("[b]")).await];
    let maglev = Balancing::Maglev(Maglev { table_size: 251, by_hostname: false });
    let cluster = Cluster { balancing: maglev, ..cluster(UpstreamProtocol::Http1, 10) };
    let mut action = forward(None, None);
    if let RouteAction::Forward(forward) = &mut action {
        let cookie = HashCookie { name: "id".into(), issue: Some("; HttpOnly".into()) };
        forward.hash.push(HashPolicy { source: HashSource::Cookie(cookie), terminal: false });
    }
    let proxy = Proxy::start(spec(cluster, endpoints(&origins), action));
    let address = proxy.address().await;
    for _ in 0..4 {
        let first = raw(address, GET).await;
        let set = first.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        let (cookie, rest) = set.split_once(';').unwrap();
        assert_eq!(rest, " HttpOnly");
        let again = GET.replace("\r\n\r\n", &format!("\r\ncookie: {cookie}\r\n\r\n"));
        for _ in 0..3 {
            let answer = raw(address, &again).await;
            assert!(!answer.contains("set-cookie"), "{answer}");
            assert_eq!(answer[answer.len() - 3..], first[first.len() - 3..]);
        }
    }
}

#[tokio::test]
async fn http2_passes_on_both_sides() {
    let origin = origin(|_, request, _| {
        assert_eq!(request.version(), http::Version::HTTP_2);
        text("h2")
    })
    .await;
    let proxy =
        Proxy::start(spec(cluster(UpstreamProtocol::Http2, 10), endpoints(&[origin]), forward(None, None)));
    let stream = TcpStream::connect(proxy.address().await).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        let request = Request::get("http://c/").body(Empty::<Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "h2");
    }
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let origin = origin(|_, _, body| text(body)).await;
    let proxy =
        Proxy::start(spec(cluster(UpstreamProtocol::Http1, 10), endpoints(&[origin]), forward(None, None)));
    let mut client = TcpStream::connect(proxy.address().await).await.unwrap();
    client.set_nodelay(true).unwrap();
    let post = "POST / HTTP/1.1\r\nhost: c\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    for byte in post.bytes() {
        client.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hi"), "{answer}");
}

#[tokio::test]
async fn a_websocket_is_tunnelled_where_the_route_allows_it() {
    let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoints = endpoints(&[origin.local_addr().unwrap()]);
    tokio::spawn(async move {
        let (mut stream, _) = origin.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(String::from_utf8(head).unwrap().contains("upgrade: websocket"));
        let agreed = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(agreed.as_bytes()).await.unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
    });
    let mut action = forward(None, None);
    if let RouteAction::Forward(forward) = &mut action {
        forward.upgrades.push("websocket".into());
    }
    let proxy = Proxy::start(spec(cluster(UpstreamProtocol::Http1, 10), endpoints, action));
    let mut client = TcpStream::connect(proxy.address().await).await.unwrap();
    let asked = "GET / HTTP/1.1\r\nhost: c\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    client.write_all(asked.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    client.write_all(b"ping").await.unwrap();
    let mut echo = [0; 4];
    client.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"ping");
}

#[tokio::test]
async fn bytes_are_relayed_until_both_sides_are_done() {
    let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut made = spec(
        cluster(UpstreamProtocol::Http1, 10),
        endpoints(&[origin.local_addr().unwrap()]),
        forward(None, None),
    );
    let mut listener = Listener::clone(&made.listeners["l"]);
    listener.chains = chains(ListenerProtocol::Tcp(crate::spec::TcpListener {
        stat_prefix: "t".into(),
        hash_source_ip: false,
        clusters: vec![WeightedCluster {
            name: "c".into(),
            weight: 1,
            request_headers: HeaderMutation::default(),
            response_headers: HeaderMutation::default(),
        }],
    }));
    made.listeners.insert("l".into(), Arc::new(listener));
    let proxy = Proxy::start(made);
    let mut client = TcpStream::connect(proxy.address().await).await.unwrap();
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let (mut stream, _) = origin.accept().await.unwrap();
    let mut question = String::new();
    stream.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "question");
    stream.write_all(b"answer").await.unwrap();
    drop(stream);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer", "a half-closed client still gets its answer");
}

#[tokio::test]
async fn an_endpoint_that_keeps_failing_is_ejected_and_gets_no_further_request() {
    let bad = origin(|_, _, _| {
        let mut response = text("bad");
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
    .await;
    let good = origin(|_, _, _| text("good")).await;
    let enforcing = Enforcing {
        consecutive_5xx: 100,
        consecutive_gateway: 0,
        consecutive_local: 0,
        success_rate: 0,
        success_rate_local: 0,
        failure_percentage: 0,
        failure_percentage_local: 0,
    };
    let outlier = Outlier {
        consecutive_5xx: 3,
        consecutive_gateway: 0,
        consecutive_local: 0,
        split_local: false,
        interval: Duration::from_secs(600),
        base_ejection_time: Duration::from_secs(600),
        max_ejection_time: Duration::from_secs(600),
        ejection_jitter_max: Duration::ZERO,
        ejections_max_percent: 50,
        always_one: false,
        enforcing,
        success_rate_hosts_min: 5,
        success_rate_requests_min: 100,
        success_rate_deviations: 1.9,
        failure_percentage: 85,
        failure_percentage_hosts_min: 5,
        failure_percentage_requests_min: 50,
        check_ends_ejection: true,
    };
    let cluster = Cluster { outlier: Some(outlier), ..cluster(UpstreamProtocol::Http1, 10) };
    let proxy = Proxy::start(spec(cluster, endpoints(&[bad, good]), forward(None, None)));
    tokio::spawn(crate::health::run(proxy.shared.clone(), proxy.shared.drain.clone()));
    let address = proxy.address().await;
    let vitals = proxy.shared.counters(&"c".into());
    let bad = EndpointAddress::Tcp(bad);
    while !vitals.vitals.find(&bad).is_some_and(|vital| vital.ejected()) {
        raw(address, GET).await;
    }
    for _ in 0..10 {
        assert!(raw(address, GET).await.ends_with("good"));
    }
}

mod http2;
