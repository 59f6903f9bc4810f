//! Every route, asked as OpenAI's and vLLM's clients ask.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tributary_protocol::adapter::Adapter;
use tributary_trainer::{BaseModel, export_peft};

use crate::server::{LIMIT, Server, read};

/// A PEFT folder of an adapter that changes brook's answers.
fn adapter(folder: &Path) {
    adapter_of(folder, 7919);
}

/// Another one for each step.
fn adapter_of(folder: &Path, step: usize) {
    let base = BaseModel::brook().unwrap();
    let shape = Arc::new(base.adapter_shape(4, 8));
    let values = (0..shape.parameters()).map(|at| ((at * step) % 101) as f32 / 500.0 - 0.1);
    let adapter = Adapter::new(shape.clone(), values.collect()).unwrap();
    export_peft(folder, "brook", &adapter).unwrap();
}

fn question(more: Value) -> Value {
    let mut body = json!({"model": "brook", "messages": [{"role": "user", "content": "Once"}], "max_tokens": 12});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}

fn text_of(chunks: &[String], of: impl Fn(&Value) -> Option<String>) -> String {
    let (last, rest) = chunks.split_last().unwrap();
    assert_eq!(last, "[DONE]");
    rest.iter()
        .filter_map(|chunk| of(&serde_json::from_str(chunk).unwrap()))
        .collect()
}

#[test]
fn a_chat_is_answered_at_once_and_in_pieces_alike() {
    let server = Server::start(&[]);
    let whole = server.post("/v1/chat/completions", &question(json!({"temperature": 0})));
    assert_eq!(whole.status, 200, "{whole:?}");
    assert!(!whole.head.contains("access-control"), "{}", whole.head);
    let whole = whole.json();
    assert_eq!(
        (&whole["object"], &whole["model"]),
        (&json!("chat.completion"), &json!("brook"))
    );
    let choice = &whole["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    let text = choice["message"]["content"].as_str().unwrap();
    assert!(!text.is_empty());
    let usage = &whole["usage"];
    let count = |name: &str| usage[name].as_u64().unwrap();
    assert!(count("completion_tokens") <= 12 && count("prompt_tokens") > 2);
    assert_eq!(
        count("total_tokens"),
        count("completion_tokens") + count("prompt_tokens")
    );
    assert_eq!(
        usage["prompt_tokens_details"]["cached_tokens"].as_u64(),
        Some(0)
    );
    let body = question(
        json!({"temperature": 0, "stream": true, "stream_options": {"include_usage": true}}),
    );
    let stream = server.post("/v1/chat/completions", &body);
    assert!(
        stream.head.contains("content-type: text/event-stream"),
        "{}",
        stream.head
    );
    let chunks = stream.events();
    let content = |chunk: &Value| {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["system_fingerprint"], whole["system_fingerprint"]);
        chunk["choices"][0]["delta"]["content"]
            .as_str()
            .map(str::to_owned)
    };
    assert_eq!(text_of(&chunks, content), text);
    let last: Value = serde_json::from_str(&chunks[chunks.len() - 2]).unwrap();
    assert_eq!(
        (&last["usage"]["total_tokens"], &last["choices"]),
        (&usage["total_tokens"], &json!([]))
    );
    let ended: Value = serde_json::from_str(&chunks[chunks.len() - 3]).unwrap();
    assert_eq!(
        ended["choices"][0]["finish_reason"],
        choice["finish_reason"]
    );
}

#[test]
fn a_text_is_continued_whichever_way_it_is_given() {
    let server = Server::start(&[]);
    let ask = |prompt: Value, more: Value| {
        let mut body = json!({"model": "brook", "prompt": prompt, "max_tokens": 8, "temperature": 0, "user": "u",
                              "suffix": null, "echo": false, "best_of": 1});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let reply = server.post("/v1/completions", &body);
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    };
    let one = ask(json!("Once upon"), json!({}));
    assert_eq!(one["object"], "text_completion");
    let text = one["choices"][0]["text"].clone();
    let tokenizer = tributary_engine::brook::tokenizer().unwrap();
    let ids = tokenizer.encode("Once upon").unwrap();
    for prompt in [json!(ids), json!([ids]), json!(["Once upon"])] {
        assert_eq!(ask(prompt, json!({}))["choices"][0]["text"], text);
    }
    let two = ask(json!(["Once upon", "The"]), json!({"n": 2}));
    let choices = two["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4);
    assert!(
        choices
            .iter()
            .enumerate()
            .all(|(at, choice)| choice["index"] == at)
    );
    assert_eq!((&choices[0]["text"], &choices[1]["text"]), (&text, &text));
    assert_eq!(two["usage"]["completion_tokens"], 32);
    // A prompt is counted once for all of its answers.
    let alone = one["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(two["usage"]["prompt_tokens"].as_u64().unwrap() < 2 * alone + 1);
    let streamed = server.post(
        "/v1/completions",
        &json!({"model": "brook", "prompt": "Once upon", "max_tokens": 8,
                                                       "temperature": 0, "stream": true}),
    );
    let content = |chunk: &Value| chunk["choices"][0]["text"].as_str().map(str::to_owned);
    assert_eq!(json!(text_of(&streamed.events(), content)), text);
}

#[test]
fn an_answer_ends_before_a_stop_string() {
    let server = Server::start(&[]);
    let ask = |more: Value| {
        let mut body = json!({"model": "brook", "prompt": "Once upon a time", "max_tokens": 40, "temperature": 0});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        server.post("/v1/completions", &body)
    };
    let whole = ask(json!({})).json()["choices"][0]["text"]
        .as_str()
        .unwrap()
        .to_owned();
    let middle = whole
        .char_indices()
        .nth(whole.chars().count() / 2)
        .unwrap()
        .0;
    let stop: String = whole[middle..].chars().take(5).collect();
    let expected = &whole[..whole.find(&stop).unwrap()];
    let stopped = ask(json!({"stop": stop})).json();
    assert_eq!(stopped["choices"][0]["text"], expected);
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    let streamed = ask(json!({"stop": ["\u{1f30a}", stop], "stream": true})).events();
    let content = |chunk: &Value| chunk["choices"][0]["text"].as_str().map(str::to_owned);
    assert_eq!(text_of(&streamed, content), expected);
}

#[test]
fn tokens_are_reported_with_their_bytes() {
    let server = Server::start(&[]);
    let body = question(json!({"temperature": 0, "logprobs": true, "top_logprobs": 3}));
    let reply = server.post("/v1/chat/completions", &body).json();
    let choice = &reply["choices"][0];
    let tokens = choice["logprobs"]["content"].as_array().unwrap();
    let bytes = tokens
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap());
    let bytes: Vec<u8> = bytes.map(|byte| byte.as_u64().unwrap() as u8).collect();
    let text = choice["message"]["content"].as_str().unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), text);
    let body = json!({"model": "brook", "prompt": "Once", "max_tokens": 6, "temperature": 0, "logprobs": 2});
    let reply = server.post("/v1/completions", &body).json();
    let choice = &reply["choices"][0];
    let told = &choice["logprobs"];
    let tokens = told["tokens"].as_array().unwrap();
    let joined: String = tokens.iter().map(|token| token.as_str().unwrap()).collect();
    assert_eq!(choice["text"], joined);
    assert_eq!(told["text_offset"][0], 0);
    for list in ["token_logprobs", "top_logprobs", "text_offset", "bytes"] {
        assert_eq!(told[list].as_array().unwrap().len(), tokens.len(), "{list}");
    }
}

#[test]
fn adapters_are_loaded_asked_and_unloaded_by_name() {
    let folder = tempfile::tempdir().unwrap();
    adapter(folder.path());
    let path = folder.path().to_str().unwrap();
    let server = Server::start(&["--adapter", &format!("first={path}")]);
    let names = || -> Vec<(Value, Value)> {
        let list = server.get("/v1/models").json();
        let models = list["data"].as_array().unwrap();
        models
            .iter()
            .map(|model| (model["id"].clone(), model["parent"].clone()))
            .collect()
    };
    let base = (json!("brook"), Value::Null);
    let first = (json!("first"), json!("brook"));
    assert_eq!(names(), [base.clone(), first.clone()]);
    let load = json!({"lora_name": "second", "lora_path": path});
    let loaded = server.post("/v1/load_lora_adapter", &load);
    assert_eq!(
        (loaded.status, &loaded.json()["parent"]),
        (200, &json!("brook"))
    );
    assert_eq!(
        server.post("/v1/load_lora_adapter", &load).code(),
        "adapter_name_taken"
    );
    let missing = json!({"lora_name": "third", "lora_path": "/nowhere"});
    assert_eq!(
        server.post("/v1/load_lora_adapter", &missing).code(),
        "adapter_not_found"
    );
    let remote = json!({"lora_name": "third", "lora_path": "https://evil.example/x"});
    assert_eq!(
        server.post("/v1/load_lora_adapter", &remote).code(),
        "invalid_value"
    );
    // An id that this machine has not, where nobody fetches.
    let unknown = json!({"lora_name": "third", "lora_path": "0".repeat(64)});
    let refused = server.post("/v1/load_lora_adapter", &unknown);
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (404, "adapter_not_found")
    );
    let second = (json!("second"), json!("brook"));
    assert_eq!(names(), [base, first, second]);
    let ask = |model: &str| {
        let body = json!({"model": model, "prompt": "Once upon a time", "max_tokens": 12, "temperature": 0});
        let reply = server.post("/v1/completions", &body);
        (reply.status, reply)
    };
    let text = |model: &str| ask(model).1.json()["choices"][0]["text"].clone();
    assert_eq!(text("first"), text("second"));
    assert_ne!(text("first"), text("brook"));
    assert_eq!(server.get("/v1/models/second").json()["id"], "second");
    let unload = json!({"lora_name": "second"});
    assert_eq!(server.post("/v1/unload_lora_adapter", &unload).status, 200);
    assert_eq!(server.post("/v1/unload_lora_adapter", &unload).status, 404);
    assert_eq!(server.get("/v1/models/second").code(), "model_not_found");
    // Never the base.
    let (status, refused) = ask("second");
    assert_eq!((status, refused.code().as_str()), (404, "model_not_found"));
}

#[test]
fn a_name_is_given_to_another_adapter_only_where_that_is_asked_for() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    adapter_of(old.path(), 7919);
    adapter_of(new.path(), 6151);
    let path = |folder: &tempfile::TempDir| folder.path().to_str().unwrap().to_owned();
    let server = Server::start(&["--adapter", &format!("poet={}", path(&old))]);
    let load = |more: Value| {
        let mut body = json!({"lora_name": "poet", "lora_path": path(&new)});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        server.post("/v1/load_lora_adapter", &body)
    };
    let text = || {
        let body = json!({"model": "poet", "prompt": "Once upon a time", "max_tokens": 12, "temperature": 0});
        server.post("/v1/completions", &body).json()["choices"][0]["text"].clone()
    };
    let model = || server.get("/v1/models/poet").json();
    let (before, listed) = (text(), model());
    assert!(listed["created"].as_u64().unwrap() > 1_700_000_000);
    let refused = load(json!({}));
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (409, "adapter_name_taken")
    );
    assert_eq!((text(), model()), (before.clone(), listed.clone()));
    // One that cannot be loaded leaves the name what it is.
    let failed = load(json!({"load_inplace": true, "lora_path": "/nowhere"}));
    assert_eq!(failed.status, 404, "{failed:?}");
    assert_eq!((text(), model()), (before.clone(), listed.clone()));
    let replaced = load(json!({"load_inplace": true}));
    assert_eq!(replaced.status, 200, "{replaced:?}");
    assert_ne!(text(), before);
    assert_ne!(model()["root"], listed["root"]);
}

#[test]
fn responses_are_answered_and_nothing_is_kept() {
    let server = Server::start(&[]);
    let body = json!({"model": "brook", "input": "Once", "instructions": "Tell.", "temperature": 0,
                      "max_output_tokens": 8, "store": false});
    let whole = server.post("/v1/responses", &body);
    assert_eq!(whole.status, 200, "{whole:?}");
    let whole = whole.json();
    let text = whole["output"][0]["content"][0]["text"].clone();
    assert_eq!(
        (&whole["object"], &whole["store"]),
        (&json!("response"), &json!(false))
    );
    assert!(!text.as_str().unwrap().is_empty());
    assert!(whole["usage"]["output_tokens"].as_u64().unwrap() <= 8);
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    streamed["input"] =
        json!([{"role": "user", "content": [{"type": "input_text", "text": "Once"}]}]);
    let events: Vec<Value> = (server.post("/v1/responses", &streamed).events().iter())
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    assert!(
        events
            .iter()
            .enumerate()
            .all(|(at, event)| event["sequence_number"] == at)
    );
    assert_eq!(events[0]["type"], "response.created");
    let deltas = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta");
    let deltas: String = deltas
        .map(|event| event["delta"].as_str().unwrap())
        .collect();
    assert_eq!(json!(deltas), text);
    let last = &events.last().unwrap()["response"];
    assert_eq!(
        (&last["status"], &last["output"][0]["content"]),
        (&whole["status"], &whole["output"][0]["content"])
    );
    for (field, value) in [
        ("store", json!(true)),
        ("previous_response_id", json!("resp_1")),
        ("background", json!(true)),
    ] {
        let mut body = body.clone();
        body[field] = value;
        let refused = server.post("/v1/responses", &body);
        assert_eq!(
            (refused.status, &refused.json()["error"]["param"]),
            (400, &json!(field))
        );
    }
}

#[test]
fn the_contract_and_health_are_answered() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/health").json(), json!({"status": "ok"}));
    let contract = server.get("/openapi.json").json();
    assert!(contract["paths"]["/v1/chat/completions"]["post"].is_object());
}

#[test]
fn a_token_lets_in_and_its_absence_does_not() {
    let token = "0123456789abcdef0123456789abcdef";
    let server = Server::start_with(&[], &[("TRIBUTARY_SERVE_TOKEN", token)]);
    let ask = |line: &str| {
        server
            .send(server.head("GET", "/v1/models", line).as_bytes())
            .unwrap()
    };
    let refused = ask("\r\n");
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (401, "invalid_api_key")
    );
    assert_eq!(
        ask("authorization: Bearer 0123456789abcdef\r\n\r\n").status,
        401
    );
    assert_eq!(
        ask(&format!("authorization: Bearer {token}\r\n\r\n")).status,
        200
    );
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn others_are_served_only_with_a_token() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tributary"));
    let output = command
        .args(["serve", "--listen", "0.0.0.0:0"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("--token-file"),
        "{said}"
    );
}

#[test]
fn a_client_that_leaves_ends_its_answer_and_nobody_elses() {
    let server = Server::start(&[]);
    for _ in 0..8 {
        let body = question(json!({"stream": true, "max_tokens": 900}));
        let mut stream = server.connect();
        stream
            .write_all(&server.request("/v1/chat/completions", &body.to_string()))
            .unwrap();
        stream.read_exact(&mut [0; 15]).unwrap();
    }
    let began = Instant::now();
    assert_eq!(
        server
            .post("/v1/chat/completions", &question(json!({})))
            .status,
        200
    );
    assert!(began.elapsed() < LIMIT);
}

#[cfg(unix)]
#[test]
fn what_was_begun_is_finished_when_the_server_is_stopped() {
    let mut server = Server::start(&[]);
    let mut stream = server.connect();
    let body = question(json!({"max_tokens": 60}));
    stream
        .write_all(&server.request("/v1/chat/completions", &body.to_string()))
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(server.interrupt());
    assert_eq!(read(stream).unwrap().status, 200);
}

/// OpenAI's client for Node, where `npm ci` has installed it.
#[test]
fn openais_client_for_node_drives_every_route() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/serve/node");
    if !folder.join("node_modules").is_dir() {
        eprintln!(
            "skipped: {} has no node_modules; run `npm ci` there",
            folder.display()
        );
        return;
    }
    let adapter_folder = tempfile::tempdir().unwrap();
    adapter(adapter_folder.path());
    let server = Server::start(&[]);
    let output = std::process::Command::new("node")
        .arg(folder.join("check.mjs"))
        .args([
            server.url().as_str(),
            adapter_folder.path().to_str().unwrap(),
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("every route answered"),
        "{said}"
    );
}
