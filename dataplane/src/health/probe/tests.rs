//! Checks against servers on loopback that answer as they should not.

use std::convert::Infallible;

use http::{HeaderMap, Method};
use http_body_util::StreamBody;
use hyper::{body::Frame, service::service_fn};
use tokio::net::TcpListener;

use super::*;

async fn listen() -> (TcpListener, EndpointAddress) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = EndpointAddress::Tcp(listener.local_addr().unwrap());
    (listener, address)
}

async fn asked(probe: &Probe, address: EndpointAddress, host: Option<HeaderValue>) -> Finding {
    ask(probe, &Door { address, hostname: "".into(), host }, &Link::Plain).await
}

/// Reads something, answers with some bytes and closes.
async fn says(answer: &'static [u8]) -> EndpointAddress {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(answer).await;
    });
    address
}

fn http_probe() -> HttpProbe {
    HttpProbe {
        method: Method::GET,
        path: Uri::from_static("/healthz?a=b"),
        host: HeaderValue::from_static("api.test"),
        headers: HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("x"))]),
        http2: false,
        expected: vec![200..250, 250..300],
        retriable: vec![503..504, 599..600],
    }
}

#[tokio::test]
async fn a_status_passes_fails_or_counts_as_no_answer() {
    for (answer, expected) in [
        (&b"HTTP/1.1 204 No Content\r\n\r\n"[..], Finding::Passed),
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", Finding::Failed),
        (b"HTTP/1.1 302 Found\r\n\r\n", Finding::Failed),
        (b"HTTP/1.1 503 Wait\r\n\r\n", Finding::Unanswered),
        (b"220 smtp.test\r\n", Finding::Unanswered),
        (b"", Finding::Unanswered),
    ] {
        let address = says(answer).await;
        let found = asked(&Probe::Http(Box::new(http_probe())), address, None).await;
        assert_eq!(found, expected, "{}", String::from_utf8_lossy(answer));
    }
    let (listener, nobody) = listen().await;
    drop(listener);
    assert_eq!(asked(&Probe::Http(Box::new(http_probe())), nobody, None).await, Finding::Unanswered);
}

/// Status, body and `grpc-status` of an answer.
type Answer = fn(&Request<Incoming>) -> (u16, &'static [u8], Option<&'static str>);

/// Serves one connection, and answers every request of it alike.
async fn serves(http2: bool, answer: Answer) -> EndpointAddress {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(move |request: Request<Incoming>| async move {
            let (status, body, grpc_status) = answer(&request);
            let data = Some(Ok::<_, Infallible>(Frame::data(Bytes::from_static(body))));
            let trailers = grpc_status.map(|status| {
                let value = HeaderValue::from_static(status);
                Ok(Frame::trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), value)])))
            });
            let body = StreamBody::new(futures::stream::iter(data.into_iter().chain(trailers)));
            Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
        });
        let io = TokioIo::new(stream);
        let _ = if http2 {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
        } else {
            hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
        };
    });
    address
}

#[tokio::test]
async fn a_request_is_what_the_check_says_over_both_protocols() {
    for http2 in [false, true] {
        let address = serves(http2, |request| {
            let host = request.headers().get("host").and_then(|host| host.to_str().ok());
            let right = request.uri().path_and_query().unwrap() == "/healthz?a=b"
                && request.uri().authority().map(|a| a.as_str()).or(host) == Some("own.test")
                && request.headers()["accept"] == "x"
                && request.headers()["user-agent"] == "weft-health-check";
            (if right { 200 } else { 500 }, b"", None)
        });
        let probe = Probe::Http(Box::new(HttpProbe { http2, ..http_probe() }));
        let own = HeaderValue::from_static("own.test");
        assert_eq!(asked(&probe, address.await, Some(own)).await, Finding::Passed, "{http2}");
    }
}

#[tokio::test]
async fn a_grpc_service_passes_only_when_it_says_that_it_serves() {
    const fn answer(body: &'static [u8], status: &'static str) -> (u16, &'static [u8], Option<&'static str>) {
        (200, body, Some(status))
    }
    let cases: [(Answer, Finding); 6] = [
        (|_| answer(&[0, 0, 0, 0, 2, 8, 1], "0"), Finding::Passed),
        (|_| answer(&[0, 0, 0, 0, 2, 8, 2], "0"), Finding::Failed),
        (|_| answer(&[0, 0, 0, 0, 2, 8, 1], "5"), Finding::Failed),
        (|_| answer(&[], "12"), Finding::Failed),
        (|_| answer(&[0, 0, 0, 0, 2, 8], "0"), Finding::Failed),
        (|_| (404, &[], None), Finding::Failed),
    ];
    let probe = GrpcProbe { service: "shop.Api".into(), authority: HeaderValue::from_static("api.test") };
    for (i, (answer, expected)) in cases.into_iter().enumerate() {
        let address = serves(true, answer).await;
        assert_eq!(asked(&Probe::Grpc(probe.clone()), address, None).await, expected, "case {i}");
    }
}

#[tokio::test]
async fn bytes_must_come_in_their_order() {
    let probe = |receive: &[&'static str]| {
        let receive = receive.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
        Probe::Tcp(TcpProbe { send: Bytes::from_static(b"PING"), receive })
    };
    for (receive, expected) in [
        (&[][..], Finding::Passed),
        (&["+PO", "G"], Finding::Passed),
        (&["G", "+PO"], Finding::Unanswered),
        (&["PONGS"], Finding::Unanswered),
    ] {
        assert_eq!(asked(&probe(receive), says(b"+PONG\r\n").await, None).await, expected, "{receive:?}");
    }
}
