//! A training as a person sees it: a bar on a terminal, lines elsewhere, and never a long silence.
//!
//! Loading a model, reading data and measuring a loss may each take many minutes: [`Working`] speaks then.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tributary_trainer::FinetuneEvent;

use crate::terminal::note;
use crate::terminal::working::Working;

/// How often a line of a step is written where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows events as they come.
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    live: bool,
    last: Option<Instant>,
    working: Working,
}

impl Shown {
    /// Begins with `what`; `live` where a bar can be drawn.
    pub(super) fn new(live: bool, what: String) -> Self {
        Self {
            bar: None,
            live,
            last: None,
            working: Working::new(what),
        }
    }

    pub(super) fn show(&mut self, event: &FinetuneEvent) {
        let step = match event {
            FinetuneEvent::Working { what, done, of } => {
                self.working.at(what, (*done, *of));
                return;
            }
            FinetuneEvent::Step(step) => step,
            event => {
                match &self.bar {
                    Some(bar) => bar.suspend(|| note(event)),
                    None => note(event),
                }
                self.working.said();
                return;
            }
        };
        let far = (u64::from(step.step), u64::from(step.steps));
        self.working.at("training", far);
        if self.live {
            let bar = self.bar.get_or_insert_with(|| {
                let style = ProgressStyle::with_template("{bar:30} {msg}");
                ProgressBar::new(far.1)
                    .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            });
            bar.set_position(far.0);
            bar.set_message(step.to_string());
            self.working.said();
            return;
        }
        let due = self.last.is_none_or(|last| last.elapsed() >= LINE_EVERY);
        if due || step.step == step.steps {
            note(step);
            self.last = Some(Instant::now());
            self.working.said();
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
