//! `soak`: many seeds on all cores, the first that breaks a promise named for `replay`, and cut down to
//! the smallest scenario that still breaks it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Answer;
use crate::catalogue::Catalogue;
use crate::scenario::{self, Scenario};
use crate::soak::{Soak, earlier_figures, insert_figures, shrink, soak};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A scenario file, or the name of a built-in scenario.
    file: String,
    /// The number of seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Threads; all cores by default.
    #[arg(long)]
    threads: Option<usize>,
    /// Start no further seed after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// Put the figures into this Markdown file, between its soak marks; those of the seeds right before are
    /// added up.
    #[arg(long)]
    write: Option<PathBuf>,
}

/// How long a failing seed is cut down at most.
const SHRINK_FOR: Duration = Duration::from_secs(120);

pub(super) fn execute(catalogue: &Arc<Catalogue>, arguments: &Arguments) -> Answer {
    let scenario = scenario::load_from(catalogue, &arguments.file)?;
    let seeds = arguments.seeds;
    let threads = arguments.threads.unwrap_or_else(super::cores).max(1);
    let limit = (arguments.minutes).map(|minutes| Duration::from_secs(60 * minutes));
    let progress = |done: u64, failed: usize| {
        if done.is_multiple_of(10) || done == seeds {
            super::progress(&format!(
                "{done} of {seeds} seeds, {failed} with a violation"
            ));
        }
    };
    let total = soak(&scenario, arguments.from, seeds, threads, limit, &progress);
    super::progress_over();
    print(&arguments.file, &total);
    if let Some(first) = total.failed.first() {
        let shrunk = shrink(&scenario, first, SHRINK_FOR);
        say!("{}", shrunk.text());
    }
    if let Some(path) = &arguments.write {
        write(path, &arguments.file, &scenario, &total)?;
    }
    Ok(total.failed.is_empty())
}

fn print(file: &str, total: &Soak) {
    for outcome in total.failed.iter().take(10) {
        (outcome.violations.iter()).for_each(|v| say!("BROKEN {v}"));
    }
    if let Some(first) = total.failed.first() {
        let seed = first.seed;
        say!("first failing seed {seed}: tributary-sim replay {file} --seed {seed} --verbose");
    }
    say!(
        "{} seeds, {} with a violation, {:.2} seeds/s, {:.1} virtual hours",
        total.seeds,
        total.failed.len(),
        total.seeds_per_s(),
        total.virtual_s / 3600.0,
    );
}

fn write(path: &Path, file: &str, scenario: &Scenario, total: &Soak) -> Result<(), String> {
    let at = path.display();
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let total = match earlier_figures(&text, &scenario.name) {
        Some(earlier) => total.clone().after(&earlier),
        None => total.clone(),
    };
    let (seeds, from) = (total.seeds, total.from);
    let command = format!("tributary-sim soak {file} --seeds {seeds} --from {from} --write {at}");
    let figures = total.markdown(scenario, &command);
    let text = insert_figures(&text, &scenario.name, &figures);
    std::fs::write(path, text)
        .map_err(|why| format!("cannot write {at}: {why}; give another place to --write"))
}
