//! Upstream HTTP/2: one connection, over which many requests go at once.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
};

use http::{Request, Response};
use http_body::Body;

use super::{
    connection::Role,
    declare_length,
    driver::Driver,
    error::{Reason, StreamError},
    head::Limits,
    stream::{Link, Receiver, Sender},
};
use crate::{
    body::{Incoming, RequestBody},
    fault::{Cause, Fault},
    stream::Stream,
};

/// Largest head that is taken from an endpoint.
const HEAD_MAX: Limits = Limits { bytes: 64 * 1024, fields: 1000 };

/// An open connection. It closes when it is dropped and its last stream has ended.
pub struct Connection {
    link: Link,
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
    pub fn open<K: 'static>(stream: Stream, kept: K) -> Self {
        let mut driver = Driver::new(stream, Role::Client, HEAD_MAX);
        let link = driver.link().clone();
        tokio::task::spawn_local(async move {
            let _kept = kept;
            // Errors reach the requests that they concern.
            let _ = poll_fn(|cx| driver.poll(cx, |_| ())).await;
        });
        Self { link }
    }

    /// Whether it takes no more requests.
    pub fn is_closed(&self) -> bool {
        self.link.borrow().is_closed()
    }

    /// How many streams its peer allows at once.
    pub fn streams_max(&self) -> u32 {
        self.link.borrow().streams_max()
    }

    /// Sends a request and waits for the response's head. What is left of the body then goes on being sent.
    pub async fn send(&self, request: Request<RequestBody>) -> Result<Response<Incoming>, Failed> {
        if poll_fn(|cx| self.link.borrow_mut().poll_open(cx.waker())).await.is_err() {
            return Err(Failed { fault: Cause::UpstreamClosed.into(), unsent: Some(request) });
        }
        let (mut head, body) = request.into_parts();
        let whole = body.is_end_stream();
        if !whole {
            declare_length(&mut head.headers, &body);
        }
        let key = self.link.borrow_mut().open(&head, whole);
        let receiver = Receiver::new(self.link.clone(), key);
        let response = match whole {
            true => poll_fn(|cx| receiver.poll_response(cx)).await,
            false => {
                let sender = Sender::new(self.link.clone(), key);
                while_sending(&receiver, Box::pin(sender.send(body, Reason::CANCEL))).await
            }
        };
        let (response, ended) = response.map_err(|error| Failed { fault: classify(error), unsent: None })?;
        let body = if ended { Incoming::none() } else { Incoming::of_stream(receiver) };
        Ok(response.map(|()| body))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.link.borrow_mut().leave();
    }
}

/// Waits for the response while the body is sent. A response that comes first leaves the rest of the body to a task.
async fn while_sending(
    receiver: &Receiver,
    mut sending: Pin<Box<impl Future<Output = ()> + 'static>>,
) -> Result<(Response<()>, bool), StreamError> {
    let mut sent = false;
    let result = poll_fn(|cx| {
        sent = sent || sending.as_mut().poll(cx).is_ready();
        receiver.poll_response(cx)
    })
    .await;
    if result.is_ok() && !sent {
        tokio::task::spawn_local(sending);
    }
    result
}

/// What an error means. A stream above the last one that the peer's goodbye names was not looked at.
fn classify(error: StreamError) -> Fault {
    match error {
        StreamError::Reset(reason) => Cause::UpstreamReset(reason == Reason::REFUSED_STREAM).into(),
        StreamError::Unprocessed => Cause::UpstreamReset(true).into(),
        StreamError::Lost => Cause::UpstreamClosed.into(),
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}
