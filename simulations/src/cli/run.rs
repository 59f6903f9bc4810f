//! `run`: one seed, its figures, and on request a folder with everything about it.

use std::path::PathBuf;
use std::time::Instant;

use super::{Answer, Format, Program};
use crate::report::{Run, folder};
use crate::scenario::{self, Scenario};
use crate::watch::{Progress, Watch, note};
use crate::world::{Outcome, World};

#[derive(clap::Args)]
pub struct Arguments {
    /// A scenario file, or the name of a built-in scenario (see `list`).
    file: String,
    /// Instead of the scenario's own seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Change one key of the scenario, as often as wanted: `--set link.loss=0.2`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Write tables, figures and a report into this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How to print the figures.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What `run --format json` prints.
#[derive(serde::Serialize)]
struct Figures<'a> {
    schema: &'static str,
    seed: u64,
    digest: String,
    rounds_certified: u32,
    violations: Vec<String>,
    events: u64,
    virtual_s: f64,
    wall_s: f64,
    metrics: &'a std::collections::BTreeMap<&'static str, f64>,
}

pub(super) fn execute(program: &Program, arguments: &Arguments) -> Answer {
    let scenario = scenario::load_with(&program.catalogue, &arguments.file, &arguments.set)?;
    let seed = arguments.seed.unwrap_or(scenario.seed);
    let (outcome, wall_s) = record(&scenario, seed);
    let drawn = scenario.drawn(seed);
    let run = Run::of(&drawn, &outcome, wall_s).expect("the run was recorded");
    if let Some(path) = &arguments.out {
        folder::write(&run, &scenario, &command(program, arguments, seed), path)?;
        let page = path.join(folder::PAGE);
        note(format_args!("{} has everything", page.display()));
    }
    match arguments.format {
        Format::Json => say!("{}", serde_json::to_string(&figures(&run))?),
        Format::Text => {
            print(&run);
            if arguments.out.is_none() {
                note("(--out DIR writes tables, figures and a report)");
            }
        }
    }
    Ok(outcome.violations.is_empty())
}

/// Runs a seed and keeps its history. Returns the real time it took, in seconds.
pub(super) fn record(scenario: &Scenario, seed: u64) -> (Outcome, f64) {
    let started = Instant::now();
    let progress = Progress::new(&format!("{}, seed {seed}", scenario.name), "heights");
    let watch = Watch::over(&progress);
    let world = World::new(scenario, seed, None).watched(&progress);
    let outcome = world.recorded().run();
    drop(watch);
    (outcome, started.elapsed().as_secs_f64())
}

fn command(program: &Program, arguments: &Arguments, seed: u64) -> String {
    let set: String = (arguments.set.iter())
        .map(|set| format!(" --set '{set}'"))
        .collect();
    format!(
        "{} run {} --seed {seed}{set} --out DIR",
        program.name, arguments.file
    )
}

fn figures<'a>(run: &'a Run<'_>) -> Figures<'a> {
    let outcome = run.outcome;
    Figures {
        schema: "sim/1",
        seed: outcome.seed,
        digest: outcome.digest.to_string(),
        rounds_certified: outcome.rounds_certified,
        violations: run.all_broken(),
        events: outcome.events,
        virtual_s: outcome.virtual_us as f64 / 1e6,
        wall_s: run.wall_s,
        metrics: &run.metrics,
    }
}

/// For people.
pub(super) fn print(run: &Run<'_>) {
    let outcome = run.outcome;
    say!("{}", run.scenario.describe());
    say!("seed {}, digest {}", outcome.seed, outcome.digest);
    say!(
        "{} of {} rounds certified on every honest peer, {} crashes, {} events in {:.1} virtual \
         seconds, {:.2} s",
        outcome.rounds_certified,
        run.scenario.rounds,
        outcome.crashes,
        outcome.events,
        outcome.virtual_us as f64 / 1e6,
        run.wall_s,
    );
    if let Some((before, after)) = outcome.loss {
        say!("common loss {before:.4} before, {after:.4} after");
    }
    if let Some(missed) = run.missed() {
        say!("{missed}");
    }
    match outcome.violations.is_empty() {
        true => say!("every promise was kept"),
        false => (run.all_broken().iter()).for_each(|line| say!("BROKEN {line}")),
    }
}
