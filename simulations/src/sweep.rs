//! Every combination of a grid, several seeds each, on all cores; one row per combination.

pub mod page;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use crate::report::Run;
use crate::report::median;
use crate::report::metrics::METRICS;
use crate::scenario::grid::{Grid, Setting, with};
use crate::scenario::{Scenario, ScenarioError};
use crate::world::World;

/// One combination and what its seeds showed.
#[derive(Clone, Debug)]
pub struct Cell {
    /// What distinguishes it.
    pub settings: Vec<Setting>,
    /// The scenario with these settings.
    pub scenario: Scenario,
    /// One entry per seed that has been run, lowest seed first.
    pub seeds: Vec<Measured>,
}

/// One seed of one cell.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The seed.
    pub seed: u64,
    /// Names the run to the last byte.
    pub digest: String,
    /// Its metrics.
    pub metrics: BTreeMap<&'static str, f64>,
    /// Broken promises, each naming participant, round and cause.
    pub broken: Vec<String>,
}

/// A metric over the seeds of a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The middle.
    pub median: f64,
    /// The least.
    pub low: f64,
    /// The greatest.
    pub high: f64,
}

impl Cell {
    /// `link.loss=0.1, run.aggregation=mean`; the scenario's name when nothing distinguishes it.
    pub fn label(&self) -> String {
        let settings: Vec<String> = self.settings.iter().map(Setting::to_string).collect();
        match settings.is_empty() {
            true => self.scenario.name.clone(),
            false => settings.join(", "),
        }
    }

    /// A metric over the seeds; `None` when no seed has it.
    pub fn summary(&self, metric: &str) -> Option<Summary> {
        let values = self
            .seeds
            .iter()
            .filter_map(|seed| seed.metrics.get(metric));
        let mut values: Vec<f64> = values.copied().collect();
        values.sort_by(f64::total_cmp);
        Some(Summary {
            median: median(&values)?,
            low: *values.first()?,
            high: *values.last()?,
        })
    }
}

/// Runs of one sweep: a month at three seconds each.
const MAX_RUNS: u64 = 1_000_000;

/// Refuses a sweep of more runs than anybody waits for, before anything is allocated for them.
///
/// # Errors
/// Says how many runs it would be.
pub fn check_runs(grid: &Grid, seeds: u64) -> Result<(), String> {
    let lengths = grid.axes.iter().map(|axis| axis.values.len() as u64);
    let runs = lengths.fold(seeds, u64::saturating_mul);
    match runs > MAX_RUNS {
        true => Err(format!(
            "the sweep would be {runs} runs, more than the {MAX_RUNS} of one sweep; vary fewer keys or give \
             fewer --seeds"
        )),
        false => Ok(()),
    }
}

/// The cells of a grid, none of them run yet. `path` only names the scenario in errors.
///
/// # Errors
/// [`ScenarioError`] for the first cell that cannot be run: nothing is run then.
pub fn cells(path: &str, scenario: &Scenario, grid: &Grid) -> Result<Vec<Cell>, ScenarioError> {
    let cell = |settings: Vec<Setting>| {
        Ok(Cell {
            scenario: with(path, scenario, &settings)?,
            settings,
            seeds: Vec::new(),
        })
    };
    grid.cells().into_iter().map(cell).collect()
}

/// Runs `seeds` seeds from `from` in every cell, on `threads` threads. `progress` hears how many of how
/// many runs are done.
pub fn run(
    cells: &mut [Cell],
    from: u64,
    seeds: u64,
    threads: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
) {
    let jobs: Vec<(usize, u64)> = (0..cells.len())
        .flat_map(|cell| (from..from + seeds).map(move |seed| (cell, seed)))
        .collect();
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Measured)>> = Mutex::new(Vec::new());
    let shared: &[Cell] = cells;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((cell, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let measured = measure(&shared[*cell].scenario, *seed);
                    let mut done = done.lock().expect("no thread panics while it counts");
                    done.push((*cell, measured));
                    progress(done.len(), jobs.len());
                }
            });
        }
    });
    let done = done.into_inner().expect("no thread panics while it counts");
    for (cell, measured) in done {
        cells[cell].seeds.push(measured);
    }
    for cell in cells {
        cell.seeds.sort_by_key(|measured| measured.seed);
    }
}

fn measure(scenario: &Scenario, seed: u64) -> Measured {
    let started = Instant::now();
    let outcome = World::new(scenario, seed, None).recorded().run();
    let drawn = scenario.drawn(seed);
    let wall_s = started.elapsed().as_secs_f64();
    let run = Run::of(&drawn, &outcome, wall_s).expect("the run was recorded");
    Measured {
        seed,
        digest: outcome.digest.to_string(),
        broken: run.all_broken(),
        metrics: run.metrics,
    }
}

/// The table: a heading, then a row per cell. Settings first, then median, least and greatest of each
/// metric.
pub fn table(cells: &[Cell]) -> Vec<Vec<String>> {
    let axes = cells.first().map_or(&[][..], |cell| &cell.settings);
    let mut heading: Vec<String> = axes.iter().map(|s| s.key.clone()).collect();
    heading.push("seeds".into());
    for metric in &METRICS {
        for part in ["median", "low", "high"] {
            heading.push(format!("{}_{part}", metric.name));
        }
    }
    let mut out = vec![heading];
    for cell in cells {
        let mut row: Vec<String> = cell.settings.iter().map(Setting::shown).collect();
        row.push(cell.seeds.len().to_string());
        for metric in &METRICS {
            let summary = cell.summary(metric.name);
            for part in [
                summary.map(|s| s.median),
                summary.map(|s| s.low),
                summary.map(|s| s.high),
            ] {
                row.push(part.map_or(String::new(), |value| value.to_string()));
            }
        }
        out.push(row);
    }
    out
}

/// Everything, seed by seed.
pub fn json(scenario: &Scenario, cells: &[Cell]) -> Value {
    let summaries = |cell: &Cell| -> Value {
        let of = |metric: &crate::report::metrics::Metric| {
            let s = cell.summary(metric.name)?;
            let summary = json!({"median": s.median, "low": s.low, "high": s.high});
            Some((metric.name.to_owned(), summary))
        };
        Value::Object(METRICS.iter().filter_map(of).collect())
    };
    let seeds = |cell: &Cell| -> Vec<Value> {
        let seed = |m: &Measured| json!({"seed": m.seed, "digest": m.digest, "metrics": m.metrics, "violations": m.broken});
        cell.seeds.iter().map(seed).collect()
    };
    let cell = |cell: &Cell| {
        let settings: serde_json::Map<String, Value> = (cell.settings.iter())
            .map(|s| {
                (
                    s.key.clone(),
                    serde_json::to_value(&s.value).unwrap_or_default(),
                )
            })
            .collect();
        json!({"settings": settings, "summary": summaries(cell), "seeds": seeds(cell)})
    };
    json!({
        "schema": "sim-sweep/1",
        "scenario": scenario.name,
        "describe": scenario.describe(),
        "cells": cells.iter().map(cell).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Scenario {
        let mut scenario = crate::scenario::load("smoke").unwrap();
        (scenario.peers, scenario.evaluators, scenario.rounds) = (7, 2, 2);
        (scenario.run.min_members, scenario.run.min_contributions) = (4, 2);
        scenario.calm.after_round = 1;
        (scenario.joins, scenario.leaves) = (Vec::new(), Vec::new());
        scenario.partitions.clear();
        scenario
    }

    #[test]
    fn a_sweep_gives_what_single_runs_give_whatever_the_number_of_threads() {
        let scenario = tiny();
        let set = ["link.loss=0,0.2".to_owned()];
        let grid = Grid::of(&scenario, &set).unwrap();
        let mut one = cells("tiny", &scenario, &grid).unwrap();
        let mut three = one.clone();
        run(&mut one, 5, 2, 1, &|_, _| {});
        run(&mut three, 5, 2, 3, &|_, _| {});
        assert_eq!(table(&one), table(&three));
        let alone = World::new(&one[1].scenario, 6, None).run();
        assert_eq!(one[1].seeds[1].digest, alone.digest.to_string());
        assert_eq!(table(&one).len(), 3);
    }

    #[test]
    fn a_summary_is_the_middle_and_the_ends() {
        let measured = |seed, loss| Measured {
            seed,
            digest: String::new(),
            metrics: BTreeMap::from([("final_loss", loss)]),
            broken: Vec::new(),
        };
        let cell = Cell {
            settings: Vec::new(),
            scenario: tiny(),
            seeds: vec![measured(1, 3.0), measured(2, 1.0), measured(3, 2.0)],
        };
        let expected = Summary {
            median: 2.0,
            low: 1.0,
            high: 3.0,
        };
        assert_eq!(cell.summary("final_loss"), Some(expected));
        assert_eq!(cell.summary("crashes"), None);
    }
}
