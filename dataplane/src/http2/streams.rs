//! The streams of one connection: those that are open, and those that somebody still holds. Pure.

use std::{collections::VecDeque, mem, task::Waker};

use bytes::Bytes;
use http::{HeaderMap, Response};
use slab::Slab;

use super::{
    error::StreamError,
    flow::{ReceiveWindow, SendWindow},
};

/// Capacity that is kept while there is no stream.
const KEPT_STREAMS_MAX: usize = 8;

/// Place of a stream that somebody holds.
pub type Key = usize;

/// How far one direction of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The head has not come.
    Head,
    /// The body is under way.
    Body,
    /// Nothing more comes.
    Ended,
}

/// What came of a body and is unread. Small parts are kept as one, so that many of them take no more memory than they are.
#[derive(Debug, Default)]
pub struct Unread {
    parts: VecDeque<Bytes>,
    tail: Vec<u8>,
    bytes: usize,
}

/// Payload, as it was read.
pub enum Payload<'a> {
    /// To be copied.
    Copied(&'a [u8]),
    /// A share of what was read.
    Shared(Bytes),
}

impl Payload<'_> {
    /// How many bytes it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Copied(bytes) => bytes.len(),
            Self::Shared(bytes) => bytes.len(),
        }
    }
}

impl Unread {
    /// Takes in a part.
    pub fn push(&mut self, payload: Payload<'_>) {
        self.bytes += payload.len();
        match payload {
            Payload::Copied(bytes) if self.tail.is_empty() => self.tail = bytes.to_vec(),
            Payload::Copied(bytes) => self.tail.extend_from_slice(bytes),
            Payload::Shared(bytes) => {
                if !self.tail.is_empty() {
                    self.parts.push_back(mem::take(&mut self.tail).into());
                }
                self.parts.push_back(bytes);
            }
        }
    }

    /// Gives the next part.
    pub fn pop(&mut self) -> Option<Bytes> {
        let part = match self.parts.pop_front() {
            Some(part) => part,
            None if self.tail.is_empty() => return None,
            None => mem::take(&mut self.tail).into(),
        };
        self.bytes -= part.len();
        Some(part)
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes
    }
}

/// A stream, from our end.
#[derive(Debug)]
pub struct Stream {
    /// Its number.
    pub id: u32,
    /// What comes.
    pub receiving: Phase,
    /// What goes.
    pub sending: Phase,
    /// Bytes that may go.
    pub send_window: SendWindow,
    /// Bytes that may come.
    pub receive_window: ReceiveWindow,
    /// Bytes that are still to come, where the head says it.
    pub rest: Option<u64>,
    /// The request is HEAD: the answer has a length and no body.
    pub head_only: bool,
    /// The answer's head, until it is taken.
    pub response: Option<Response<()>>,
    /// What came and is unread.
    pub unread: Unread,
    /// The same.
    pub trailers: Option<HeaderMap>,
    /// Why it broke off.
    pub broken: Option<StreamError>,
    /// Who waits for what comes.
    pub reader: Option<Waker>,
    /// Who waits to send more.
    pub writer: Option<Waker>,
    /// It has been told that the connection has room, and has not sent since.
    pub turn: bool,
    /// It waits until the connection has room.
    pub queued: bool,
    /// Somebody wants what comes.
    pub has_receiver: bool,
    /// Somebody may send.
    pub has_sender: bool,
}

impl Stream {
    /// Whether the protocol is done with it.
    pub fn is_closed(&self) -> bool {
        self.broken.is_some() || (self.receiving == Phase::Ended && self.sending == Phase::Ended)
    }

    /// Tells the reader that there is news.
    pub fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    /// Tells the writer the same.
    pub fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}

/// Puts a waker where another was, if it is not the same.
pub fn wait(slot: &mut Option<Waker>, waker: &Waker) {
    if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
        *slot = Some(waker.clone());
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Streams {
    held: Slab<Stream>,
    /// Numbers and keys of the open ones, by number.
    open: Vec<(u32, Key)>,
}

impl Streams {
    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// How many are held, by whom does not know yet that they are closed, too.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The open stream of a number.
    pub fn find(&self, id: u32) -> Option<Key> {
        let place = self.open.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.open[place].1)
    }

    /// A stream that is held.
    pub fn get(&mut self, key: Key) -> &mut Stream {
        &mut self.held[key]
    }

    /// Adds one, whose number is the highest yet.
    pub fn add(&mut self, stream: Stream) -> Key {
        let id = stream.id;
        let key = self.held.insert(stream);
        self.open.push((id, key));
        key
    }

    /// Takes one out of the open ones.
    pub fn close(&mut self, id: u32) -> bool {
        let place = self.open.binary_search_by_key(&id, |(id, _)| *id);
        place.is_ok_and(|place| {
            self.open.remove(place);
            true
        })
    }

    /// Forgets one that nobody holds any more.
    pub fn remove(&mut self, key: Key) {
        self.held.remove(key);
        if self.held.is_empty() && self.held.capacity() > KEPT_STREAMS_MAX {
            *self = Self::default();
        }
    }

    /// The keys of the open ones above a number.
    pub fn above(&self, id: u32) -> Vec<Key> {
        self.open.iter().filter(|(open, _)| *open > id).map(|(_, key)| *key).collect()
    }

    /// All that are open.
    pub fn each_open(&mut self, mut act: impl FnMut(&mut Stream)) {
        for (_, key) in &self.open {
            act(&mut self.held[*key]);
        }
    }
}
