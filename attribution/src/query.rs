//! Shares of one answer: whose contributions made the adapter say it.
//!
//! Influence is linear in what moved the weights, and the certified contribution vectors are exactly
//! what moved them. So peer `i` lowered the loss of an answer by about
//! `-<grad loss_q(adapter), C_i>`, with `C_i` the sum of its contribution vectors over all rounds
//! ([`Moved`]): one backward pass for the answer, one inner product per contributor, no private data.
//!
//! What the base model would have said anyway is nobody's. Per token, a model that gives probability
//! `p_adapter` where the base gives `p_base` can be coupled with the base so that both say the same
//! token with probability `min(1, p_base / p_adapter)` (maximal coupling); the mean of that over the
//! answer is the part that belongs to nobody. The rest is split over the contributors with positive
//! influence, in proportion; the others are listed with theirs and get nothing.
//!
//! Limits: this is a linear estimate, which does not see what two contributors achieved only together. How well it
//! agrees with retraining is measured in `docs/attribution.md`. [`stretch`] does the same for a run in stages, which
//! agrees better, and gives the shares intervals.
//!
//! Modules: [`staging`] makes stages of a run's rounds, [`store`] holds what was moved in one, [`answer`] asks a model
//! for the passes that an answer takes, [`stretch`] has the arithmetic, [`layout`] is what programs read.

pub mod answer;
pub mod layout;
pub mod staging;
pub mod store;
pub mod stretch;

use std::collections::BTreeMap;

use tributary_protocol::adapter::AdapterError;
use tributary_protocol::id::{NanoNats, PeerId, Ppb};

use crate::money;
use crate::vector::{self, Vector};

/// Names the rule in whatever records shares, so that a later rule is told apart from this one.
pub const METHOD: &str = "staged-gradient-coupling/2";

/// Why an answer's shares cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// No token, no share.
    #[error("the answer has no tokens")]
    Empty,
    /// A loss that is negative, NaN or infinite.
    #[error("token {0} of the answer has a loss that is not a finite number of nats")]
    Loss(usize),
    /// The gradient holds NaN or infinity.
    #[error("the answer's gradient is not finite")]
    Gradient,
    /// A vector of another length than the gradient.
    #[error("the vector of {peer} holds {found} numbers where the gradient holds {expected}")]
    Length {
        /// The contributor.
        peer: PeerId,
        /// Length of the gradient, or of the vectors before.
        expected: usize,
        /// Length of the vector.
        found: usize,
    },
    /// A contribution with NaN or infinity.
    #[error("the vector of {0} is not finite")]
    Vector(PeerId),
    /// An adapter half way through a stage that is none.
    #[error("the adapter half way through a stage cannot be had: {0}")]
    Middle(#[from] AdapterError),
    /// A round whose contributions are masked: shares rest on what each contributor added.
    #[error(
        "a round keeps what each contributor added masked, so shares of an answer cannot be told"
    )]
    Masked,
    /// Gradients of more or fewer stages than the run is looked at in.
    #[error("an answer has gradients of {found} stages where the run has {expected}")]
    Stages {
        /// Stages of the run.
        expected: usize,
        /// Stages with a gradient.
        found: usize,
    },
}

/// Loss of one token of the answer under both models, nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLoss {
    /// Without the adapter.
    pub base: f64,
    /// With it.
    pub adapter: f64,
}

/// What each peer moved over a run, or a stage of it: the sum of its contribution vectors.
#[derive(Clone, Debug, Default)]
pub struct Moved {
    vectors: BTreeMap<PeerId, Vec<f32>>,
}

impl Moved {
    /// Adds one certified round's contribution vectors. Rounds are added in their order, which fixes
    /// the rounding. Nothing is added when a vector does not fit.
    ///
    /// # Errors
    /// [`QueryError::Length`] or [`QueryError::Vector`].
    pub fn add<C: Vector>(&mut self, round: &[(PeerId, C)]) -> Result<(), QueryError> {
        let first = round.first().map(|(_, c)| c.count());
        let known = self.vectors.values().next().map(Vec::len);
        let expected = known.or(first).unwrap_or(0);
        for (peer, vector) in round {
            check(*peer, vector, expected)?;
        }
        for (peer, vector) in round {
            let sum = (self.vectors.entry(*peer)).or_insert_with(|| vec![0.0; expected]);
            vector.visit(&mut |at, value| sum[at] += value);
        }
        Ok(())
    }

    /// Peers and their sums, ordered by peer.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, &[f32])> + Clone {
        self.vectors.iter().map(|(peer, sum)| (*peer, &sum[..]))
    }
}

fn check(peer: PeerId, vector: &(impl Vector + ?Sized), expected: usize) -> Result<(), QueryError> {
    if vector.count() != expected {
        let found = vector.count();
        return Err(QueryError::Length {
            peer,
            expected,
            found,
        });
    }
    if !vector.is_finite() {
        return Err(QueryError::Vector(peer));
    }
    Ok(())
}

/// Shares of one answer. `nobody` and all shares add up to one billion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerShares {
    /// What the base model would have said anyway, and what no contributor's influence explains.
    pub nobody: Ppb,
    /// One line per contributor, ordered by peer.
    pub shares: Vec<AnswerShare>,
}

/// One contributor's part in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerShare {
    /// The contributor.
    pub peer: PeerId,
    /// `-<grad, C_i>` in the unit of the gradient's loss; positive made the answer likelier.
    pub influence: NanoNats,
    /// Part of the answer.
    pub share: Ppb,
}

/// The part of an answer that the base model would have given too, between zero and one: the mean
/// over its tokens of `min(1, p_base / p_adapter)`.
///
/// # Errors
/// [`QueryError::Empty`] or [`QueryError::Loss`].
pub fn base_part(tokens: &[TokenLoss]) -> Result<f64, QueryError> {
    if tokens.is_empty() {
        return Err(QueryError::Empty);
    }
    let bad = |loss: f64| !loss.is_finite() || loss < 0.0;
    if let Some(at) = (tokens.iter()).position(|t| bad(t.base) || bad(t.adapter)) {
        return Err(QueryError::Loss(at));
    }
    let kept: f64 = (tokens.iter())
        .map(|t| (t.adapter - t.base).exp().min(1.0))
        .sum();
    Ok(kept / tokens.len() as f64)
}

/// Shares of one answer. `gradient` is that of the answer's loss at the adapter that gave it, flat;
/// `moved` lists the vectors `C_i`, as long as the gradient, ordered by peer.
///
/// # Errors
/// See [`QueryError`].
pub fn shares<'a>(
    gradient: &[f32],
    moved: impl IntoIterator<Item = (PeerId, &'a [f32])>,
    tokens: &[TokenLoss],
) -> Result<AnswerShares, QueryError> {
    let base = base_part(tokens)?;
    let influences = influences(gradient, moved)?;
    Ok(divide(base, &influences))
}

/// `-<gradient, C_i>` of every peer.
fn influences<'a>(
    gradient: &[f32],
    moved: impl IntoIterator<Item = (PeerId, &'a [f32])>,
) -> Result<Vec<(PeerId, f64)>, QueryError> {
    if gradient.iter().any(|v| !v.is_finite()) {
        return Err(QueryError::Gradient);
    }
    let descent: Vec<f64> = gradient.iter().map(|&g| -f64::from(g)).collect();
    (moved.into_iter())
        .map(|(peer, vector)| {
            check(peer, vector, gradient.len())?;
            Ok((peer, vector::dot(&descent, vector)))
        })
        .collect()
}

/// Splits what the base does not explain by the positive influences.
fn divide(base: f64, influences: &[(PeerId, f64)]) -> AnswerShares {
    let adapters = ((1.0 - base) * f64::from(Ppb::ONE.0)).round() as u128;
    let most = influences.iter().map(|(_, i)| *i).fold(0.0, f64::max);
    // Relative to the largest, so that tiny gradients keep their proportions in integers.
    let weight = |influence: f64| match most > 0.0 {
        true => (influence.max(0.0) / most * (1u64 << 52) as f64) as u64,
        false => 0,
    };
    let weights: Vec<(PeerId, u64)> = (influences.iter())
        .map(|(peer, influence)| (*peer, weight(*influence)))
        .collect();
    let parts = money::apportion(adapters, &weights).unwrap_or_else(|| vec![0; weights.len()]);
    let given: u128 = parts.iter().sum();
    let shares = (influences.iter().zip(&parts))
        .map(|((peer, influence), part)| AnswerShare {
            peer: *peer,
            influence: NanoNats::from_nats(*influence),
            share: ppb(*part),
        })
        .collect();
    AnswerShares {
        nobody: ppb(u128::from(Ppb::ONE.0) - given),
        shares,
    }
}

fn ppb(part: u128) -> Ppb {
    Ppb(u32::try_from(part).expect("a part of one billion fits"))
}

#[cfg(test)]
mod tests;
