//! Virtual time, and how wrongly each peer sees it.
//!
//! The world counts microseconds from its start. A peer's monotonic clock starts anywhere at each
//! boot and runs slightly fast or slow; its wall clock is off by up to a day. Neither may matter.

use tributary_protocol::time::{Instant, Now, Timestamp};

/// Microseconds since the start of the world.
pub type Micros = u64;

/// The wall clock's reading at the start of the world: 1 January 2027.
const EPOCH_MS: i64 = 1_798_761_600_000;

/// Microseconds in `ms` milliseconds.
pub const fn ms(ms: u64) -> Micros {
    ms * 1_000
}

/// One peer's pair of clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// World time of the boot.
    booted: Micros,
    /// Monotonic reading at the boot.
    origin_ms: u64,
    /// How much faster than the world it runs.
    drift_ppm: i64,
    /// How far the wall clock is off.
    skew_ms: i64,
}

impl Clock {
    /// A clock that reads `origin_ms` at `booted`.
    pub fn new(booted: Micros, origin_ms: u64, drift_ppm: i64, skew_ms: i64) -> Self {
        Self {
            booted,
            origin_ms,
            drift_ppm,
            skew_ms,
        }
    }

    /// What the peer reads at world time `at`.
    pub fn now(&self, at: Micros) -> Now {
        Now {
            monotonic: Instant(self.monotonic_ms(at)),
            wall: Timestamp((EPOCH_MS + (at / 1_000) as i64 + self.skew_ms) as u64),
        }
    }

    /// The first world time at which the peer's monotonic clock has reached `instant`, not before
    /// `from`.
    pub fn when(&self, instant: Instant, from: Micros) -> Micros {
        let ahead_us = instant.0.saturating_sub(self.origin_ms) as i128 * 1_000;
        let world = ahead_us * 1_000_000 / i128::from(1_000_000 + self.drift_ppm);
        let mut at = (self.booted + world as u64).max(from);
        while self.monotonic_ms(at) < instant.0 {
            at += 100;
        }
        at
    }

    fn monotonic_ms(&self, at: Micros) -> u64 {
        let passed = (at - self.booted) as i128 * i128::from(1_000_000 + self.drift_ppm);
        self.origin_ms + (passed / 1_000_000_000) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_timer_never_fires_early_and_at_most_a_millisecond_late(
            booted in 0u64..1 << 40,
            origin in 0u64..1 << 40,
            drift in -500i64..500,
            wait in 0u64..1 << 30,
        ) {
            let clock = Clock::new(booted, origin, drift, 0);
            let at = clock.when(Instant(origin + wait), booted);
            prop_assert!(clock.now(at).monotonic.0 >= origin + wait);
            if at > booted + 1_200 {
                prop_assert!(clock.now(at - 1_200).monotonic.0 < origin + wait);
            }
        }
    }
}
