//! What it pays to game the credits, and what honest members lose through it.
//!
//! Eight members with real LoRA on a tiny model. Seven are honest; the eighth follows one [`Strategy`], under as many names
//! as it likes. Its *gain* is what all its names are paid, over what it is paid when it is honest with the same text
//! and the same seed. Every round is paid in several ways at once ([`PAYMENT_RULES`]): they differ in what they count, not in
//! what is trained, so one run serves all. What changes the training itself, weights that follow the text a member
//! holds, is a run of its own.
//!
//! `tables` makes the page of it.

mod answers;
mod likeness;
mod payments;
mod setup;
mod strategy;
mod tables;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tributary_attribution::path::NODES;
use tributary_attribution::significance::Significance;
use tributary_attribution::utility::Gradient as _;
use tributary_protocol::id::Ppb;
use tributary_protocol::manifest::{Aggregation, FactorSchedule, Training, UpdateCodec};
use tributary_protocol::sketch::{self, Sketch};
use tributary_protocol::update;
use tributary_trainer::{DataError, Windows};

use crate::learner::{Language, TinyModelError};
use crate::study::{
    Cells, Ground, GroundError, Outcome, Results, ResultsError, Study, Takes, Work,
};
use answers::Asked;
use likeness::Likeness;
use payments::{PAYMENT_RULES, Round};
use setup::{CONTEXT, Setup, prints};
use strategy::{AttackerView, Strategy};
use tributary_simulations::federation::{Closed, Federation, Outer, Sent, Terms, Weight, peer};

pub use tables::{figures, markdown};

/// Members, of whom the last one cheats, unless others are asked for; the cheater's names come after the honest ones.
const MEMBERS: usize = 8;
/// Rounds; even.
const ROUNDS: u32 = 12;
/// Local steps of a round.
const STEPS: u32 = 4;
/// Windows of a step.
const BATCH: u32 = 2;
/// LoRA rank.
const RANK: u32 = 4;
/// Local learning rate.
const RATE: f64 = 1e-2;
/// Windows that each member holds: it sees each of them once.
const HELD: usize = (ROUNDS * STEPS * BATCH) as usize;
/// Questions, and how often the cheater that knows them trains on each in its shard.
const QUERIES: usize = 7;
const QUERY_COPIES: usize = 3;
/// Seeds measured.
const SEEDS: [u64; 4] = [1, 2, 3, 4];
/// How updates travel: the default of a run, denser, because the whole adapter is one chunk.
const CODEC: UpdateCodec = UpdateCodec::Sparse {
    top: 256,
    feedback: Ppb(950_000_000),
};
/// The default of a run.
const RULE: Aggregation = Aggregation::Agreement {
    tolerate: Ppb(340_000_000),
};

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum GamingError {
    /// The base model.
    #[error(transparent)]
    TinyModel(#[from] TinyModelError),
    /// The text.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The results file.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// The researcher's own ground.
    #[error(transparent)]
    Ground(#[from] GroundError),
}

/// One federation.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    strategy: Strategy,
    /// Whether an update weighs by the text of its author that nobody else holds, instead of by what its
    /// receipt says.
    tied: bool,
    seed: u64,
}

/// What became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Played {
    /// By payment rule: what was paid, in budgets of a round.
    paid: BTreeMap<String, Paid>,
    /// How like each other updates are.
    likeness: Likeness,
    /// The cheater's part of the answers to the questions.
    asked: Option<Asked>,
    /// Time taken.
    wall_s: f64,
}

/// What was paid in one way.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Paid {
    /// Rounds of which anything was paid.
    rounds: u32,
    /// To all names of the cheater.
    cheater: f64,
    /// To each honest member.
    honest: Vec<f64>,
}

impl fmt::Display for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in PAYMENT_RULES {
            let paid = self.paid.get(rule.name).map_or(f64::NAN, |p| p.cheater);
            write!(f, "{}: {paid:.2}, ", rule.name)?;
        }
        write!(f, "{:.1} s", self.wall_s)
    }
}

impl Cell {
    fn name(&self) -> String {
        let tied = if self.tied { "; tied" } else { "" };
        format!("{}{tied}; seed {}", self.strategy.name(), self.seed)
    }

    fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for seed in SEEDS {
            for strategy in Strategy::ALL {
                cells.push(Self {
                    strategy,
                    tied: false,
                    seed,
                });
                if strategy.is_about_text() {
                    cells.push(Self {
                        strategy,
                        tied: true,
                        seed,
                    });
                }
            }
        }
        cells
    }
}

fn terms() -> Terms {
    Terms {
        training: Training {
            local_steps: STEPS,
            batch: BATCH,
            context: CONTEXT as u32,
            learning_rate: Ppb((RATE * 1e9).round() as u32),
            schedule: FactorSchedule::Alternate,
        },
        codec: CODEC,
        rule: Arc::new(RULE),
        outer: Outer::Plain,
        weight: Weight::Tokens,
    }
}

/// What does it pay to game the credits?
pub struct GamingStudy;

/// The same on one ground.
struct Games<'a> {
    ground: &'a Ground,
    members: usize,
}

impl Cells for Games<'_> {
    type Cell = Cell;
    type Result = Played;
    type Setup = Setup;
    type Error = GamingError;

    fn cells(&self, _results: &Results<Played>) -> Vec<Cell> {
        Cell::all()
    }

    fn cell_name(&self, cell: &Cell) -> String {
        cell.name()
    }

    fn setup(&self) -> Result<Setup, GamingError> {
        Setup::new(self.ground, self.members)
    }

    fn compute(&self, setup: &mut Setup, cell: &Cell) -> Played {
        compute(cell, setup)
    }
}

impl Study for GamingStudy {
    fn name(&self) -> &'static str {
        "gaming"
    }

    fn about(&self) -> &'static str {
        "Ways to game the credits against ways of paying: gain, and what honest members lose"
    }

    fn takes(&self) -> &'static [Takes] {
        &[Takes::Cells, Takes::Ground]
    }

    fn run(&self, work: &Work<'_>) -> Result<Option<Outcome>, Box<dyn Error>> {
        let ground = work.ground();
        let names = Strategy::ALL.map(Strategy::names).into_iter().max();
        let members = ground.members_beside(MEMBERS, names.unwrap_or(1) - 1)?;
        let (results, _) = work.fill(&Games { ground, members })?;
        let what = ground.words("seven domains", "a tiny model");
        let markdown = markdown(&results, &work.command(), members, &what);
        Ok(Some(Outcome::new(&figures(&results), markdown)))
    }
}

fn compute(cell: &Cell, setup: &Setup) -> Played {
    let started = Instant::now();
    let dealt = setup.deal(setup.members(), HELD, cell.seed);
    let honest = dealt[..setup.honest()]
        .iter()
        .map(|holding| holding.windows.clone());
    let mut held: Vec<Windows> = honest.collect();
    held.extend(cell.strategy.holds(setup, &dealt, cell.seed));
    let learner = setup.learner(held.clone(), cell.seed);
    let mut table = Table::new(cell, setup.honest(), learner, &held);
    for _ in 0..ROUNDS {
        table.round();
    }
    let answers = matches!(cell.strategy, Strategy::Honest | Strategy::Queries);
    Played {
        likeness: Likeness::of(setup.honest(), &table.history),
        asked: (answers && !cell.tied).then(|| Asked::of(setup, &table.history)),
        paid: table.paid,
        wall_s: started.elapsed().as_secs_f64(),
    }
}

/// A federation that is played, and what is kept of it.
struct Table {
    strategy: Strategy,
    /// Honest members.
    honest: usize,
    learner: Language,
    federation: Federation,
    /// What each member's receipts may claim, as a part of what a round trains on.
    claims: Vec<f64>,
    history: Vec<Closed>,
    /// Honest updates of the rounds before as they travelled.
    blobs: Vec<Vec<Vec<u8>>>,
    /// The honest members' best of each round.
    best: Vec<usize>,
    /// The cheater's first updates, one a factor.
    first: Vec<Vec<u8>>,
    paid: BTreeMap<String, Paid>,
    /// By payment rule, as what was paid.
    significance: BTreeMap<&'static str, Significance>,
    rng: ChaCha8Rng,
}

impl Table {
    fn new(cell: &Cell, honest: usize, learner: Language, held: &[Windows]) -> Self {
        let federation = Federation::new(learner.shape().clone(), cell.seed, held.len(), terms());
        let empty = Paid {
            rounds: 0,
            cheater: 0.0,
            honest: vec![0.0; honest],
        };
        Self {
            strategy: cell.strategy,
            honest,
            claims: match cell.tied {
                true => claims(held),
                false => vec![1.0; held.len()],
            },
            learner,
            federation,
            history: Vec::new(),
            blobs: Vec::new(),
            best: Vec::new(),
            first: Vec::new(),
            paid: PAYMENT_RULES
                .map(|rule| (rule.name.to_owned(), empty.clone()))
                .into(),
            significance: BTreeMap::new(),
            rng: ChaCha8Rng::seed_from_u64(cell.seed ^ 0xdec0),
        }
    }

    fn round(&mut self) {
        let trained = self
            .federation
            .train(&self.learner, 0..self.honest, |_| STEPS);
        let mut sent: Vec<Sent> = trained.into_iter().map(|(_, sent)| sent).collect();
        let blobs: Vec<Vec<u8>> = sent.iter().map(|sent| sent.blob.clone()).collect();
        let most = sent.iter().map(|sent| sent.tokens).max().unwrap_or(1);
        sent.extend(self.cheat(&blobs, most));
        for sent in &mut sent {
            let claim = self.claims[sent.member] * sent.tokens as f64;
            sent.tokens = (claim.round() as u64).max(1);
        }
        let closed = self.federation.close(&sent);
        let slope = slope(&self.learner, &closed);
        let round = Round {
            closed: &closed,
            slope: &slope,
            history: &self.history,
        };
        // Until it replays, a replayer has worked.
        let counts = self.strategy != Strategy::Stale || self.history.len() >= 2;
        for rule in PAYMENT_RULES {
            let significance = self.significance.entry(rule.name).or_default();
            let scores = rule.scores(&round, significance);
            let paid = self.paid.get_mut(rule.name);
            pay(
                paid.expect("a place for each rule"),
                &closed,
                &scores,
                counts,
            );
        }
        let scores = PAYMENT_RULES[0].scores(&round, &mut Significance::default());
        let score_of = |member: &usize| {
            let at = closed
                .contributions
                .iter()
                .position(|(id, _)| *id == peer(*member));
            at.map_or(f64::NEG_INFINITY, |at| scores[at])
        };
        let best = (0..self.honest).max_by(|a, b| score_of(a).total_cmp(&score_of(b)));
        self.best.push(best.unwrap_or(0));
        self.blobs.push(blobs);
        self.history.push(closed);
    }

    /// What the cheater's names publish in the open round.
    fn cheat(&mut self, blobs: &[Vec<u8>], most: u64) -> Vec<Sent> {
        let segments = self.federation.segments();
        let honest = self.honest;
        let names = honest..honest + self.strategy.names();
        let training = honest..honest + self.strategy.trains();
        let trained = self.federation.train(&self.learner, training, |_| STEPS);
        let own = trained
            .first()
            .map(|(trained, _)| update::gather(&trained.delta, &segments));
        let mut sent: Vec<Sent> = trained.into_iter().map(|(_, sent)| sent).collect();
        // Factors take turns.
        let back = self.history.len().checked_sub(2);
        let before = back.map(|at| update::gather(&self.history[at].step, &segments));
        let view = AttackerView {
            codec: CODEC,
            blobs,
            earlier: &self.blobs,
            best: &self.best,
            last_step: &before.unwrap_or_else(|| vec![0.0; self.federation.update_len()]),
            own: own.as_deref().unwrap_or(&[]),
        };
        for member in names {
            let blob = match (self.strategy, sent.first()) {
                (Strategy::Published(_), Some(first)) if member > honest => first.blob.clone(),
                (Strategy::Stale, Some(own)) => {
                    if self.first.len() < 2 {
                        self.first.push(own.blob.clone());
                    }
                    self.first[self.history.len() % 2].clone()
                }
                _ => match self.strategy.publishes(&view, &mut self.rng) {
                    Some(blob) => blob,
                    None => continue,
                },
            };
            sent.retain(|sent| sent.member != member);
            sent.push(Sent {
                member,
                tokens: most,
                blob,
            });
        }
        sent
    }
}

/// How many of a round's tokens each member may claim when every token of text counts once in the whole run, for
/// whichever member holds it.
fn claims(held: &[Windows]) -> Vec<f64> {
    let sketches: Vec<Sketch> = held
        .iter()
        .map(|windows| Sketch::keeping(prints(windows)))
        .collect();
    let own = sketch::own_parts(&[], &sketches.iter().collect::<Vec<_>>());
    let run = HELD as f64 * CONTEXT as f64;
    (held.iter().zip(own))
        .map(|(windows, own)| (own.as_f64() * windows.tokens() as f64 / run).min(1.0))
        .collect()
}

/// The mean gradient along a round's step, over the whole hold-out: fewer windows would only add noise.
fn slope(learner: &Language, closed: &Closed) -> Vec<f64> {
    let mut measure = learner.measure_round(&closed.contributions, learner.scored());
    let batches = measure.batches();
    let all: u64 = batches.iter().sum();
    let mut slope = vec![0.0; closed.step.len()];
    for s in NODES {
        let along = closed.before.values().iter().zip(&closed.step);
        let point: Vec<f32> = along
            .map(|(b, d)| (f64::from(*b) + s * f64::from(*d)) as f32)
            .collect();
        for (batch, tokens) in batches.iter().enumerate() {
            let found = measure.loss_gradient(batch, &point);
            let gradient = found.expect("a small step keeps the loss finite").gradient;
            let weight = *tokens as f64 / all as f64 / NODES.len() as f64;
            (slope.iter_mut().zip(gradient)).for_each(|(s, g)| *s += weight * f64::from(g));
        }
    }
    slope
}

/// One round's budget by the positive scores, as the ledger splits it but for rounding. `counts`: whether the
/// cheater is on the books yet.
fn pay(paid: &mut Paid, closed: &Closed, scores: &[f64], counts: bool) {
    let sum: f64 = scores.iter().map(|score| score.max(0.0)).sum();
    if sum <= 0.0 {
        return;
    }
    paid.rounds += 1;
    for ((id, _), score) in closed.contributions.iter().zip(scores) {
        let part = score.max(0.0) / sum;
        match (0..paid.honest.len()).find(|member| peer(*member) == *id) {
            Some(member) => paid.honest[member] += part,
            None if counts => paid.cheater += part,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
