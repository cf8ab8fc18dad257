//! One connection as a state machine: bytes in, streams and bytes out. It knows neither sockets nor tasks but by the wakers
//! that were left with it, and belongs to one thread.

mod receive;
mod send;

use std::{collections::VecDeque, task::Waker};

use http::Request;
use tokio::time::Instant;

use super::{
    CONNECTION_WINDOW_BYTES, OUTPUT_BYTES_MAX, READ_STOP_BYTES, STREAM_WINDOW_BYTES,
    error::{Fatal, Reason, StreamError},
    flow::{ReceiveWindow, SendWindow, WINDOW_BYTES},
    frame,
    guard::Guard,
    head::Limits,
    hpack::decoder::Decoder,
    output::Output,
    settings::{self, Peer},
    streams::{Key, Phase, Stream, Streams, Unread, wait},
};

/// Streams that a server takes before it has said how many.
const STREAMS_BEFORE_SETTINGS: u32 = 100;
/// The highest number of a stream.
const ID_MAX: u32 = i32::MAX as u32;
/// What the PING carries whose answer shows that a goodbye has arrived.
const GOODBYE_PING: [u8; 8] = *b"farewell";

/// Which side we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Asks.
    Client,
    /// Answers so many streams at once.
    Server(u32),
}

/// How far our own goodbye is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goodbye {
    /// Not said.
    None,
    /// No new streams are wanted; what was sent before the peer read so is still taken.
    Announced,
    /// Streams above this one are not looked at.
    Said(u32),
}

/// A stream that a client opened.
#[derive(Debug)]
pub struct Accepted {
    /// Its place. Whoever takes it holds its sender, and its receiver unless it has ended.
    pub key: Key,
    /// Its head.
    pub request: Request<()>,
    /// There is no body.
    pub ended: bool,
}

/// A header block that is not complete.
#[derive(Debug)]
struct Block {
    stream: u32,
    end_stream: bool,
    bytes: Vec<u8>,
    continuations: u32,
}

/// The state of a connection.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    limits: Limits,
    decoder: Decoder,
    /// Bytes of the client's preface that are still to come.
    preface_left: usize,
    /// The peer's first settings have come.
    settled: bool,
    /// It has taken note of ours.
    acknowledged: bool,
    peer: Peer,
    block: Option<Block>,
    streams: Streams,
    /// Highest number that the peer, or we as a client, opened.
    last_id: u32,
    send_window: SendWindow,
    receive_window: ReceiveWindow,
    guard: Guard,
    output: Output,
    accepted: Vec<Accepted>,
    /// Streams that wait for the connection's room, in turn.
    waiting: VecDeque<Key>,
    /// Requests that wait for a stream.
    opening: Vec<Waker>,
    goodbye: Goodbye,
    peer_goodbye: bool,
    /// The user of a client has gone.
    left: bool,
    /// What is in `output` is the last.
    over: bool,
    task: Option<Waker>,
    woken: bool,
}

impl Connection {
    /// A new one; what it says first waits to be written.
    pub fn new(role: Role, limits: Limits, now: Instant) -> Self {
        let mut output = Output::default();
        let list = u32::try_from(limits.bytes).unwrap_or(u32::MAX);
        let frames = output.frames();
        let (streams_max, preface_left) = match role {
            Role::Client => {
                frames.extend_from_slice(frame::PREFACE);
                (None, 0)
            }
            Role::Server(streams_max) => (Some(streams_max), frame::PREFACE.len()),
        };
        settings::write(frames, streams_max, STREAM_WINDOW_BYTES, list);
        frame::window_update(frames, 0, CONNECTION_WINDOW_BYTES - WINDOW_BYTES);
        Self {
            role,
            limits,
            decoder: Decoder::default(),
            preface_left,
            settled: false,
            acknowledged: false,
            peer: Peer { streams_max: STREAMS_BEFORE_SETTINGS, window: WINDOW_BYTES },
            block: None,
            streams: Streams::default(),
            last_id: 0,
            send_window: SendWindow::new(WINDOW_BYTES),
            receive_window: ReceiveWindow::new(CONNECTION_WINDOW_BYTES),
            guard: Guard::new(now),
            output,
            accepted: Vec::new(),
            waiting: VecDeque::new(),
            opening: Vec::new(),
            goodbye: Goodbye::None,
            peer_goodbye: false,
            left: false,
            over: false,
            task: None,
            woken: false,
        }
    }

    /// The task of the connection is at work; it is woken when there is more to write.
    pub fn attend(&mut self, waker: &Waker) {
        self.woken = false;
        wait(&mut self.task, waker);
    }

    /// Whether the peer has taken note of our settings.
    pub fn acknowledged(&self) -> bool {
        self.acknowledged
    }

    /// Whether the peer has said something.
    pub fn settled(&self) -> bool {
        self.settled
    }

    /// Whether no stream can be opened any more.
    pub fn is_closed(&self) -> bool {
        self.over || self.left || self.peer_goodbye || self.last_id >= ID_MAX - 1
    }

    /// Whether no stream is open.
    pub fn is_idle(&self) -> bool {
        self.streams.open() == 0
    }

    /// Streams that the peer allows at once.
    pub fn streams_max(&self) -> u32 {
        self.peer.streams_max
    }

    /// Whether nothing more is to be read now: it is over, or the peer does not read what it asked for.
    pub fn stopped(&self) -> bool {
        self.over || self.output.len() > READ_STOP_BYTES
    }

    /// What waits to be written.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Whether something waits to be written.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// The streams that a client opened since.
    pub fn accepted(&mut self) -> Vec<Accepted> {
        std::mem::take(&mut self.accepted)
    }

    /// Some of the output, or all, has been written.
    pub fn written(&mut self) {
        if self.output.is_empty() {
            self.guard.written();
        }
        self.give_turns();
    }

    /// Whether the connection ends when all is written.
    pub fn is_over(&mut self) -> bool {
        let done = match self.role {
            Role::Server(_) => matches!(self.goodbye, Goodbye::Said(_)),
            Role::Client => self.left || self.peer_goodbye,
        };
        if !self.over && done && self.is_idle() {
            if self.role == Role::Client {
                frame::goaway(self.output.frames(), 0, Reason::NO_ERROR);
            }
            self.over = true;
        }
        self.over
    }

    /// Wants no more streams and finishes those under way (RFC 9113, 6.8).
    pub fn say_goodbye(&mut self) {
        if self.goodbye == Goodbye::None && !self.over {
            self.goodbye = Goodbye::Announced;
            frame::goaway(self.output.frames(), ID_MAX, Reason::NO_ERROR);
            frame::ping(self.output.frames(), 0, GOODBYE_PING);
            self.wake();
        }
    }

    /// The user of a client's connection wants no more of it.
    pub fn leave(&mut self) {
        self.left = true;
        self.wake();
    }

    /// The peer went too far: tells it so, as the last that is said.
    pub fn fail(&mut self, fatal: Fatal) {
        if self.over {
            return;
        }
        let last = if self.role == Role::Client { 0 } else { self.last_id };
        frame::goaway(self.output.frames(), last, fatal.reason);
        self.lose();
    }

    /// Nothing more comes or goes: all streams end.
    pub fn lose(&mut self) {
        self.over = true;
        for key in self.streams.above(0) {
            self.break_off(key, StreamError::Lost);
        }
        self.waiting = VecDeque::new();
        self.wake_opening();
    }

    /// Ends a stream before its time, without a word to the peer.
    fn break_off(&mut self, key: Key, error: StreamError) {
        let stream = self.streams.get(key);
        if !stream.is_closed() {
            stream.broken = Some(error);
        }
        stream.wake_reader();
        stream.wake_writer();
        self.closed(key);
    }

    /// Resets a stream.
    fn reset(&mut self, key: Key, reason: Reason) {
        let id = self.streams.get(key).id;
        frame::reset(self.output.frames(), id, reason);
        self.break_off(key, StreamError::Reset(reason));
        self.wake();
    }

    /// Takes in that a stream may be closed now.
    fn closed(&mut self, key: Key) {
        let stream = self.streams.get(key);
        if !stream.is_closed() {
            return;
        }
        let (id, turn) = (stream.id, std::mem::take(&mut stream.turn));
        if turn {
            self.give_turns();
        }
        if self.streams.close(id) {
            self.wake_opening();
            if self.streams.open() == 0 && (self.left || self.peer_goodbye || self.goodbye != Goodbye::None) {
                self.wake();
            }
        }
    }

    fn wake_opening(&mut self) {
        self.opening.drain(..).for_each(Waker::wake);
    }

    /// Has the task of the connection look.
    fn wake(&mut self) {
        if !self.woken
            && let Some(task) = &self.task
        {
            self.woken = true;
            task.wake_by_ref();
        }
    }

    fn stream(&self, id: u32) -> Stream {
        Stream {
            id,
            receiving: Phase::Head,
            sending: Phase::Head,
            send_window: SendWindow::new(self.peer.window),
            receive_window: ReceiveWindow::new(STREAM_WINDOW_BYTES),
            rest: None,
            head_only: false,
            response: None,
            unread: Unread::default(),
            trailers: None,
            broken: None,
            reader: None,
            writer: None,
            turn: false,
            queued: false,
            has_receiver: true,
            has_sender: true,
        }
    }

    /// Tells as many of the streams that wait for the connection's room as may use it, the longest waiting first.
    fn give_turns(&mut self) {
        let room = OUTPUT_BYTES_MAX.saturating_sub(self.output.len()).min(self.send_window.room());
        let mut turns = room.div_ceil(frame::PAYLOAD_BYTES_MAX);
        while turns > 0 {
            let Some(key) = self.waiting.pop_front() else { return };
            let stream = self.streams.get(key);
            stream.queued = false;
            if !stream.is_closed() {
                stream.turn = true;
                stream.wake_writer();
                turns -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
