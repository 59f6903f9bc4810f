//! The `response_format` of a request.

use super::schema::Schema;
use super::{GrammarError, flag, name_field, object, only, shown, text_field};
use crate::json::{Json, field};

const PARAM: &str = "response_format";

/// The form that an answer is asked to have.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum ResponseFormat {
    /// Any text.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject(Schema),
    /// JSON of a schema.
    JsonSchema {
        /// What the request calls it.
        name: String,
        /// The schema.
        schema: Schema,
    },
}

impl ResponseFormat {
    /// Reads the value of `response_format`; none, or null, asks for text.
    ///
    /// Answers keep to the schema with and without `strict`; with it, keywords that JSON Schema does not know are
    /// refused instead of ignored.
    ///
    /// # Errors
    /// See [`GrammarError`].
    pub fn read(json: Option<&Json>) -> Result<Self, GrammarError> {
        let Some(json) = json.filter(|json| **json != Json::Null) else {
            return Ok(Self::Text);
        };
        let fields = object(json, PARAM)?;
        let kind = text_field(fields, "type", PARAM)?;
        match kind {
            Some("text") => only(fields, &["type"], PARAM).map(|()| Self::Text),
            Some("json_object") => {
                only(fields, &["type"], PARAM)?;
                Ok(Self::JsonObject(Schema::any_object(PARAM)))
            }
            Some("json_schema") => {
                only(fields, &["type", "json_schema"], PARAM)?;
                let param = format!("{PARAM}.json_schema");
                let Some(inner) = field(fields, "json_schema") else {
                    let why = "is missing; give {\"name\": ..., \"schema\": {...}}";
                    return Err(GrammarError::invalid(param, why));
                };
                read_schema(inner, &param)
            }
            other => {
                let which = other.map_or("is missing".into(), |o| format!("is \"{}\"", shown(o)));
                Err(GrammarError::invalid(
                    format!("{PARAM}.type"),
                    format!("{which}; use text, json_object or json_schema"),
                ))
            }
        }
    }

    /// What the answer is held to; None for any text.
    pub fn schema(&self) -> Option<&Schema> {
        match self {
            Self::Text => None,
            Self::JsonObject(schema) | Self::JsonSchema { schema, .. } => Some(schema),
        }
    }
}

fn read_schema(json: &Json, param: &str) -> Result<ResponseFormat, GrammarError> {
    let fields = object(json, param)?;
    only(fields, &["name", "description", "schema", "strict"], param)?;
    let name = name_field(fields, param)?.to_owned();
    text_field(fields, "description", param)?;
    let strict = flag(fields, "strict", param)?;
    let at = format!("{param}.schema");
    let Some(schema) = field(fields, "schema") else {
        return Err(GrammarError::invalid(
            at,
            "is missing; give the schema, or use the type json_object",
        ));
    };
    let schema = Schema::check(schema, &at, strict)?;
    Ok(ResponseFormat::JsonSchema { name, schema })
}
