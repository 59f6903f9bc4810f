//! Which token follows, given the model's logits.
//!
//! A [`Sampler`] changes the logits in this order: bias, repetition penalty, presence and frequency penalties, mask,
//! temperature. Then the filters keep the likeliest tokens, a tie going to the smaller token: `top_k` of them; of these
//! the fewest that have `top_p` of their mass together; of these such as have `min_p` of the likeliest one's
//! probability. Among what is left Gumbel noise chooses: the token whose tempered logit and noise have the largest sum.
//! That is a draw by the probabilities (Gumbel 1954), and since each token's noise follows from seed, position and token
//! alone, those who hold the seed repeat it without the draws before it, and see how far a token that somebody else
//! chose is from theirs ([`Sampler::margin`]; Token-DiFR, arXiv 2511.20621).
//!
//! Every result is the same on every machine (`sample/math.rs`).

mod filter;
mod margin;
pub(crate) mod math;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::model::vector;
use crate::request::{Refused, Token};
use math::{Noise, key, ln, score_of, tempered, token_of, total};

/// How tokens are chosen. The default takes the most likely one.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Zero takes the most likely token; larger values flatten the choice.
    pub temperature: f32,
    /// Draw only among the likeliest tokens that together have this probability; 1 keeps all.
    pub top_p: f32,
    /// Draw only among so many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Draw only among tokens with at least this part of the likeliest one's probability; 0 keeps all.
    pub min_p: f32,
    /// Taken from the logit of each token that the answer holds already.
    pub presence_penalty: f32,
    /// Taken from the logit of a token for each time that the answer holds it.
    pub frequency_penalty: f32,
    /// Divides positive and multiplies negative logits of tokens that prompt or answer hold; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Added to the logits of single tokens, in ascending order of tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

/// Most tokens with a bias, as many as the best known interfaces take.
pub const MOST_BIASED: usize = 1024;

/// Highest temperature. At 100 the choice is as good as even.
pub const MOST_TEMPERATURE: f32 = 100.0;

/// Largest magnitude of a logit. A sound model's are below a thousand; beyond this, penalties may overflow.
const MOST_LOGIT: f32 = 1e30;

impl Sampling {
    /// Whether every constant is within its range, for a vocabulary of `vocab` tokens.
    ///
    /// # Errors
    /// [`Refused::Sampling`], with the field and what it allows.
    pub fn check(&self, vocab: usize) -> Result<(), Refused> {
        let within = |field, value: f32, least: f32, most: f32| {
            let is_within = value >= least && value <= most;
            let why = || format!("is {value}; give a number from {least} to {most}");
            (is_within.then_some(())).ok_or_else(|| refused(field, why()))
        };
        within("temperature", self.temperature, 0.0, MOST_TEMPERATURE)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        let above_zero = [
            ("top_p", self.top_p, 1.0),
            ("repetition_penalty", self.repetition_penalty, 10.0),
        ];
        for (field, value, most) in above_zero {
            if !(value > 0.0 && value <= most) {
                let why = format!("is {value}; give a number above 0 and up to {most}");
                return Err(refused(field, why));
            }
        }
        self.check_bias(vocab)
    }

    fn check_bias(&self, vocab: usize) -> Result<(), Refused> {
        const FIELD: &str = "logit_bias";
        let bias = &self.logit_bias;
        if bias.len() > MOST_BIASED {
            let why = format!("has {} tokens; give at most {MOST_BIASED}", bias.len());
            return Err(refused(FIELD, why));
        }
        for (token, value) in bias {
            if *token as usize >= vocab {
                let why = format!("names the token {token}; this model has {vocab}, from 0");
                return Err(refused(FIELD, why));
            }
            if !(-100.0..=100.0).contains(value) {
                let why = format!("of token {token} is {value}; give a number from -100 to 100");
                return Err(refused(FIELD, why));
            }
        }
        if !bias.is_sorted_by(|a, b| a.0 < b.0) {
            let why = "names tokens out of order or twice; name each once, in ascending order";
            return Err(refused(FIELD, why.to_string()));
        }
        Ok(())
    }

    /// Whether every token that the mask allows may be drawn.
    fn keeps_all(&self) -> bool {
        self.top_k == 0 && self.top_p >= 1.0 && self.min_p <= 0.0
    }
}

fn refused(field: &'static str, why: String) -> Refused {
    Refused::Sampling { field, why }
}

/// Why no token is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrawError {
    /// The forward pass gave something that is no logit.
    #[error(
        "the logit of token {token} is no usable number: the weights or the adapter are damaged; fetch them again"
    )]
    Damaged {
        /// Whose logit.
        token: u32,
    },
    /// The mask is empty.
    #[error("no token may follow: the constraint allows none; loosen the schema or grammar")]
    NothingAllowed,
}

/// How often a token was seen.
#[derive(Clone, Copy, Default)]
struct Seen {
    in_prompt: bool,
    in_answer: u32,
}

/// Draws the tokens of one request.
pub struct Sampler {
    sampling: Sampling,
    vocab: usize,
    /// One over the temperature.
    inverse: f64,
    /// Tokens that have penalties; empty when there are none.
    seen: BTreeMap<u32, Seen>,
    /// Logits after penalties, of forbidden tokens negative infinity.
    scores: Vec<f32>,
    /// Tokens that are left, as [`key`]s.
    keys: Vec<u64>,
}

impl Sampler {
    /// Draws by `sampling`, which [`Sampling::check`] found sound, what follows `prompt`.
    ///
    /// # Panics
    /// When a token of the prompt is not in the vocabulary.
    pub fn new(sampling: Sampling, prompt: &[u32], vocab: usize) -> Self {
        debug_assert_eq!(sampling.check(vocab), Ok(()));
        assert!(prompt.iter().all(|token| (*token as usize) < vocab));
        let mut seen = BTreeMap::new();
        if sampling.repetition_penalty != 1.0 {
            let of_prompt = Seen {
                in_prompt: true,
                in_answer: 0,
            };
            seen.extend(prompt.iter().map(|token| (*token, of_prompt)));
        }
        Self {
            inverse: 1.0 / f64::from(sampling.temperature),
            sampling,
            vocab,
            seen,
            scores: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// Takes note of a token of the answer.
    ///
    /// # Panics
    /// When it is not in the vocabulary.
    pub fn accept(&mut self, token: u32) {
        assert!((token as usize) < self.vocab);
        let sampling = &self.sampling;
        if sampling.repetition_penalty != 1.0
            || sampling.presence_penalty != 0.0
            || sampling.frequency_penalty != 0.0
        {
            self.seen.entry(token).or_default().in_answer += 1;
        }
    }

    /// The token that follows, where `position` counts the tokens before it. `allowed` has bit `id % 32` of word
    /// `id / 32` set for each token that may follow; tokens beyond its end may not. With `logprobs`, the token comes with
    /// its logarithm of probability and with so many of the likeliest ones.
    ///
    /// # Errors
    /// See [`DrawError`].
    ///
    /// # Panics
    /// When there is not one logit for each token of the vocabulary.
    pub fn draw(
        &mut self,
        logits: &[f32],
        position: u64,
        allowed: Option<&[u32]>,
        logprobs: Option<usize>,
    ) -> Result<Token, DrawError> {
        let most = self.score(logits, allowed)?;
        let id = if self.sampling.temperature == 0.0 {
            self.first_with(most)
        } else {
            let noise = Noise::new(self.sampling.seed, position);
            self.keep(most);
            self.noisiest(most, noise).0
        };
        let mut token = Token {
            id,
            logprob: 0.0,
            top: Vec::new(),
        };
        if let Some(count) = logprobs {
            self.report(logits, count, &mut token);
        }
        Ok(token)
    }

    /// How far, in logits, `token` is from the one that [`Self::draw`] takes: the least difference between logits that
    /// would make it the one. 0 when it is the one, infinite when the mask forbids it. A model computed elsewhere gives
    /// logits that differ in their last bits, so an honest token has a small margin, also next to a filter's edge, where
    /// either side may have dropped what the other kept (`sample/margin.rs`).
    ///
    /// # Errors
    /// See [`DrawError`].
    ///
    /// # Panics
    /// When there is not one logit for each token of the vocabulary, or the token is not in it.
    pub fn margin(
        &mut self,
        logits: &[f32],
        position: u64,
        allowed: Option<&[u32]>,
        token: u32,
    ) -> Result<f32, DrawError> {
        let most = self.score(logits, allowed)?;
        let score = self.scores[token as usize];
        if score == f32::NEG_INFINITY {
            return Ok(f32::INFINITY);
        }
        if self.sampling.temperature == 0.0 {
            return Ok(most - score);
        }
        let noise = Noise::new(self.sampling.seed, position);
        let margin = if self.sampling.keeps_all() {
            let own = tempered(score, most, self.inverse) + noise.of(token);
            self.noisiest(most, noise).1 - own
        } else {
            self.margin_of_filtered(most, noise, token)
        };
        Ok((margin / self.inverse) as f32)
    }

    /// Writes the scores; gives the best.
    fn score(&mut self, logits: &[f32], allowed: Option<&[u32]>) -> Result<f32, DrawError> {
        assert_eq!(logits.len(), self.vocab, "one logit for each token");
        // Nothing that is not a number is within a range.
        let is_sound = |logit: &f32| (-MOST_LOGIT..=MOST_LOGIT).contains(logit);
        if !logits.iter().fold(true, |all, logit| all & is_sound(logit)) {
            let token = logits.iter().position(|logit| !is_sound(logit));
            let token = token.expect("one of them is not sound") as u32;
            return Err(DrawError::Damaged { token });
        }
        let Self {
            scores, sampling, ..
        } = self;
        scores.clear();
        scores.extend_from_slice(logits);
        for (token, bias) in &sampling.logit_bias {
            scores[*token as usize] += bias;
        }
        for (token, seen) in &self.seen {
            let score = &mut scores[*token as usize];
            if *score > 0.0 {
                *score /= sampling.repetition_penalty;
            } else {
                *score *= sampling.repetition_penalty;
            }
            if seen.in_answer > 0 {
                *score -= sampling.presence_penalty;
                *score -= sampling.frequency_penalty * seen.in_answer as f32;
            }
            debug_assert!(seen.in_prompt || seen.in_answer > 0);
        }
        if let Some(allowed) = allowed {
            forbid(scores, allowed);
        }
        let most = largest(scores);
        if most == f32::NEG_INFINITY {
            return Err(DrawError::NothingAllowed);
        }
        Ok(most)
    }

    /// The first token that has the score.
    fn first_with(&self, score: f32) -> u32 {
        let place = self.scores.iter().position(|s| *s == score);
        place.expect("a score is one of the scores") as u32
    }

    /// Of the tokens that are left, the one with the largest sum of tempered score and noise, and that sum.
    fn noisiest(&self, most: f32, noise: Noise) -> (u32, f64) {
        let mut best = (0, f64::NEG_INFINITY);
        let mut take = |token: u32, x: f64| {
            // With less noise than this it stays behind the best.
            let Some(noise) = noise.reaching(token, best.1 - x) else {
                return;
            };
            let sum = x + noise;
            if sum > best.1 || (sum == best.1 && token < best.0) {
                best = (token, sum);
            }
        };
        if self.sampling.keeps_all() {
            // The likeliest one first: few of the others reach it.
            take(self.first_with(most), 0.0);
            for (token, score) in self.scores.iter().enumerate() {
                if *score > f32::NEG_INFINITY {
                    take(token as u32, tempered(*score, most, self.inverse));
                }
            }
        } else {
            for key in &self.keys {
                let x = tempered(score_of(*key), most, self.inverse);
                take(token_of(*key), x);
            }
        }
        assert!(best.1.is_finite(), "the likeliest token is always left");
        best
    }

    /// Adds the model's own probabilities.
    fn report(&mut self, logits: &[f32], count: usize, token: &mut Token) {
        let most = largest(logits);
        let normaliser = ln(total(logits, most, 1.0) as f64 / math::ONE);
        let logprob = |logit: f32| (tempered(logit, most, 1.0) - normaliser) as f32;
        token.logprob = logprob(logits[token.id as usize]);
        let count = count.min(self.vocab);
        if count == 0 {
            return;
        }
        let keys = &mut self.keys;
        keys.clear();
        keys.extend((0u32..).zip(logits).map(|(id, logit)| key(*logit, id)));
        keys.select_nth_unstable_by(count - 1, |a, b| b.cmp(a));
        keys.truncate(count);
        keys.sort_unstable_by(|a, b| b.cmp(a));
        let top = keys.iter().map(|key| {
            let logit = score_of(*key);
            (token_of(*key), logprob(logit))
        });
        token.top.extend(top);
    }
}

/// The largest of all.
fn largest(scores: &[f32]) -> f32 {
    vector::fast(
        #[inline(always)]
        || vector::max(scores),
    )
}

/// Sets the scores of tokens outside the mask to negative infinity.
fn forbid(scores: &mut [f32], allowed: &[u32]) {
    let words = allowed.iter().copied().chain(std::iter::repeat(0));
    for (scores, word) in scores.chunks_mut(32).zip(words) {
        match word {
            u32::MAX => {}
            0 => scores.fill(f32::NEG_INFINITY),
            _ => {
                for (bit, score) in scores.iter_mut().enumerate() {
                    if word >> bit & 1 == 0 {
                        *score = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }
}
