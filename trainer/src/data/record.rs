//! From the fields of a row to what it says: a text, a pair, an instruction or a conversation.
//!
//! Published datasets write the same thing in several ways. `text`, `prompt` and `completion`, `messages` (OpenAI),
//! `conversations` (ShareGPT) and `instruction`, `input`, `output` (Alpaca) are read; a row that has none of them is
//! refused with the nearest form that would be.

use crate::json::{self, Fields, Json};

use super::limits::MAX_MESSAGES;
use super::row::Record;
use crate::chat::{Conversation, Message};

/// Every field that rows are made of.
pub(crate) const FIELDS: [&str; 10] = [
    "messages",
    "conversations",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "text",
    "system",
    "tools",
];

/// Names under which people keep what is given and what is to follow, with no form of their own.
const PAIRS: [(&str, &str); 8] = [
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("query", "answer"),
    ("input", "output"),
    ("instruction", "response"),
    ("prompt", "response"),
    ("prompt", "chosen"),
];
/// Names under which people keep a text.
const TEXTS: [&str; 5] = ["content", "body", "article", "document", "sentence"];

/// Names that a refusal shows, at most.
const SHOWN_NAMES: usize = 6;

/// Whether a table with these columns has rows that can be read.
pub(crate) fn usable(names: &[&str]) -> bool {
    let has = |name: &str| names.contains(&name);
    let pair = has("prompt") && has("completion");
    let instruction = has("instruction") && has("output");
    has("messages") || has("conversations") || pair || instruction || has("text")
}

/// What rows with these names lack, and the nearest form that is read.
pub(crate) fn nearest(names: &[&str]) -> String {
    let has = |name: &str| names.contains(&name);
    if has("completion") {
        return "it has a \"completion\" without a \"prompt\"".into();
    }
    let pair = PAIRS.iter().find(|(given, said)| has(given) && has(said));
    if pair.is_none() && has("prompt") {
        return "it has a \"prompt\" without a \"completion\"".into();
    }
    let near = match pair {
        Some((given, said)) => {
            format!("rename {given:?} and {said:?} to \"prompt\" and \"completion\"")
        }
        None => match TEXTS.iter().find(|name| has(name)) {
            Some(name) => format!("rename {name:?} to \"text\""),
            None => "write {\"text\": \"...\"}, {\"prompt\": \"...\", \"completion\": \"...\"} or \
                     {\"messages\": [{\"role\": \"user\", \"content\": \"...\"}, ...]}"
                .into(),
        },
    };
    format!("it has neither \"messages\", nor \"prompt\" and \"completion\", nor \"text\": {near}")
}

/// Names as a person is shown them.
fn shown(names: &[&str]) -> String {
    let short = |name: &&str| format!("{:?}", name.chars().take(40).collect::<String>());
    let mut list: Vec<String> = names.iter().take(SHOWN_NAMES).map(short).collect();
    if let Some(more @ 1..) = names.len().checked_sub(SHOWN_NAMES) {
        list.push(format!("{more} more"));
    }
    list.join(", ")
}

/// Reads a row and takes what it uses out of `fields`; what is left was not used.
///
/// Conversations go before pairs, and these before `text`: published conversations often carry a copy of their
/// first message as a prompt.
pub(crate) fn record_of(fields: &mut Fields) -> Result<Record, String> {
    fields.retain(|(_, value)| !matches!(value, Json::Null));
    let has = |name: &str| fields.iter().any(|(key, _)| key == name);
    let (pair, alpaca) = (
        has("prompt") && has("completion"),
        has("instruction") && has("output"),
    );
    let (messages, conversations, text) = (has("messages"), has("conversations"), has("text"));
    let mut field = |name: &str| json::take(fields, name);
    if messages || conversations {
        let name = if messages {
            "messages"
        } else {
            "conversations"
        };
        let items = field(name).unwrap_or(Json::Null);
        let (system, tools) = (field("system"), field("tools"));
        return conversation(name, items, system, tools).map(Record::Messages);
    }
    if pair {
        let (prompt, completion) = (field("prompt"), field("completion"));
        let (prompt, completion) = (
            prompt.unwrap_or(Json::Null),
            completion.unwrap_or(Json::Null),
        );
        if let (Json::Array(prompt), Json::Array(completion)) = (&prompt, &completion) {
            let tools = field("tools");
            return dialogue(prompt, completion, tools).map(Record::Messages);
        }
        return completion_of(
            string_of("prompt", prompt)?,
            string_of("completion", completion)?,
        );
    }
    if alpaca {
        let mut part = |name: &str| match field(name) {
            Some(value) => string_of(name, value),
            None => Ok(String::new()),
        };
        let (instruction, input) = (part("instruction")?, part("input")?);
        let (output, system) = (part("output")?, part("system")?);
        return match output.trim().is_empty() {
            true => Err("its \"output\" is empty".into()),
            false => Ok(Record::Instruction {
                system,
                instruction,
                input,
                output,
            }),
        };
    }
    if text {
        return text_of(string_of("text", field("text").unwrap_or(Json::Null))?);
    }
    let names: Vec<&str> = fields.iter().map(|(key, _)| key.as_str()).collect();
    let lacks = nearest(&names);
    Err(match names.is_empty() || !lacks.contains("neither") {
        true => lacks,
        false => format!("{lacks} (its keys are {})", shown(&names)),
    })
}

/// A document that is not empty.
fn text_of(text: String) -> Result<Record, String> {
    match text.trim().is_empty() {
        true => Err("its \"text\" is empty".into()),
        false => Ok(Record::Text(text)),
    }
}

/// A pair whose completion is not empty; a prompt may be.
fn completion_of(prompt: String, completion: String) -> Result<Record, String> {
    match completion.trim().is_empty() {
        true => Err("its \"completion\" is empty".into()),
        false => Ok(Record::Completion { prompt, completion }),
    }
}

fn string_of(name: &str, value: Json) -> Result<String, String> {
    match value {
        Json::String(text) => Ok(text),
        other => Err(format!("its {name:?} is {}, not a string", other.kind())),
    }
}

/// What a table keeps as text of JSON is that JSON.
fn unfolded(value: Json) -> Json {
    match value {
        Json::String(text) => serde_json::from_str(&text).unwrap_or(Json::String(text)),
        other => other,
    }
}

/// A conversation in which the assistant says something.
fn conversation(
    name: &str,
    items: Json,
    system: Option<Json>,
    tools: Option<Json>,
) -> Result<Conversation, String> {
    let items = match unfolded(items) {
        Json::Array(items) => items,
        other => return Err(format!("its {name:?} are {}, not a list", other.kind())),
    };
    let mut messages = Vec::new();
    if let Some(system) = system {
        let system = string_of("system", system)?;
        if !system.trim().is_empty() {
            messages.push(Message::new("system", &system));
        }
    }
    messages.extend(messages_of(items)?);
    finished(messages, tools, name)
}

/// A pair of two lists of messages, of which only those of the second are learned (TRL writes it).
fn dialogue(
    prompt: &[Json],
    completion: &[Json],
    tools: Option<Json>,
) -> Result<Conversation, String> {
    let mut messages = messages_of(prompt.to_vec())?;
    messages
        .iter_mut()
        .for_each(|message| message.learned = false);
    messages.extend(messages_of(completion.to_vec())?);
    finished(messages, tools, "completion")
}

fn finished(
    messages: Vec<Message>,
    tools: Option<Json>,
    name: &str,
) -> Result<Conversation, String> {
    if messages.len() > MAX_MESSAGES {
        return Err(format!(
            "it has {} messages, more than the {MAX_MESSAGES} allowed",
            messages.len()
        ));
    }
    if !messages.iter().any(Message::answers) {
        return Err(format!("the assistant says nothing in its {name:?}"));
    }
    let tools = tools.map(unfolded).filter(|tools| !tools.is_empty());
    match tools {
        None | Some(Json::Array(_)) => Ok(Conversation { messages, tools }),
        Some(other) => Err(format!("its \"tools\" are {}, not a list", other.kind())),
    }
}

fn messages_of(items: Vec<Json>) -> Result<Vec<Message>, String> {
    let numbered = items.into_iter().enumerate();
    numbered
        .map(|(index, item)| {
            message_of(item).map_err(|why| format!("message {}: {why}", index + 1))
        })
        .collect()
}

fn message_of(item: Json) -> Result<Message, String> {
    let Json::Object(mut fields) = item else {
        return Err(format!("{} is not an object", item.kind()));
    };
    // A `tool_calls` of nothing, as tables write it, is none.
    fields.retain(|(key, value)| key == "content" || !value.is_empty());
    let role = match (
        json::take(&mut fields, "role"),
        json::take(&mut fields, "from"),
    ) {
        (Some(role), _) => string_of("role", role)?,
        (None, Some(from)) => speaker(&string_of("from", from)?)?.into(),
        (None, None) => return Err("it has no \"role\"".into()),
    };
    let content = json::take(&mut fields, "content").or_else(|| json::take(&mut fields, "value"));
    let calls = fields.iter().any(|(key, _)| key == "tool_calls");
    let content = match content {
        Some(Json::String(text)) => Json::String(text),
        Some(Json::Array(parts)) => {
            Json::Array(parts.into_iter().map(part).collect::<Result<_, _>>()?)
        }
        None | Some(Json::Null) if calls => Json::String(String::new()),
        None | Some(Json::Null) => return Err("it has no \"content\"".into()),
        Some(other) => return Err(format!("its \"content\" is {}, not a string", other.kind())),
    };
    let learned = match json::take(&mut fields, "weight") {
        None => true,
        Some(Json::Number(weight)) if weight.as_f64() == Some(1.0) => true,
        Some(Json::Number(weight)) if weight.as_f64() == Some(0.0) => false,
        Some(_) => return Err("its \"weight\" is neither 0 nor 1".into()),
    };
    for (key, value) in &mut fields {
        if key == "tool_calls" {
            objects_of_arguments(value);
        }
    }
    Ok(Message {
        role,
        content,
        more: fields,
        learned,
    })
}

/// ShareGPT's names of the speakers.
fn speaker(from: &str) -> Result<&str, String> {
    match from {
        "human" | "user" => Ok("user"),
        "gpt" | "chatgpt" | "assistant" | "model" => Ok("assistant"),
        "system" => Ok("system"),
        "tool" | "observation" | "function_response" => Ok("tool"),
        other => Err(format!(
            "it is from {other:?}; write it as {{\"role\": \"assistant\", \"content\": \"...\"}}, calls of tools \
             under \"tool_calls\""
        )),
    }
}

/// One part of a content; only text can be read.
fn part(part: Json) -> Result<Json, String> {
    let text = |fields: &Fields| {
        fields
            .iter()
            .any(|(key, value)| key == "text" && matches!(value, Json::String(_)))
    };
    match part {
        Json::String(text) => Ok(Json::Object(vec![
            ("type".into(), Json::String("text".into())),
            ("text".into(), Json::String(text)),
        ])),
        Json::Object(fields) if text(&fields) => Ok(Json::Object(fields)),
        Json::Object(fields) => {
            let kind = fields.iter().find_map(|(key, value)| match value {
                Json::String(kind) if key == "type" => Some(kind.as_str()),
                _ => None,
            });
            Err(format!(
                "its content has a part of type {:?}; only {{\"type\": \"text\", \"text\": \"...\"}} is read",
                kind.unwrap_or("unknown")
            ))
        }
        other => Err(format!("a part of its content is {}", other.kind())),
    }
}

/// The arguments of calls as objects: OpenAI's interface keeps them as text of JSON, which a template would write
/// as a string within a string.
fn objects_of_arguments(value: &mut Json) {
    match value {
        Json::Array(items) => items.iter_mut().for_each(objects_of_arguments),
        Json::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Json::String(text) if key == "arguments" => {
                        if let Ok(object @ Json::Object(_)) = serde_json::from_str(text) {
                            *value = object;
                        }
                    }
                    other => objects_of_arguments(other),
                }
            }
        }
        _ => {}
    }
}
