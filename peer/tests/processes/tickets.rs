//! A ticket, an empty folder, one command; and a host that is killed and started again without an option.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::daemon::{Peer, text};

/// From the command to membership, beyond the round that lets the newcomer in.
const JOINS_WITHIN: Duration = Duration::from_secs(30);
/// After a restart both know each other again within this time, and the run goes on.
const MEETS_AGAIN_WITHIN: Duration = Duration::from_secs(60);

/// A peer whose daemon was started by a command of its own; stopped however the test ends.
struct Guest(Peer);

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.try_ask(&["down"]);
    }
}

fn run_file(rounds: u32) -> String {
    format!(
        r#"
name = "valley"
base = "brook"
datanet = "birds"
rounds = {rounds}
min_members = 2
min_contributions = 2
[adapter]
rank = 2
alpha = 4
[training]
local_steps = 2
batch = 1
context = 32
[deadlines]
grace_ms = 1_000
propose_ms = 3_000
vote_ms = 1_500
"#
    )
}

/// A host whose run waits for somebody, and the run.
fn host(dir: &Path, rounds: u32) -> (Peer, String) {
    let mut host = Peer::init(dir, "host");
    let own = text(&dir.join("host.txt"), "heron");
    host.ask(&["datanet", "add", "birds", &own]);
    host.up_without_options();
    let file = dir.join("run.toml");
    fs::write(&file, run_file(rounds)).unwrap();
    let file = file.to_str().unwrap();
    let neutral = text(&dir.join("neutral.txt"), "neighbour");
    let created = host.ask(&["run", "create", file, "--join", "--holdout", &neutral]);
    let run = created["run"].as_str().unwrap().to_owned();
    (host, run)
}

fn ticket(host: &Peer, run: &str) -> String {
    let invited = host.ask(&["invite", run]);
    let ticket = invited["ticket"].as_str().unwrap().to_owned();
    assert!(ticket.len() <= 400, "{} characters", ticket.len());
    ticket
}

fn brief(peer: &Peer, run: &str) -> Option<Value> {
    let status = peer.try_ask(&["status"])?;
    let runs = status["runs"].as_array()?.clone();
    runs.into_iter().find(|brief| brief["run"] == run)
}

fn is_connected(peer: &Peer) -> bool {
    let status = peer.try_ask(&["status"]);
    status.is_some_and(|status| {
        status["connected"]
            .as_array()
            .is_some_and(|all| all.len() == 1)
    })
}

#[test]
fn one_command_leads_from_an_empty_folder_into_a_run_and_a_killed_host_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut host, run) = host(dir.path(), 20);
    let ticket = ticket(&host, &run);
    let mistyped = Peer::unmade(dir.path(), "mistyped");
    let told = mistyped.refused(&["join", &ticket, "--data", "no-such.txt", "--yes"], &[]);
    assert!(
        told.contains("no-such.txt") && !mistyped.home.exists(),
        "{told}"
    );
    let guest = Guest(Peer::unmade(dir.path(), "guest"));
    let own = text(&dir.path().join("guest.txt"), "swift");
    let began = Instant::now();
    let joined = guest
        .0
        .ask(&["join", &ticket, "--data", &own, "--name", "guest", "--yes"]);
    assert_eq!(joined["run"], run.as_str());
    guest.0.until_within("it is a member", JOINS_WITHIN, || {
        brief(&guest.0, &run).is_some_and(|brief| brief["members"] == 2)
    });
    println!(
        "from the command to membership: {:.1} s",
        began.elapsed().as_secs_f64()
    );

    guest.0.until("three rounds are certified", || {
        guest.0.certified(&run).is_some_and(|round| round >= 3)
    });
    host.kill();
    let waits_for_host = || {
        let brief = brief(&guest.0, &run)?;
        let awaited = brief["awaited"].as_array()?.first()?.clone();
        Some(
            awaited["name"] == "host"
                && awaited["connected"] == false
                && awaited["seen_s"].is_u64(),
        )
    };
    guest.0.until("it says for whom it waits", || {
        waits_for_host() == Some(true)
    });
    host.up_without_options();
    host.until_within("they know each other again", MEETS_AGAIN_WITHIN, || {
        is_connected(&host) && is_connected(&guest.0)
    });
    guest
        .0
        .until("the run is finished", || guest.0.finished(&run));
    host.until("the run is finished", || host.finished(&run));
    host.verify("after the restart");
    guest.0.verify("after the restart");
}

#[test]
fn a_ticket_to_a_run_that_is_over_gives_its_adapter_and_no_membership() {
    let dir = tempfile::tempdir().unwrap();
    let (host, run) = host(dir.path(), 1);
    let ticket = ticket(&host, &run);
    let guest = Guest(Peer::unmade(dir.path(), "guest"));
    let own = text(&dir.path().join("guest.txt"), "swift");
    guest.0.ask(&["join", &ticket, "--data", &own, "--yes"]);
    host.until("the run is finished", || host.finished(&run));

    let late = Guest(Peer::unmade(dir.path(), "late"));
    let told = late
        .0
        .refused(&["join", &ticket, "--data", &own, "--yes"], &[]);
    assert!(
        told.contains("is over") && told.contains("--read-only"),
        "{told}"
    );
    let out = dir.path().join("adapter");
    late.0.ask(&[
        "join",
        &ticket,
        "--read-only",
        "--out",
        out.to_str().unwrap(),
    ]);
    assert!(out.join("adapter_model.safetensors").exists());
    let refused = host.refused(&["invite", &run], &[]);
    assert!(refused.contains("is over"), "{refused}");
}

#[test]
fn a_ticket_that_is_no_ticket_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let guest = Peer::unmade(dir.path(), "guest");
    for text in ["trib", "tribabc", "hello", ""] {
        let told = guest.refused(&["join", text, "--yes"], &[]);
        assert!(told.contains("ticket"), "{told}");
    }
    assert!(
        !dir.path().join("guest").exists(),
        "a home was made for nothing"
    );
}
