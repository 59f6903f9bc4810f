//! How many tokens a request and its answer can have at most, counted without believing the server.
//!
//! With the base's tokenizer texts are cut as the model would read them. A model may write the same text in more tokens than
//! that, so that a quarter more is believed. Without the tokenizer every byte may be a token: a token has at least one.

use serde_json::Value;
use tributary_engine::tokenizer::Tokenizer;
use tributary_protocol::hash::Digest;

/// Tokens without text, for each answer: the end, and what was cut off with a stop string that the server's template adds.
const UNSEEN_ANSWER: usize = 16;
/// Tokens of a template around each message, and around all of them.
const UNSEEN_PROMPT: usize = 32;

/// What a request asks for.
#[derive(Clone, Debug)]
pub(super) struct Want {
    pub(super) model: String,
    /// Hash of the request's body.
    pub(super) request: Digest,
    /// Answers in all.
    pub(super) answers: usize,
    /// Most tokens of the prompts, each counted once for each answer.
    pub(super) prompt_tokens: usize,
    /// Most tokens of all answers; None where the server decides.
    pub(super) max_tokens: Option<usize>,
    /// Bytes of the longest stop string.
    stop: usize,
}

impl Want {
    /// Of a body; None where it is not a request, which is for the server to say.
    pub(super) fn read(body: &Value, tokenizer: Option<&Tokenizer>) -> Option<Self> {
        let count = |name: &str| body[name].as_u64().map(|count| count as usize);
        let answers = count("n").unwrap_or(1);
        let prompts = match &body["prompt"] {
            Value::Array(prompts) if prompts.iter().all(|one| !one.is_number()) => prompts.len(),
            _ => 1,
        };
        let max_tokens = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
        let max_tokens = max_tokens.into_iter().find_map(count);
        let asked = [
            "messages",
            "prompt",
            "input",
            "instructions",
            "tools",
            "response_format",
        ];
        let asked = asked
            .iter()
            .map(|name| prompt(&body[*name], tokenizer))
            .sum::<usize>();
        let stops: Vec<&Value> = match &body["stop"] {
            Value::Array(stops) => stops.iter().collect(),
            one => vec![one],
        };
        let all = answers.checked_mul(prompts)?;
        Some(Self {
            model: body["model"].as_str()?.to_owned(),
            request: Digest::default(),
            answers: all,
            prompt_tokens: (asked + UNSEEN_PROMPT).checked_mul(answers)?,
            max_tokens: match max_tokens {
                Some(most) => Some(most.checked_mul(all)?),
                None => None,
            },
            stop: stops
                .iter()
                .filter_map(|stop| stop.as_str())
                .map(str::len)
                .max()
                .unwrap_or(0),
        })
    }

    /// Most tokens of answers whose shown text has so many tokens or bytes.
    pub(super) fn most_made(&self, shown: usize) -> usize {
        let unseen = self.answers.saturating_mul(UNSEEN_ANSWER + self.stop);
        let made = shown.saturating_add(unseen);
        self.max_tokens.map_or(made, |most| made.min(most))
    }
}

/// Most tokens of a part of a prompt.
fn prompt(value: &Value, tokenizer: Option<&Tokenizer>) -> usize {
    match value {
        Value::Null => 0,
        Value::String(text) => tokens(text, tokenizer),
        // A token's id, or a number of a schema.
        Value::Number(number) => number.to_string().len(),
        Value::Bool(_) => 8,
        Value::Array(parts) => parts.iter().map(|part| prompt(part, tokenizer)).sum(),
        Value::Object(fields) => {
            let fields = fields.iter();
            let each = fields.map(|(name, value)| 8 + name.len() + prompt(value, tokenizer));
            UNSEEN_PROMPT + each.sum::<usize>()
        }
    }
}

/// Most tokens that a text was written in.
pub(super) fn tokens(text: &str, tokenizer: Option<&Tokenizer>) -> usize {
    let cut = tokenizer.and_then(|tokenizer| tokenizer.encode(text).ok());
    match cut {
        Some(ids) => (ids.len() + ids.len().div_ceil(4)).min(text.len()),
        None => text.len(),
    }
}

/// Text of an answer or of a piece of one, whichever route it is of. Of calls of tools all that is not their text counts as
/// well, because the model wrote some of it.
pub(super) fn text(value: &Value) -> String {
    let mut text = String::new();
    for choice in value["choices"].as_array().into_iter().flatten() {
        for part in [&choice["message"], &choice["delta"], choice] {
            for name in ["content", "text", "reasoning_content", "refusal"] {
                text.push_str(part[name].as_str().unwrap_or_default());
            }
            if part["tool_calls"].is_array() {
                text.push_str(&part["tool_calls"].to_string());
            }
        }
    }
    if value["type"] == "response.output_text.delta" {
        text.push_str(value["delta"].as_str().unwrap_or_default());
    }
    for item in value["output"].as_array().into_iter().flatten() {
        for part in item["content"].as_array().into_iter().flatten() {
            text.push_str(part["text"].as_str().unwrap_or_default());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_counted_to_what_it_can_cost_at_most() {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "abc"}], "n": 2, "max_tokens": 5, "stop": ["ab", "c"]});
        let want = Want::read(&body, None).unwrap();
        assert_eq!((want.answers, want.max_tokens, want.stop), (2, Some(10), 2));
        assert!(want.prompt_tokens >= 2 * 3);
        assert_eq!(want.most_made(0), 10);
        let body = json!({"model": "m", "prompt": ["a", "b", "c"], "n": 2});
        let want = Want::read(&body, None).unwrap();
        assert_eq!(
            (want.answers, want.most_made(7)),
            (6, 7 + 6 * UNSEEN_ANSWER)
        );
        // One prompt in tokens.
        assert_eq!(
            Want::read(&json!({"model": "m", "prompt": [1, 2, 3]}), None)
                .unwrap()
                .answers,
            1
        );
        assert!(Want::read(&json!({"prompt": "a"}), None).is_none());
        assert!(
            Want::read(
                &json!({"model": "m", "n": u64::MAX, "prompt": ["a", "b"]}),
                None
            )
            .is_none()
        );
    }

    #[test]
    fn a_tokenizer_counts_closer_than_bytes_and_never_below_what_the_model_reads() {
        let tokenizer = tributary_engine::brook::tokenizer().unwrap();
        let text = "The river runs down to the sea, and nobody knows its name.";
        let read = tokenizer.encode(text).unwrap().len();
        let counted = tokens(text, Some(&tokenizer));
        assert!(
            counted >= read && counted < text.len(),
            "{read} {counted} {}",
            text.len()
        );
        assert_eq!(tokens(text, None), text.len());
    }

    #[test]
    fn text_is_found_on_every_route() {
        for value in [
            json!({"choices": [{"message": {"content": "abc"}}]}),
            json!({"choices": [{"delta": {"content": "abc"}}]}),
            json!({"choices": [{"text": "abc"}]}),
            json!({"type": "response.output_text.delta", "delta": "abc"}),
            json!({"output": [{"content": [{"text": "abc"}]}]}),
        ] {
            assert_eq!(text(&value), "abc", "{value}");
        }
        assert!(
            text(&json!({"choices": [{"delta": {"role": "assistant", "content": ""}}]})).is_empty()
        );
    }
}
