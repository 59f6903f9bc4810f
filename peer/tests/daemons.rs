//! Separate daemon processes on one machine: a run that survives a SIGKILL, takes in a newcomer, and
//! hands its adapter to a stranger.

#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const ROUNDS: u64 = 4;
/// For anything that must happen; a loaded machine of two cores trains six small models meanwhile.
const LIMIT: Duration = Duration::from_secs(240);

/// One peer: a home and, while it runs, a daemon process.
struct Peer {
    name: &'static str,
    home: PathBuf,
    daemon: Option<Child>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn tributary(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
    command.arg("--home").arg(home).args(["--format", "json"]);
    command.env_remove("TRIBUTARY_HOME");
    command
}

fn said(output: &Output) -> String {
    format!(
        "{}\nstdout: {}\nstderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

impl Peer {
    fn init(dir: &Path, name: &'static str) -> Self {
        let peer = Self {
            name,
            home: dir.join(name),
            daemon: None,
        };
        peer.ask(&["init", "--name", name]);
        peer
    }

    /// Runs a command on this home and returns its JSON.
    fn ask(&self, arguments: &[&str]) -> Value {
        let output = tributary(&self.home).args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{} {arguments:?}: {}",
            self.name,
            said(&output)
        );
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{arguments:?}: {e}: {}", said(&output)))
    }

    fn up(&mut self, bootstrap: Option<&str>) {
        let mut log = fs::OpenOptions::new();
        let log = log
            .create(true)
            .append(true)
            .open(self.home.join("daemon.log"))
            .unwrap();
        let mut command = tributary(&self.home);
        command.arg("up").stdout(Stdio::null()).stderr(log);
        if let Some(address) = bootstrap {
            command.args(["--bootstrap", address]);
        }
        self.daemon = Some(command.spawn().unwrap());
        self.until("the daemon answers", || {
            let output = tributary(&self.home).arg("status").output().unwrap();
            output.status.success()
        });
    }

    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            let log = || fs::read_to_string(self.home.join("daemon.log")).unwrap_or_default();
            assert!(
                start.elapsed() < LIMIT,
                "{}: not so: {what}\n{}",
                self.name,
                log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn address(&self) -> String {
        self.ask(&["status"])["addresses"][0]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// The last certified round, if any.
    fn certified(&self, run: &str) -> Option<u64> {
        let output = tributary(&self.home)
            .args(["run", "show", run])
            .output()
            .unwrap();
        let view: Value = serde_json::from_slice(&output.stdout).ok()?;
        view["certified"].as_u64()
    }

    fn finished(&self, run: &str) -> bool {
        let output = tributary(&self.home)
            .args(["run", "show", run])
            .output()
            .unwrap();
        let view: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        view.is_some_and(|view| view["finished"] == true)
    }

    /// SIGKILL: no destructor, no flush, no goodbye.
    fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Plain sentences, different for each peer.
fn text(path: &Path, word: &str) -> String {
    let mut text = String::new();
    for n in 0..600 {
        let line =
            format!("The {word} of the valley counts {n} birds and says so to the {word}.\n");
        text.push_str(&line);
    }
    fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const RUN: &str = r#"
name = "valley"
base = "brook"
datanet = "birds"
rounds = 4
evaluators = ["self"]
score_windows = 8
min_members = 4
min_contributions = 2
[adapter]
rank = 2
alpha = 4
[training]
local_steps = 4
batch = 2
context = 64
[deadlines]
round_ms = 30_000
grace_ms = 2_000
propose_ms = 3_000
vote_ms = 1_500
"#;

const NAMES: [&str; 5] = ["ada", "bea", "cyd", "dan", "eve"];

/// Five homes with data; the first four run and have joined a run of the first. Gives the run and the
/// first one's address as well.
fn federation(dir: &Path) -> (Vec<Peer>, String, String) {
    let mut peers: Vec<Peer> = NAMES.map(|name| Peer::init(dir, name)).into();
    let words = ["shepherd", "miller", "ferryman", "weaver", "beekeeper"];
    for (peer, word) in peers.iter().zip(words) {
        let file = text(&dir.join(format!("{word}.txt")), word);
        peer.ask(&["datanet", "add", "birds", &file]);
    }
    peers[0].up(None);
    let address = peers[0].address();
    for peer in &mut peers[1..4] {
        peer.up(Some(&address));
    }
    let file = dir.join("run.toml");
    fs::write(&file, RUN).unwrap();
    let created = peers[0].ask(&["run", "create", file.to_str().unwrap(), "--join"]);
    let run = created["run"].as_str().unwrap().to_owned();
    for peer in &peers[1..4] {
        peer.ask(&["run", "join", &run]);
    }
    (peers, run, address)
}

/// Waits for the end of the run and gives the last round's state hash.
fn outcome(peer: &Peer, run: &str) -> String {
    peer.until("the run is finished", || peer.finished(run));
    let view = peer.ask(&["run", "show", run]);
    let history = view["history"].as_array().unwrap();
    assert_eq!(history.len() as u64, ROUNDS, "{}: {view}", peer.name);
    assert_eq!(view["certified"].as_u64(), Some(ROUNDS + 1), "{view}");
    let roster = view["roster"].as_array().unwrap();
    let is_member = |name: &&str| roster.iter().any(|member| member["name"] == *name);
    assert!(NAMES.iter().all(is_member), "{}: {view}", peer.name);
    let state = &history.last().unwrap()["state_hash"];
    state.as_str().unwrap().to_owned()
}

fn verify(peer: &Peer, when: &str) {
    let report = peer.ask(&["ledger", "verify"]);
    assert_eq!(report["verified"], true, "{} {when}: {report}", peer.name);
}

#[test]
fn five_daemons_agree_through_a_kill_and_a_late_join_and_a_stranger_gets_the_adapter() {
    let dir = tempfile::tempdir().unwrap();
    let (mut peers, run, address) = federation(dir.path());

    let reached = |peer: &Peer, round| peer.certified(&run) >= Some(round);
    peers[2].until("round 1 is certified", || reached(&peers[2], 1));
    peers[2].kill();
    assert!(
        !reached(&peers[0], ROUNDS),
        "over before the kill: this proves nothing"
    );
    peers[2].up(Some(&address));

    peers[0].until("round 2 is certified", || reached(&peers[0], 2));
    peers[4].up(Some(&address));
    peers[4].ask(&["run", "join", &run]);

    let states: Vec<String> = peers.iter().map(|peer| outcome(peer, &run)).collect();
    assert!(states.iter().all(|s| *s == states[0]), "{states:?}");
    for peer in &peers {
        verify(peer, "beside its daemon");
    }
    stranger(dir.path(), &run, &address);
    // The same from the stopped homes, from bytes alone; all were killed.
    for peer in &mut peers {
        peer.kill();
        verify(peer, "stopped");
    }
}

/// A peer that took no part, knows one address, fetches the adapter and finds it useful.
fn stranger(dir: &Path, run: &str, address: &str) {
    let sixth = Peer::init(dir, "fay");
    let folder = dir.join("adapter");
    let folder = folder.to_str().unwrap();
    let view = sixth.ask(&["adapter", "get", run, folder, "--bootstrap", address]);
    assert_eq!(view["run"], run);
    let held = text(&dir.join("held.txt"), "innkeeper");
    let eval = |adapter: &[&str]| {
        let arguments = [&["eval", "--text", &held, "--context", "64"], adapter].concat();
        sixth.ask(&arguments)["nll"].as_f64().unwrap()
    };
    let (base, adapted) = (eval(&[]), eval(&["--adapter", folder]));
    assert!(
        adapted < base,
        "loss {adapted} with the adapter, {base} without"
    );
}
