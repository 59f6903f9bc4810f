//! What a hostile or broken client sends, and that the server answers everybody else afterwards.

use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{Server, read};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";
const LOAD: &str = "/v1/load_lora_adapter";

/// What is wrong, the route, the field, its value as JSON, the status, and the field or code that the refusal names.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    u16,
    &'static str,
);

#[rustfmt::skip]
const FIELDS: [Case; 51] = [
    ("no such model", CHAT, "model", r#""gpt-4o""#, 404, "model"),
    ("a model with a path", CHAT, "model", r#""../../etc/passwd""#, 404, "model"),
    ("a model that is a number", CHAT, "model", "7", 400, "model"),
    ("no model", CHAT, "model", "null", 400, "model"),
    ("no messages", CHAT, "messages", "null", 400, "messages"),
    ("no message", CHAT, "messages", "[]", 400, "messages"),
    ("messages as text", CHAT, "messages", r#""Hi""#, 400, "messages"),
    ("a message that is none", CHAT, "messages", "[1]", 400, "messages[0]"),
    ("a role of nobody", CHAT, "messages", r#"[{"role": "root", "content": "x"}]"#, 400, "messages[0].role"),
    ("a message without content", CHAT, "messages", r#"[{"role": "user"}]"#, 400, "messages[0].content"),
    ("an image", CHAT, "messages", r#"[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]}]"#, 400, "messages[0].content[0].type"),
    ("contents within contents", CHAT, "messages", r#"[{"role": "user", "content": [[[["x"]]]]}]"#, 400, "messages[0].content[0]"),
    ("a message with more than is known", CHAT, "messages", r#"[{"role": "user", "content": "x", "weight": 1}]"#, 400, "messages[0].weight"),
    ("words of a tool", CHAT, "messages", r#"[{"role": "tool", "content": "x", "tool_call_id": "1"}]"#, 400, "messages[0]"),
    ("a negative max_tokens", CHAT, "max_tokens", "-1", 400, "max_tokens"),
    ("max_tokens of zero", CHAT, "max_tokens", "0", 400, "max_tokens"),
    ("max_tokens of half a token", CHAT, "max_tokens", "1.5", 400, "max_tokens"),
    ("max_tokens beyond all bounds", CHAT, "max_tokens", "9223372036854775808", 400, "max_tokens"),
    ("max_tokens as text", CHAT, "max_tokens", r#""12""#, 400, "max_tokens"),
    ("more than the context", CHAT, "max_tokens", "1024", 400, "context_length_exceeded"),
    ("two bounds that differ", CHAT, "max_completion_tokens", "3", 400, "max_tokens"),
    ("a thousand answers", CHAT, "n", "1000", 400, "n"),
    ("no answer", CHAT, "n", "0", 400, "n"),
    ("a temperature below zero", CHAT, "temperature", "-0.1", 400, "temperature"),
    ("a temperature beyond all bounds", CHAT, "temperature", "1e300", 400, "temperature"),
    ("a top_p of zero", CHAT, "top_p", "0", 400, "top_p"),
    ("a top_k below -1", CHAT, "top_k", "-2", 400, "top_k"),
    ("a min_p above one", CHAT, "min_p", "2", 400, "min_p"),
    ("a penalty beyond its range", CHAT, "presence_penalty", "3", 400, "presence_penalty"),
    ("a seed as text", CHAT, "seed", r#""x""#, 400, "seed"),
    ("five stop strings", CHAT, "stop", r#"["a", "b", "c", "d", "e"]"#, 400, "stop"),
    ("an empty stop string", CHAT, "stop", r#""""#, 400, "stop"),
    ("a stop that is an object", CHAT, "stop", "{}", 400, "stop"),
    ("a bias of a word", CHAT, "logit_bias", r#"{"hello": 1}"#, 400, "logit_bias"),
    ("a bias beyond its range", CHAT, "logit_bias", r#"{"7": 101}"#, 400, "logit_bias"),
    ("too many alternatives", CHAT, "top_logprobs", "21", 400, "top_logprobs"),
    ("alternatives without probabilities", CHAT, "top_logprobs", "2", 400, "top_logprobs"),
    ("options of no stream", CHAT, "stream_options", r#"{"include_usage": true}"#, 400, "stream_options"),
    ("a form that is not served", CHAT, "response_format", r#"{"type": "yaml"}"#, 400, "response_format.type"),
    ("sound", CHAT, "modalities", r#"["audio"]"#, 400, "modalities"),
    ("a field that nobody knows", CHAT, "temprature", "0", 400, "temprature"),
    ("a field with a name of control characters", CHAT, "a\u{1b}[2J\r\nx", "0", 400, "a [2J  x"),
    ("no prompt", TEXT, "prompt", "null", 400, "prompt"),
    ("an empty prompt", TEXT, "prompt", r#""""#, 400, "prompt"),
    ("a token that is none", TEXT, "prompt", "[4000000000]", 400, "prompt"),
    ("tokens and texts", TEXT, "prompt", r#"[1, "a"]"#, 400, "prompt"),
    ("an echo", TEXT, "echo", "true", 400, "echo"),
    ("a suffix", TEXT, "suffix", r#""x""#, 400, "suffix"),
    ("the best of many", TEXT, "best_of", "5", 400, "best_of"),
    ("something to load", TEXT, "lora_path", r#""/etc""#, 400, "lora_path"),
    ("an answer that is restricted by a word", TEXT, "tool_choice", r#""required""#, 400, "tool_choice"),
];

/// A request of one field more, or of another value.
fn with(path: &str, field: &str, value: Value) -> Value {
    let mut body = json!({"model": "brook", "max_tokens": 2});
    match path {
        CHAT => body["messages"] = json!([{"role": "user", "content": "Hi"}]),
        _ => body["prompt"] = json!("Hi"),
    }
    body[field] = value;
    body
}

fn chat(field: &str, value: Value) -> Value {
    with(CHAT, field, value)
}

/// Those of [`FIELDS`], and those whose values are long.
fn bodies() -> Vec<(&'static str, &'static str, Value, u16, &'static str)> {
    let read = |(what, path, field, value, status, named): Case| {
        let value = serde_json::from_str(value).unwrap();
        (what, path, with(path, field, value), status, named)
    };
    let mut all: Vec<_> = FIELDS.into_iter().map(read).collect();
    let biases: Value = (0..2000).map(|id| (id.to_string(), json!(1))).collect();
    let prompt = json!("word ".repeat(20_000));
    let load = |name: &str, path: &str| json!({"lora_name": name, "lora_path": path});
    all.extend([
        (
            "a long stop string",
            CHAT,
            chat("stop", json!("x".repeat(2000))),
            400,
            "stop",
        ),
        (
            "biases for everything",
            CHAT,
            chat("logit_bias", biases),
            400,
            "logit_bias",
        ),
        (
            "too many prompts",
            TEXT,
            with(TEXT, "prompt", json!(vec!["a"; 33])),
            400,
            "prompt",
        ),
        (
            "a prompt longer than the context",
            TEXT,
            with(TEXT, "prompt", prompt),
            400,
            "context_length_exceeded",
        ),
        (
            "an alias with blanks",
            LOAD,
            load("a b", "/x"),
            400,
            "adapter_name_invalid",
        ),
        (
            "the base's name for an adapter",
            LOAD,
            load("brook", "/x"),
            409,
            "adapter_name_taken",
        ),
        (
            "a device for a folder",
            LOAD,
            load("a", "/dev/zero"),
            404,
            "adapter_not_found",
        ),
    ]);
    all
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

/// What is wrong, the head, and the status; None where the connection is closed without an answer. `HOST` is the server's
/// own name, `JSON` the type that it reads, `BODY` ends a head and is a good body; `END` ends one without a body.
#[rustfmt::skip]
const HEADS: [(&str, &str, Option<u16>); 27] = [
    ("another method", "GET CHAT HTTP/1.1\r\nhost: HOST\r\nEND", Some(405)),
    ("a deletion", "DELETE /v1/models/brook HTTP/1.1\r\nhost: HOST\r\nEND", Some(405)),
    ("a page that asks whether it may", "OPTIONS CHAT HTTP/1.1\r\nhost: HOST\r\norigin: http://evil.example\r\nEND", Some(403)),
    ("a method of nobody", "BREW /v1/models HTTP/1.1\r\nhost: HOST\r\nEND", Some(405)),
    ("no such route", "GET /v1/embeddings HTTP/1.1\r\nhost: HOST\r\nEND", Some(404)),
    ("a way out", "GET /v1/models/../../etc/passwd HTTP/1.1\r\nhost: HOST\r\nEND", Some(404)),
    ("an escaped way out", "GET /v1/models/%2e%2e%2fx%00 HTTP/1.1\r\nhost: HOST\r\nEND", Some(404)),
    ("another host", "POST CHAT HTTP/1.1\r\nhost: evil.example\r\nJSONBODY", Some(403)),
    ("another port", "POST CHAT HTTP/1.1\r\nhost: 127.0.0.1:1\r\nJSONBODY", Some(403)),
    ("a host that ends as ours begins", "POST CHAT HTTP/1.1\r\nhost: HOST.evil.example\r\nJSONBODY", Some(403)),
    ("no host", "POST CHAT HTTP/1.1\r\nJSONBODY", Some(400)),
    ("two hosts", "POST CHAT HTTP/1.1\r\nhost: HOST\r\nhost: evil.example\r\nJSONBODY", Some(400)),
    ("a page of a stranger", "POST CHAT HTTP/1.1\r\nhost: HOST\r\norigin: http://evil.example\r\nJSONBODY", Some(403)),
    ("a page of nobody", "POST CHAT HTTP/1.1\r\nhost: HOST\r\norigin: null\r\nJSONBODY", Some(403)),
    ("a target elsewhere", "GET http://evil.example/v1/models HTTP/1.1\r\nhost: HOST\r\nEND", Some(403)),
    ("a form", "POST CHAT HTTP/1.1\r\nhost: HOST\r\ncontent-type: application/x-www-form-urlencoded\r\nBODY", Some(415)),
    ("plain text", "POST CHAT HTTP/1.1\r\nhost: HOST\r\ncontent-type: text/plain\r\nBODY", Some(415)),
    ("no type", "POST CHAT HTTP/1.1\r\nhost: HOST\r\nBODY", Some(415)),
    ("a packed body", "POST CHAT HTTP/1.1\r\nhost: HOST\r\ncontent-encoding: gzip\r\nJSONBODY", Some(415)),
    ("a length of nobody", "POST CHAT HTTP/1.1\r\nhost: HOST\r\nJSONcontent-length: -1\r\nEND", Some(400)),
    ("two lengths", "POST CHAT HTTP/1.1\r\nhost: HOST\r\ncontent-length: 1\r\nJSONBODY", Some(400)),
    ("a huge length", "POST CHAT HTTP/1.1\r\nhost: HOST\r\nJSONcontent-length: 10000000000\r\nEND", Some(413)),
    ("a chunk of nobody", "POST CHAT HTTP/1.1\r\nhost: HOST\r\nJSONtransfer-encoding: chunked\r\nENDzz\r\n", Some(400)),
    ("a huge chunk", "POST CHAT HTTP/1.1\r\nhost: HOST\r\nJSONtransfer-encoding: chunked\r\nENDffffffffffffffffff\r\n", Some(400)),
    ("another protocol", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
    ("encrypted greetings", "\x16\x03\x01\x02\x00\x01\x00\x01", Some(400)),
    ("nothing but line ends", "\r\n\r\n\r\n\r\n", None),
];

/// Those of [`HEADS`], and those that are long or no text.
fn heads(server: &Server) -> Vec<(&'static str, Vec<u8>, Option<u16>)> {
    let good = chat("temperature", json!(0)).to_string();
    let end = "connection: close\r\n\r\n";
    let body = format!("content-length: {}\r\n{end}{good}", good.len());
    let read = |(what, head, status): (&'static str, &str, Option<u16>)| {
        let head = (head.replace("BODY", &body).replace("END", end))
            .replace("CHAT", CHAT)
            .replace("JSON", "content-type: application/json\r\n")
            .replace("HOST", &server.addr.to_string());
        (what, head.into_bytes(), status)
    };
    let mut all: Vec<_> = HEADS.into_iter().map(read).collect();
    let long = |path: &str, more: &str| server.head("GET", path, more).into_bytes();
    let line = format!("x: {}\r\n\r\n", "a".repeat(100_000));
    let lines = "x: 1\r\n".repeat(200) + "\r\n";
    let path = format!("/{}", "a".repeat(70_000));
    all.extend([
        ("a huge head", long("/v1/models", &line), Some(431)),
        ("many lines of head", long("/v1/models", &lines), Some(431)),
        ("a long target", long(&path, "\r\n"), Some(431)),
        ("noise", vec![0xff; 64], Some(400)),
    ]);
    all
}

#[test]
fn every_wrong_head_is_refused_and_the_server_answers_on() {
    let server = Server::start(&[]);
    let cases = heads(&server);
    let all = cases.len() + bodies().len() + raw_bodies().len();
    assert!(all >= 60, "{all} cases");
    let mut wrong = Vec::new();
    for (what, bytes, status) in cases {
        let reply = server.send(&bytes);
        let found = reply.as_ref().map(|reply| reply.status);
        let permits = (reply.iter()).any(|reply| reply.head.contains("access-control"));
        if found != status || permits {
            wrong.push(format!("{what}: {found:?} where {status:?} is right"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    answers(&server);
}

/// What is wrong with it, the body as bytes, and the code of its refusal.
fn raw_bodies() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = chat("temperature", json!(0)).to_string();
    let deep = |open: &str| format!("{{\"messages\":{}", open.repeat(50_000));
    let no_text = good.replace("Hi", "\u{ff}").into_bytes();
    let no_text = no_text.into_iter().filter(|byte| *byte != 0xc3).collect();
    let endless = format!("\"temperature\":1e{}", "9".repeat(1000));
    let long = format!("{{\"stop\":\"{}\",", "x".repeat(10_000_000));
    let bad = |what, body: String| (what, body.into_bytes(), "invalid_json");
    vec![
        bad("nothing", String::new()),
        bad("half of it", good[..good.len() / 2].into()),
        bad("a list", "[]".into()),
        bad("deep lists", deep("[")),
        bad("deep objects", deep("{\"a\":")),
        ("no text", no_text, "invalid_json"),
        bad("half a surrogate", good.replace("Hi", "\\ud800")),
        bad(
            "a number without end",
            good.replace("\"temperature\":0", &endless),
        ),
        bad("two objects", format!("{good}{good}")),
        (
            "one field twice",
            good.replacen('{', "{\"model\":\"brook\",", 1).into(),
            "duplicate_parameter",
        ),
        (
            "a stop string of ten million bytes",
            good.replacen('{', &long, 1).into(),
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
    stream.write_all(one.repeat(1500).as_bytes()).unwrap();
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
    let body = with(TEXT, "prompt", json!("Xyzzy plugh")).to_string();
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
