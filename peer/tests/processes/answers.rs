//! How fast a daemon answers its owner while its run trains, agrees and scores.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::daemon::{Peer, Plan, federation};

/// How long the owner asks.
const LASTING: Duration = Duration::from_secs(60);
/// How long the owner waits between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// The control API of one daemon, asked without the command line: a process more would be measured with it.
struct Control {
    addr: String,
    token: String,
}

impl Control {
    fn of(peer: &Peer) -> Self {
        let file = std::fs::read(peer.home.join("control.json")).expect("a daemon runs");
        let file: Value = serde_json::from_slice(&file).expect("JSON");
        let word = |key: &str| file[key].as_str().expect("a word").to_owned();
        Self {
            addr: word("addr"),
            token: word("token"),
        }
    }

    /// The time until the last byte of an answer is here.
    fn ask(&self, path: &str) -> Duration {
        let began = Instant::now();
        let mut socket = TcpStream::connect(&self.addr).expect("the daemon listens");
        let question = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
            self.addr, self.token
        );
        socket.write_all(question.as_bytes()).expect("it is read");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).expect("it is answered");
        let took = began.elapsed();
        assert!(
            answer.starts_with(b"HTTP/1.1 200"),
            "{path}: {}",
            String::from_utf8_lossy(&answer)
        );
        took
    }
}

/// The figures of `docs/numbers/api.md`.
#[test]
#[ignore = "a minute; docs/numbers/api.md says how to run it"]
fn a_daemon_answers_its_owner_while_its_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        rounds: 5000,
        members: 4,
        local_steps: 4,
        round_ms: 30_000,
        grace_ms: 5_000,
    };
    let (peers, run, _) = federation(dir.path(), &plan);
    let asked = &peers[0];
    asked.until("round 2 is certified", || asked.certified(&run) >= Some(2));
    let control = Control::of(asked);
    let first = asked.certified(&run).expect("certified");
    let paths = [
        "/v1/status".to_owned(),
        format!("/v1/runs/{run}"),
        "/v1/ledger/statement".to_owned(),
        "/metrics".to_owned(),
    ];
    let mut took: Vec<Vec<Duration>> = vec![Vec::new(); paths.len()];
    let began = Instant::now();
    while began.elapsed() < LASTING {
        for (took, path) in took.iter_mut().zip(&paths) {
            took.push(control.ask(path));
            std::thread::sleep(PAUSE);
        }
    }
    let rounds = asked.certified(&run).expect("certified") - first;
    for (took, path) in took.iter_mut().zip(&paths) {
        took.sort_unstable();
        let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
        println!(
            "answers {}: {} asked, median {:.2} ms, p99 {:.2} ms, slowest {:.2} ms, {rounds} rounds",
            path.replace(&run, "RUN"),
            took.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
    assert!(rounds > 0, "no round was certified meanwhile");
}
