//! From a failing seed to the smallest scenario in which it still fails.
//!
//! A drawn scenario has thirty peers, five liars and every fault at once; most of them have nothing to do with what
//! broke. The search removes one after the other, and leaves it out if the same seed still breaks the same promise.
//! The history of a seed changes with every cut, so what is left need not be the *least* scenario, only one from which
//! nothing can be removed.

use std::time::{Duration, Instant};

use crate::scenario::Scenario;
use crate::world::{Outcome, World};

/// A failing scenario from which nothing can be taken away.
pub struct Shrunk {
    /// The scenario.
    pub scenario: Scenario,
    /// What it does with the seed.
    pub outcome: Outcome,
    /// Scenarios that were tried.
    pub tried: u32,
}

impl Shrunk {
    /// The scenario as TOML with how to replay it, for people.
    pub fn text(&self) -> String {
        let seed = self.outcome.seed;
        let toml = toml::to_string(&self.scenario).expect("a scenario can be written as TOML");
        let what = self.outcome.violations.first().map(ToString::to_string);
        let what = what.unwrap_or_default();
        format!(
            "smallest scenario found in {} runs ({what}); save it and run `tributary-sim replay FILE \
             --seed {seed} --verbose`:\n\n{toml}",
            self.tried
        )
    }
}

/// Cuts `scenario` down as long as the seed of `failed` breaks the promise that it broke first.
pub fn shrink(scenario: &Scenario, failed: &Outcome, limit: Duration) -> Shrunk {
    let started = Instant::now();
    let promise = failed.violations.first().map(|v| v.promise);
    let mut best = Shrunk {
        scenario: scenario.drawn(failed.seed),
        outcome: failed.clone(),
        tried: 0,
    };
    let mut at = 0;
    while started.elapsed() < limit {
        let Some(smaller) = cuts(&best.scenario).into_iter().nth(at) else {
            break;
        };
        at += 1;
        // A cut may leave too few people for everything else that is asked for.
        if smaller.check().is_err() {
            continue;
        }
        best.tried += 1;
        let outcome = World::new(&smaller, failed.seed, None).run();
        if outcome
            .violations
            .iter()
            .any(|v| Some(v.promise) == promise)
        {
            best.scenario = smaller;
            best.outcome = outcome;
            at = 0;
        }
    }
    best
}

/// Every scenario that has one thing less, the largest cuts first.
fn cuts(from: &Scenario) -> Vec<Scenario> {
    let mut out = Vec::new();
    let mut cut = |change: &dyn Fn(&mut Scenario)| {
        let mut smaller = from.clone();
        change(&mut smaller);
        if format!("{smaller:?}") != format!("{from:?}") {
            out.push(smaller);
        }
    };
    cut(&|s| s.liars.clear());
    cut(&|s| s.partitions.clear());
    cut(&|s| s.kills.clear());
    cut(&|s| s.churn.per_round = 0.0);
    cut(&|s| s.link.loss = 0.0);
    cut(&|s| s.link.duplicate = 0.0);
    cut(&|s| s.link.reorder = 0.0);
    cut(&|s| s.link.replay = 0.0);
    cut(&|s| s.leaves.clear());
    cut(&|s| {
        let late: usize = s.joins.iter().map(|j| j.count).sum();
        s.joins.clear();
        s.peers -= late;
    });
    for at in 0..from.liars.len() {
        cut(&|s| {
            s.liars.remove(at);
        });
    }
    cut(&|s| {
        s.rounds = s.rounds.saturating_sub(1).max(1);
        s.calm.after_round = s.calm.after_round.min(s.rounds);
    });
    for fewer in [from.peers / 4, 1] {
        cut(&|s| {
            s.peers -= fewer;
            s.run.min_members = s.run.min_members.saturating_sub(fewer as u32).max(1);
            s.run.min_contributions = s.run.min_contributions.saturating_sub(fewer as u32).max(1);
        });
    }
    cut(&|s| {
        (s.clock.skew_s, s.clock.drift_ppm) = (0, 0);
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Disk;
    use crate::scenario;

    #[test]
    fn every_cut_is_smaller_and_a_scenario_without_faults_has_few() {
        let harsh = scenario::load("harsh").unwrap();
        let cuts = cuts(&harsh);
        assert!(cuts.len() >= 9, "{}", cuts.len());
        let mut quiet = harsh;
        while let Some(smaller) = super::cuts(&quiet).into_iter().find(|s| s.check().is_ok()) {
            quiet = smaller;
        }
        assert!(quiet.partitions.is_empty() && quiet.churn.per_round == 0.0);
        assert_eq!(quiet.rounds, 1);
    }

    #[test]
    fn a_scenario_written_as_toml_is_the_same_scenario() {
        let drawn = scenario::load("soak").unwrap().drawn(5);
        let text = toml::to_string(&drawn).unwrap();
        let back = scenario::parse("drawn", &text).unwrap();
        assert_eq!(format!("{back:?}"), format!("{drawn:?}"));
    }

    #[test]
    fn a_seed_that_fails_for_lack_of_time_fails_without_most_of_the_faults() {
        // Nobody can certify a round within a millisecond: any calm phase breaks this promise.
        let mut hasty = scenario::load("harsh").unwrap();
        hasty.calm.round_within_ms = 1;
        let failed = World::new(&hasty, 3, None).with_disks(Disk::Honest).run();
        assert!(!failed.violations.is_empty());
        let shrunk = shrink(&hasty, &failed, Duration::from_secs(20));
        assert!(shrunk.scenario.partitions.is_empty() && shrunk.scenario.leaves.is_empty());
        assert!(shrunk.scenario.peers < hasty.peers && shrunk.scenario.rounds < hasty.rounds);
        assert!(shrunk.text().contains("round_within_ms = 1"));
    }
}
