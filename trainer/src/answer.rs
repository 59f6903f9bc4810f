//! What attribution asks about one answer: the losses of its tokens, and gradients of stretches of it.
//!
//! Each question is one forward pass over prompt and answer, however long: no position depends on those after it, so
//! that the losses of all tokens stand in one pass, and stretches differ in where the backward pass begins. Taken
//! prefix by prefix, an answer of `n` tokens would cost `n` passes (`docs/numbers/why.md` has the difference); the
//! tests do so, as the slow twin.

use tributary_protocol::adapter::{Adapter, Trainable};

use crate::base::BaseModel;
use crate::data::limits::MAX_CONTEXT;
use crate::data::{check_ids, padded_batch};
use crate::gradient::{GradientError, LossGradient, over};
use crate::lora::Factors;
use crate::model::Batch;

/// Tokens that prompt and answer may have together: what the model was made for, and what a pass holds.
pub fn most_tokens(base: &BaseModel) -> usize {
    base.config().max_context.min(MAX_CONTEXT)
}

/// Mean loss of `answer` after `prompt`, over the answer's tokens only, and its gradient.
///
/// # Errors
/// See [`GradientError`].
pub fn tokens_loss_and_gradient(
    base: &BaseModel,
    adapter: &Adapter,
    prompt: &[u32],
    answer: &[u32],
) -> Result<LossGradient, GradientError> {
    let text = Text::new(base, prompt, answer)?;
    over(base, adapter, Trainable::Both, [text.batch()])
}

/// Loss of each token of `answer` after `prompt`, nats, from one forward pass of the base or of the base
/// with an adapter. A text's first token is predicted by nothing and loses zero.
///
/// # Errors
/// See [`GradientError`]; an empty answer has no losses and is not an error.
pub fn token_losses(
    base: &BaseModel,
    adapter: Option<&Adapter>,
    prompt: &[u32],
    answer: &[u32],
) -> Result<Vec<f64>, GradientError> {
    let text = Text::new(base, prompt, answer)?;
    let Some(before) = prompt.len().checked_sub(1) else {
        // Nothing stands before the first token.
        let Some((first, rest)) = answer.split_first() else {
            return Ok(Vec::new());
        };
        let rest = token_losses(base, adapter, &[*first], rest)?;
        return Ok([vec![0.0], rest].concat());
    };
    if answer.is_empty() {
        return Ok(Vec::new());
    }
    let batch = text.batch();
    // Of its own, so that its buffers do not outlive this call.
    let losses = match base.model().tracked().lean() {
        Some(lean) => lean.losses(adapter, &batch)?,
        None => {
            let model = base.model();
            let factors = adapter.map(|a| Factors::new(model.config(), a, None, model.device()));
            model.losses(factors.transpose()?.as_ref(), &batch)
        }
    };
    // A position loses the token after it.
    Ok(losses[before..before + answer.len()].to_vec())
}

/// Gradients of the *sum* of the losses of consecutive stretches of `each` tokens of `answer`, the last one
/// maybe shorter, in the adapter's flat layout. In host memory they share one forward pass.
///
/// # Errors
/// See [`GradientError`]; [`GradientError::Nothing`] when a stretch is a text's first token alone.
///
/// # Panics
/// If `each` is zero.
pub fn stretch_gradients(
    base: &BaseModel,
    adapter: &Adapter,
    prompt: &[u32],
    answer: &[u32],
    each: usize,
) -> Result<Vec<Vec<f32>>, GradientError> {
    let text = Text::new(base, prompt, answer)?;
    let starts = (prompt.len()..text.tokens.len()).step_by(each);
    let parts = starts.map(|from| text.part(from, from + each));
    let parts: Vec<Batch> = parts.collect();
    if parts.iter().any(|part| part.predicted() == 0) {
        return Err(GradientError::Nothing);
    }
    if let Some(lean) = base.model().tracked().lean() {
        return Ok(lean.gradients_of_parts(adapter, &text.batch(), &parts)?);
    }
    let gradient = |part: Batch| {
        let found = over(base, adapter, Trainable::Both, [part])?;
        let predicted = found.predicted as f32;
        Ok(found.gradient.iter().map(|g| predicted * g).collect())
    };
    parts.into_iter().map(gradient).collect()
}

/// A prompt and its answer, checked against the model.
struct Text {
    tokens: Vec<u32>,
    /// Tokens of the prompt.
    prompt: usize,
}

impl Text {
    fn new(base: &BaseModel, prompt: &[u32], answer: &[u32]) -> Result<Self, GradientError> {
        let tokens = [prompt, answer].concat();
        let (found, most) = (tokens.len(), most_tokens(base));
        if found > most {
            return Err(GradientError::TooLong { found, most });
        }
        check_ids(&tokens, base.config().vocab)?;
        let prompt = prompt.len();
        Ok(Self { tokens, prompt })
    }

    /// The answer's tokens are predicted.
    fn batch(&self) -> Batch {
        self.part(self.prompt, self.tokens.len())
    }

    /// Nothing from `to` on, and nothing before `from` is predicted.
    fn part(&self, from: usize, to: usize) -> Batch {
        let tokens = &self.tokens[..to.min(self.tokens.len())];
        padded_batch(&[tokens], from.max(1))
    }
}

#[cfg(test)]
mod tests;
