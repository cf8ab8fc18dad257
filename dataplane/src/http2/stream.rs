//! What holders of streams have in their hands: the two ends of one stream's exchange, on the one thread of its connection.

use std::{
    cell::RefCell,
    fmt,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame};

use super::{
    connection::Connection,
    error::{Reason, StreamError},
    streams::Key,
};

/// A connection, shared by its task and by those who hold its streams.
pub type Link = Rc<RefCell<Connection>>;

/// What comes on a stream. Dropped, the rest is not wanted.
pub struct Receiver {
    link: Link,
    key: Key,
}

/// What goes on a stream. Dropped before its end, the stream is cancelled.
pub struct Sender {
    link: Link,
    key: Key,
}

impl Receiver {
    /// Of a stream whose receiver nobody holds yet.
    pub(super) fn new(link: Link, key: Key) -> Self {
        Self { link, key }
    }

    /// The next part of the body, or its trailers.
    pub fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        self.link.borrow_mut().poll_frame(self.key, cx)
    }

    /// Whether nothing more comes.
    pub fn is_ended(&self) -> bool {
        self.link.borrow_mut().rest(self.key).0
    }

    /// Bytes that are still to come, where the head says it. The peer is held to it.
    pub fn rest(&self) -> Option<u64> {
        self.link.borrow_mut().rest(self.key).1
    }

    /// The answer's head, and whether that is all.
    pub(super) fn poll_response(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(http::Response<()>, bool), StreamError>> {
        self.link.borrow_mut().poll_response(self.key, cx)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.link.borrow_mut().drop_receiver(self.key);
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Sender {
    /// Of a stream whose sender nobody holds yet.
    pub(super) fn new(link: Link, key: Key) -> Self {
        Self { link, key }
    }

    /// Ready when the stream is broken off.
    pub(super) fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.link.borrow_mut().poll_reset(self.key, cx)
    }

    /// Sends an answer's head.
    pub(super) fn respond(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        ended: bool,
    ) -> Result<(), StreamError> {
        self.link.borrow_mut().respond(self.key, status, headers, ended)
    }

    /// Sends a body as the peer takes it: no more than a part of it waits beyond the peer's window. Ends with the body or
    /// when the peer resets the stream; a body that breaks off resets it with `broken`.
    pub(super) async fn send<B: Body<Data = Bytes>>(self, body: B, broken: Reason) {
        let mut body = pin!(body);
        loop {
            let next = poll_fn(|cx| match body.as_mut().poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(Ok(frame)),
                Poll::Pending => self.poll_reset(cx).map(Err),
            });
            // That the peer reset the stream shows in what is sent next, too; there is nobody to be told of it.
            let Ok(next) = next.await else { return };
            let (mut part, last) = match next {
                None => (Bytes::new(), true),
                Some(Err(_)) => return self.link.borrow_mut().send_reset(self.key, broken),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(part) => (part, body.is_end_stream()),
                    Err(frame) => {
                        let Ok(trailers) = frame.into_trailers() else { continue };
                        return self.link.borrow_mut().send_trailers(self.key, &trailers);
                    }
                },
            };
            let sent = poll_fn(|cx| self.link.borrow_mut().poll_send(self.key, &mut part, last, cx));
            if sent.await.is_err() || last {
                return;
            }
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.link.borrow_mut().drop_sender(self.key);
    }
}
