//! How much of a payout is luck: equal members, run after run.
//!
//! One federation of six members that hold the same mix of domains, repeated with other seeds: other first adapters
//! and other orders of windows. Each repetition is scored and paid as a run would be, and all its coalitions are
//! retrained, so that payouts can be compared with exact Shapley values of the same repetition. What differs between
//! equal members, or from run to run, is luck in both; payouts may have more of it. Rules that would pay differently
//! ([`rules`]) are judged by that, and by what they get wrong where members are not equal: the other federations of
//! the bank.

mod rules;
mod tables;

use std::error::Error;
use std::sync::Mutex;

use serde::Serialize;
use tributary_attribution::{Coalition, PathScores, path};
use tributary_protocol::id::PeerId;
use tributary_protocol::round::FinalScore;
use tributary_trainer::Windows;

use super::agreement::Agreement;
use super::bank::{self, Bank};
use super::federations::FEDERATIONS;
use super::recipe::{Played, Setup, Stage};
use super::rounds::{SCORE_WINDOWS, public};
use super::{AttributionError, COALITIONS, MEMBERS, SEEDS};
use tributary_simulations::federation::peer;
use tributary_simulations::learner::Learner as _;

use crate::study::{Outcome, Study, Takes, Work};
use rules::{Line, RULES, Rule, Run, SHIPPED, sum};

pub use tables::markdown;

/// Repetitions.
const REPETITIONS: u64 = 20;
/// The federation of equal members, by its place among all.
const ALIKE: usize = 0;

/// A mean over repetitions, and what they differ by.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// Standard deviation over the mean.
    pub variation: f64,
}

/// One member over all repetitions.
#[derive(Clone, Debug, Serialize)]
pub struct Member {
    /// What it is paid, micro-OPEN.
    pub payout: Spread,
    /// Its Shapley value by retraining, nats.
    pub shapley: Spread,
}

/// One way of paying.
#[derive(Clone, Debug, Serialize)]
pub struct Paying {
    /// Its name.
    pub rule: String,
    /// How payouts of members differ within a repetition: standard deviation over the mean, mean over repetitions.
    pub between: f64,
    /// How payouts of a member differ between repetitions, mean over members.
    pub runs: f64,
    /// What a member is paid under two names over what it is paid under one, mean over members and repetitions.
    pub split: f64,
    /// Part of the money that goes to the wrong member in all federations of the bank.
    pub error: Option<f64>,
}

/// What is said to be luck in the sum of a member's scores over a run, nats, mean over members.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Said {
    /// The mean sum of scores.
    pub score: f64,
    /// By drawn signs.
    pub signs: f64,
    /// By halves of the windows.
    pub halves: f64,
    /// Standard deviation over repetitions.
    pub spread: f64,
    /// The same of Shapley values.
    pub shapley: f64,
}

/// Everything that the page shows.
#[derive(Clone, Debug, Serialize)]
pub struct Luck {
    /// Members under the shipped rule.
    pub members: Vec<Member>,
    /// How Shapley values of members differ within a repetition.
    pub between: f64,
    /// The same for a member between repetitions.
    pub runs: f64,
    /// Ways of paying; the first is the shipped one.
    pub rules: Vec<Paying>,
    /// The part of the money that the retraining of one seed would send to the wrong member.
    pub ceiling: f64,
    /// What luck is said to be.
    pub said: Said,
}

/// One run as it is paid, and what its coalitions are worth where they were retrained.
struct Repetition {
    run: Run,
    /// Scored on all windows that there are.
    wide: Run,
    shapley: Vec<f64>,
}

/// How much of a payout is luck?
pub struct LuckStudy;

impl Study for LuckStudy {
    fn name(&self) -> &'static str {
        "luck"
    }

    fn about(&self) -> &'static str {
        "How payouts of equal members differ from run to run, beside their values by retraining: some minutes"
    }

    fn takes(&self) -> &'static [Takes] {
        &[Takes::Bank]
    }

    fn run(&self, work: &Work<'_>) -> Result<Option<Outcome>, Box<dyn Error>> {
        let bank = Bank::read(work.bank())?;
        let found = measure(&bank, |line| work.say(line))?;
        let markdown = markdown(&found, &work.command());
        Ok(Some(Outcome::new(&found, markdown)))
    }
}

/// Repeats, retrains and pays: some minutes.
///
/// # Errors
/// See [`AttributionError`].
pub fn measure(bank: &Bank, progress: impl Fn(&str) + Sync) -> Result<Luck, AttributionError> {
    let setup = Setup::own()?;
    bank.check(setup.fingerprint())?;
    let repeated = in_parallel(REPETITIONS as usize, |nth| {
        let stage = setup.stage(&FEDERATIONS[ALIKE], 1 + nth as u64);
        let repetition = repetition(&stage);
        progress(&format!(
            "repetition {}: {:.4?}",
            1 + nth,
            repetition.shapley
        ));
        repetition
    });
    let others = in_parallel(FEDERATIONS.len() * SEEDS.len(), |nth| {
        let (federation, seed) = (nth / SEEDS.len(), SEEDS[nth % SEEDS.len()]);
        let stage = setup.stage(&FEDERATIONS[federation], seed);
        let played = stage.play(Coalition::full(MEMBERS));
        judged(&stage, &played, SCORE_WINDOWS)
    });
    progress("rules");
    Ok(summed(bank, &repeated, &others))
}

/// Calls `work` with 0 to `count`, on as many threads as there are processors; what it gives, in order.
fn in_parallel<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, done) = (Mutex::new(0..count), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(count) {
            scope.spawn(|| {
                loop {
                    let nth = next
                        .lock()
                        .expect("no thread panics while it counts")
                        .next();
                    let Some(nth) = nth else { break };
                    let found = (nth, work(nth));
                    done.lock().expect("no thread panics here").push(found);
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no thread panics here");
    done.sort_by_key(|(nth, _)| *nth);
    done.into_iter().map(|(_, found)| found).collect()
}

fn repetition(stage: &Stage) -> Repetition {
    let played = stage.play(Coalition::full(MEMBERS));
    let losses: Vec<f64> = (0..COALITIONS as u64)
        .map(|bits| match bits as usize + 1 {
            COALITIONS => stage.learner.loss(played.adapter.values()),
            _ => {
                let played = stage.play(Coalition::from_bits(bits));
                stage.learner.loss(played.adapter.values())
            }
        })
        .collect();
    let worths: Vec<f64> = losses.iter().map(|loss| losses[0] - loss).collect();
    Repetition {
        run: judged(stage, &played, SCORE_WINDOWS),
        wide: judged(stage, &played, stage.learner.scored().len()),
        shapley: bank::values(&worths),
    }
}

/// Every round as one evaluator judges it.
fn judged(stage: &Stage, played: &Played, windows: usize) -> Run {
    let tokens = |who: PeerId| {
        let member = (0..MEMBERS).find(|member| peer(*member) == who);
        stage.held[member.expect("a member")].tokens() as f64
    };
    (played.rounds.iter().enumerate())
        .map(|(nth, closed)| {
            let public = public(&played.rounds[..nth]);
            let score = |windows: &Windows| -> PathScores {
                let mut measure = stage.learner.measure_round(&closed.contributions, windows);
                let before = closed.before.values();
                path::score(before, &closed.contributions, &public, &mut measure)
                    .expect("the round was played")
            };
            let drawn = stage.drawn(closed, windows);
            let (one, other) = drawn.clone().hold_out(2);
            let (whole, one, other) = (score(&drawn), score(&one), score(&other));
            let halves = one.scores.iter().zip(&other.scores);
            (whole.scores.iter().zip(halves))
                .map(|(whole, (one, other))| {
                    let signed = whole.quantise();
                    Line {
                        score: FinalScore {
                            peer: signed.peer,
                            score: signed.score,
                            low: signed.low,
                            high: signed.high,
                            luck: signed.luck,
                        },
                        halves: 1e9 * (one.score - other.score).abs() / 2.0,
                        tokens: tokens(signed.peer),
                    }
                })
                .collect()
        })
        .collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Of a sample; none where fewer than two are known.
fn variance(values: &[f64]) -> f64 {
    let middle = mean(values);
    let squares = values.iter().map(|value| (value - middle).powi(2));
    match values.len() {
        0 | 1 => 0.0,
        many => squares.sum::<f64>() / (many - 1) as f64,
    }
}

/// Standard deviation over the mean.
fn variation(values: &[f64]) -> f64 {
    variance(values).sqrt() / mean(values)
}

/// Of a table by repetition and member: how members differ within one, and repetitions of one member.
fn differences(table: &[Vec<f64>]) -> (f64, f64) {
    let within: Vec<f64> = table.iter().map(|row| variation(row)).collect();
    let between: Vec<f64> = (0..MEMBERS).map(|m| variation(&column(table, m))).collect();
    (mean(&within), mean(&between))
}

fn column(table: &[Vec<f64>], member: usize) -> Vec<f64> {
    table.iter().map(|row| row[member]).collect()
}

fn summed(bank: &Bank, repeated: &[Repetition], others: &[Run]) -> Luck {
    let runs: Vec<&Run> = repeated.iter().map(|repetition| &repetition.run).collect();
    let shapley: Vec<Vec<f64>> = repeated.iter().map(|r| r.shapley.clone()).collect();
    let paying = |name: String, rule: Rule, runs: &[&Run], error: Option<f64>| {
        let (between, of_runs) = differences(&paid(rule, runs));
        Paying {
            rule: name,
            between,
            runs: of_runs,
            split: split(rule, runs),
            error,
        }
    };
    let mut rules: Vec<Paying> = (RULES.into_iter())
        .map(|rule| {
            let error = error(rule, bank, others);
            paying(rule.name(), rule, &runs, Some(error))
        })
        .collect();
    let wide: Vec<&Run> = repeated.iter().map(|repetition| &repetition.wide).collect();
    let name = "shipped, on five times the windows".to_owned();
    rules.push(paying(name, SHIPPED, &wide, None));
    let shipped = paid(SHIPPED, &runs);
    let spread = |values: Vec<f64>| Spread {
        mean: mean(&values),
        variation: variation(&values),
    };
    let member = |member: usize| Member {
        payout: spread(column(&shipped, member)),
        shapley: spread(column(&shapley, member)),
    };
    let (between, of_runs) = differences(&shapley);
    Luck {
        members: (0..MEMBERS).map(member).collect(),
        between,
        runs: of_runs,
        rules,
        ceiling: ceiling(bank),
        said: said(&runs, &shapley),
    }
}

/// By repetition and member. The other repetitions are known to rules that ask for them.
fn paid(rule: Rule, runs: &[&Run]) -> Vec<Vec<f64>> {
    // Authors stand in the order of their ids.
    let mut order: Vec<usize> = (0..MEMBERS).collect();
    order.sort_by_key(|member| peer(*member));
    (0..runs.len())
        .map(|nth| {
            let paid = rule.payouts(runs[nth], &beside(runs, nth));
            let mut by_member = vec![0.0; MEMBERS];
            for (member, paid) in order.iter().zip(paid) {
                by_member[*member] = paid;
            }
            by_member
        })
        .collect()
}

fn beside<'a>(runs: &[&'a Run], nth: usize) -> Vec<&'a Run> {
    let others = (0..runs.len()).filter(|other| *other != nth);
    others.map(|other| runs[other]).collect()
}

/// What two names earn with what one would have: over all members and repetitions that earn anything.
fn split(rule: Rule, runs: &[&Run]) -> f64 {
    let mut gains = Vec::new();
    for at in 0..MEMBERS {
        let cut: Vec<Run> = runs.iter().map(|run| rules::split(run, at)).collect();
        let cut: Vec<&Run> = cut.iter().collect();
        for nth in 0..runs.len() {
            let one = rule.payouts(runs[nth], &beside(runs, nth))[at];
            let two = rule.payouts(cut[nth], &beside(&cut, nth));
            if one > 0.0 {
                gains.push((two[at] + two[at + 1]) / one);
            }
        }
    }
    mean(&gains)
}

/// Part of the money in the wrong place, against retraining with the other seeds, over all federations of the bank.
fn error(rule: Rule, bank: &Bank, runs: &[Run]) -> f64 {
    let errors = (0..FEDERATIONS.len()).flat_map(|federation| {
        let of = &runs[federation * SEEDS.len()..][..SEEDS.len()];
        let paid = paid(rule, &of.iter().collect::<Vec<_>>());
        (paid.into_iter().enumerate())
            .filter_map(move |(seed, paid)| misplaced(bank, federation, seed, &paid))
    });
    mean(&errors.collect::<Vec<_>>())
}

fn ceiling(bank: &Bank) -> f64 {
    let all = (0..FEDERATIONS.len()).flat_map(|f| (0..SEEDS.len()).map(move |s| (f, s)));
    let errors = all.filter_map(|(federation, seed)| {
        let own = bank.shapley(federation, seed, None);
        misplaced(bank, federation, seed, &own)
    });
    mean(&errors.collect::<Vec<_>>())
}

fn misplaced(bank: &Bank, federation: usize, seed: usize, paid: &[f64]) -> Option<f64> {
    let others = (0..SEEDS.len()).filter(|other| *other != seed);
    let truth = super::agreement::mean_of(others.map(|s| bank.shapley(federation, s, None)));
    let worths = bank.worths(federation, seed, None);
    Agreement::of(paid, &truth, &worths).payout_error
}

fn said(runs: &[&Run], shapley: &[Vec<f64>]) -> Said {
    let nats = |nano: f64| nano / 1e9;
    let root = |of: &dyn Fn(&Line) -> f64| {
        let each = runs
            .iter()
            .flat_map(|run| (0..MEMBERS).map(move |at| (run, at)));
        let roots = each.map(|(run, at)| run.iter().map(|l| of(&l[at])).sum::<f64>().sqrt());
        nats(mean(&roots.collect::<Vec<_>>()))
    };
    let deviation = |column: Vec<f64>| variance(&column).sqrt();
    let sums = |at: usize| runs.iter().map(|run| sum(run, at)).collect::<Vec<f64>>();
    let over_members = |of: &dyn Fn(usize) -> f64| mean(&(0..MEMBERS).map(of).collect::<Vec<_>>());
    Said {
        score: nats(over_members(&|at| mean(&sums(at)))),
        signs: root(&|line| (line.score.luck.0 as f64).powi(2)),
        halves: root(&|line| line.halves.powi(2)),
        spread: nats(over_members(&|at| deviation(sums(at)))),
        shapley: over_members(&|member| deviation(column(shapley, member))),
    }
}

#[cfg(test)]
mod tests;
