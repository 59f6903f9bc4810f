//! What restricts an answer: `response_format`, `tools` and `tool_choice`.
//!
//! A request's wish is taken here, and [`constraint`] makes of it what the engine asks for each token. For now only text
//! without tools is served; everything else is refused by name.

use tributary_engine::base::BaseInfo;
use tributary_engine::json::Json;
use tributary_engine::request::Constraint;

use super::Refusal;
use super::fields::Fields;

/// What a request wishes its answer to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wish {
    /// `response_format`, unless it asks for text.
    pub(super) format: Option<Json>,
    /// `tools`, unless there are none.
    pub(super) tools: Option<Json>,
    /// `tool_choice`, unless it leaves the choice to the model.
    pub(super) choice: Option<Json>,
}

impl Wish {
    /// Takes the three fields.
    pub(super) fn take(fields: &mut Fields) -> Self {
        let is_word = |value: &Json, words: &[&str]| matches!(value, Json::String(word) if words.contains(&word.as_str()));
        Self {
            format: fields
                .take("response_format")
                .filter(|format| !is_text(format)),
            tools: fields.take("tools").filter(|tools| !tools.is_empty()),
            choice: (fields.take("tool_choice"))
                .filter(|choice| !is_word(choice, &["none", "auto"])),
        }
    }
}

/// `{"type": "text"}`.
pub(super) fn is_text(format: &Json) -> bool {
    let kind =
        |(name, value): &(String, Json)| name == "type" && *value == Json::String("text".into());
    matches!(format, Json::Object(fields) if fields.len() == 1 && fields.iter().all(kind))
}

/// What the engine is to ask for each token of one answer; None where nothing is restricted. Called once for each answer
/// of a request, on a thread that may compute.
///
/// # Errors
/// When the wish cannot be granted, naming the field.
pub(super) fn constraint(
    wish: &Wish,
    _base: &BaseInfo,
) -> Result<Option<Box<dyn Constraint>>, Refusal> {
    let refused = |field: &str| {
        let message =
            format!("`{field}` is not served yet; leave it out and ask for the form in words");
        Err(Refusal::unsupported(field, message))
    };
    match wish {
        Wish {
            format: Some(_), ..
        } => refused("response_format"),
        Wish { tools: Some(_), .. } => refused("tools"),
        Wish {
            choice: Some(_), ..
        } => refused("tool_choice"),
        _ => Ok(None),
    }
}
