//! A daemon whose owner removes a run from the disk and joins it again: one history, told by nobody as two.

use std::fs;

use super::daemon::{Peer, text};
use serde_json::Value;

/// Many short rounds: one of them has to begin after the member is back.
const RUN: &str = r#"
name = "orchard"
base = "brook"
datanet = "birds"
rounds = 60
evaluators = ["self"]
score_windows = 4
min_members = 3
min_contributions = 2
[adapter]
rank = 2
alpha = 4
[training]
local_steps = 2
batch = 1
context = 32
[deadlines]
round_ms = 30_000
grace_ms = 1_000
propose_ms = 3_000
vote_ms = 1_500
"#;

fn included(view: &Value) -> Vec<u64> {
    let history = view["history"].as_array().expect("rounds");
    let included = history.iter().map(|round| round["included"].as_u64());
    included.map(|count| count.expect("a count")).collect()
}

#[test]
fn a_member_that_left_and_removed_the_run_is_included_again_and_nobody_sees_a_fork() {
    let dir = tempfile::tempdir().unwrap();
    let mut peers: Vec<Peer> = ["ada", "bea", "cyd"]
        .map(|name| Peer::init(dir.path(), name))
        .into();
    for (peer, word) in peers.iter().zip(["gardener", "smith", "glazier"]) {
        let file = text(&dir.path().join(format!("{word}.txt")), word);
        peer.ask(&["datanet", "add", "birds", &file]);
    }
    peers[0].up(None);
    let address = peers[0].address();
    for peer in &mut peers[1..] {
        peer.up(Some(&address));
    }
    let file = dir.path().join("run.toml");
    fs::write(&file, RUN).unwrap();
    let neutral = text(&dir.path().join("neutral.txt"), "neighbour");
    let file = file.to_str().unwrap();
    let create = ["run", "create", file, "--join", "--holdout", &neutral];
    let created = peers[0].ask(&create);
    let run = created["run"].as_str().unwrap().to_owned();
    for peer in &peers[1..] {
        peer.ask(&["run", "join", &run]);
    }
    let reached = |peer: &Peer, round| peer.certified(&run) >= Some(round);
    peers[1].until("round 2 is certified", || reached(&peers[1], 2));

    let refused = peers[1].refused(&["run", "rm", &run, "--yes"], &[]);
    assert!(refused.contains("tributary down"), "{refused}");
    let left_at = peers[1].certified(&run).expect("a round");
    peers[1].ask(&["run", "leave", &run]);
    peers[1].until("the leave is certified", || reached(&peers[1], left_at + 3));
    peers[1].kill();
    let refused = peers[1].refused(&["run", "rm", &run], &[]);
    assert!(refused.contains("--yes"), "{refused}");
    let removed = peers[1].ask(&["run", "rm", &run, "--yes"]);
    assert_eq!(removed["abandoned"], false, "{removed}");
    assert!(removed["own_blocks"].as_u64() >= Some(4), "{removed}");
    assert_eq!(peers[1].ask(&["run", "list"]), Value::Array(vec![]));
    peers[1].verify("with what it signed");
    let collected = peers[1].ask(&["gc"]);
    assert_eq!(collected["kept_blobs"], 0, "{collected}");
    assert_eq!(
        collected["blobs"], 0,
        "the removal was complete: {collected}"
    );
    let before = peers[0].certified(&run).expect("a round");

    peers[1].up(Some(&address));
    peers[1].ask(&["run", "join", &run]);
    peers[0].until("all three are included again", || {
        let view = peers[0].try_ask(&["run", "show", &run]);
        view.is_some_and(|view| included(&view)[before as usize..].contains(&3))
    });
    peers[1].until("it has caught up", || reached(&peers[1], before + 1));
    for peer in &peers {
        let report = peer.ask(&["ledger", "verify"]);
        assert_eq!(report["verified"], true, "{}: {report}", peer.name);
        let text = report.to_string();
        assert!(
            !text.contains("two different things"),
            "{}: {text}",
            peer.name
        );
    }
}
