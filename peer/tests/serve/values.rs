//! What the constants of a request do to its answer.

use serde_json::{Value, json};

use crate::server::Server;

const CHAT: &str = "/v1/chat/completions";
/// Tokens of an answer: enough that two that are chosen by chance are not the same.
const TOKENS: u64 = 24;

/// An answer to one question, with one constant more.
fn ask(server: &Server, more: Value) -> Value {
    let mut body = json!({"model": "brook", "messages": [{"role": "user", "content": "Once"}], "max_tokens": TOKENS});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let reply = server.post(CHAT, &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

fn text(server: &Server, more: Value) -> String {
    let content = ask(server, more)["choices"][0]["message"]["content"].take();
    content.as_str().unwrap().to_owned()
}

#[test]
fn a_seed_repeats_an_answer_and_another_one_does_not() {
    let server = Server::start(&[]);
    let one = text(&server, json!({"seed": 1}));
    assert_eq!(one, text(&server, json!({"seed": 1})));
    assert_ne!(one, text(&server, json!({"seed": 2})));
    assert_ne!(text(&server, json!({})), text(&server, json!({})));
}

#[test]
fn answers_to_one_prompt_differ_by_chance_alone() {
    let server = Server::start(&[]);
    let texts = |more| -> Vec<String> {
        let choices = ask(&server, more)["choices"].take();
        let choices = choices.as_array().unwrap().iter();
        choices
            .map(|choice| choice["message"]["content"].as_str().unwrap().to_owned())
            .collect()
    };
    let drawn = texts(json!({"n": 3, "seed": 1}));
    assert!(drawn[0] != drawn[1] && drawn[1] != drawn[2] && drawn[0] != drawn[2]);
    let likeliest = texts(json!({"n": 3, "temperature": 0}));
    assert!(likeliest.iter().all(|text| *text == likeliest[0]));
}

#[test]
fn probabilities_fall_and_add_up_to_one_at_most() {
    let server = Server::start(&[]);
    let answer = ask(
        &server,
        json!({"temperature": 0, "logprobs": true, "top_logprobs": 20}),
    );
    let tokens = answer["choices"][0]["logprobs"]["content"].clone();
    let tokens = tokens.as_array().unwrap();
    assert!(!tokens.is_empty());
    for token in tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        let top: Vec<f64> = top
            .iter()
            .map(|other| other["logprob"].as_f64().unwrap())
            .collect();
        assert_eq!(top.len(), 20);
        assert!(top.windows(2).all(|pair| pair[0] >= pair[1]), "{top:?}");
        let sum: f64 = top.iter().map(|logprob| logprob.exp()).sum();
        assert!(sum > 0.0 && sum < 1.001, "{sum}");
        // Without chance the likeliest is taken.
        assert_eq!(token["logprob"], token["top_logprobs"][0]["logprob"]);
        assert_eq!(token["bytes"], token["top_logprobs"][0]["bytes"]);
    }
}

#[test]
fn penalties_change_an_answer() {
    let server = Server::start(&[]);
    let plain = text(&server, json!({"temperature": 0, "max_tokens": 80}));
    for penalty in [
        json!({"repetition_penalty": 3.0}),
        json!({"frequency_penalty": 2.0}),
        json!({"presence_penalty": 2.0}),
    ] {
        let mut more = json!({"temperature": 0, "max_tokens": 80});
        more.as_object_mut()
            .unwrap()
            .extend(penalty.as_object().unwrap().clone());
        assert_ne!(text(&server, more), plain, "{penalty}");
    }
}

#[test]
fn a_bias_bans_a_token_or_makes_it_the_only_one() {
    let server = Server::start(&[]);
    let tokenizer = tributary_engine::brook::tokenizer().unwrap();
    let first = |more: Value| {
        let mut asked = json!({"temperature": 0, "max_tokens": 1, "logprobs": true});
        asked
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let token = ask(&server, asked)["choices"][0]["logprobs"]["content"][0]["token"].take();
        token.as_str().unwrap().to_owned()
    };
    let id = |token: &str| tokenizer.encode(token).unwrap()[0].to_string();
    let usual = first(json!({}));
    assert_ne!(first(json!({"logit_bias": {id(&usual): -100}})), usual);
    assert_eq!(first(json!({"logit_bias": {id("x"): 100}})), "x");
}

#[test]
fn a_prompt_that_was_read_is_not_read_again() {
    let server = Server::start(&[]);
    let prompt = "Once upon a time there was a small boat on a wide river. ".repeat(8);
    let cached = |prompt: &str| {
        let body = json!({"model": "brook", "prompt": prompt, "max_tokens": 2, "temperature": 0});
        let reply = server.post("/v1/completions", &body).json();
        let text = reply["choices"][0]["text"].clone();
        let usage = &reply["usage"];
        let cached = usage["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap();
        assert!(cached < usage["prompt_tokens"].as_u64().unwrap());
        (cached, text)
    };
    let (none, text) = cached(&prompt);
    assert_eq!(none, 0);
    let (some, again) = cached(&prompt);
    assert!(some > 0);
    assert_eq!(again, text);
    assert_eq!(cached(&format!("It rains. {prompt}")).0, 0);
}

#[test]
fn a_stream_tells_its_usage_at_its_end_and_only_when_asked() {
    let server = Server::start(&[]);
    for (path, question) in [
        (
            CHAT,
            json!({"messages": [{"role": "user", "content": "Once"}]}),
        ),
        ("/v1/completions", json!({"prompt": "Once"})),
    ] {
        let chunks = |options: Value| -> Vec<Value> {
            let mut body = question.clone();
            let more = json!({"model": "brook", "max_tokens": 4, "stream": true, "stream_options": options});
            body.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            let mut events = server.post(path, &body).events();
            assert_eq!(events.pop().unwrap(), "[DONE]");
            events
                .iter()
                .map(|event| serde_json::from_str(event).unwrap())
                .collect()
        };
        let told = chunks(json!({"include_usage": true}));
        let (last, rest) = told.split_last().unwrap();
        assert!(last["usage"]["total_tokens"].as_u64().unwrap() > 0);
        assert!(
            rest.iter()
                .all(|chunk| chunk.get("usage") == Some(&Value::Null)),
            "{rest:?}"
        );
        assert!(
            chunks(Value::Null)
                .iter()
                .all(|chunk| chunk.get("usage").is_none())
        );
    }
}
