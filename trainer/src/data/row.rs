//! What one row of a dataset says, and an account of the rows that say nothing usable.
//!
//! Every file format ends here: a row becomes a [`Record`] or a reason. Reasons are counted and some
//! are kept as examples in a [`RowReport`], so that nothing is dropped in silence.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::limits::{BAD_ROW_EXAMPLES, MAX_MESSAGES};

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The speaker: `system`, `user`, `assistant`, or what the model's template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// What a row holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A file that is one running text; it has no end of its own to learn.
    Passage(String),
    /// A document: every token is learned, and that it ends.
    Text(String),
    /// What is given and what is to follow; only the latter is learned.
    Completion {
        /// Given.
        prompt: String,
        /// Learned.
        completion: String,
    },
    /// A conversation; only what the assistant says is learned.
    Messages(Vec<Message>),
}

/// Where a row stands in its file, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A line of text.
    Line(u64),
    /// An element of an array or a row of a table that has no lines.
    Row(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// A usable row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it stands.
    pub place: Place,
    /// What it holds.
    pub record: Record,
}

/// A row that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadRow {
    /// Where it stands.
    pub place: Place,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// How many rows of a file were used, and what was wrong with the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowReport {
    /// Rows that were used.
    pub good: u64,
    /// Rows that were not.
    pub bad: u64,
    /// The first of the bad ones.
    pub examples: Vec<BadRow>,
    /// How many examples are kept.
    #[serde(skip)]
    pub keep: usize,
}

impl Default for RowReport {
    fn default() -> Self {
        Self::keeping(BAD_ROW_EXAMPLES)
    }
}

impl RowReport {
    /// An empty report that will keep `keep` examples.
    pub fn keeping(keep: usize) -> Self {
        Self {
            good: 0,
            bad: 0,
            examples: Vec::new(),
            keep,
        }
    }

    /// Counts a bad row.
    pub(crate) fn bad(&mut self, row: BadRow) {
        self.bad += 1;
        if self.examples.len() < self.keep {
            self.examples.push(row);
        }
    }
}

impl fmt::Display for RowReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows used, {} bad", self.good, self.bad)?;
        for example in &self.examples {
            write!(f, "\n  {example}")?;
        }
        match self.bad - self.examples.len() as u64 {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// Reads a JSON object. `messages` go before `prompt` and `completion`, and these before `text`:
/// published conversations often carry a copy of their first message as a prompt.
pub(crate) fn record_of(object: Map<String, Value>) -> Result<Record, String> {
    let mut object = object;
    let mut field = |name: &str| object.remove(name).filter(|v| !v.is_null());
    let (messages, text) = (field("messages"), field("text"));
    let (prompt, completion) = (field("prompt"), field("completion"));
    match (messages, prompt, completion, text) {
        (Some(messages), ..) => messages_of(messages).map(Record::Messages),
        (_, Some(prompt), Some(completion), _) => completion_of(
            string_of("prompt", prompt)?,
            string_of("completion", completion)?,
        ),
        (.., Some(text)) => text_of(string_of("text", text)?),
        (_, Some(_), None, None) => Err("it has a \"prompt\" without a \"completion\"".into()),
        (_, None, Some(_), None) => Err("it has a \"completion\" without a \"prompt\"".into()),
        _ => Err(
            "it has neither \"messages\", nor \"prompt\" and \"completion\", \
                  nor \"text\""
                .into(),
        ),
    }
}

/// A document that is not empty.
pub(crate) fn text_of(text: String) -> Result<Record, String> {
    match text.trim().is_empty() {
        true => Err("its \"text\" is empty".into()),
        false => Ok(Record::Text(text)),
    }
}

/// A pair whose completion is not empty; a prompt may be.
pub(crate) fn completion_of(prompt: String, completion: String) -> Result<Record, String> {
    match completion.trim().is_empty() {
        true => Err("its \"completion\" is empty".into()),
        false => Ok(Record::Completion { prompt, completion }),
    }
}

fn string_of(name: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(format!("its {name:?} is {}, not a string", kind(&other))),
    }
}

/// A conversation in which the assistant says something.
fn messages_of(value: Value) -> Result<Vec<Message>, String> {
    let Value::Array(items) = value else {
        return Err(format!("its \"messages\" are {}, not a list", kind(&value)));
    };
    if items.len() > MAX_MESSAGES {
        return Err(format!(
            "it has {} messages, more than the {MAX_MESSAGES} allowed",
            items.len()
        ));
    }
    let numbered = items.into_iter().enumerate();
    let messages = numbered
        .map(|(index, item)| {
            message_of(item).map_err(|why| format!("message {}: {why}", index + 1))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let says = |m: &Message| m.role == "assistant" && !m.content.trim().is_empty();
    match messages.iter().any(says) {
        true => Ok(messages),
        false => Err("the assistant says nothing in its \"messages\"".into()),
    }
}

fn message_of(value: Value) -> Result<Message, String> {
    let Value::Object(mut object) = value else {
        return Err(format!("{} is not an object", kind(&value)));
    };
    let mut field = |name: &str| match object.remove(name) {
        Some(value) => string_of(name, value),
        None => Err(format!("it has no {name:?}")),
    };
    let (role, content) = (field("role")?, field("content")?);
    let calls = object.get("tool_calls").filter(|v| !v.is_null());
    match calls {
        Some(calls) if calls.as_array().is_none_or(|c| !c.is_empty()) => {
            Err("it calls tools, which is not supported".into())
        }
        _ => Ok(Message { role, content }),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
