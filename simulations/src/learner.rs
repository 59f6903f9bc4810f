//! What the peers of a simulated federation learn.
//!
//! A learner answers the node's `Train` and `Score` effects from the task alone, so that an answer
//! depends on nothing but the seed. It stands where the trainer stands in the daemon.

mod corpus;
mod language;
mod quadratic;
mod rill;

pub use corpus::{Corpus, Holding, Mix, TextDomain};
pub use language::{Language, Measure, mean};
pub use quadratic::Quadratic;
pub use rill::{RillError, rill};

use tributary_protocol::entry::ScoreSheet;
use tributary_protocol::event::{ScoreTask, TrainTask, Trained};

/// A federation's common task. Peers are named by their index in the scenario.
pub trait Learner {
    /// Local training of `peer`.
    fn train(&self, peer: usize, task: &TrainTask) -> Trained;
    /// Scoring of a certified round by `peer`.
    fn score(&self, peer: usize, task: &ScoreTask) -> ScoreSheet;
    /// The common loss at an adapter's flat numbers, without noise; what the run is for.
    fn loss(&self, values: &[f32]) -> f64;
}
