//! Tools that an answer may call, as OpenAI's API has them.
//!
//! A request lists functions and says whether they must be called ([`Tools::read`]). They are written into the prompt
//! by the model's chat template ([`Tools::for_prompt`]); messages of earlier calls and their results become what
//! templates expect ([`message`]). Calls are written as Qwen does,
//!
//! ```text
//! <tool_call>
//! {"name": "weather", "arguments": {"place": "Delft"}}
//! </tool_call>
//! ```
//!
//! by a grammar where the request demands them ([`crate::grammar::constraint`]), and freely otherwise. [`CallParser`]
//! finds them in the text of the answer.

mod message;
mod parser;

pub use message::message;
pub use parser::{CallParser, Delta};

use crate::chat::ChatTemplate;
use crate::grammar::{GrammarError, Schema, flag, name_field, object, only, shown, text_field};
use crate::json::{Json, field};

/// Most tools of a request, as OpenAI has it.
const MAX_TOOLS: usize = 128;
/// Most bytes of names, descriptions and schemas together; they are written into the prompt.
const MAX_TOOLS_BYTES: usize = 256 << 10;

/// A function that may be called.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name: letters, digits, `_` and `-`.
    pub name: String,
    /// What its arguments are.
    pub schema: Schema,
}

/// Whether tools are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Never: the answer is text.
    None,
    /// As the model sees fit.
    Auto,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// The tools of a request, and how they may be called.
#[derive(Clone, Debug, PartialEq)]
pub struct Tools {
    list: Vec<Tool>,
    /// As the request wrote them, without `strict`.
    written: Json,
    choice: Choice,
    parallel: bool,
}

impl Tools {
    /// Reads `tools`, `tool_choice` and `parallel_tool_calls` of a request; null means absent. None where the request
    /// has no tools.
    ///
    /// # Errors
    /// See [`GrammarError`].
    pub fn read(
        tools: Option<&Json>,
        choice: Option<&Json>,
        parallel: Option<bool>,
    ) -> Result<Option<Self>, GrammarError> {
        let present = |json: &&Json| **json != Json::Null;
        let choice = choice.filter(present);
        let items = match tools.filter(present) {
            Some(Json::Array(items)) => &items[..],
            Some(other) => {
                let why = format!("must be a list, not {}", other.kind());
                return Err(GrammarError::invalid("tools", why));
            }
            None => &[],
        };
        if items.is_empty() {
            return match choice {
                None => Ok(None),
                Some(Json::String(word)) if word == "none" || word == "auto" => Ok(None),
                Some(_) => Err(GrammarError::invalid(
                    "tool_choice",
                    "demands a call, but the request has no tools; list them in tools",
                )),
            };
        }
        let (list, written) = read_list(items)?;
        let choice = read_choice(choice, &list)?;
        Ok(Some(Self {
            list,
            written,
            choice,
            parallel: parallel.unwrap_or(true),
        }))
    }

    /// Whether tools are called.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// Whether one answer may hold several calls.
    pub fn parallel(&self) -> bool {
        self.parallel
    }

    /// Whether the answer is a call.
    pub fn must_call(&self) -> bool {
        matches!(self.choice, Choice::Required | Choice::Named(_))
    }

    /// The tools that may be called.
    pub fn callable(&self) -> impl Iterator<Item = &Tool> {
        self.list.iter().filter(|tool| match &self.choice {
            Choice::None => false,
            Choice::Auto | Choice::Required => true,
            Choice::Named(name) => tool.name == *name,
        })
    }

    /// What the chat template is given as [`crate::chat::Conversation::tools`]; None where no tool may be called.
    ///
    /// # Errors
    /// [`GrammarError::NoTools`] when the template would leave them out.
    pub fn for_prompt(&self, template: &ChatTemplate) -> Result<Option<Json>, GrammarError> {
        match self.choice {
            Choice::None => Ok(None),
            _ if !template.names("tools") => Err(GrammarError::NoTools),
            _ => Ok(Some(self.written.clone())),
        }
    }

    /// What finds the calls in the text of an answer, which began from a seed and a prompt: ids of calls follow from
    /// these.
    pub fn parser(&self, seed: u64, prompt: &[u32]) -> CallParser {
        let names = self.callable().map(|tool| tool.name.clone()).collect();
        CallParser::new(names, self.parallel, seed, prompt)
    }
}

fn read_list(items: &[Json]) -> Result<(Vec<Tool>, Json), GrammarError> {
    if items.len() > MAX_TOOLS {
        return Err(GrammarError::TooLarge {
            param: "tools".into(),
            why: format!("it has {} tools and {MAX_TOOLS} are allowed", items.len()),
        });
    }
    let mut list: Vec<Tool> = Vec::new();
    let mut written = Vec::new();
    let mut bytes = 0;
    for (at, item) in items.iter().enumerate() {
        let param = format!("tools[{at}]");
        let (tool, json) = read_tool(item, &param)?;
        if list.iter().any(|other| other.name == tool.name) {
            return Err(GrammarError::invalid(
                format!("{param}.function.name"),
                format!("is \"{}\", which another tool has; rename one", tool.name),
            ));
        }
        bytes += serde_json::Value::from(&json).to_string().len();
        if bytes > MAX_TOOLS_BYTES {
            return Err(GrammarError::TooLarge {
                param,
                why: format!("the tools have more than the {MAX_TOOLS_BYTES} bytes allowed"),
            });
        }
        list.push(tool);
        written.push(json);
    }
    Ok((list, Json::Array(written)))
}

/// A tool, and as it is written into the prompt.
fn read_tool(json: &Json, param: &str) -> Result<(Tool, Json), GrammarError> {
    let fields = object(json, param)?;
    match text_field(fields, "type", param)? {
        Some("function") => {}
        other => {
            let kind = other.map_or("is missing".into(), |k| format!("is \"{}\"", shown(k)));
            return Err(GrammarError::Unsupported {
                param: format!("{param}.type"),
                why: format!("it {kind}; only function is served"),
            });
        }
    }
    only(fields, &["type", "function"], param)?;
    let param = format!("{param}.function");
    let Some(function) = field(fields, "function") else {
        return Err(GrammarError::invalid(param, "is missing"));
    };
    let function = object(function, &param)?;
    only(
        function,
        &["name", "description", "parameters", "strict"],
        &param,
    )?;
    let name = name_field(function, &param)?.to_owned();
    text_field(function, "description", &param)?;
    let strict = flag(function, "strict", &param)?;
    let at = format!("{param}.parameters");
    let schema = match field(function, "parameters") {
        Some(schema) => Schema::check_arguments(schema, &at, strict)?,
        None => Schema::no_arguments(&at),
    };
    let kept = function
        .iter()
        .filter(|(key, value)| key != "strict" && *value != Json::Null);
    let written = Json::Object(vec![
        ("type".into(), Json::String("function".into())),
        ("function".into(), Json::Object(kept.cloned().collect())),
    ]);
    Ok((Tool { name, schema }, written))
}

fn read_choice(choice: Option<&Json>, list: &[Tool]) -> Result<Choice, GrammarError> {
    const PARAM: &str = "tool_choice";
    let unknown = || {
        let why = "must be none, auto, required, or {\"type\": \"function\", \"function\": \
                   {\"name\": ...}}";
        GrammarError::invalid(PARAM, why)
    };
    let fields = match choice {
        None => return Ok(Choice::Auto),
        Some(Json::String(word)) => {
            return match word.as_str() {
                "none" => Ok(Choice::None),
                "auto" => Ok(Choice::Auto),
                "required" => Ok(Choice::Required),
                _ => Err(unknown()),
            };
        }
        Some(Json::Object(fields)) => fields,
        Some(_) => return Err(unknown()),
    };
    if text_field(fields, "type", PARAM)? != Some("function") {
        return Err(unknown());
    }
    let function = field(fields, "function").ok_or_else(unknown)?;
    let param = "tool_choice.function";
    let name = name_field(object(function, param)?, param)?;
    match list.iter().any(|tool| tool.name == name) {
        true => Ok(Choice::Named(name.to_owned())),
        false => Err(GrammarError::invalid(
            format!("{param}.name"),
            format!("is \"{name}\", which is not among the tools"),
        )),
    }
}

#[cfg(test)]
mod tests;
