//! What comes: frames, and what they do to streams.

use bytes::{Buf, BytesMut};
use http::{HeaderMap, Method, Response, StatusCode};
use tokio::time::Instant;

use super::{Accepted, Block, Connection, GOODBYE_PING, Goodbye, Role};
use crate::http2::{
    error::{Fatal, Reason, StreamError},
    frame::{self, ACK, END_HEADERS, END_STREAM, HEADER_BYTES, Header, Kind, PAYLOAD_BYTES_MAX},
    guard::{CONTINUATIONS_MAX, Limit},
    head::{self, Fields},
    hpack::encoder,
    streams::{Key, Payload, Phase},
};

/// Payloads from this size on are shared with what was read, not copied.
const SHARED_BYTES_MIN: usize = 4096;
/// Bytes that a header block may have beyond the limit of its fields, to be refused as too large rather than as an attack.
const BLOCK_BYTES_OVER: usize = 64 * 1024;

impl Connection {
    /// Takes in what was read. An error is to be told to the peer by [`Connection::fail`].
    pub fn receive(&mut self, input: &mut BytesMut, now: Instant) -> Result<(), Fatal> {
        if self.preface_left > 0 {
            let size = self.preface_left.min(input.len());
            let expected = &frame::PREFACE[frame::PREFACE.len() - self.preface_left..];
            if input[..size] != expected[..size] {
                return Err(Fatal::protocol("no preface"));
            }
            input.advance(size);
            self.preface_left -= size;
        }
        let mut done = 0; // Taken in all at once: to advance costs.
        loop {
            let rest = &input[done..];
            let Some(header) = Header::read(rest) else { break };
            if header.length > PAYLOAD_BYTES_MAX {
                return Err(Fatal::size("a frame that is too large"));
            }
            let size = HEADER_BYTES + header.length;
            let Some(payload) = rest.get(HEADER_BYTES..size) else { break };
            if header.kind == Kind::Data && header.length >= SHARED_BYTES_MIN {
                self.expect(&header)?;
                let content = header.content(payload)?;
                input.advance(done);
                done = 0;
                let frame = input.split_to(size).freeze().slice(HEADER_BYTES..);
                self.data(&header, Payload::Shared(frame.slice(content)), now)?;
                continue;
            }
            self.frame(&header, payload, now)?;
            done += size;
        }
        input.advance(done);
        Ok(())
    }

    /// Whether such a frame may come now.
    fn expect(&mut self, header: &Header) -> Result<(), Fatal> {
        if !self.settled && (header.kind != Kind::Settings || header.has(ACK)) {
            return Err(Fatal::protocol("something before settings"));
        }
        if self.block.is_some() && header.kind != Kind::Continuation {
            return Err(Fatal::protocol("a header block that is broken off"));
        }
        Ok(())
    }

    fn frame(&mut self, header: &Header, payload: &[u8], now: Instant) -> Result<(), Fatal> {
        self.expect(header)?;
        match header.kind {
            Kind::Data => {
                let content = header.content(payload)?;
                self.data(header, Payload::Copied(&payload[content]), now)
            }
            Kind::Headers => self.headers(header, payload, now),
            Kind::Continuation => self.continuation(header, payload, now),
            Kind::Settings => self.settings(header, payload),
            Kind::Ping => self.ping(header, payload),
            Kind::WindowUpdate => self.window_update(header, payload, now),
            Kind::Reset => self.reset_by_peer(header, payload, now),
            Kind::GoAway => self.goaway(header, payload),
            Kind::Push => Err(Fatal::protocol("a push that was not wanted")),
            Kind::Priority if header.stream == 0 => Err(Fatal::protocol("a priority of no stream")),
            Kind::Priority if header.length != 5 => self.refuse(header.stream, Reason::FRAME_SIZE_ERROR, now),
            Kind::Priority | Kind::Unknown => self.guard.idle(now),
        }
    }

    fn data(&mut self, header: &Header, payload: Payload<'_>, now: Instant) -> Result<(), Fatal> {
        if header.stream == 0 {
            return Err(Fatal::protocol("data of no stream"));
        }
        if !self.receive_window.receive(header.length) {
            return Err(Fatal::flow("more data than the connection's window"));
        }
        let ended = header.has(END_STREAM);
        self.guard.content(payload.len() == 0 && !ended)?;
        let Some(key) = self.streams.find(header.stream) else {
            self.known(header.stream)?;
            self.release(header.length);
            return self.guard.idle(now);
        };
        let bytes = payload.len();
        let stream = self.streams.get(key);
        let rest = stream.rest.map(|rest| rest.checked_sub(bytes as u64));
        let wrong = match stream.receiving {
            Phase::Head => Some(Reason::PROTOCOL_ERROR),
            Phase::Ended => Some(Reason::STREAM_CLOSED),
            Phase::Body if !stream.receive_window.receive(header.length) => Some(Reason::FLOW_CONTROL_ERROR),
            Phase::Body if rest == Some(None) => Some(Reason::PROTOCOL_ERROR),
            Phase::Body if ended && rest.is_some_and(|rest| rest != Some(0)) => Some(Reason::PROTOCOL_ERROR),
            Phase::Body => None,
        };
        if let Some(reason) = wrong {
            self.release(header.length);
            return self.refuse_open(key, reason, now);
        }
        stream.rest = rest.flatten();
        let padding = header.length - bytes;
        let unread = if stream.has_receiver { bytes } else { 0 };
        if unread > 0 {
            stream.unread.push(payload);
        }
        // Padding can be sent again; so can what nobody reads, as far as the connection goes.
        let update = stream.receive_window.release(padding).filter(|_| !ended);
        if let Some(bytes) = update {
            frame::window_update(self.output.frames(), header.stream, bytes);
        }
        if ended {
            stream.receiving = Phase::Ended;
        }
        stream.wake_reader();
        self.release(header.length - unread);
        self.closed(key);
        Ok(())
    }

    fn headers(&mut self, header: &Header, payload: &[u8], now: Instant) -> Result<(), Fatal> {
        let fragment = &payload[header.content(payload)?];
        if header.stream == 0 {
            return Err(Fatal::protocol("headers of no stream"));
        }
        let end_stream = header.has(END_STREAM);
        if header.has(END_HEADERS) {
            return self.section(header.stream, end_stream, fragment, now);
        }
        let bytes = fragment.to_vec();
        self.block = Some(Block { stream: header.stream, end_stream, bytes, continuations: 0 });
        Ok(())
    }

    fn continuation(&mut self, header: &Header, payload: &[u8], now: Instant) -> Result<(), Fatal> {
        let Some(mut block) = self.block.take().filter(|block| block.stream == header.stream) else {
            return Err(Fatal::protocol("a continuation of nothing"));
        };
        self.guard.content(payload.is_empty())?;
        block.continuations += 1;
        block.bytes.extend_from_slice(payload);
        let bytes_max = self.limits.bytes.saturating_add(BLOCK_BYTES_OVER);
        if block.continuations > CONTINUATIONS_MAX || block.bytes.len() > bytes_max {
            return Err(Limit::Block.reached());
        }
        if header.has(END_HEADERS) {
            self.section(block.stream, block.end_stream, &block.bytes, now)?;
            self.decoder.rest();
            return Ok(());
        }
        self.block = Some(block);
        Ok(())
    }

    /// A field section is complete. It is read in any case, for the table's sake.
    fn section(&mut self, id: u32, end_stream: bool, block: &[u8], now: Instant) -> Result<(), Fatal> {
        let mut fields = Fields::new(self.limits);
        self.decoder.decode(block, &mut fields).map_err(|_| Fatal {
            reason: Reason::COMPRESSION_ERROR,
            why: "a header block that cannot be read",
        })?;
        let Some(key) = self.streams.find(id) else {
            return match self.role {
                Role::Server(streams_max) => self.open_by_peer(id, end_stream, fields, streams_max, now),
                Role::Client => {
                    self.known(id)?;
                    self.guard.idle(now)
                }
            };
        };
        let stream = self.streams.get(key);
        match stream.receiving {
            Phase::Head => self.response(key, end_stream, fields, now),
            Phase::Body => self.trailers(key, end_stream, fields, now),
            Phase::Ended => self.refuse_open(key, Reason::STREAM_CLOSED, now),
        }
    }

    fn open_by_peer(
        &mut self,
        id: u32,
        ended: bool,
        fields: Fields,
        streams_max: u32,
        now: Instant,
    ) -> Result<(), Fatal> {
        if id.is_multiple_of(2) {
            return Err(Fatal::protocol("a client's stream with an even number"));
        }
        if id <= self.last_id || matches!(self.goodbye, Goodbye::Said(_)) {
            return self.guard.idle(now); // Closed, or opened before our goodbye was read.
        }
        self.last_id = id;
        let open = u32::try_from(self.streams.open()).unwrap_or(u32::MAX);
        // Closed ones whose tasks have not noticed yet are as much work; a few of them are nobody's fault.
        let held = u32::try_from(self.streams.held()).unwrap_or(u32::MAX);
        if open >= streams_max || held >= streams_max.saturating_mul(2) {
            Limit::Streams.count();
            return self.refuse(id, Reason::REFUSED_STREAM, now);
        }
        if fields.oversize {
            Limit::Fields.count();
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            let frames = self.output.frames();
            frame::block(frames, id, true, |out| encoder::response(out, status, &HeaderMap::new()));
            return if ended { Ok(()) } else { self.refuse(id, Reason::NO_ERROR, now) };
        }
        let Ok(request) = fields.request() else { return self.refuse(id, Reason::PROTOCOL_ERROR, now) };
        let Some(rest) = body_length(request.headers(), ended, false) else {
            return self.refuse(id, Reason::PROTOCOL_ERROR, now);
        };
        let mut stream = self.stream(id);
        stream.receiving = if ended { Phase::Ended } else { Phase::Body };
        stream.has_receiver = !ended;
        stream.rest = rest;
        stream.head_only = request.method() == Method::HEAD;
        let key = self.streams.add(stream);
        self.accepted.push(Accepted { key, request, ended });
        Ok(())
    }

    fn response(&mut self, key: Key, ended: bool, fields: Fields, now: Instant) -> Result<(), Fatal> {
        if fields.oversize {
            Limit::Fields.count();
            return self.refuse_open(key, Reason::PROTOCOL_ERROR, now);
        }
        let Ok(response) = fields.response() else {
            return self.refuse_open(key, Reason::PROTOCOL_ERROR, now);
        };
        if response.status().is_informational() {
            // Nobody downstream waits for it. The answer proper is still to come.
            return if ended { self.refuse_open(key, Reason::PROTOCOL_ERROR, now) } else { Ok(()) };
        }
        let stream = self.streams.get(key);
        let bodiless = stream.head_only || is_bodiless(&response);
        match body_length(response.headers(), ended, bodiless) {
            Some(rest) => stream.rest = if bodiless { Some(0) } else { rest },
            None => return self.refuse_open(key, Reason::PROTOCOL_ERROR, now),
        }
        stream.response = Some(response);
        stream.receiving = if ended { Phase::Ended } else { Phase::Body };
        stream.wake_reader();
        self.closed(key);
        Ok(())
    }

    fn trailers(&mut self, key: Key, ended: bool, fields: Fields, now: Instant) -> Result<(), Fatal> {
        let whole = self.streams.get(key).rest.is_none_or(|rest| rest == 0);
        if fields.oversize {
            Limit::Fields.count();
        }
        match fields.trailers() {
            Ok(trailers) if ended && whole && !trailers.is_empty() => {
                let stream = self.streams.get(key);
                stream.trailers = Some(trailers).filter(|_| stream.has_receiver);
            }
            Ok(_) if ended && whole => {}
            Ok(_) | Err(_) => return self.refuse_open(key, Reason::PROTOCOL_ERROR, now),
        }
        let stream = self.streams.get(key);
        stream.receiving = Phase::Ended;
        stream.wake_reader();
        self.closed(key);
        Ok(())
    }

    fn settings(&mut self, header: &Header, payload: &[u8]) -> Result<(), Fatal> {
        if header.stream != 0 {
            return Err(Fatal::protocol("settings of a stream"));
        }
        if header.has(ACK) {
            self.acknowledged = true;
            return if payload.is_empty() {
                Ok(())
            } else {
                Err(Fatal::size("an answer to settings with settings"))
            };
        }
        let (before, from_server) = (self.peer.window, self.role == Role::Client);
        if !self.settled {
            self.settled = true;
            self.peer.streams_max = u32::MAX;
        }
        self.peer.update(payload, from_server)?;
        let change = i64::from(self.peer.window) - i64::from(before);
        let mut fits = true;
        self.streams.each_open(|stream| {
            fits &= stream.send_window.shift(change).is_ok();
            stream.wake_writer();
        });
        if !fits {
            return Err(Fatal::flow("an initial window that makes one too large"));
        }
        self.wake_opening();
        self.guard.ack()?;
        frame::header(self.output.frames(), 0, Kind::Settings, ACK, 0);
        Ok(())
    }

    fn ping(&mut self, header: &Header, payload: &[u8]) -> Result<(), Fatal> {
        if header.stream != 0 {
            return Err(Fatal::protocol("a ping of a stream"));
        }
        let opaque = frame::exactly::<8>(payload)?;
        if !header.has(ACK) {
            self.guard.ack()?;
            frame::ping(self.output.frames(), ACK, opaque);
        } else if opaque == GOODBYE_PING && self.goodbye == Goodbye::Announced {
            // The peer knows: what it opens from now on it opens in vain.
            self.goodbye = Goodbye::Said(self.last_id);
            frame::goaway(self.output.frames(), self.last_id, Reason::NO_ERROR);
        }
        Ok(())
    }

    fn window_update(&mut self, header: &Header, payload: &[u8], now: Instant) -> Result<(), Fatal> {
        let bytes = u32::from_be_bytes(frame::exactly(payload)?) & 0x7fff_ffff;
        if header.stream == 0 {
            if bytes == 0 {
                return Err(Fatal::protocol("a window that grows by nothing"));
            }
            let shifted = self.send_window.shift(i64::from(bytes));
            shifted.map_err(|_| Fatal::flow("a connection's window that is too large"))?;
            self.give_turns();
            return Ok(());
        }
        let Some(key) = self.streams.find(header.stream) else {
            self.known(header.stream)?;
            return self.guard.idle(now);
        };
        if bytes == 0 {
            return self.refuse_open(key, Reason::PROTOCOL_ERROR, now);
        }
        let stream = self.streams.get(key);
        if stream.send_window.shift(i64::from(bytes)).is_err() {
            return self.refuse_open(key, Reason::FLOW_CONTROL_ERROR, now);
        }
        if !stream.queued {
            stream.wake_writer();
        }
        Ok(())
    }

    fn reset_by_peer(&mut self, header: &Header, payload: &[u8], now: Instant) -> Result<(), Fatal> {
        let reason = Reason(u32::from_be_bytes(frame::exactly(payload)?));
        if header.stream == 0 {
            return Err(Fatal::protocol("a reset of no stream"));
        }
        let Some(key) = self.streams.find(header.stream) else {
            self.known(header.stream)?;
            return self.guard.idle(now);
        };
        let unanswered = self.streams.get(key).sending == Phase::Head;
        self.break_off(key, StreamError::Reset(reason));
        if unanswered { self.guard.reset(now) } else { Ok(()) }
    }

    fn goaway(&mut self, header: &Header, payload: &[u8]) -> Result<(), Fatal> {
        if header.stream != 0 {
            return Err(Fatal::protocol("a goodbye of a stream"));
        }
        let Some(last) = payload.first_chunk::<4>().filter(|_| payload.len() >= 8) else {
            return Err(Fatal::size("a goodbye that is cut short"));
        };
        self.peer_goodbye = true;
        if self.role == Role::Client {
            for key in self.streams.above(u32::from_be_bytes(*last) & 0x7fff_ffff) {
                self.break_off(key, StreamError::Unprocessed);
            }
            self.wake_opening();
        }
        Ok(())
    }

    /// Whether a stream that is not open was once.
    fn known(&self, id: u32) -> Result<(), Fatal> {
        let ours = id % 2 == 1 && id <= self.last_id;
        if ours { Ok(()) } else { Err(Fatal::protocol("a frame for a stream that was never opened")) }
    }

    /// Resets a stream that is not open here, for the peer's fault.
    fn refuse(&mut self, id: u32, reason: Reason, now: Instant) -> Result<(), Fatal> {
        frame::reset(self.output.frames(), id, reason);
        self.guard.provoked(now)
    }

    /// The same for one that is open.
    fn refuse_open(&mut self, key: Key, reason: Reason, now: Instant) -> Result<(), Fatal> {
        self.reset(key, reason);
        self.guard.provoked(now)
    }
}

/// What a head says of the length of its body; none where that cannot be. A body that does not come with its head has its
/// own end.
fn body_length(headers: &HeaderMap, ended: bool, bodiless: bool) -> Option<Option<u64>> {
    match head::length(headers).ok()? {
        Some(1..) if ended && !bodiless => None,
        length => Some(length),
    }
}

/// Whether an answer has no body whatever length it says (RFC 9110, 6.4.1).
fn is_bodiless(response: &Response<()>) -> bool {
    matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}
