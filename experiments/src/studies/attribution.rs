//! How well attribution agrees with retraining: the coalition bank, and every method beside it.
//!
//! Twelve federations of six members ([`federations`]) are retrained for each of their 64 coalitions and several seeds, with
//! the same federated recipe ([`recipe`]). The losses on a hold-out and on sixty fixed queries are the *bank*
//! ([`bank`]): from it follow exact Shapley values of retraining, which is what methods claim to estimate. Those that
//! look at a round ([`rounds`]) or at one answer ([`answers`]) see a single run of all six, as a network would, and
//! are compared with the values of the *other* seeds. So is the retraining of that seed itself: how well one seed
//! predicts the others is the ceiling.
//!
//! The bank takes minutes to hours to build and is kept; methods are compared in seconds.

mod agreement;
mod answers;
mod bank;
mod federations;
pub mod luck;
mod recipe;
mod rounds;
mod tables;
mod trial;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tributary_attribution::Coalition;
use tributary_trainer::{BaseError, DataError};

use tributary_simulations::Named;

use crate::learner::TinyModelError;
use crate::study::{
    Cells, Ground, GroundError, Outcome, Results, ResultsError, Study, Takes, Work,
};
use agreement::Agreement;
pub use bank::{Bank, BankError};
use federations::FEDERATIONS;
use recipe::{Setup, Stage};
pub use rounds::methods;
pub use tables::{Compared, Figure, Figures, markdown};
pub use trial::{Method, Round, Scores, Trial};

/// The bank that a retraining makes, in its results folder unless another place is named.
const BANK: &str = "bank.bin";
/// Members of each federation, unless others are asked for.
pub const MEMBERS: usize = 6;
/// Fewest members: in one federation the last four are cast.
const LEAST: usize = 4;
/// Most members: each further one doubles the retrainings.
const MOST: usize = 10;
/// Coalitions of the usual members.
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
    TinyModel(#[from] TinyModelError),
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
    /// The researcher's own ground.
    #[error(transparent)]
    Ground(#[from] GroundError),
}

/// Losses of one retrained coalition, nats per token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// On the hold-out, mean over domains.
    pub hold_out: f32,
    /// Of each query.
    pub queries: Vec<f32>,
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4}", self.hold_out)
    }
}

/// One retraining.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    federation: usize,
    seed: u64,
    coalition: Coalition,
    members: usize,
}

impl Cell {
    fn name(&self) -> String {
        let (name, members) = (FEDERATIONS[self.federation].name, self.members);
        let bits = self.coalition.bits();
        format!("{name}; seed {}; {bits:0members$b}", self.seed)
    }

    /// Every retraining of so many members, federation after federation.
    fn all(members: usize) -> Vec<Self> {
        let federations = 0..FEDERATIONS.len();
        federations
            .flat_map(|federation| SEEDS.map(|seed| (federation, seed)))
            .flat_map(|(federation, seed)| {
                (0..1u64 << members).map(move |bits| Self {
                    federation,
                    seed,
                    coalition: Coalition::from_bits(bits),
                    members,
                })
            })
            .collect()
    }
}

/// How well does attribution agree with retraining?
pub struct AttributionStudy {
    /// The methods that are compared.
    pub methods: Arc<Named<dyn Method>>,
}

/// What retrainings share: base model and text, and the federations that were dealt out.
pub struct Retraining {
    setup: Setup,
    stages: BTreeMap<(usize, u64), Stage>,
}

/// The retrainings of one ground.
struct Retrainings<'a> {
    ground: &'a Ground,
    members: usize,
}

impl Cells for Retrainings<'_> {
    type Cell = Cell;
    type Result = Losses;
    type Setup = Retraining;
    type Error = AttributionError;

    fn cells(&self, _results: &Results<Losses>) -> Vec<Cell> {
        Cell::all(self.members)
    }

    fn cell_name(&self, cell: &Cell) -> String {
        cell.name()
    }

    fn setup(&self) -> Result<Retraining, AttributionError> {
        Ok(Retraining {
            setup: Setup::new(self.ground, self.members)?,
            stages: BTreeMap::new(),
        })
    }

    fn compute(&self, shared: &mut Retraining, cell: &Cell) -> Losses {
        let Retraining { setup, stages } = shared;
        let stage = (stages.entry((cell.federation, cell.seed)))
            .or_insert_with(|| setup.stage(&FEDERATIONS[cell.federation], cell.seed));
        stage.losses(&stage.play(cell.coalition).adapter)
    }
}

impl Study for AttributionStudy {
    fn name(&self) -> &'static str {
        "attribution"
    }

    fn about(&self) -> &'static str {
        "Attribution methods against retrained coalitions; with --out, retrains what is missing there first"
    }

    fn takes(&self) -> &'static [Takes] {
        &[Takes::CellsOnRequest, Takes::Bank, Takes::Ground]
    }

    fn run(&self, work: &Work<'_>) -> Result<Option<Outcome>, Box<dyn Error>> {
        let why = "the last four of them are cast, and every coalition of them is retrained";
        let ground = work.ground();
        let members = ground.members_between(MEMBERS, LEAST, MOST, why)?;
        if !ground.is_own() && work.folder().is_none() && work.bank().is_none() {
            return Err(BankError::Stale.into());
        }
        let mut only = work.only();
        let mut bank = work.bank().map(Path::to_owned);
        if let Some(folder) = work.folder() {
            let (results, left) = work.fill(&Retrainings { ground, members })?;
            if left > 0 || !work.is_whole() {
                return Ok(None);
            }
            let made = bank.get_or_insert_with(|| folder.join(work.file_name(BANK)));
            pack(&results, ground, members)?.write(made)?;
            only = "";
        }
        if !only.is_empty() && work.writes() {
            return Err("a page needs all methods: leave out --only, or --write".into());
        }
        let bank = Bank::read_of(bank.as_deref(), members)?;
        let setup = Setup::new(ground, members)?;
        let scope = Scope::all(only);
        let compared = compare_on(&bank, &setup, &self.methods, &scope, |line| work.say(line))?;
        let markdown = markdown(
            &compared,
            &work.command(),
            members,
            ground.model("a miniature of brook"),
        );
        Ok(Some(Outcome::new(&compared.figures(), markdown)))
    }
}

/// Packs complete results.
///
/// # Errors
/// When a retraining is missing or its losses do not fit the format.
fn pack(
    results: &Results<Losses>,
    ground: &Ground,
    members: usize,
) -> Result<Bank, AttributionError> {
    let setup = Setup::new(ground, members)?;
    let find = |cell: Cell| results.get(&cell.name()).cloned();
    Ok(Bank::pack(
        setup.fingerprint(),
        members,
        |federation, seed, bits| {
            find(Cell {
                federation,
                seed: SEEDS[seed],
                coalition: Coalition::from_bits(bits),
                members,
            })
        },
    )?)
}

/// What of the bank is compared.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// What the names of wanted methods contain.
    pub only: &'a str,
    /// So many federations, the first ones.
    pub federations: usize,
    /// So many seeds of each, the first ones.
    pub seeds: usize,
}

impl<'a> Scope<'a> {
    /// The whole bank.
    pub fn all(only: &'a str) -> Self {
        Self {
            only,
            federations: FEDERATIONS.len(),
            seeds: SEEDS.len(),
        }
    }
}

/// Runs methods on the study's own federations and seeds and compares them with their bank.
///
/// # Errors
/// See [`AttributionError`].
pub fn compare(
    bank: &Bank,
    methods: &Named<dyn Method>,
    scope: &Scope<'_>,
    progress: impl FnMut(&str),
) -> Result<Compared, AttributionError> {
    compare_on(bank, &Setup::own()?, methods, scope, progress)
}

/// The same with the federations of any ground.
fn compare_on(
    bank: &Bank,
    setup: &Setup,
    methods: &Named<dyn Method>,
    scope: &Scope<'_>,
    mut progress: impl FnMut(&str),
) -> Result<Compared, AttributionError> {
    bank.check(setup.fingerprint())?;
    let mut compared = Compared::default();
    // The hybrid is fitted on the federations of the other half.
    let mut fits = Vec::new();
    for (federation, cast) in FEDERATIONS.iter().enumerate().take(scope.federations) {
        let started = Instant::now();
        for (seed, number) in SEEDS.into_iter().enumerate().take(scope.seeds) {
            let stage = setup.stage(cast, number);
            let played = stage.play(Coalition::full(stage.held.len()));
            let trial = Trial {
                federation,
                seed,
                bank,
                stage: &stage,
                played: &played,
                only: scope.only,
            };
            let scored = rounds::measure(&trial, methods);
            compared.rounds.extend(scored.lines);
            let found = answers::measure(&trial, &scored.path);
            compared.answers.extend(found.lines);
            fits.push(found.fits);
        }
        let took = started.elapsed().as_secs_f64();
        progress(&format!("{}: {took:.1} s", cast.name));
    }
    compared.answers.extend(answers::hybrid(&fits));
    Ok(compared)
}

/// How one method did in one federation, with one seed, for the hold-out or one query.
#[derive(Clone, Debug)]
pub struct Line {
    method: String,
    federation: usize,
    agreement: Agreement,
    /// Time taken.
    ms: f64,
}
