//! What a hostile or broken client sends, and that the server answers everybody else afterwards.

use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{Server, read};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// A request of one field more, or of another value.
fn chat(field: &str, value: Value) -> Value {
    let mut body =
        json!({"model": "brook", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2});
    body[field] = value;
    body
}

fn text(field: &str, value: Value) -> Value {
    let mut body = json!({"model": "brook", "prompt": "Hi", "max_tokens": 2});
    body[field] = value;
    body
}

/// What is wrong with it, the body, the status, and the field or code that the refusal names.
fn bodies() -> Vec<(&'static str, &'static str, Value, u16, &'static str)> {
    let long = "x".repeat(2000);
    let deep_content = (0..100).fold(json!("x"), |inner, _| json!([inner]));
    vec![
        (
            "no such model",
            CHAT,
            chat("model", json!("gpt-4o")),
            404,
            "model",
        ),
        (
            "a model with a path",
            CHAT,
            chat("model", json!("../../etc/passwd")),
            404,
            "model",
        ),
        (
            "a model that is a number",
            CHAT,
            chat("model", json!(7)),
            400,
            "model",
        ),
        ("no model", CHAT, chat("model", Value::Null), 400, "model"),
        (
            "no messages",
            CHAT,
            chat("messages", Value::Null),
            400,
            "messages",
        ),
        (
            "no message",
            CHAT,
            chat("messages", json!([])),
            400,
            "messages",
        ),
        (
            "messages as text",
            CHAT,
            chat("messages", json!("Hi")),
            400,
            "messages",
        ),
        (
            "a message that is none",
            CHAT,
            chat("messages", json!([1])),
            400,
            "messages[0]",
        ),
        (
            "a role of nobody",
            CHAT,
            chat("messages", json!([{"role": "root", "content": "x"}])),
            400,
            "messages[0].role",
        ),
        (
            "a message without content",
            CHAT,
            chat("messages", json!([{"role": "user"}])),
            400,
            "messages[0].content",
        ),
        (
            "an image",
            CHAT,
            chat(
                "messages",
                json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]}]),
            ),
            400,
            "messages[0].content[0].type",
        ),
        (
            "contents within contents",
            CHAT,
            chat(
                "messages",
                json!([{"role": "user", "content": deep_content}]),
            ),
            400,
            "messages[0].content[0]",
        ),
        (
            "a message with more than is known",
            CHAT,
            chat(
                "messages",
                json!([{"role": "user", "content": "x", "weight": 1}]),
            ),
            400,
            "messages[0].weight",
        ),
        (
            "a negative max_tokens",
            CHAT,
            chat("max_tokens", json!(-1)),
            400,
            "max_tokens",
        ),
        (
            "max_tokens of zero",
            CHAT,
            chat("max_tokens", json!(0)),
            400,
            "max_tokens",
        ),
        (
            "max_tokens of half a token",
            CHAT,
            chat("max_tokens", json!(1.5)),
            400,
            "max_tokens",
        ),
        (
            "max_tokens beyond all bounds",
            CHAT,
            chat("max_tokens", json!(1u64 << 63)),
            400,
            "max_tokens",
        ),
        (
            "max_tokens as text",
            CHAT,
            chat("max_tokens", json!("12")),
            400,
            "max_tokens",
        ),
        (
            "more than the context",
            CHAT,
            chat("max_tokens", json!(1024)),
            400,
            "context_length_exceeded",
        ),
        (
            "two bounds that differ",
            CHAT,
            chat("max_completion_tokens", json!(3)),
            400,
            "max_tokens",
        ),
        ("a thousand answers", CHAT, chat("n", json!(1000)), 400, "n"),
        ("no answer", CHAT, chat("n", json!(0)), 400, "n"),
        (
            "a temperature below zero",
            CHAT,
            chat("temperature", json!(-0.1)),
            400,
            "temperature",
        ),
        (
            "a temperature beyond all bounds",
            CHAT,
            chat("temperature", json!(1e300)),
            400,
            "temperature",
        ),
        (
            "a top_p of zero",
            CHAT,
            chat("top_p", json!(0)),
            400,
            "top_p",
        ),
        (
            "a top_k below -1",
            CHAT,
            chat("top_k", json!(-2)),
            400,
            "top_k",
        ),
        (
            "a min_p above one",
            CHAT,
            chat("min_p", json!(2)),
            400,
            "min_p",
        ),
        (
            "a penalty beyond its range",
            CHAT,
            chat("presence_penalty", json!(3)),
            400,
            "presence_penalty",
        ),
        (
            "a seed as text",
            CHAT,
            chat("seed", json!("x")),
            400,
            "seed",
        ),
        (
            "five stop strings",
            CHAT,
            chat("stop", json!(["a", "b", "c", "d", "e"])),
            400,
            "stop",
        ),
        (
            "an empty stop string",
            CHAT,
            chat("stop", json!("")),
            400,
            "stop",
        ),
        (
            "a long stop string",
            CHAT,
            chat("stop", json!(long)),
            400,
            "stop",
        ),
        (
            "a stop that is an object",
            CHAT,
            chat("stop", json!({})),
            400,
            "stop",
        ),
        (
            "a bias of a word",
            CHAT,
            chat("logit_bias", json!({"hello": 1})),
            400,
            "logit_bias",
        ),
        (
            "a bias beyond its range",
            CHAT,
            chat("logit_bias", json!({"7": 101})),
            400,
            "logit_bias",
        ),
        (
            "biases for everything",
            CHAT,
            chat(
                "logit_bias",
                (0..2000).map(|id| (id.to_string(), json!(1))).collect(),
            ),
            400,
            "logit_bias",
        ),
        (
            "too many alternatives",
            CHAT,
            chat("top_logprobs", json!(21)),
            400,
            "top_logprobs",
        ),
        (
            "alternatives without probabilities",
            CHAT,
            chat("top_logprobs", json!(2)),
            400,
            "top_logprobs",
        ),
        (
            "options of no stream",
            CHAT,
            chat("stream_options", json!({"include_usage": true})),
            400,
            "stream_options",
        ),
        (
            "a form that is not served",
            CHAT,
            chat("response_format", json!({"type": "yaml"})),
            400,
            "response_format",
        ),
        (
            "sound",
            CHAT,
            chat("modalities", json!(["audio"])),
            400,
            "modalities",
        ),
        (
            "a field that nobody knows",
            CHAT,
            chat("temprature", json!(0)),
            400,
            "temprature",
        ),
        (
            "a field with a name of control characters",
            CHAT,
            chat("a\u{1b}[2J\r\nx", json!(0)),
            400,
            "a [2J  x",
        ),
        (
            "no prompt",
            TEXT,
            text("prompt", Value::Null),
            400,
            "prompt",
        ),
        (
            "an empty prompt",
            TEXT,
            text("prompt", json!("")),
            400,
            "prompt",
        ),
        (
            "a token that is none",
            TEXT,
            text("prompt", json!([4_000_000_000u64])),
            400,
            "prompt",
        ),
        (
            "tokens and texts",
            TEXT,
            text("prompt", json!([1, "a"])),
            400,
            "prompt",
        ),
        (
            "too many prompts",
            TEXT,
            text("prompt", json!(vec!["a"; 33])),
            400,
            "prompt",
        ),
        ("an echo", TEXT, text("echo", json!(true)), 400, "echo"),
        ("a suffix", TEXT, text("suffix", json!("x")), 400, "suffix"),
        (
            "the best of many",
            TEXT,
            text("best_of", json!(5)),
            400,
            "best_of",
        ),
        (
            "a prompt longer than the context",
            TEXT,
            text("prompt", json!("word ".repeat(20_000))),
            400,
            "context_length_exceeded",
        ),
        (
            "an alias with blanks",
            "/v1/load_lora_adapter",
            json!({"lora_name": "a b", "lora_path": "/x"}),
            400,
            "adapter_name",
        ),
        (
            "the base's name for an adapter",
            "/v1/load_lora_adapter",
            json!({"lora_name": "brook", "lora_path": "/x"}),
            409,
            "adapter_exists",
        ),
        (
            "a device for a folder",
            "/v1/load_lora_adapter",
            json!({"lora_name": "a", "lora_path": "/dev/zero"}),
            400,
            "adapter_unusable",
        ),
    ]
}

#[test]
fn every_wrong_body_is_refused_by_name_and_the_server_answers_on() {
    let server = Server::start(&[]);
    for (what, path, body, status, named) in bodies() {
        let reply = server.post(path, &body);
        assert_eq!(reply.status, status, "{what}: {reply:?}");
        let code = reply.code();
        let param = reply.json()["error"]["param"].clone();
        assert!(param == named || code == named, "{what}: {reply:?}");
    }
    answers(&server);
}

/// The server does what it is for.
fn answers(server: &Server) {
    let reply = server.post(CHAT, &chat("temperature", json!(0)));
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// What is wrong with it, the bytes, and the status; None where the connection is closed without an answer.
fn heads(server: &Server) -> Vec<(&'static str, Vec<u8>, Option<u16>)> {
    let good = chat("temperature", json!(0)).to_string();
    let host = server.addr;
    let with = |head: &str| {
        let mut bytes = head.replace("HOST", &host.to_string()).into_bytes();
        bytes.extend_from_slice(good.as_bytes());
        bytes
    };
    let length = good.len();
    let post = |lines: &str| {
        with(&format!(
            "POST {CHAT} HTTP/1.1\r\nconnection: close\r\n{lines}content-length: {length}\r\n\r\n"
        ))
    };
    let get = |head: String| head.into_bytes();
    vec![
        ("another method", get(server.head("GET", CHAT, "\r\n")), Some(405)),
        ("a deletion", get(server.head("DELETE", "/v1/models/brook", "\r\n")), Some(405)),
        ("a page that asks whether it may", get(server.head("OPTIONS", CHAT, "origin: http://evil.example\r\n\r\n")), Some(403)),
        ("a method of nobody", get(server.head("BREW", "/v1/models", "\r\n")), Some(405)),
        ("no such route", get(server.head("GET", "/v1/embeddings", "\r\n")), Some(404)),
        ("a way out", get(server.head("GET", "/v1/models/../../etc/passwd", "\r\n")), Some(404)),
        ("an escaped way out", get(server.head("GET", "/v1/models/%2e%2e%2fx%00", "\r\n")), Some(404)),
        ("another host", post("host: evil.example\r\ncontent-type: application/json\r\n"), Some(403)),
        ("another port", post("host: 127.0.0.1:1\r\ncontent-type: application/json\r\n"), Some(403)),
        ("no host", post("content-type: application/json\r\n"), Some(400)),
        ("two hosts", post("host: HOST\r\nhost: evil.example\r\ncontent-type: application/json\r\n"), Some(400)),
        ("a page of a stranger", post("host: HOST\r\norigin: http://evil.example\r\ncontent-type: application/json\r\n"), Some(403)),
        ("a page of nobody", post("host: HOST\r\norigin: null\r\ncontent-type: application/json\r\n"), Some(403)),
        ("a target elsewhere", get(format!("GET http://evil.example/v1/models HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")), Some(403)),
        ("a form", post("host: HOST\r\ncontent-type: application/x-www-form-urlencoded\r\n"), Some(415)),
        ("plain text", post("host: HOST\r\ncontent-type: text/plain\r\n"), Some(415)),
        ("no type", post("host: HOST\r\n"), Some(415)),
        ("a packed body", post("host: HOST\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n"), Some(415)),
        ("a length of nobody", with(&format!("POST {CHAT} HTTP/1.1\r\nhost: HOST\r\ncontent-type: application/json\r\ncontent-length: -1\r\n\r\n")), Some(400)),
        ("two lengths", post("host: HOST\r\ncontent-type: application/json\r\ncontent-length: 1\r\n"), Some(400)),
        ("a huge length", get(server.head("POST", CHAT, "content-type: application/json\r\ncontent-length: 10000000000\r\n\r\n")), Some(413)),
        ("a chunk of nobody", get(server.head("POST", CHAT, "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")), Some(400)),
        ("a huge chunk", get(server.head("POST", CHAT, "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n")), Some(400)),
        ("a huge head", get(server.head("GET", "/v1/models", &format!("x: {}\r\n\r\n", "a".repeat(100_000)))), Some(431)),
        ("many lines of head", get(server.head("GET", "/v1/models", &("x: 1\r\n".repeat(200) + "\r\n"))), Some(431)),
        ("a long target", get(server.head("GET", &format!("/{}", "a".repeat(70_000)), "\r\n")), Some(414)),
        ("another protocol", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), Some(400)),
        ("encrypted greetings", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), Some(400)),
        ("noise", vec![0xff; 64], Some(400)),
        ("nothing but line ends", b"\r\n\r\n\r\n\r\n".to_vec(), None),
    ]
}

#[test]
fn every_wrong_head_is_refused_and_the_server_answers_on() {
    let server = Server::start(&[]);
    let cases = heads(&server);
    let all = cases.len() + bodies().len() + raw_bodies().len();
    assert!(all >= 60, "{all} cases");
    for (what, bytes, status) in cases {
        let mut stream = server.connect();
        // A server that refuses early does not read the rest.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let reply = read(stream);
        assert_eq!(
            reply.as_ref().map(|reply| reply.status),
            status,
            "{what}: {reply:?}"
        );
        if let Some(reply) = reply {
            assert!(
                !reply.head.contains("access-control"),
                "{what}: {}",
                reply.head
            );
        }
    }
    answers(&server);
}

/// What is wrong with it, the body as bytes, and the code of its refusal.
fn raw_bodies() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = chat("temperature", json!(0)).to_string();
    let deep = |open: &str| format!("{{\"messages\":{}", open.repeat(50_000)).into_bytes();
    vec![
        ("nothing", Vec::new(), "invalid_json"),
        (
            "half of it",
            good.as_bytes()[..good.len() / 2].to_vec(),
            "invalid_json",
        ),
        ("a list", b"[]".to_vec(), "invalid_json"),
        ("deep lists", deep("["), "invalid_json"),
        ("deep objects", deep("{\"a\":"), "invalid_json"),
        (
            "no text",
            good.replace("Hi", "\u{fe}\u{ff}")
                .into_bytes()
                .iter()
                .map(|b| if *b > 127 { 0xff } else { *b })
                .collect(),
            "invalid_json",
        ),
        (
            "half a surrogate",
            good.replace("Hi", "\\ud800").into_bytes(),
            "invalid_json",
        ),
        (
            "a number without end",
            good.replace(
                "\"temperature\":0",
                &format!("\"temperature\":1e{}", "9".repeat(1000)),
            )
            .into_bytes(),
            "invalid_json",
        ),
        (
            "one field twice",
            good.replacen('{', "{\"model\":\"brook\",", 1).into_bytes(),
            "duplicate_parameter",
        ),
        (
            "two objects",
            format!("{good}{good}").into_bytes(),
            "invalid_json",
        ),
        (
            "a stop string of ten million bytes",
            good.replacen(
                '{',
                &format!("{{\"stop\":\"{}\",", "x".repeat(10_000_000)),
                1,
            )
            .into_bytes(),
            "body_too_large",
        ),
    ]
}

#[test]
fn bodies_that_are_no_request_are_refused() {
    let server = Server::start(&[]);
    for (what, body, code) in raw_bodies() {
        let reply = server.send(&server.request_of(CHAT, &body));
        // Ten million bytes that nobody reads may end in a reset before the answer is read.
        match reply {
            Some(reply) => assert_eq!(reply.code(), code, "{what}"),
            None => assert_eq!(code, "body_too_large", "{what}"),
        }
    }
    answers(&server);
}

#[test]
fn chunks_without_end_are_cut_off() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    let head = server.head(
        "POST",
        CHAT,
        "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 16, " ".repeat(1 << 16));
    let mut sent = 0;
    while sent < 1000 && stream.write_all(chunk.as_bytes()).is_ok() {
        sent += 1;
    }
    assert!(sent < 1000, "the server took {sent} chunks");
    answers(&server);
}

#[test]
fn silent_clients_are_hung_up_on_and_keep_nobody_waiting() {
    let server = Server::start(&[]);
    let began = Instant::now();
    let mut silent = Vec::new();
    // Nothing; half a head; a head and half a body; one byte every second.
    silent.push(server.connect());
    let mut half = server.connect();
    half.write_all(b"GET /v1/models HTT").unwrap();
    silent.push(half);
    let mut body = server.connect();
    let head = server.head(
        "POST",
        CHAT,
        "content-type: application/json\r\ncontent-length: 100\r\n\r\n{\"model\"",
    );
    body.write_all(head.as_bytes()).unwrap();
    let mut slow = server.connect();
    let mut drip = slow.try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        for byte in server_head().bytes() {
            if drip.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    answers(&server);
    for stream in silent {
        assert!(read(stream).is_none_or(|reply| reply.status == 408));
    }
    assert_eq!(read(body).unwrap().code(), "body_timeout");
    let _ = slow.flush();
    assert!(read(slow).is_none_or(|reply| reply.status == 408));
    assert!(
        began.elapsed() < Duration::from_secs(45),
        "{:?}",
        began.elapsed()
    );
    dripping.join().unwrap();
    answers(&server);
}

/// A head that takes a minute at two bytes a second.
fn server_head() -> String {
    format!("GET /v1/models HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(120))
}

#[test]
fn requests_one_after_the_other_are_all_answered() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    let one = format!("GET /v1/models HTTP/1.1\r\nhost: {}\r\n\r\n", server.addr);
    let last = server.head("GET", "/health", "\r\n");
    stream
        .write_all((one.repeat(20) + &last).as_bytes())
        .unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut bytes).unwrap();
    let all = String::from_utf8(bytes).unwrap();
    assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 21, "{all}");
}

#[test]
fn a_request_smuggled_behind_a_refused_one_is_not_answered() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    let hidden = format!("GET /v1/models HTTP/1.1\r\nhost: {}\r\n\r\n", server.addr);
    let outer = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: {}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{hidden}",
        server.addr,
        hidden.len()
    );
    stream.write_all(outer.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut bytes);
    let all = String::from_utf8(bytes).unwrap();
    assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{all}");
}

#[test]
fn more_connections_than_may_be_are_refused_and_those_that_are_there_are_served() {
    let server = Server::start(&[]);
    let mut held: Vec<_> = (0..256).map(|_| server.connect()).collect();
    // The last of them is a place for sure once it is answered.
    let last = held.last_mut().unwrap();
    last.write_all(format!("GET /health HTTP/1.1\r\nhost: {}\r\n\r\n", server.addr).as_bytes())
        .unwrap();
    std::io::Read::read_exact(last, &mut [0; 15]).unwrap();
    let beyond = server.get("/health");
    assert_eq!(
        (beyond.status, beyond.code().as_str()),
        (503, "connections_full")
    );
    drop(held);
    let began = Instant::now();
    while server.get("/health").status != 200 {
        assert!(began.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(50));
    }
    answers(&server);
}

#[test]
fn whoever_asks_too_often_is_told_when_to_come_again() {
    let server = Server::start(&[]);
    let one = format!("GET /v1/models HTTP/1.1\r\nhost: {}\r\n\r\n", server.addr);
    let mut stream = server.connect();
    stream.write_all(one.repeat(400).as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut bytes = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut bytes);
    let all = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    assert!(
        all.contains("http/1.1 429") && all.contains("retry-after: 1"),
        "{}",
        all.len()
    );
    std::thread::sleep(Duration::from_secs(1));
    answers(&server);
}

#[test]
fn no_prompt_is_in_the_log() {
    // Whatever the owner wants to read, it is not what others say.
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tributary"));
    command
        .args(["--format", "json", "serve", "--listen", "127.0.0.1:0"])
        .env("TRIBUTARY_LOG", "trace");
    let mut process = (command.stdout(std::process::Stdio::piped()))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = process.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let at = ready["url"]
        .as_str()
        .unwrap()
        .trim_start_matches("http://")
        .trim_end_matches("/v1")
        .to_owned();
    let body = text("prompt", json!("Xyzzy plugh")).to_string();
    let request = format!(
        "POST {TEXT} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = std::net::TcpStream::connect(&at).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    assert_eq!(read(stream).unwrap().status, 200);
    process.kill().unwrap();
    let log = process.wait_with_output().unwrap().stderr;
    let log = String::from_utf8_lossy(&log);
    assert!(!log.contains("Xyzzy") && !log.contains("plugh"), "{log}");
}
