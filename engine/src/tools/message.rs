//! Messages of OpenAI's API as chat templates expect them.

use crate::chat::Message;
use crate::grammar::{GrammarError, name_field, object, shown, text_field};
use crate::json::{Fields, Json, field};

/// Turns one of a request's `messages` into a message of a conversation; `at` is its place in the list.
///
/// Arguments of calls, which the API has as text, become objects; parts of text stay parts; no content becomes an
/// empty one. Of other fields, `name`, `tool_call_id` and `reasoning_content` are kept.
///
/// # Errors
/// See [`GrammarError`].
pub fn message(json: &Json, at: usize) -> Result<Message, GrammarError> {
    let param = format!("messages[{at}]");
    let fields = object(json, &param)?;
    let role = match text_field(fields, "role", &param)? {
        // The newer name of the same role; templates know the older one.
        Some("developer") => "system",
        Some(role @ ("system" | "user" | "assistant" | "tool")) => role,
        other => {
            let which = other.map_or("is missing".into(), |r| format!("is \"{}\"", shown(r)));
            let why = format!("{which}; use system, developer, user, assistant or tool");
            return Err(GrammarError::invalid(format!("{param}.role"), why));
        }
    };
    let mut more = Fields::new();
    if let Some(calls) = field(fields, "tool_calls") {
        let calls = read_calls(calls, &param, role)?;
        more.push(("tool_calls".into(), calls));
    }
    for name in ["name", "tool_call_id", "reasoning_content"] {
        if let Some(text) = text_field(fields, name, &param)? {
            more.push((name.into(), Json::String(text.into())));
        }
    }
    if role == "tool" && field(fields, "tool_call_id").is_none() {
        let why = "is missing; give the id of the call that this is the result of";
        return Err(GrammarError::invalid(format!("{param}.tool_call_id"), why));
    }
    let content = match field(fields, "content") {
        Some(content) => read_content(content, &format!("{param}.content"))?,
        None if more.iter().any(|(key, _)| key == "tool_calls") => Json::String(String::new()),
        None => {
            let why = "is missing; give a text";
            return Err(GrammarError::invalid(format!("{param}.content"), why));
        }
    };
    let mut message = Message::new(role, "");
    message.content = content;
    message.more = more;
    Ok(message)
}

/// A text, or a list of parts of text.
fn read_content(json: &Json, param: &str) -> Result<Json, GrammarError> {
    let parts = match json {
        Json::String(_) => return Ok(json.clone()),
        Json::Array(parts) => parts,
        other => {
            let why = format!("must be a string or a list of parts, not {}", other.kind());
            return Err(GrammarError::invalid(param, why));
        }
    };
    for (at, part) in parts.iter().enumerate() {
        let param = format!("{param}[{at}]");
        let fields = object(part, &param)?;
        match text_field(fields, "type", &param)? {
            Some("text") => {}
            other => {
                let kind = other.map_or("a part without a type".into(), shown);
                return Err(GrammarError::Unsupported {
                    param: format!("{param}.type"),
                    why: format!("{kind} cannot be read; send parts of the type text"),
                });
            }
        }
        if text_field(fields, "text", &param)?.is_none() {
            return Err(GrammarError::invalid(format!("{param}.text"), "is missing"));
        }
    }
    Ok(json.clone())
}

/// Calls whose arguments are objects.
fn read_calls(json: &Json, param: &str, role: &str) -> Result<Json, GrammarError> {
    let param = format!("{param}.tool_calls");
    let Json::Array(calls) = json else {
        let why = format!("must be a list, not {}", json.kind());
        return Err(GrammarError::invalid(param, why));
    };
    if role != "assistant" {
        let why = "stands in a message that is not the assistant's; remove it";
        return Err(GrammarError::invalid(param, why));
    }
    let calls = calls.iter().enumerate();
    let calls: Result<Vec<Json>, GrammarError> = calls
        .map(|(at, call)| read_call(call, &format!("{param}[{at}]")))
        .collect();
    Ok(Json::Array(calls?))
}

fn read_call(json: &Json, param: &str) -> Result<Json, GrammarError> {
    let fields = object(json, param)?;
    let id = text_field(fields, "id", param)?.unwrap_or_default();
    let at = format!("{param}.function");
    let Some(function) = field(fields, "function") else {
        return Err(GrammarError::invalid(at, "is missing"));
    };
    let function = object(function, &at)?;
    let name = name_field(function, &at)?;
    let at = format!("{at}.arguments");
    let arguments = match field(function, "arguments") {
        Some(Json::String(text)) if text.trim().is_empty() => Json::Object(Vec::new()),
        Some(Json::String(text)) => serde_json::from_str(text).map_err(|e| {
            GrammarError::invalid(&at, format!("must be the text of a JSON object ({e})"))
        })?,
        Some(other) => other.clone(),
        None => Json::Object(Vec::new()),
    };
    object(&arguments, &at)?;
    let function = Json::Object(vec![
        ("name".into(), Json::String(name.into())),
        ("arguments".into(), arguments),
    ]);
    Ok(Json::Object(vec![
        ("id".into(), Json::String(id.into())),
        ("type".into(), Json::String("function".into())),
        ("function".into(), function),
    ]))
}
