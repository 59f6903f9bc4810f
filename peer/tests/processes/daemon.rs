//! Daemon processes of the `tributary` binary, for tests of several of them on one machine.

#![cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "most of these tests run on Linux alone")
)]

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// For anything that must happen; a loaded machine of two cores trains many small models meanwhile.
const LIMIT: Duration = Duration::from_secs(240);

/// One peer: a home and, while it runs, a daemon process.
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) home: PathBuf,
    port: u16,
    daemon: Option<Child>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody has, below those that the system hands out by itself.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 200) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2000;
        let at = ("127.0.0.1", port);
        if TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok() {
            return port;
        }
    }
}

/// The program under test; `TRIBUTARY_TEST_PROGRAM` names another build, to compare with.
fn program() -> PathBuf {
    let other = std::env::var_os("TRIBUTARY_TEST_PROGRAM");
    other.map_or(env!("CARGO_BIN_EXE_tributary").into(), PathBuf::from)
}

fn tributary(home: &Path) -> Command {
    let mut command = Command::new(program());
    command.arg("--home").arg(home).args(["--format", "json"]);
    command
        .env_remove("TRIBUTARY_HOME")
        .env_remove("TRIBUTARY_LOG");
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
    pub(crate) fn init(dir: &Path, name: &str) -> Self {
        let peer = Self {
            name: name.to_owned(),
            home: dir.join(name),
            port: free_port(),
            daemon: None,
        };
        peer.ask(&["init", "--name", name]);
        peer
    }

    /// A command on this home, to be started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = tributary(&self.home);
        command.args(arguments);
        command
    }

    /// Runs a command on this home and returns its JSON.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Value {
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

    /// As [`Peer::ask`]; `None` when the command fails, as it does while no daemon answers.
    pub(crate) fn try_ask(&self, arguments: &[&str]) -> Option<Value> {
        let output = tributary(&self.home).args(arguments).output().unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Runs a command that must fail, with these variables, and returns what it tells its owner.
    pub(crate) fn refused(&self, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let mut command = tributary(&self.home);
        let output = command.args(arguments).envs(variables.iter().copied());
        let output = output.output().unwrap();
        assert!(!output.status.success(), "{arguments:?}: {}", said(&output));
        said(&output)
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) fn up(&mut self, bootstrap: Option<&str>) {
        self.start(bootstrap.as_slice());
        self.until("the daemon answers", || {
            let status = self.try_ask(&["status"]);
            status.is_some_and(|status| status["running"] == true)
        });
    }

    /// A peer whose home does not exist yet.
    pub(crate) fn unmade(dir: &Path, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            home: dir.join(name),
            port: 0,
            daemon: None,
        }
    }

    /// Starts the daemon without any option, and waits until it answers.
    pub(crate) fn up_without_options(&mut self) {
        self.spawn(&["up"]);
        self.until("the daemon answers", || {
            let status = self.try_ask(&["status"]);
            status.is_some_and(|status| status["running"] == true)
        });
    }

    /// Starts the daemon.
    pub(crate) fn start(&mut self, bootstrap: &[&str]) {
        let address = self.address();
        let mut arguments = vec!["up", "--evidence", "--listen", &address];
        for address in bootstrap {
            arguments.extend(["--bootstrap", address]);
        }
        self.spawn(&arguments);
    }

    fn spawn(&mut self, arguments: &[&str]) {
        let mut log = fs::OpenOptions::new();
        let log = log.create(true).append(true).open(self.log_file());
        let mut command = tributary(&self.home);
        let daemon = command
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(log.unwrap());
        self.daemon = Some(daemon.spawn().unwrap());
    }

    fn log_file(&self) -> PathBuf {
        self.home.join("daemon.log")
    }

    /// What the daemon wrote for its owner so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub(crate) fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        self.until_within(what, LIMIT, holds);
    }

    pub(crate) fn until_within(
        &self,
        what: &str,
        limit: Duration,
        mut holds: impl FnMut() -> bool,
    ) {
        let start = Instant::now();
        while !holds() {
            assert!(
                start.elapsed() < limit,
                "{}: not so: {what}\n{}",
                self.name,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What others pass to `--bootstrap`, the same after every start.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The last certified round, if any.
    pub(crate) fn certified(&self, run: &str) -> Option<u64> {
        self.try_ask(&["run", "show", run])?["certified"].as_u64()
    }

    /// Waits for a view of the run with a certified round: while a daemon starts, neither it nor its files answer.
    pub(crate) fn certified_view(&self, run: &str) -> Value {
        let mut view = None;
        self.until("it answers with a certified round", || {
            view = self.try_ask(&["run", "show", run]);
            view.as_ref()
                .is_some_and(|view| !view["certified"].is_null())
        });
        view.expect("it answered")
    }

    pub(crate) fn finished(&self, run: &str) -> bool {
        let view = self.try_ask(&["run", "show", run]);
        view.is_some_and(|view| view["finished"] == true)
    }

    /// Waits for the end of the run and gives its view.
    pub(crate) fn outcome(&self, run: &str) -> Value {
        self.until("the run is finished", || self.finished(run));
        self.ask(&["run", "show", run])
    }

    pub(crate) fn verify(&self, when: &str) {
        let report = self.ask(&["ledger", "verify"]);
        assert_eq!(report["verified"], true, "{} {when}: {report}", self.name);
    }

    /// Bytes of the daemon that are in memory now.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let id = self.daemon.as_ref().expect("a daemon runs").id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kib: u64 = (line.unwrap().trim().trim_end_matches("kB").trim())
            .parse()
            .unwrap();
        kib * 1024
    }

    /// Processor time of the daemon so far, in milliseconds.
    pub(crate) fn processor_ms(&self) -> u64 {
        processor_ms(
            &self
                .daemon
                .as_ref()
                .expect("a daemon runs")
                .id()
                .to_string(),
        )
    }

    /// Rounds that this daemon saw certified, with milliseconds from the certificate before.
    pub(crate) fn rounds(&self) -> Vec<(u64, u64)> {
        let log = self.log();
        let lines = log.lines().filter(|line| line.contains(" certified: "));
        lines.filter_map(round_line).collect()
    }

    /// SIGKILL: no destructor, no flush, no goodbye.
    pub(crate) fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Processor time of a process so far, in milliseconds; `self` is this one.
pub(crate) fn processor_ms(process: &str) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // Behind the name, which may hold anything, user and system time are 12th and 13th, in hundredths of a second.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let times = fields.split_whitespace().skip(11).take(2);
    times.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum()
}

/// `.. round 3 certified: 4 contributions, state 01ab, 1234 ms`.
fn round_line(line: &str) -> Option<(u64, u64)> {
    let (_, rest) = line.split_once(" round ")?;
    let round = rest.split(' ').next()?.parse().ok()?;
    let took = rest.strip_suffix(" ms")?.rsplit(' ').next()?.parse().ok()?;
    Some((round, took))
}

/// Plain sentences, different for each word.
pub(crate) fn text(path: &Path, word: &str) -> String {
    let mut text = String::new();
    for n in 0..600 {
        let line =
            format!("The {word} of the valley counts {n} birds and says so to the {word}.\n");
        text.push_str(&line);
    }
    fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What a run of small peers on brook is like.
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    pub(crate) members: usize,
    pub(crate) local_steps: u32,
    pub(crate) round_ms: u32,
    pub(crate) grace_ms: u32,
}

impl Plan {
    fn file(&self) -> String {
        let Self {
            rounds,
            members,
            local_steps,
            round_ms,
            grace_ms,
        } = self;
        format!(
            r#"
name = "valley"
base = "brook"
datanet = "birds"
rounds = {rounds}
evaluators = ["self"]
score_windows = 4
min_members = {members}
min_contributions = 2
[adapter]
rank = 2
alpha = 4
[training]
local_steps = {local_steps}
batch = 1
context = 32
[deadlines]
round_ms = {round_ms}
grace_ms = {grace_ms}
propose_ms = 3_000
vote_ms = 1_500
"#
        )
    }
}

/// Peers that run and have all asked to join a run of the first; with the run and the first's address.
pub(crate) fn federation(dir: &Path, plan: &Plan) -> (Vec<Peer>, String, String) {
    let mut peers: Vec<Peer> = (0..plan.members)
        .map(|n| Peer::init(dir, &format!("peer{n:02}")))
        .collect();
    for peer in &peers {
        let file = text(&dir.join(format!("{}.txt", peer.name)), &peer.name);
        peer.ask(&["datanet", "add", "birds", &file]);
    }
    peers[0].up(None);
    let address = peers[0].address();
    for peer in &mut peers[1..] {
        peer.up(Some(&address));
    }
    let file = dir.join("run.toml");
    fs::write(&file, plan.file()).unwrap();
    let neutral = text(&dir.join("neutral.txt"), "neighbour");
    let created = peers[0].ask(&[
        "run",
        "create",
        file.to_str().unwrap(),
        "--join",
        "--holdout",
        &neutral,
    ]);
    let run = created["run"].as_str().unwrap().to_owned();
    for peer in &peers[1..] {
        peer.ask(&["run", "join", &run]);
    }
    (peers, run, address)
}

/// State hash by round, as a daemon shows it.
pub(crate) fn states(view: &Value) -> Vec<(u64, String)> {
    let history = view["history"].as_array().unwrap();
    let state = |round: &Value| {
        let hash = round["state_hash"].as_str().unwrap().to_owned();
        (round["round"].as_u64().unwrap(), hash)
    };
    history.iter().map(state).collect()
}
