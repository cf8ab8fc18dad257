//! Frames as they stand on the wire (RFC 9113, 4 and 6). Pure.

use super::error::{Fatal, Reason};

/// Bytes of a frame before its payload.
pub const HEADER_BYTES: usize = 9;
/// Largest payload that we take, and that every peer takes.
pub const PAYLOAD_BYTES_MAX: usize = 16_384;
/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Of DATA and HEADERS: the sender's last frame on the stream.
pub const END_STREAM: u8 = 0x1;
/// Of HEADERS and CONTINUATION: the block is complete.
pub const END_HEADERS: u8 = 0x4;
/// Of DATA and HEADERS: padding follows.
pub const PADDED: u8 = 0x8;
/// Of HEADERS: a priority comes first.
pub const PRIORITY: u8 = 0x20;
/// Of SETTINGS and PING: an answer.
pub const ACK: u8 = 0x1;

/// Bytes of the priority in HEADERS and PRIORITY.
const PRIORITY_BYTES: usize = 5;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum Kind {
    Data = 0,
    Headers = 1,
    Priority = 2,
    Reset = 3,
    Settings = 4,
    Push = 5,
    Ping = 6,
    GoAway = 7,
    WindowUpdate = 8,
    Continuation = 9,
    /// To be passed over.
    Unknown = 255,
}

/// The first bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the payload.
    pub length: usize,
    /// What it is.
    pub kind: Kind,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
}

impl Header {
    /// Reads one, once all of it is there.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, s0, s1, s2, s3] = bytes.first_chunk::<HEADER_BYTES>()?;
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Headers,
            2 => Kind::Priority,
            3 => Kind::Reset,
            4 => Kind::Settings,
            5 => Kind::Push,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            8 => Kind::WindowUpdate,
            9 => Kind::Continuation,
            _ => Kind::Unknown,
        };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        Some(Self { length, kind, flags, stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]) })
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The place of what DATA or HEADERS carry within the payload: without padding and priority.
    pub fn content(&self, payload: &[u8]) -> Result<std::ops::Range<usize>, Fatal> {
        let (mut start, mut end) = (0, payload.len());
        if self.has(PADDED) {
            let padding = *payload.first().ok_or(Fatal::size("padding without a length"))?;
            start += 1;
            end = end.saturating_sub(usize::from(padding));
        }
        if self.kind == Kind::Headers && self.has(PRIORITY) {
            start += PRIORITY_BYTES;
        }
        if start > end { Err(Fatal::protocol("more padding than payload")) } else { Ok(start..end) }
    }
}

/// Writes the first bytes of a frame.
pub fn header(out: &mut Vec<u8>, length: usize, kind: Kind, flags: u8, stream: u32) {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind as u8, flags, s0, s1, s2, s3]);
}

/// Writes a header block that `write` appends; one larger than a frame goes on in CONTINUATION.
pub fn block(out: &mut Vec<u8>, stream: u32, end: bool, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    let end = if end { END_STREAM } else { 0 };
    header(out, 0, Kind::Headers, end | END_HEADERS, stream);
    write(out);
    let length = out.len() - start - HEADER_BYTES;
    if length <= PAYLOAD_BYTES_MAX {
        let [_, a, b, c] = (length as u32).to_be_bytes();
        out[start..start + 3].copy_from_slice(&[a, b, c]);
        return;
    }
    let whole = out.split_off(start + HEADER_BYTES);
    out.truncate(start);
    let mut parts = whole.chunks(PAYLOAD_BYTES_MAX).peekable();
    let (mut kind, mut flags) = (Kind::Headers, end);
    while let Some(part) = parts.next() {
        let last = if parts.peek().is_none() { END_HEADERS } else { 0 };
        header(out, part.len(), kind, flags | last, stream);
        out.extend_from_slice(part);
        (kind, flags) = (Kind::Continuation, 0);
    }
}

/// Writes RST_STREAM.
pub fn reset(out: &mut Vec<u8>, stream: u32, reason: Reason) {
    header(out, 4, Kind::Reset, 0, stream);
    out.extend_from_slice(&reason.0.to_be_bytes());
}

/// Writes WINDOW_UPDATE.
pub fn window_update(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    header(out, 4, Kind::WindowUpdate, 0, stream);
    out.extend_from_slice(&bytes.to_be_bytes());
}

/// Writes PING.
pub fn ping(out: &mut Vec<u8>, flags: u8, opaque: [u8; 8]) {
    header(out, 8, Kind::Ping, flags, 0);
    out.extend_from_slice(&opaque);
}

/// Writes GOAWAY.
pub fn goaway(out: &mut Vec<u8>, last: u32, reason: Reason) {
    header(out, 8, Kind::GoAway, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&reason.0.to_be_bytes());
}

/// A payload of so many bytes and no others.
pub fn exactly<const N: usize>(payload: &[u8]) -> Result<[u8; N], Fatal> {
    payload.try_into().map_err(|_| Fatal::size("a frame of a size that its kind does not have"))
}
