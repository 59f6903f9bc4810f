//! Shares of one answer: which passes of a model they take, in which order, and what becomes of the results.
//!
//! ```text
//!   losses without the adapter ──┐
//!   losses with it ──────────────┴─▶ per token: what the base would have said too
//!   per stage: gradients of the answer's stretches half way through it ─▶ influences ─▶ shares, intervals
//! ```
//! Two forward passes for the losses and one for each stage, however long the answer. The influences then add up
//! to what the run changed in the answer's loss, up to the midpoint rule's error: a gradient at the end alone
//! only says where a next step would lead. Models and tokens are the caller's ([`AnswerModel`]).

use std::error::Error;

use tributary_protocol::adapter::Adapter;

use super::staging::Stage;
use super::stretch::{self, BoundedShares, Stretch};
use super::{QueryError, TokenLoss};

/// Stretches that an answer is cut in for the intervals: each costs a backward pass for every stage.
pub const STRETCHES: usize = 8;

/// A base model that was asked something, with what it or an adapter of it answered.
pub trait AnswerModel {
    /// Why a pass fails.
    type Error: Error + 'static;

    /// Loss of each of the answer's tokens after the prompt, nats, with `adapter` or without any. One forward pass.
    ///
    /// # Errors
    /// When the pass fails.
    fn losses(&mut self, adapter: Option<&Adapter>) -> Result<Vec<f64>, Self::Error>;

    /// Gradients of the *sum* of the losses of consecutive stretches of `each` tokens, flat, the last stretch maybe
    /// shorter. One forward pass, and a backward pass for each stretch.
    ///
    /// # Errors
    /// When the pass fails.
    fn gradients(&mut self, adapter: &Adapter, each: usize) -> Result<Vec<Vec<f32>>, Self::Error>;
}

/// Why shares of an answer cannot be had of a model.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError<E: Error + 'static> {
    /// The model.
    #[error(transparent)]
    Model(E),
    /// What the model said.
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// Shares of an answer, and what they follow from.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// Losses of the answer's tokens.
    pub tokens: Vec<TokenLoss>,
    /// Its shares, with intervals.
    pub found: BoundedShares,
}

impl Answered {
    /// Mean losses of the tokens, nats: without the adapter and with it.
    pub fn means(&self) -> (f64, f64) {
        let mean = |loss: fn(&TokenLoss) -> f64| {
            self.tokens.iter().map(loss).sum::<f64>() / self.tokens.len() as f64
        };
        (mean(|token| token.base), mean(|token| token.adapter))
    }
}

/// Shares of an answer of `adapter`, which a run moved in `stages`.
///
/// # Errors
/// When the model fails, or [`QueryError`].
///
/// # Panics
/// If the model gives other than one loss a token, or one gradient a stretch.
pub fn shares<M: AnswerModel>(
    model: &mut M,
    adapter: &Adapter,
    stages: &[Stage],
) -> Result<Answered, AnswerError<M::Error>> {
    let plain = model.losses(None).map_err(AnswerError::Model)?;
    let moved = model.losses(Some(adapter)).map_err(AnswerError::Model)?;
    assert_eq!(
        plain.len(),
        moved.len(),
        "one loss a token, whoever answers"
    );
    let tokens: Vec<TokenLoss> = (plain.into_iter().zip(moved))
        .map(|(base, adapter)| TokenLoss { base, adapter })
        .collect();
    if tokens.is_empty() {
        return Err(QueryError::Empty.into());
    }
    let each = stretch_length(tokens.len());
    let mut stretches: Vec<Stretch> = (tokens.chunks(each))
        .map(|tokens| Stretch {
            gradients: Vec::with_capacity(stages.len()),
            tokens: tokens.to_vec(),
        })
        .collect();
    for stage in stages {
        let gradients = model.gradients(&stage.middle, each);
        let gradients = gradients.map_err(AnswerError::Model)?;
        assert_eq!(gradients.len(), stretches.len(), "one gradient a stretch");
        for (stretch, gradient) in stretches.iter_mut().zip(gradients) {
            stretch.gradients.push(gradient);
        }
    }
    let moved: Vec<_> = stages.iter().map(|stage| &stage.moved).collect();
    let found = stretch::shares_of_stages(&stretches, &moved)?;
    Ok(Answered { tokens, found })
}

/// Tokens of a stretch. Without a prompt the first token has nothing before it: it belongs to the first stretch,
/// whose second token is predicted.
pub fn stretch_length(tokens: usize) -> usize {
    tokens.div_ceil(STRETCHES).max(2)
}

#[cfg(test)]
mod tests;
