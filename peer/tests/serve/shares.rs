//! Shares of served answers: those of `tributary why` on the same tokens, and for nobody but the client that asked.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tributary_peer::api::Reader;
use tributary_peer::api::stopped::StoppedHome;
use tributary_peer::why::{Question, Tokens};
use tributary_protocol::adapter::Adapter;
use tributary_trainer::{BaseModel, GenerateConfig, export_peft, generate_ids, import_peft};

use crate::server::{LIMIT, Reply, Server};

/// A finished run: the home of one of its members, and the adapter that it certified.
struct Run {
    home: PathBuf,
    adapter: PathBuf,
    /// The adapter's id.
    id: String,
    _folder: tempfile::TempDir,
}

impl Run {
    fn home(&self) -> &str {
        self.home.to_str().unwrap()
    }

    fn tributary(&self, arguments: &[&str]) -> Value {
        let out = Command::new(env!("CARGO_BIN_EXE_tributary"))
            .args(["--format", "json"])
            .args(arguments)
            .env("TRIBUTARY_HOME", &self.home)
            .env_remove("TRIBUTARY_LOG")
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        serde_json::from_slice(&out.stdout).unwrap()
    }

    fn server(&self, more: &[&str]) -> Server {
        let alias = format!("poet={}", self.adapter.display());
        let mut arguments = vec!["--adapter", &alias];
        arguments.extend(more);
        Server::start_with(&arguments, &[("TRIBUTARY_HOME", self.home())])
    }
}

/// The run that all tests share.
fn run() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().display().to_string();
        let out = Command::new(env!("CARGO_BIN_EXE_tributary"))
            .args(["--format", "json", "demo", "--home", &home])
            .args(["--peers", "2", "--rounds", "2", "--steps", "8"])
            .env_remove("TRIBUTARY_HOME")
            .env_remove("TRIBUTARY_LOG")
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        let report: Value = serde_json::from_slice(&out.stdout).unwrap();
        let adapter = PathBuf::from(report["adapter"]["path"].as_str().unwrap());
        let peers = std::fs::read_dir(folder.path().join("peers")).unwrap();
        let home = peers.map(|entry| entry.unwrap().path()).min().unwrap();
        let card = std::fs::read(adapter.join("tributary.json")).unwrap();
        let card: Value = serde_json::from_slice(&card).unwrap();
        Run {
            home,
            adapter,
            id: card["adapter"].as_str().unwrap().to_owned(),
            _folder: folder,
        }
    })
}

fn asked(server: &Server, prompt: Value, more: Value) -> Value {
    let mut body = json!({"model": "poet", "prompt": prompt, "max_tokens": 24, "temperature": 0});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let reply = server.post("/v1/completions", &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

fn shares(server: &Server, id: &str) -> Reply {
    server.get(&format!("/v1/answers/{id}/shares"))
}

/// What does not depend on how long it took.
fn without_times(mut shares: Value) -> Value {
    assert!(shares["cost_ms"].as_f64().unwrap() > 0.0, "{shares}");
    shares.as_object_mut().unwrap().remove("cost_ms");
    shares
}

/// What the home's files say of these tokens.
async fn why(run: &Run, prompt: &[u32], answer: &[u32]) -> Value {
    let question = Question {
        id: run.id.clone(),
        prompt: String::new(),
        answer: None,
        max_tokens: 0,
        tokens: Some(Tokens {
            prompt: prompt.to_vec(),
            answer: answer.to_vec(),
        }),
    };
    let why = StoppedHome::new(&run.home).why(question).await.unwrap();
    serde_json::to_value(&why).unwrap()
}

#[tokio::test]
async fn shares_of_a_served_answer_are_those_of_why_on_the_same_tokens() {
    let run = run();
    let server = run.server(&["--precision", "f32"]);
    let base = BaseModel::brook().unwrap();
    let prompt = base.encode_from_start("The light of the sun").unwrap();
    let answer = asked(&server, json!(prompt), json!({}));
    // What the engine answers greedily is known without the server.
    let config = GenerateConfig {
        max_tokens: 24,
        ..GenerateConfig::default()
    };
    let adapter = import_peft(&run.adapter, &base).unwrap();
    let said = generate_ids(&base, Some(&adapter), &prompt, &config).unwrap();
    assert_eq!(answer["choices"][0]["text"], said.text);
    let count = said.token_ids.len();
    assert_eq!(answer["usage"]["completion_tokens"], count);

    let reply = shares(&server, answer["id"].as_str().unwrap());
    assert_eq!(reply.status, 200, "{reply:?}");
    let shares = reply.json();
    assert_eq!(
        (&shares["schema"], &shares["id"], &shares["model"]),
        (&json!("shares/1"), &answer["id"], &json!("poet"))
    );
    assert_eq!(
        (&shares["tokens"], &shares["adapter"]),
        (&json!(count), &json!(run.id))
    );
    assert_eq!(shares["shares"].as_array().unwrap().len(), 2);
    let all: u64 = (shares["shares"].as_array().unwrap().iter())
        .chain([&json!({"share_ppb": shares["nobody_ppb"]})])
        .map(|share| share["share_ppb"].as_u64().unwrap())
        .sum();
    assert_eq!(all, 1_000_000_000);
    let (prompt, token_ids) = (said.prompt_ids, said.token_ids);
    let same = why(run, &prompt, &token_ids).await;
    for field in [
        "run",
        "adapter",
        "base_nats",
        "adapter_nats",
        "nobody_ppb",
        "shares",
        "method",
    ] {
        assert_eq!(shares[field], same[field], "{field}");
    }
    // Other tokens have other shares: what is compared is not the same for every answer.
    let other = why(run, &prompt, &token_ids[..count - 3]).await;
    assert_ne!(other["adapter_nats"], shares["adapter_nats"]);
}

#[test]
fn the_command_says_of_the_answers_text_what_the_route_says_of_its_tokens() {
    let run = run();
    let server = run.server(&[]);
    let base = BaseModel::brook().unwrap();
    // Of answers whose text is cut into the same tokens again, and that were not ended.
    let prompts = [
        "Of light",
        "Once upon a time",
        "The river",
        "In the morning",
        "A stone",
    ];
    let found = prompts.into_iter().find_map(|prompt| {
        let answer = asked(&server, json!(prompt), json!({}));
        let text = answer["choices"][0]["text"].as_str().unwrap().to_owned();
        let tokens = base.encode(&text).unwrap().len();
        let is_same = answer["usage"]["completion_tokens"] == tokens
            && answer["choices"][0]["finish_reason"] == "length";
        is_same.then_some((prompt, text, answer))
    });
    let (prompt, text, answer) = found.expect("some answer is cut alike");
    let told = shares(&server, answer["id"].as_str().unwrap()).json();
    let why = run.tributary(&[
        "why",
        "--adapter",
        &run.id,
        "--prompt",
        prompt,
        "--answer",
        &text,
    ]);
    assert_eq!(told["nobody_ppb"], why["nobody_ppb"]);
    let parts = |of: &Value| -> Vec<[Value; 5]> {
        let part = |share: &Value| {
            ["peer", "name", "share_ppb", "low_ppb", "high_ppb"].map(|field| share[field].clone())
        };
        of["shares"].as_array().unwrap().iter().map(part).collect()
    };
    assert_eq!(parts(&told), parts(&why));
}

#[test]
fn every_route_and_every_answer_of_a_request_has_shares_of_its_own() {
    let run = run();
    let server = run.server(&["--precision", "int8"]);
    let messages = json!([{"role": "user", "content": "Of light"}]);
    let chat = json!({"model": "poet", "messages": messages, "max_tokens": 8, "n": 2, "seed": 3});
    let chat = server.post("/v1/chat/completions", &chat).json();
    let id = chat["id"].as_str().unwrap();
    let first = shares(&server, id).json();
    let second = server
        .get(&format!("/v1/answers/{id}/shares?choice=1"))
        .json();
    assert_eq!(
        (&first["choice"], &second["choice"]),
        (&json!(0), &json!(1))
    );
    assert_ne!(first["adapter_nats"], second["adapter_nats"]);
    let third = server.get(&format!("/v1/answers/{id}/shares?choice=2"));
    assert_eq!((third.status, third.code()), (400, "invalid_value".into()));
    let odd = server.get(&format!("/v1/answers/{id}/shares?of=all"));
    assert_eq!((odd.status, odd.code()), (400, "invalid_value".into()));

    // In pieces as well, from the moment that the last one came.
    let body =
        json!({"model": "poet", "input": "Of light", "max_output_tokens": 8, "stream": true});
    let events = server.post("/v1/responses", &body).events();
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    let reply = shares(&server, last["response"]["id"].as_str().unwrap());
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(
        reply.json()["tokens"],
        last["response"]["usage"]["output_tokens"]
    );
}

/// Another adapter of the same shape, in a folder that says nothing of it.
fn stranger(folder: &Path, run: &Run) {
    let base = BaseModel::brook().unwrap();
    let known = import_peft(&run.adapter, &base).unwrap();
    let values = known.values().iter().map(|value| value + 0.01);
    let other = Adapter::new(known.shape().clone(), values.collect()).unwrap();
    export_peft(folder, "brook", &other).unwrap();
}

#[test]
fn nothing_is_said_of_answers_that_are_unknown_or_that_no_contributor_made() {
    let run = run();
    let folder = tempfile::tempdir().unwrap();
    stranger(folder.path(), run);
    let alias = format!("stranger={}", folder.path().display());
    let server = run.server(&["--adapter", &alias]);
    for (model, code) in [
        ("brook", "answer_of_base"),
        ("stranger", "adapter_not_certified"),
    ] {
        let answer = asked(&server, json!("Of light"), json!({"model": model}));
        let reply = shares(&server, answer["id"].as_str().unwrap());
        assert_eq!((reply.status, reply.code()), (409, code.into()));
    }
    for id in ["chatcmpl-0123", "cmpl-", "resp_x", "..%2f..", "x"] {
        let reply = shares(&server, id);
        assert_eq!(
            (reply.status, reply.code()),
            (404, "answer_unknown".into()),
            "{id}"
        );
    }
    assert_eq!(server.get("/v1/answers//shares").code(), "unknown_url");
    let posted = server.post("/v1/answers/x/shares", &json!({}));
    assert_eq!(
        (posted.status, posted.code()),
        (405, "method_not_allowed".into())
    );
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// What a server on another home than the run's says of an answer's shares.
fn on_home(home: &Path, run: &Run) -> Reply {
    let alias = format!("poet={}", run.adapter.display());
    let home = home.to_str().unwrap();
    let server = Server::start_with(&["--adapter", &alias], &[("TRIBUTARY_HOME", home)]);
    let answer = asked(&server, json!("Of light"), json!({}));
    shares(&server, answer["id"].as_str().unwrap())
}

#[test]
fn a_home_without_the_run_or_its_updates_says_so() {
    let run = run();
    let folder = tempfile::tempdir().unwrap();
    let nowhere = on_home(&folder.path().join("none"), run);
    assert_eq!(
        (nowhere.status, nowhere.code()),
        (409, "adapter_not_certified".into())
    );
    let fresh = folder.path().join("fresh");
    std::fs::create_dir(&fresh).unwrap();
    crate::pay::home(&fresh, 3);
    let fresh = on_home(&fresh, run);
    assert_eq!(
        (fresh.status, fresh.code()),
        (503, "shares_unavailable".into())
    );
    let text = String::from_utf8_lossy(&fresh.body).into_owned();
    assert!(!text.contains(folder.path().to_str().unwrap()), "{text}");
    // The adapter is there, and nothing that it was made of.
    let bare = folder.path().join("bare");
    copy(&run.home, &bare);
    std::fs::remove_dir_all(bare.join("cache")).unwrap();
    for blob in std::fs::read_dir(bare.join("blobs")).unwrap() {
        let blob = blob.unwrap();
        if blob.file_name().to_str() != Some(&run.id) {
            std::fs::remove_file(blob.path()).unwrap();
        }
    }
    let bare = on_home(&bare, run);
    assert_eq!((bare.status, bare.code()), (409, "updates_missing".into()));
}

/// Ends it whatever becomes of the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that ended already has nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_daemon_of_the_home_says_the_same_as_its_files() {
    let run = run();
    let folder = tempfile::tempdir().unwrap();
    copy(&run.home, folder.path());
    let server = Server::start_with(
        &["--adapter", &format!("poet={}", run.adapter.display())],
        &[("TRIBUTARY_HOME", folder.path().to_str().unwrap())],
    );
    let answer = asked(&server, json!("Of light"), json!({}));
    let id = answer["id"].as_str().unwrap();
    let by_files = without_times(shares(&server, id).json());
    let daemon = Command::new(env!("CARGO_BIN_EXE_tributary"))
        .arg("up")
        .env("TRIBUTARY_HOME", folder.path())
        .env_remove("TRIBUTARY_LOG")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _daemon = Daemon(daemon.unwrap());
    let began = Instant::now();
    while !folder.path().join("control.json").exists() {
        assert!(began.elapsed() < LIMIT, "no daemon");
        std::thread::sleep(Duration::from_millis(50));
    }
    let reply = shares(&server, id);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(without_times(reply.json()), by_files);
}

#[test]
fn a_strangers_token_cannot_ask_for_the_shares_of_an_answer() {
    let run = run();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let (one, other) = ("a-token-of-sufficient-length", "another-token-just-as-long");
    std::fs::write(&file, format!("{one}\n{other}\n")).unwrap();
    let server = run.server(&["--token-file", file.to_str().unwrap()]);
    let with = |method: &str, path: &str, token: &str, body: &str| {
        let more = format!(
            "authorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        server
            .send(server.head(method, path, &more).as_bytes())
            .unwrap()
    };
    let body = json!({"model": "poet", "prompt": "Of light", "max_tokens": 6}).to_string();
    let answer = with("POST", "/v1/completions", one, &body).json();
    let path = format!("/v1/answers/{}/shares", answer["id"].as_str().unwrap());
    let stranger = with("GET", &path, other, "");
    assert_eq!(
        (stranger.status, stranger.code()),
        (404, "answer_unknown".into())
    );
    assert_eq!(
        with("GET", &path, "a-token-that-nobody-holds", "").status,
        401
    );
    assert_eq!(server.get(&path).status, 401);
    assert_eq!(with("GET", &path, one, "").status, 200);
}

#[test]
fn a_flood_of_requests_for_shares_is_turned_away_and_answers_go_on() {
    let run = run();
    let server = run.server(&[]);
    let answer = asked(&server, json!("Of light"), json!({"max_tokens": 200}));
    let id = answer["id"].as_str().unwrap();
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let floods: Vec<_> = (0..24)
            .map(|_| scope.spawn(|| shares(&server, id)))
            .collect();
        // Meanwhile somebody wants an answer.
        asked(&server, json!("Once"), json!({"max_tokens": 4}));
        floods
            .into_iter()
            .map(|reply| reply.join().unwrap())
            .collect()
    });
    let served = replies.iter().filter(|reply| reply.status == 200).count();
    let turned = replies.iter().filter(|reply| reply.status == 429);
    for reply in turned.clone() {
        assert_eq!(reply.code(), "shares_busy");
        assert!(reply.head.contains("retry-after: "), "{}", reply.head);
    }
    assert_eq!(served + turned.count(), 24);
    assert!((4..24).contains(&served), "{served} were served");
    // And there is room again.
    assert_eq!(shares(&server, id).status, 200);
}
