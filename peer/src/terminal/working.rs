//! Long work is never silent: a line comes at least every [`QUIET`], with what is being done, how far, for how long, and
//! how much is left where that is known.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tributary_trainer::Span;

use super::note;

/// Longest time without a line.
const QUIET: Duration = Duration::from_secs(30);
/// How often somebody looks whether it was quiet for long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Work that takes long. Lines stop when it is dropped.
#[derive(Debug)]
pub struct Working {
    now: Arc<Mutex<Now>>,
    /// Dropped, it ends the thread that looks.
    _looking: Sender<()>,
}

impl Working {
    /// Begins with `what`.
    pub fn new(what: impl Into<String>) -> Self {
        let now = Arc::new(Mutex::new(Now::new(what.into(), Instant::now())));
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
            now,
            _looking: looking,
        }
    }

    /// Notes progress, as done of all (zero where that is not known); another thing to do begins anew.
    pub fn at(&self, what: &str, far: (u64, u64)) {
        self.now.lock().at(what, far, Instant::now());
    }

    /// Something was said just now.
    pub fn said(&self) {
        self.now.lock().said = Instant::now();
    }
}

/// What is being done now.
#[derive(Debug)]
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
