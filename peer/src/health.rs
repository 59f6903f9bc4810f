//! Typed warnings: what is degraded now, and what its owner can do about it.
//!
//! Each warning has a cause, and ends with it: work that failed succeeds or is no longer wanted, a clock goes back, the
//! last dropped message is a while ago.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tributary_protocol::id::RunId;

/// How long a clock that moved and stayed there is worth a look: whoever set it right needs no reminder for ever.
const CLOCK_HOLDS: Duration = Duration::from_secs(3600);
/// How long after the last dropped message the flood counts as going on. Rounds are minutes long at most.
const DROPS_HOLD: Duration = Duration::from_secs(600);
/// A clock that is less than this away from where it was is back, in seconds.
const CLOCK_BACK_S: i64 = 5;

/// Something the owner should look after.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Nobody is connected.
    #[error("no peer is connected; check the --bootstrap addresses and your firewall")]
    Alone,
    /// Nobody answers at an address that the owner gave.
    #[error("nobody is reached at {address}: {why} (it is tried again and again)")]
    Unreached {
        /// The address.
        address: String,
        /// Why not.
        why: String,
    },
    /// Another process has this peer's key.
    #[error(
        "a process with this peer's own key answers at {0}: a copy of this home runs as well. Stop one of the two now: \
         once both have signed, nothing that this peer says counts in that run any more"
    )]
    KeyElsewhere(String),
    /// Something else writes with this peer's key.
    #[error(
        "run {}: this peer's own key signed two different things: a copy of this home runs as well, or an old backup \
         was started. Stop one of the two; nothing that this peer says counts in the run from there on, and to take \
         part again it needs a new home (`tributary init --home DIR`)", .0.short()
    )]
    KeyTwice(RunId),
    /// A write failed; nothing is acknowledged any more.
    #[error("the store stopped: {0}")]
    Store(String),
    /// Work of a run failed, and has not succeeded since.
    #[error("local work for run {} failed: {why}", .run.short())]
    Work {
        /// The run.
        run: RunId,
        /// What went wrong.
        why: String,
    },
    /// The wall clock moved by itself.
    #[error(
        "the system clock jumped by {0} s; deadlines are not affected, but check the clock, because \
         people read the times in blocks"
    )]
    ClockJump(i64),
    /// Input was dropped within the last minutes.
    #[error(
        "{0} messages of peers were dropped by rate limits lately; a neighbour may be misbehaving, or this \
         machine is too slow for the runs it follows"
    )]
    RateLimited(u64),
}

/// Local work of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    Train,
    Score,
}

/// What is wrong at the moment. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health(Arc<Mutex<Causes>>);

#[derive(Debug, Default)]
struct Causes {
    store: Option<String>,
    /// Work that failed when it was last tried.
    work: BTreeMap<(RunId, Task), String>,
    /// Runs in which somebody else signed with this peer's key.
    key_twice: BTreeSet<RunId>,
    /// By how much the clock is off in seconds, and when it moved last.
    clock: Option<(i64, Instant)>,
    /// Messages dropped in the life of the daemon.
    dropped: u64,
    /// Those of the flood that goes on, and when the last of them was noticed.
    flood: Option<(u64, Instant)>,
}

impl Health {
    /// The store takes no more.
    pub(crate) fn store_failed(&self, why: String) {
        self.0.lock().store = Some(why);
    }

    pub(crate) fn work_failed(&self, run: RunId, task: Task, why: String) {
        self.0.lock().work.insert((run, task), why);
    }

    /// Such work of the run succeeded.
    pub(crate) fn work_done(&self, run: RunId, task: Task) {
        self.0.lock().work.remove(&(run, task));
    }

    /// No more work is done for the run: it is finished, or its owner left it.
    pub(crate) fn work_over(&self, run: RunId) {
        self.0.lock().work.retain(|(of, _), _| *of != run);
    }

    /// Something else signed with this peer's key in a run. Nothing ends that. Whether it is news.
    pub(crate) fn key_twice(&self, run: RunId) -> bool {
        self.0.lock().key_twice.insert(run)
    }

    /// The wall clock moved by so many seconds.
    pub(crate) fn clock_jumped(&self, seconds: i64, now: Instant) {
        let mut causes = self.0.lock();
        let off = seconds + causes.clock.map_or(0, |(off, _)| off);
        causes.clock = (off.abs() >= CLOCK_BACK_S).then_some((off, now));
    }

    /// So many messages were dropped in the life of the daemon. To be told often: what is told together counts as
    /// one moment.
    pub(crate) fn dropped(&self, total: u64, now: Instant) {
        let mut causes = self.0.lock();
        let more = total.saturating_sub(causes.dropped);
        causes.flood = (causes.flood).filter(|(_, last)| is_recent(*last, DROPS_HOLD, now));
        if more > 0 {
            let before = causes.flood.map_or(0, |(count, _)| count);
            causes.flood = Some((before + more, now));
            causes.dropped = total;
        }
    }

    /// What holds, with what follows from the figures at hand.
    pub(crate) fn now(&self, connected: usize, dropped: u64, now: Instant) -> Vec<Warning> {
        self.dropped(dropped, now);
        let causes = self.0.lock();
        let work = causes.work.iter().map(|((run, _), why)| Warning::Work {
            run: *run,
            why: why.clone(),
        });
        let clock = (causes.clock).filter(|(_, moved)| is_recent(*moved, CLOCK_HOLDS, now));
        (causes.store.iter().cloned().map(Warning::Store))
            .chain(causes.key_twice.iter().copied().map(Warning::KeyTwice))
            .chain(work)
            .chain(clock.map(|(off, _)| Warning::ClockJump(off)))
            .chain((connected == 0).then_some(Warning::Alone))
            .chain(causes.flood.map(|(count, _)| Warning::RateLimited(count)))
            .collect()
    }
}

fn is_recent(at: Instant, hold: Duration, now: Instant) -> bool {
    now.saturating_duration_since(at) < hold
}

#[cfg(test)]
mod tests {
    use tributary_protocol::hash;

    use super::*;

    fn run(n: u8) -> RunId {
        RunId(hash::blob(&[n]))
    }

    fn work(n: u8, why: &str) -> Warning {
        Warning::Work {
            run: run(n),
            why: why.to_owned(),
        }
    }

    #[test]
    fn a_warning_about_work_ends_when_that_work_succeeds_or_its_run_is_over() {
        let (health, now) = (Health::default(), Instant::now());
        health.work_failed(run(1), Task::Train, "first".into());
        health.work_failed(run(1), Task::Train, "second".into());
        assert_eq!(health.now(1, 0, now), [work(1, "second")]);
        health.work_done(run(1), Task::Score);
        health.work_done(run(2), Task::Train);
        assert_eq!(health.now(1, 0, now), [work(1, "second")], "other work");
        health.work_done(run(1), Task::Train);
        assert_eq!(health.now(1, 0, now), []);
        health.work_failed(run(1), Task::Train, "third".into());
        health.work_failed(run(2), Task::Score, "other".into());
        health.work_over(run(1));
        assert_eq!(health.now(1, 0, now), [work(2, "other")]);
    }

    #[test]
    fn a_warning_about_the_clock_ends_when_it_is_back_or_after_an_hour() {
        let (health, now) = (Health::default(), Instant::now());
        health.clock_jumped(3600, now);
        health.clock_jumped(60, now);
        assert_eq!(health.now(1, 0, now), [Warning::ClockJump(3660)]);
        health.clock_jumped(-3658, now);
        assert_eq!(health.now(1, 0, now), []);
        health.clock_jumped(-40, now);
        let almost = now + CLOCK_HOLDS - Duration::from_secs(1);
        assert_eq!(health.now(1, 0, almost), [Warning::ClockJump(-40)]);
        assert_eq!(health.now(1, 0, now + CLOCK_HOLDS), []);
    }

    #[test]
    fn a_warning_about_dropped_messages_ends_a_while_after_the_last() {
        let (health, now) = (Health::default(), Instant::now());
        health.dropped(5, now);
        let later = now + DROPS_HOLD / 2;
        assert_eq!(health.now(1, 7, later), [Warning::RateLimited(7)]);
        let still = later + DROPS_HOLD / 2;
        assert_eq!(health.now(1, 7, still), [Warning::RateLimited(7)]);
        assert_eq!(health.now(1, 7, later + DROPS_HOLD), []);
        let again = later + DROPS_HOLD * 2;
        assert_eq!(health.now(1, 8, again), [Warning::RateLimited(1)]);
    }

    #[test]
    fn a_key_that_is_used_twice_is_told_of_in_each_run_for_good() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(health.key_twice(run(1)));
        assert!(!health.key_twice(run(1)), "no news");
        health.work_over(run(1));
        assert_eq!(health.now(1, 0, now), [Warning::KeyTwice(run(1))]);
        let said = Warning::KeyTwice(run(1)).to_string();
        assert!(said.contains("copy of this home"), "{said}");
    }

    #[test]
    fn a_peer_is_alone_for_as_long_as_nobody_is_connected() {
        let (health, now) = (Health::default(), Instant::now());
        assert_eq!(health.now(0, 0, now), [Warning::Alone]);
        assert_eq!(health.now(1, 0, now), []);
        health.store_failed("the disk is full".into());
        let both = [Warning::Store("the disk is full".into()), Warning::Alone];
        assert_eq!(health.now(0, 0, now), both);
    }
}
