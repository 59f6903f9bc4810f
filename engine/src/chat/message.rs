//! Conversations: who says what, and which tools the assistant may call.

use std::borrow::Cow;

use serde::Deserialize;

use crate::json::{Fields, Json};

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Message {
    /// The speaker: `system`, `user`, `assistant`, or what the model's template knows.
    pub role: String,
    /// What is said: a string, or a list of parts of text.
    pub content: Json,
    /// Its other fields, such as `tool_calls` and `reasoning_content`, for templates that know them.
    #[serde(skip)]
    pub more: Fields,
    /// Whether it is learned, where the assistant says it.
    #[serde(skip, default = "learned")]
    pub learned: bool,
}

fn learned() -> bool {
    true
}

impl Message {
    /// A message of plain text.
    pub fn new(role: &str, content: &str) -> Self {
        Self {
            role: role.into(),
            content: Json::String(content.into()),
            more: Vec::new(),
            learned: true,
        }
    }

    /// What is said, parts of it joined.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.content {
            Json::String(text) => Cow::Borrowed(text),
            Json::Array(parts) => (parts.iter().map(part_text)).collect::<String>().into(),
            _ => Cow::Borrowed(""),
        }
    }

    /// Whether the assistant says something in it.
    pub fn answers(&self) -> bool {
        let calls = self.more.iter().any(|(key, _)| key == "tool_calls");
        self.role == "assistant" && (calls || !self.text().trim().is_empty())
    }
}

fn part_text(part: &Json) -> &str {
    let Json::Object(fields) = part else {
        return "";
    };
    (fields.iter().rev())
        .find_map(|(key, value)| match value {
            Json::String(text) if key == "text" => Some(text.as_str()),
            _ => None,
        })
        .unwrap_or_default()
}

/// Messages, and the tools that the assistant may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// In order.
    pub messages: Vec<Message>,
    /// A list, in which each tool stands as the model's template expects it.
    pub tools: Option<Json>,
}
