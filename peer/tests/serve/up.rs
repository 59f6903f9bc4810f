//! Server and gateway as parts of a daemon: `up --serve`, `up --gateway`.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::pay::{CHAT, account_of, home as with_key, paid_server, question};
use crate::server::{LIMIT, Server};

/// A run of one peer takes this long at most, on a machine that tests other things meanwhile.
const RUN_LIMIT: Duration = Duration::from_secs(240);

/// A home, and the daemon on it while one runs.
pub(crate) struct Peer {
    folder: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            // One that ended already has nothing to kill.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

impl Peer {
    pub(crate) fn init() -> Self {
        let peer = Self {
            folder: tempfile::tempdir().unwrap(),
            daemon: None,
        };
        peer.ask(&["init", "--name", "ada"]);
        peer
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// A file beside the home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where others find the daemon; null before it listens.
    pub(crate) fn address(&self) -> Value {
        let status = self.status().unwrap_or_default();
        status["addresses"][0].clone()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
        command
            .args(["--format", "json", "--home"])
            .arg(self.home())
            .args(arguments)
            .env_remove("TRIBUTARY_HOME")
            .env_remove("TRIBUTARY_SERVE_TOKEN")
            .env_remove("TRIBUTARY_LOG");
        command
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn ask(&self, arguments: &[&str]) -> Value {
        let output = self.output(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn status(&self) -> Option<Value> {
        serde_json::from_slice(&self.output(&["status"]).stdout).ok()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Starts a daemon with these options and waits until its status has `field`, which is given.
    pub(crate) fn up(&mut self, options: &[&str], field: &str) -> Value {
        let log = File::create(self.folder.path().join("log")).unwrap();
        let mut command = self.command(&["up", "--listen", "127.0.0.1:0"]);
        let command = command.args(options).stdout(Stdio::null()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
        let mut found = Value::Null;
        self.until(field, LIMIT, |peer| {
            found = peer
                .status()
                .map_or(Value::Null, |mut status| status[field].take());
            !found.is_null()
        });
        found
    }

    /// With a server on a free port.
    pub(crate) fn up_serving(&mut self, options: &[&str]) -> Server {
        let own = [
            "--serve",
            "--serve-listen",
            "127.0.0.1:0",
            "--serve-threads",
            "1",
        ];
        let serving = self.up(&[&own, options].concat(), "serving");
        at(&serving["url"])
    }

    pub(crate) fn until(&self, what: &str, limit: Duration, mut holds: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < limit, "never: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for the daemon to end; whether it ended well.
    pub(crate) fn ended_well(&mut self) -> bool {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        daemon.wait().unwrap().success()
    }
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "{}: {}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    )
}

/// What answers at a base URL.
fn at(url: &Value) -> Server {
    let addr = url.as_str().unwrap().strip_prefix("http://").unwrap();
    let addr: SocketAddr = addr.strip_suffix("/v1").unwrap().parse().unwrap();
    Server::at(addr)
}

/// Plain sentences.
fn text(path: &Path, word: &str) -> String {
    let lines =
        (0..300).map(|n| format!("The {word} of the valley counts {n} birds at the {word}.\n"));
    std::fs::write(path, lines.collect::<String>()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_daemon_answers_clients_shows_where_and_ends_its_server_with_itself() {
    let mut peer = Peer::init();
    let server = peer.up_serving(&[]);
    let answer = server.post(CHAT, &question(json!({})));
    assert_eq!(answer.status, 200, "{answer:?}");
    let text = answer.json()["choices"][0]["message"]["content"].clone();
    assert!(!text.as_str().unwrap().is_empty());
    let serving = &peer.status().unwrap()["serving"];
    assert_eq!(
        (&serving["base"], &serving["adapters"]),
        (&json!("brook"), &json!([]))
    );
    assert_eq!(serving["url"], server.url());
    assert!(
        peer.log()
            .contains(&format!("serving brook at {}", server.url())),
        "{}",
        peer.log()
    );
    peer.ask(&["down"]);
    assert!(peer.ended_well(), "{}", peer.log());
    assert!(TcpStream::connect(server.addr).is_err());
    assert!(peer.status().unwrap()["serving"].is_null());
}

#[test]
fn answers_that_stream_are_finished_when_the_daemon_is_told_to_stop() {
    let mut peer = Peer::init();
    let server = peer.up_serving(&[]);
    // No token ends them, and together they take longer than it does to tell the daemon.
    let body = json!({
        "model": "brook", "prompt": "Once", "stream": true, "max_tokens": 300, "logit_bias": ends(),
    });
    let mut streams: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for stream in &mut streams {
        let request = server.request("/v1/completions", &body.to_string());
        stream.write_all(&request).unwrap();
    }
    for stream in &mut streams {
        stream.read_exact(&mut [0; 400]).unwrap();
    }
    peer.ask(&["down"]);
    peer.until("nobody new is answered", LIMIT, |_| {
        TcpStream::connect(server.addr).is_err()
    });
    let mut unfinished = 0;
    for stream in &mut streams {
        let so_far = what_is_here(stream);
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        unfinished += usize::from(!so_far.contains("[DONE]"));
        let all = so_far + &rest;
        let is_whole = all.contains("[DONE]") && all.contains("\"length\"");
        assert!(is_whole && !all.contains("\"error\""), "{all}");
    }
    assert!(
        unfinished > 0,
        "the answers ended before the daemon was told"
    );
    assert!(peer.ended_well(), "{}", peer.log());
    let cut = "answers that took longer";
    assert!(!peer.log().contains(cut), "{}", peer.log());
}

/// Keeps the tokens that end an answer of brook from being drawn.
fn ends() -> Value {
    let base = tributary_engine::Base::brook().unwrap();
    let ends = base.info.end_tokens();
    ends.iter()
        .map(|end| (end.to_string(), json!(-100)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// What has come without waiting for more.
fn what_is_here(stream: &mut TcpStream) -> String {
    stream.set_nonblocking(true).unwrap();
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut part) {
        bytes.extend_from_slice(&part[..read]);
    }
    stream.set_nonblocking(false).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_run_of_the_home_is_answered_with_by_its_adapters_id_and_training_stops_no_answer() {
    let mut peer = Peer::init();
    let at = |name: &str| peer.folder.path().join(name);
    let (shard, neutral) = (
        text(&at("shard.txt"), "miller"),
        text(&at("neutral.txt"), "ferry"),
    );
    let file = at("run.toml");
    let run = "name = \"valley\"\nbase = \"brook\"\ndatanet = \"birds\"\nrounds = 2\nevaluators = [\"self\"]\n\
               score_windows = 2\nmin_members = 1\nmin_contributions = 1\n[adapter]\nrank = 2\nalpha = 4\n\
               [training]\nlocal_steps = 6\nbatch = 2\ncontext = 64\n";
    std::fs::write(&file, run).unwrap();
    peer.ask(&["datanet", "add", "birds", &shard]);
    let server = peer.up_serving(&[]);
    let created = peer.ask(&[
        "run",
        "create",
        file.to_str().unwrap(),
        "--join",
        "--holdout",
        &neutral,
    ]);
    let run = created["run"].as_str().unwrap().to_owned();
    let mut answered = 0;
    peer.until("the run is finished", RUN_LIMIT, |peer| {
        let answer = server.post(CHAT, &question(json!({"seed": answered})));
        assert_eq!(answer.status, 200, "{answer:?}");
        answered += 1;
        peer.ask(&["run", "show", &run])["finished"] == true
    });
    let adapter = peer.ask(&["run", "show", &run])["adapter"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let answer = server.post(CHAT, &question(json!({"model": adapter})));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        peer.status().unwrap()["serving"]["adapters"],
        json!([adapter])
    );
    peer.ask(&["down"]);
    assert!(peer.ended_well(), "{}", peer.log());
    // Named at the start, by the run.
    let server = peer.up_serving(&["--serve-adapter", &format!("poet={run}")]);
    let answer = server.post(CHAT, &question(json!({"model": "poet"})));
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn a_server_that_cannot_start_stops_the_daemon_with_the_reason_and_leaves_the_home_free() {
    let mut peer = Peer::init();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let nothing = peer.folder.path().join("none");
    for (options, words) in [
        (["--serve", "--serve-listen", &taken], "cannot listen on"),
        (
            ["--serve", "--serve-base", nothing.to_str().unwrap()],
            "there is no such folder",
        ),
        (
            ["--serve", "--serve-token-file", nothing.to_str().unwrap()],
            "cannot read the tokens",
        ),
        (
            ["--serve", "--serve-listen", "0.0.0.0:0"],
            "--serve-token-file",
        ),
        (
            ["--gateway=http://127.0.0.1:9", "--gateway-listen", &taken],
            "cannot listen on",
        ),
    ] {
        let up = [&["up", "--listen", "127.0.0.1:0"][..], &options].concat();
        let output = peer.output(&up);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{options:?}: {}",
            said(&output)
        );
        assert!(
            said(&output).contains(words),
            "{options:?}: {}",
            said(&output)
        );
        assert_eq!(peer.status().unwrap()["running"], false, "{options:?}");
    }
    let detached = peer.output(&[
        "up",
        "--detach",
        "--listen",
        "127.0.0.1:0",
        "--serve",
        "--serve-listen",
        &taken,
    ]);
    assert_eq!(detached.status.code(), Some(2), "{}", said(&detached));
    assert!(
        said(&detached).contains("cannot listen on"),
        "{}",
        said(&detached)
    );
    peer.up_serving(&[]);
}

#[test]
fn a_daemon_that_still_looks_for_what_it_is_to_serve_stops_when_it_is_told_to() {
    let mut peer = Peer::init();
    let nobodys = format!("poet={}", "ab".repeat(32));
    let options = [
        "--serve",
        "--serve-listen",
        "127.0.0.1:0",
        "--serve-adapter",
        &nobodys,
    ];
    // Its owner is answered before its clients are.
    peer.up(&options, "peer");
    peer.until("the daemon runs", LIMIT, |peer| {
        peer.status()
            .is_some_and(|status| status["running"] == true)
    });
    assert!(peer.status().unwrap()["serving"].is_null());
    peer.ask(&["down"]);
    assert!(peer.ended_well(), "{}", peer.log());
}

#[test]
fn a_daemon_left_running_has_started_when_its_server_answers() {
    let peer = Peer::init();
    let started = peer.ask(&[
        "up",
        "--detach",
        "--listen",
        "127.0.0.1:0",
        "--serve",
        "--serve-listen",
        "127.0.0.1:0",
    ]);
    let answer = at(&started["serving"]).post(CHAT, &question(json!({})));
    peer.ask(&["down"]);
    assert_eq!(answer.status, 200, "{answer:?}");
    peer.until("the daemon has stopped", LIMIT, |peer| {
        peer.status()
            .is_some_and(|status| status["running"] == false)
    });
}

#[test]
fn the_gateway_of_a_daemon_pays_a_server_with_the_homes_key() {
    let seller = tempfile::tempdir().unwrap();
    with_key(seller.path(), 1);
    let mut peer = Peer::init();
    let consumer = account_of(&peer.home());
    let server = paid_server(seller.path(), consumer, 10_000);
    let url = format!("http://{}", server.addr);
    let options = [
        "--gateway",
        &url,
        "--gateway-listen",
        "127.0.0.1:0",
        "--gateway-base",
        "brook",
    ];
    let gateway = at(&peer.up(&options, "gateway"));
    let answer = gateway.post(CHAT, &question(json!({})));
    assert_eq!(answer.status, 200, "{answer:?}");
    let spending = gateway.get("/v1/spending").json();
    assert_eq!(spending["consumer"], peer.status().unwrap()["account"]);
    let owed: u64 = spending["servers"][0]["owed"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(owed > 0, "{spending}");
    peer.ask(&["down"]);
    assert!(peer.ended_well(), "{}", peer.log());
    let told = format!("spent {} micro-OPEN", spending["spent"].as_str().unwrap());
    assert!(peer.log().contains(&told), "{}", peer.log());
}

#[test]
fn a_paid_server_in_a_daemon_asks_for_a_voucher() {
    let mut peer = Peer::init();
    let consumer = with_key(peer.folder.path(), 2).address();
    let allow = format!("{consumer}=10000");
    let server = peer.up_serving(&[
        "--price-prompt",
        "1000",
        "--price-answer",
        "5000",
        "--allow",
        &allow,
    ]);
    let refused = server.post(CHAT, &question(json!({})));
    assert_eq!(refused.status, 402, "{refused:?}");
}
