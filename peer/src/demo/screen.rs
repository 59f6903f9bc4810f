//! The live part of the demo's output, all on stderr: bars on a terminal; elsewhere a line a round, and one every half
//! minute with what is waited for.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::narrator::Show;
use crate::terminal::note;
use crate::terminal::working::Working;

/// Steps of the overall bar; fine enough that it moves every second.
const TICKS: u64 = 1000;

/// The live part of the demo's output.
#[derive(Debug)]
pub struct Screen {
    bars: Option<Bars>,
    /// Where there are no bars.
    working: Option<Working>,
}

#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    waiting: ProgressBar,
    whole: ProgressBar,
}

impl Screen {
    /// Bars when stderr is a terminal.
    pub fn open() -> Self {
        let bars = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::new();
            let waiting = all.add(ProgressBar::new_spinner());
            waiting.set_style(style("{spinner} {wide_msg}"));
            let whole = all.add(ProgressBar::new(TICKS));
            whole.set_style(style(
                "  [{bar:40}] {percent:>3} %  {elapsed} elapsed, about {eta} to go",
            ));
            waiting.enable_steady_tick(Duration::from_millis(120));
            whole.enable_steady_tick(Duration::from_millis(500));
            Bars {
                all,
                waiting,
                whole,
            }
        });
        let working = bars.is_none().then(|| Working::new("starting"));
        Self { bars, working }
    }

    /// Shows what the story says.
    pub fn show(&self, show: &Show) {
        match (show, &self.bars) {
            (Show::Line(line), _) => self.line(line),
            (Show::Waiting(text), Some(bars)) => bars.waiting.set_message(text.clone()),
            (Show::Done(part), Some(bars)) => bars.whole.set_position((part * TICKS as f64) as u64),
            (Show::Waiting(text), None) => self.works_at(text),
            (Show::Done(_), None) => {}
        }
    }

    /// A line that stays.
    pub fn line(&self, line: &str) {
        match &self.bars {
            // A terminal that is gone takes no more lines; the demo goes on.
            Some(bars) => drop(bars.all.println(line)),
            None => {
                note(line);
                self.working.iter().for_each(Working::said);
            }
        }
    }

    fn works_at(&self, what: &str) {
        let working = self.working.iter();
        working.for_each(|working| working.at(what, (0, 0)));
    }

    /// What is waited for now: a line where there are no bars.
    pub fn waiting(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.waiting.set_message(text.to_owned()),
            None => {
                note(text);
                self.works_at(text);
            }
        }
    }

    /// Takes the bars away.
    pub fn close(&self) {
        if let Some(bars) = &self.bars {
            bars.waiting.finish_and_clear();
            bars.whole.finish_and_clear();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.close();
    }
}

fn style(template: &str) -> ProgressStyle {
    (ProgressStyle::with_template(template))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_understood() {
        for template in [
            "{spinner} {wide_msg}",
            "  [{bar:40}] {percent:>3} %  {elapsed} elapsed, about {eta} to go",
        ] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
