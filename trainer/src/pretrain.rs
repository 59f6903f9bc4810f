//! How the embedded base model `brook` is made: text to tokens, tokens to batches, batches to weights.
//!
//! Why it exists: the base model must be re-makeable by anyone from a committed command
//! (`cargo run --release -p tributary-trainer --example brook`), with the project's own trainer. This
//! file holds what has to be the same each time: which tokens a step sees and with which learning
//! rate. Both follow from the step number and the plan alone, so a run that was killed goes on from its
//! checkpoint as if it had not been.
//!
//! Left to others: one training step (`full`), the vocabulary (`pretrain::vocabulary`), files and the
//! command line (the example).

pub mod vocabulary;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;

use crate::config::{Biases, Config, ConfigError, Family, RopeScaling};
use crate::data::BatchError;
use crate::evaluate::Evaluation;
use crate::full::{FullConfig, FullStepError, FullTrainer, ResumeError};
use crate::model::files::{self, SaveError};
use crate::session::report::Span;
use crate::{Tokenizer, TokenizerError};

/// Name of the token that ends each document; the line between documents in a text file.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Tokens of the blocks that an epoch is a permutation of: the longest window trained on.
pub const BLOCK: usize = 512;

/// Longest time between two lines of the log.
const QUIET: Duration = Duration::from_secs(30);

/// Why brook could not be trained.
#[derive(Debug, thiserror::Error)]
pub enum PretrainError {
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model's configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The checkpoint.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// A step.
    #[error(transparent)]
    Step(#[from] FullStepError),
    /// The held-out tokens.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Saving.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// A folder or file of the run.
    #[error("cannot use {path}: {source}; check that the folder exists and can be written")]
    File {
        /// The path.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not enough text for one batch.
    #[error("the text has {found} tokens, fewer than the {needed} of one step; give it more text")]
    TooShort {
        /// Tokens found.
        found: usize,
        /// Tokens of one step.
        needed: usize,
    },
}

/// The shape of brook: 3.9 million parameters, small enough that one of two cores trains it in an hour.
pub fn brook_config(vocab: usize, end: u32) -> Config {
    Config {
        family: Family::Llama,
        vocab,
        hidden: 256,
        ffn: 688,
        layers: 4,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        biases: Biases::default(),
        head_norms: false,
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        tied: true,
        max_context: 1024,
        bos: Some(end),
        eos: vec![end],
    }
}

/// Cuts documents (between lines of [`END_OF_TEXT`]) in tokens, each document ended by `end`.
///
/// # Errors
/// When a document cannot be encoded.
pub fn tokens_of(text: &str, tokenizer: &Tokenizer, end: u32) -> Result<Vec<u32>, TokenizerError> {
    let line = format!("\n{END_OF_TEXT}\n");
    let documents: Vec<&str> = text.split(line.as_str()).collect();
    let encoded: Vec<Vec<u32>> = documents
        .par_iter()
        .map(|document| {
            let mut ids = tokenizer.encode(document.trim_end())?;
            ids.push(end);
            Ok(ids)
        })
        .collect::<Result<_, TokenizerError>>()?;
    Ok(encoded.concat())
}

/// What a training does, from the first step to the last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Steps of the whole training.
    pub steps: u64,
    /// Tokens of a step; a multiple of [`BLOCK`].
    pub batch_tokens: usize,
    /// Tokens of a window at first; divides [`BLOCK`].
    pub context: usize,
    /// Share of the steps after which windows have [`BLOCK`] tokens.
    pub long_from: f64,
    /// Highest learning rate.
    pub peak: f64,
    /// Steps over which the learning rate rises to the peak.
    pub warm_up: u64,
    /// Seed of weights and order.
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            steps: 3_000,
            batch_tokens: 4_096,
            context: 256,
            long_from: 0.8,
            peak: 2e-3,
            warm_up: 100,
            seed: 1,
        }
    }
}

impl Plan {
    /// Learning rate of a step (from 0): linear warm-up, then a cosine down to a fiftieth of the peak.
    pub fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warm_up {
            return self.peak * (step + 1) as f64 / self.warm_up as f64;
        }
        let rest = (self.steps.max(self.warm_up + 1) - self.warm_up) as f64;
        let done = ((step - self.warm_up) as f64 / rest).min(1.0);
        let floor = self.peak / 50.0;
        floor + (self.peak - floor) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
    }

    /// Tokens of a window at a step.
    pub(crate) fn context_at(&self, step: u64) -> usize {
        if step as f64 >= self.long_from * self.steps as f64 {
            BLOCK
        } else {
            self.context
        }
    }
}

/// Tokens in the order that training sees them.
pub struct Stream {
    tokens: Vec<u32>,
    seed: u64,
    epoch: Option<(u64, Vec<u32>)>,
}

impl Stream {
    /// An order of `tokens` drawn from `seed`.
    ///
    /// # Errors
    /// When the tokens do not make two blocks, the least that can be shifted and shuffled.
    pub fn new(tokens: Vec<u32>, seed: u64) -> Result<Self, PretrainError> {
        if tokens.len() < 2 * BLOCK {
            let (found, needed) = (tokens.len(), 2 * BLOCK);
            return Err(PretrainError::TooShort { found, needed });
        }
        let epoch = None;
        Ok(Self {
            tokens,
            seed,
            epoch,
        })
    }

    /// Blocks in one pass over the text.
    pub fn blocks(&self) -> u64 {
        (self.tokens.len() / BLOCK - 1) as u64
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Never: [`Stream::new`] refuses too little text.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The `count` blocks from the `first`-th on, one after the other; passes follow each other without end.
    pub fn take(&mut self, first: u64, count: usize) -> Vec<u32> {
        let mut out = Vec::with_capacity(count * BLOCK);
        for index in first..first + count as u64 {
            let (pass, place) = (index / self.blocks(), (index % self.blocks()) as usize);
            // Each pass cuts the text at other places, so that no border between blocks stays one.
            let shift = (pass as usize * 197 + 61) % BLOCK;
            let at = shift + self.order(pass)[place] as usize * BLOCK;
            out.extend_from_slice(&self.tokens[at..at + BLOCK]);
        }
        out
    }

    fn order(&mut self, pass: u64) -> &[u32] {
        if self.epoch.as_ref().is_none_or(|(p, _)| *p != pass) {
            let mut order: Vec<u32> = (0..self.blocks() as u32).collect();
            let seed = self.seed.wrapping_mul(1_000_003).wrapping_add(pass);
            order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            self.epoch = Some((pass, order));
        }
        &self.epoch.as_ref().expect("just set").1
    }
}

/// One line of a training's log.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Steps done.
    pub step: u64,
    /// Tokens seen, those before a resume included.
    pub tokens: u64,
    /// Mean loss of the steps since the last line, in nats per predicted token.
    pub loss: f64,
    /// Loss on held-out text, where this line measured it.
    pub held_out: Option<f64>,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Tokens per second of wall time since the last line.
    pub tokens_per_s: f64,
    /// What the remaining steps take at that pace.
    pub left: Span,
}

/// Where a training keeps its files.
#[derive(Clone, Debug)]
pub struct Run {
    /// Holds `checkpoint/` (exact, to resume) and `model/` (bf16, to use).
    pub folder: PathBuf,
    /// Steps between lines of the log; one comes at least every half minute.
    pub log_every: u64,
    /// Steps between checkpoints and held-out measurements.
    pub save_every: u64,
}

/// Trains brook from its checkpoint, or from nothing, to the end of the plan.
///
/// # Errors
/// See [`PretrainError`]; the last checkpoint stays usable.
pub fn pretrain(
    plan: &Plan,
    run: &Run,
    config: Config,
    stream: &mut Stream,
    held_out: &[u32],
    log: &mut dyn FnMut(&Line),
) -> Result<FullTrainer, PretrainError> {
    check_folder(&run.folder)?;
    let mut trainer = take_up(run, config, plan.seed)?;
    let blocks = plan.batch_tokens / BLOCK;
    let (mut since, mut sum, mut counted) = (Instant::now(), 0.0, 0u64);
    while trainer.steps() < plan.steps {
        let step = trainer.steps();
        let tokens = stream.take(step * blocks as u64, blocks);
        let context = plan.context_at(step);
        let rate = plan.learning_rate(step);
        sum += trainer
            .step(&tokens, tokens.len() / context, context, rate)?
            .loss;
        counted += 1;
        let (done, last) = (step + 1, step + 1 == plan.steps);
        let quiet = since.elapsed() >= QUIET;
        if done % run.log_every == 0 || done % run.save_every == 0 || last || quiet {
            let wall = since.elapsed().as_secs_f64();
            let mut line = Line {
                step: done,
                tokens: done * (blocks * BLOCK) as u64,
                loss: sum / counted as f64,
                held_out: None,
                learning_rate: rate,
                tokens_per_s: (counted as usize * blocks * BLOCK) as f64 / wall,
                left: Span(wall * 1e3 / counted as f64 * (plan.steps - done) as f64),
            };
            if done % run.save_every == 0 || last {
                line.held_out = Some(held_out_loss(&trainer, held_out, context)?.nll);
                save(&trainer, run)?;
            }
            log(&line);
            (since, sum, counted) = (Instant::now(), 0.0, 0);
        }
    }
    Ok(trainer)
}

/// Loss on whole windows of `context` tokens of held-out text.
///
/// # Errors
/// When an id is beyond the vocabulary.
pub fn held_out_loss(
    trainer: &FullTrainer,
    tokens: &[u32],
    context: usize,
) -> Result<Evaluation, BatchError> {
    let windows = tokens.len() / context;
    trainer.evaluate(&tokens[..windows * context], windows, context)
}

fn take_up(run: &Run, config: Config, seed: u64) -> Result<FullTrainer, PretrainError> {
    let checkpoint = run.folder.join("checkpoint");
    if checkpoint.join("steps").exists() {
        return Ok(FullTrainer::resume(&checkpoint, FullConfig::default())?);
    }
    Ok(FullTrainer::new(config, FullConfig::default(), seed)?)
}

/// Writes beside the old checkpoint and swaps. A failure leaves the old one and nothing of the new; a kill between
/// the two renames leaves both, under names that say so. Trainings that share a folder by mistake each write their
/// own, and the checkpoint is one of theirs, whole.
fn save(trainer: &FullTrainer, run: &Run) -> Result<(), PretrainError> {
    let (checkpoint, model) = (run.folder.join("checkpoint"), run.folder.join("model"));
    make_folder(&model)?;
    let unfinished = || {
        let made = files::unfinished_folder(&checkpoint);
        made.map_err(|source| file_error(&checkpoint, source))
    };
    let new = unfinished()?;
    trainer.save_checkpoint(new.path())?;
    trainer.save(&model)?;
    // Takes the old checkpoint in, and with it out of the way.
    let aside = unfinished()?;
    let old = aside.path().join("old");
    match std::fs::rename(&checkpoint, &old) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(file_error(&checkpoint, source));
        }
        _ => {}
    }
    if let Err(source) = std::fs::rename(new.path(), &checkpoint) {
        // Back to where it was; another training's is there when this fails.
        let _ = std::fs::rename(&old, &checkpoint);
        return Err(file_error(&checkpoint, source));
    }
    // Renamed: nothing is left to remove.
    let _ = new.keep();
    Ok(())
}

/// Finds out before the training, rather than at its first checkpoint, that its folder cannot be written.
fn check_folder(path: &Path) -> Result<(), PretrainError> {
    make_folder(path)?;
    let tried = tempfile::tempfile_in(path);
    tried.map(drop).map_err(|source| file_error(path, source))
}

fn make_folder(path: &Path) -> Result<(), PretrainError> {
    std::fs::create_dir_all(path).map_err(|source| file_error(path, source))
}

fn file_error(path: &Path, source: std::io::Error) -> PretrainError {
    PretrainError::File {
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests;
