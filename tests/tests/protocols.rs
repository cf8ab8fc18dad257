//! Protocols through two proxies, the caller's and the server's, and what happens to those who do not keep to them.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use weft_proto::node::{Inbound, NodeMetadata, Upstream};
use weft_tests::{
    backend::{Attempts, Backend, tcp_exchange},
    client::{Body, Connection, Protocol, empty, full, get},
    mesh::{Mesh, Proxy, SYNC, http_get},
    program::{free_port, free_ports},
    services::{Registered, files_yaml},
    wait::{START, until},
};

/// Bytes of the large body that goes each way.
const LARGE: u64 = 1 << 30;

/// Bytes of one chunk of it.
const CHUNK: usize = 64 * 1024;

/// Memory that one request may add to a proxy: by direction and hop, hyper's read buffer and write buffer (some 400 KiB each)
/// or HTTP/2's windows (1 MiB a connection); the rest is what the allocator keeps.
const GROWTH_KIB_MAX: u64 = 16 * 1024;

/// What a raw client waits for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Which programs stand before and beside the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Weft,
    Envoy,
}

/// A caller's proxy and a server's, of one kind, and what is behind.
struct Chain {
    kind: Kind,
    /// HTTP by host: `plain` (HTTP/1.1), `two` (HTTP/2) and `calls` (gRPC).
    http: SocketAddr,
    /// The TCP service `bytes`.
    tcp: SocketAddr,
    caller: Proxy,
    server: Proxy,
}

/// A control plane with chains of each kind.
struct Lines {
    chains: Vec<Chain>,
    mesh: Mesh,
    attempts: Attempts,
    _backends: Vec<Backend>,
}

const SERVICES: [(&str, &str); 4] =
    [("plain", "http"), ("two", "http2"), ("calls", "grpc"), ("bytes", "tcp")];

impl Lines {
    async fn open(kinds: &[Kind]) -> Self {
        let mut mesh = Mesh::start().await;
        let (mut backends, attempts) = (Vec::new(), Attempts::default());
        for (name, protocol) in SERVICES {
            backends.push(match protocol {
                "tcp" => Backend::tcp("v1").await,
                _ => Backend::http(name, "v1", attempts.clone()).await,
            });
        }
        let mut registered = Vec::new();
        let mut servers = Vec::new();
        // Both kinds have services of their own names, which lead to the same backends.
        for kind in kinds {
            let mut inbound = Vec::new();
            for ((name, protocol), backend) in SERVICES.into_iter().zip(&backends) {
                let name = kind.service(name);
                let bind = free_port();
                let endpoints = vec![("v1".to_owned(), bind)];
                registered.push(Registered { name: name.clone(), protocol, endpoints });
                let protocol = protocol.to_owned();
                inbound.push(Inbound {
                    bind: Some(bind.into()),
                    service: name,
                    port: 0,
                    app: backend.address.into(),
                    protocol,
                    workload: String::new(),
                });
            }
            servers.push(NodeMetadata { inbound, ..metadata(&format!("server-{kind:?}")) });
        }
        mesh.publish("services.yaml", &files_yaml(&registered));
        for service in &registered {
            mesh.endpoints(&service.name, 1, SYNC).await;
        }
        let mut chains = Vec::new();
        for (kind, server) in kinds.iter().zip(servers) {
            let [http, tcp] = free_ports();
            let upstream = Upstream { bind: tcp.into(), service: kind.service("bytes"), port: 9000 };
            let caller = NodeMetadata {
                outbound_http: Some(http),
                upstreams: vec![upstream],
                ..metadata(&format!("caller-{kind:?}"))
            };
            let (caller, server) = (kind.start(&mesh, &caller).await, kind.start(&mesh, &server).await);
            chains.push(Chain { kind: *kind, http, tcp, caller, server });
        }
        mesh.synced(2 * kinds.len(), SYNC).await;
        Self { chains, mesh, attempts, _backends: backends }
    }
}

impl Kind {
    fn service(self, name: &str) -> String {
        format!("{name}-{self:?}").to_lowercase()
    }

    async fn start(self, mesh: &Mesh, metadata: &NodeMetadata) -> Proxy {
        match self {
            Self::Weft => mesh.weft_proxy(&metadata.workload, metadata).await,
            Self::Envoy => mesh.envoy(&metadata.workload, metadata).await,
        }
    }
}

fn metadata(workload: &str) -> NodeMetadata {
    let workload = workload.to_lowercase();
    NodeMetadata { namespace: "default".into(), workload, ..NodeMetadata::default() }
}

impl Chain {
    fn host(&self, service: &str) -> String {
        self.kind.service(service)
    }

    async fn connect(&self, protocol: Protocol) -> Connection {
        Connection::open(self.http, protocol).await.unwrap()
    }

    /// Sends raw bytes, and answers what comes until `enough` or the end of the stream.
    async fn raw(&self, text: &str, enough: impl Fn(&str) -> bool) -> String {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        read_until(&mut stream, enough).await
    }
}

async fn read_until(stream: &mut TcpStream, enough: impl Fn(&str) -> bool) -> String {
    let mut all = Vec::new();
    let reading = async {
        let mut chunk = [0; 4096];
        while !enough(&String::from_utf8_lossy(&all)) {
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(read) => all.extend_from_slice(&chunk[..read]),
            }
        }
    };
    let done = tokio::time::timeout(ANSWER_WITHIN, reading).await;
    let text = String::from_utf8_lossy(&all).into_owned();
    assert!(done.is_ok(), "no answer within {ANSWER_WITHIN:?}, only {text:?}");
    text
}

/// The status of a raw answer.
fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

/// A body of many chunks, made as it is asked for, with trailers if there are any.
fn chunks(count: usize, size: usize, trailers: Option<HeaderMap>) -> Body {
    let chunk = Bytes::from(vec![b'w'; size]);
    let frames = (0..count).map(move |_| Ok(Frame::data(chunk.clone())));
    let frames = frames.chain(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
    StreamBody::new(futures::stream::iter(frames)).boxed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pairing_of_http_versions_carries_what_it_should_on_both_proxies() {
    let lines = Lines::open(&[Kind::Weft, Kind::Envoy]).await;
    for chain in &lines.chains {
        for protocol in [Protocol::H1, Protocol::H2] {
            for service in ["plain", "two"] {
                let what = format!("{:?}: {protocol:?} to {service}", chain.kind);
                let host = chain.host(service);
                let mut connection = chain.connect(protocol).await;
                let request = get(protocol, &host, "/a?b=c").method("POST");
                let answer = connection.send(request.body(chunks(20, 10_000, None)).unwrap()).await.unwrap();
                let seen: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                assert_eq!(
                    (answer.status.as_u16(), seen["body_bytes"].as_u64()),
                    (200, Some(200_000)),
                    "{what}"
                );
                let spoken = if service == "plain" { "HTTP/1.1" } else { "HTTP/2.0" };
                assert_eq!(
                    (seen["protocol"].as_str(), seen["path"].as_str()),
                    (Some(spoken), Some("/a?b=c")),
                    "{what}"
                );

                let request = get(protocol, &host, "/").method("HEAD").header("x-echo-size", "12345");
                let answer = connection.send(request.body(empty()).unwrap()).await.unwrap();
                let length = answer.header("content-length");
                assert_eq!((answer.body.len(), length.as_deref()), (0, Some("12345")), "HEAD, {what}");

                for code in ["204", "304"] {
                    let request =
                        get(protocol, &host, "/").header("x-echo-status", code).header("x-echo-size", "0");
                    let answer = connection.send(request.body(empty()).unwrap()).await.unwrap();
                    assert_eq!((answer.status.as_str(), answer.body.len()), (code, 0), "{what}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_want_to_change_the_protocol_are_treated_alike() {
    let lines = Lines::open(&[Kind::Weft, Kind::Envoy]).await;
    let mut wrong = Vec::new();
    for chain in &lines.chains {
        let host = chain.host("plain");
        let ours = chain.kind == Kind::Weft;
        let head = format!("host: {host}\r\n");
        let whole = |answer: &str| answer.contains("\r\n\r\n");
        for (what, request, expected) in [
            ("connect", format!("CONNECT {host}:80 HTTP/1.1\r\n{head}\r\n"), "404"),
            (
                "another upgrade",
                format!("GET / HTTP/1.1\r\n{head}connection: upgrade\r\nupgrade: other\r\n\r\n"),
                "403",
            ),
            (
                "h2c, which may be passed over",
                format!(
                    "GET / HTTP/1.1\r\n{head}connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: \
                     AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
                ),
                "200",
            ),
            (
                "expect",
                format!("POST / HTTP/1.1\r\n{head}expect: 100-continue\r\ncontent-length: 3\r\n\r\n"),
                "100",
            ),
            ("an unknown expectation", format!("GET / HTTP/1.1\r\n{head}expect: miracles\r\n\r\n"), "200"),
            // Ours answers what old clients ask; Envoy, as Istio sets it up, does not.
            ("HTTP/1.0", format!("GET / HTTP/1.0\r\n{head}\r\n"), if ours { "200" } else { "426" }),
            ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
            // Ours drops the length and closes the connection afterwards (RFC 9112, 6.3).
            (
                "both lengths",
                format!(
                    "POST / HTTP/1.1\r\n{head}content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
                ),
                if ours { "200" } else { "400" },
            ),
            ("no HTTP at all", "EHLO mail.test\r\n".to_owned(), "400"),
        ] {
            let answer = chain.raw(&request, whole).await;
            if status(&answer) != expected {
                wrong.push(format!("{:?}: {what}: {expected} expected: {answer}", chain.kind));
            }
        }
        let one = |bytes: usize| {
            let value = "v".repeat(bytes);
            format!("GET / HTTP/1.1\r\n{head}x-large: {value}\r\nconnection: close\r\n\r\n")
        };
        let many = |count: usize| {
            let lines: String = (0..count).map(|n| format!("x-{n}: v\r\n")).collect();
            format!("GET / HTTP/1.1\r\n{head}{lines}connection: close\r\n\r\n")
        };
        for (what, request, expected) in [
            ("a header of 50 KiB", one(50 << 10), "200"),
            ("a header of 100 KiB", one(100 << 10), "431"),
            ("90 headers", many(90), "200"),
            ("120 headers", many(120), "431"),
        ] {
            let answer = chain.raw(&request, whole).await;
            if status(&answer) != expected {
                wrong.push(format!("{:?}: {what}: {expected} expected: {answer}", chain.kind));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_carries_any_bytes_and_its_end_through_two_proxies() {
    let lines = Lines::open(&[Kind::Weft, Kind::Envoy]).await;
    for chain in &lines.chains {
        let mut stream = TcpStream::connect(chain.http).await.unwrap();
        let head = format!(
            "GET /chat HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: \
             13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            chain.host("plain")
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, |answer| answer.contains("\r\n\r\n")).await;
        assert_eq!(status(&answer), "101", "{:?}: {answer}", chain.kind);
        let accepted = answer.to_lowercase().contains("upgrade: websocket")
            && answer.contains("dGhlIHNhbXBsZSBub25jZQ==");
        assert!(accepted, "{:?}: {answer}", chain.kind);
        // Text; binary of 70,000 bytes; a text in two fragments with a ping between; close 1001.
        let mut frames = masked(0x81, b"hello");
        frames.extend(masked(0x82, &[0xff; 70_000]));
        frames.extend(masked(0x01, b"frag"));
        frames.extend(masked(0x89, b"ping"));
        frames.extend(masked(0x80, b"ment"));
        frames.extend(masked(0x88, &1001_u16.to_be_bytes()));
        let (mut read, mut write) = stream.split();
        let mut echoed = vec![0; frames.len()];
        let (sent, got) = tokio::join!(write.write_all(&frames), read.read_exact(&mut echoed));
        sent.unwrap();
        got.unwrap();
        assert!(echoed == frames, "{:?}: other bytes came back", chain.kind);
        // The server answers the close by closing.
        write.shutdown().await.unwrap();
        assert_eq!(read.read(&mut [0; 16]).await.unwrap_or(0), 0, "{:?}", chain.kind);
    }
}

/// A frame as a client sends it (RFC 6455, 5.2).
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        0..126 => frame.push(0x80 | payload.len() as u8),
        126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((payload.len() as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_keeps_half_of_a_connection_open_and_waits_for_servers_that_speak_first() {
    let lines = Lines::open(&[Kind::Weft, Kind::Envoy]).await;
    for chain in &lines.chains {
        // Nothing is sent before the greeting has come.
        let mut stream = TcpStream::connect(chain.tcp).await.unwrap();
        let greeting = read_until(&mut stream, |text| text.ends_with('\n')).await;
        assert_eq!(greeting, "v1\n", "{:?}", chain.kind);
        drop(stream);
        // The answer comes after the question's half was closed.
        let answer = tcp_exchange(chain.tcp, "what is this?").await.unwrap();
        assert_eq!(answer, ("v1".to_owned(), "what is this?".to_owned()), "{:?}", chain.kind);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_each_way_takes_no_more_memory_than_the_buffers() {
    let mut lines = Lines::open(&[Kind::Weft]).await;
    let chain = &mut lines.chains[0];
    for (protocol, service, bytes) in [(Protocol::H1, "plain", LARGE), (Protocol::H2, "two", LARGE / 4)] {
        let host = chain.host(service);
        let before = [chain.caller.program().peak_kib(), chain.server.program().peak_kib()];
        let count = usize::try_from(bytes).unwrap() / CHUNK;
        let request = get(protocol, &host, "/").method("POST").header("x-echo-stream", "1");
        let mut connection = Connection::open(chain.http, protocol).await.unwrap();
        let mut answer = connection.start(request.body(chunks(count, CHUNK, None)).unwrap()).await.unwrap();
        let mut came = 0;
        while let Some(frame) = answer.body_mut().frame().await {
            came += frame.unwrap().data_ref().map_or(0, Bytes::len) as u64;
        }
        assert_eq!(came, bytes, "{protocol:?}");
        let after = [chain.caller.program().peak_kib(), chain.server.program().peak_kib()];
        for (before, after) in before.into_iter().zip(after) {
            let growth = after - before;
            assert!(growth < GROWTH_KIB_MAX, "{protocol:?}: {growth} KiB more, after {before} KiB");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_stops_the_writer() {
    let lines = Lines::open(&[Kind::Weft]).await;
    let chain = &lines.chains[0];
    for (protocol, service) in [(Protocol::H1, "plain"), (Protocol::H2, "two"), (Protocol::H2, "calls")] {
        let host = chain.host(service);
        let made = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counted = made.clone();
        let chunk = Bytes::from(vec![b'w'; CHUNK]);
        // Without end: only back-pressure stops it.
        let frames = std::iter::repeat_with(move || {
            counted.fetch_add(CHUNK as u64, std::sync::atomic::Ordering::Relaxed);
            Ok(Frame::data(chunk.clone()))
        });
        let body = StreamBody::new(futures::stream::iter(frames)).boxed();
        let request = get(protocol, &host, "/").method("POST").header("x-echo-stream", "1");
        let mut connection = Connection::open(chain.http, protocol).await.unwrap();
        let answer = connection.start(request.body(body).unwrap()).await.unwrap();
        // Nobody reads the answer: after a while no more is made.
        let mut last = (0, 0);
        until("a writer at rest", START, async || {
            let now = made.load(std::sync::atomic::Ordering::Relaxed);
            last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
            if last.1 > 50 { Ok(()) } else { Err(format!("{now} bytes made")) }
        })
        .await;
        // Sockets' own buffers are the larger part: some 6 MiB each on loopback, three hops, both ways.
        assert!(last.0 < 64 << 20, "{protocol:?} to {service}: {} bytes made for nobody", last.0);
        drop((answer, connection));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_is_counted_once_on_each_proxy() {
    let lines = Lines::open(&[Kind::Weft]).await;
    let chain = &lines.chains[0];
    let request = get(Protocol::H1, &chain.host("plain"), "/").method("POST").header("x-echo-stream", "1");
    let mut connection = chain.connect(Protocol::H1).await;
    let endless = std::iter::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b'w'; 1000]))));
    let body = StreamBody::new(futures::stream::iter(endless)).boxed();
    let answer = connection.start(request.body(body).unwrap()).await.unwrap();
    drop((answer, connection));
    for proxy in [&chain.caller, &chain.server] {
        until("a request that was given up", START, async || {
            let (_, metrics) = http_get(proxy.admin, "/metrics").await?;
            let counted = metrics.lines().filter(|line| line.starts_with("istio_requests_total{"));
            let count: u64 =
                counted.clone().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
            if count == 1 { Ok(()) } else { Err(counted.collect::<Vec<_>>().join("\n")) }
        })
        .await;
    }
}

/// A gRPC message (5 bytes of head, then the text).
fn message(text: &str) -> Bytes {
    let mut frame = vec![0];
    frame.extend((text.len() as u32).to_be_bytes());
    frame.extend(text.as_bytes());
    frame.into()
}

fn call(host: &str) -> http::request::Builder {
    let request = get(Protocol::H2, host, "/test.Echo/Call").method("POST");
    request.header("content-type", "application/grpc").header("te", "trailers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_streams_answer_message_by_message_and_end_with_their_status() {
    let lines = Lines::open(&[Kind::Weft, Kind::Envoy]).await;
    for chain in &lines.chains {
        let host = chain.host("calls");
        let mut connection = chain.connect(Protocol::H2).await;
        // Both directions at once: each message is answered before the next is sent.
        let (messages, body) = tokio::sync::mpsc::channel::<Bytes>(1);
        let body = tokio_stream::wrappers::ReceiverStream::new(body);
        let body = futures::StreamExt::map(body, |message| Ok(Frame::data(message)));
        let request = call(&host).header("x-echo-stream", "1").header("x-echo-trailer", "grpc-status: 0");
        let starting = connection.start(request.body(StreamBody::new(body).boxed()).unwrap());
        let (answer, _) = tokio::join!(starting, messages.send(message("0")));
        let mut answer = answer.unwrap();
        for n in 0..50 {
            let mut came = Vec::new();
            let expected = message(&n.to_string());
            while came.len() < expected.len() {
                let frame = answer.body_mut().frame().await.unwrap().unwrap();
                came.extend_from_slice(frame.data_ref().unwrap());
            }
            assert_eq!(came, expected, "{:?}", chain.kind);
            messages.send(message(&(n + 1).to_string())).await.unwrap();
        }
        drop(messages);
        let rest = answer.into_body().collect().await.unwrap();
        let status = rest.trailers().and_then(|trailers| trailers.get("grpc-status").cloned());
        assert_eq!(status.unwrap(), "0", "{:?}", chain.kind);

        // Many messages up, one down, with a status of its own.
        let request = call(&host).header("x-echo-size", "9").header("x-echo-trailer", "grpc-status: 9");
        let answer = connection.send(request.body(chunks(100, 50, None)).unwrap()).await.unwrap();
        assert_eq!(
            (answer.body.len(), answer.trailers["grpc-status"].as_str()),
            (9, "9"),
            "{:?}",
            chain.kind
        );

        // Nothing but a status.
        let request = call(&host).header("x-echo-size", "0").header("x-echo-header", "grpc-status: 5");
        let answer = connection.send(request.body(full(message("x"))).unwrap()).await.unwrap();
        let status = answer.header("grpc-status").or_else(|| answer.trailers.get("grpc-status").cloned());
        assert_eq!((answer.status.as_u16(), status.as_deref()), (200, Some("5")), "{:?}", chain.kind);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_status_is_a_reason_to_try_again_where_the_route_says_so() {
    let lines = Lines::open(&[Kind::Weft, Kind::Envoy]).await;
    for chain in &lines.chains {
        let host = chain.host("calls");
        let route = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {host}}}\nspec:\n  hosts: \
             [{host}]\n  http:\n  - retries: {{attempts: 2, retryOn: unavailable}}\n    route: [{{destination: {{host: \
             {host}}}}}]\n"
        );
        lines.mesh.apply(&route).await.unwrap();
    }
    lines.mesh.synced(2 * lines.chains.len(), SYNC).await;
    for chain in &lines.chains {
        for (code, attempts) in [("14", 3), ("5", 1)] {
            let id = format!("{:?}-{code}", chain.kind);
            let request: Request<Body> = call(&chain.host("calls"))
                .header("x-echo-id", &id)
                .header("x-echo-size", "0")
                .header("x-echo-header", format!("grpc-status: {code}"))
                .body(full(message("x")))
                .unwrap();
            let answer = chain.connect(Protocol::H2).await.send(request).await.unwrap();
            let status = answer.header("grpc-status").or_else(|| answer.trailers.get("grpc-status").cloned());
            assert_eq!(status.as_deref(), Some(code), "{:?}", chain.kind);
            assert_eq!(lines.attempts.of(&id), attempts, "{:?}: {code}", chain.kind);
        }
    }
}
