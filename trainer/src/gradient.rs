//! Loss and gradient at any point, for attribution.
//!
//! A path integral needs the gradient of a hold-out's loss at a few points: one forward and one backward pass each,
//! and a dot product per contributor in the caller. `answer` has what an answer needs.

use tributary_protocol::adapter::{Adapter, Trainable};

use crate::base::BaseModel;
use crate::data::{BatchError, Windows};
use crate::evaluate::{BATCH_TOKENS, Evaluation};
use crate::lora::{Factors, LoraError};
use crate::model::{Batch, Model, download};
use crate::tokenizer::TokenizerError;

/// Why a gradient cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum GradientError {
    /// The adapter does not fit the base.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// The prompt or answer could not be encoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A token the model does not know.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Nothing is predicted.
    #[error("no token is predicted: an answer needs a token before it and one of its own")]
    Nothing,
    /// A text that the model was not made for.
    #[error("prompt and answer have {found} tokens and the base model reads {most}; shorten one")]
    TooLong {
        /// Tokens of both.
        found: usize,
        /// The most.
        most: usize,
    },
}

/// A mean loss and its gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct LossGradient {
    /// Mean negative log likelihood in nats per predicted token.
    pub loss: f64,
    /// Tokens predicted.
    pub predicted: u64,
    /// Derivative of `loss` by each number of the adapter, in its flat layout.
    pub gradient: Vec<f32>,
}

/// Loss of `windows` and its gradient by both factors at `adapter`.
///
/// # Errors
/// See [`GradientError`].
pub fn loss_and_gradient(
    base: &BaseModel,
    adapter: &Adapter,
    windows: &Windows,
) -> Result<LossGradient, GradientError> {
    over(
        base,
        adapter,
        Trainable::Both,
        windows.batches(BATCH_TOKENS),
    )
}

/// As [`loss_and_gradient`], by the factors of `trainable` only; the others' derivatives are zero.
///
/// # Errors
/// See [`GradientError`].
pub fn partial_loss_and_gradient(
    base: &BaseModel,
    adapter: &Adapter,
    trainable: Trainable,
    windows: &Windows,
) -> Result<LossGradient, GradientError> {
    over(base, adapter, trainable, windows.batches(BATCH_TOKENS))
}

/// `sum a_i b_i` in f64, in order.
///
/// # Panics
/// If the lengths differ.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "both vectors are of one adapter shape");
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}

pub(crate) fn over(
    base: &BaseModel,
    adapter: &Adapter,
    trainable: Trainable,
    batches: impl IntoIterator<Item = Batch>,
) -> Result<LossGradient, GradientError> {
    let model = base.model().tracked();
    let mut total = Evaluation::default();
    let mut sums = vec![0.0f64; adapter.values().len()];
    for batch in batches {
        let predicted = batch.predicted() as u64;
        if predicted == 0 {
            continue;
        }
        let (sum, gradient) = of_batch(&model, adapter, trainable, &batch)?;
        total = total.plus(sum, predicted);
        let weight = predicted as f64;
        for (sum, g) in sums.iter_mut().zip(gradient) {
            *sum += f64::from(g) * weight;
        }
    }
    if total.predicted == 0 {
        return Err(GradientError::Nothing);
    }
    let mean = |sum: f64| (sum / total.predicted as f64) as f32;
    Ok(LossGradient {
        loss: total.nll,
        predicted: total.predicted,
        gradient: sums.into_iter().map(mean).collect(),
    })
}

/// Sum of a batch's losses in nats, and the gradient of their mean in the adapter's flat layout, zero
/// on factors that `trainable` leaves out. `model` is [`Model::tracked`].
pub(crate) fn of_batch(
    model: &Model,
    adapter: &Adapter,
    trainable: Trainable,
    batch: &Batch,
) -> Result<(f64, Vec<f32>), LoraError> {
    if let Some(lean) = model.lean() {
        return lean.loss_and_gradient(adapter, trainable, batch);
    }
    let factors = Factors::new(model.config(), adapter, Some(trainable), model.device())?;
    let sum = model.loss_sum(Some(&factors), batch);
    let mean = sum.clone() / batch.predicted() as f64;
    let gradient = factors.gradient(&mut mean.backward());
    Ok((f64::from(download(sum)[0]), gradient))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::evaluate;
    use crate::testing::{random_adapter, tiny_base};

    fn moved(adapter: &Adapter, direction: &[f32], by: f32) -> Adapter {
        let pairs = adapter.values().iter().zip(direction);
        let values = pairs.map(|(v, d)| v + by * d).collect();
        Adapter::new(adapter.shape().clone(), values).unwrap()
    }

    fn windows(base: &BaseModel) -> Windows {
        let text = "peter piper picked a peck of pickled peppers";
        Windows::from_documents(base, [text, "how much wood"], 16).unwrap()
    }

    #[test]
    fn gradient_equals_finite_differences_in_random_directions() {
        let base = tiny_base();
        let adapter = random_adapter(&base, 3, 1);
        let windows = windows(&base);
        let at = loss_and_gradient(&base, &adapter, &windows).unwrap();
        let here = evaluate(&base, Some(&adapter), &windows).unwrap();
        assert!((at.loss - here.nll).abs() < 1e-6);
        for seed in 10..20 {
            let direction = random_adapter(&base, 3, seed).into_values();
            let step = 5e-4;
            let loss = |by: f32| {
                evaluate(&base, Some(&moved(&adapter, &direction, by)), &windows)
                    .unwrap()
                    .nll
            };
            let measured = (loss(step) - loss(-step)) / (2.0 * f64::from(step));
            let predicted = dot(&at.gradient, &direction);
            let size = at
                .gradient
                .iter()
                .fold(0.0f64, |m, g| m.max(f64::from(g.abs())));
            assert!(
                (measured - predicted).abs() < 0.01 * size.max(predicted.abs()),
                "{measured} {predicted}"
            );
        }
    }

    #[test]
    fn partial_gradients_are_parts_of_the_whole() {
        let base = tiny_base();
        let adapter = random_adapter(&base, 3, 1);
        let windows = windows(&base);
        let whole = loss_and_gradient(&base, &adapter, &windows).unwrap();
        for trainable in [Trainable::A, Trainable::B] {
            let part = partial_loss_and_gradient(&base, &adapter, trainable, &windows).unwrap();
            for segment in adapter.shape().segments() {
                for at in segment.range() {
                    let expected = match trainable.includes(segment.factor) {
                        true => whole.gradient[at],
                        false => 0.0,
                    };
                    assert_eq!(part.gradient[at], expected);
                }
            }
        }
    }
}
