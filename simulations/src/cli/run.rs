//! `run`: one seed and its figures.

use std::time::Instant;

use super::{Answer, Format};
use crate::oracle::Violation;
use crate::scenario::{self, Scenario};
use crate::world::{Outcome, World};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A scenario file, or the name of a built-in scenario (`smoke`).
    file: String,
    /// Instead of the scenario's own seed.
    #[arg(long)]
    seed: Option<u64>,
    /// How to print the figures.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What `run --format json` prints.
#[derive(serde::Serialize)]
struct Figures {
    schema: &'static str,
    seed: u64,
    digest: String,
    rounds_certified: u32,
    violations: Vec<String>,
    events: u64,
    virtual_s: f64,
    wall_s: f64,
}

pub(super) fn execute(arguments: &Arguments) -> Answer {
    let scenario = scenario::load(&arguments.file)?;
    let seed = arguments.seed.unwrap_or(scenario.seed);
    let started = Instant::now();
    let outcome = World::new(&scenario, seed, None).run();
    let wall_s = started.elapsed().as_secs_f64();
    match arguments.format {
        Format::Json => println!("{}", serde_json::to_string(&figures(&outcome, wall_s))?),
        Format::Text => print_outcome(&scenario, &outcome, wall_s),
    }
    Ok(outcome.violations.is_empty())
}

fn figures(outcome: &Outcome, wall_s: f64) -> Figures {
    Figures {
        schema: "sim/1",
        seed: outcome.seed,
        digest: outcome.digest.to_string(),
        rounds_certified: outcome.rounds_certified,
        violations: (outcome.violations.iter())
            .map(Violation::to_string)
            .collect(),
        events: outcome.events,
        virtual_s: outcome.virtual_us as f64 / 1e6,
        wall_s,
    }
}

/// For people.
pub(super) fn print_outcome(scenario: &Scenario, outcome: &Outcome, wall_s: f64) {
    println!("{}", scenario.describe());
    println!("seed {}, digest {}", outcome.seed, outcome.digest);
    println!(
        "{} of {} rounds certified on every peer, {} crashes, {} events in {:.1} virtual seconds, \
         {wall_s:.2} s",
        outcome.rounds_certified,
        scenario.rounds,
        outcome.crashes,
        outcome.events,
        outcome.virtual_us as f64 / 1e6,
    );
    if let Some((before, after)) = outcome.loss {
        println!("common loss {before:.4} before, {after:.4} after");
    }
    match outcome.violations.is_empty() {
        true => println!("every promise was kept"),
        false => (outcome.violations.iter()).for_each(|v| println!("BROKEN {v}")),
    }
}
