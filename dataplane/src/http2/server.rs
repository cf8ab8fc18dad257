//! Downstream HTTP/2: takes the streams of one connection and answers each in a task of its own.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use http::{Method, Request, StatusCode};
use http_body::Body;
use tokio::time::{Instant, sleep_until};

use super::{
    connection::{Accepted, Role},
    declare_length,
    driver::Driver,
    error::{ConnectionError, Reason},
    head::Limits,
    stream::{Link, Receiver, Sender},
};
use crate::{
    body::{Incoming, ResponseBody},
    listener::Serving,
    request,
    spec::HttpListener,
    stream::Stream,
};

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
pub async fn serve(
    stream: Stream,
    serving: &Rc<Serving>,
    http: &HttpListener,
) -> Result<(), ConnectionError> {
    let limits = Limits { bytes: http.headers_bytes_max, fields: http.headers_count_max };
    let mut driver = Driver::new(stream, Role::Server(http.h2_concurrent_streams_max), limits);
    let link = driver.link().clone();
    let streams = Rc::new(Streams { live: Cell::new(0), idle_since: Cell::new(Instant::now()) });
    let idle_timeout = Some(serving.chain.idle_timeout).filter(|limit| !limit.is_zero());
    let idle_timeout = idle_timeout.unwrap_or(IDLE_UNLIMITED);
    let mut idle = pin!(sleep_until(Instant::now() + idle_timeout));
    let mut drained = pin!(serving.drain.cancelled());
    let mut open = true;
    poll_fn(|cx| {
        loop {
            let polled = driver.poll(cx, |link| {
                let opened = link.borrow_mut().accepted();
                for accepted in opened {
                    spawn(link, Live::new(&streams), serving, accepted);
                }
            });
            if polled.is_ready() || !open {
                return polled;
            }
            if drained.as_mut().poll(cx).is_ready() {
                open = false;
                link.borrow_mut().say_goodbye();
                continue;
            }
            if idle.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // Looked at when the time is up and not with each stream: an idle connection closes within twice its time.
            let due = streams.idle_since.get() + idle_timeout;
            if streams.live.get() == 0 && due <= Instant::now() {
                if !link.borrow().settled() {
                    return Poll::Ready(Ok(())); // It never said anything.
                }
                open = false;
                link.borrow_mut().say_goodbye();
            }
            idle.as_mut().reset(due.max(Instant::now() + idle_timeout));
        }
    })
    .await
}

fn spawn(link: &Link, live: Live, serving: &Rc<Serving>, accepted: Accepted) {
    let Accepted { key, request, ended } = accepted;
    let sender = Sender::new(link.clone(), key);
    let body = if ended { Incoming::none() } else { Incoming::of_stream(Receiver::new(link.clone(), key)) };
    // Boxed: a task moves what it holds when it is made and when it ends.
    tokio::task::spawn_local(Box::pin(answer(live, serving.clone(), request.map(|()| body), sender)));
}

/// Answers one stream; a peer that resets it ends the work on it.
async fn answer(_live: Live, serving: Rc<Serving>, request: Request<Incoming>, sender: Sender) {
    let head_only = *request.method() == Method::HEAD;
    let response = {
        let mut serving = pin!(request::serve(serving, request));
        let answered = poll_fn(|cx| match serving.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Some(response)),
            Poll::Pending => sender.poll_reset(cx).map(|_| None),
        });
        answered.await
    };
    let Some(response) = response else { return };
    let (mut head, body) = response.into_parts();
    let bodiless = head_only || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let ended = body.is_end_stream();
    if !ended {
        declare_length(&mut head.headers, &body);
    }
    // A stream that cannot be answered any more was reset or lost its connection; its record tells.
    match sender.respond(head.status, &head.headers, ended || bodiless) {
        Ok(()) if !ended && !bodiless => sender.send(body, Reason::INTERNAL_ERROR).await,
        Ok(()) if !ended => ResponseBody::omit(body),
        Ok(()) | Err(_) => {}
    }
}
