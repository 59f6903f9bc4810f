//! What a request asks for, once it is understood: the same whichever route it came by.

use std::sync::Arc;

use tributary_engine::Sampling;
use tributary_engine::json::Json;
use tributary_engine::request::Constraint;
use tributary_protocol::hash::Digest;

use super::Refusal;
use super::constraint::{Wish, constraint};
use super::fields::{Fields, wrong_kind};
use super::reading::Reading;

/// Most answers to one prompt.
pub(super) const MOST_ANSWERS: usize = 16;
/// Most stop strings, as OpenAI has it.
const MOST_STOPS: usize = 4;
/// Longest stop string, in bytes: each new piece of text is compared with it.
const MOST_STOP_BYTES: usize = 1024;
/// Most tokens with a bias: each is looked at for each token of the answer.
const MOST_BIASES: usize = 1024;
/// Most alternatives that are reported for a token, as OpenAI has it.
pub(super) const MOST_ALTERNATIVES: usize = 20;

/// Fields that change nothing of an answer here, whatever they hold.
pub(super) const HARMLESS: [&str; 9] = [
    "user",
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    // A hint that only speeds things up.
    "prediction",
    // Where there are tools it is taken with them.
    "parallel_tool_calls",
    // Tells vLLM not to spell special tokens out in text, which is never done here.
    "skip_special_tokens",
];

/// A request that is understood and cut into tokens.
pub(super) struct Ask {
    /// Name of the base or alias of the adapter, as it was asked for.
    pub(super) model: String,
    /// Tokens of each prompt.
    pub(super) prompts: Vec<Vec<u32>>,
    /// How it is answered.
    pub(super) settings: Settings,
    /// What restricts each of its answers.
    pub(super) constraints: Vec<Option<Box<dyn Constraint>>>,
}

impl Ask {
    /// A request whose prompts are in tokens. Computes: not for a thread that waits.
    pub(super) fn new(
        reading: &Reading,
        model: String,
        prompts: Vec<Vec<u32>>,
        settings: Settings,
    ) -> Result<Self, Refusal> {
        let all = 0..prompts.len() * settings.answers;
        let constraints = all.map(|_| constraint(&settings.wish, &reading.vocabulary));
        let constraints = constraints.collect::<Result<_, _>>()?;
        Ok(Self {
            model,
            prompts,
            settings,
            constraints,
        })
    }
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Answers to each prompt.
    pub(super) answers: usize,
    /// Most tokens of an answer; None for as many as fit.
    pub(super) max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub(super) sampling: Sampling,
    /// Strings that end an answer.
    pub(super) stops: Vec<String>,
    /// With how many alternatives tokens are reported.
    pub(super) logprobs: Option<usize>,
    /// What restricts the answer.
    pub(super) wish: Wish,
    /// Whether the answer comes in pieces.
    pub(super) stream: bool,
    /// Whether a stream ends with what it took.
    pub(super) include_usage: bool,
    /// Whether the client chose the seed.
    pub(super) is_seeded: bool,
    /// The request's body, and its hash.
    pub(super) body: (Arc<str>, Digest),
}

impl Settings {
    /// Takes the fields that all routes share.
    pub(super) fn take(fields: &mut Fields) -> Result<Self, Refusal> {
        let stream = fields.flag("stream")?.unwrap_or(false);
        let seed = fields.whole("seed", i64::MIN..=i64::MAX)?;
        Ok(Self {
            answers: fields.count("n", 1..=MOST_ANSWERS)?.unwrap_or(1),
            max_tokens: None,
            sampling: sampling(fields, seed)?,
            stops: stops(fields)?,
            logprobs: None,
            wish: Wish::default(),
            stream,
            include_usage: stream_options(fields, stream)?,
            is_seeded: seed.is_some(),
            body: (fields.body.clone(), fields.digest),
        })
    }
}

/// Defaults as OpenAI's: a temperature of one, and chance decides.
fn sampling(fields: &mut Fields, seed: Option<i64>) -> Result<Sampling, Refusal> {
    let top_k = fields.whole("top_k", -1..=i64::from(u32::MAX))?;
    let top_p = fields.number("top_p", 0.0..=1.0)?;
    if top_p == Some(0.0) {
        return Err(Refusal::value(
            "top_p",
            "`top_p` must be above 0 and at most 1",
        ));
    }
    let repetition_penalty = fields.number("repetition_penalty", 0.01..=100.0)?;
    Ok(Sampling {
        temperature: fields.number("temperature", 0.0..=2.0)?.unwrap_or(1.0),
        top_p: top_p.unwrap_or(1.0),
        // -1 stands for all in vLLM.
        top_k: top_k.unwrap_or(0).max(0) as usize,
        min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(0.0),
        presence_penalty: (fields.number("presence_penalty", -2.0..=2.0)?).unwrap_or(0.0),
        frequency_penalty: (fields.number("frequency_penalty", -2.0..=2.0)?).unwrap_or(0.0),
        repetition_penalty: repetition_penalty.unwrap_or(1.0),
        logit_bias: biases(fields)?,
        seed: seed.map_or_else(random, |seed| seed as u64),
    })
}

/// A seed that nobody chose.
fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system has no source of random numbers");
    u64::from_le_bytes(bytes)
}

fn biases(fields: &mut Fields) -> Result<Vec<(u32, f32)>, Refusal> {
    const NAME: &str = "logit_bias";
    let wrong = || {
        let message = "`logit_bias` must map token ids to numbers from -100 to 100";
        Refusal::value(NAME, message)
    };
    let Some(biases) = fields.object(NAME)? else {
        return Ok(Vec::new());
    };
    let biases = biases.rest();
    if biases.len() > MOST_BIASES {
        let message = format!(
            "`logit_bias` holds {} tokens, more than the {MOST_BIASES} allowed",
            biases.len()
        );
        return Err(Refusal::value(NAME, message));
    }
    let read = |(token, bias): (String, Json)| {
        let token: u32 = token.parse().map_err(|_| wrong())?;
        let Json::Number(bias) = bias else {
            return Err(wrong());
        };
        let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        Ok((token, bias.ok_or_else(wrong)? as f32))
    };
    let mut biases: Vec<(u32, f32)> = biases.into_iter().map(read).collect::<Result<_, _>>()?;
    biases.sort_by_key(|(token, _)| *token);
    // `7` and `07` are one token.
    biases.dedup_by_key(|(token, _)| *token);
    Ok(biases)
}

fn stops(fields: &mut Fields) -> Result<Vec<String>, Refusal> {
    const NAME: &str = "stop";
    let stops = match fields.take(NAME) {
        None => Vec::new(),
        Some(Json::Array(stops)) => stops,
        Some(one) => vec![one],
    };
    if stops.len() > MOST_STOPS {
        let message = format!(
            "`stop` holds {} strings, more than the {MOST_STOPS} allowed",
            stops.len()
        );
        return Err(Refusal::value(NAME, message));
    }
    let read = |stop: Json| match stop {
        Json::String(text) if text.is_empty() || text.len() > MOST_STOP_BYTES => {
            let message =
                format!("each string of `stop` must have from 1 to {MOST_STOP_BYTES} bytes");
            Err(Refusal::value(NAME, message))
        }
        Json::String(text) => Ok(text),
        other => Err(wrong_kind(NAME, "a string or a list of strings", &other)),
    };
    stops.into_iter().map(read).collect()
}

fn stream_options(fields: &mut Fields, stream: bool) -> Result<bool, Refusal> {
    const NAME: &str = "stream_options";
    let Some(mut options) = fields.object(NAME)? else {
        return Ok(false);
    };
    if !stream {
        return Err(Refusal::value(
            NAME,
            "`stream_options` is only allowed with `stream`: true",
        ));
    }
    let include_usage = options.flag("include_usage")?.unwrap_or(false);
    options.done(&["include_obfuscation"])?;
    Ok(include_usage)
}
