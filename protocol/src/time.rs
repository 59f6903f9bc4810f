//! Two clocks, never mixed.
//!
//! Deadlines run on the local monotonic clock, which no clock jump moves. The wall clock is only a
//! claim that an author writes into a block for people to read; no rule depends on it.

use bincode::{Decode, Encode};

/// Milliseconds since the Unix epoch, as an author claims them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Timestamp(pub u64);

/// Milliseconds of the local monotonic clock, from an arbitrary start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// This moment and `ms` later.
    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
    /// Milliseconds from `earlier` to this moment; zero when it lies ahead.
    pub fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The time handed to every call of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// For deadlines.
    pub monotonic: Instant,
    /// For the `time` field of blocks.
    pub wall: Timestamp,
}
