//! How far long work is, told to the person who waits.
//!
//! A run, a sweep or a study may take hours. On a terminal one line is written over and over; elsewhere a line comes
//! whenever it was quiet for half a minute: what is being done, how far, for how long, and how much is left where that can
//! be told. Nothing of it reaches a result.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest time without a line.
const QUIET: Duration = Duration::from_secs(30);
/// How often somebody looks whether it was quiet for long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A line for people on stderr. Where it cannot be written nobody reads it, and the work goes on.
pub fn note(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// How far some work is. Clones are of the same work, which any thread may report.
#[derive(Clone, Default)]
pub struct Progress(Arc<Far>);

#[derive(Default)]
struct Far {
    /// What is being done, and in what it is counted.
    what: Mutex<(String, String)>,
    done: AtomicU64,
    of: AtomicU64,
    /// Events of simulated worlds, and their virtual microseconds.
    events: AtomicU64,
    virtual_us: AtomicU64,
}

impl Progress {
    /// Work on `what`, counted in `units`.
    pub fn new(what: &str, units: &str) -> Self {
        let progress = Self::default();
        progress.turn_to(what, units);
        progress
    }

    /// Other work begins.
    pub fn turn_to(&self, what: &str, units: &str) {
        let mut now = self.0.what.lock().unwrap_or_else(PoisonError::into_inner);
        *now = (what.to_owned(), units.to_owned());
        self.at(0, 0);
    }

    /// So many units of so many are done; of 0 the number is not known.
    pub fn at(&self, done: u64, of: u64) {
        self.0.done.store(done, Ordering::Relaxed);
        self.0.of.store(of, Ordering::Relaxed);
    }

    /// How far one simulated world is.
    pub fn world(&self, events: u64, virtual_us: u64) {
        self.0.events.store(events, Ordering::Relaxed);
        self.0.virtual_us.store(virtual_us, Ordering::Relaxed);
    }

    /// As a line for people, after so much time.
    fn line(&self, spent: Duration) -> String {
        let load = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let (done, of) = (load(&self.0.done), load(&self.0.of));
        let (events, virtual_us) = (load(&self.0.events), load(&self.0.virtual_us));
        let now = self.0.what.lock().unwrap_or_else(PoisonError::into_inner);
        let (what, units) = &*now;
        let mut out = what.clone();
        if of > 0 {
            out += &format!(": {done} of {of} {units}");
        }
        if events > 0 {
            let seconds = virtual_us as f64 / 1e6;
            out += &format!(", {events} events in {seconds:.0} virtual seconds");
        }
        out += &format!(", {} so far", span(spent));
        let left = of.saturating_sub(done);
        if done > 0 && left > 0 {
            let seconds = spent.as_secs_f64() / done as f64 * left as f64;
            out += &format!(", about {} left", span(Duration::from_secs_f64(seconds)));
        }
        out
    }
}

/// `45 s`, `3 min 20 s`, `2 h 5 min`.
fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Tells how far work is until it is dropped.
pub struct Watch {
    looking: Option<Sender<()>>,
    teller: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches this work from now on.
    pub fn over(progress: &Progress) -> Self {
        let (looking, ended) = mpsc::channel::<()>();
        let progress = progress.clone();
        let tell = move || {
            let is_live = std::io::stderr().is_terminal();
            match is_live {
                true => {
                    tell(&progress, &ended, Duration::ZERO, LOOK_EVERY, over);
                    over("");
                }
                false => tell(&progress, &ended, QUIET, LOOK_EVERY, |line| note(line)),
            }
        };
        // Without a thread to tell it the work is done all the same.
        let teller = std::thread::Builder::new().spawn(tell).ok();
        Self {
            looking: Some(looking),
            teller,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.looking.take());
        if let Some(teller) = self.teller.take() {
            let _ = teller.join();
        }
    }
}

/// Says a line whenever it was quiet for so long, until the work has ended.
fn tell(
    progress: &Progress,
    ended: &Receiver<()>,
    quiet: Duration,
    look_every: Duration,
    mut say: impl FnMut(&str),
) {
    let started = Instant::now();
    let mut said = started;
    while ended.recv_timeout(look_every) == Err(RecvTimeoutError::Timeout) {
        let now = Instant::now();
        if now - said >= quiet {
            said = now;
            say(&progress.line(now - started));
        }
    }
}

/// Writes over the line of a terminal.
fn over(line: &str) {
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "\r\x1b[K{line}");
    let _ = stderr.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_how_far_how_long_and_how_much_is_left() {
        let progress = Progress::new("smoke, seed 1", "rounds");
        let line = |seconds| progress.line(Duration::from_secs(seconds));
        assert_eq!(line(30), "smoke, seed 1, 30 s so far");
        progress.at(0, 5);
        progress.world(12_000, 3_400_000);
        assert_eq!(
            line(60),
            "smoke, seed 1: 0 of 5 rounds, 12000 events in 3 virtual seconds, 1 min 0 s so far"
        );
        progress.at(2, 5);
        assert!(line(100).ends_with("1 min 40 s so far, about 2 min 30 s left"));
        progress.at(5, 5);
        assert!(line(7_500).ends_with("2 h 5 min so far"));
        progress.turn_to("cutting a failing seed down", "");
        assert!(line(1).starts_with("cutting a failing seed down, "));
    }

    #[test]
    fn long_work_is_told_again_and_again_until_it_ends() {
        let progress = Progress::new("a study", "cells");
        let (looking, ended) = mpsc::channel::<()>();
        let mut looking = Some(looking);
        let mut lines = Vec::new();
        let each = Duration::from_millis(2);
        tell(&progress, &ended, 2 * each, each, |line| {
            lines.push(line.to_owned());
            progress.at(lines.len() as u64, 3);
            if lines.len() == 3 {
                looking.take();
            }
        });
        assert_eq!(lines[0], "a study, 0 s so far");
        assert!(lines[2].starts_with("a study: 2 of 3 cells, 0 s so far"));
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_watched_world_says_how_far_it_is_and_goes_the_same_way() {
        let scenario = crate::scenario::load("smoke").unwrap();
        let progress = Progress::new("smoke", "heights");
        let watched = crate::World::new(&scenario, 1, None).watched(&progress);
        let digest = watched.run().digest;
        let line = progress.line(Duration::from_secs(31));
        // The genesis, four rounds and the closing height.
        assert!(line.starts_with("smoke: 6 of 6 heights, "), "{line}");
        assert!(line.contains(" virtual seconds, 31 s so far"), "{line}");
        assert_eq!(crate::World::new(&scenario, 1, None).run().digest, digest);
    }
}
