//! A hold-out that is checked at every pass.
//!
//! Losses and gradients come from outside this crate; here they become numbers that can be trusted:
//! finite, of the right length, weighted by predicted tokens. The scoring rules built on it hold no
//! checks of their own.

use std::error::Error;

use tributary_protocol::id::PeerId;

use crate::utility::{Gradient, LossGradient};
use crate::vector::Vector;

/// Why a hold-out cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError<E: Error + 'static> {
    /// There is nothing to score on.
    #[error("the hold-out has no batch with predicted tokens: add text to it")]
    Empty,
    /// A batch predicts nothing, so that its mean loss does not exist.
    #[error("hold-out batch {batch} predicts no token: leave it out")]
    EmptyBatch {
        /// The batch.
        batch: usize,
    },
    /// The pass itself failed.
    #[error("hold-out batch {batch} failed")]
    Pass {
        /// The batch.
        batch: usize,
        /// The cause.
        #[source]
        source: E,
    },
    /// A loss or a gradient that is NaN or infinite: the adapter diverged, or the model is damaged.
    #[error("hold-out batch {batch} gave a {what} that is not finite: the round cannot be scored")]
    NotFinite {
        /// The batch.
        batch: usize,
        /// `loss` or `gradient`.
        what: &'static str,
    },
    /// A gradient of another length than the adapter.
    #[error("hold-out batch {batch} gave {found} gradient numbers for {expected} parameters")]
    GradientLength {
        /// The batch.
        batch: usize,
        /// Parameters.
        expected: usize,
        /// Numbers given.
        found: usize,
    },
    /// A contribution of another length than the adapter.
    #[error("the contribution of {peer} holds {found} numbers for {expected} parameters")]
    ContributionLength {
        /// The contributor.
        peer: PeerId,
        /// Parameters.
        expected: usize,
        /// Numbers given.
        found: usize,
    },
    /// A contribution with NaN or infinity.
    #[error("the contribution of {peer} holds a number that is not finite")]
    ContributionNotFinite {
        /// The contributor.
        peer: PeerId,
    },
    /// A vector that was public before the round does not fit the adapter, or is not finite.
    #[error(
        "public vector {at} of the rounds before does not hold {expected} finite numbers: it is of another run"
    )]
    Public {
        /// Counted from zero.
        at: usize,
        /// Parameters.
        expected: usize,
    },
    /// Contributions must be strictly ordered by peer: the order fixes every sum.
    #[error("the contribution of {peer} is out of order or given twice: sort by peer")]
    Order {
        /// The first that does not follow the one before it.
        peer: PeerId,
    },
}

/// Checks that contribution vectors fit an adapter of `parameters` numbers.
pub(crate) fn check_contributions<E: Error + 'static, C: Vector>(
    parameters: usize,
    contributions: &[(PeerId, C)],
) -> Result<(), MeasureError<E>> {
    for (peer, vector) in contributions {
        let peer = *peer;
        if vector.count() != parameters {
            return Err(MeasureError::ContributionLength {
                peer,
                expected: parameters,
                found: vector.count(),
            });
        }
        if !vector.is_finite() {
            return Err(MeasureError::ContributionNotFinite { peer });
        }
    }
    match contributions.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
        Some(pair) => Err(MeasureError::Order { peer: pair[1].0 }),
        None => Ok(()),
    }
}

/// Checks that what was public before a round fits an adapter of `parameters` numbers.
pub(crate) fn check_public<E: Error + 'static, V: Vector>(
    parameters: usize,
    public: &[V],
) -> Result<(), MeasureError<E>> {
    let fits = |vector: &V| vector.count() == parameters && vector.is_finite();
    match public.iter().position(|vector| !fits(vector)) {
        Some(at) => Err(MeasureError::Public {
            at,
            expected: parameters,
        }),
        None => Ok(()),
    }
}

/// A [`Gradient`] whose every answer is checked.
pub(crate) struct HoldOut<'a, G> {
    source: &'a mut G,
    tokens: Vec<u64>,
    parameters: usize,
}

impl<'a, G: Gradient> HoldOut<'a, G> {
    pub(crate) fn new(
        source: &'a mut G,
        parameters: usize,
    ) -> Result<Self, MeasureError<G::Error>> {
        let tokens = source.batches();
        if tokens.is_empty() {
            return Err(MeasureError::Empty);
        }
        if let Some(batch) = tokens.iter().position(|&tokens| tokens == 0) {
            return Err(MeasureError::EmptyBatch { batch });
        }
        Ok(Self {
            source,
            tokens,
            parameters,
        })
    }

    /// Number of batches, at least one.
    pub(crate) fn batches(&self) -> usize {
        self.tokens.len()
    }

    /// Predicted tokens of all batches.
    pub(crate) fn predicted(&self) -> u64 {
        self.tokens
            .iter()
            .fold(0, |sum: u64, &t| sum.saturating_add(t))
    }

    /// Each batch's share of the predicted tokens.
    pub(crate) fn weights(&self) -> Vec<f64> {
        let total: f64 = self.tokens.iter().map(|&t| t as f64).sum();
        self.tokens.iter().map(|&t| t as f64 / total).collect()
    }

    pub(crate) fn loss(
        &mut self,
        batch: usize,
        point: &[f32],
    ) -> Result<f64, MeasureError<G::Error>> {
        let loss = (self.source.loss(batch, point))
            .map_err(|source| MeasureError::Pass { batch, source })?;
        finite(batch, loss)
    }

    /// Mean over all batches, weighted by predicted tokens.
    pub(crate) fn mean_loss(&mut self, point: &[f32]) -> Result<f64, MeasureError<G::Error>> {
        let mut mean = 0.0;
        for (batch, weight) in self.weights().into_iter().enumerate() {
            mean += weight * self.loss(batch, point)?;
        }
        Ok(mean)
    }

    pub(crate) fn gradient(
        &mut self,
        batch: usize,
        point: &[f32],
    ) -> Result<Vec<f32>, MeasureError<G::Error>> {
        let LossGradient { loss, gradient } = (self.source.loss_gradient(batch, point))
            .map_err(|source| MeasureError::Pass { batch, source })?;
        finite(batch, loss)?;
        if gradient.len() != self.parameters {
            return Err(MeasureError::GradientLength {
                batch,
                expected: self.parameters,
                found: gradient.len(),
            });
        }
        if gradient.iter().any(|v| !v.is_finite()) {
            return Err(MeasureError::NotFinite {
                batch,
                what: "gradient",
            });
        }
        Ok(gradient)
    }
}

fn finite<E: Error + 'static>(batch: usize, loss: f64) -> Result<f64, MeasureError<E>> {
    if loss.is_finite() {
        Ok(loss)
    } else {
        Err(MeasureError::NotFinite {
            batch,
            what: "loss",
        })
    }
}
