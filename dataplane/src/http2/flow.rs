//! Flow control (RFC 9113, 5.2): how much may be sent, in either direction. Pure.

/// Window of a connection, and of a stream before settings say otherwise.
pub const WINDOW_BYTES: u32 = 65_535;

/// A window went beyond 2^31 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

/// Bytes that we may send. Below zero where the peer made it smaller than what is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendWindow(i32);

impl SendWindow {
    /// One that begins with so many bytes.
    pub fn new(bytes: u32) -> Self {
        Self(i32::try_from(bytes).unwrap_or(i32::MAX))
    }

    /// Bytes that may be sent now.
    pub fn room(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// Takes note of bytes sent, within the room.
    pub fn take(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(i32::try_from(bytes).unwrap_or(i32::MAX));
    }

    /// Takes in that there is more room, or less.
    pub fn shift(&mut self, bytes: i64) -> Result<(), Overflow> {
        self.0 = i32::try_from(i64::from(self.0) + bytes).map_err(|_| Overflow)?;
        Ok(())
    }
}

/// Bytes that the peer may send, and those that it may send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveWindow {
    size: u32,
    left: u32,
    read: u32,
}

impl ReceiveWindow {
    /// One of a size.
    pub fn new(size: u32) -> Self {
        Self { size, left: size, read: 0 }
    }

    /// Takes note of bytes that came; false where they were too many.
    pub fn receive(&mut self, bytes: usize) -> bool {
        let left = u32::try_from(bytes).ok().and_then(|bytes| self.left.checked_sub(bytes));
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// Takes note of bytes that were read. Half a window of them is worth an update: its bytes.
    pub fn release(&mut self, bytes: usize) -> Option<u32> {
        // No more is ever read than came.
        self.read = self.read.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.read < self.size / 2 {
            return None;
        }
        self.left = self.left.saturating_add(self.read);
        Some(std::mem::take(&mut self.read))
    }
}
