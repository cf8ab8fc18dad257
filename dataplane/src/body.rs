//! Bodies on their way through, counted as they pass: [`Source`] is the request's, [`ResponseBody`] what goes downstream.

mod incoming;
mod source;
mod tap;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

pub use incoming::{Broken, Incoming};
pub use source::{REPLAY_BYTES, REPLAY_BYTES_MAX, RequestBody, Source};
pub use tap::LAG_BYTES_MAX;

use crate::{
    cluster::Lease,
    fault::{Cause, Fault},
    request::{deadline::Deadline, record::Record},
};

/// Why a body ended early.
#[derive(Debug)]
pub enum BodyError {
    /// The connection or stream that it came from failed.
    Source(Broken),
    /// It took too long.
    Timeout,
    /// A body that was given up for another try.
    Abandoned,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => write!(f, "body ended early: {error}"),
            Self::Timeout => f.write_str("body ended early: the request timed out"),
            Self::Abandoned => f.write_str("body ended early: the request is tried again"),
        }
    }
}

impl std::error::Error for BodyError {}

/// What goes downstream. Carries the record of the request and the lease of the upstream connection to their ends.
pub struct ResponseBody {
    content: Content,
    record: Option<Box<Record>>,
    lease: Option<Lease>,
    deadline: Option<Deadline>,
    timer: Option<Pin<Box<Sleep>>>,
    /// What running out of time will be called, while the timer runs; none when bytes moved since.
    armed: Option<Cause>,
}

enum Content {
    Whole(Bytes),
    Stream(Incoming),
    Ended,
}

impl ResponseBody {
    /// A body of our own.
    pub fn whole(bytes: Bytes, record: Box<Record>) -> Self {
        let content = if bytes.is_empty() { Content::Ended } else { Content::Whole(bytes) };
        let mut body =
            Self { content, record: Some(record), lease: None, deadline: None, timer: None, armed: None };
        if matches!(body.content, Content::Ended) {
            body.finish();
        }
        body
    }

    /// The upstream's.
    pub fn relay(incoming: Incoming, record: Box<Record>, lease: Lease, deadline: Deadline) -> Self {
        let ended = incoming.is_end_stream();
        let mut body = Self {
            content: Content::Stream(incoming),
            record: Some(record),
            lease: Some(lease),
            deadline: Some(deadline),
            timer: None,
            armed: None,
        };
        if ended {
            body.finish();
        }
        body
    }

    /// Takes the body as sent: the answer has none on the wire (HEAD, 204, 304).
    pub fn omit(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        self.content = Content::Ended;
        self.timer = None;
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
        if let Some(mut record) = self.record.take() {
            record.complete();
        }
    }

    fn fail(&mut self, cause: Cause) {
        self.content = Content::Ended;
        self.lease = None;
        if let Some(mut record) = self.record.take() {
            record.fail(Fault::from(cause));
        }
    }

    /// Ready with the cause when time has run out.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        // Looked at only when the body has to be waited for: most come with their head.
        let Some(deadline) = self.deadline else { return Poll::Pending };
        if self.armed.is_none() {
            let Some((at, cause)) = deadline.after(Instant::now()) else { return Poll::Pending };
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(at),
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(at))),
            }
            self.armed = Some(cause);
        }
        match (&mut self.timer, self.armed) {
            (Some(timer), Some(cause)) => timer.as_mut().poll(cx).map(|()| cause),
            _ => Poll::Pending,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let incoming = match &mut this.content {
            Content::Ended => return Poll::Ready(None),
            Content::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                if let Some(record) = &mut this.record {
                    record.response_bytes += bytes.len() as u64;
                }
                this.finish();
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Content::Stream(incoming) => incoming,
        };
        match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let ended = incoming.is_end_stream();
                this.armed = None;
                if let Some(record) = &mut this.record {
                    match (frame.data_ref(), frame.trailers_ref()) {
                        (Some(chunk), _) => record.response_bytes += chunk.len() as u64,
                        (None, Some(trailers)) => record.trailers(trailers),
                        (None, None) => {}
                    }
                }
                if ended || frame.is_trailers() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.fail(Cause::UpstreamClosed);
                Poll::Ready(Some(Err(BodyError::Source(error))))
            }
            Poll::Ready(None) => {
                this.finish();
                Poll::Ready(None)
            }
            Poll::Pending => this.poll_deadline(cx).map(|cause| {
                this.fail(cause);
                Some(Err(BodyError::Timeout))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Ended => SizeHint::with_exact(0),
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(incoming) => incoming.size_hint(),
        }
    }
}
