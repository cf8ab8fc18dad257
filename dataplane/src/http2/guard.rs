//! What a peer may do that costs us and is of no use: each kind has a limit (with a counter), beyond which it is told to be
//! calm and its connection ends. Pure but for the counter.

use tokio::time::Instant;

use super::error::{Fatal, Reason};

/// Resets of streams that were not answered yet, in a row (CVE-2023-44487); so many more each second.
pub const RESETS_MAX: Rate = Rate { burst: 500, second: 100 };
/// Resets of our own making that a peer may provoke (CVE-2025-8671), refused streams among them.
pub const PROVOKED_MAX: Rate = Rate { burst: 1000, second: 100 };
/// Frames that say nothing: of PRIORITY, of an unknown kind, or for a stream that is closed.
pub const IDLE_FRAMES_MAX: Rate = Rate { burst: 10_000, second: 1000 };
/// Frames of DATA or CONTINUATION without content, one after another (CVE-2019-9518).
pub const EMPTY_FRAMES_MAX: u32 = 100;
/// Answers to PING and SETTINGS that wait to be written (CVE-2019-9512, CVE-2019-9515).
pub const ACKS_MAX: u32 = 1000;
/// Frames that one header block may have beyond its first (CVE-2024-27316).
pub const CONTINUATIONS_MAX: u32 = 32;

/// How often something may happen.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// Again, each second.
    pub second: u32,
}

/// What there is a limit for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`RESETS_MAX`]
    Resets,
    /// [`PROVOKED_MAX`]
    Provoked,
    /// [`IDLE_FRAMES_MAX`]
    IdleFrames,
    /// [`EMPTY_FRAMES_MAX`]
    EmptyFrames,
    /// [`ACKS_MAX`]
    Acks,
    /// [`CONTINUATIONS_MAX`] and the bytes of a header block as written.
    Block,
    /// Streams open at once.
    Streams,
    /// Fields of a head and their bytes.
    Fields,
    /// Time to take note of our settings.
    Settings,
}

impl Limit {
    /// Counts that it was reached.
    pub fn count(self) {
        let word = match self {
            Self::Resets => "resets",
            Self::Provoked => "provoked_resets",
            Self::IdleFrames => "idle_frames",
            Self::EmptyFrames => "empty_frames",
            Self::Acks => "acks",
            Self::Block => "header_block",
            Self::Streams => "streams",
            Self::Fields => "header_fields",
            Self::Settings => "settings_timeout",
        };
        metrics::counter!("weft_http2_limits_total", "limit" => word).increment(1);
    }

    /// Counts it, and is what ends the connection.
    pub fn reached(self) -> Fatal {
        self.count();
        match self {
            Self::Settings => {
                Fatal { reason: Reason::SETTINGS_TIMEOUT, why: "the peer ignores our settings" }
            }
            _ => Fatal { reason: Reason::ENHANCE_YOUR_CALM, why: "the peer only makes work" },
        }
    }
}

/// Something that may happen now and then.
#[derive(Debug)]
struct Allowance {
    rate: Rate,
    left: u32,
    since: Instant,
}

impl Allowance {
    fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, left: rate.burst, since: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        if self.left == 0 {
            let passed = now.saturating_duration_since(self.since).as_millis();
            let earned = passed.saturating_mul(u128::from(self.rate.second)) / 1000;
            if earned > 0 {
                self.left = u32::try_from(earned).unwrap_or(u32::MAX).min(self.rate.burst);
                self.since = now;
            }
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

/// What one peer has left.
#[derive(Debug)]
pub struct Guard {
    resets: Allowance,
    provoked: Allowance,
    idle: Allowance,
    empty: u32,
    acks: u32,
}

impl Guard {
    /// For a new connection.
    pub fn new(now: Instant) -> Self {
        Self {
            resets: Allowance::new(RESETS_MAX, now),
            provoked: Allowance::new(PROVOKED_MAX, now),
            idle: Allowance::new(IDLE_FRAMES_MAX, now),
            empty: 0,
            acks: 0,
        }
    }

    /// A stream is reset before it was answered.
    pub fn reset(&mut self, now: Instant) -> Result<(), Fatal> {
        if self.resets.take(now) { Ok(()) } else { Err(Limit::Resets.reached()) }
    }

    /// We have to reset a stream.
    pub fn provoked(&mut self, now: Instant) -> Result<(), Fatal> {
        if self.provoked.take(now) { Ok(()) } else { Err(Limit::Provoked.reached()) }
    }

    /// A frame says nothing.
    pub fn idle(&mut self, now: Instant) -> Result<(), Fatal> {
        if self.idle.take(now) { Ok(()) } else { Err(Limit::IdleFrames.reached()) }
    }

    /// A frame that should have content has, or has none.
    pub fn content(&mut self, empty: bool) -> Result<(), Fatal> {
        self.empty = if empty { self.empty + 1 } else { 0 };
        if self.empty <= EMPTY_FRAMES_MAX { Ok(()) } else { Err(Limit::EmptyFrames.reached()) }
    }

    /// An answer has to be written.
    pub fn ack(&mut self) -> Result<(), Fatal> {
        self.acks += 1;
        if self.acks <= ACKS_MAX { Ok(()) } else { Err(Limit::Acks.reached()) }
    }

    /// All that waited is written.
    pub fn written(&mut self) {
        self.acks = 0;
    }
}
