//! What the peers of a simulated federation learn.
//!
//! A learner answers the node's `Train` and `Score` effects from the task alone, so that an answer depends on nothing
//! but the seed. It takes the place that the trainer has in the daemon. A scenario chooses it by name.

mod quadratic;
mod steps;

pub use quadratic::{Quadratic, normal};
pub use steps::{descend, score_by_path, unscored};

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tributary_protocol::adapter::{AdapterShape, Module};
use tributary_protocol::entry::ScoreSheet;
use tributary_protocol::event::{ScoreTask, TrainTask, Trained};
use tributary_protocol::hash::{self, Digest, Domain};
use tributary_protocol::id::RunId;
use tributary_protocol::manifest::Base;
use tributary_protocol::sketch::Sketch;

use crate::named::{Named, Unknown};

/// What is learnt.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LearnerPlan {
    /// The name of the learner, see [`Catalogue::learners`](crate::catalogue::Catalogue::learners).
    pub kind: String,
    /// Parameters of the adapter of a learner whose losses are formulas; even.
    #[serde(default = "some_numbers")]
    pub dimension: usize,
    /// Standard deviation of the peers' optima around the common one, of such a learner.
    #[serde(default = "some_spread")]
    pub spread: f64,
    /// Standard deviation of one training step's gradient, and of one hold-out window, of such a learner.
    #[serde(default = "some_noise")]
    pub noise: f64,
    /// The base model of a learner that trains one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Files and folders of text, of a learner that trains on text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts: Option<Texts>,
    /// Rank of the adapter of a learner that trains a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// Its alpha: the adapter's product is scaled by alpha / rank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<u32>,
    /// Windows of one step; what is usual for the learner when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// Tokens of one window; what is usual for the learner when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
    /// Hold-out windows that an evaluator scores a round on; what is usual for the learner when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<u32>,
    /// Gradient steps a round.
    pub steps: u32,
    /// Step size.
    pub learning_rate: f64,
    /// Virtual time that a peer of ordinary speed trains.
    pub train_ms: u64,
    /// How much faster or slower the others are: 0.5 draws factors between 0.5 and 1.5.
    pub train_spread: f64,
    /// Virtual time of one scoring.
    pub score_ms: u64,
    /// Virtual time of an ordinary peer for each computation that its node asks for. Zero: at once.
    #[serde(default)]
    pub compute_ms: u64,
    /// What the learner asks for beyond that.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub options: toml::Table,
}

fn some_numbers() -> usize {
    48
}

fn some_spread() -> f64 {
    0.6
}

fn some_noise() -> f64 {
    0.05
}

/// One file or folder, or several.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Texts {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Texts {
    /// All of them.
    pub fn paths(&self) -> &[String] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }
}

/// The peers of a scenario, and which of them train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members {
    /// All peers, evaluators and late joiners included.
    pub peers: usize,
    /// How many of them score: those behind peer 0.
    pub evaluators: usize,
    /// How many of them, the last, are names of one owner and hold one text.
    pub names: usize,
}

impl Members {
    /// The peers that train, by their index.
    pub fn contributors(self) -> impl Iterator<Item = usize> {
        (0..self.peers).filter(move |at| !self.is_evaluator(*at))
    }

    /// Whose text a peer holds: its own, or that of its owner's first name.
    pub fn text_of(self, at: usize) -> usize {
        let first = self.peers.saturating_sub(self.names);
        if at >= first { at.min(first) } else { at }
    }

    /// Whether this peer scores instead of training.
    pub fn is_evaluator(self, at: usize) -> bool {
        (1..=self.evaluators).contains(&at)
    }
}

/// What a run trains, as its manifest says it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Name of the Datanet.
    pub datanet: String,
    /// The model that is adapted.
    pub base: Base,
    /// The shape of the adapter.
    pub adapter: AdapterShape,
    /// Windows of one step.
    pub batch: u32,
    /// Tokens of one window.
    pub context: u32,
    /// Hold-out windows that an evaluator scores a round on.
    pub windows: u32,
}

impl Subject {
    /// Two factors of half of a plan's numbers each, whose losses are formulas.
    fn of_formulas(plan: &LearnerPlan) -> Self {
        let half = (plan.dimension / 2) as u32;
        Self {
            datanet: "bowls".into(),
            base: Base {
                name: "quadratic".into(),
                hash: hash::digest(Domain::Simulation, b"quadratic"),
                files: None,
            },
            adapter: AdapterShape {
                rank: 1,
                alpha: 1,
                modules: vec![Module {
                    name: "bowl".into(),
                    inputs: half,
                    outputs: half,
                }],
            },
            batch: plan.batch.unwrap_or(1),
            context: plan.context.unwrap_or(16),
            windows: plan.windows.unwrap_or(4),
        }
    }
}

/// A federation's common task. Peers are named by their index in the scenario.
pub trait Learner {
    /// Local training of `peer`.
    fn train(&self, peer: usize, task: &TrainTask) -> Trained;

    /// Scoring of a certified round by `peer`.
    fn score(&self, peer: usize, task: &ScoreTask) -> ScoreSheet;

    /// The common loss at an adapter's flat numbers, without noise; what the run is for.
    fn loss(&self, values: &[f32]) -> f64;

    /// What the run's manifest says of it.
    fn subject(&self, plan: &LearnerPlan) -> Subject {
        Subject::of_formulas(plan)
    }

    /// Tokens that `peer` claims to hold when it joins.
    fn tokens(&self, peer: usize) -> u64 {
        1_000 + peer as u64
    }

    /// The sketch of the text that `peer` holds.
    fn sketch(&self, _run: RunId, peer: usize) -> Sketch {
        sketch_of_nothing(peer)
    }

    /// The unit of losses and scores, for figures.
    fn loss_unit(&self) -> &'static str {
        "no unit"
    }
}

/// Prints of a peer's text where there is none, and how many of them its neighbour holds as well.
const PRINTS: u64 = 40;
const SHARED: u64 = 10;

/// Of the text that is held by the run's member number `at`: a part of it is a neighbour's too.
fn sketch_of_nothing(at: usize) -> Sketch {
    let first = at as u64 * (PRINTS - SHARED);
    let print = |run: u64| hash::digest(Domain::Simulation, &run.to_le_bytes());
    let short = |digest: Digest| {
        digest
            .as_bytes()
            .iter()
            .take(8)
            .fold(0, |n, byte| n << 8 | u64::from(*byte))
    };
    Sketch::keeping((first..first + PRINTS).map(|run| short(print(run))))
}

/// Makes a learner for these peers from its plan and a seed; an error says what to write instead.
pub type MakeLearner =
    dyn Fn(&LearnerPlan, Members, u64) -> Result<Box<dyn Learner>, String> + Send + Sync;

/// The learner that trains a real model. It needs the trainer, so that only some programs have it.
pub const LANGUAGE: &str = "language";

/// Says of a learner that this program does not have which program has it.
pub(crate) fn elsewhere(unknown: Unknown) -> Unknown {
    match unknown.name.as_str() {
        LANGUAGE => unknown.because(
            "the learner `language` trains a real model, which this program cannot; run the scenario \
             with `tributary-lab run`",
        ),
        _ => unknown,
    }
}

/// The built-in learners.
pub(crate) fn built_in() -> Named<MakeLearner> {
    let mut learners: Named<MakeLearner> = Named::new("learner");
    learners.add(
        "quadratic",
        "a convex quadratic for each peer, with an optimum of its own",
        Arc::new(|plan: &LearnerPlan, members: Members, seed| {
            let trains_models = [
                ("model", plan.model.is_some()),
                ("texts", plan.texts.is_some()),
                ("rank", plan.rank.is_some()),
                ("alpha", plan.alpha.is_some()),
            ];
            if let Some((key, _)) = trains_models.iter().find(|(_, is_set)| *is_set) {
                return Err(format!(
                    "`learner.{key}` is for learners that train a model, and `quadratic` trains none; remove \
                     it or write `kind = \"language\"`"
                ));
            }
            match plan.options.is_empty() {
                true => Ok(Box::new(Quadratic::new(plan, members, seed)) as Box<dyn Learner>),
                false => Err("`learner.options` must be empty: `quadratic` has none".into()),
            }
        }),
    );
    learners
}
