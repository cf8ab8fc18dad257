//! Frames that wait to be written: one buffer for all, with large payloads chained in between rather than copied. Pure.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};

/// Payloads from this size on are not copied.
const CHAINED_BYTES_MIN: usize = 4096;
/// Capacity that a connection keeps while it has nothing to write.
const KEPT_BYTES_MAX: usize = 1024;
/// Parts that go in one write.
pub const PARTS_MAX: usize = 32;

/// What is to be written, in order.
#[derive(Debug, Default)]
pub struct Output {
    /// All but the large payloads.
    bytes: Vec<u8>,
    /// How much of it is written.
    written: usize,
    /// Large payloads, each with its place in `bytes`.
    large: VecDeque<(usize, Bytes)>,
    large_bytes: usize,
}

impl Output {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.written + self.large_bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where frames are written.
    pub fn frames(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Takes a payload after the frame's first bytes.
    pub fn payload(&mut self, payload: Bytes) {
        if payload.len() < CHAINED_BYTES_MIN {
            self.bytes.extend_from_slice(&payload);
        } else {
            self.large_bytes += payload.len();
            self.large.push_back((self.bytes.len(), payload));
        }
    }

    /// The one part that waits, where it is one.
    pub fn single(&self) -> Option<&[u8]> {
        self.large.is_empty().then(|| &self.bytes[self.written..])
    }

    /// The first parts that wait, and how many these are.
    pub fn parts<'a>(&'a self, parts: &mut [IoSlice<'a>; PARTS_MAX]) -> usize {
        let (mut at, mut count) = (self.written, 0);
        let mut add = |part: &'a [u8]| {
            if !part.is_empty() && count < PARTS_MAX {
                parts[count] = IoSlice::new(part);
                count += 1;
            }
        };
        for (place, payload) in self.large.iter().take(PARTS_MAX) {
            add(&self.bytes[at..*place]);
            add(payload);
            at = *place;
        }
        if self.large.len() <= PARTS_MAX {
            add(&self.bytes[at..]);
        }
        count
    }

    /// Takes note that the next bytes are written.
    pub fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let before = self.large.front().map_or(self.bytes.len(), |(place, _)| *place) - self.written;
            let taken = before.min(bytes);
            self.written += taken;
            bytes -= taken;
            if bytes == 0 {
                break;
            }
            let Some((_, payload)) = self.large.front_mut() else { break };
            let taken = payload.len().min(bytes);
            payload.advance(taken);
            self.large_bytes -= taken;
            bytes -= taken;
            if payload.is_empty() {
                self.large.pop_front();
            }
        }
        if self.is_empty() {
            self.written = 0;
            self.bytes.clear();
            if self.bytes.capacity() > KEPT_BYTES_MAX {
                self.bytes = Vec::new();
            }
            if self.large.capacity() > 0 {
                self.large = VecDeque::new();
            }
        }
    }
}
