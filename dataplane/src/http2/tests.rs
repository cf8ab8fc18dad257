//! How much of a body is taken for a peer that does not read.

use std::{
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body::Frame;

use super::*;

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

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_stops_its_writer() {
    let taken = Rc::new(std::cell::Cell::new(0));
    let (near, far) = tokio::io::duplex(1024 * 1024);
    let body = Endless(taken.clone());
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async move {
            tokio::task::spawn_local(async move {
                let mut connection = h2::server::handshake(near).await.unwrap();
                let (_, mut respond) = connection.accept().await.unwrap().unwrap();
                let stream = respond.send_response(Response::new(()), false).unwrap();
                tokio::task::spawn_local(pipe(body, stream, Reason::INTERNAL_ERROR));
                connection.accept().await
            });
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
