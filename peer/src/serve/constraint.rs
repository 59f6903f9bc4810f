//! What restricts an answer: `response_format`, `tools` and `tool_choice`. What they mean is the engine's
//! [`tributary_engine::grammar`]; here they are taken from a request, and refused in its words.

use tributary_engine::grammar::{self, GrammarError, ResponseFormat, Vocabulary};
use tributary_engine::json::Json;
use tributary_engine::request::Constraint;
use tributary_engine::tools::Tools;

use super::Refusal;
use super::fields::Fields;

/// What a request wishes its answer to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wish {
    /// The form of its text.
    pub(super) format: ResponseFormat,
    /// What it may call.
    pub(super) tools: Option<Tools>,
}

impl Wish {
    /// Takes the fields of a chat.
    pub(super) fn take(fields: &mut Fields) -> Result<Self, Refusal> {
        let parallel = fields.flag("parallel_tool_calls")?;
        let (tools, choice) = (fields.take("tools"), fields.take("tool_choice"));
        Ok(Self {
            format: ResponseFormat::read(fields.take("response_format").as_ref())?,
            tools: Tools::read(tools.as_ref(), choice.as_ref(), parallel)?,
        })
    }
}

/// Refuses tools on a route that serves none.
pub(super) fn no_tools(fields: &mut Fields) -> Result<(), Refusal> {
    const WHY: &str = "tools are called in /v1/chat/completions";
    let leaves = |choice: &Json| {
        ["none", "auto"]
            .map(|word| Json::String(word.into()))
            .contains(choice)
    };
    fields.only("tools", Json::is_empty, WHY)?;
    fields.only("tool_choice", leaves, WHY)
}

/// What the engine is to ask for each token of one answer; None where nothing is restricted. Compiles: not for a thread
/// that waits.
///
/// # Errors
/// When the wish cannot be granted, naming the field.
pub(super) fn constraint(
    wish: &Wish,
    vocabulary: &Vocabulary,
) -> Result<Option<Box<dyn Constraint>>, Refusal> {
    Ok(grammar::constraint(
        vocabulary,
        &wish.format,
        wish.tools.as_ref(),
    )?)
}

impl From<GrammarError> for Refusal {
    fn from(error: GrammarError) -> Self {
        Self::field(error.code(), error.param(), error.to_string())
    }
}
