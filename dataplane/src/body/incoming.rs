//! A body as it comes from a peer, over either protocol.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};

/// A body that its sender is still sending.
#[derive(Debug)]
pub enum Incoming {
    /// Of an HTTP/1.1 message.
    Http1(hyper::body::Incoming),
    /// Of an HTTP/2 stream.
    Http2(Http2),
}

/// What remains of an HTTP/2 stream's body.
#[derive(Debug)]
pub struct Http2 {
    stream: RecvStream,
    /// Bytes to come, where `content-length` says it; h2 holds the peer to it.
    rest: Option<u64>,
    data_ended: bool,
    side: Side,
}

/// Whose body it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

/// Why a peer's body broke off.
#[derive(Debug)]
pub enum Broken {
    /// HTTP/1.1.
    Http1(hyper::Error),
    /// HTTP/2.
    Http2(h2::Error),
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
    /// What a client sends over an HTTP/2 stream.
    pub fn of_request(stream: RecvStream, headers: &HeaderMap) -> Self {
        Self::Http2(Http2::new(stream, headers, Side::Request))
    }

    /// What an endpoint sends over an HTTP/2 stream.
    pub fn of_response(stream: RecvStream, headers: &HeaderMap) -> Self {
        Self::Http2(Http2::new(stream, headers, Side::Response))
    }
}

impl Http2 {
    fn new(stream: RecvStream, headers: &HeaderMap, side: Side) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let rest = if stream.is_end_stream() { Some(0) } else { length };
        Self { stream, rest, data_ended: false, side }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(chunk)) => {
                    // h2 counts what it delivered; this much may now be sent again.
                    let _ = self.stream.flow_control().release_capacity(chunk.len());
                    self.rest = self.rest.map(|rest| rest.saturating_sub(chunk.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(chunk))));
                }
                // An endpoint may end a stream so when it has answered and wants no more of the request (RFC 9113, 8.1).
                Some(Err(error)) if self.ends(&error) => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_ended = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) if self.ends(&error) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    fn ends(&self, error: &h2::Error) -> bool {
        self.side == Side::Response && error.reason() == Some(Reason::NO_ERROR)
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
            Self::Http2(body) => {
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Broken::Http2)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.rest.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
