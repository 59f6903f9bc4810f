//! Answers as OpenAI's clients read them, and what a request may hold, for the contract.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use tributary_attribution::query::layout::{Share, Why};
use utoipa::ToSchema;

/// What an answer took.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answers.
    pub completion_tokens: usize,
    /// Both.
    pub total_tokens: usize,
    /// Of the prompt's tokens.
    pub prompt_tokens_details: PromptDetails,
}

/// Of a prompt's tokens.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PromptDetails {
    /// How many the cache had.
    pub cached_tokens: usize,
}

/// `POST /v1/chat/completions`. Null means absent.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatRequest {
    /// The base or an adapter, by a name of `/v1/models`.
    pub model: String,
    /// `{"role": ..., "content": ...}` each; a content is a string or a list of parts of text. A base without a chat
    /// template, such as brook, reads lines `User: ...` and `Assistant: ...` instead.
    pub messages: Vec<Value>,
    /// Most tokens of an answer; default: as many as fit.
    pub max_completion_tokens: Option<usize>,
    /// The same by its old name.
    pub max_tokens: Option<usize>,
    /// Whether tokens are reported with the logarithms of their probabilities.
    pub logprobs: Option<bool>,
    /// With so many of the likeliest alternatives, up to 20.
    pub top_logprobs: Option<usize>,
    /// `{"type": "text"}`, `{"type": "json_object"}`, or `{"type": "json_schema", "json_schema": {"name": ..., "schema":
    /// ...}}`: answers keep to the schema with and without `strict`.
    pub response_format: Option<Value>,
    /// Functions that may be called, `{"type": "function", "function": {"name": ..., "description": ..., "parameters":
    /// ...}}` each, up to 128. The base's chat template must have a place for them.
    pub tools: Option<Vec<Value>>,
    /// `none`, `auto` (the default), `required`, or `{"type": "function", "function": {"name": ...}}`. A demanded call
    /// keeps to the function's parameters.
    pub tool_choice: Option<Value>,
    /// Whether one answer may hold several calls; default true.
    pub parallel_tool_calls: Option<bool>,
    /// What all requests share.
    #[serde(flatten)]
    pub common: CommonFields,
}

/// `POST /v1/completions`. Null means absent.
#[derive(Debug, Serialize, ToSchema)]
pub struct CompletionRequest {
    /// The base or an adapter, by a name of `/v1/models`.
    pub model: String,
    /// A string, a list of strings, a list of token ids, or a list of such lists.
    pub prompt: Value,
    /// Most tokens of an answer; default 16.
    pub max_tokens: Option<usize>,
    /// Report tokens with so many of the likeliest alternatives, up to 20.
    pub logprobs: Option<usize>,
    /// What all requests share.
    #[serde(flatten)]
    pub common: CommonFields,
}

/// What chats and completions share.
#[derive(Debug, Serialize, ToSchema)]
pub struct CommonFields {
    /// Answers to a prompt, 1 to 16.
    pub n: Option<usize>,
    /// Whether the answer comes in pieces, as server-sent events.
    pub stream: Option<bool>,
    /// `{"include_usage": true}` ends a stream with what it took.
    pub stream_options: Option<Value>,
    /// A string or up to four that end an answer and are not part of it.
    pub stop: Option<Value>,
    /// The same seed gives the same answer.
    pub seed: Option<i64>,
    /// 0 to 2; default 1.
    pub temperature: Option<f32>,
    /// Above 0, up to 1; default 1.
    pub top_p: Option<f32>,
    /// Draw among so many of the likeliest tokens; default all.
    pub top_k: Option<i64>,
    /// Draw among tokens with this part of the likeliest one's probability; default 0.
    pub min_p: Option<f32>,
    /// -2 to 2; default 0.
    pub presence_penalty: Option<f32>,
    /// -2 to 2; default 0.
    pub frequency_penalty: Option<f32>,
    /// Default 1.
    pub repetition_penalty: Option<f32>,
    /// From token ids to numbers from -100 to 100.
    pub logit_bias: Option<BTreeMap<String, f32>>,
}

/// A whole chat answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatCompletion {
    /// Of this answer.
    pub id: String,
    /// `chat.completion`, or `chat.completion.chunk` in a stream.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    /// As it was asked for.
    pub model: String,
    /// Changes with base, precision and version.
    pub system_fingerprint: String,
    /// The answers, or pieces of them.
    pub choices: Vec<ChatChoice>,
    /// Missing in a stream without `include_usage`; with it null but for the last piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usage>)]
    pub usage: Option<Option<Usage>>,
}

/// One answer, or a piece of one.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatChoice {
    /// Which of `n`.
    pub index: usize,
    /// The answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<ChatMessage>,
    /// More of the answer, in a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<ChatDelta>,
    /// Its tokens.
    pub logprobs: Option<ChatLogprobs>,
    /// `stop`, `length` or `tool_calls`; null while there is more.
    pub finish_reason: Option<&'static str>,
}

/// What the assistant says.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatMessage {
    /// `assistant`.
    pub role: &'static str,
    /// Text; null where there are calls alone.
    pub content: Option<String>,
    /// What the assistant calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
}

/// More of what the assistant says.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct ChatDelta {
    /// `assistant`, in the first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// Text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// A whole call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
}

/// A function that the assistant calls. The client does it and sends the result as a message of the role `tool`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ToolCall {
    /// Which call of the answer, in a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// Names the call in the message with its result.
    pub id: String,
    /// `function`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What is called.
    pub function: CalledFunction,
}

/// A function and its arguments.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CalledFunction {
    /// One of the request's.
    pub name: String,
    /// A JSON object as text. Where the call was not demanded, check it: models make mistakes.
    pub arguments: String,
}

/// Tokens of a chat answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatLogprobs {
    /// In order.
    pub content: Vec<TokenLogprob>,
}

/// A token and its alternatives.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenLogprob {
    /// The token.
    #[serde(flatten)]
    pub token: Alternative,
    /// The likeliest tokens.
    pub top_logprobs: Vec<Alternative>,
}

/// A token and its probability.
#[derive(Debug, Serialize, ToSchema)]
pub struct Alternative {
    /// Its text; bytes that are no character are U+FFFD.
    pub token: String,
    /// Natural logarithm of the probability that the model gives it; -9999 for next to none.
    pub logprob: f32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A whole completion, or a piece of one.
#[derive(Debug, Serialize, ToSchema)]
pub struct Completion {
    /// Of this answer.
    pub id: String,
    /// `text_completion`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    /// As it was asked for.
    pub model: String,
    /// Changes with base, precision and version.
    pub system_fingerprint: String,
    /// The answers, or pieces of them.
    pub choices: Vec<CompletionChoice>,
    /// Missing in a stream without `include_usage`; with it null but for the last piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usage>)]
    pub usage: Option<Option<Usage>>,
}

/// One completion, or a piece of one.
#[derive(Debug, Serialize, ToSchema)]
pub struct CompletionChoice {
    /// Which: `n` for each prompt, in the order of prompts.
    pub index: usize,
    /// Text.
    pub text: String,
    /// Its tokens.
    pub logprobs: Option<CompletionLogprobs>,
    /// `stop` or `length`; null while there is more.
    pub finish_reason: Option<&'static str>,
}

/// Tokens of a completion.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct CompletionLogprobs {
    /// Their texts.
    pub tokens: Vec<String>,
    /// Natural logarithms of their probabilities.
    pub token_logprobs: Vec<f32>,
    /// The likeliest tokens in place of each.
    pub top_logprobs: Vec<BTreeMap<String, f32>>,
    /// Characters of the answer before each.
    pub text_offset: Vec<usize>,
    /// Their bytes.
    pub bytes: Vec<Vec<u8>>,
}

/// `GET /v1/models`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelList {
    /// `list`.
    pub object: &'static str,
    /// The base, then its adapters by name.
    pub data: Vec<Model>,
}

/// What can be asked for.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Model {
    /// Its name.
    pub id: String,
    /// `model`.
    pub object: &'static str,
    /// Seconds since 1970 when it was loaded.
    pub created: u64,
    /// `tributary`.
    pub owned_by: &'static str,
    /// Hash of what it is; null for an adapter that was not loaded yet.
    pub root: Option<String>,
    /// The base of an adapter.
    pub parent: Option<String>,
}

/// `POST /v1/load_lora_adapter`.
#[derive(Debug, Serialize, ToSchema)]
pub struct LoadRequest {
    /// The alias to load it under.
    pub lora_name: String,
    /// A PEFT folder of this machine, or the id of an adapter or a run, which is fetched.
    pub lora_path: String,
    /// Whether the alias may be taken: it stands for the new adapter from when that is there.
    pub load_inplace: Option<bool>,
}

/// `POST /v1/unload_lora_adapter`.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnloadRequest {
    /// The alias.
    pub lora_name: String,
}

/// `GET /health`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: &'static str,
}

/// `POST /v1/responses`. Null means absent.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResponseRequest {
    /// The base or an adapter, by a name of `/v1/models`.
    pub model: String,
    /// A string, or a list of messages with contents of text.
    pub input: Value,
    /// What a system message before the input says.
    pub instructions: Option<String>,
    /// `{"format": ...}`: `{"type": "text"}`, `{"type": "json_object"}`, or `{"type": "json_schema", "name": ...,
    /// "schema": ...}`.
    pub text: Option<Value>,
    /// Most tokens of the answer; default: as many as fit.
    pub max_output_tokens: Option<usize>,
    /// 0 to 2; default 1.
    pub temperature: Option<f32>,
    /// Above 0, up to 1; default 1.
    pub top_p: Option<f32>,
    /// Whether the answer comes in pieces.
    pub stream: Option<bool>,
    /// Only false, which is also what its absence means: nothing is kept.
    pub store: Option<bool>,
}

/// An answer of `/v1/responses`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ResponseObject {
    /// Of this answer; its shares can be asked for by it while it is remembered, and nothing else.
    pub id: String,
    /// `response`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created_at: u64,
    /// `in_progress`, `completed`, `incomplete` or `failed`.
    pub status: &'static str,
    /// Why it failed.
    pub error: Option<Value>,
    /// Why it is incomplete.
    pub incomplete_details: Option<Value>,
    /// As they were given.
    pub instructions: Option<String>,
    /// As it was given.
    pub max_output_tokens: Option<usize>,
    /// As it was asked for.
    pub model: String,
    /// One message.
    pub output: Vec<Value>,
    /// True, as without tools there is nothing to call.
    pub parallel_tool_calls: bool,
    /// Always null: nothing is kept.
    pub previous_response_id: Option<String>,
    /// False.
    pub store: bool,
    /// As it was used.
    pub temperature: f32,
    /// As it was used.
    pub top_p: f32,
    /// The form that was asked for.
    pub text: Value,
    /// `none`.
    pub tool_choice: &'static str,
    /// None.
    pub tools: Vec<Value>,
    /// `disabled`: an input that is too long is refused.
    pub truncation: &'static str,
    /// What it took; null while it is in progress.
    pub usage: Option<Value>,
    /// Empty.
    pub metadata: BTreeMap<String, String>,
}

/// Whose data shaped an answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Shares {
    /// `shares/1`.
    pub schema: &'static str,
    /// The answer's id.
    pub id: String,
    /// Which answer of the request.
    pub choice: usize,
    /// What the model was called when it answered.
    pub model: String,
    /// The run.
    pub run: String,
    /// The certified adapter.
    pub adapter: String,
    /// Tokens of the answer, a closing end token included.
    pub tokens: usize,
    /// Mean loss of the answer's tokens without the adapter, nats.
    pub base_nats: f64,
    /// The same with the adapter.
    pub adapter_nats: f64,
    /// What the base would have said too, in billionths of the answer.
    pub nobody_ppb: u32,
    /// Contributors, the largest share first. Nobody is asked for evidence.
    pub shares: Vec<Share>,
    /// How the shares were found.
    pub method: String,
    /// What the shares cost, milliseconds.
    pub cost_ms: f64,
}

impl Shares {
    /// Of an answer that `why` is about.
    pub fn new(id: &str, choice: usize, model: String, tokens: usize, why: Why) -> Self {
        Self {
            schema: "shares/1",
            id: id.to_owned(),
            choice,
            model,
            run: why.run,
            adapter: why.adapter,
            tokens,
            base_nats: why.base_nats,
            adapter_nats: why.adapter_nats,
            nobody_ppb: why.nobody_ppb,
            shares: why.shares,
            method: why.method,
            cost_ms: why.cost_ms,
        }
    }
}
