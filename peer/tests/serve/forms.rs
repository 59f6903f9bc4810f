//! Answers that keep a form, and calls of tools, as OpenAI's clients ask for them.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::server::Server;

const CHAT: &str = "/v1/chat/completions";

/// Lists tools and writes calls as models do that were trained to.
const TEMPLATE: &str = "\
{%- if tools %}system: You may call
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}{% endif %}
{%- for message in messages %}{{ message.role }}: {{ message.content }}
{%- for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}
{% endfor %}
{%- if add_generation_prompt %}assistant:{% endif %}";

/// brook with a chat template that has a place for tools, and where it lies.
fn with_tools() -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let folder: PathBuf = dir.path().join("reed");
    std::fs::create_dir(&folder).unwrap();
    tributary_engine::brook::write_to(&folder).unwrap();
    std::fs::write(folder.join("chat_template.jinja"), TEMPLATE).unwrap();
    (Server::start(&["--base", folder.to_str().unwrap()]), dir)
}

fn chat(model: &str, more: Value) -> Value {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "Is it raining?"}],
                          "max_tokens": 120, "seed": 5});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}

fn schema() -> Value {
    json!({"type": "object", "properties": {
               "colour": {"enum": ["red", "blue"]},
               "count": {"type": "integer", "minimum": 0, "maximum": 9}},
           "required": ["colour", "count"], "additionalProperties": false})
}

fn form() -> Value {
    json!({"type": "json_schema", "json_schema": {"name": "thing", "schema": schema(), "strict": true}})
}

fn function(name: &str, places: &[&str]) -> Value {
    let place = json!({"enum": places});
    json!({"type": "function", "function": {"name": name, "description": "The weather now.", "parameters":
           {"type": "object", "properties": {"place": place}, "required": ["place"], "additionalProperties": false}}})
}

fn tools() -> Value {
    json!([
        function("weather", &["Delft", "Ghent"]),
        function("tide", &["Goes"])
    ])
}

/// The choice of an answer at once.
fn choice(server: &Server, body: &Value) -> Value {
    let reply = server.post(CHAT, body);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["choices"][0].clone()
}

/// The text, the calls, and the reason of an answer in pieces.
fn streamed(server: &Server, body: &Value) -> (String, Vec<Value>, Value) {
    let mut body = body.clone();
    body["stream"] = json!(true);
    let events = server.post(CHAT, &body).events();
    let (last, rest) = events.split_last().unwrap();
    assert_eq!(last, "[DONE]");
    let (mut text, mut calls, mut reason) = (String::new(), Vec::new(), Value::Null);
    for event in rest {
        let event: Value = serde_json::from_str(event).unwrap();
        let choice = &event["choices"][0];
        text += choice["delta"]["content"].as_str().unwrap_or_default();
        calls.extend(
            choice["delta"]["tool_calls"]
                .as_array()
                .cloned()
                .unwrap_or_default(),
        );
        if !choice["finish_reason"].is_null() {
            reason = choice["finish_reason"].clone();
        }
    }
    (text, calls, reason)
}

fn assert_is_a_thing(text: &str) {
    let thing: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let fields = thing.as_object().unwrap();
    assert_eq!(fields.len(), 2, "{text}");
    assert!(["red", "blue"].contains(&fields["colour"].as_str().unwrap()));
    assert!(fields["count"].as_u64().unwrap() <= 9);
}

#[test]
fn an_answer_keeps_to_its_schema_at_once_and_in_pieces() {
    let server = Server::start(&[]);
    for seed in 0..4 {
        let body = chat(
            "brook",
            json!({"response_format": form(), "seed": seed, "n": 2}),
        );
        let reply = server.post(CHAT, &body);
        assert_eq!(reply.status, 200, "{reply:?}");
        for choice in reply.json()["choices"].as_array().unwrap() {
            assert_eq!(choice["finish_reason"], "stop");
            assert_is_a_thing(choice["message"]["content"].as_str().unwrap());
        }
    }
    let body = chat("brook", json!({"response_format": form()}));
    let whole = choice(&server, &body);
    let (text, calls, reason) = streamed(&server, &body);
    assert_eq!(whole["message"]["content"], text);
    assert!(calls.is_empty() && whole["message"].get("tool_calls").is_none());
    assert_eq!(reason, whole["finish_reason"]);
    let body = chat(
        "brook",
        json!({"response_format": {"type": "json_object"}, "max_tokens": 8}),
    );
    let any = choice(&server, &body);
    assert!(any["message"]["content"].as_str().unwrap().starts_with('{'));
}

#[test]
fn forms_and_tools_that_cannot_be_are_refused_by_name() {
    let server = Server::start(&[]);
    let schema = |schema: Value| json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}});
    let long = json!({"enum": vec!["x".repeat(1000); 400]});
    let cases = [
        (
            json!({"response_format": {"type": "yaml"}}),
            "invalid_value",
            "response_format.type",
        ),
        (
            json!({"response_format": 1}),
            "invalid_value",
            "response_format",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {}}}),
            "invalid_value",
            "response_format.json_schema.name",
        ),
        (
            json!({"response_format": schema(json!(7))}),
            "invalid_value",
            "response_format.json_schema.schema",
        ),
        (
            json!({"response_format": schema(long)}),
            "schema_too_large",
            "response_format.json_schema.schema",
        ),
        (json!({"tools": tools()}), "tools_not_supported", "tools"),
        (json!({"tools": "weather"}), "invalid_value", "tools"),
        (
            json!({"tools": [{"type": "retrieval"}]}),
            "unsupported_value",
            "tools[0].type",
        ),
        (
            json!({"tools": tools(), "tool_choice": {"type": "function", "function": {"name": "other"}}}),
            "invalid_value",
            "tool_choice.function.name",
        ),
        (
            json!({"tools": tools(), "parallel_tool_calls": 1}),
            "invalid_type",
            "parallel_tool_calls",
        ),
    ];
    for (more, code, param) in cases {
        let refused = server.post(CHAT, &chat("brook", more.clone()));
        let named = refused.json()["error"]["param"].clone();
        assert_eq!(
            (refused.status, refused.code().as_str(), named),
            (400, code, json!(param)),
            "{more:.200}"
        );
    }
    // Tools that may not be called need no place in a template.
    let body = chat(
        "brook",
        json!({"tools": tools(), "tool_choice": "none", "max_tokens": 2}),
    );
    assert_eq!(server.post(CHAT, &body).status, 200);
}

#[test]
fn demanded_calls_come_whole_and_fit_their_function() {
    let (server, _dir) = with_tools();
    let named = json!({"type": "function", "function": {"name": "weather"}});
    for (demand, names) in [
        (json!("required"), &["weather", "tide"][..]),
        (named, &["weather"][..]),
    ] {
        let more = json!({"tools": tools(), "tool_choice": demand, "parallel_tool_calls": false});
        let body = chat("reed", more);
        let whole = choice(&server, &body);
        let message = &whole["message"];
        assert_eq!(
            (&whole["finish_reason"], &message["content"]),
            (&json!("tool_calls"), &Value::Null)
        );
        let calls = message["tool_calls"].as_array().unwrap();
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0]["type"], "function");
        let name = calls[0]["function"]["name"].as_str().unwrap();
        assert!(names.contains(&name), "{name}");
        let arguments = calls[0]["function"]["arguments"].as_str().unwrap();
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        assert!(["Delft", "Ghent", "Goes"].contains(&arguments["place"].as_str().unwrap()));
        let (text, pieces, reason) = streamed(&server, &body);
        assert_eq!((text.as_str(), reason), ("", json!("tool_calls")));
        let mut expected = calls[0].clone();
        expected["index"] = json!(0);
        assert_eq!(pieces, [expected]);
    }
}

#[test]
fn the_result_of_a_call_is_read() {
    let (server, _dir) = with_tools();
    let called = choice(
        &server,
        &chat(
            "reed",
            json!({"tools": tools(), "tool_choice": "required", "parallel_tool_calls": false}),
        ),
    );
    let id = called["message"]["tool_calls"][0]["id"].clone();
    let ask = |messages: Value| {
        let body = json!({"model": "reed", "messages": messages, "tools": tools(), "max_tokens": 4, "temperature": 0});
        server.post(CHAT, &body)
    };
    let question = json!({"role": "user", "content": "Is it raining?"});
    let result = json!({"role": "tool", "tool_call_id": id, "content": "It is."});
    let answered = ask(json!([question, called["message"], result]));
    assert_eq!(answered.status, 200, "{answered:?}");
    let alone = ask(json!([question]));
    let read =
        |reply: &crate::server::Reply| reply.json()["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(read(&answered) > read(&alone) + 10);
    let nameless = ask(json!([question, {"role": "tool", "content": "It is."}]));
    assert_eq!(
        nameless.json()["error"]["param"],
        "messages[1].tool_call_id"
    );
    let garbled = json!({"role": "assistant", "tool_calls": [{"id": "a", "type": "function",
                         "function": {"name": "weather", "arguments": "{"}}]});
    let garbled = ask(json!([question, garbled]));
    assert_eq!(
        garbled.json()["error"]["param"],
        "messages[1].tool_calls[0].function.arguments"
    );
    let usurped = ask(json!([{"role": "user", "content": "x", "tool_calls": []}]));
    assert_eq!(usurped.json()["error"]["param"], "messages[0].tool_calls");
}

#[test]
fn a_model_that_may_call_calls_or_speaks() {
    let (server, _dir) = with_tools();
    let tokenizer = tributary_engine::brook::tokenizer().unwrap();
    let first = |text: &str| tokenizer.encode(text).unwrap()[0].to_string();
    let ask = |bias: Value| {
        let more = json!({"tools": tools(), "parallel_tool_calls": false, "response_format": form(), "logit_bias": bias});
        choice(&server, &chat("reed", more))
    };
    let called = ask(json!({first("<tool_call>"): 100}));
    assert_eq!(called["finish_reason"], "tool_calls");
    assert_eq!(called["message"]["tool_calls"].as_array().unwrap().len(), 1);
    let spoken = ask(json!({first("{"): 100, first("<tool_call>"): -100}));
    assert_eq!(spoken["finish_reason"], "stop");
    assert_is_a_thing(spoken["message"]["content"].as_str().unwrap());
    // Without a form the model says what it likes; all of it is text where it calls nothing.
    let body = chat(
        "reed",
        json!({"tools": tools(), "max_tokens": 20, "temperature": 0}),
    );
    let free = choice(&server, &body);
    let (text, calls, reason) = streamed(&server, &body);
    assert_eq!(free["message"]["content"], text);
    assert!(calls.is_empty() && !text.is_empty());
    assert_eq!(reason, free["finish_reason"]);
}

#[test]
fn a_response_keeps_to_its_schema_and_calls_nothing() {
    let server = Server::start(&[]);
    let ask = |more: Value| {
        let mut body = json!({"model": "brook", "input": "Once", "max_output_tokens": 100});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        server.post("/v1/responses", &body)
    };
    let format =
        json!({"type": "json_schema", "name": "thing", "schema": schema(), "strict": true});
    let reply = ask(json!({"text": {"format": format}}));
    assert_eq!(reply.status, 200, "{reply:?}");
    let reply = reply.json();
    assert_is_a_thing(reply["output"][0]["content"][0]["text"].as_str().unwrap());
    assert_eq!(reply["text"]["format"], format);
    for (more, param) in [
        (
            json!({"text": {"format": {"type": "json_schema", "schema": {}}}}),
            "text.format.name",
        ),
        (
            json!({"text": {"format": {"type": "yaml"}}}),
            "text.format.type",
        ),
        (json!({"tools": tools()}), "tools"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"response_format": form()}), "response_format"),
    ] {
        let refused = ask(more);
        assert_eq!(
            (refused.status, &refused.json()["error"]["param"]),
            (400, &json!(param))
        );
    }
}

#[test]
fn a_text_is_continued_without_forms_and_tools() {
    let server = Server::start(&[]);
    for (field, value) in [
        ("response_format", form()),
        ("tools", tools()),
        ("tool_choice", json!("required")),
    ] {
        let mut body = json!({"model": "brook", "prompt": "Once", "max_tokens": 2});
        body[field] = value;
        let refused = server.post("/v1/completions", &body);
        assert_eq!(
            (refused.status, &refused.json()["error"]["param"]),
            (400, &json!(field))
        );
    }
}
