//! `POST /v1/completions`.

use tributary_engine::ResponseFormat;
use tributary_engine::json::Json;
use tributary_engine::tokenizer::Tokenizer;

use super::answer::{Placed, Reason, Total};
use super::ask::{Ask, HARMLESS, MOST_ALTERNATIVES, Settings};
use super::chat::alternative;
use super::constraint::no_tools;
use super::fields::{Fields, wrong_kind};
use super::head::{Head, usage};
use super::reading::Reading;
use super::stream::{Form, Whole, event};
use super::types::{Completion, CompletionChoice, CompletionLogprobs};
use super::{Refusal, Shop};

/// Most prompts of one request.
const MOST_PROMPTS: usize = 32;
/// Most answers of one request.
const MOST_IN_ALL: usize = 64;
/// Tokens of an answer unless asked for, as OpenAI has it.
const USUAL_TOKENS: usize = 16;

/// Reads the request.
pub(super) fn read(reading: &Reading, mut fields: Fields) -> Result<Ask, Refusal> {
    let model = fields.needed_text("model")?;
    let mut settings = Settings::take(&mut fields)?;
    let longest = reading.info.config.max_context;
    let max_tokens = fields.count("max_tokens", 1..=longest)?;
    settings.max_tokens = Some(max_tokens.unwrap_or(USUAL_TOKENS));
    settings.logprobs = fields.count("logprobs", 0..=MOST_ALTERNATIVES)?;
    no_tools(&mut fields)?;
    let is_text =
        |format: &Json| matches!(ResponseFormat::read(Some(format)), Ok(ResponseFormat::Text));
    fields.only(
        "response_format",
        is_text,
        "forms are kept to in /v1/chat/completions",
    )?;
    let no = |value: &Json| *value == Json::Bool(false);
    fields.only(
        "echo",
        no,
        "an answer does not repeat its prompt; put the two together",
    )?;
    let nothing = |value: &Json| *value == Json::String(String::new());
    fields.only("suffix", nothing, "no model here fills gaps")?;
    let all = [1, settings.answers].map(|count| Json::Number(count.into()));
    fields.only(
        "best_of",
        |value| all.contains(value),
        "every answer is returned; use `n`",
    )?;
    let prompt = fields
        .take("prompt")
        .ok_or_else(|| fields.missing("prompt"))?;
    fields.done(&HARMLESS)?;
    let prompts = prompts(reading, prompt)?;
    if prompts.len() * settings.answers > MOST_IN_ALL {
        let message =
            format!("prompts times `n` may be {MOST_IN_ALL} at most; send several requests");
        return Err(Refusal::value("n", message));
    }
    Ask::new(reading, model, prompts, settings)
}

/// A string, strings, tokens, or lists of tokens.
fn prompts(reading: &Reading, prompt: Json) -> Result<Vec<Vec<u32>>, Refusal> {
    let expected = "a string, a list of strings, a list of token ids or a list of such lists";
    let items = match prompt {
        Json::String(text) => return Ok(vec![encode(reading, &text)?]),
        Json::Array(items) => items,
        other => return Err(wrong_kind("prompt", expected, &other)),
    };
    if items.is_empty() {
        return Err(Refusal::value(
            "prompt",
            "`prompt` is empty; give at least one token",
        ));
    }
    if items.iter().all(|item| matches!(item, Json::Number(_))) {
        return Ok(vec![tokens(reading, items)?]);
    }
    if items.len() > MOST_PROMPTS {
        let message = format!(
            "`prompt` holds {} prompts, more than the {MOST_PROMPTS} allowed",
            items.len()
        );
        return Err(Refusal::value("prompt", message));
    }
    let read = |item| match item {
        Json::String(text) => encode(reading, &text),
        Json::Array(ids) => tokens(reading, ids),
        other => Err(wrong_kind("prompt", expected, &other)),
    };
    items.into_iter().map(read).collect()
}

fn encode(reading: &Reading, text: &str) -> Result<Vec<u32>, Refusal> {
    let encoded = reading.info.tokenizer.encode(text);
    let ids = encoded.map_err(|e| Refusal::value("prompt", e.to_string()))?;
    let ids = reading.info.opened(ids);
    match ids.is_empty() {
        true => Err(Refusal::value(
            "prompt",
            "`prompt` is empty; give at least one token",
        )),
        false => Ok(ids),
    }
}

fn tokens(reading: &Reading, ids: Vec<Json>) -> Result<Vec<u32>, Refusal> {
    let vocab = reading.info.config.vocab;
    let read = |id| match &id {
        Json::Number(number) => (number.as_u64())
            .filter(|id| *id < vocab as u64)
            .map(|id| id as u32)
            .ok_or_else(|| {
                let message = format!("token ids in `prompt` must be whole numbers below {vocab}");
                Refusal::value("prompt", message)
            }),
        other => Err(wrong_kind("prompt", "a list of token ids", other)),
    };
    match ids.is_empty() {
        true => Err(Refusal::value(
            "prompt",
            "`prompt` is empty; give at least one token",
        )),
        false => ids.into_iter().map(read).collect(),
    }
}

/// How completions are answered.
pub(super) struct CompletionForm {
    head: Head,
    tokenizer: Tokenizer,
    settings: Settings,
}

impl CompletionForm {
    pub(super) fn new(head: Head, shop: &Shop, settings: Settings) -> Self {
        Self {
            head,
            tokenizer: shop.reading.info.tokenizer.clone(),
            settings,
        }
    }

    fn answer(&self, choices: Vec<CompletionChoice>) -> Completion {
        Completion {
            id: format!("cmpl-{}", self.head.id),
            object: "text_completion",
            created: self.head.created,
            model: self.head.model.clone(),
            system_fingerprint: self.head.fingerprint.clone(),
            choices,
            usage: self.settings.include_usage.then_some(None),
        }
    }

    fn logprobs(&self, tokens: &[Placed]) -> Option<CompletionLogprobs> {
        self.settings.logprobs?;
        let mut all = CompletionLogprobs::default();
        for Placed { token, at } in tokens {
            let told = alternative(&self.tokenizer, token.id, token.logprob);
            let top = token.top.iter();
            let top = top.map(|(id, logprob)| alternative(&self.tokenizer, *id, *logprob));
            (all.top_logprobs).push(top.map(|other| (other.token, other.logprob)).collect());
            all.tokens.push(told.token);
            all.token_logprobs.push(told.logprob);
            all.text_offset.push(*at);
            all.bytes.push(told.bytes);
        }
        Some(all)
    }

    fn piece(
        &self,
        index: usize,
        text: String,
        tokens: &[Placed],
        reason: Option<Reason>,
    ) -> CompletionChoice {
        CompletionChoice {
            index,
            text,
            logprobs: self.logprobs(tokens),
            finish_reason: reason.map(Reason::name),
        }
    }
}

impl Form for CompletionForm {
    type Whole = Completion;

    fn whole(&self, answers: Vec<Whole>, total: &Total) -> Completion {
        let choice = |(index, whole): (usize, Whole)| {
            self.piece(index, whole.text, &whole.tokens, whole.reason)
        };
        let mut answer = self.answer(answers.into_iter().enumerate().map(choice).collect());
        answer.usage = Some(Some(usage(total)));
        answer
    }

    fn opening(&mut self) -> String {
        String::new()
    }

    fn text(&mut self, answer: usize, text: String, tokens: &[Placed]) -> String {
        event(
            None,
            &self.answer(vec![self.piece(answer, text, tokens, None)]),
        )
    }

    fn ended(&mut self, answer: usize, reason: Reason) -> String {
        let mut choice = self.piece(answer, String::new(), &[], Some(reason));
        choice.logprobs = None;
        event(None, &self.answer(vec![choice]))
    }

    fn done(&mut self, total: &Total) -> String {
        if !self.settings.include_usage {
            return String::new();
        }
        let mut last = self.answer(Vec::new());
        last.usage = Some(Some(usage(total)));
        event(None, &last)
    }
}
