//! Conversations as the model was taught to see them: its chat template.
//!
//! A template is a small Jinja program that comes with a model folder, and so from strangers: it runs with a budget
//! that bounds its work, its output and its memory, and it reaches no file. Rendering follows transformers'
//! `apply_chat_template`; the dialect is in `dialect`. A template is not part of a base model's identity. Which tokens of
//! a conversation are the assistant's is left to the trainer.

mod dialect;
mod message;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use minijinja::Environment;
use minijinja::value::Value;
use serde::Deserialize;

use crate::input;
use crate::json::Json;

pub use dialect::Date;
pub use message::{Conversation, Message};

/// Largest chat template, in bytes; published ones have up to 20 thousand.
pub const MAX_TEMPLATE_BYTES: u64 = 1 << 20;
/// Largest `tokenizer_config.json`, in bytes; those that list every added token have some hundred
/// thousand.
pub const MAX_TOKENIZER_CONFIG_BYTES: u64 = 16 << 20;
/// What one rendering may spend: an instruction or 64 bytes of text cost one. Bounds a rendering to
/// about 128 MiB and a second; a long conversation needs some thousand.
const FUEL: u64 = 1 << 21;
/// Deepest nesting of calls in a template; published ones use a handful.
const RECURSION: usize = 100;

const TEMPLATE_FILE: &str = "chat_template.jinja";
const CONFIG_FILE: &str = "tokenizer_config.json";

/// Why a template cannot be used, or a conversation not be written with it.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}; check the model folder")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is larger than any real one.
    #[error("{path} has {bytes} bytes, more than the {limit} allowed; use the model's own file")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// Not a tokenizer configuration.
    #[error("{path} is not a tokenizer configuration: {why}; use the model's own file")]
    Config {
        /// The file.
        path: String,
        /// What the parser said.
        why: String,
    },
    /// Not a template.
    #[error("the chat template does not parse: {0}; use the model's own template")]
    Template(String),
    /// The template refuses the conversation, or ran out of its budget.
    #[error("the chat template fails on the conversation: {0}")]
    Render(String),
    /// The rendering of a beginning is not a beginning of the whole rendering.
    #[error(
        "the chat template writes earlier messages differently once message {message} follows, so \
         the assistant's part cannot be told; use another template"
    )]
    NotPrefix {
        /// The assistant's message, counted from one.
        message: usize,
    },
    /// The model's template is one that [`ChatTemplate::from_dir`] refuses.
    #[error("{0}")]
    Unusable(String),
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenizer::TokenizerError),
}

/// A model's chat template. Cloning shares it.
#[derive(Clone)]
pub struct ChatTemplate {
    /// Why there is none, where the template cannot be used.
    environment: Result<Arc<Environment<'static>>, String>,
    source: Arc<str>,
    /// `bos_token` and its like, by name.
    specials: Vec<(String, String)>,
    date: Date,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("specials", &self.specials)
            .field("date", &self.date)
            .finish_non_exhaustive()
    }
}

/// What is read of a `tokenizer_config.json`.
#[derive(Default, Deserialize)]
struct TokenizerConfig {
    #[serde(default)]
    chat_template: Option<Templates>,
    #[serde(default)]
    bos_token: Option<SpecialToken>,
    #[serde(default)]
    eos_token: Option<SpecialToken>,
    #[serde(default)]
    unk_token: Option<SpecialToken>,
    #[serde(default)]
    pad_token: Option<SpecialToken>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SpecialToken {
    Text(String),
    Object { content: String },
}

impl ChatTemplate {
    /// The template of a model folder: `chat_template.jinja`, else the one in
    /// `tokenizer_config.json` (its `default` if there are several). None when the model has none.
    ///
    /// # Errors
    /// See [`ChatError`].
    pub fn from_dir(folder: &Path) -> Result<Option<Self>, ChatError> {
        let path = folder.join(CONFIG_FILE);
        let config = match read(&path, MAX_TOKENIZER_CONFIG_BYTES)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| ChatError::Config {
                path: path.display().to_string(),
                why: e.to_string(),
            })?,
            None => TokenizerConfig::default(),
        };
        let file =
            match read(&folder.join(TEMPLATE_FILE), MAX_TEMPLATE_BYTES)? {
                Some(bytes) => Some(String::from_utf8(bytes).map_err(|e| {
                    ChatError::Template(format!("{TEMPLATE_FILE} is not UTF-8 ({e})"))
                })?),
                None => None,
            };
        let named = match config.chat_template {
            Some(Templates::One(source)) => Some(source),
            Some(Templates::Named(list)) => (list.into_iter())
                .find(|t| t.name == "default")
                .map(|t| t.template),
            None => None,
        };
        let Some(source) = file.or(named) else {
            return Ok(None);
        };
        let specials = [
            ("bos_token", config.bos_token),
            ("eos_token", config.eos_token),
            ("unk_token", config.unk_token),
            ("pad_token", config.pad_token),
        ];
        let specials = specials.into_iter().filter_map(|(name, token)| {
            token.map(|token| match token {
                SpecialToken::Text(text) | SpecialToken::Object { content: text } => (name, text),
            })
        });
        Self::new(&source, specials).map(Some)
    }

    /// As [`ChatTemplate::from_dir`], for data that may have no conversation in it: a template that cannot be used
    /// fails the first conversation, and no other row.
    pub fn for_rows(folder: &Path) -> Option<Self> {
        match Self::from_dir(folder) {
            Ok(template) => template,
            Err(error) => Some(Self {
                environment: Err(error.to_string()),
                source: "".into(),
                specials: Vec::new(),
                date: Date::today(),
            }),
        }
    }

    /// A template and the special tokens that it may name, such as `("bos_token", "<s>")`. Its date is
    /// today's.
    ///
    /// # Errors
    /// [`ChatError::Template`].
    pub fn new<'a>(
        source: &str,
        specials: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Result<Self, ChatError> {
        if source.len() as u64 > MAX_TEMPLATE_BYTES {
            let why = format!("it is longer than {MAX_TEMPLATE_BYTES} bytes");
            return Err(ChatError::Template(why));
        }
        let mut environment = dialect::environment();
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        let stripped = dialect::without_generation_tags(source);
        (environment.add_template_owned("chat", stripped))
            .map_err(|e| ChatError::Template(dialect::shown(&e)))?;
        Ok(Self {
            environment: Ok(Arc::new(environment)),
            source: source.into(),
            specials: specials.into_iter().map(|(n, t)| (n.into(), t)).collect(),
            date: Date::today(),
        })
    }

    /// The same template on another day: some write the date into the system message, and a training
    /// that is resumed on another day must see the same text.
    #[must_use]
    pub fn on(self, date: Date) -> Self {
        Self { date, ..self }
    }

    /// Writes messages; with `invite` also the beginning of the assistant's next message.
    ///
    /// # Errors
    /// [`ChatError::Render`].
    pub fn render(&self, messages: &[Message], invite: bool) -> Result<String, ChatError> {
        let conversation = Conversation {
            messages: messages.to_vec(),
            tools: None,
        };
        self.write(&conversation, messages.len(), invite)
    }

    /// Writes the first `count` messages of a conversation; with `invite` also the beginning of the assistant's next
    /// message.
    ///
    /// # Errors
    /// [`ChatError::Render`].
    pub fn write(
        &self,
        conversation: &Conversation,
        count: usize,
        invite: bool,
    ) -> Result<String, ChatError> {
        let messages = &conversation.messages[..count];
        let in_parts = |m: &Message| matches!(m.content, Json::Array(_));
        let joins = messages.iter().any(in_parts) && self.joins_parts();
        let messages = messages.iter().map(|m| message_value(m, joins)).collect();
        self.written(messages, conversation.tools.as_ref(), invite)
    }

    fn written(
        &self,
        messages: Vec<Value>,
        tools: Option<&Json>,
        invite: bool,
    ) -> Result<String, ChatError> {
        let environment =
            (self.environment.as_ref()).map_err(|why| ChatError::Unusable(why.clone()))?;
        let failed = |e: minijinja::Error| ChatError::Render(dialect::shown(&e));
        // What transformers passes when it was given nothing.
        let nothing = || Value::from(());
        let mut context = vec![
            ("messages".to_owned(), Value::from_iter(messages)),
            ("add_generation_prompt".to_owned(), Value::from(invite)),
            (
                "tools".to_owned(),
                tools.map_or_else(nothing, dialect::value),
            ),
            ("documents".to_owned(), nothing()),
            (
                "strftime_now".to_owned(),
                dialect::strftime_function(self.date),
            ),
        ];
        let specials = self.specials.iter();
        context.extend(specials.map(|(name, text)| (name.clone(), Value::from(text.as_str()))));
        let template = environment.get_template("chat").map_err(failed)?;
        (template.render(Value::from_pairs(context))).map_err(failed)
    }

    /// Whether parts of a content are handed over as one string: the template writes strings. One that does not
    /// expects parts.
    fn joins_parts(&self) -> bool {
        const PROBE: &str = "probe";
        let probe = message_value(&Message::new("user", PROBE), true);
        (self.written(vec![probe], None, false)).map_or(true, |text| text.contains(PROBE))
    }

    /// Whether the template names a field; one that it does not name has no effect.
    pub fn names(&self, field: &str) -> bool {
        self.source.contains(field)
    }
}

/// A message as templates see it.
fn message_value(message: &Message, joins: bool) -> Value {
    let content = match (joins, &message.content) {
        (true, Json::Array(_)) => Value::from(message.text().into_owned()),
        (_, content) => dialect::value(content),
    };
    let own = [
        ("role", Value::from(message.role.as_str())),
        ("content", content),
    ];
    let more = message
        .more
        .iter()
        .map(|(key, value)| (key.as_str(), dialect::value(value)));
    Value::from_pairs(own.into_iter().chain(more))
}

/// The file's bytes; None when there is no such file.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, ChatError> {
    let error = |source| ChatError::Read {
        path: path.display().to_string(),
        source,
    };
    let bytes = match input::finite(path) {
        Ok(metadata) => metadata.len(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(error(e)),
    };
    if bytes > limit {
        return Err(ChatError::TooLarge {
            path: path.display().to_string(),
            bytes,
            limit,
        });
    }
    std::fs::read(path).map(Some).map_err(error)
}

#[cfg(test)]
mod tests;
