//! HTTP/2 on both sides, over `h2` itself: a connection is one task, a downstream stream another, and an upstream request
//! runs within the task that asks. (A layer that spawns a task for each upstream request and passes heads through
//! channels costs as much again as the frames do.)

pub mod client;
pub mod server;

use std::{future::poll_fn, pin::pin, task::Poll};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderValue, header::CONTENT_LENGTH};
use http_body::Body;

/// Bytes of a stream's body that may be under way to us unread.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// The same for all streams of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes of a stream's body that wait in our buffer to be sent.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// What a body that is being sent does next.
enum Next<F> {
    Frame(F),
    /// The peer wants no more of it.
    Gone,
}

/// Sends a body as the peer takes it: no more than a chunk waits beyond the peer's window. Ends with the body or when the
/// peer resets the stream; a body that breaks off resets it with `broken`.
async fn pipe<B: Body<Data = Bytes>>(body: B, mut stream: SendStream<Bytes>, broken: Reason) {
    let mut body = pin!(body);
    let mut room = true;
    loop {
        let next = poll_fn(|cx| {
            while !room {
                match stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(bytes))) => room = bytes > 0,
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Next::Gone),
                    Poll::Pending => return stream.poll_reset(cx).map(|_| Next::Gone),
                }
            }
            match body.as_mut().poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(Next::Frame(frame)),
                Poll::Pending => stream.poll_reset(cx).map(|_| Next::Gone),
            }
        });
        // That the peer reset the stream shows in what is sent next, too; there is nobody to be told of it.
        match next.await {
            Next::Gone => return,
            Next::Frame(None) => return drop(stream.send_data(Bytes::new(), true)),
            Next::Frame(Some(Err(_))) => return stream.send_reset(broken),
            Next::Frame(Some(Ok(frame))) => match frame.into_data() {
                Ok(chunk) => {
                    let last = body.is_end_stream();
                    if stream.send_data(chunk, last).is_err() || last {
                        return;
                    }
                    stream.reserve_capacity(1);
                    room = stream.capacity() > 0;
                }
                Err(frame) => {
                    let Ok(trailers) = frame.into_trailers() else { continue };
                    return drop(stream.send_trailers(trailers));
                }
            },
        }
    }
}

/// Says how long a body is, where that is known and was not said.
fn declare_length(headers: &mut HeaderMap, body: &impl Body) {
    if let Some(bytes) = body.size_hint().exact()
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    }
}

#[cfg(test)]
mod tests;
