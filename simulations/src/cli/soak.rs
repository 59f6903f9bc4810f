//! `soak`: many seeds on all cores, the first that breaks a promise named for `replay`, and cut down to
//! the smallest scenario that still breaks it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Answer, Program};
use crate::scenario::{self, Scenario};
use crate::soak::{Soak, earlier_figures, insert_figures, shrink, soak};
use crate::watch::{Progress, Watch};
use crate::{files, markdown};

#[derive(clap::Args)]
pub struct Arguments {
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

pub(super) fn execute(program: &Program, arguments: &Arguments) -> Answer {
    let scenario = scenario::load_from(&program.catalogue, &arguments.file)?;
    let (from, seeds) = (arguments.from, arguments.seeds);
    super::check_seeds(from, seeds)?;
    let threads = super::threads(arguments.threads)?;
    scenario.check_room(threads)?;
    if let Some(path) = &arguments.write {
        // Hours of work should not end in a page that cannot be written.
        markdown::check(path)?;
    }
    let limit = (arguments.minutes).map(|minutes| Duration::from_secs(minutes.saturating_mul(60)));
    let progress = Progress::new(&format!("soak of {}", scenario.name), "seeds");
    let watch = Watch::over(&progress);
    let tell = |done: u64, failed: usize| {
        if failed > 0 {
            progress.turn_to(
                &format!("soak of {}, {failed} with a violation", scenario.name),
                "seeds",
            );
        }
        progress.at(done, seeds);
    };
    let total = soak(&scenario, from, seeds, threads, limit, &tell);
    let shrunk = total.failed.first().map(|first| {
        progress.turn_to("cutting the first failing seed down", "");
        shrink(&scenario, first, SHRINK_FOR)
    });
    drop(watch);
    print(program, &arguments.file, &total);
    if let Some(shrunk) = shrunk {
        say!("{}", shrunk.text());
    }
    if let Some(path) = &arguments.write {
        write(program, &arguments.file, path, &scenario, &total)?;
    }
    Ok(total.failed.is_empty())
}

fn print(program: &Program, file: &str, total: &Soak) {
    for outcome in total.failed.iter().take(10) {
        (outcome.violations.iter()).for_each(|v| say!("BROKEN {v}"));
    }
    if let Some(first) = total.failed.first() {
        let seed = first.seed;
        let name = program.name;
        say!("first failing seed {seed}: {name} replay {file} --seed {seed} --verbose");
    }
    say!(
        "{} seeds, {} with a violation, {:.2} seeds/s, {:.1} virtual hours",
        total.seeds,
        total.failed.len(),
        total.seeds_per_s(),
        total.virtual_s / 3600.0,
    );
}

fn write(
    program: &Program,
    file: &str,
    path: &Path,
    scenario: &Scenario,
    total: &Soak,
) -> Result<(), String> {
    let (at, name) = (path.display(), program.name);
    let failed =
        |why: std::io::Error| format!("cannot write {at}: {why}; give another place to --write");
    let text = files::read_page(path).map_err(failed)?;
    let total = match earlier_figures(&text, &scenario.name) {
        Some(earlier) => total.clone().after(&earlier),
        None => total.clone(),
    };
    let (seeds, from) = (total.seeds, total.from);
    let command = format!("{name} soak {file} --seeds {seeds} --from {from} --write {at}");
    let figures = total.markdown(scenario, &command);
    let text = insert_figures(&text, &scenario.name, &figures);
    std::fs::write(path, text).map_err(failed)
}
