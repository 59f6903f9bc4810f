//! What the peers of a simulated federation learn.
//!
//! A learner answers the node's `Train` and `Score` effects from the task alone, so that an answer depends on nothing
//! but the seed. It takes the place that the trainer has in the daemon. A scenario chooses it by name.

mod quadratic;
mod steps;

pub use quadratic::{Quadratic, normal};
pub use steps::{descend, score_by_path};

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tributary_protocol::entry::ScoreSheet;
use tributary_protocol::event::{ScoreTask, TrainTask, Trained};

use crate::named::Named;

/// What is learnt.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LearnerPlan {
    /// The name of the learner, see [`Catalogue::learners`](crate::catalogue::Catalogue::learners).
    pub kind: String,
    /// Parameters of the adapter; even.
    pub dimension: usize,
    /// Standard deviation of the peers' optima around the common one.
    pub spread: f64,
    /// Standard deviation of one training step's gradient, and of one hold-out window.
    pub noise: f64,
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

/// A federation's common task. Peers are named by their index in the scenario.
pub trait Learner {
    /// Local training of `peer`.
    fn train(&self, peer: usize, task: &TrainTask) -> Trained;

    /// Scoring of a certified round by `peer`.
    fn score(&self, peer: usize, task: &ScoreTask) -> ScoreSheet;

    /// The common loss at an adapter's flat numbers, without noise; what the run is for.
    fn loss(&self, values: &[f32]) -> f64;

    /// The unit of losses and scores, for figures.
    fn loss_unit(&self) -> &'static str {
        "no unit"
    }
}

/// Makes a learner for so many peers from its plan and a seed; an error says what to write instead.
pub type MakeLearner =
    dyn Fn(&LearnerPlan, usize, u64) -> Result<Box<dyn Learner>, String> + Send + Sync;

/// The built-in learners.
pub(crate) fn built_in() -> Named<MakeLearner> {
    let mut learners: Named<MakeLearner> = Named::new("learner");
    learners.add(
        "quadratic",
        "a convex quadratic for each peer, with an optimum of its own",
        Arc::new(
            |plan: &LearnerPlan, peers, seed| match plan.options.is_empty() {
                true => Ok(Box::new(Quadratic::new(plan, peers, seed)) as Box<dyn Learner>),
                false => Err("`learner.options` must be empty: `quadratic` has none".into()),
            },
        ),
    );
    learners
}
