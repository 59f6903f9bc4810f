//! What fixes an answer besides its prompt, as bytes that a signature may cover.

use tributary_protocol::hash::Digest;

use crate::engine::Precision;
use crate::sample::Sampling;

/// Which arithmetic this engine computes with. Answers of engines of the same name agree to the bit, so it changes
/// whenever a change of the engine changes any bit of a logit or a draw; a test holds both together.
pub const ARITHMETIC: &str = "tributary 2";

/// Longest name of an arithmetic, in bytes.
pub const MOST_ARITHMETIC_BYTES: usize = 64;

/// All that decides the tokens of an answer besides its prompt and what restricts it.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// The base's content.
    pub base: Digest,
    /// How its weights were kept.
    pub precision: Precision,
    /// [`ARITHMETIC`] of the engine that answered.
    pub arithmetic: String,
    /// The adapter's content, or none.
    pub adapter: Option<Digest>,
    /// How tokens were chosen, and the seed.
    pub sampling: Sampling,
    /// Most tokens of the answer.
    pub max_tokens: u64,
}

impl Terms {
    /// The terms as bytes: equal exactly when the terms are. Numbers are little endian; a length precedes what has none
    /// of its own.
    ///
    /// # Panics
    /// When the name of the arithmetic is longer than [`MOST_ARITHMETIC_BYTES`].
    pub fn to_bytes(&self) -> Vec<u8> {
        assert!(self.arithmetic.len() <= MOST_ARITHMETIC_BYTES);
        let mut out = Vec::new();
        out.extend_from_slice(self.base.as_bytes());
        out.push(match self.precision {
            Precision::F32 => 0,
            Precision::Int8 => 1,
        });
        out.push(self.arithmetic.len() as u8);
        out.extend_from_slice(self.arithmetic.as_bytes());
        out.push(u8::from(self.adapter.is_some()));
        if let Some(adapter) = &self.adapter {
            out.extend_from_slice(adapter.as_bytes());
        }
        self.write_sampling(&mut out);
        out.extend_from_slice(&self.max_tokens.to_le_bytes());
        out
    }

    fn write_sampling(&self, out: &mut Vec<u8>) {
        let Sampling {
            temperature,
            top_p,
            top_k,
            min_p,
            presence_penalty,
            frequency_penalty,
            repetition_penalty,
            logit_bias,
            seed,
        } = &self.sampling;
        let floats = [
            temperature,
            top_p,
            min_p,
            presence_penalty,
            frequency_penalty,
            repetition_penalty,
        ];
        // Adding zero makes one zero of both.
        let float = |value: &f32| (value + 0.0).to_le_bytes();
        floats.iter().for_each(|value| out.extend(float(value)));
        out.extend((*top_k as u64).to_le_bytes());
        out.extend(seed.to_le_bytes());
        out.extend((logit_bias.len() as u32).to_le_bytes());
        for (token, bias) in logit_bias {
            out.extend(token.to_le_bytes());
            out.extend(float(bias));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms {
            base: Digest::from_bytes([1; 32]),
            precision: Precision::Int8,
            arithmetic: "a 1".into(),
            adapter: Some(Digest::from_bytes([2; 32])),
            sampling: Sampling {
                temperature: 0.5,
                logit_bias: vec![(7, -1.0)],
                seed: 9,
                ..Sampling::default()
            },
            max_tokens: 300,
        }
    }

    #[test]
    fn the_bytes_of_terms_stay_what_they_are() {
        let mut expected = vec![1; 32];
        expected.extend([1, 3, b'a', b' ', b'1', 1]);
        expected.extend([2; 32]);
        // 0.5, 1, 0, 0, 0, 1.
        expected.extend([0, 0, 0, 0x3f, 0, 0, 0x80, 0x3f]);
        expected.extend([0; 12]);
        expected.extend([0, 0, 0x80, 0x3f]);
        expected.extend([0; 8]);
        expected.extend([9, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0x80, 0xbf]);
        expected.extend([0x2c, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(terms().to_bytes(), expected);
    }

    #[test]
    fn every_field_changes_the_bytes_and_the_sign_of_zero_does_not() {
        let with = |change: fn(&mut Terms)| {
            let mut terms = terms();
            change(&mut terms);
            terms.to_bytes()
        };
        let changes: [fn(&mut Terms); 15] = [
            |_| (),
            |t| t.base = Digest::from_bytes([3; 32]),
            |t| t.precision = Precision::F32,
            |t| t.arithmetic = "a 2".into(),
            |t| t.adapter = None,
            |t| t.max_tokens = 301,
            |t| t.sampling.temperature = 0.25,
            |t| t.sampling.top_p = 0.5,
            |t| t.sampling.top_k = 1,
            |t| t.sampling.min_p = 0.5,
            |t| t.sampling.presence_penalty = 0.5,
            |t| t.sampling.frequency_penalty = 0.5,
            |t| t.sampling.repetition_penalty = 0.5,
            |t| t.sampling.logit_bias = vec![],
            |t| t.sampling.seed = 10,
        ];
        let mut all: Vec<_> = changes.into_iter().map(with).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 15);
        assert_eq!(with(|t| t.sampling.min_p = -0.0), terms().to_bytes());
    }
}
