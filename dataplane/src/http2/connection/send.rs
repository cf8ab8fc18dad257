//! What goes: heads, bodies as far as the windows allow, and what those who hold streams want of them.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, request};
use http_body::Frame;

use super::{Connection, Role};
use crate::http2::{
    OUTPUT_BYTES_MAX,
    error::{Reason, StreamError},
    frame::{self, END_STREAM, Kind, PAYLOAD_BYTES_MAX},
    hpack::encoder,
    streams::{Key, Phase, wait},
};

impl Connection {
    /// Waits until one more stream may be opened; an error where none can be any more.
    pub fn poll_open(&mut self, waker: &Waker) -> Poll<Result<(), StreamError>> {
        if self.is_closed() {
            return Poll::Ready(Err(StreamError::Lost));
        }
        if self.streams.open() < self.peer.streams_max as usize {
            return Poll::Ready(Ok(()));
        }
        // As many wait as the cluster lets requests be. All are woken when a stream closes:
        // one of them may have given up.
        if !self.opening.iter().any(|known| known.will_wake(waker)) {
            self.opening.push(waker.clone());
        }
        Poll::Pending
    }

    /// Opens a stream with a request's head, after [`Self::poll_open`] allowed it. Whoever opens it holds its receiver,
    /// and its sender unless it has ended.
    pub fn open(&mut self, head: &request::Parts, ended: bool) -> Key {
        let id = if self.last_id == 0 { 1 } else { self.last_id + 2 };
        self.last_id = id;
        let mut stream = self.stream(id);
        stream.sending = if ended { Phase::Ended } else { Phase::Body };
        stream.has_sender = !ended;
        stream.head_only = head.method == Method::HEAD;
        frame::block(self.output.frames(), id, ended, |out| {
            encoder::request(out, &head.method, &head.uri, &head.headers);
        });
        self.wake();
        self.streams.add(stream)
    }

    /// Waits for the answer's head, and tells whether that is all of it.
    pub fn poll_response(
        &mut self,
        key: Key,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(Response<()>, bool), StreamError>> {
        let stream = self.streams.get(key);
        if let Some(response) = stream.response.take() {
            let ended = stream.receiving == Phase::Ended && stream.unread.len() == 0;
            return Poll::Ready(Ok((response, ended && stream.trailers.is_none())));
        }
        if let Some(error) = stream.broken {
            return Poll::Ready(Err(error));
        }
        wait(&mut stream.reader, cx.waker());
        Poll::Pending
    }

    /// Waits for the next part of the body that comes, and lets its sender send as much again.
    pub fn poll_frame(
        &mut self,
        key: Key,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let stream = self.streams.get(key);
        if let Some(part) = stream.unread.pop() {
            let open = stream.receiving == Phase::Body && stream.broken.is_none();
            let (id, update) = (stream.id, stream.receive_window.release(part.len()));
            if let Some(bytes) = update.filter(|_| open) {
                frame::window_update(self.output.frames(), id, bytes);
                self.wake();
            }
            self.release(part.len());
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        if stream.receiving == Phase::Ended {
            return Poll::Ready(stream.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        if let Some(error) = stream.broken {
            // An endpoint may end a stream so when it has answered and wants no more of the request (RFC 9113, 8.1).
            let ends = self.role == Role::Client && error == StreamError::Reset(Reason::NO_ERROR);
            return Poll::Ready(if ends { None } else { Some(Err(error)) });
        }
        wait(&mut stream.reader, cx.waker());
        Poll::Pending
    }

    /// Whether nothing more of the body comes, and bytes that do where the head says it.
    pub fn rest(&mut self, key: Key) -> (bool, Option<u64>) {
        let stream = self.streams.get(key);
        let unread = stream.unread.len() as u64;
        let ended = stream.receiving == Phase::Ended && unread == 0 && stream.trailers.is_none();
        // Not of one that has come whole without saying so: chance decides whether it has, and trailers may follow it.
        (ended, stream.rest.map(|rest| rest + unread))
    }

    /// Nobody wants what comes any more.
    pub fn drop_receiver(&mut self, key: Key) {
        self.streams.get(key).has_receiver = false;
        self.drop_unread(key);
        if self.role == Role::Client && !self.streams.get(key).is_closed() {
            self.reset(key, Reason::CANCEL); // An answer that nobody reads needs no request.
        }
        self.forget(key);
    }

    /// Nobody sends any more.
    pub fn drop_sender(&mut self, key: Key) {
        let stream = self.streams.get(key);
        stream.has_sender = false;
        stream.writer = None;
        match (stream.is_closed(), stream.sending) {
            (true, _) => {}
            // Whoever has answered wants no more of the question (RFC 9113, 8.1).
            (false, Phase::Ended) if self.role != Role::Client => self.reset(key, Reason::NO_ERROR),
            (false, Phase::Ended) => {}
            (false, Phase::Head | Phase::Body) => self.reset(key, Reason::CANCEL),
        }
        self.forget(key);
    }

    fn forget(&mut self, key: Key) {
        let stream = self.streams.get(key);
        if stream.has_receiver || stream.has_sender || !stream.is_closed() {
            return;
        }
        if stream.queued {
            self.waiting.retain(|waiting| *waiting != key);
        }
        self.streams.remove(key);
    }

    pub(super) fn drop_unread(&mut self, key: Key) {
        let stream = self.streams.get(key);
        let bytes = std::mem::take(&mut stream.unread).len();
        stream.trailers = None;
        if bytes > 0 {
            self.release(bytes);
        }
    }

    /// Lets the peer send so many bytes again on the connection.
    pub(super) fn release(&mut self, bytes: usize) {
        if let Some(bytes) = self.receive_window.release(bytes).filter(|_| !self.over) {
            frame::window_update(self.output.frames(), 0, bytes);
            self.wake();
        }
    }

    /// Sends an answer's head; an error where the stream is gone.
    pub fn respond(
        &mut self,
        key: Key,
        status: StatusCode,
        headers: &HeaderMap,
        ended: bool,
    ) -> Result<(), StreamError> {
        let stream = self.streams.get(key);
        if let Some(error) = stream.broken {
            return Err(error);
        }
        stream.sending = if ended { Phase::Ended } else { Phase::Body };
        let id = stream.id;
        frame::block(self.output.frames(), id, ended, |out| encoder::response(out, status, headers));
        self.closed(key);
        self.wake();
        Ok(())
    }

    /// Sends as much of a part as the peer takes; ready when all of it is sent, and the end with it if it is the `last`.
    pub fn poll_send(
        &mut self,
        key: Key,
        part: &mut Bytes,
        last: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), StreamError>> {
        let had_turn = std::mem::take(&mut self.streams.get(key).turn);
        let polled = self.send_part(key, part, last, cx);
        if had_turn && polled.is_pending() && !self.streams.get(key).queued {
            self.give_turns(); // It waits for its own window.
        }
        polled
    }

    fn send_part(
        &mut self,
        key: Key,
        part: &mut Bytes,
        last: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), StreamError>> {
        loop {
            let stream = self.streams.get(key);
            if let Some(error) = stream.broken {
                return Poll::Ready(Err(error));
            }
            if stream.queued {
                wait(&mut stream.writer, cx.waker());
                return Poll::Pending;
            }
            if part.is_empty() && !last {
                return Poll::Ready(Ok(()));
            }
            let room = stream.send_window.room().min(PAYLOAD_BYTES_MAX).min(part.len());
            let shared = self.send_window.room().min(room);
            if !part.is_empty() && (shared == 0 || self.output.len() >= OUTPUT_BYTES_MAX) {
                wait(&mut stream.writer, cx.waker());
                if room > 0 {
                    stream.queued = true;
                    self.waiting.push_back(key);
                }
                return Poll::Pending;
            }
            let sent = part.split_to(shared);
            let ends = last && part.is_empty();
            stream.send_window.take(shared);
            self.send_window.take(shared);
            let flags = if ends { END_STREAM } else { 0 };
            frame::header(self.output.frames(), shared, Kind::Data, flags, stream.id);
            self.output.payload(sent);
            if ends {
                stream.sending = Phase::Ended;
                self.closed(key);
            }
            self.wake();
            if part.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if !self.waiting.is_empty() {
                // Others wait for room as well: a frame each.
                let stream = self.streams.get(key);
                wait(&mut stream.writer, cx.waker());
                stream.queued = true;
                self.waiting.push_back(key);
                return Poll::Pending;
            }
        }
    }

    /// Sends trailers, the last of a stream. What belongs to a connection is left out.
    pub fn send_trailers(&mut self, key: Key, trailers: &HeaderMap) {
        let stream = self.streams.get(key);
        if stream.is_closed() {
            return;
        }
        stream.sending = Phase::Ended;
        let id = stream.id;
        frame::block(self.output.frames(), id, true, |out| encoder::fields(out, trailers));
        self.closed(key);
        self.wake();
    }

    /// Breaks a stream off.
    pub fn send_reset(&mut self, key: Key, reason: Reason) {
        if !self.streams.get(key).is_closed() {
            self.reset(key, reason);
        }
    }

    /// Waits until the peer wants no more of what is sent.
    pub fn poll_reset(&mut self, key: Key, cx: &mut Context<'_>) -> Poll<StreamError> {
        let stream = self.streams.get(key);
        if let Some(error) = stream.broken {
            return Poll::Ready(error);
        }
        wait(&mut stream.writer, cx.waker());
        Poll::Pending
    }
}
