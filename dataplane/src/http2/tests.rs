//! Connections over a pair of pipes, whose other end is an HTTP/2 of somebody else.

use std::{
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body::Frame;

use super::{
    connection::Role,
    driver::Driver,
    error::Reason,
    head::Limits,
    stream::{Link, Sender},
    *,
};

const CHUNK_BYTES: usize = 16 * 1024;

/// A body without end that counts what is taken of it.
struct Endless(Rc<std::cell::Cell<usize>>);

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.set(self.0.get() + CHUNK_BYTES);
        Poll::Ready(Some(Ok(Frame::data(vec![0; CHUNK_BYTES].into()))))
    }
}

const LIMITS: Limits = Limits { bytes: 16 * 1024, fields: 100 };

/// Answers the first stream with a body.
async fn serve(socket: tokio::io::DuplexStream, body: Endless) {
    let mut driver = Driver::new(socket, Role::Server(10), LIMITS);
    let mut body = Some(body);
    let answer = |link: &Link| {
        let accepted = link.borrow_mut().accepted();
        for accepted in accepted {
            let Some(body) = body.take() else { return };
            let sender = Sender::new(link.clone(), accepted.key);
            sender.respond(StatusCode::OK, &HeaderMap::new(), false).unwrap();
            tokio::task::spawn_local(sender.send(body, Reason::INTERNAL_ERROR));
        }
    };
    let mut answer = answer;
    let _ = std::future::poll_fn(|cx| driver.poll(cx, &mut answer)).await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_stops_its_writer() {
    let taken = Rc::new(std::cell::Cell::new(0));
    let (near, far) = tokio::io::duplex(1024 * 1024);
    let body = Endless(taken.clone());
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async move {
            tokio::task::spawn_local(serve(near, body));
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(STREAM_WINDOW_BYTES);
            let (mut client, connection) = builder.handshake::<_, Bytes>(far).await.unwrap();
            tokio::task::spawn_local(connection);
            let (response, _) = client.send_request(Request::new(()), true).unwrap();
            let mut unread = response.await.unwrap().into_body();
            // On a paused clock time passes only when nothing else is left to do.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let window = STREAM_WINDOW_BYTES as usize;
            assert!((window..=window + CHUNK_BYTES).contains(&taken.get()), "{} bytes", taken.get());
            let chunk = unread.data().await.unwrap().unwrap();
            unread.flow_control().release_capacity(chunk.len()).unwrap();
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_ignores_our_settings_is_let_go() {
    let (near, mut far) = tokio::io::duplex(1024);
    let mut driver = Driver::new(near, Role::Client, LIMITS);
    let begun = tokio::time::Instant::now();
    let ended = std::future::poll_fn(|cx| driver.poll(cx, |_| ())).await;
    assert!(ended.unwrap_err().to_string().contains("SETTINGS_TIMEOUT"));
    assert_eq!(begun.elapsed().as_secs(), SETTINGS_TIMEOUT.as_secs());
    let mut said = Vec::new();
    drop(driver);
    tokio::io::AsyncReadExt::read_to_end(&mut far, &mut said).await.unwrap();
    assert!(said.ends_with(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4]), "{said:?}");
}
