//! Why streams and connections end before their time.

use std::{fmt, io};

/// An error code (RFC 9113, 7).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub u32);

impl Reason {
    /// Nothing is wrong.
    pub const NO_ERROR: Self = Self(0);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// We failed.
    pub const INTERNAL_ERROR: Self = Self(2);
    /// The peer sent more than it was allowed to.
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    /// The peer did not take note of our settings.
    pub const SETTINGS_TIMEOUT: Self = Self(4);
    /// A frame came for a stream that its sender had ended.
    pub const STREAM_CLOSED: Self = Self(5);
    /// A frame has a size that it cannot have.
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    /// The stream was not looked at.
    pub const REFUSED_STREAM: Self = Self(7);
    /// The stream is wanted no more.
    pub const CANCEL: Self = Self(8);
    /// A header block cannot be read.
    pub const COMPRESSION_ERROR: Self = Self(9);
    /// The peer does what only costs.
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::NO_ERROR => "NO_ERROR",
            Self::PROTOCOL_ERROR => "PROTOCOL_ERROR",
            Self::INTERNAL_ERROR => "INTERNAL_ERROR",
            Self::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
            Self::SETTINGS_TIMEOUT => "SETTINGS_TIMEOUT",
            Self::STREAM_CLOSED => "STREAM_CLOSED",
            Self::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
            Self::REFUSED_STREAM => "REFUSED_STREAM",
            Self::CANCEL => "CANCEL",
            Self::COMPRESSION_ERROR => "COMPRESSION_ERROR",
            Self::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
            Self(code) => return write!(f, "error code {code}"),
        };
        f.write_str(name)
    }
}

/// Why a stream broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamError {
    /// It was reset, by either side.
    Reset(Reason),
    /// The peer said goodbye before it looked at it.
    Unprocessed,
    /// Its connection ended.
    Lost,
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(reason) => write!(f, "the stream was reset: {reason:?}"),
            Self::Unprocessed => f.write_str("the peer closed the connection before it looked at the stream"),
            Self::Lost => f.write_str("the connection ended"),
        }
    }
}

/// What a peer did that ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// What it is told.
    pub reason: Reason,
    /// What we are told.
    pub why: &'static str,
}

impl Fatal {
    /// PROTOCOL_ERROR
    pub const fn protocol(why: &'static str) -> Self {
        Self { reason: Reason::PROTOCOL_ERROR, why }
    }

    /// FRAME_SIZE_ERROR
    pub const fn size(why: &'static str) -> Self {
        Self { reason: Reason::FRAME_SIZE_ERROR, why }
    }

    /// FLOW_CONTROL_ERROR
    pub const fn flow(why: &'static str) -> Self {
        Self { reason: Reason::FLOW_CONTROL_ERROR, why }
    }
}

/// Why a connection ended before its time.
#[derive(Debug)]
pub enum ConnectionError {
    /// Its socket failed.
    Io(io::Error),
    /// Its peer went too far.
    Fatal(Fatal),
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Fatal(Fatal { reason, why }) => write!(f, "{why} ({reason:?})"),
        }
    }
}
