//! The production [`Learner`]: trains and scores a real model on what this peer committed to.
//!
//! The join names the Merkle root of the passages, the home holds them frozen under that root, and
//! they name the base. So a restart finds the same text and the same model, whatever the owner added
//! since. Windows are cut once per run and kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tributary_attribution::path;
use tributary_attribution::utility::{self, Gradient};
use tributary_protocol::adapter::{Adapter, AdapterShape, Trainable};
use tributary_protocol::entry::{Join, ScoreSheet};
use tributary_protocol::event::{ScoreTask, TrainTask, Trained};
use tributary_protocol::hash::{Digest, Domain, Hasher};
use tributary_protocol::id::{MerkleRoot, PeerId, RunId};
use tributary_trainer::{
    BaseModel, Control, DataError, Session, StepReport, TrainConfig, Windows, evaluate, gradient,
};

use super::{by_hash, windows};
use crate::home::HomePaths;
use crate::shard::Committed;
use crate::work::{Cancel, Learner, Progress, WorkError};

/// Windows of one batch of the path integral; each batch is one term of the interval.
const BATCH_WINDOWS: usize = 4;
/// Hold-out windows that an evaluator needs: two batches, or there is no interval.
pub const MIN_WINDOWS: usize = 2 * BATCH_WINDOWS;

/// What one run needs.
struct RunData {
    base: BaseModel,
    train: Option<Windows>,
    holdout: Option<Windows>,
}

/// Trains and scores the real model of each run, on the text that this peer committed to.
pub struct ModelLearner {
    home: HomePaths,
    peer: PeerId,
    roots: Mutex<BTreeMap<RunId, MerkleRoot>>,
    data: Mutex<BTreeMap<MerkleRoot, Arc<RunData>>>,
}

impl ModelLearner {
    /// For the peer `peer` with the committed shards of `home`.
    pub fn new(home: HomePaths, peer: PeerId) -> Self {
        Self {
            home,
            peer,
            roots: Mutex::default(),
            data: Mutex::default(),
        }
    }

    fn data_of(&self, run: RunId) -> Result<Arc<RunData>, WorkError> {
        let roots = self.roots.lock();
        let root = roots.get(&run).copied().ok_or_else(|| {
            WorkError::Failed(format!(
                "this peer committed to no data for run {}",
                run.short()
            ))
        })?;
        drop(roots);
        let mut opened = self.data.lock();
        if let Some(data) = opened.get(&root) {
            return Ok(data.clone());
        }
        let data = Arc::new(self.open(&root).map_err(WorkError::Failed)?);
        opened.insert(root, data.clone());
        Ok(data)
    }

    fn open(&self, root: &MerkleRoot) -> Result<RunData, String> {
        let committed = Committed::read(&self.home, root).map_err(|e| e.to_string())?;
        let base = by_hash(&self.home, &committed.base())
            .map_err(|e| e.to_string())?
            .ok_or_else(|| {
                format!(
                    "the base model {} is not on this machine; join the run again with --base DIR",
                    committed.base().short()
                )
            })?;
        let cut = |passages: &[String]| match passages.is_empty() {
            true => Ok(None),
            false => windows(&base, passages, committed.context()).map(Some),
        };
        Ok(RunData {
            train: cut(&committed.train).map_err(|e| e.to_string())?,
            holdout: held(&base, &committed).map_err(|e| e.to_string())?,
            base,
        })
    }

    /// The same peer, round and state give the same order of windows.
    fn seed(&self, task: &TrainTask) -> u64 {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"order of windows");
        hasher.update(self.peer.as_bytes());
        hasher.update(task.base.as_bytes());
        hasher.finalize_xof().next_u64()
    }
}

/// Places of the windows that a round is scored on, of `windows` in a hold-out, rising. `seed` is the
/// certificate's, `score_windows` the manifest's.
pub fn drawn(seed: &Digest, score_windows: u32, windows: usize) -> Vec<usize> {
    let count = (score_windows as usize).max(MIN_WINDOWS);
    Windows::draw(seed.as_bytes(), windows, count)
}

/// The committed hold-out; `None` when there is none.
fn held(base: &BaseModel, committed: &Committed) -> Result<Option<Windows>, DataError> {
    if committed.holdout.is_empty() {
        return Ok(None);
    }
    let context = committed.context() as usize;
    Windows::from_tokens(committed.holdout.clone(), context, base.config().vocab).map(Some)
}

fn failed(e: impl std::fmt::Display) -> WorkError {
    WorkError::Failed(e.to_string())
}

impl Learner for ModelLearner {
    fn joined(&self, run: RunId, join: &Join) {
        let mut roots = self.roots.lock();
        roots.insert(run, join.root);
    }

    fn train(
        &self,
        task: &TrainTask,
        cancel: &Cancel,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Trained, WorkError> {
        let data = self.data_of(task.run)?;
        let windows = data
            .train
            .clone()
            .ok_or_else(|| failed("this peer committed to no text to train on"))?;
        let config = TrainConfig {
            steps: task.training.local_steps,
            batch: task.training.batch as usize,
            learning_rate: task.training.learning_rate.as_f64(),
            trainable: task.trainable,
            seed: self.seed(task),
            ..TrainConfig::default()
        };
        let mut session =
            Session::new(&data.base, &task.start(), windows, config).map_err(failed)?;
        let mut tokens = 0;
        let mut report = |step: &StepReport| {
            tokens += step.predicted;
            progress(Progress {
                step: step.step,
                steps: step.steps,
                loss: step.loss,
                tokens,
            });
            match cancel.is_cancelled() || cancel.is_hurried() {
                true => Control::Stop,
                false => Control::Continue,
            }
        };
        session.run(&mut report).map_err(failed)?;
        cancel.check()?;
        Ok(Trained {
            run: task.run,
            round: task.round,
            base: task.base,
            tokens: session.predicted(),
            delta: session.finish(),
        })
    }

    fn score(&self, task: &ScoreTask, cancel: &Cancel) -> Result<ScoreSheet, WorkError> {
        let data = self.data_of(task.run)?;
        let holdout = (data.holdout.as_ref())
            .ok_or_else(|| failed("this peer committed to no text to score on"))?;
        let drawn = holdout.pick(&drawn(&task.seed, task.windows, holdout.len()));
        score_windows(&data.base, task, drawn, cancel)
    }
}

/// The sheet of a round by these windows.
pub(crate) fn score_windows(
    base: &BaseModel,
    task: &ScoreTask,
    drawn: Windows,
    cancel: &Cancel,
) -> Result<ScoreSheet, WorkError> {
    let mut measure = Measure::new(base, task, drawn, cancel)?;
    let scores = path::score(
        task.before.values(),
        &task.contributions,
        &task.public,
        &mut measure,
    );
    match scores {
        Ok(scores) => Ok(scores.sheet(task.round, task.state)),
        Err(_) if cancel.is_cancelled() => Err(WorkError::Cancelled),
        Err(e) => Err(failed(e)),
    }
}

/// Losses and gradients of the drawn hold-out, for the path integral.
struct Measure<'a> {
    base: &'a BaseModel,
    shape: Arc<AdapterShape>,
    trainable: Trainable,
    batches: Vec<Windows>,
    cancel: &'a Cancel,
}

impl<'a> Measure<'a> {
    fn new(
        base: &'a BaseModel,
        task: &ScoreTask,
        drawn: Windows,
        cancel: &'a Cancel,
    ) -> Result<Self, WorkError> {
        let all: Vec<Vec<u32>> = drawn.iter().map(<[u32]>::to_vec).collect();
        let vocab = base.config().vocab;
        // The last batch takes the rest, so that none is small.
        let mut batches: Vec<Vec<Vec<u32>>> =
            all.chunks(BATCH_WINDOWS).map(<[_]>::to_vec).collect();
        if let Some(last) = batches.pop_if(|last| last.len() < BATCH_WINDOWS)
            && let Some(before) = batches.last_mut()
        {
            before.extend(last);
        }
        let batches: Result<Vec<Windows>, _> = (batches.into_iter())
            .map(|windows| Windows::from_tokens(windows, drawn.context(), vocab))
            .collect();
        let shape = task.before.shape().clone();
        Ok(Self {
            base,
            trainable: task.trainable,
            shape,
            batches: batches.map_err(failed)?,
            cancel,
        })
    }

    fn at(&self, point: &[f32]) -> Result<Adapter, WorkError> {
        self.cancel.check()?;
        Adapter::new(self.shape.clone(), point.to_vec()).map_err(failed)
    }
}

impl Gradient for Measure<'_> {
    type Error = WorkError;

    fn batches(&self) -> Vec<u64> {
        self.batches.iter().map(Windows::predicted).collect()
    }

    fn loss(&mut self, batch: usize, point: &[f32]) -> Result<f64, WorkError> {
        let adapter = self.at(point)?;
        let found = evaluate(self.base, Some(&adapter), &self.batches[batch]).map_err(failed)?;
        Ok(found.nll)
    }

    fn loss_gradient(
        &mut self,
        batch: usize,
        point: &[f32],
    ) -> Result<utility::LossGradient, WorkError> {
        let adapter = self.at(point)?;
        let windows = &self.batches[batch];
        let found =
            gradient::partial_loss_and_gradient(self.base, &adapter, self.trainable, windows)
                .map_err(failed)?;
        Ok(utility::LossGradient {
            loss: found.loss,
            gradient: found.gradient,
        })
    }
}
