//! Does honesty pay? Each [`Strategy`] is played beside the honest run of the same seed, and what its members are worth at
//! the end is compared with what the same members are worth there.
//!
//! ```text
//!   scenario `economy` + seed ──┬─ honest ───────────► worth of the same members ─┐
//!                               └─ with a strategy ──► worth of its members ──────┴─► profit
//! ```
//!
//! Worth is read from the chain: tokens, stake, bonds and promises, less what was drawn from the faucet. So payments count,
//! and so do burned bonds, deposits that did not come back and fees that the members paid themselves. What is not counted
//! is work: who saves it by a strategy has that beside the figure.

mod strategy;
mod table;

pub use strategy::{Bound, Members, STRATEGIES, Stage, Strategy};
pub use table::{json, rows};

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::report::median;
use crate::scenario::{self, AggregationName, Liars, Scenario};
use crate::suggest::nearest;
use crate::world::{Outcome, Settlement, World};

/// The participant that pays: the creator of the run.
const SPONSOR: usize = 0;
/// Profit that is asked of no strategy to exceed: two per cent.
pub const TARGET: f64 = 0.02;

/// What is to be played.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Training rounds of each run.
    pub rounds: u32,
    /// Seeds of each strategy.
    pub seeds: u64,
    /// The first seed.
    pub from: u64,
    /// Threads.
    pub threads: usize,
    /// Strategies, by index in [`STRATEGIES`].
    pub strategies: Vec<usize>,
}

impl Plan {
    /// The indices of strategies by name; all of them where there are no names.
    ///
    /// # Errors
    /// Names the nearest that there is.
    pub fn chosen(names: &[String]) -> Result<Vec<usize>, String> {
        let known: Vec<&str> = STRATEGIES.iter().map(|one| one.name).collect();
        let at = |name: &String| {
            let found = known.iter().position(|one| one == name);
            found.ok_or_else(|| nearest("strategy", name, &known))
        };
        match names.is_empty() {
            true => Ok((0..known.len()).collect()),
            false => names.iter().map(at).collect(),
        }
    }
}

/// What members of a strategy, and all others, come to in one seed, micro-OPEN.
#[derive(Clone, Debug, PartialEq)]
pub struct Played {
    /// The seed.
    pub seed: u64,
    /// What its members are worth at the end of the honest run.
    pub honest: i128,
    /// What they are worth at the end of their own.
    pub paid: i128,
    /// What other members, the sponsor left out, are worth in the honest run.
    pub others_honest: i128,
    /// What they are worth in this one.
    pub others: i128,
    /// Common loss at the end of the honest run and of this one.
    pub loss: Option<(f64, f64)>,
    /// Names the run to the last byte.
    pub digest: String,
    /// Promises to honest members that were broken, in either run.
    pub broken: Vec<String>,
}

impl Played {
    /// What the strategy brought beyond honesty, as a part of what honesty comes to: of a sponsor, of what it pays. None
    /// where that is nothing.
    pub fn profit(&self) -> Option<f64> {
        change(self.honest, self.paid)
    }

    /// What it brought the others.
    pub fn others_change(&self) -> Option<f64> {
        change(self.others_honest, self.others)
    }
}

fn change(honest: i128, other: i128) -> Option<f64> {
    let base = honest.unsigned_abs() as f64;
    (base > 0.0).then(|| (other - honest) as f64 / base)
}

/// One strategy and what its seeds showed.
#[derive(Clone, Debug)]
pub struct Case {
    /// The strategy.
    pub strategy: &'static Strategy,
    /// Members that play it.
    pub members: usize,
    /// One entry for each seed, lowest first.
    pub seeds: Vec<Played>,
}

impl Case {
    /// Profits, the least first.
    fn profits(&self) -> Vec<f64> {
        let mut profits: Vec<f64> = self.seeds.iter().filter_map(Played::profit).collect();
        profits.sort_by(f64::total_cmp);
        profits
    }

    /// The middle of its profits.
    pub fn median(&self) -> Option<f64> {
        median(&self.profits())
    }

    /// The greatest of its profits.
    pub fn worst(&self) -> Option<f64> {
        self.profits().last().copied()
    }

    /// The middle of what it brings the others.
    pub fn others(&self) -> Option<f64> {
        let mut changes: Vec<f64> = (self.seeds.iter())
            .filter_map(Played::others_change)
            .collect();
        changes.sort_by(f64::total_cmp);
        median(&changes)
    }

    /// Whether it stays within its bound in every seed.
    pub fn is_bounded(&self) -> bool {
        match self.strategy.bound {
            Bound::Within(most) | Bound::Known(most, _) => {
                self.worst().is_some_and(|worst| worst <= most)
            }
            Bound::Beyond(_) => true,
        }
    }

    /// Promises to honest members that were broken, each with its seed.
    pub fn broken(&self) -> Vec<String> {
        let seeds = self.seeds.iter();
        seeds
            .flat_map(|seed| (seed.broken.iter()).map(move |what| format!("{}: {what}", seed.seed)))
            .collect()
    }
}

/// One world that is to be played.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Job {
    stage: Stage,
    /// Attacks by name, and how many members play each.
    liars: Members,
    is_disputed: bool,
    /// Batches of answers that are sold.
    answers: u32,
    seed: u64,
}

/// A stage's scenario with the members that `liars` names. Names of an owner beyond its first are peers beside the others.
pub fn variant(stage: Stage, rounds: u32, liars: Members, answers: u32) -> Scenario {
    let scenario = scenario::load(stage.scenario());
    let mut scenario = scenario.expect("the built-in scenario is accepted");
    scenario.rounds = rounds;
    scenario.run.answers = answers;
    let liar = |(behaviour, count): &(&str, usize)| Liars {
        behaviour: (*behaviour).to_owned(),
        count: *count,
        share: 0.0,
    };
    scenario.liars = liars.iter().map(liar).collect();
    scenario.peers += scenario.surplus_names();
    match stage {
        Stage::Early => scenario.run.deposit_height = 0,
        Stage::Unclipped => scenario.run.aggregation = AggregationName::Mean,
        Stage::Invited | Stage::Bonded => {}
    }
    scenario
}

fn play(plan: &Plan, job: Job) -> Outcome {
    let mut scenario = variant(job.stage, plan.rounds, job.liars, job.answers);
    scenario.run.disputes = job.is_disputed;
    World::new(&scenario, job.seed, None).run()
}

/// Plays everything; `progress` hears how many of how many runs are over.
///
/// # Panics
/// If a run does not settle: each does, as its scenario says so.
pub fn run(plan: &Plan, progress: &(dyn Fn(usize, usize) + Sync)) -> Vec<Case> {
    let of = |at: usize, seed| {
        let strategy = &STRATEGIES[at];
        let own = Job {
            stage: strategy.stage,
            liars: strategy.members,
            is_disputed: strategy.is_disputed,
            answers: strategy.answers,
            seed,
        };
        let honest = Job {
            liars: strategy.honest(),
            is_disputed: false,
            answers: strategy.honest_answers(),
            ..own
        };
        (honest, own)
    };
    let seeds = plan.from..plan.from.saturating_add(plan.seeds);
    let pairs = |at: usize| seeds.clone().map(move |seed| of(at, seed));
    let every = plan.strategies.iter().flat_map(|at| pairs(*at));
    let jobs: BTreeSet<Job> = every.flat_map(|(honest, own)| [honest, own]).collect();
    let outcomes = play_all(plan, &jobs.into_iter().collect::<Vec<_>>(), progress);
    let find = |job: Job| {
        let at = outcomes.binary_search_by_key(&job, |(known, _)| *known);
        &outcomes[at.expect("every job was played")].1
    };
    let case = |at: &usize| {
        let strategy = &STRATEGIES[*at];
        let seeds = pairs(*at).map(|(honest, own)| compare(strategy, find(honest), find(own)));
        Case {
            strategy,
            members: strategy.members.iter().map(|(_, count)| count).sum(),
            seeds: seeds.collect(),
        }
    };
    plan.strategies.iter().map(case).collect()
}

/// Plays jobs on the plan's threads; ordered by job.
fn play_all(
    plan: &Plan,
    jobs: &[Job],
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Vec<(Job, Outcome)> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(Job, Outcome)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..plan.threads {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = play(plan, *job);
                    let mut done = done.lock().expect("no thread panics while it counts");
                    done.push((*job, outcome));
                    progress(done.len(), jobs.len());
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no thread panics while it counts");
    done.sort_by_key(|(job, _)| *job);
    done
}

/// One strategy in one seed, beside the honest run.
fn compare(strategy: &Strategy, honest: &Outcome, own: &Outcome) -> Played {
    let money = |outcome: &Outcome| outcome.settlement.clone().expect("its scenario settles");
    let (before, after) = (money(honest), money(own));
    let members: BTreeSet<usize> = after.liars.iter().copied().collect();
    let sum = |settlement: &Settlement, of: &dyn Fn(usize) -> bool| -> i128 {
        let worths = settlement.worths.iter().enumerate();
        let worths = worths.filter(|(at, _)| of(*at));
        worths.map(|(_, worth)| worth.net()).sum()
    };
    let is_member = |at: usize| members.contains(&at);
    let is_other = |at: usize| !members.contains(&at) && at != SPONSOR;
    let consumer = after.consumer.filter(|_| strategy.owns_consumer);
    let broken = [honest, own].into_iter().flat_map(|run| &run.violations);
    Played {
        seed: own.seed,
        honest: sum(&before, &is_member),
        paid: sum(&after, &is_member) + consumer.map_or(0, |consumer| consumer.net()),
        others_honest: sum(&before, &is_other),
        others: sum(&after, &is_other),
        loss: honest
            .loss
            .zip(own.loss)
            .map(|(honest, own)| (honest.1, own.1)),
        digest: own.digest.to_string(),
        broken: broken.map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests;
