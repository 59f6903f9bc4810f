//! What attribution needs from outside: the worth of a coalition, and losses with gradients.
//!
//! The trainer (or a simulation's learner) implements [`Gradient`] over an evaluator's hold-out; a
//! bank of retrained coalitions implements [`Utility`]. [`LossDrop`] makes the second from the first,
//! so that the exact Shapley value and the path integral can be compared on one and the same game.

use std::error::Error;

use tributary_protocol::id::PeerId;

use crate::coalition::Coalition;
use crate::measure::{HoldOut, MeasureError, check_contributions};
use crate::vector::{self, Vector};

/// A cooperative game: every coalition of players has a worth.
pub trait Utility {
    /// Why a worth cannot be had.
    type Error: Error + 'static;

    /// How many players; they are `0..players()`.
    fn players(&self) -> usize;

    /// What `coalition` achieves together, in any fixed unit (nats of loss drop, usually).
    ///
    /// # Errors
    /// When the worth cannot be measured; the caller gives up.
    fn value(&mut self, coalition: Coalition) -> Result<f64, Self::Error>;
}

/// Loss and gradient of a model on hold-out batches, as functions of the flat adapter vector.
///
/// Points and gradients are in the adapter's flat layout (`AdapterShape`). Where a round does not
/// train a factor, contributions are zero there and the gradient may be given as zero too.
pub trait Gradient {
    /// Why a pass fails.
    type Error: Error + 'static;

    /// Predicted tokens of each batch: its weight in the mean. Constant while a round is scored.
    fn batches(&self) -> Vec<u64>;

    /// Mean loss of one batch at `point`, nats per predicted token. One forward pass.
    ///
    /// # Errors
    /// When the pass fails or is cancelled.
    fn loss(&mut self, batch: usize, point: &[f32]) -> Result<f64, Self::Error>;

    /// Mean loss of one batch at `point` and its gradient there. One forward and one backward pass.
    ///
    /// # Errors
    /// When the pass fails or is cancelled.
    fn loss_gradient(&mut self, batch: usize, point: &[f32]) -> Result<LossGradient, Self::Error>;
}

/// What one forward and backward pass gives.
#[derive(Clone, Debug, PartialEq)]
pub struct LossGradient {
    /// Mean loss, nats per predicted token.
    pub loss: f64,
    /// Its gradient, flat, as long as the point.
    pub gradient: Vec<f32>,
}

/// The game of one round without retraining: a coalition's worth is the loss drop when only its
/// members' contribution vectors are added.
pub struct LossDrop<'a, G, C> {
    hold_out: HoldOut<'a, G>,
    before: &'a [f32],
    contributions: &'a [(PeerId, C)],
    loss_before: f64,
}

impl<'a, G: Gradient, C: Vector> LossDrop<'a, G, C> {
    /// Measures the loss of nobody's coalition once. Player `i` is `contributions[i]`.
    ///
    /// # Errors
    /// See [`MeasureError`].
    pub fn new(
        before: &'a [f32],
        contributions: &'a [(PeerId, C)],
        source: &'a mut G,
    ) -> Result<Self, MeasureError<G::Error>> {
        check_contributions(before.len(), contributions)?;
        let mut hold_out = HoldOut::new(source, before.len())?;
        let loss_before = hold_out.mean_loss(before)?;
        Ok(Self {
            hold_out,
            before,
            contributions,
            loss_before,
        })
    }
}

impl<G: Gradient, C: Vector> Utility for LossDrop<'_, G, C> {
    type Error = MeasureError<G::Error>;

    fn players(&self) -> usize {
        self.contributions.len()
    }

    fn value(&mut self, coalition: Coalition) -> Result<f64, Self::Error> {
        if coalition.is_empty() {
            return Ok(0.0);
        }
        let chosen = coalition
            .members()
            .map(|player| &self.contributions[player].1);
        let step = vector::sum(self.before.len(), chosen);
        let point = vector::along(self.before, &step, 1.0);
        Ok(self.loss_before - self.hold_out.mean_loss(&point)?)
    }
}
