//! Both clocks of a running peer.
//!
//! The monotonic one starts at zero with the daemon and decides everything. The wall clock is read
//! afresh each time, and its jumps are noticed only to be reported.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tributary_protocol::time::{Instant, Now, Timestamp};

/// A jump of the wall clock worth reporting, in milliseconds.
const JUMP_MS: i64 = 5_000;

/// The monotonic clock and the wall clock of a running peer.
#[derive(Debug)]
pub(crate) struct Clock {
    start: tokio::time::Instant,
    /// Wall minus monotonic, milliseconds, when last compared.
    offset: i64,
}

fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis() as u64)
}

impl Clock {
    /// Starts at zero now.
    pub(crate) fn start() -> Self {
        Self {
            start: tokio::time::Instant::now(),
            offset: wall() as i64,
        }
    }

    /// The time to hand to the node.
    pub(crate) fn now(&self) -> Now {
        Now {
            monotonic: Instant(self.start.elapsed().as_millis() as u64),
            wall: Timestamp(wall()),
        }
    }

    /// How long until `at`; rounded up, so that a timer never goes off early.
    pub(super) fn until(&self, at: Instant) -> Duration {
        (self.start + Duration::from_millis(at.0))
            .saturating_duration_since(tokio::time::Instant::now())
    }

    /// Seconds by which the wall clock moved against the monotonic one since it was last asked; `None`
    /// when they agree.
    pub(super) fn jumped(&mut self) -> Option<i64> {
        let now = self.now();
        self.compare(now)
    }

    fn compare(&mut self, now: Now) -> Option<i64> {
        let offset = now.wall.0 as i64 - now.monotonic.0 as i64;
        let moved = offset - self.offset;
        if moved.abs() < JUMP_MS {
            return None;
        }
        self.offset = offset;
        Some(moved / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jump_of_the_wall_clock_is_reported_once_and_moves_nothing() {
        let mut clock = Clock::start();
        let now = clock.now();
        let later = |ms: u64, jump: i64| Now {
            monotonic: now.monotonic.after_ms(ms),
            wall: Timestamp((now.wall.0 as i64 + ms as i64 + jump) as u64),
        };
        assert_eq!(clock.compare(later(1000, 0)), None);
        assert_eq!(clock.compare(later(2000, -3_600_000)), Some(-3600));
        assert_eq!(clock.compare(later(3000, -3_600_000)), None);
        assert_eq!(clock.compare(later(4000, 0)), Some(3600));
        assert!(clock.now().monotonic.since_ms(now.monotonic) < 60_000);
    }
}
