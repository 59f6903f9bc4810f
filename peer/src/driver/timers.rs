//! The node's timers: one moment each, set again to move.

use std::collections::{BTreeMap, BTreeSet};

use tributary_protocol::event::Timer;
use tributary_protocol::time::Instant;

/// The node's timers, each with the moment at which it goes off.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_name: BTreeMap<Timer, Instant>,
    by_time: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.forget(&timer);
        self.by_name.insert(timer, at);
        self.by_time.insert((at, timer));
    }

    fn forget(&mut self, timer: &Timer) {
        if let Some(at) = self.by_name.remove(timer) {
            self.by_time.remove(&(at, *timer));
        }
    }

    /// When the next one goes off.
    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes one that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let (at, timer) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.forget(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_protocol::id::{Round, RunId};

    #[test]
    fn timer_that_is_set_again_moves_and_goes_off_once() {
        let mut timers = Timers::default();
        let (a, b) = (
            Timer::Tick(RunId::default()),
            Timer::Grace(RunId::default(), Round(1)),
        );
        timers.set(a, Instant(10));
        timers.set(b, Instant(20));
        timers.set(a, Instant(30));
        assert_eq!(timers.next(), Some(Instant(20)));
        assert_eq!(timers.pop_due(Instant(19)), None);
        assert_eq!(timers.pop_due(Instant(40)), Some(b));
        assert_eq!(timers.pop_due(Instant(40)), Some(a));
        assert_eq!(timers.pop_due(Instant(40)), None);
        assert_eq!(timers.next(), None);
    }
}
