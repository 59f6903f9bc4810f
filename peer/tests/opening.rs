//! How long a stopped home of 1,000 rounds and 64 members takes to open, the first time and the second.
//!
//! The home is made here: blocks, certificates and updates of a tiny adapter, signed by 64 keys. The commands are
//! the real ones, as processes of their own. Slow, so it runs only when asked for:
//! `cargo test --workspace --test opening -- --ignored --nocapture`, or `python3 docs/numbers/update.py opening`.

#[path = "support/cli.rs"]
mod cli;
#[path = "../../ledger/src/hand.rs"]
mod hand;

use std::path::Path;
use std::time::Instant;

use tributary_peer::home::Home;
use tributary_peer::store::Store;
use tributary_protocol::state::Choice;

/// Records that are written with one sync.
const TOGETHER: usize = 4096;

/// A finished run of `members` over `rounds`, each judged by the three evaluators.
fn run(members: usize, rounds: u32) -> hand::Hand {
    let mut made = hand::Hand::opened(members, rounds);
    let everybody: Vec<usize> = (0..members).collect();
    for round in 1..=rounds {
        let evaluators: &[usize] = if round == 1 { &[] } else { &[1, 2, 3] };
        made.round(&everybody, evaluators);
    }
    let sheets = [1, 2, 3].map(|who| made.judge(who)).into();
    made.certify(Choice {
        sheets,
        ..Choice::default()
    });
    made
}

/// A home that holds it all.
fn home(root: &Path, made: &hand::Hand) {
    let home = Home::create(root).unwrap();
    let store = Store::open(home.paths()).unwrap();
    for (hash, bytes) in &made.kept {
        // Without the sync that a daemon gives every blob.
        std::fs::write(home.paths().blobs().join(hash.to_string()), bytes).unwrap();
    }
    for records in made.records.chunks(TOGETHER) {
        store.persist(records.to_vec()).wait_blocking().unwrap();
    }
}

/// Seconds of one command, and what it said.
fn timed(home: &str, command: &[&str]) -> (f64, String) {
    let started = Instant::now();
    let output = cli::run(&[command, &["--home", home]].concat());
    let seconds = started.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    (seconds, said)
}

fn measured(members: usize, rounds: u32) -> Vec<(String, f64)> {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("home");
    let made = run(members, rounds);
    home(&root, &made);
    let home = root.display().to_string();
    let place = format!("{}/{}/ada", made.run(), rounds / 2);
    let verify = ["ledger", "verify"];
    let explain = ["ledger", "explain", &place];
    let mut out = Vec::new();
    for (name, command) in [
        ("ledger verify, first", &verify[..]),
        ("ledger verify, again", &verify[..]),
        ("ledger explain, after that", &explain[..]),
        ("ledger statement", &["ledger", "statement"][..]),
        ("ledger verify --full", &["ledger", "verify", "--full"][..]),
    ] {
        let (seconds, said) = timed(&home, command);
        if command[1] == "verify" {
            let aggregates = format!("with {rounds} of {rounds} aggregates");
            assert!(said.contains(&aggregates), "{said}");
        }
        out.push((name.to_owned(), seconds));
    }
    let bytes = root.join("ledger.redb").metadata().unwrap().len();
    println!(
        "{members} members, {rounds} rounds: {} blocks and certificates, {bytes} bytes of ledger, {} blobs",
        made.records.len(),
        made.kept.len()
    );
    for (name, seconds) in &out {
        println!("{name}: {seconds:.2} s");
    }
    out
}

#[test]
fn a_home_that_was_checked_says_the_same_again_and_checks_in_full_when_told() {
    measured(4, 6);
}

#[test]
#[ignore = "makes and checks 1,000 rounds of 64 members, which takes minutes"]
fn a_home_of_a_thousand_rounds_opens_in_a_second_once_it_was_checked() {
    let times = measured(64, 1_000);
    println!("the second opening took {:.2} s", times[1].1);
    assert!(times[1].1 < times[0].1 / 4.0, "{times:?}");
}
