//! `POST /v1/chat/completions`.

use tributary_engine::GrammarError;
use tributary_engine::chat::{Conversation, Message};
use tributary_engine::json::{Fields as Pairs, Json};
use tributary_engine::tokenizer::Tokenizer;
use tributary_engine::tools::{Choice, message};

use super::answer::{Call, Placed, Reason, Total};
use super::ask::{Ask, HARMLESS, MOST_ALTERNATIVES, Settings};
use super::constraint::Wish;
use super::fields::{Fields, wrong_kind};
use super::head::Head;
use super::reading::Reading;
use super::stream::{Form, Whole, event};
use super::types::{
    Alternative, CalledFunction, ChatChoice, ChatCompletion, ChatDelta, ChatLogprobs, ChatMessage,
    TokenLogprob, ToolCall,
};
use super::{Refusal, Shop};

/// Most messages of a conversation: templates copy it for each.
const MOST_MESSAGES: usize = 2048;

/// The speaker of a line in the plain form, where a base has no template.
const PLAIN: [(&str, &str); 3] = [
    ("system", "System"),
    ("user", "User"),
    ("assistant", "Assistant"),
];

/// Reads the request and writes the conversation as the base's template has it.
pub(super) fn read(reading: &Reading, mut fields: Fields) -> Result<Ask, Refusal> {
    let model = fields.needed_text("model")?;
    let mut settings = Settings::take(&mut fields)?;
    settings.wish = Wish::take(&mut fields)?;
    let messages = match fields.take("messages") {
        Some(Json::Array(messages)) => read_messages(messages)?,
        Some(other) => return Err(wrong_kind("messages", "a list", &other)),
        None => return Err(fields.missing("messages")),
    };
    settings.max_tokens = max_tokens(&mut fields, reading)?;
    let wants = fields.flag("logprobs")?.unwrap_or(false);
    let alternatives = fields.count("top_logprobs", 0..=MOST_ALTERNATIVES)?;
    if alternatives.is_some_and(|count| count > 0) && !wants {
        return Err(Refusal::value(
            "top_logprobs",
            "`top_logprobs` needs `logprobs`: true",
        ));
    }
    settings.logprobs = wants.then(|| alternatives.unwrap_or(0));
    unserved(&mut fields)?;
    fields.done(&[&HARMLESS[..], &["store"]].concat())?;
    let prompt = written(reading, messages, &mut settings)?;
    Ask::new(reading, model, vec![prompt], settings)
}

/// `max_completion_tokens`, or `max_tokens` as it was called before.
fn max_tokens(fields: &mut Fields, reading: &Reading) -> Result<Option<usize>, Refusal> {
    let range = 1..=reading.info.config.max_context;
    let new = fields.count("max_completion_tokens", range.clone())?;
    let old = fields.count("max_tokens", range)?;
    match (new, old) {
        (Some(new), Some(old)) if new != old => Err(Refusal::value(
            "max_tokens",
            "`max_tokens` and `max_completion_tokens` differ; give one of them",
        )),
        _ => Ok(new.or(old)),
    }
}

/// Fields of OpenAI's that would change the answer.
fn unserved(fields: &mut Fields) -> Result<(), Refusal> {
    let word = |word: &'static str| move |value: &Json| *value == Json::String(word.into());
    let text_alone = |value: &Json| *value == Json::Array(vec![Json::String("text".into())]);
    let never = |_: &Json| false;
    fields.only("modalities", text_alone, "answers are text")?;
    fields.only("audio", never, "answers are text")?;
    fields.only(
        "reasoning_effort",
        word("none"),
        "no model here is told how much to think",
    )?;
    fields.only(
        "verbosity",
        word("medium"),
        "no model here is told how much to say",
    )?;
    fields.only("web_search_options", never, "nothing is looked up")?;
    fields.only("functions", Json::is_empty, "use `tools`")?;
    fields.only("function_call", word("none"), "use `tools`")
}

fn read_messages(messages: Vec<Json>) -> Result<Vec<Message>, Refusal> {
    if messages.is_empty() || messages.len() > MOST_MESSAGES {
        let message = format!("`messages` must hold from 1 to {MOST_MESSAGES} messages");
        return Err(Refusal::value("messages", message));
    }
    let read = |(at, message)| {
        let path = format!("messages[{at}]");
        match speaks_of_tools(&message) {
            true => {
                let known = known(Fields::within(message, &path)?, &path, &OF_TOOLS)?;
                Ok(self::message(&Json::Object(known), at)?)
            }
            false => read_message(message, &path),
        }
    };
    messages.into_iter().enumerate().map(read).collect()
}

/// Whether it is a message that may hold calls, or the result of one.
fn speaks_of_tools(message: &Json) -> bool {
    let role = |(name, role): &(String, Json)| {
        let roles = ["assistant", "tool"].map(|role| Json::String(role.into()));
        name == "role" && roles.contains(role)
    };
    matches!(message, Json::Object(fields) if fields.iter().any(role))
}

/// Fields of messages that may hold calls, or the result of one.
const OF_TOOLS: [&str; 6] = [
    "role",
    "content",
    "name",
    "tool_calls",
    "tool_call_id",
    "reasoning_content",
];

/// The fields of a message, each of which must be one of `names`.
fn known(fields: Fields, path: &str, names: &[&str]) -> Result<Pairs, Refusal> {
    let mut pairs = fields.rest();
    // What OpenAI's answers hold besides, and clients send back.
    pairs.retain(|(name, value)| {
        !(["refusal", "audio", "annotations"].contains(&name.as_str()) && value.is_empty())
    });
    let unknown = (pairs.iter()).find(|(name, _)| !names.contains(&name.as_str()));
    let Some((name, _)) = unknown else {
        return Ok(pairs);
    };
    let param = format!("{path}.{}", super::refusal::shown(name));
    let message = format!("`{param}` is not known here and might change the answer; leave it out");
    Err(Refusal::field("unknown_parameter", param, message))
}

/// One message without tools.
pub(super) fn read_message(message: Json, path: &str) -> Result<Message, Refusal> {
    let mut fields = Fields::within(message, path)?;
    let role = fields.needed_text("role")?;
    let role = match role.as_str() {
        // The newer name of the same role; templates know the older one.
        "developer" | "system" => "system",
        "user" => "user",
        "assistant" => "assistant",
        _ => {
            let param = fields.path("role");
            let message =
                format!("`{param}` must be system, developer, user or assistant, or in chats tool");
            return Err(Refusal::value(param, message));
        }
    };
    let param = fields.path("content");
    let content = match fields.take("content") {
        Some(Json::String(text)) => text,
        Some(Json::Array(parts)) => read_parts(parts, &param, &["text"])?,
        None => return Err(fields.missing("content")),
        Some(other) => return Err(wrong_kind(&param, "a string or a list of parts", &other)),
    };
    let more = known(fields, path, &["name"])?;
    Ok(Message {
        more,
        ..Message::new(role, &content)
    })
}

/// The text of parts of a content, joined.
pub(super) fn read_parts(parts: Vec<Json>, path: &str, kinds: &[&str]) -> Result<String, Refusal> {
    let mut text = String::new();
    for (at, part) in parts.into_iter().enumerate() {
        let mut part = Fields::within(part, &format!("{path}[{at}]"))?;
        let kind = part.needed_text("type")?;
        if !kinds.contains(&kind.as_str()) {
            let param = part.path("type");
            let message =
                format!("`{param}` is not served: contents are text, not images, sound or files");
            return Err(Refusal::unsupported(param, message));
        }
        text.push_str(&part.needed_text("text")?);
        part.done(&[
            "annotations",
            "logprobs",
            "cache_control",
            "prompt_cache_breakpoint",
        ])?;
    }
    Ok(text)
}

/// The tokens of a conversation up to where the assistant begins. A base without a template, such as brook, reads lines
/// `User: ...` and `Assistant: ...`, and an answer ends before the next line of the user.
pub(super) fn written(
    reading: &Reading,
    messages: Vec<Message>,
    settings: &mut Settings,
) -> Result<Vec<u32>, Refusal> {
    let encode = |text: &str| {
        let encoded = reading.info.tokenizer.encode(text);
        encoded.map_err(|e| Refusal::value("messages", e.to_string()))
    };
    let tools = settings.wish.tools.as_ref();
    if let Some(template) = &reading.template {
        let count = messages.len();
        let tools = tools.map(|tools| tools.for_prompt(template)).transpose()?;
        let conversation = Conversation {
            messages,
            tools: tools.flatten(),
        };
        let text = template.write(&conversation, count, true);
        return encode(&text.map_err(|e| Refusal::value("messages", e.to_string()))?);
    }
    if tools.is_some_and(|tools| *tools.choice() != Choice::None) {
        return Err(GrammarError::NoTools.into());
    }
    let mut text = String::new();
    for (at, message) in messages.iter().enumerate() {
        let speaker = PLAIN.iter().find(|(role, _)| *role == message.role);
        let Some((_, speaker)) = speaker.filter(|_| message.more.is_empty()) else {
            let param = format!("messages[{at}]");
            let message =
                format!("`{param}` holds a tool's words, and this base has no template for them");
            return Err(Refusal::unsupported(param, message));
        };
        text.push_str(&format!("{speaker}: {}\n", message.text()));
    }
    text.push_str("Assistant:");
    settings.stops.push("\nUser:".into());
    Ok(reading.info.opened(encode(&text)?))
}

/// How chats are answered.
pub(super) struct ChatForm {
    pub(super) head: Head,
    pub(super) tokenizer: Tokenizer,
    pub(super) settings: Settings,
}

impl ChatForm {
    pub(super) fn new(head: Head, shop: &Shop, settings: Settings) -> Self {
        Self {
            head,
            tokenizer: shop.reading.info.tokenizer.clone(),
            settings,
        }
    }

    fn logprobs(&self, tokens: &[Placed]) -> Option<ChatLogprobs> {
        self.settings.logprobs?;
        let content = tokens.iter().map(|placed| TokenLogprob {
            token: alternative(&self.tokenizer, placed.token.id, placed.token.logprob),
            top_logprobs: (placed.token.top.iter())
                .map(|(id, logprob)| alternative(&self.tokenizer, *id, *logprob))
                .collect(),
        });
        Some(ChatLogprobs {
            content: content.collect(),
        })
    }

    fn chunk(&self, choices: Vec<ChatChoice>, total: Option<&Total>) -> String {
        let mut chunk = self.answer("chat.completion.chunk", choices);
        if let Some(total) = total {
            chunk.usage = Some(Some(super::head::usage(total)));
        }
        event(None, &chunk)
    }

    fn answer(&self, object: &'static str, choices: Vec<ChatChoice>) -> ChatCompletion {
        ChatCompletion {
            id: format!("chatcmpl-{}", self.head.id),
            object,
            created: self.head.created,
            model: self.head.model.clone(),
            system_fingerprint: self.head.fingerprint.clone(),
            choices,
            usage: self.settings.include_usage.then_some(None),
        }
    }
}

/// A token for a client: never half a character as text, always all of its bytes.
pub(super) fn alternative(tokenizer: &Tokenizer, id: u32, logprob: f32) -> Alternative {
    /// What OpenAI writes for a token that is next to impossible; JSON has no infinity.
    const LEAST: f32 = -9999.0;
    let bytes = tokenizer.token_bytes(id);
    Alternative {
        token: String::from_utf8_lossy(&bytes).into_owned(),
        // In this order a NaN becomes the least as well.
        logprob: logprob.max(LEAST),
        bytes,
    }
}

fn piece(index: usize, delta: ChatDelta) -> ChatChoice {
    ChatChoice {
        index,
        message: None,
        delta: Some(delta),
        logprobs: None,
        finish_reason: None,
    }
}

/// A call as clients read it.
fn tool_call(call: Call, index: Option<usize>) -> ToolCall {
    ToolCall {
        index,
        id: call.id,
        kind: "function",
        function: CalledFunction {
            name: call.name,
            arguments: call.arguments,
        },
    }
}

impl Form for ChatForm {
    type Whole = ChatCompletion;

    fn whole(&self, answers: Vec<Whole>, total: &Total) -> ChatCompletion {
        let choice = |(index, whole): (usize, Whole)| {
            let calls = whole.calls.into_iter().map(|call| tool_call(call, None));
            let tool_calls: Vec<ToolCall> = calls.collect();
            let is_silent = whole.text.is_empty() && !tool_calls.is_empty();
            ChatChoice {
                index,
                message: Some(ChatMessage {
                    role: "assistant",
                    content: (!is_silent).then_some(whole.text),
                    tool_calls,
                }),
                delta: None,
                logprobs: self.logprobs(&whole.tokens),
                finish_reason: whole.reason.map(Reason::name),
            }
        };
        let choices = answers.into_iter().enumerate().map(choice).collect();
        let mut answer = self.answer("chat.completion", choices);
        answer.usage = Some(Some(super::head::usage(total)));
        answer
    }

    fn opening(&mut self) -> String {
        let role = |index| {
            let delta = ChatDelta {
                role: Some("assistant"),
                content: Some(String::new()),
                ..ChatDelta::default()
            };
            piece(index, delta)
        };
        (0..self.settings.answers)
            .map(|index| self.chunk(vec![role(index)], None))
            .collect()
    }

    fn text(&mut self, answer: usize, text: String, tokens: &[Placed]) -> String {
        let delta = ChatDelta {
            content: Some(text),
            ..ChatDelta::default()
        };
        let mut choice = piece(answer, delta);
        choice.logprobs = self.logprobs(tokens);
        self.chunk(vec![choice], None)
    }

    fn call(&mut self, answer: usize, call: Call) -> String {
        let index = Some(call.index);
        let delta = ChatDelta {
            tool_calls: vec![tool_call(call, index)],
            ..ChatDelta::default()
        };
        self.chunk(vec![piece(answer, delta)], None)
    }

    fn ended(&mut self, answer: usize, reason: Reason) -> String {
        let mut choice = piece(answer, ChatDelta::default());
        choice.finish_reason = Some(reason.name());
        self.chunk(vec![choice], None)
    }

    fn done(&mut self, total: &Total) -> String {
        match self.settings.include_usage {
            true => self.chunk(Vec::new(), Some(total)),
            false => String::new(),
        }
    }
}
