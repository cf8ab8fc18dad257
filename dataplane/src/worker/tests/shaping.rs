//! Filters and mirrors over the whole path.

use super::*;

/// What `spec` makes, with these filters on its listener, and a second cluster `d` at these addresses.
fn shaped(
    action: RouteAction,
    origin: SocketAddr,
    filters: Vec<FilterConfig>,
    others: &[SocketAddr],
) -> Spec {
    let mut made = spec(cluster(UpstreamProtocol::Http1, 10), endpoints(&[origin]), action);
    let mut listener = Listener::clone(&made.listeners["l"]);
    let ListenerProtocol::Http(mut http) = listener.chains.all()[0].protocol.clone() else {
        panic!("no HTTP")
    };
    let filter = |config| HttpFilter { name: "f".into(), disabled: false, config };
    http.filters = filters.into_iter().map(filter).collect();
    listener.chains = chains(ListenerProtocol::Http(http));
    made.listeners.insert("l".into(), Arc::new(listener));
    let other = Cluster {
        name: "d".into(),
        discovery: Discovery::Eds("d".into()),
        ..cluster(UpstreamProtocol::Http1, 10)
    };
    made.clusters.insert("d".into(), Arc::new(other));
    made.endpoints.insert("d".into(), endpoints(others));
    made
}

fn mirrored() -> RouteAction {
    let mut action = forward(None, None);
    if let RouteAction::Forward(forward) = &mut action {
        forward.mirrors.push(Mirror { cluster: "d".into(), ppm: 1_000_000, host: MirrorHost::Shadow });
    }
    action
}

fn chunked(parts: &[&str]) -> String {
    let body: String = parts.iter().map(|part| format!("{:x}\r\n{part}\r\n", part.len())).collect();
    let head = "POST /p HTTP/1.1\r\nhost: c\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    format!("{head}{body}0\r\n\r\n")
}

fn sized(body: &str) -> String {
    let length = body.len();
    format!("POST /p HTTP/1.1\r\nhost: c\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

#[tokio::test]
async fn a_body_that_is_too_long_never_reaches_the_endpoint() {
    let origin = origin(|_, request, body| {
        let length = request.headers().get("content-length").cloned();
        text(format!("{} {length:?}", body.len()))
    })
    .await;
    let limit = vec![FilterConfig::Buffer(8)];
    let proxy = Proxy::start(shaped(forward(None, None), origin, limit, &[]));
    let address = proxy.address().await;
    let short = raw(address, chunked(&["four", "five"])).await;
    assert!(short.ends_with("8 Some(\"8\")"), "gathered, so its length is known: {short}");
    for request in [chunked(&["four", "and more"]), sized("ninebytes")] {
        let answer = raw(address, request).await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.ends_with("Payload Too Large"), "{answer}");
    }
}

fn injection(delay: Option<Duration>, active_max: Option<u32>) -> Vec<FilterConfig> {
    let injection = Injection {
        headers: Vec::new(),
        delay: delay.map(|time| Delay { time, ppm: 1_000_000 }),
        abort: Some(Abort { status: StatusCode::IM_A_TEAPOT, grpc: 2, ppm: 1_000_000 }),
        active_max,
    };
    vec![FilterConfig::Injection(Arc::new(injection))]
}

#[tokio::test]
async fn faults_over_the_limit_are_left_out_and_counted() {
    let origin = origin(|_, _, _| text("ok")).await;
    let proxy = Proxy::start(shaped(forward(None, None), origin, injection(None, Some(0)), &[]));
    assert!(raw(proxy.address().await, GET).await.ends_with("ok"));
    assert_eq!(proxy.shared.shaping.faults_skipped.load(Relaxed), 1);
    assert_eq!(proxy.shared.shaping.faults.load(Relaxed), 0, "none lasts");
}

#[tokio::test]
async fn injected_faults_have_envoys_flags() {
    let origin = origin(|_, _, _| text("ok")).await;
    for (delay, flags) in [(None, "FI"), (Some(Duration::from_millis(1)), "DI,FI")] {
        let proxy = Proxy::start(shaped(forward(None, None), origin, injection(delay, None), &[]));
        assert!(raw(proxy.address().await, GET).await.starts_with("HTTP/1.1 418"));
        let mut metrics = String::new();
        proxy.shared.traffic.render(&mut metrics);
        assert!(metrics.contains(&format!("response_flags=\"{flags}\"")), "{metrics}");
    }
}

#[tokio::test]
async fn a_copy_has_the_whole_request_and_its_own_host() {
    let (seen, mut copies) = tokio::sync::mpsc::channel(4);
    let first = origin(|_, _, body| text(body)).await;
    let second = origin(move |_, request, body| {
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        seen.try_send((host, request.uri().to_string(), body)).unwrap();
        text("nobody reads this")
    })
    .await;
    let proxy = Proxy::start(shaped(mirrored(), first, vec![], &[second]));
    let address = proxy.address().await;
    for request in [chunked(&["hel", "lo"]), sized("hello")] {
        assert!(raw(address, request).await.contains("hello"));
        let copy = copies.recv().await.unwrap();
        assert_eq!(copy, ("c-shadow".to_owned(), "/p".to_owned(), Bytes::from("hello")));
    }
    assert_eq!(proxy.shared.shaping.mirrored.load(Relaxed), 2);
}

#[tokio::test]
async fn copies_over_the_limit_of_their_cluster_are_refused_and_the_request_goes_on() {
    let first = origin(|_, _, _| text("ok")).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut made = shaped(mirrored(), first, vec![], &[silent.local_addr().unwrap()]);
    let mut other = Cluster::clone(&made.clusters["d"]);
    other.limits.requests_max = 1;
    made.clusters.insert("d".into(), Arc::new(other));
    let proxy = Proxy::start(made);
    let address = proxy.address().await;
    for _ in 0..3 {
        assert!(raw(address, GET).await.ends_with("ok"), "a copy without an answer holds nobody up");
    }
    let shaping = &proxy.shared.shaping;
    assert_eq!((shaping.mirrored.load(Relaxed), shaping.mirrors_refused.load(Relaxed)), (1, 2));
}
