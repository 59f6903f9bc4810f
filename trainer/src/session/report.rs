//! What one step did, for people and machines.

use std::fmt;

use serde::Serialize;

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u32,
    /// Steps the session will do.
    pub steps: u32,
    /// Mean loss of the batch before the step, in nats per predicted token.
    pub loss: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Global norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Tokens predicted in this step.
    pub predicted: u64,
    /// Tokens computed in this step, those that are only read included, padding not.
    pub tokens: u64,
    /// Wall time of this step in milliseconds.
    pub elapsed_ms: f64,
    /// What the remaining steps will take at the pace so far, in milliseconds.
    pub remaining_ms: f64,
    /// Memory of this process, in bytes, where the system tells.
    pub resident_bytes: Option<u64>,
}

impl StepReport {
    /// Tokens computed per second.
    pub(crate) fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / (self.elapsed_ms / 1e3).max(1e-9)
    }
}

impl fmt::Display for StepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "step {}/{}: loss {:.4}, rate {:.2e}, gradient {:.3}, {:.0} tokens/s",
            self.step,
            self.steps,
            self.loss,
            self.learning_rate,
            self.gradient_norm,
            self.tokens_per_second()
        )?;
        if let Some(bytes) = self.resident_bytes {
            write!(f, ", {} MiB", bytes >> 20)?;
        }
        match self.remaining_ms > 0.0 {
            true => write!(f, ", {} left", Span(self.remaining_ms)),
            false => Ok(()),
        }
    }
}

/// A time in milliseconds as people say it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span(pub f64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = (self.0 / 1e3).ceil() as u64;
        match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
            (0, 0, s) => write!(f, "{s} s"),
            (0, m, s) => write!(f, "{m} min {s:02} s"),
            (h, m, _) => write!(f, "{h} h {m:02} min"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_one_line_for_people() {
        let report = StepReport {
            step: 3,
            steps: 16,
            loss: 2.5,
            learning_rate: 2e-3,
            gradient_norm: 0.25,
            predicted: 90,
            tokens: 100,
            elapsed_ms: 500.0,
            remaining_ms: 6_500.0,
            resident_bytes: Some(300 << 20),
        };
        assert_eq!(
            report.to_string(),
            "step 3/16: loss 2.5000, rate 2.00e-3, gradient 0.250, 200 tokens/s, 300 MiB, 7 s left"
        );
        assert_eq!(Span(125_000.0).to_string(), "2 min 05 s");
        assert_eq!(Span(7_500_000.0).to_string(), "2 h 05 min");
    }
}
