//! A learner without a model: pulls every number of the adapter towards a target.
//!
//! Its loss is `mean (x - target)^2 / 2`, so federated rounds converge to the mean of the targets and
//! path scores are exact. Daemon tests use it where training a language model would only cost time.

use tributary_protocol::entry::{Join, Score, ScoreSheet};
use tributary_protocol::event::{ScoreTask, TrainTask, Trained};
use tributary_protocol::id::{NanoNats, RunId};

use super::{Cancel, Learner, Progress, WorkError};

/// Step towards the target in one local step.
const RATE: f32 = 0.1;

/// A learner without a model, which pulls every number towards one target.
#[derive(Clone, Copy, Debug)]
pub struct Quadratic {
    target: f32,
}

impl Quadratic {
    /// Pulls towards `target`.
    pub fn new(target: f32) -> Self {
        Self { target }
    }

    fn loss(&self, values: &[f32]) -> f64 {
        let sum: f64 = values
            .iter()
            .map(|x| f64::from(x - self.target).powi(2))
            .sum();
        sum / (2.0 * values.len() as f64)
    }
}

impl Learner for Quadratic {
    fn joined(&self, _: RunId, _: &Join) {}

    fn train(
        &self,
        task: &TrainTask,
        cancel: &Cancel,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Trained, WorkError> {
        let adapter = task.start();
        let mut values = adapter.values().to_vec();
        let segments = adapter.shape().trainable_segments(task.trainable);
        let tokens_per_step = u64::from(task.training.batch) * u64::from(task.training.context);
        let mut done = 0;
        for step in 0..task.training.local_steps {
            cancel.check()?;
            if step > 0 && cancel.is_hurried() {
                break;
            }
            done = step + 1;
            for segment in &segments {
                for value in &mut values[segment.range()] {
                    *value += RATE * (self.target - *value);
                }
            }
            progress(Progress {
                step: step + 1,
                steps: task.training.local_steps,
                loss: self.loss(&values),
                tokens: u64::from(step + 1) * tokens_per_step,
            });
        }
        let before = adapter.values();
        Ok(Trained {
            run: task.run,
            round: task.round,
            base: task.base,
            delta: values
                .iter()
                .zip(before)
                .map(|(new, old)| new - old)
                .collect(),
            tokens: u64::from(done) * tokens_per_step,
        })
    }

    /// The integral along a straight line is exact at the midpoint: the loss is quadratic.
    fn score(&self, task: &ScoreTask, cancel: &Cancel) -> Result<ScoreSheet, WorkError> {
        cancel.check()?;
        let before = task.before.values();
        let mut after = before.to_vec();
        for (_, contribution) in task.contributions.iter() {
            contribution.visit(|at, c| after[at] += c);
        }
        let length = before.len() as f64;
        let slope: Vec<f64> = (before.iter().zip(&after))
            .map(|(b, a)| (f64::from(b + a) / 2.0 - f64::from(self.target)) / length)
            .collect();
        let scores = (task.contributions.iter())
            .map(|(peer, c)| {
                let (mut sum, mut squares) = (0.0, 0.0);
                c.visit(|at, c| {
                    let term = slope[at] * f64::from(c);
                    sum += term;
                    squares += term * term;
                });
                let score = NanoNats::from_nats(-sum);
                Score {
                    peer: *peer,
                    score,
                    low: score,
                    high: score,
                    luck: NanoNats::from_nats(squares.sqrt()),
                }
            })
            .collect();
        Ok(ScoreSheet {
            round: task.round,
            state: task.state,
            predicted: u64::from(task.windows),
            loss_before: NanoNats::from_nats(self.loss(before)),
            loss_after: NanoNats::from_nats(self.loss(&after)),
            scores,
        })
    }
}

#[cfg(test)]
pub(crate) use samples::{score_task, train_task};

#[cfg(test)]
mod samples {
    use super::*;
    use std::sync::Arc;
    use tributary_protocol::adapter::{Adapter, AdapterShape, Module, Trainable};
    use tributary_protocol::aggregate::ContributionVector;
    use tributary_protocol::hash;
    use tributary_protocol::id::{PeerId, Ppb, Round, StateHash};
    use tributary_protocol::manifest::{FactorSchedule, Training};

    fn adapter() -> Arc<Adapter> {
        let shape = AdapterShape {
            rank: 2,
            alpha: 2,
            modules: vec![Module {
                name: "m".into(),
                inputs: 3,
                outputs: 3,
            }],
        };
        Arc::new(Adapter::new(Arc::new(shape), vec![0.0; 12]).unwrap())
    }

    pub(crate) fn train_task(round: u32) -> TrainTask {
        TrainTask {
            run: RunId(hash::blob(b"run")),
            round: Round(round),
            base: StateHash::default(),
            adapter: adapter(),
            shape: Arc::clone(adapter().shape()),
            trainable: Trainable::Both,
            training: Training {
                local_steps: 3,
                batch: 2,
                context: 4,
                learning_rate: Ppb(1000),
                schedule: FactorSchedule::Both,
            },
        }
    }

    pub(crate) fn score_task(round: u32) -> ScoreTask {
        ScoreTask {
            run: RunId(hash::blob(b"run")),
            round: Round(round),
            state: StateHash::default(),
            before: adapter(),
            trainable: Trainable::Both,
            contributions: Arc::new([
                (PeerId(hash::blob(&[1])), ContributionVector::of(&[0.5; 12])),
                (
                    PeerId(hash::blob(&[2])),
                    ContributionVector::of(&[-0.1; 12]),
                ),
            ]),
            public: Vec::new(),
            seed: hash::blob(b"seed"),
            windows: 4,
        }
    }

    #[test]
    fn scores_add_up_to_the_measured_drop() {
        let sheet = Quadratic::new(1.0)
            .score(&score_task(1), &Cancel::new())
            .unwrap();
        let sum: i64 = sheet.scores.iter().map(|s| s.score.0).sum();
        let drop = sheet.loss_before.0 - sheet.loss_after.0;
        // The numbers themselves are f32.
        assert!(
            (sum - drop).abs() <= drop / 1_000_000,
            "{sum} against {drop}"
        );
        assert!(sheet.scores[0].score.0 > 0 && sheet.scores[1].score.0 < 0);
    }
}
