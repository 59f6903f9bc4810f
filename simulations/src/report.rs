//! From a recorded run to an output folder: tables, figures, one page that holds everything.
//!
//! ```text
//!   World::recorded ──► Outcome + History
//!                            │
//!        lanes, stall: who did what when, and why a contribution is missing
//!                            │
//!                rows: the tables ──► metrics: one number each, for compare and sweeps
//!                   │        │
//!       events.jsonl, *.csv, │ result.json        figures: SVG ──► page: report.html
//! ```
//!
//! Everything is a function of the scenario, the seed and the wall time: nothing is measured here. Modules: `lanes`,
//! `stall`, [`rows`], [`metrics`], [`pay`], [`figures`], [`page`], [`folder`].

pub mod figures;
pub mod folder;
mod lanes;
pub mod metrics;
pub mod page;
pub mod pay;
pub mod rows;
mod stall;

use std::collections::BTreeMap;

use crate::record::{History, What};
use crate::scenario::Scenario;
use crate::world::Outcome;
use rows::Tables;

/// A recorded run, read.
pub struct Run<'a> {
    /// What was run, as drawn by the seed.
    pub scenario: &'a Scenario,
    /// How it ended.
    pub outcome: &'a Outcome,
    /// What happened.
    pub history: &'a History,
    /// The tables.
    pub tables: Tables,
    /// One number each.
    pub metrics: BTreeMap<&'static str, f64>,
    /// Real time that it took, in seconds.
    pub wall_s: f64,
}

impl<'a> Run<'a> {
    /// Reads a run; `None` when it was not recorded.
    pub fn of(scenario: &'a Scenario, outcome: &'a Outcome, wall_s: f64) -> Option<Self> {
        let history = outcome.history.as_deref()?;
        let tables = Tables::of(history, outcome, scenario.rounds);
        Some(Self {
            scenario,
            outcome,
            history,
            metrics: metrics::of(&tables, outcome, scenario.rounds),
            tables,
            wall_s,
        })
    }

    /// All broken promises, each naming participant, round and cause first.
    pub fn all_broken(&self) -> Vec<String> {
        let violations = self.outcome.violations.iter();
        violations.map(ToString::to_string).collect()
    }

    /// What the scenario asks for and what never came: a fault that silently did not happen would be
    /// mistaken for one that was withstood.
    pub fn missed(&self) -> Option<String> {
        let began = self.count(|what| matches!(what, What::Split { .. }));
        let asked = self.scenario.partitions.len();
        let never = asked.saturating_sub(began);
        (never > 0).then(|| {
            format!(
                "{never} of {asked} splits never began: faults had stopped before (`calm`); let them \
                 begin earlier"
            )
        })
    }

    fn count(&self, is: impl Fn(&What) -> bool) -> usize {
        self.history.moments.iter().filter(|m| is(&m.what)).count()
    }
}

/// The middle of ordered numbers, the mean of the two middle ones when their count is even.
pub fn median(ordered: &[f64]) -> Option<f64> {
    let (last, middle) = (ordered.len().checked_sub(1)?, ordered.len() / 2);
    Some((ordered[last / 2] + ordered[middle]) / 2.0)
}

/// The first `count` names, and how many more there are.
fn few(names: &[&str], count: usize) -> String {
    let shown = names[..names.len().min(count)].join(", ");
    match names.len().saturating_sub(count) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// `1 crash`, `2 crashes`.
fn counted(count: usize, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {many}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0]), Some(1.0));
        assert_eq!(median(&[1.0, 2.0]), Some(1.5));
        assert_eq!(median(&[1.0, 2.0, 9.0]), Some(2.0));
    }

    #[test]
    fn long_lists_are_cut_and_say_so() {
        assert_eq!(few(&["a", "b", "c"], 2), "a, b and 1 more");
        assert_eq!(few(&["a", "b"], 2), "a, b");
    }
}
