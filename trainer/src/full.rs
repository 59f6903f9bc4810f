//! Training of every weight of a model, from nothing or from a checkpoint.
//!
//! This is how the embedded base model was made. Federated runs train adapters instead
//! (`session`). The trainer keeps weights and optimiser state in host memory and uploads the weights
//! for each step; a checkpoint holds both, so that a resumed run continues as if never stopped.

use std::path::Path;
use std::time::Instant;

use burn::tensor::Device;

use crate::config::{Config, ConfigError};
use crate::data::{BatchError, dense_batch};
use crate::evaluate::Evaluation;
use crate::input;
use crate::model::files::{self, Precision, SaveError, WeightsError};
use crate::model::parameters::{self, Parameter};
use crate::model::{Model, download};
use crate::optimizer::{self, AdamW, AdamWConfig};

/// Constants of a full-parameter training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FullConfig {
    /// AdamW; only matrices decay, norms never.
    pub adamw: AdamWConfig,
    /// Longest gradient that a step follows, as a global norm; None never clips.
    pub clip_norm: Option<f64>,
}

impl Default for FullConfig {
    /// Betas 0.9 and 0.95, decay 0.1, clipping at 1: usual for language models from nothing.
    fn default() -> Self {
        let adamw = AdamWConfig {
            beta2: 0.95,
            weight_decay: 0.1,
            ..AdamWConfig::default()
        };
        Self {
            adamw,
            clip_norm: Some(1.0),
        }
    }
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FullStep {
    /// Steps done, this one included.
    pub step: u64,
    /// Mean negative log likelihood before the step, in nats per predicted token.
    pub loss: f64,
    /// Global norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Tokens predicted.
    pub predicted: usize,
    /// Wall time in milliseconds.
    pub elapsed_ms: f64,
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum FullStepError {
    /// The tokens do not make a batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The loss or the gradient is not a number; the weights are as before the step.
    #[error("the loss or gradient of step {0} is not finite; lower the learning rate")]
    Diverged(u64),
}

/// Why a checkpoint or a model folder could not be taken up.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights or moments.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The step counter.
    #[error("{path} does not hold a step count; start again from the weights alone")]
    Steps {
        /// The file.
        path: String,
    },
}

/// All weights of a model in training. Always on the CPU: weights and moments live in host memory, and a
/// step reads and writes all of them.
pub struct FullTrainer {
    model: Config,
    config: FullConfig,
    device: Device,
    parameters: Vec<Parameter>,
    adam: AdamW,
}

impl FullTrainer {
    /// Fresh weights drawn from `seed`.
    ///
    /// # Errors
    /// When `model` cannot be computed with.
    pub fn new(model: Config, config: FullConfig, seed: u64) -> Result<Self, ConfigError> {
        model.check()?;
        let parameters = parameters::initialise(&model, seed);
        Ok(Self::with_parameters(model, config, parameters))
    }

    /// Weights of a Hugging Face folder, with a fresh optimiser.
    ///
    /// # Errors
    /// See [`ResumeError`].
    pub fn load(folder: &Path, config: FullConfig) -> Result<Self, ResumeError> {
        let model = Config::from_dir(folder)?;
        let parameters = files::read_dir(folder, &model)?;
        Ok(Self::with_parameters(model, config, parameters))
    }

    fn with_parameters(model: Config, config: FullConfig, parameters: Vec<Parameter>) -> Self {
        let count = parameters.iter().map(|p| p.values.len()).sum();
        Self {
            adam: AdamW::new(config.adamw, count),
            device: crate::device::cpu(),
            model,
            config,
            parameters,
        }
    }

    /// The model's configuration.
    pub fn model(&self) -> &Config {
        &self.model
    }

    /// Steps done so far, those before a resume included.
    pub fn steps(&self) -> u64 {
        self.adam.steps
    }

    /// One AdamW step on `windows` windows of `context` tokens, one after the other in `tokens`.
    /// The first token of each window is not predicted.
    ///
    /// # Errors
    /// See [`FullStepError`]; the weights then are as before.
    pub fn step(
        &mut self,
        tokens: &[u32],
        windows: usize,
        context: usize,
        learning_rate: f64,
    ) -> Result<FullStep, FullStepError> {
        let start = Instant::now();
        let batch = dense_batch(tokens, windows, context, self.model.vocab)?;
        let predicted = batch.predicted();
        let model = self.upload().trainable();
        let loss = model.loss_sum(None, &batch) / predicted as f64;
        let mut gradients = loss.backward();
        let loss = f64::from(download(loss)[0]);
        let pieces: Vec<Vec<f32>> = (model.weights().iter())
            .map(|w| w.gradient(&mut gradients).expect("every weight takes part"))
            .collect();
        drop((model, gradients));

        let norm = optimizer::norm(pieces.iter().map(Vec::as_slice));
        if !(loss.is_finite() && norm.is_finite()) {
            return Err(FullStepError::Diverged(self.adam.steps + 1));
        }
        self.apply(
            pieces,
            optimizer::clip_factor(norm, self.config.clip_norm),
            learning_rate,
        );
        Ok(FullStep {
            step: self.adam.steps,
            loss,
            gradient_norm: norm,
            predicted,
            elapsed_ms: start.elapsed().as_secs_f64() * 1e3,
        })
    }

    fn apply(&mut self, pieces: Vec<Vec<f32>>, clip: f32, learning_rate: f64) {
        self.adam.begin_step();
        let mut offset = 0;
        for (parameter, mut gradient) in self.parameters.iter_mut().zip(pieces) {
            if clip != 1.0 {
                gradient.iter_mut().for_each(|g| *g *= clip);
            }
            let decays = parameter.shape.len() == 2;
            let weights = &mut parameter.values;
            (self.adam).update(offset, weights, &gradient, learning_rate, decays);
            offset += parameter.values.len();
        }
    }

    /// Mean loss on `windows` windows of `context` tokens, nothing trained.
    ///
    /// # Errors
    /// When the tokens do not make a batch.
    pub fn evaluate(
        &self,
        tokens: &[u32],
        windows: usize,
        context: usize,
    ) -> Result<Evaluation, BatchError> {
        let model = self.upload();
        let mut total = Evaluation::default();
        // Eight windows at a time keep the activations of a long hold-out small.
        let mut rest = windows;
        for chunk in tokens.chunks(context.max(1) * 8) {
            let here = rest.min(8);
            let batch = dense_batch(chunk, here, context, self.model.vocab)?;
            let sum = f64::from(download(model.loss_sum(None, &batch))[0]);
            total = total.plus(sum, batch.predicted() as u64);
            rest -= here;
        }
        match rest {
            0 => Ok(total),
            _ => Err(BatchError::Length {
                found: tokens.len(),
                windows,
                context,
            }),
        }
    }

    fn upload(&self) -> Model {
        Model::new(self.model.clone(), self.parameters.clone(), &self.device)
    }

    /// Writes `config.json` and a bf16 `model.safetensors` into `folder`.
    ///
    /// # Errors
    /// See [`SaveError`].
    pub fn save(&self, folder: &Path) -> Result<(), SaveError> {
        files::write_file(&folder.join("config.json"), self.model.to_json().as_bytes())?;
        let path = folder.join("model.safetensors");
        files::write(&path, &self.parameters, Precision::Bf16)
    }

    /// Writes exact weights, moments and the step count into `folder`, for [`FullTrainer::resume`].
    ///
    /// # Errors
    /// See [`SaveError`].
    pub(crate) fn save_checkpoint(&self, folder: &Path) -> Result<(), SaveError> {
        files::write_file(&folder.join("config.json"), self.model.to_json().as_bytes())?;
        let exact = |name: &str, parameters: &[Parameter]| {
            files::write(&folder.join(name), parameters, Precision::F32)
        };
        exact("model.safetensors", &self.parameters)?;
        exact(
            "adam_mean.safetensors",
            &self.like_parameters(&self.adam.mean),
        )?;
        exact(
            "adam_square.safetensors",
            &self.like_parameters(&self.adam.square),
        )?;
        let steps = self.adam.steps.to_string();
        files::write_file(&folder.join("steps"), steps.as_bytes())
    }

    /// Takes up [`FullTrainer::save_checkpoint`]: the next step gives the bytes it would have given.
    ///
    /// # Errors
    /// See [`ResumeError`].
    pub fn resume(folder: &Path, config: FullConfig) -> Result<Self, ResumeError> {
        let mut trainer = Self::load(folder, config)?;
        let moments = |name: &str| -> Result<Vec<f32>, ResumeError> {
            let path = folder.join(name);
            let bytes = input::bytes(&path).map_err(|source| WeightsError::Read {
                path: path.display().to_string(),
                source,
            })?;
            let pieces = files::read_bytes(&bytes, name, &trainer.model)?;
            Ok(pieces.into_iter().flat_map(|p| p.values).collect())
        };
        let (mean, square) = (
            moments("adam_mean.safetensors")?,
            moments("adam_square.safetensors")?,
        );
        let path = folder.join("steps");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        trainer.adam.mean = mean;
        trainer.adam.square = square;
        trainer.adam.steps = text.trim().parse().map_err(|_| ResumeError::Steps {
            path: path.display().to_string(),
        })?;
        Ok(trainer)
    }

    fn like_parameters(&self, flat: &[f32]) -> Vec<Parameter> {
        let mut rest = flat;
        let cut = |parameter: &Parameter| {
            let (values, tail) = rest.split_at(parameter.values.len());
            rest = tail;
            Parameter {
                values: values.to_vec(),
                name: parameter.name.clone(),
                shape: parameter.shape.clone(),
            }
        };
        self.parameters.iter().map(cut).collect()
    }
}

#[cfg(test)]
mod tests;
