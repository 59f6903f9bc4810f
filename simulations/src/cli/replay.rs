//! `replay`: one seed, event by event.

use std::time::Instant;

use super::{Answer, run};
use crate::record::Sink;
use crate::scenario;
use crate::world::World;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A scenario file, or the name of a built-in scenario.
    file: String,
    /// The seed.
    #[arg(long)]
    seed: u64,
    /// Every notice of every peer, not only crashes, splits and certified rounds.
    #[arg(long)]
    verbose: bool,
}

pub(super) fn execute(arguments: &Arguments) -> Answer {
    let scenario = scenario::load(&arguments.file)?;
    let verbose = arguments.verbose;
    let sink: Sink = Box::new(move |line| {
        if verbose || line.contains("world") || line.contains("crash") || line.contains("restart") {
            println!("{line}");
        }
    });
    let started = Instant::now();
    let outcome = World::new(&scenario, arguments.seed, Some(sink)).run();
    run::print_outcome(&scenario, &outcome, started.elapsed().as_secs_f64());
    Ok(outcome.violations.is_empty())
}
