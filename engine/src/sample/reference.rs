//! Draws as their definition says: every token gets its noise, and the whole vocabulary is sorted.

use super::math::{Noise, ln, mass};
use super::{Sampler, Sampling};

/// A text, and what the model says follows.
pub(super) struct Case<'a> {
    pub(super) sampling: &'a Sampling,
    pub(super) prompt: &'a [u32],
    pub(super) answer: &'a [u32],
    pub(super) logits: &'a [f32],
    pub(super) allowed: Option<&'a [u32]>,
}

impl Case<'_> {
    /// The fast twin after the same text.
    pub(super) fn sampler(&self) -> Sampler {
        let mut sampler = Sampler::new(self.sampling.clone(), self.prompt, self.logits.len());
        for token in self.answer {
            sampler.accept(*token);
        }
        sampler
    }

    fn score(&self, token: u32) -> Option<f32> {
        if let Some(words) = self.allowed {
            let word = words.get(token as usize / 32).copied().unwrap_or(0);
            if word & (1 << (token % 32)) == 0 {
                return None;
            }
        }
        let sampling = self.sampling;
        let mut score = self.logits[token as usize];
        for (biased, bias) in &sampling.logit_bias {
            if *biased == token {
                score += bias;
            }
        }
        let times = self.answer.iter().filter(|t| **t == token).count();
        if times > 0 || self.prompt.contains(&token) {
            if score > 0.0 {
                score /= sampling.repetition_penalty;
            } else {
                score *= sampling.repetition_penalty;
            }
        }
        if times > 0 {
            score -= sampling.presence_penalty;
            score -= sampling.frequency_penalty * times as f32;
        }
        Some(score)
    }

    /// The tokens that may be drawn, likeliest first, with their tempered scores; nothing when the mask is empty.
    pub(super) fn kept(&self) -> Vec<(u32, f64)> {
        let sampling = self.sampling;
        let mut tokens: Vec<(u32, f32)> = (0..self.logits.len() as u32)
            .filter_map(|token| Some((token, self.score(token)?)))
            .collect();
        tokens.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
        let Some((_, most)) = tokens.first().copied() else {
            return Vec::new();
        };
        let inverse = 1.0 / f64::from(sampling.temperature);
        let tempered = |score: f32| (f64::from(score) - f64::from(most)) * inverse;
        let mut kept: Vec<(u32, f64)> = tokens.iter().map(|(t, s)| (*t, tempered(*s))).collect();
        if sampling.temperature == 0.0 {
            kept.truncate(1);
            return kept;
        }
        if sampling.top_k > 0 {
            kept.truncate(sampling.top_k);
        }
        if sampling.top_p < 1.0 {
            let sum: u64 = kept.iter().map(|(_, x)| mass(*x)).sum();
            let enough = (sum as f64 * f64::from(sampling.top_p)).ceil() as u64;
            let mut before = 0;
            kept.retain(|(_, x)| {
                let is_in = before < enough;
                before += mass(*x);
                is_in
            });
        }
        if sampling.min_p > 0.0 {
            kept.retain(|(_, x)| *x >= ln(f64::from(sampling.min_p)));
        }
        kept
    }

    /// The token that follows.
    pub(super) fn draw(&self, position: u64) -> Option<u32> {
        let noise = Noise::new(self.sampling.seed, position);
        let sums = self.kept().into_iter().map(|(t, x)| (t, x + noise.of(t)));
        let best = sums.reduce(|best, next| {
            if next.1 > best.1 || (next.1 == best.1 && next.0 < best.0) {
                next
            } else {
                best
            }
        });
        best.map(|(token, _)| token)
    }
}
