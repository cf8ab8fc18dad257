//! Downstream HTTP/2: accepts the streams of one connection and answers each in a task of its own.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Builder, SendResponse},
};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use tokio::time::{Instant, sleep_until, timeout};

use super::{CONNECTION_WINDOW_BYTES, SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES, declare_length, pipe};
use crate::{
    body::{Incoming, ResponseBody},
    listener::Serving,
    request,
    spec::HttpListener,
    stream::Stream,
};

/// Streams that a peer may reset before we answered before its connection is closed (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 64;
/// Resets of our own making that a peer may provoke.
const LOCAL_RESETS_MAX: usize = 1024;
/// Time after which an idle connection is looked at again where none is given; long enough to cost nothing.
const IDLE_UNLIMITED: Duration = Duration::from_secs(365 * 24 * 3600);

/// The streams of a connection that are being answered.
#[derive(Debug)]
struct Streams {
    live: Cell<u32>,
    /// When there was last one.
    idle_since: Cell<Instant>,
}

/// One stream, counted until dropped.
struct Live(Rc<Streams>);

impl Live {
    fn new(streams: &Rc<Streams>) -> Self {
        streams.live.set(streams.live.get() + 1);
        Self(streams.clone())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let live = self.0.live.get() - 1;
        self.0.live.set(live);
        if live == 0 {
            self.0.idle_since.set(Instant::now());
        }
    }
}

/// Serves a connection to its end. When the listener drains, or when it idled too long, no new stream is taken and those
/// under way finish.
pub async fn serve(stream: Stream, serving: &Rc<Serving>, http: &HttpListener) -> Result<(), h2::Error> {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(http.h2_concurrent_streams_max)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(http.headers_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(Some(LOCAL_RESETS_MAX));
    let streams = Rc::new(Streams { live: Cell::new(0), idle_since: Cell::new(Instant::now()) });
    let idle_timeout = Some(serving.chain.idle_timeout).filter(|limit| !limit.is_zero());
    let idle_timeout = idle_timeout.unwrap_or(IDLE_UNLIMITED);
    let Ok(opened) = timeout(idle_timeout, builder.handshake(stream)).await else { return Ok(()) };
    let mut connection = opened?;
    let mut idle = pin!(sleep_until(Instant::now() + idle_timeout));
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => match accepted {
                None => return Ok(()),
                Some(accepted) => {
                    let (request, respond) = accepted?;
                    let (live, serving) = (Live::new(&streams), serving.clone());
                    // Boxed: a task moves what it holds when it is made and when it ends.
                    tokio::task::spawn_local(Box::pin(async move {
                        let _live = live;
                        answer(serving, request, respond).await;
                    }));
                }
            },
            () = serving.drain.cancelled(), if open => {
                connection.graceful_shutdown();
                open = false;
            }
            // Looked at when the time is up and not with each stream: an idle connection closes within twice its time.
            () = idle.as_mut(), if open => {
                let due = streams.idle_since.get() + idle_timeout;
                if streams.live.get() == 0 && due <= Instant::now() {
                    connection.graceful_shutdown();
                    open = false;
                }
                idle.as_mut().reset(due.max(Instant::now() + idle_timeout));
            }
        }
    }
}

/// Answers one stream; a peer that resets it ends the work on it.
async fn answer(serving: Rc<Serving>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let head_only = *request.method() == Method::HEAD;
    let (parts, stream) = request.into_parts();
    let body = Incoming::of_request(stream, &parts.headers);
    let mut serving = pin!(request::serve(serving, Request::from_parts(parts, body)));
    let answered = poll_fn(|cx| match serving.as_mut().poll(cx) {
        Poll::Ready(Ok(response)) => Poll::Ready(Some(response)),
        Poll::Pending => respond.poll_reset(cx).map(|_| None),
    });
    let Some(response) = answered.await else { return };
    let (mut head, body) = response.into_parts();
    let bodiless = head_only || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let ended = body.is_end_stream();
    if !ended {
        declare_length(&mut head.headers, &body);
    }
    // A stream that cannot be answered any more was reset or lost its connection; its record tells.
    let sent = respond.send_response(Response::from_parts(head, ()), ended || bodiless);
    match sent {
        Ok(stream) if !ended && !bodiless => pipe(body, stream, Reason::INTERNAL_ERROR).await,
        Ok(_) if !ended => ResponseBody::omit(body),
        Ok(_) | Err(_) => {}
    }
}
