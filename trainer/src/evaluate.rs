//! Mean loss of a model on held-out text.

/// A sum of negative log likelihoods and how many tokens it is over.
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
        let nll = if predicted == 0 {
            0.0
        } else {
            total / predicted as f64
        };
        Self { nll, predicted }
    }
}
