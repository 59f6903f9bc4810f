//! Both clocks of a running peer.
//!
//! The monotonic one starts at zero with the daemon and decides everything. The wall clock is read
//! afresh each time, and its jumps are noticed only to be reported. Blocks carry its time for people to read, so a peer
//! that is to sign the same bytes each time it is started is given a wall clock that stands still.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tributary_protocol::time::{Instant, Now, Timestamp};

/// A jump of the wall clock worth reporting, in milliseconds.
const JUMP_MS: i64 = 5_000;

/// The monotonic clock and the wall clock of a running peer.
#[derive(Debug)]
pub(crate) struct Clock {
    start: tokio::time::Instant,
    /// What the wall clock reads throughout; None: what the machine's does.
    still: Option<Timestamp>,
    /// Wall minus monotonic, milliseconds, when last compared.
    offset: i64,
}

/// What the machine's wall clock reads.
pub(crate) fn now() -> Timestamp {
    Timestamp(wall())
}

fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis() as u64)
}

impl Clock {
    /// Starts at zero now, with the machine's wall clock or one that stands still.
    pub(crate) fn start(still: Option<Timestamp>) -> Self {
        Self {
            start: tokio::time::Instant::now(),
            still,
            offset: wall() as i64,
        }
    }

    /// The time to hand to the node.
    pub(crate) fn now(&self) -> Now {
        Now {
            monotonic: Instant(self.start.elapsed().as_millis() as u64),
            wall: self.still.unwrap_or_else(|| Timestamp(wall())),
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
        match self.still {
            Some(_) => None,
            None => self.compare(now),
        }
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
        let mut clock = Clock::start(None);
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

    #[test]
    fn a_clock_that_stands_still_reads_the_same_and_reports_no_jump() {
        let mut clock = Clock::start(Some(Timestamp(7)));
        assert_eq!(clock.now().wall, Timestamp(7));
        assert_eq!(clock.jumped(), None);
    }
}
