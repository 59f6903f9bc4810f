//! The live part of the demo's output, all on stderr: bars on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::narrator::Show;
use crate::terminal::note;

/// Steps of the overall bar; fine enough that it moves every second.
const TICKS: u64 = 1000;

/// The live part of the demo's output.
#[derive(Debug)]
pub struct Screen {
    bars: Option<Bars>,
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
        Self { bars }
    }

    /// Shows what the story says.
    pub fn show(&self, show: &Show) {
        match (show, &self.bars) {
            (Show::Line(line), _) => self.line(line),
            (Show::Waiting(text), Some(bars)) => bars.waiting.set_message(text.clone()),
            (Show::Done(part), Some(bars)) => bars.whole.set_position((part * TICKS as f64) as u64),
            (Show::Waiting(_) | Show::Done(_), None) => {}
        }
    }

    /// A line that stays.
    pub fn line(&self, line: &str) {
        match &self.bars {
            // A terminal that is gone takes no more lines; the demo goes on.
            Some(bars) => drop(bars.all.println(line)),
            None => note(line),
        }
    }

    /// What is waited for now: a line where there are no bars.
    pub fn waiting(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.waiting.set_message(text.to_owned()),
            None => note(text),
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
