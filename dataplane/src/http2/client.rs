//! Upstream HTTP/2: one connection, over which many requests go at once.

use std::{
    cell::Cell,
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
};

use bytes::Bytes;
use h2::{
    Reason,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{Request, Response};
use http_body::Body;

use super::{CONNECTION_WINDOW_BYTES, SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES, declare_length, pipe};
use crate::{
    body::{Incoming, RequestBody},
    fault::{Cause, Fault},
    stream::Stream,
};

/// Largest header block that is taken from an endpoint.
const HEADERS_BYTES_MAX: u32 = 64 * 1024;

/// An open connection. It closes when it is dropped and its last stream has ended.
pub struct Connection {
    sender: SendRequest<Bytes>,
    /// Takes no more streams: it broke, or its peer said goodbye.
    closed: Rc<Cell<bool>>,
}

/// A request without a response.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub fault: Fault,
    /// The request, when nothing of it was sent.
    pub unsent: Option<Request<RequestBody>>,
}

impl Connection {
    /// Opens one over `stream`; `kept` is dropped when it has closed.
    pub async fn open<K: 'static>(stream: Stream, kept: K) -> Result<Self, Fault> {
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .max_header_list_size(HEADERS_BYTES_MAX);
        let opened = builder.handshake(stream).await;
        let (sender, connection) = opened.map_err(|_| Fault::from(Cause::ConnectFailed))?;
        let closed = Rc::new(Cell::new(false));
        let told = closed.clone();
        tokio::task::spawn_local(async move {
            let _kept = kept;
            let _ = connection.await; // Errors reach the requests that they concern.
            told.set(true);
        });
        Ok(Self { sender, closed })
    }

    /// Whether it takes no more requests.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// How many streams its peer allows at once.
    pub fn streams_max(&self) -> u32 {
        u32::try_from(self.sender.current_max_send_streams()).unwrap_or(u32::MAX)
    }

    /// Sends a request and waits for the response's head. What is left of the body then goes on being sent.
    pub async fn send(&self, request: Request<RequestBody>) -> Result<Response<Incoming>, Failed> {
        let Ok(mut sender) = self.sender.clone().ready().await else {
            self.closed.set(true);
            return Err(Failed { fault: Cause::UpstreamClosed.into(), unsent: Some(request) });
        };
        let (mut head, body) = request.into_parts();
        let whole = body.is_end_stream();
        if !whole {
            declare_length(&mut head.headers, &body);
        }
        let failed = |error: h2::Error| Failed { fault: classify(&error), unsent: None };
        let (response, stream) = sender.send_request(Request::from_parts(head, ()), whole).map_err(failed)?;
        let response = match whole {
            true => response.await,
            false => while_sending(response, Box::pin(pipe(body, stream, Reason::CANCEL))).await,
        };
        let (head, stream) = response.map_err(failed)?.into_parts();
        let body = Incoming::of_response(stream, &head.headers);
        Ok(Response::from_parts(head, body))
    }
}

/// Waits for the response while the body is sent. A response that comes first leaves the rest of the body to a task.
async fn while_sending(
    response: ResponseFuture,
    mut sending: std::pin::Pin<Box<impl Future<Output = ()> + 'static>>,
) -> Result<Response<h2::RecvStream>, h2::Error> {
    let mut response = pin!(response);
    let mut sent = false;
    let result = poll_fn(|cx| {
        sent = sent || sending.as_mut().poll(cx).is_ready();
        response.as_mut().poll(cx)
    })
    .await;
    if result.is_ok() && !sent {
        tokio::task::spawn_local(sending);
    }
    result
}

/// What an error means. A stream above the last one that the peer's goodbye names was not looked at.
fn classify(error: &h2::Error) -> Fault {
    if error.is_reset() {
        return Cause::UpstreamReset(error.reason() == Some(Reason::REFUSED_STREAM)).into();
    }
    if error.is_go_away() && error.is_remote() {
        return Cause::UpstreamReset(true).into();
    }
    Cause::UpstreamClosed.into()
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("closed", &self.closed).finish_non_exhaustive()
    }
}
