//! One contributor's local training of an adapter, step by step.
//!
//! A session starts from the certified adapter and ends with the difference it made. It moves only the
//! factors that the round trains, on windows drawn by its seed, so the same inputs give the same
//! bytes. Between two steps the caller may look, or stop and keep what was done.

use std::time::Instant;

use tributary_protocol::adapter::{Adapter, AdapterError, Trainable};

use crate::base::BaseModel;
use crate::data::{Draw, Windows};
use crate::lora::{Factors, LoraError};
use crate::model::{Model, download};
use crate::optimizer::{self, AdamW, AdamWConfig};
use crate::progress::{Control, Progress};

/// How a session trains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainConfig {
    /// Optimiser steps.
    pub steps: u32,
    /// Windows of each step.
    pub batch: usize,
    /// Learning rate of AdamW, the same at every step.
    pub learning_rate: f64,
    /// Which factors move.
    pub trainable: Trainable,
    /// Seed of the order of windows.
    pub seed: u64,
    /// Constants of the optimiser.
    pub adamw: AdamWConfig,
    /// Longest gradient that a step follows, as a global norm; None never clips.
    pub clip_norm: Option<f64>,
}

impl Default for TrainConfig {
    /// Sixteen steps of four windows at 2e-3 on both factors, clipped at 1.
    fn default() -> Self {
        Self {
            steps: 16,
            batch: 4,
            learning_rate: 2e-3,
            trainable: Trainable::Both,
            seed: 0,
            adamw: AdamWConfig::default(),
            clip_norm: Some(1.0),
        }
    }
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u32,
    /// Steps the session will do.
    pub steps: u32,
    /// Mean loss of the batch before the step, in nats per predicted token.
    pub loss: f64,
    /// Global norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Tokens predicted in this step.
    pub predicted: u64,
    /// Wall time of this step in milliseconds.
    pub elapsed_ms: f64,
}

/// Why a session cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The adapter does not fit the base.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// There is nothing to train on.
    #[error("there is no window to train on; add text to the shard")]
    NoWindows,
    /// A batch of no windows.
    #[error("a batch of no windows trains nothing; set the batch to 1 or more")]
    NoBatch,
    /// A learning rate that is negative or not a number.
    #[error("the learning rate {0} is not a number of zero or more")]
    LearningRate(f64),
    /// The loss or gradient is not a number; the factors are as before the step.
    #[error("the loss or gradient of step {step} is not finite; lower the learning rate")]
    Diverged {
        /// The step, counted from one.
        step: u32,
    },
    /// The factors left the finite numbers.
    #[error("the factors after step {step} are not finite ({source}); lower the learning rate")]
    NotFinite {
        /// The step, counted from one.
        step: u32,
        /// What the check found.
        source: AdapterError,
    },
}

/// A training in progress.
pub struct Session {
    model: Model,
    start: Adapter,
    current: Adapter,
    windows: Windows,
    draw: Draw,
    config: TrainConfig,
    adam: AdamW,
    done: u32,
    predicted: u64,
}

impl Session {
    /// Prepares a training of `adapter` on `windows`.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn new(
        base: &BaseModel,
        adapter: &Adapter,
        windows: Windows,
        config: TrainConfig,
    ) -> Result<Self, SessionError> {
        if windows.is_empty() {
            return Err(SessionError::NoWindows);
        }
        if config.batch == 0 {
            return Err(SessionError::NoBatch);
        }
        if !(config.learning_rate.is_finite() && config.learning_rate >= 0.0) {
            return Err(SessionError::LearningRate(config.learning_rate));
        }
        let model = base.model().tracked();
        // Refused now rather than at the first step.
        Factors::new(model.config(), adapter, None, base.model().device())?;
        Ok(Self {
            draw: Draw::new(windows.len(), config.seed),
            adam: AdamW::new(config.adamw, adapter.values().len()),
            start: adapter.clone(),
            current: adapter.clone(),
            model,
            windows,
            config,
            done: 0,
            predicted: 0,
        })
    }

    /// Whether every step was done.
    pub fn is_done(&self) -> bool {
        self.done >= self.config.steps
    }

    /// Steps done so far.
    pub fn steps_done(&self) -> u32 {
        self.done
    }

    /// Tokens predicted so far.
    pub fn predicted(&self) -> u64 {
        self.predicted
    }

    /// The adapter as it stands.
    pub fn adapter(&self) -> &Adapter {
        &self.current
    }

    /// One optimiser step on the next windows.
    ///
    /// # Errors
    /// [`SessionError::Diverged`] or [`SessionError::NotFinite`]; the adapter then is as before.
    pub fn step(&mut self) -> Result<StepReport, SessionError> {
        let start = Instant::now();
        let step = self.done + 1;
        let batch = self.windows.batch(&self.draw.next(self.config.batch));
        let predicted = batch.predicted() as u64;
        let trainable = Some(self.config.trainable);
        let device = self.model.device();
        let factors = Factors::new(self.model.config(), &self.current, trainable, device)?;
        let loss = self.model.loss_sum(Some(&factors), &batch) / predicted as f64;
        let gradient = factors.gradient(&mut loss.backward());
        let loss = f64::from(download(loss)[0]);
        let norm = optimizer::norm([gradient.as_slice()]);
        if !(loss.is_finite() && norm.is_finite()) {
            return Err(SessionError::Diverged { step });
        }
        self.apply(
            gradient,
            optimizer::clip_factor(norm, self.config.clip_norm),
        )?;
        self.done = step;
        self.predicted += predicted;
        Ok(StepReport {
            step,
            steps: self.config.steps,
            loss,
            gradient_norm: norm,
            predicted,
            elapsed_ms: start.elapsed().as_secs_f64() * 1e3,
        })
    }

    fn apply(&mut self, mut gradient: Vec<f32>, clip: f32) -> Result<(), SessionError> {
        if clip != 1.0 {
            gradient.iter_mut().for_each(|g| *g *= clip);
        }
        let shape = self.current.shape().clone();
        let mut values = self.current.values().to_vec();
        self.adam.begin_step();
        for segment in shape.trainable_segments(self.config.trainable) {
            let range = segment.range();
            let weights = &mut values[range.clone()];
            let rate = self.config.learning_rate;
            (self.adam).update(range.start, weights, &gradient[range], rate, true);
        }
        self.current = Adapter::new(shape, values).map_err(|source| SessionError::NotFinite {
            step: self.done + 1,
            source,
        })?;
        Ok(())
    }

    /// Does the remaining steps, or those until `progress` says stop.
    ///
    /// # Errors
    /// See [`Session::step`].
    pub fn run(&mut self, progress: &mut impl Progress<StepReport>) -> Result<(), SessionError> {
        while !self.is_done() {
            let report = self.step()?;
            if progress.report(&report) == Control::Stop {
                break;
            }
        }
        Ok(())
    }

    /// What the session changed, in the flat layout: zero on every factor that was not trained.
    pub fn finish(self) -> Vec<f32> {
        let pairs = self.current.values().iter().zip(self.start.values());
        pairs.map(|(now, before)| now - before).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::evaluate::evaluate;
    use crate::testing::tiny_base;
    use tributary_protocol::adapter::Factor;
    use tributary_protocol::hash::Digest;

    fn setup() -> (BaseModel, Adapter, Windows) {
        let base = tiny_base();
        let shape = Arc::new(base.adapter_shape(4, 8));
        let adapter = Adapter::init(shape, &Digest::from_bytes([3; 32]));
        let windows = Windows::from_text(&base, &"she sells sea shells ".repeat(16), 16).unwrap();
        (base, adapter, windows)
    }

    fn config() -> TrainConfig {
        TrainConfig {
            steps: 12,
            learning_rate: 2e-2,
            seed: 5,
            ..TrainConfig::default()
        }
    }

    fn train(config: TrainConfig) -> (Vec<f32>, u64) {
        let (base, adapter, windows) = setup();
        let mut session = Session::new(&base, &adapter, windows, config).unwrap();
        session
            .run(&mut |_: &StepReport| Control::Continue)
            .unwrap();
        let predicted = session.predicted();
        (session.finish(), predicted)
    }

    #[test]
    fn training_lowers_the_loss_by_exactly_its_delta() {
        let (base, adapter, windows) = setup();
        let (delta, predicted) = train(config());
        let moved: Vec<f32> = adapter
            .values()
            .iter()
            .zip(&delta)
            .map(|(a, d)| a + d)
            .collect();
        let moved = Adapter::new(adapter.shape().clone(), moved).unwrap();
        let before = evaluate(&base, Some(&adapter), &windows).unwrap();
        let after = evaluate(&base, Some(&moved), &windows).unwrap();
        assert!(after.nll < before.nll - 0.3, "{before:?} {after:?}");
        assert_eq!(predicted, 12 * 4 * 15);
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
        assert_eq!(train(config()), train(config()));
        assert_ne!(
            train(config()),
            train(TrainConfig {
                seed: 6,
                ..config()
            })
        );
    }

    #[test]
    fn only_the_trained_factor_moves() {
        let (_, adapter, _) = setup();
        for (trainable, still) in [(Trainable::A, Factor::B), (Trainable::B, Factor::A)] {
            // With B at zero, A has no gradient: nothing moves at all.
            let (delta, _) = train(TrainConfig {
                trainable,
                ..config()
            });
            for segment in adapter.shape().segments() {
                let moved = delta[segment.range()].iter().any(|d| *d != 0.0);
                let expected = segment.factor != still && trainable == Trainable::B;
                assert_eq!(moved, expected, "{trainable:?} {segment:?}");
            }
        }
    }

    #[test]
    fn a_stopped_session_keeps_what_it_did() {
        let (base, adapter, windows) = setup();
        let mut session = Session::new(&base, &adapter, windows, config()).unwrap();
        let stop = &mut |report: &StepReport| match report.step {
            3 => Control::Stop,
            _ => Control::Continue,
        };
        session.run(stop).unwrap();
        assert_eq!((session.steps_done(), session.is_done()), (3, false));
        let (delta, _) = train(TrainConfig {
            steps: 3,
            ..config()
        });
        assert_eq!(session.finish(), delta);
    }

    #[test]
    fn a_hopeless_learning_rate_is_an_error_and_moves_nothing_to_infinity() {
        let (base, adapter, windows) = setup();
        let hopeless = TrainConfig {
            learning_rate: 1e38,
            steps: 9,
            ..config()
        };
        let mut session = Session::new(&base, &adapter, windows.clone(), hopeless).unwrap();
        let result = session.run(&mut |_: &StepReport| Control::Continue);
        assert!(result.unwrap_err().to_string().contains("learning rate"));
        assert!(session.finish().iter().all(|d| d.is_finite()));
        let wrong = TrainConfig {
            learning_rate: f64::NAN,
            ..config()
        };
        assert!(Session::new(&base, &adapter, windows, wrong).is_err());
    }
}
