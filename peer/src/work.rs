//! Training and scoring, away from the event loop.
//!
//! The node asks for work with `Effect::Train` and `Effect::Score`; a [`Learner`] does it on a thread
//! that may block. Tests learn a quadratic; production uses the trainer (`model::learner`). What the
//! numbers mean belongs to the learner; when to work and what to do with the outcome to the node.

pub(crate) mod bench;
pub mod quadratic;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tributary_protocol::entry::{Join, ScoreSheet};
use tributary_protocol::event::{ScoreTask, TrainTask, Trained};
use tributary_protocol::id::RunId;

/// Does the work of a member of a run. Called from worker threads, never from the event loop.
pub trait Learner: Send + Sync + 'static {
    /// This peer follows `run` and asked for this membership (or did so before a restart). `join.root`
    /// names the shard or hold-out that later work of the run must use.
    fn joined(&self, run: RunId, join: &Join);

    /// Trains locally.
    ///
    /// # Errors
    /// See [`WorkError`].
    fn train(
        &self,
        task: &TrainTask,
        cancel: &Cancel,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Trained, WorkError>;

    /// Scores a certified round on this peer's hold-out.
    ///
    /// # Errors
    /// See [`WorkError`].
    fn score(&self, task: &ScoreTask, cancel: &Cancel) -> Result<ScoreSheet, WorkError>;
}

/// How far local training is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub step: u32,
    /// Steps in all.
    pub steps: u32,
    /// Loss of the last batch, nats per token.
    pub loss: f64,
    /// Tokens trained on so far.
    pub tokens: u64,
}

/// Why work came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// Superseded or no longer wanted.
    #[error("the work was cancelled")]
    Cancelled,
    /// It cannot be done here.
    #[error("{0}")]
    Failed(String),
}

/// Says when work is no longer wanted, or wanted soon.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicU8>);

const CANCELLED: u8 = 1;
const FINISHED: u8 = 2;
const HURRIED: u8 = 4;

impl Cancel {
    /// Not cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }
    /// Asks the work to stop; it does so at its next step.
    pub fn cancel(&self) {
        self.0.fetch_or(CANCELLED, Ordering::Relaxed);
    }
    /// Whether to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) & CANCELLED != 0
    }
    /// Asks training to end with its next step and to hand back what it has.
    pub fn hurry(&self) {
        self.0.fetch_or(HURRIED, Ordering::Relaxed);
    }
    /// Whether to end with what there is.
    pub fn is_hurried(&self) -> bool {
        self.0.load(Ordering::Relaxed) & HURRIED != 0
    }
    fn finish(&self) {
        self.0.fetch_or(FINISHED, Ordering::Relaxed);
    }
    fn is_finished(&self) -> bool {
        self.0.load(Ordering::Relaxed) & FINISHED != 0
    }
    /// `Err(WorkError::Cancelled)` once cancelled; for use with `?` between steps.
    ///
    /// # Errors
    /// [`WorkError::Cancelled`].
    pub fn check(&self) -> Result<(), WorkError> {
        if self.is_cancelled() {
            return Err(WorkError::Cancelled);
        }
        Ok(())
    }
}

/// How many pieces of work may run at once; shared by all peers of a process, so that nine of them
/// do not fight over two cores.
#[derive(Clone, Debug)]
pub struct Slots(pub(crate) Arc<tokio::sync::Semaphore>);

impl Slots {
    /// At most `count` pieces of work at a time (at least one).
    pub fn new(count: usize) -> Self {
        Self(Arc::new(tokio::sync::Semaphore::new(count.max(1))))
    }
}
