//! How fast requests end, as measured, for those that are told to come back later.

use crate::request::Micros;

/// Time under work after which what was measured counts half: a minute follows a changed load, and yet sees several long
/// answers end.
const HALF_US: u64 = 60_000_000;

/// Longest time that anybody is told to wait, in seconds: who waits longer has asked elsewhere.
const MOST_RETRY_S: u64 = 60;

/// Counts ends over time under work.
#[derive(Default)]
pub(super) struct Pace {
    busy_us: u64,
    ended: u64,
}

impl Pace {
    /// A step took this long.
    pub(super) fn step(&mut self, from: Micros, to: Micros) {
        self.busy_us += to.0.saturating_sub(from.0);
        if self.busy_us > HALF_US {
            self.busy_us /= 2;
            self.ended /= 2;
        }
    }

    /// A request ended.
    pub(super) fn end(&mut self) {
        self.ended += 1;
    }

    /// Seconds in which so many requests end; as if one had ended when none has.
    pub(super) fn seconds(&self, requests: usize) -> u64 {
        let each_us = self.busy_us / self.ended.max(1);
        let all_us = each_us.saturating_mul(requests as u64);
        all_us.div_ceil(1_000_000).clamp(1, MOST_RETRY_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_for_requests_follows_what_was_measured() {
        let mut pace = Pace::default();
        assert_eq!(pace.seconds(5), 1);
        for second in 0..10 {
            let at = |s: u64| Micros(s * 1_000_000);
            pace.step(at(second), at(second + 1));
            pace.end();
            pace.end();
        }
        assert_eq!(pace.seconds(1), 1);
        assert_eq!(pace.seconds(20), 10);
        assert_eq!(pace.seconds(1000), MOST_RETRY_S);
        // Ten times slower for a while.
        for second in 0..600 {
            pace.step(Micros(second * 1_000_000), Micros((second + 1) * 1_000_000));
            if second % 5 == 0 {
                pace.end();
            }
        }
        assert!((15..=25).contains(&pace.seconds(4)), "{}", pace.seconds(4));
    }
}
