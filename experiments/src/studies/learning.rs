//! Does a federation learn as much as one machine with all the text, and for how many bytes?
//!
//! Eight members with real LoRA on `brook`, the same tokens for every method: factor schedules and codecs of
//! the protocol, one machine with all the text (*centralised*), every member for itself (*alone*), and what
//! the literature starts from (FedIT, arXiv:2305.05644: both factors, dense f32, plain mean). Learning rates
//! are tried with a seed of their own first, and each method is measured at the best.
//!
//! `method` lists what is compared, `tables` makes the page of it.

mod method;
mod tables;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tributary_protocol::adapter::{Adapter, Trainable};
use tributary_protocol::hash::{self, Domain};
use tributary_protocol::id::Ppb;
use tributary_protocol::manifest::{Aggregation, Training};
use tributary_trainer::{BaseError, BaseModel, DataError, Session, TrainConfig, Windows};

use crate::learner::{Corpus, Holding, Language, Mix, mean};
use crate::study::{
    Cells, Ground, GroundError, Outcome, Results, ResultsError, Study, Takes, Work,
};
use method::{Federated, Method, Way};
use tributary_simulations::federation::{Federation, Terms};

pub use tables::{Setting, figures, markdown};

/// Members, one for each domain, unless others are asked for.
pub const MEMBERS: usize = 8;
/// Rounds of a run; even, so that `alternate` trains both factors equally often.
pub const ROUNDS: u32 = 24;
/// Local steps of a round.
pub const STEPS: u32 = 4;
/// Windows of a step.
pub const BATCH: u32 = 1;
/// Tokens of a window.
pub const CONTEXT: usize = 64;
/// Windows that each member holds: its run sees each once.
pub const HELD: usize = (ROUNDS * STEPS * BATCH) as usize;
/// LoRA rank, unless a method says otherwise.
pub const RANK: u32 = 8;
/// Hold-out windows of each domain; every second one is reported on.
const HOLD_OUT: usize = 48;
/// The seed that rates are tried with; none of the measured ones.
const TUNING_SEED: u64 = 0;
/// Seeds measured.
pub const SEEDS: [u64; 3] = [1, 2, 3];
/// One domain a member.
const DOMAINS: Mix = Mix::Domains { first: 0 };
/// How the text is dealt out.
pub const MIXES: [Mix; 3] = [
    DOMAINS,
    Mix::Dirichlet { concentration: 0.1 },
    Mix::Dirichlet { concentration: 0.5 },
];

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum LearningError {
    /// The base model.
    #[error(transparent)]
    Base(#[from] BaseError),
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

/// One federation: a method on a mix, with a rate and a seed.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    mix: Mix,
    method: Method,
    rate: f64,
    seed: u64,
}

/// What a cell came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Learned {
    /// Loss on each domain's hold-out, nats per token; `None` where the model computes none. Alone: the
    /// mean over members.
    losses: Vec<Option<f64>>,
    /// Mean over members of the loss on their own mix of domains.
    own: Option<f64>,
    /// Bytes that a member uploads during the run, mean over members.
    upload_bytes: f64,
    /// Tokens predicted in training, all members together.
    tokens: u64,
    /// Time taken.
    wall_s: f64,
}

impl Learned {
    /// Every domain counts the same.
    fn loss(&self) -> Option<f64> {
        let losses: Option<Vec<f64>> = self.losses.iter().copied().collect();
        losses.map(|losses| mean(&losses))
    }
}

impl fmt::Display for Learned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.loss() {
            Some(loss) => write!(f, "loss {loss:.4}")?,
            None => f.write_str("diverged")?,
        }
        let Self {
            tokens,
            upload_bytes,
            wall_s,
            ..
        } = self;
        write!(
            f,
            ", {upload_bytes:.0} bytes a member, {tokens} tokens, {wall_s:.1} s"
        )
    }
}

fn mix_name(mix: Mix) -> String {
    match mix {
        Mix::Domains { .. } | Mix::Pairs { .. } => "domains".to_owned(),
        Mix::Dirichlet { concentration } => format!("Dirichlet {concentration}"),
    }
}

impl Cell {
    /// Tries a rate.
    fn tuning(method: Method, rate: f64) -> Self {
        Self {
            mix: DOMAINS,
            method,
            rate,
            seed: TUNING_SEED,
        }
    }

    fn name(&self) -> String {
        let (mix, method) = (mix_name(self.mix), self.method.name);
        format!("{mix}; {method}; rate {}; seed {}", self.rate, self.seed)
    }
}

/// Cells that find the rates.
fn tuning() -> Vec<Cell> {
    let tuned = Method::all().into_iter().filter(|m| m.tuned_as == m.name);
    tuned
        .flat_map(|method| method.rates.map(|rate| Cell::tuning(method, rate)))
        .collect()
}

/// The best rate for a method, once all were tried.
fn rate(method: &Method, results: &Results<Learned>) -> Option<f64> {
    let mut best: Option<(f64, f64)> = None;
    for cell in tuning().iter().filter(|c| c.method.name == method.tuned_as) {
        let loss = results.get(&cell.name())?.loss().unwrap_or(f64::INFINITY);
        if best.is_none_or(|(least, _)| loss < least) {
            best = Some((loss, cell.rate));
        }
    }
    best.map(|(_, rate)| rate)
}

/// Cells that are measured, for the methods whose rate is known; of each mix the methods first that are
/// measured on all of them.
fn measured(results: &Results<Learned>) -> Vec<Cell> {
    let mut cells = Vec::new();
    for mix in MIXES {
        for everywhere in [true, false] {
            let wanted =
                |m: &Method| m.on_every_mix == everywhere && (everywhere || mix == DOMAINS);
            for seed in SEEDS {
                for method in Method::all().into_iter().filter(wanted) {
                    let rate = rate(&method, results);
                    cells.extend(rate.map(|rate| Cell {
                        mix,
                        method,
                        rate,
                        seed,
                    }));
                }
            }
        }
    }
    cells
}

/// Does a federation learn as much as one machine with all the text?
pub struct LearningStudy;

/// The same on one ground.
struct Comparison {
    ground: Ground,
    members: usize,
}

impl Comparison {
    fn base(&self) -> Result<BaseModel, LearningError> {
        match self.ground.base()? {
            Some(base) => Ok(base),
            None => Ok(BaseModel::brook()?),
        }
    }
}

/// The base model, and its text.
pub struct Setup {
    members: usize,
    base: BaseModel,
    corpus: Corpus,
}

impl Cells for Comparison {
    type Cell = Cell;
    type Result = Learned;
    type Setup = Setup;
    type Error = LearningError;

    /// Measured cells are known once their method's rates were tried.
    fn cells(&self, results: &Results<Learned>) -> Vec<Cell> {
        [tuning(), measured(results)].concat()
    }

    fn cell_name(&self, cell: &Cell) -> String {
        cell.name()
    }

    fn setup(&self) -> Result<Setup, LearningError> {
        let base = self.base()?;
        let corpus = match self.ground.corpus(&base, CONTEXT, HOLD_OUT)? {
            Some(corpus) => corpus,
            None => Corpus::new(&base, CONTEXT, HOLD_OUT)?,
        };
        Ok(Setup {
            members: self.members,
            base,
            corpus,
        })
    }

    fn compute(&self, setup: &mut Setup, cell: &Cell) -> Learned {
        compute(cell, setup)
    }
}

impl Study for LearningStudy {
    fn name(&self) -> &'static str {
        "learning"
    }

    fn about(&self) -> &'static str {
        "Schedules and codecs with real LoRA, against one machine with all the text and against FedIT"
    }

    fn takes(&self) -> &'static [Takes] {
        &[Takes::Cells, Takes::Ground]
    }

    fn run(&self, work: &Work<'_>) -> Result<Option<Outcome>, Box<dyn Error>> {
        let comparison = Comparison {
            ground: work.ground().clone(),
            members: work.ground().members(MEMBERS)?,
        };
        let (results, _) = work.fill(&comparison)?;
        let setting = Setting {
            members: comparison.members,
            what: comparison.ground.words("the demo's eight domains", "brook"),
            shape: comparison.base()?.adapter_shape(RANK, 2 * RANK),
        };
        let markdown = markdown(&results, &work.command(), &setting);
        Ok(Some(Outcome::new(&figures(&results), markdown)))
    }
}

fn compute(cell: &Cell, setup: &Setup) -> Learned {
    let started = Instant::now();
    let (base, corpus) = (&setup.base, &setup.corpus);
    let dealt = corpus.deal(cell.mix, setup.members, HELD, cell.seed);
    let mut learned = match cell.method.way {
        Way::Federated(how) => federated(cell, &how, base, corpus, &dealt),
        Way::Centralised { steps } => centralised(cell, steps, base, corpus, &dealt),
        Way::Alone => alone(cell, base, corpus, &dealt),
    };
    learned.wall_s = started.elapsed().as_secs_f64();
    learned
}

fn language(
    cell: &Cell,
    rank: u32,
    base: &BaseModel,
    corpus: &Corpus,
    dealt: &[Holding],
) -> Language {
    let shape = base.adapter_shape(rank, 2 * rank);
    let shares = dealt.iter().map(|holding| holding.windows.clone());
    let hold_outs: Vec<Windows> = corpus.domains.iter().map(|d| d.hold_out.clone()).collect();
    Language::new(
        base.clone(),
        shape.into(),
        cell.seed,
        shares.collect(),
        &hold_outs,
    )
}

fn federated(
    cell: &Cell,
    how: &Federated,
    base: &BaseModel,
    corpus: &Corpus,
    dealt: &[Holding],
) -> Learned {
    let learner = language(cell, how.rank, base, corpus, dealt);
    let terms = Terms {
        training: Training {
            local_steps: ROUNDS * STEPS / how.rounds,
            batch: BATCH,
            context: CONTEXT as u32,
            learning_rate: Ppb((cell.rate * 1e9).round() as u32),
            schedule: how.schedule,
        },
        codec: how.codec,
        rule: Arc::new(Aggregation::Mean),
        outer: how.outer,
        weight: how.weight,
    };
    let local_steps = terms.training.local_steps;
    let members = dealt.len();
    let ranks = (0..members).map(|member| how.rank / how.ranks[member % MEMBERS]);
    let mut federation =
        Federation::new(learner.shape().clone(), cell.seed, members, terms).with_ranks(ranks);
    let (mut bytes, mut tokens) = (0, 0);
    for _ in 0..how.rounds {
        let pace = |member: usize| (local_steps / how.pace[member % MEMBERS]).max(1);
        let trained = federation.train(&learner, 0..members, pace);
        bytes += trained
            .iter()
            .map(|(_, sent)| sent.blob.len())
            .sum::<usize>();
        tokens += trained.iter().map(|(_, sent)| sent.tokens).sum::<u64>();
        let sent: Vec<_> = trained.into_iter().map(|(_, sent)| sent).collect();
        federation.close(&sent);
    }
    let losses = learner.domain_losses(Some(federation.adapter()));
    let models = vec![losses; members];
    learned(&models, dealt, bytes as f64 / members as f64, tokens)
}

/// One machine with everybody's windows.
fn centralised(
    cell: &Cell,
    steps: u32,
    base: &BaseModel,
    corpus: &Corpus,
    dealt: &[Holding],
) -> Learned {
    let learner = language(cell, RANK, base, corpus, dealt);
    let mut all = dealt[0].windows.clone();
    for holding in &dealt[1..] {
        all.join(holding.windows.clone());
    }
    // The same tokens as all members together, in more or in larger steps.
    let (members, together) = (dealt.len() as u32, ROUNDS * STEPS);
    let steps = match steps > together {
        true => together * members,
        false => steps,
    };
    let batch = members * BATCH * together / steps;
    let (adapter, tokens) = by_itself(&learner, all, cell, steps, batch);
    let models = vec![learner.domain_losses(Some(&adapter)); dealt.len()];
    learned(&models, dealt, 0.0, tokens)
}

/// Every member for itself.
fn alone(cell: &Cell, base: &BaseModel, corpus: &Corpus, dealt: &[Holding]) -> Learned {
    let learner = language(cell, RANK, base, corpus, dealt);
    let (mut models, mut tokens) = (Vec::new(), 0);
    for holding in dealt {
        let windows = holding.windows.clone();
        let (adapter, trained) = by_itself(&learner, windows, cell, ROUNDS * STEPS, BATCH);
        models.push(learner.domain_losses(Some(&adapter)));
        tokens += trained;
    }
    learned(&models, dealt, 0.0, tokens)
}

/// Training of both factors without a break, from the first adapter of the federation.
fn by_itself(
    learner: &Language,
    windows: Windows,
    cell: &Cell,
    steps: u32,
    batch: u32,
) -> (Adapter, u64) {
    let seed = hash::digest(Domain::Simulation, &cell.seed.to_le_bytes());
    let start = Adapter::init(learner.shape().clone(), &seed);
    let config = TrainConfig {
        steps,
        batch: batch as usize,
        learning_rate: cell.rate,
        trainable: Trainable::Both,
        seed: cell.seed,
        ..TrainConfig::default()
    };
    let mut session = Session::new(learner.base(), &start, windows, config)
        .expect("members hold windows, and the adapter is of the base");
    // A training that diverges keeps what it had; its loss shows it.
    while !session.is_done() && session.step().is_ok() {}
    (session.adapter().clone(), session.predicted())
}

/// `models[i]` are the losses by domain of what member `i` ends up with.
fn learned(models: &[Vec<f64>], dealt: &[Holding], upload_bytes: f64, tokens: u64) -> Learned {
    let finite = |loss: f64| loss.is_finite().then_some(loss);
    let by_domain = |domain: usize| {
        let losses: Vec<f64> = models.iter().map(|losses| losses[domain]).collect();
        finite(mean(&losses))
    };
    let own = |(losses, holding): (&Vec<f64>, &Holding)| -> f64 {
        let parts = losses.iter().zip(&holding.proportions);
        parts.map(|(loss, part)| loss * part).sum()
    };
    let owns: Vec<f64> = models.iter().zip(dealt).map(own).collect();
    Learned {
        losses: (0..models[0].len()).map(by_domain).collect(),
        own: finite(mean(&owns)),
        upload_bytes,
        tokens,
        wall_s: 0.0,
    }
}

#[cfg(test)]
mod tests;
