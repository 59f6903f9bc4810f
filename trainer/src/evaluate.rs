//! Mean loss of a model on held-out text.

use tributary_protocol::adapter::Adapter;

use crate::base::BaseModel;
use crate::data::Windows;
use crate::lora::{Factors, LoraError};
use crate::model::download;
use crate::progress::{Control, Progress};

/// Tokens computed at a time: the activations of more leave the processor's cache.
pub(crate) const BATCH_TOKENS: usize = 1024;

/// A mean negative log likelihood and how many tokens it is over.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Mean negative log likelihood in nats per predicted token; zero when nothing was predicted.
    pub nll: f64,
    /// Tokens predicted.
    pub predicted: u64,
}

impl Evaluation {
    /// Adds a batch whose negative log likelihoods sum to `sum` over `predicted` tokens.
    pub(crate) fn plus(self, sum: f64, predicted: u64) -> Self {
        let total = self.nll * self.predicted as f64 + sum;
        let predicted = self.predicted + predicted;
        let nll = match predicted {
            0 => 0.0,
            _ => total / predicted as f64,
        };
        Self { nll, predicted }
    }

    /// The evaluation of two texts together.
    pub fn and(self, other: Self) -> Self {
        self.plus(other.nll * other.predicted as f64, other.predicted)
    }
}

/// Loss of the base, or of the base with an adapter, on every window. Computed in f32, summed in f64.
///
/// # Errors
/// When the adapter does not fit the base.
pub fn evaluate(
    base: &BaseModel,
    adapter: Option<&Adapter>,
    windows: &Windows,
) -> Result<Evaluation, LoraError> {
    let progress = &mut |_: &u64| Control::Continue;
    let whole = evaluate_with(base, adapter, windows, progress)?;
    Ok(whole.expect("nobody says stop"))
}

/// As [`evaluate`], and tells `progress` after each batch how many tokens are predicted; None when it says stop.
///
/// # Errors
/// When the adapter does not fit the base.
pub fn evaluate_with(
    base: &BaseModel,
    adapter: Option<&Adapter>,
    windows: &Windows,
    progress: &mut impl Progress<u64>,
) -> Result<Option<Evaluation>, LoraError> {
    let mut total = Evaluation::default();
    // Of its own, so that its buffers do not outlive this call.
    if let Some(lean) = base.model().tracked().lean() {
        for batch in windows.batches(BATCH_TOKENS) {
            total = total.plus(lean.loss_sum(adapter, &batch)?, batch.predicted() as u64);
            if progress.report(&total.predicted) == Control::Stop {
                return Ok(None);
            }
        }
        return Ok(Some(total));
    }
    let model = base.model();
    let factors = match adapter {
        Some(adapter) => Some(Factors::new(model.config(), adapter, None, model.device())?),
        None => None,
    };
    for batch in windows.batches(BATCH_TOKENS) {
        let sum = download(model.loss_sum(factors.as_ref(), &batch))[0];
        total = total.plus(f64::from(sum), batch.predicted() as u64);
        if progress.report(&total.predicted) == Control::Stop {
            return Ok(None);
        }
    }
    Ok(Some(total))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::{random_adapter, tiny_base};
    use tributary_protocol::hash::Digest;

    #[test]
    fn an_adapter_with_zero_b_changes_nothing() {
        let base = tiny_base();
        let windows = Windows::from_text(&base, &"the quick brown fox ".repeat(9), 16).unwrap();
        let zero = Adapter::init(Arc::new(base.adapter_shape(4, 8)), &Digest::default());
        let plain = evaluate(&base, None, &windows).unwrap();
        assert_eq!(plain, evaluate(&base, Some(&zero), &windows).unwrap());
        assert_eq!(plain.predicted, windows.predicted());
        let moved = random_adapter(&base, 4, 1);
        assert_ne!(plain, evaluate(&base, Some(&moved), &windows).unwrap());
    }

    #[test]
    fn padding_does_not_change_the_loss() {
        let base = tiny_base();
        let adapter = random_adapter(&base, 2, 1);
        let texts = ["abcdefghijkl", "mno", "pqrstu"];
        let together = Windows::from_documents(&base, texts, 8).unwrap();
        let together = evaluate(&base, Some(&adapter), &together).unwrap();
        let mut apart = Evaluation::default();
        for text in texts {
            let windows = Windows::from_text(&base, text, 8).unwrap();
            apart = apart.and(evaluate(&base, Some(&adapter), &windows).unwrap());
        }
        assert_eq!(together.predicted, apart.predicted);
        assert!(
            (together.nll - apart.nll).abs() < 1e-6,
            "{together:?} {apart:?}"
        );
    }
}
