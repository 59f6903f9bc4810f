//! A training as a person sees it: a bar on a terminal, lines elsewhere, and never a long silence.
//!
//! Loading a model, reading data and measuring a loss may each take many minutes. Whatever it is, a line comes at least
//! every [`QUIET`]: what is being done, how far, for how long, and how much is left where that is known.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use tributary_trainer::{FinetuneEvent, Span};

use crate::terminal::note;

/// How often a line of a step is written where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Longest time without a line.
const QUIET: Duration = Duration::from_secs(30);
/// How often somebody looks whether it was quiet for long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is being done now.
struct Now {
    what: String,
    done: u64,
    of: u64,
    since: Instant,
    said: Instant,
}

impl Now {
    fn new(what: String, at: Instant) -> Self {
        Self {
            what,
            done: 0,
            of: 0,
            since: at,
            said: at,
        }
    }

    /// Notes progress; another thing to do begins anew.
    fn at(&mut self, what: &str, (done, of): (u64, u64), at: Instant) {
        if self.what != what {
            let said = self.said;
            *self = Self::new(what.to_owned(), at);
            self.said = said;
        }
        (self.done, self.of) = (done, of);
    }

    /// The line to write, if it was quiet for long.
    fn due(&mut self, at: Instant) -> Option<String> {
        if at.saturating_duration_since(self.said) < QUIET {
            return None;
        }
        self.said = at;
        let spent = at.saturating_duration_since(self.since).as_secs_f64() * 1e3;
        let far = match self.of {
            0 => String::new(),
            of => format!(": {:.0} % done", self.done as f64 / of as f64 * 100.0),
        };
        let left = match self.done.min(self.of) {
            0 => String::new(),
            done => {
                let left = spent / done as f64 * (self.of - done) as f64;
                format!(", about {} left", Span(left))
            }
        };
        Some(format!("{}{far}, {} so far{left}", self.what, Span(spent)))
    }
}

/// Shows events as they come.
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    live: bool,
    last: Option<Instant>,
    now: Arc<Mutex<Now>>,
    /// Dropped, it ends the thread that looks.
    _looking: Sender<()>,
}

impl Shown {
    /// Begins with `what`; `live` where a bar can be drawn.
    pub(super) fn new(live: bool, what: String) -> Self {
        let now = Arc::new(Mutex::new(Now::new(what, Instant::now())));
        let (looking, ended) = mpsc::channel::<()>();
        let seen = now.clone();
        std::thread::spawn(move || {
            while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                if let Some(line) = seen.lock().due(Instant::now()) {
                    note(line);
                }
            }
        });
        Self {
            bar: None,
            live,
            last: None,
            now,
            _looking: looking,
        }
    }

    pub(super) fn show(&mut self, event: &FinetuneEvent) {
        let step = match event {
            FinetuneEvent::Working { what, done, of } => {
                self.now.lock().at(what, (*done, *of), Instant::now());
                return;
            }
            FinetuneEvent::Step(step) => step,
            event => {
                match &self.bar {
                    Some(bar) => bar.suspend(|| note(event)),
                    None => note(event),
                }
                self.now.lock().said = Instant::now();
                return;
            }
        };
        let far = (u64::from(step.step), u64::from(step.steps));
        self.now.lock().at("training", far, Instant::now());
        if self.live {
            let bar = self.bar.get_or_insert_with(|| {
                let style = ProgressStyle::with_template("{bar:30} {msg}");
                ProgressBar::new(far.1)
                    .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            });
            bar.set_position(far.0);
            bar.set_message(step.to_string());
            self.now.lock().said = Instant::now();
            return;
        }
        let due = self.last.is_none_or(|last| last.elapsed() >= LINE_EVERY);
        if due || step.step == step.steps {
            note(step);
            self.last = Some(Instant::now());
            self.now.lock().said = Instant::now();
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_work_is_told_every_half_minute_with_how_far_and_how_long() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut now = Now::new("loading".into(), start);
        assert_eq!(now.due(after(29)), None);
        let line = now.due(after(30)).unwrap();
        assert_eq!(line, "loading, 30 s so far");
        now.at("reading a.txt", (0, 0), after(40));
        now.at("reading a.txt", (25, 100), after(50));
        assert_eq!(now.due(after(59)), None);
        let line = now.due(after(70)).unwrap();
        assert_eq!(
            line,
            "reading a.txt: 25 % done, 30 s so far, about 1 min 30 s left"
        );
        now.at("training", (1, 4), after(71));
        assert_eq!(
            now.due(after(99)),
            None,
            "a new thing to do is no line of its own"
        );
        assert!(
            now.due(after(100))
                .unwrap()
                .starts_with("training: 25 % done, 29 s so far")
        );
    }
}
