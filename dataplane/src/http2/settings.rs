//! SETTINGS (RFC 9113, 6.5): what a peer asks for, and what we do. Pure.

use super::{
    error::Fatal,
    frame::{self, Kind, PAYLOAD_BYTES_MAX},
};

const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;

const SETTING_BYTES: usize = 6;
const FRAME_SIZE_LIMIT: u32 = (1 << 24) - 1;

/// What a peer said last. It may keep a table for our header blocks of any size: they use none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Streams that we may have open at once.
    pub streams_max: u32,
    /// Bytes of a new stream's body that we may send unasked.
    pub window: u32,
}

impl Peer {
    /// Takes in a frame's payload.
    pub fn update(&mut self, payload: &[u8], from_server: bool) -> Result<(), Fatal> {
        if !payload.len().is_multiple_of(SETTING_BYTES) {
            return Err(Fatal::size("settings that are cut short"));
        }
        for setting in payload.chunks_exact(SETTING_BYTES) {
            let name = u16::from_be_bytes([setting[0], setting[1]]);
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match name {
                ENABLE_PUSH if value > 1 || (value == 1 && from_server) => {
                    return Err(Fatal::protocol("a setting for push that cannot be"));
                }
                MAX_CONCURRENT_STREAMS => self.streams_max = value,
                INITIAL_WINDOW_SIZE if value > i32::MAX as u32 => {
                    return Err(Fatal::flow("an initial window that is too large"));
                }
                INITIAL_WINDOW_SIZE => self.window = value,
                MAX_FRAME_SIZE if !(PAYLOAD_BYTES_MAX as u32..=FRAME_SIZE_LIMIT).contains(&value) => {
                    return Err(Fatal::protocol("a frame size that cannot be"));
                }
                // Larger frames than the least are never sent: other streams would wait for their ends.
                _ => {}
            }
        }
        Ok(())
    }
}

/// Writes ours; a client takes no pushes, and only a server limits streams.
pub fn write(out: &mut Vec<u8>, streams_max: Option<u32>, window: u32, header_list_bytes: u32) {
    let limit = streams_max.map_or((ENABLE_PUSH, 0), |max| (MAX_CONCURRENT_STREAMS, max));
    let ours = [limit, (INITIAL_WINDOW_SIZE, window), (MAX_HEADER_LIST_SIZE, header_list_bytes)];
    frame::header(out, ours.len() * SETTING_BYTES, Kind::Settings, 0, 0);
    for (name, value) in ours {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}
