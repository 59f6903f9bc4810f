//! A tiny base model, made in seconds and trained in milliseconds.
//!
//! Comparing rules and attackers takes hundreds of federations, and brook takes a minute for one. A tiny model has brook's
//! architecture at a hundredth of the size, with a vocabulary of its own, pretrained from nothing on a text that the
//! federation does not hold. The same binary makes the same weights.

use std::path::{Path, PathBuf};

use tributary_trainer::config::{Config, ConfigError};
use tributary_trainer::full::FullStepError;
use tributary_trainer::full::{FullConfig, FullTrainer};
use tributary_trainer::pretrain::vocabulary::{self, VocabularyError};
use tributary_trainer::pretrain::{Plan, brook_config};
use tributary_trainer::{BaseError, BaseModel, Tokenizer, TokenizerError};

/// Tokens of the vocabulary.
const VOCABULARY: usize = 512;
/// Tokens of a pretraining window.
const CONTEXT: usize = 32;
/// Windows of a pretraining step.
const WINDOWS: usize = 16;

/// Why a tiny model cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TinyModelError {
    /// The vocabulary.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A training step.
    #[error(transparent)]
    Step(#[from] FullStepError),
    /// The folder in between.
    #[error("cannot use {path}: {why}; the folder must be writable")]
    Folder {
        /// The folder.
        path: String,
        /// What went wrong.
        why: String,
    },
    /// The finished model.
    #[error(transparent)]
    Base(#[from] BaseError),
}

/// A folder that goes away with its owner.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: the system clears its temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Pretrains a model on `text` for `steps` steps, with a vocabulary learnt from it.
///
/// # Errors
/// See [`TinyModelError`].
pub fn tiny_model(text: &str, steps: u64) -> Result<BaseModel, TinyModelError> {
    // By way of a folder, as every base model comes.
    let unique = format!(
        "tributary-tiny-{}-{:p}",
        std::process::id(),
        &raw const steps
    );
    let folder = Scratch(std::env::temp_dir().join(unique));
    write_tiny_model(text, steps, &folder.0)?;
    Ok(BaseModel::from_dir(&folder.0)?)
}

/// [`tiny_model`] as a folder in Hugging Face layout.
///
/// # Errors
/// See [`TinyModelError`].
pub fn write_tiny_model(text: &str, steps: u64, folder: &Path) -> Result<(), TinyModelError> {
    let json = vocabulary::learn(text.split("\n\n"), VOCABULARY)?;
    let tokenizer = Tokenizer::from_bytes(json.as_bytes())?;
    let tokens = tokenizer.encode(text)?;
    let mut trainer = FullTrainer::new(config(&tokenizer), FullConfig::default(), 1)?;
    let plan = Plan {
        steps,
        warm_up: steps / 10,
        peak: 1e-2,
        ..Plan::default()
    };
    let windows = tokens.len() / CONTEXT;
    for step in 0..steps {
        let batch: Vec<u32> = (0..WINDOWS)
            .flat_map(|window| {
                // A stride without a common factor visits windows in an order that is not the text's.
                let at = (step as usize * WINDOWS + window) * 7919 % windows * CONTEXT;
                tokens[at..at + CONTEXT].iter().copied()
            })
            .collect();
        trainer.step(&batch, WINDOWS, CONTEXT, plan.learning_rate(step))?;
    }
    let failed = |why: String| TinyModelError::Folder {
        path: folder.display().to_string(),
        why,
    };
    std::fs::create_dir_all(folder).map_err(|e| failed(e.to_string()))?;
    trainer.save(folder).map_err(|e| failed(e.to_string()))?;
    std::fs::write(folder.join("tokenizer.json"), json).map_err(|e| failed(e.to_string()))
}

fn config(tokenizer: &Tokenizer) -> Config {
    let end = tokenizer.eos_ids().first().copied().unwrap_or(0);
    Config {
        hidden: 32,
        ffn: 64,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        head_dim: 16,
        ..brook_config(tokenizer.vocab_size(), end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_trainer::{Windows, evaluate};

    #[test]
    fn a_rill_has_learnt_its_text_and_is_the_same_every_time() {
        let text = tributary_trainer::brook::HELD_OUT_SAMPLE;
        let loss = |base: &BaseModel| {
            let windows = Windows::from_text(base, text, CONTEXT)
                .unwrap()
                .sample(&[1; 32], 32);
            evaluate(base, None, &windows).unwrap().nll
        };
        let (fresh, trained) = (tiny_model(text, 1).unwrap(), tiny_model(text, 60).unwrap());
        assert!(
            loss(&trained) < loss(&fresh) - 1.0,
            "{} {}",
            loss(&fresh),
            loss(&trained)
        );
        assert_eq!(tiny_model(text, 60).unwrap().hash(), trained.hash());
    }
}
