//! How well attribution agrees with retraining: the coalition bank, and every method beside it.
//!
//! Twelve federations of six members ([`cast`]) are retrained for each of their 64 coalitions and several
//! seeds, with the same federated recipe ([`recipe`]). The losses on a hold-out and on sixty fixed queries are
//! the *bank* ([`bank`]): from it follow exact Shapley values of retraining, which is what methods claim to
//! estimate. Those that look at a round ([`rounds`]) or at one answer ([`answers`]) see a single run of all
//! six, as a network would, and are held against the values of the *other* seeds. So is the retraining of that
//! seed itself: how well one seed predicts the others is the ceiling.
//!
//! The bank takes minutes to hours to build and is kept; methods are compared in seconds.

mod agreement;
mod answers;
mod bank;
mod cast;
pub mod luck;
mod recipe;
mod rounds;
mod tables;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tributary_attribution::Coalition;
use tributary_trainer::{BaseError, DataError};

use super::results::{Part, Results, ResultsError};
use crate::learner::RillError;
use agreement::{Agreement, mean_of};
pub use bank::{Bank, BankError};
use cast::FEDERATIONS;
use recipe::{Ground, Played};
pub use tables::{Compared, Figure, Figures, markdown};

/// Members of each federation.
pub const MEMBERS: usize = 6;
/// Coalitions of them.
pub const COALITIONS: usize = 1 << MEMBERS;
/// Queries of each federation.
pub const QUERIES: usize = 60;
/// Seeds of each federation: of the first adapter and of the order of windows.
pub const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum AttributionError {
    /// The base model.
    #[error(transparent)]
    Rill(#[from] RillError),
    /// The base model's folder.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The text.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The results file.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// The bank.
    #[error(transparent)]
    Bank(#[from] BankError),
}

/// Losses of one retrained coalition, nats per token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// On the hold-out, mean over domains.
    pub hold_out: f32,
    /// Of each query.
    pub queries: Vec<f32>,
}

/// One retraining.
#[derive(Clone, Copy, Debug)]
struct Cell {
    federation: usize,
    seed: u64,
    coalition: Coalition,
}

impl Cell {
    fn name(&self) -> String {
        let name = FEDERATIONS[self.federation].name;
        format!("{name}; seed {}; {:06b}", self.seed, self.coalition.bits())
    }

    /// Every retraining, federation after federation.
    fn all() -> Vec<Self> {
        let federations = 0..FEDERATIONS.len();
        federations
            .flat_map(|federation| SEEDS.map(|seed| (federation, seed)))
            .flat_map(|(federation, seed)| {
                (0..COALITIONS as u64).map(move |bits| Self {
                    federation,
                    seed,
                    coalition: Coalition::from_bits(bits),
                })
            })
            .collect()
    }
}

/// Retrains what is missing in `results` until `limit`; returns how many coalitions of this part are left.
///
/// # Errors
/// See [`AttributionError`].
pub fn retrain(
    results: &mut Results<Losses>,
    part: Part,
    only: &str,
    limit: Option<Duration>,
    mut progress: impl FnMut(&str, &Losses),
) -> Result<usize, AttributionError> {
    let mut cells = Cell::all();
    cells.retain(|cell| cell.name().contains(only));
    if limit == Some(Duration::ZERO) {
        return Ok(results.fill(&cells, Cell::name, part, limit, |_| unreachable!())?);
    }
    let ground = Ground::new()?;
    let mut stages = BTreeMap::new();
    let left = results.fill(&cells, Cell::name, part, limit, |cell| {
        let stage = (stages.entry((cell.federation, cell.seed)))
            .or_insert_with(|| ground.stage(&FEDERATIONS[cell.federation], cell.seed));
        let played = stage.play(cell.coalition);
        let losses = stage.losses(&played.adapter);
        progress(&cell.name(), &losses);
        losses
    })?;
    Ok(left)
}

/// Packs complete results.
///
/// # Errors
/// When a retraining is missing or its losses do not fit the format.
pub fn pack(results: &Results<Losses>) -> Result<Bank, AttributionError> {
    let ground = Ground::new()?;
    let find = |cell: Cell| results.get(&cell.name()).cloned();
    Ok(Bank::pack(
        ground.fingerprint(),
        |federation, seed, bits| {
            find(Cell {
                federation,
                seed: SEEDS[seed],
                coalition: Coalition::from_bits(bits),
            })
        },
    )?)
}

/// Runs the methods whose name contains `only` on every federation and seed and holds them against the bank.
///
/// # Errors
/// See [`AttributionError`].
pub fn compare(
    bank: &Bank,
    only: &str,
    mut progress: impl FnMut(&str),
) -> Result<Compared, AttributionError> {
    let ground = Ground::new()?;
    bank.check(ground.fingerprint())?;
    let mut compared = Compared::default();
    // The hybrid is fitted on the federations of the other half.
    let mut evidence = Vec::new();
    for (federation, cast) in FEDERATIONS.iter().enumerate() {
        let started = Instant::now();
        for (seed, number) in SEEDS.into_iter().enumerate() {
            let stage = ground.stage(cast, number);
            let played = stage.play(Coalition::full(MEMBERS));
            let view = View {
                federation,
                seed,
                bank,
                stage: &stage,
                played: &played,
                only,
            };
            let scored = rounds::measure(&view);
            compared.rounds.extend(scored.lines);
            let found = answers::measure(&view, &scored.path);
            compared.answers.extend(found.lines);
            evidence.push(found.evidence);
        }
        let took = started.elapsed().as_secs_f64();
        progress(&format!("{}: {took:.1} s", cast.name));
    }
    compared.answers.extend(answers::hybrid(&evidence));
    Ok(compared)
}

/// What methods look at, and what they are held against.
struct View<'a> {
    federation: usize,
    /// Place in [`SEEDS`].
    seed: usize,
    bank: &'a Bank,
    stage: &'a recipe::Stage,
    /// The run of all members with this seed.
    played: &'a Played,
    /// What the names of wanted methods contain.
    only: &'a str,
}

impl View<'_> {
    /// Whether a method is asked for; the ceiling always is.
    fn wants(&self, method: &str) -> bool {
        method == tables::CEILING || method.contains(self.only)
    }

    /// Shapley values of retraining with this seed.
    fn own(&self, query: Option<usize>) -> Vec<f64> {
        self.bank.shapley(self.federation, self.seed, query)
    }

    /// Their mean over the other seeds: the truth that this seed is held against.
    fn others(&self, query: Option<usize>) -> Vec<f64> {
        let others = (0..SEEDS.len()).filter(|seed| *seed != self.seed);
        mean_of(others.map(|seed| self.bank.shapley(self.federation, seed, query)))
    }

    /// Worths of all coalitions, mean over the other seeds.
    fn worths(&self, query: Option<usize>) -> Vec<f64> {
        let others = (0..SEEDS.len()).filter(|seed| *seed != self.seed);
        mean_of(others.map(|seed| self.bank.worths(self.federation, seed, query)))
    }

    fn line(&self, method: &'static str, query: Option<usize>, scores: &[f64], ms: f64) -> Line {
        Line {
            method,
            federation: self.federation,
            agreement: Agreement::of(scores, &self.others(query), &self.worths(query)),
            ms,
        }
    }
}

/// How one method did in one federation, with one seed, for the hold-out or one query.
#[derive(Clone, Debug)]
pub struct Line {
    method: &'static str,
    federation: usize,
    agreement: Agreement,
    /// Time taken.
    ms: f64,
}
