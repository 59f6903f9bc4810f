//! Text from a prompt, greedily or by seeded sampling.

use parking_lot::MutexGuard;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use tributary_engine::{LoadedAdapter, Reader};
use tributary_protocol::adapter::Adapter;
use tributary_protocol::hash::Digest;

use crate::base::BaseModel;
use crate::data::{BatchError, check_ids};
use crate::lora::{Factors, LoraError};
use crate::model::Model;
use crate::model::decode::Cache;
use crate::progress::{Control, Progress};
use crate::tokenizer::TokenizerError;

/// Most tokens of prompt and answer together: bounds the cache, and the cost of one request.
pub(crate) const MAX_GENERATION_TOKENS: usize = 16_384;

/// How to choose tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GenerateConfig {
    /// Most tokens to add.
    pub max_tokens: usize,
    /// Zero takes the most likely token; larger values flatten the choice.
    pub temperature: f64,
    /// Draw only among the likeliest tokens that together have this probability.
    pub top_p: f64,
    /// Seed of the draws.
    pub seed: u64,
    /// Computes in f32 throughout, by tensors, as transformers does. Otherwise the engine reads where it can,
    /// with keys, values and adapter in bf16.
    pub exact: bool,
}

impl Default for GenerateConfig {
    /// Sixty-four tokens, greedily.
    fn default() -> Self {
        Self {
            max_tokens: 64,
            temperature: 0.0,
            top_p: 1.0,
            seed: 0,
            exact: false,
        }
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    End,
    /// `max_tokens` were added.
    Length,
    /// The caller stopped it.
    Stopped,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The added text, special tokens left out.
    pub text: String,
    /// The added tokens, a closing end token included.
    pub token_ids: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt_ids: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
}

/// Why nothing was generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The adapter does not fit the base.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// The prompt could not be encoded or the answer not decoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A token the model does not know.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Prompt and answer are too long.
    #[error(
        "prompt ({prompt}) and answer ({answer}) exceed {MAX_GENERATION_TOKENS} tokens; shorten one"
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Most tokens asked for.
        answer: usize,
    },
    /// An empty prompt and no token that opens a text.
    #[error("the prompt is empty and the model has no token that opens a text; give a prompt")]
    EmptyPrompt,
    /// A sampling constant out of range.
    #[error("temperature must be a number of zero or more and top_p in (0, 1]")]
    Sampling,
    /// The model's output is not a number.
    #[error("the model's logits are not finite; the weights or the adapter are damaged")]
    NotFinite,
}

/// Continues `prompt`.
///
/// # Errors
/// See [`GenerateError`].
pub fn generate(
    base: &BaseModel,
    adapter: Option<&Adapter>,
    prompt: &str,
    config: &GenerateConfig,
) -> Result<Generation, GenerateError> {
    generate_with(base, adapter, prompt, config, &mut |_: &u32| {
        Control::Continue
    })
}

/// Continues `prompt` and tells `progress` of each token as it is chosen.
///
/// # Errors
/// See [`GenerateError`].
pub(crate) fn generate_with(
    base: &BaseModel,
    adapter: Option<&Adapter>,
    prompt: &str,
    config: &GenerateConfig,
    progress: &mut impl Progress<u32>,
) -> Result<Generation, GenerateError> {
    let prompt_ids = prompt_tokens(base, prompt)?;
    continue_ids(base, adapter, prompt_ids, config, progress)
}

/// Continues a prompt that is already encoded.
///
/// # Errors
/// See [`GenerateError`].
pub fn generate_ids(
    base: &BaseModel,
    adapter: Option<&Adapter>,
    prompt: &[u32],
    config: &GenerateConfig,
) -> Result<Generation, GenerateError> {
    if prompt.is_empty() {
        return Err(GenerateError::EmptyPrompt);
    }
    check_ids(prompt, base.config().vocab)?;
    let progress = &mut |_: &u32| Control::Continue;
    continue_ids(base, adapter, prompt.to_vec(), config, progress)
}

fn continue_ids(
    base: &BaseModel,
    adapter: Option<&Adapter>,
    prompt_ids: Vec<u32>,
    config: &GenerateConfig,
    progress: &mut impl Progress<u32>,
) -> Result<Generation, GenerateError> {
    let flattens = config.temperature.is_finite() && config.temperature >= 0.0;
    let keeps_some = config.top_p > 0.0 && config.top_p <= 1.0;
    if !(flattens && keeps_some) {
        return Err(GenerateError::Sampling);
    }
    let answer = config.max_tokens;
    if prompt_ids.len().saturating_add(answer) > MAX_GENERATION_TOKENS {
        return Err(GenerateError::TooLong {
            prompt: prompt_ids.len(),
            answer,
        });
    }
    let mut text = Text::new(base, adapter, prompt_ids.len() + answer, config.exact)?;
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let ends = base.end_tokens();
    let mut pending = prompt_ids.clone();
    let mut token_ids = Vec::new();
    let mut finish = Finish::Length;
    while token_ids.len() < answer {
        let token =
            choose(text.read(&pending), config, &mut rng).ok_or(GenerateError::NotFinite)?;
        token_ids.push(token);
        if ends.contains(&token) {
            finish = Finish::End;
            break;
        }
        if progress.report(&token) == Control::Stop {
            finish = Finish::Stopped;
            break;
        }
        pending = vec![token];
    }
    Ok(Generation {
        text: base.decode(&token_ids)?,
        token_ids,
        prompt_ids,
        finish,
    })
}

/// A text that is continued: in host memory by the engine, elsewhere by the tensors.
enum Text<'a> {
    Engine {
        reader: MutexGuard<'a, Reader>,
        adapter: Option<LoadedAdapter>,
    },
    Tensors {
        model: &'a Model,
        factors: Option<Factors>,
        cache: Cache,
        logits: Vec<f32>,
    },
}

impl<'a> Text<'a> {
    fn new(
        base: &'a BaseModel,
        adapter: Option<&Adapter>,
        tokens: usize,
        exact: bool,
    ) -> Result<Self, LoraError> {
        let (model, config) = (base.model(), base.config());
        let reader = (!exact)
            .then(|| base.reader(MAX_GENERATION_TOKENS))
            .flatten();
        if let Some(mut reader) = reader {
            reader.clear();
            // Its content needs no name here: nothing is kept of it.
            let load = |adapter| LoadedAdapter::new(config, adapter, Digest::default());
            let adapter = adapter.map(load).transpose()?;
            return Ok(Self::Engine { reader, adapter });
        }
        let upload = |adapter| Factors::new(config, adapter, None, model.device());
        Ok(Self::Tensors {
            factors: adapter.map(upload).transpose()?,
            cache: Cache::new(model, tokens),
            model,
            logits: Vec::new(),
        })
    }

    /// Reads more tokens; the logits of what follows.
    fn read(&mut self, tokens: &[u32]) -> &[f32] {
        match self {
            Self::Engine { reader, adapter } => reader.read(tokens, adapter.as_ref()),
            Self::Tensors {
                model,
                factors,
                cache,
                logits,
            } => {
                let tokens: Vec<i32> = tokens.iter().map(|t| *t as i32).collect();
                *logits = model.decode(factors.as_ref(), &tokens, cache);
                logits
            }
        }
    }
}

/// The prompt's tokens, the tokenizer's first one included where it has one; for an empty prompt the token that opens a text, else one that ends one.
fn prompt_tokens(base: &BaseModel, prompt: &str) -> Result<Vec<u32>, GenerateError> {
    let ids = base.encode_from_start(prompt)?;
    if !ids.is_empty() {
        return Ok(ids);
    }
    let opening = base.config().bos.or(base.end_tokens().first().copied());
    let known = opening.filter(|id| (*id as usize) < base.config().vocab);
    known.map(|id| vec![id]).ok_or(GenerateError::EmptyPrompt)
}

/// The next token; None when a logit is not finite.
fn choose(logits: &[f32], config: &GenerateConfig, rng: &mut ChaCha8Rng) -> Option<u32> {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if !logit.is_finite() {
            return None;
        }
        // Of equal logits the first, as everywhere else.
        if *logit > logits[best] {
            best = id;
        }
    }
    if config.temperature == 0.0 {
        return Some(best as u32);
    }
    let largest = f64::from(logits[best]);
    let weigh = |(id, logit): (usize, &f32)| {
        let weight = ((f64::from(*logit) - largest) / config.temperature).exp();
        (id as u32, weight)
    };
    let mut weights: Vec<(u32, f64)> = logits.iter().enumerate().map(weigh).collect();
    weights.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let total: f64 = weights.iter().map(|w| w.1).sum();
    let mut kept = 0.0;
    let mut count = 0;
    while count < weights.len() && kept < config.top_p * total {
        kept += weights[count].1;
        count += 1;
    }
    let mut draw = rng.random::<f64>() * kept;
    for (id, weight) in &weights[..count] {
        draw -= weight;
        if draw < 0.0 {
            return Some(*id);
        }
    }
    Some(weights[count - 1].0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::padded_batch;
    use crate::model::{download, ops};
    use crate::testing::{random_adapter, tiny_base};

    #[test]
    fn cached_logits_equal_those_of_a_whole_pass() {
        let base = tiny_base();
        let model = base.model();
        let adapter = random_adapter(&base, 3, 1);
        let device = model.device();
        let factors = Factors::new(model.config(), &adapter, None, device).unwrap();
        let tokens: Vec<u32> = (0..40).map(|i| i * 17 % 30 + 3).collect();
        let ids: Vec<i32> = tokens.iter().map(|t| *t as i32).collect();
        for adapter in [None, Some(&factors)] {
            let hidden = model.hidden(adapter, &padded_batch(&[&tokens], 1));
            let whole = download(ops::linear(hidden, model.head_matrix(), None));
            let mut cache = Cache::new(model, 40);
            // A prompt of 7 in two pieces, then one token after the other.
            model.decode(adapter, &ids[..4], &mut cache);
            model.decode(adapter, &ids[4..7], &mut cache);
            for position in 7..40 {
                let logits = model.decode(adapter, &ids[position..=position], &mut cache);
                let expected = &whole[position * 48..(position + 1) * 48];
                for (a, b) in logits.iter().zip(expected) {
                    assert!(
                        (a - b).abs() < 1e-3 * b.abs().max(1.0),
                        "{position}: {a} {b}"
                    );
                }
            }
            assert_eq!(cache.room(), 0);
        }
    }

    #[test]
    fn greedy_text_is_that_of_the_most_likely_tokens() {
        let base = tiny_base();
        let config = GenerateConfig {
            max_tokens: 20,
            ..GenerateConfig::default()
        };
        let answer = generate(&base, None, "abc", &config).unwrap();
        let mut tokens = base.encode("abc").unwrap();
        for id in &answer.token_ids {
            let hidden = base.model().hidden(None, &padded_batch(&[&tokens], 1));
            let logits = download(ops::linear(hidden, base.model().head_matrix(), None));
            let last = &logits[(tokens.len() - 1) * 48..];
            let best = last.iter().fold(f32::NEG_INFINITY, |m, l| m.max(*l));
            assert!(last[*id as usize] >= best - 1e-4);
            tokens.push(*id);
        }
        assert_eq!(answer.text, base.decode(&answer.token_ids).unwrap());
        let ended = answer
            .token_ids
            .last()
            .is_some_and(|t| base.end_tokens().contains(t));
        assert_eq!(answer.finish == Finish::End, ended);
    }

    #[test]
    fn sampling_follows_its_seed_and_a_tiny_nucleus_is_greedy() {
        let base = tiny_base();
        let sample = |seed, top_p| {
            let config = GenerateConfig {
                max_tokens: 24,
                temperature: 1.5,
                top_p,
                seed,
                exact: false,
            };
            generate(&base, None, "abc", &config).unwrap().token_ids
        };
        assert_eq!(sample(1, 0.9), sample(1, 0.9));
        assert_ne!(sample(1, 1.0), sample(2, 1.0));
        let greedy = GenerateConfig {
            max_tokens: 24,
            ..GenerateConfig::default()
        };
        assert_eq!(
            sample(1, 1e-9),
            generate(&base, None, "abc", &greedy).unwrap().token_ids
        );
    }

    #[test]
    fn the_caller_can_stop_and_bad_requests_are_refused() {
        let base = tiny_base();
        let config = GenerateConfig {
            max_tokens: 9,
            ..GenerateConfig::default()
        };
        let mut seen = 0;
        let stop = &mut |_: &u32| {
            seen += 1;
            if seen == 2 {
                Control::Stop
            } else {
                Control::Continue
            }
        };
        let answer = generate_with(&base, None, "abc", &config, stop).unwrap();
        assert!(answer.token_ids.len() <= 2);
        let wrong = GenerateConfig {
            temperature: -1.0,
            ..config
        };
        assert!(matches!(
            generate(&base, None, "a", &wrong),
            Err(GenerateError::Sampling)
        ));
        let long = GenerateConfig {
            max_tokens: usize::MAX,
            ..config
        };
        assert!(matches!(
            generate(&base, None, "a", &long),
            Err(GenerateError::TooLong { .. })
        ));
        assert_eq!(generate(&base, None, "", &config).unwrap().prompt_ids, [1]);
    }
}
