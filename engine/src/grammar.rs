//! Answers that keep a form: JSON, JSON of a schema, calls of tools.
//!
//! A [`Vocabulary`] is built once for a tokenizer. A request's `response_format` ([`ResponseFormat`]) and its tools
//! ([`crate::tools`]) become a [`Constraint`], which says before each token which ones may follow. The parser, and the
//! compiler of schemas, are `llguidance`'s. A stranger's schema is checked here first ([`schema`]): what the compiler
//! cannot hold is refused by name, what is too large never reaches it, and its work is bounded. Answers never wait
//! for whitespace without end, which small models like to write: between two signs there is one space, or a line end
//! and an indentation.
//!
//! Compiling takes up to some hundred milliseconds and blocks: a server does it beside its event loop.

mod format;
mod schema;
mod vocabulary;

pub use format::ResponseFormat;
pub use schema::{MAX_SCHEMA_BYTES, Schema};
pub use vocabulary::Vocabulary;

use crate::json::{Fields, Json, field};
use crate::request::Constraint;
use crate::tools::{Choice, Tools};

/// Why a form or a list of tools cannot be used. Each has a stable code, and the place in the request that it is about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// The request says something that is not allowed there.
    #[error("{param} {why}")]
    Invalid {
        /// The place in the request, such as `tools[1].function.name`.
        param: String,
        /// What is wrong, and what is allowed.
        why: String,
    },
    /// A part of JSON Schema that answers cannot be held to.
    #[error("{param} is not supported: {why}")]
    Unsupported {
        /// The place in the request.
        param: String,
        /// What to use instead.
        why: String,
    },
    /// More than is served.
    #[error("{param} is too large: {why}")]
    TooLarge {
        /// The place in the request.
        param: String,
        /// The size and the bound.
        why: String,
    },
    /// The schema does not compile, within bounds or at all.
    #[error("{param} cannot be turned into a grammar: {why}; simplify the schema")]
    Compile {
        /// The place in the request.
        param: String,
        /// What the compiler said.
        why: String,
    },
    /// The model was not made for tools.
    #[error(
        "this model's chat template has no place for tools; ask a model that was trained to use them"
    )]
    NoTools,
}

impl GrammarError {
    /// A name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid_value",
            Self::Unsupported { .. } => "unsupported_value",
            Self::TooLarge { .. } => "schema_too_large",
            Self::Compile { .. } => "invalid_schema",
            Self::NoTools => "tools_not_supported",
        }
    }

    /// The place in the request that it is about.
    pub fn param(&self) -> &str {
        match self {
            Self::Invalid { param, .. }
            | Self::Unsupported { param, .. }
            | Self::TooLarge { param, .. }
            | Self::Compile { param, .. } => param,
            Self::NoTools => "tools",
        }
    }

    pub(crate) fn invalid(param: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid {
            param: param.into(),
            why: why.into(),
        }
    }
}

/// What holds the answer to a request's form; None where nothing does. Tools that must be called come before the form,
/// and tools that may be called are an alternative to it.
///
/// # Errors
/// [`GrammarError::Compile`], with the place of the schema.
pub fn constraint(
    vocabulary: &Vocabulary,
    format: &ResponseFormat,
    tools: Option<&Tools>,
) -> Result<Option<Box<dyn Constraint>>, GrammarError> {
    let schema = format.schema();
    let calls = tools.filter(|tools| *tools.choice() != Choice::None);
    let source = match (calls, schema) {
        (Some(tools), _) if tools.must_call() => Source::calls(tools, None),
        (Some(tools), Some(schema)) => Source::calls(tools, Some(schema)),
        (_, Some(schema)) => Source::json(schema),
        (_, None) => return Ok(None),
    };
    vocabulary.constraint(source).map(Some)
}

/// A grammar as text: rules, and the schemas that they name.
struct Source {
    /// Rules in llguidance's dialect of Lark.
    rules: String,
    /// Schemas `s0`, `s1`, ... of the rules.
    schemas: Vec<Schema>,
}

/// Most calls of one answer; models that must call something like to go on.
pub(crate) const MAX_CALLS: usize = 16;

impl Source {
    fn json(schema: &Schema) -> Self {
        Self {
            rules: "start: @s0\n".into(),
            schemas: vec![schema.clone()],
        }
    }

    /// Calls as Qwen writes them, or else JSON of a schema.
    fn calls(tools: &Tools, or: Option<&Schema>) -> Self {
        let mut schemas = Vec::new();
        let mut rules = String::new();
        let mut names = Vec::new();
        for tool in tools.callable() {
            let at = schemas.len();
            // Names hold letters, digits, `_` and `-` alone: nothing to escape.
            let name = &tool.name;
            rules += &format!(
                "c{at}: \"<tool_call>\\n{{\\\"name\\\": \\\"{name}\\\", \\\"arguments\\\": \" @s{at} \"}}\\n</tool_call>\"\n"
            );
            names.push(format!("c{at}"));
            schemas.push(tool.schema.clone());
        }
        rules += &format!("call: {}\n", names.join(" | "));
        let more = MAX_CALLS - 1;
        rules += &match tools.parallel() {
            true => format!("calls: call (\"\\n\" call){{0,{more}}}\n"),
            false => "calls: call\n".to_owned(),
        };
        rules += &match or {
            Some(schema) => {
                schemas.push(schema.clone());
                format!("start: calls | @s{}\n", schemas.len() - 1)
            }
            None => "start: calls\n".to_owned(),
        };
        Self { rules, schemas }
    }
}

/// The fields of an object.
pub(crate) fn object<'j>(json: &'j Json, param: &str) -> Result<&'j Fields, GrammarError> {
    match json {
        Json::Object(fields) => Ok(fields),
        other => Err(GrammarError::invalid(
            param,
            format!("must be an object, not {}", other.kind()),
        )),
    }
}

/// A string of an object, where there is one.
pub(crate) fn text_field<'j>(
    fields: &'j Fields,
    name: &str,
    param: &str,
) -> Result<Option<&'j str>, GrammarError> {
    match field(fields, name) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(other) => Err(GrammarError::invalid(
            format!("{param}.{name}"),
            format!("must be a string, not {}", other.kind()),
        )),
    }
}

/// A truth value of an object; false where there is none.
pub(crate) fn flag(fields: &Fields, name: &str, param: &str) -> Result<bool, GrammarError> {
    match field(fields, name) {
        None => Ok(false),
        Some(Json::Bool(yes)) => Ok(*yes),
        Some(other) => Err(GrammarError::invalid(
            format!("{param}.{name}"),
            format!("must be true or false, not {}", other.kind()),
        )),
    }
}

/// Refuses fields that are not among `known`.
pub(crate) fn only(fields: &Fields, known: &[&str], param: &str) -> Result<(), GrammarError> {
    let unknown = fields
        .iter()
        .find(|(key, value)| *value != Json::Null && !known.contains(&key.as_str()));
    match unknown {
        None => Ok(()),
        Some((key, _)) => Err(GrammarError::Unsupported {
            param: format!("{param}.{}", shown(key)),
            why: format!("the fields here are {}; remove it", known.join(", ")),
        }),
    }
}

/// Checks the name of a function or a schema.
pub(crate) fn name_field<'j>(fields: &'j Fields, param: &str) -> Result<&'j str, GrammarError> {
    let Some(name) = text_field(fields, "name", param)? else {
        return Err(GrammarError::invalid(
            format!("{param}.name"),
            "is missing; give it a name",
        ));
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match (1..=64).contains(&name.len()) && name.bytes().all(plain) {
        true => Ok(name),
        false => Err(GrammarError::invalid(
            format!("{param}.name"),
            "must have 1 to 64 letters, digits, underscores or hyphens",
        )),
    }
}

/// A stranger's word in a message: short, and on one line.
pub(crate) fn shown(word: &str) -> String {
    /// Letters of a word that are shown.
    const MOST: usize = 40;
    let plain = word.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut out: String = plain.take(MOST).collect();
    if word.chars().nth(MOST).is_some() {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
pub(crate) mod tests;
