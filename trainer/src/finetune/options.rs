//! What can be chosen of a fine-tuning.

use std::path::PathBuf;

use super::FinetuneError;
use crate::chat::Date;
use crate::data::{DEFAULT_CONTEXT, MAX_CONTEXT, Packing, ReadOptions};
use crate::optimizer::AdamWConfig;
use crate::session::Schedule;

/// Name of the checkpoint in its folder.
const CHECKPOINT_FILE: &str = "training.checkpoint";

/// Most windows of one step: far beyond use, and small enough that no size overflows.
const MAX_STEP_WINDOWS: usize = 1 << 20;

/// How long to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// Passes over the windows; may be a fraction.
    Epochs(f64),
    /// Optimiser steps.
    Steps(u32),
}

/// What losses are measured on.
#[derive(Clone, Debug, PartialEq)]
pub enum HeldOut {
    /// Nothing.
    None,
    /// A share of the documents, drawn by the seed and not trained on; of a single text, of its windows.
    Share(f64),
    /// Another file.
    File(PathBuf),
}

/// Where a training is kept so that it can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// The folder, made when it is missing.
    pub folder: PathBuf,
    /// Steps between two checkpoints; one is also written at the end and when the training is stopped.
    pub every: u32,
    /// Whether to go on from the checkpoint in the folder. Without one the training starts from the
    /// beginning.
    pub resume: bool,
}

impl CheckpointOptions {
    /// The checkpoint's file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(CHECKPOINT_FILE)
    }
}

/// Everything that can be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct FinetuneOptions {
    /// Rank of the adapter.
    pub rank: u32,
    /// LoRA alpha; the adapter counts `alpha / rank`.
    pub alpha: u32,
    /// How long.
    pub length: Length,
    /// Windows computed at a time.
    pub batch: usize,
    /// Batches of one step.
    pub accumulate: usize,
    /// Tokens of a window.
    pub context: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// What the rate does after the warm-up.
    pub schedule: Schedule,
    /// Below 1, the share of the steps over which the rate rises; otherwise their number.
    pub warm_up: f64,
    /// Longest gradient that a step follows; None never clips.
    pub clip_norm: Option<f64>,
    /// Constants of the optimiser.
    pub adamw: AdamWConfig,
    /// Seed of the adapter, the order of windows and what is held out.
    pub seed: u64,
    /// What losses are measured on.
    pub held_out: HeldOut,
    /// Which documents share a window.
    pub packing: Packing,
    /// How files are read.
    pub read: ReadOptions,
    /// Where the training is kept; None keeps nothing.
    pub checkpoint: Option<CheckpointOptions>,
    /// The day that chat templates are told; None is today. A training that will be resumed on another
    /// day needs one if its template writes the date.
    pub date: Option<Date>,
    /// Whether to refuse a training that would make the machine swap.
    pub check_memory: bool,
}

impl Default for FinetuneOptions {
    /// One pass with rank 8 at 2e-4, along a cosine after a warm-up of 3 %, a twentieth held out.
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16,
            length: Length::Epochs(1.0),
            batch: 4,
            accumulate: 1,
            context: DEFAULT_CONTEXT,
            learning_rate: 2e-4,
            schedule: Schedule::Cosine,
            warm_up: 0.03,
            clip_norm: Some(1.0),
            adamw: AdamWConfig::default(),
            seed: 0,
            held_out: HeldOut::Share(0.05),
            packing: Packing::default(),
            read: ReadOptions::default(),
            checkpoint: None,
            date: None,
            check_memory: true,
        }
    }
}

impl FinetuneOptions {
    /// Refuses what makes no training of a model made for `max_context` tokens.
    pub(super) fn check(&self, max_context: usize) -> Result<(), FinetuneError> {
        let refuse = |option, value: String, allowed: String| {
            Err(FinetuneError::Option {
                option,
                value,
                allowed,
            })
        };
        let longest = max_context.min(MAX_CONTEXT);
        if !(2..=longest).contains(&self.context) {
            let allowed = format!("between 2 and the model's {longest} tokens");
            return refuse("the context", self.context.to_string(), allowed);
        }
        let windows = self.batch.saturating_mul(self.accumulate);
        if !(1..=MAX_STEP_WINDOWS).contains(&windows) {
            let allowed = format!("between 1 and {MAX_STEP_WINDOWS}");
            return refuse("batch times accumulation", windows.to_string(), allowed);
        }
        if let Length::Epochs(epochs) = self.length
            && !(epochs.is_finite() && epochs > 0.0 && epochs <= 1e6)
        {
            let allowed = "above 0 and at most a million".into();
            return refuse("the number of epochs", epochs.to_string(), allowed);
        }
        if !(self.warm_up.is_finite() && self.warm_up >= 0.0) {
            let allowed = "a share below 1 or a number of steps".into();
            return refuse("the warm-up", self.warm_up.to_string(), allowed);
        }
        match self.held_out {
            HeldOut::Share(share) if !(0.0..1.0).contains(&share) => {
                let allowed = "at least 0 and below 1".into();
                refuse("the share held out", share.to_string(), allowed)
            }
            _ => Ok(()),
        }
    }

    /// Steps of a training on so many windows; at least one.
    pub(super) fn steps(&self, windows: usize) -> u32 {
        match self.length {
            Length::Steps(steps) => steps.max(1),
            Length::Epochs(epochs) => {
                let step = (self.batch * self.accumulate).max(1);
                let steps = (epochs * windows as f64 / step as f64).ceil();
                steps.clamp(1.0, f64::from(u32::MAX)) as u32
            }
        }
    }

    /// Steps of the warm-up of so many. The last step has the whole rate: the first of a warm-up has none, so that a
    /// training of one step would change nothing.
    pub(super) fn warm_up_steps(&self, steps: u32) -> u32 {
        let warm_up = match self.warm_up < 1.0 {
            true => (self.warm_up * f64::from(steps)).ceil() as u32,
            false => self.warm_up as u32,
        };
        warm_up.min(steps.saturating_sub(1))
    }
}
