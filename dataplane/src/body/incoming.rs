//! A body as it comes from a peer, over either protocol.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::http2::{error::StreamError, stream::Receiver};

/// A body that its sender is still sending.
#[derive(Debug)]
pub enum Incoming {
    /// Of an HTTP/1.1 message.
    Http1(hyper::body::Incoming),
    /// Of an HTTP/2 stream; none where it ended with its head.
    Http2(Option<Receiver>),
}

/// Why a peer's body broke off.
#[derive(Debug)]
pub enum Broken {
    /// HTTP/1.1.
    Http1(hyper::Error),
    /// HTTP/2.
    Http2(StreamError),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http1(error) => error.fmt(f),
            Self::Http2(error) => error.fmt(f),
        }
    }
}

impl Incoming {
    /// What comes over an HTTP/2 stream.
    pub fn of_stream(receiver: Receiver) -> Self {
        Self::Http2(Some(receiver))
    }

    /// Nothing.
    pub fn none() -> Self {
        Self::Http2(None)
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Http1(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Broken::Http1)))
            }
            Self::Http2(Some(body)) => {
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Broken::Http2)))
            }
            Self::Http2(None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.as_ref().is_none_or(Receiver::is_ended),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let exact = match self {
            Self::Http1(body) => return body.size_hint(),
            Self::Http2(Some(body)) => body.rest(),
            Self::Http2(None) => Some(0),
        };
        exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
