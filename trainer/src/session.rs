//! One contributor's local training of an adapter, step by step.
//!
//! A session starts from the certified adapter and ends with the difference it made. It moves only the
//! factors that the round trains, on windows drawn by its seed, so the same inputs give the same
//! bytes. Between two steps the caller may look, or stop and keep what was done, or write a checkpoint
//! from which another process goes on bit for bit.
//!
//! Rooms: `schedule` changes the learning rate, `checkpoint` is the file, `memory` says beforehand what
//! a training will need.

pub mod checkpoint;
pub mod memory;
pub(crate) mod report;
mod schedule;

use std::time::Instant;

use tributary_protocol::adapter::{Adapter, AdapterError, Trainable};
use tributary_protocol::hash::Digest;

use crate::base::BaseModel;
use crate::data::{Draw, Windows};
use crate::gradient::of_batch;
use crate::lora::{Factors, LoraError};
use crate::model::vector::{add_scaled, fast};
use crate::model::{Batch, Model};
use crate::optimizer::{self, AdamW, AdamWConfig};
use crate::progress::{Control, Progress};

pub use report::StepReport;
pub use schedule::{Schedule, UnknownSchedule};

/// How a session trains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainConfig {
    /// Optimiser steps.
    pub steps: u32,
    /// Windows computed at a time.
    pub batch: usize,
    /// Batches whose gradients one step adds up, weighted by the tokens they predict: the gradient of
    /// one batch that many times as large, in the memory of one.
    pub accumulate: usize,
    /// Learning rate of AdamW at its highest.
    pub learning_rate: f64,
    /// What the rate does after the warm-up.
    pub schedule: Schedule,
    /// Steps over which the rate rises from zero.
    pub warm_up: u32,
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
    /// Sixteen steps of four windows at a constant 2e-3 on both factors, clipped at 1.
    fn default() -> Self {
        Self {
            steps: 16,
            batch: 4,
            accumulate: 1,
            learning_rate: 2e-3,
            schedule: Schedule::Constant,
            warm_up: 0,
            trainable: Trainable::Both,
            seed: 0,
            adamw: AdamWConfig::default(),
            clip_norm: Some(1.0),
        }
    }
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
    #[error("a step of no windows trains nothing; set batch and accumulation to 1 or more")]
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
    base: Digest,
    model: Model,
    start: Adapter,
    current: Adapter,
    windows: Windows,
    draw: Draw,
    config: TrainConfig,
    adam: AdamW,
    done: u32,
    predicted: u64,
    /// Time and number of this process's steps, for the estimate of what is left.
    spent_ms: f64,
    timed: u32,
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
        if config.batch == 0 || config.accumulate == 0 {
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
            base: base.hash(),
            model,
            windows,
            config,
            done: 0,
            predicted: 0,
            spent_ms: 0.0,
            timed: 0,
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

    /// The learning rate of the next step.
    pub fn learning_rate(&self) -> f64 {
        let TrainConfig {
            steps,
            learning_rate,
            schedule,
            warm_up,
            ..
        } = self.config;
        learning_rate * schedule.factor(self.done, warm_up, steps)
    }

    fn windows_per_step(&self) -> u64 {
        self.config.batch as u64 * self.config.accumulate as u64
    }

    /// One optimiser step on the next windows.
    ///
    /// # Errors
    /// [`SessionError::Diverged`] or [`SessionError::NotFinite`]; the adapter then is as before.
    pub fn step(&mut self) -> Result<StepReport, SessionError> {
        let start = Instant::now();
        let step = self.done + 1;
        let drawn = self.draw.next(self.windows_per_step() as usize);
        let batches = drawn.chunks(self.config.batch);
        let batches: Vec<Batch> = batches.map(|chosen| self.windows.batch(chosen)).collect();
        let predicted: usize = batches.iter().map(Batch::predicted).sum();
        let (loss, gradient) = self.loss_and_gradient(&batches, predicted)?;
        let norm = optimizer::norm([gradient.as_slice()]);
        if !(loss.is_finite() && norm.is_finite()) {
            return Err(SessionError::Diverged { step });
        }
        let learning_rate = self.learning_rate();
        let clip = optimizer::clip_factor(norm, self.config.clip_norm);
        self.apply(gradient, clip, learning_rate)?;
        self.done = step;
        self.predicted += predicted as u64;
        let elapsed_ms = start.elapsed().as_secs_f64() * 1e3;
        self.spent_ms += elapsed_ms;
        self.timed += 1;
        let left = f64::from(self.config.steps.saturating_sub(step));
        let tokens = drawn.iter().map(|at| self.windows.length_of(*at));
        Ok(StepReport {
            step,
            steps: self.config.steps,
            loss,
            learning_rate,
            gradient_norm: norm,
            predicted: predicted as u64,
            tokens: tokens.sum::<usize>() as u64,
            elapsed_ms,
            remaining_ms: self.spent_ms / f64::from(self.timed) * left,
            resident_bytes: memory::resident_bytes(),
        })
    }

    /// Mean loss over all `predicted` tokens of `batches`, and its gradient: that of each batch weighs
    /// as much as the share of tokens that it predicts.
    fn loss_and_gradient(
        &self,
        batches: &[Batch],
        predicted: usize,
    ) -> Result<(f64, Vec<f32>), SessionError> {
        let of = |batch| of_batch(&self.model, &self.current, self.config.trainable, batch);
        if let [batch] = batches {
            let (sum, gradient) = of(batch)?;
            return Ok((sum / predicted as f64, gradient));
        }
        let mut total = 0.0;
        let mut mean = vec![0.0; self.current.values().len()];
        for batch in batches {
            let (sum, gradient) = of(batch)?;
            total += sum;
            let weight = (batch.predicted() as f64 / predicted as f64) as f32;
            fast(
                #[inline(always)]
                || add_scaled(&mut mean, weight, &gradient),
            );
        }
        Ok((total / predicted as f64, mean))
    }

    fn apply(
        &mut self,
        mut gradient: Vec<f32>,
        clip: f32,
        learning_rate: f64,
    ) -> Result<(), SessionError> {
        if clip != 1.0 {
            gradient.iter_mut().for_each(|g| *g *= clip);
        }
        let shape = self.current.shape().clone();
        let mut values = self.current.values().to_vec();
        self.adam.begin_step();
        for segment in shape.trainable_segments(self.config.trainable) {
            let range = segment.range();
            let weights = &mut values[range.clone()];
            (self.adam).update(range.start, weights, &gradient[range], learning_rate, true);
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
mod tests;
