//! `POST /v1/responses`: text, one answer, nothing kept.

use serde_json::{Value, json};
use tributary_engine::ResponseFormat;
use tributary_engine::chat::Message;
use tributary_engine::json::Json;

use super::Refusal;
use super::answer::{Placed, Reason, Total};
use super::ask::{Ask, HARMLESS, Settings};
use super::chat::{read_message, read_parts, written};
use super::constraint::no_tools;
use super::fields::{Fields, wrong_kind};
use super::head::Head;
use super::reading::Reading;
use super::stream::{Form, Whole, event};
use super::types::ResponseObject;

/// What the answer repeats of the request.
pub(super) struct Told {
    instructions: Option<String>,
    max_output_tokens: Option<usize>,
    temperature: f32,
    top_p: f32,
    format: Value,
}

/// Reads the request.
pub(super) fn read(reading: &Reading, mut fields: Fields) -> Result<(Ask, Told), Refusal> {
    let model = fields.needed_text("model")?;
    let mut settings = Settings::take(&mut fields)?;
    if settings.answers != 1 {
        return Err(Refusal::unsupported(
            "n",
            "`n` is not served here: there is one answer",
        ));
    }
    no_tools(&mut fields)?;
    let (form, told_form) = format(&mut fields)?;
    settings.wish.format = form;
    let instructions = fields.text("instructions")?;
    settings.max_tokens = fields.count("max_output_tokens", 1..=reading.info.config.max_context)?;
    let system = instructions.iter().map(|text| Message::new("system", text));
    let mut messages: Vec<Message> = system.collect();
    match fields.take("input") {
        Some(Json::String(text)) => messages.push(Message::new("user", &text)),
        Some(Json::Array(items)) => {
            for (at, item) in items.into_iter().enumerate() {
                messages.push(read_item(item, &format!("input[{at}]"))?);
            }
        }
        Some(other) => {
            return Err(wrong_kind(
                "input",
                "a string or a list of messages",
                &other,
            ));
        }
        None => return Err(fields.missing("input")),
    }
    if messages.is_empty() {
        return Err(Refusal::value(
            "input",
            "`input` is empty; give at least one message",
        ));
    }
    unserved(&mut fields)?;
    fields.done(&HARMLESS)?;
    let prompt = written(reading, messages, &mut settings)?;
    let told = Told {
        instructions,
        max_output_tokens: settings.max_tokens,
        temperature: settings.sampling.temperature,
        top_p: settings.sampling.top_p,
        format: told_form,
    };
    let ask = Ask::new(reading, model, vec![prompt], settings)?;
    Ok((ask, told))
}

/// A message as chats have it, but for the names of its parts.
fn read_item(item: Json, path: &str) -> Result<Message, Refusal> {
    let mut fields = Fields::within(item, path)?;
    let message = |value: &Json| *value == Json::String("message".into());
    fields.only("type", message, "an input is made of messages")?;
    let content = match fields.take("content") {
        Some(Json::Array(parts)) => {
            let kinds = ["input_text", "output_text"];
            Json::String(read_parts(parts, &fields.path("content"), &kinds)?)
        }
        other => other.unwrap_or(Json::Null),
    };
    // What an answer held besides, and clients send back.
    let mut rest = fields.rest();
    rest.retain(|(name, _)| !["id", "status", "phase"].contains(&name.as_str()));
    rest.push(("content".into(), content));
    read_message(Json::Object(rest), path)
}

/// The form in `text.format`, and as it was asked for.
fn format(fields: &mut Fields) -> Result<(ResponseFormat, Value), Refusal> {
    let unasked = (ResponseFormat::Text, json!({"type": "text"}));
    let Some(mut text) = fields.object("text")? else {
        return Ok(unasked);
    };
    text.only(
        "verbosity",
        |v| *v == Json::String("medium".into()),
        "no model here is told how much to say",
    )?;
    let format = text.take("format");
    text.done(&[])?;
    let Some(format) = format else {
        return Ok(unasked);
    };
    let read = ResponseFormat::read(Some(&nested(&format)));
    let read = read.map_err(|error| {
        // The same words, of the place where it stands here.
        let here = |text: &str| {
            text.replace("response_format.json_schema", "text.format")
                .replace("response_format", "text.format")
        };
        Refusal::field(error.code(), here(error.param()), here(&error.to_string()))
    })?;
    Ok((read, Value::from(&format)))
}

/// A form as chats have it: what stands beside the type there is an object of its own.
fn nested(format: &Json) -> Json {
    let kind = |(name, _): &(String, Json)| name == "type";
    let schema = Json::String("json_schema".into());
    match format {
        Json::Object(fields) if fields.iter().any(|field| kind(field) && field.1 == schema) => {
            let rest = fields
                .iter()
                .filter(|field| !kind(field))
                .cloned()
                .collect();
            Json::Object(vec![
                ("type".into(), schema),
                ("json_schema".into(), Json::Object(rest)),
            ])
        }
        other => other.clone(),
    }
}

fn unserved(fields: &mut Fields) -> Result<(), Refusal> {
    let never = |_: &Json| false;
    let no = |value: &Json| *value == Json::Bool(false);
    let word = |word: &'static str| move |value: &Json| *value == Json::String(word.into());
    fields.only("store", no, "nothing is kept; leave it out or send false")?;
    fields.only("background", no, "nothing is kept")?;
    fields.only(
        "previous_response_id",
        never,
        "nothing is kept; send the whole conversation as `input`",
    )?;
    fields.only(
        "conversation",
        never,
        "nothing is kept; send the whole conversation as `input`",
    )?;
    fields.only("prompt", never, "no prompts are kept")?;
    fields.only(
        "truncation",
        word("disabled"),
        "an input that is too long is refused",
    )?;
    fields.only(
        "include",
        Json::is_empty,
        "there is nothing more to include",
    )?;
    fields.only(
        "reasoning",
        Json::is_empty,
        "no model here is told how much to think",
    )?;
    fields.only("max_tool_calls", never, "no tools are called")?;
    fields.only(
        "top_logprobs",
        |v| *v == Json::Number(0.into()),
        "use /v1/chat/completions",
    )
}

/// How responses are answered.
pub(super) struct ResponseForm {
    head: Head,
    told: Told,
    sequence: u64,
    text: String,
    reason: Option<Reason>,
    failed: bool,
}

impl ResponseForm {
    pub(super) fn new(head: Head, told: Told) -> Self {
        Self {
            head,
            told,
            sequence: 0,
            text: String::new(),
            reason: None,
            failed: false,
        }
    }

    fn object(&self, status: &'static str) -> ResponseObject {
        ResponseObject {
            id: format!("resp_{}", self.head.id),
            object: "response",
            created_at: self.head.created,
            status,
            error: None,
            incomplete_details: None,
            instructions: self.told.instructions.clone(),
            max_output_tokens: self.told.max_output_tokens,
            model: self.head.model.clone(),
            output: Vec::new(),
            parallel_tool_calls: true,
            previous_response_id: None,
            store: false,
            temperature: self.told.temperature,
            top_p: self.told.top_p,
            text: json!({"format": self.told.format}),
            tool_choice: "none",
            tools: Vec::new(),
            truncation: "disabled",
            usage: None,
            metadata: Default::default(),
        }
    }

    /// The whole answer.
    fn ended_object(&self, text: &str, reason: Option<Reason>, total: &Total) -> ResponseObject {
        let is_cut = reason == Some(Reason::Length);
        let status = if is_cut { "incomplete" } else { "completed" };
        let mut object = self.object(status);
        object.incomplete_details = is_cut.then(|| json!({"reason": "max_output_tokens"}));
        object.output = vec![self.message(status, Some(text))];
        object.usage = Some(json!({
            "input_tokens": total.prompt,
            "input_tokens_details": {"cached_tokens": total.cached},
            "output_tokens": total.answer,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": total.prompt + total.answer,
        }));
        object
    }

    fn item(&self) -> String {
        format!("msg_{}", self.head.id)
    }

    fn message(&self, status: &str, text: Option<&str>) -> Value {
        let content: Vec<Value> = text.map(part).into_iter().collect();
        json!({"id": self.item(), "type": "message", "role": "assistant", "status": status, "content": content})
    }

    /// An event: its number, its name, and what it says.
    fn event(&mut self, name: &str, mut data: Value) -> String {
        data["type"] = name.into();
        data["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        event(Some(name), &data)
    }

    /// Where an event of the one message's one part belongs.
    fn place(&self) -> Value {
        json!({"item_id": self.item(), "output_index": 0, "content_index": 0})
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

impl Form for ResponseForm {
    type Whole = ResponseObject;

    fn whole(&self, answers: Vec<Whole>, total: &Total) -> ResponseObject {
        let answer = answers.into_iter().next().unwrap_or_default();
        self.ended_object(&answer.text, answer.reason, total)
    }

    fn opening(&mut self) -> String {
        let object = json!({"response": self.object("in_progress")});
        let mut events = self.event("response.created", object.clone());
        events.push_str(&self.event("response.in_progress", object));
        let item = self.message("in_progress", None);
        let added = json!({"output_index": 0, "item": item});
        events.push_str(&self.event("response.output_item.added", added));
        let mut added = self.place();
        added["part"] = part("");
        events.push_str(&self.event("response.content_part.added", added));
        events
    }

    fn text(&mut self, _answer: usize, text: String, _tokens: &[Placed]) -> String {
        self.text.push_str(&text);
        let mut delta = self.place();
        delta["delta"] = text.into();
        delta["logprobs"] = json!([]);
        self.event("response.output_text.delta", delta)
    }

    fn ended(&mut self, _answer: usize, reason: Reason) -> String {
        self.reason = Some(reason);
        String::new()
    }

    fn failed(&mut self, refusal: &Refusal) -> String {
        self.failed = true;
        let mut object = self.object("failed");
        object.error = Some(json!({"code": refusal.code, "message": refusal.message}));
        self.event("response.failed", json!({"response": object}))
    }

    fn done(&mut self, total: &Total) -> String {
        if self.failed {
            return String::new();
        }
        let text = std::mem::take(&mut self.text);
        let object = self.ended_object(&text, self.reason, total);
        let mut done = self.place();
        done["text"] = text.as_str().into();
        done["logprobs"] = json!([]);
        let mut events = self.event("response.output_text.done", done);
        let mut done = self.place();
        done["part"] = part(&text);
        events.push_str(&self.event("response.content_part.done", done));
        let item = json!({"output_index": 0, "item": object.output[0]});
        events.push_str(&self.event("response.output_item.done", item));
        let name = format!("response.{}", object.status);
        events.push_str(&self.event(&name, json!({"response": object})));
        events
    }

    fn end(&self) -> &'static str {
        ""
    }
}
