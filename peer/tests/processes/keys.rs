//! One key in two places: a copy of a home that runs as well, and a key that was restored without its home.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::daemon::{Peer, Plan, federation, text};

/// A host and a second member whose run goes on for as long as a test takes.
fn endless(dir: &Path) -> (Vec<Peer>, String, String) {
    let plan = Plan {
        rounds: 500,
        members: 2,
        local_steps: 2,
        round_ms: 20_000,
        grace_ms: 1_000,
    };
    let (peers, run, address) = federation(dir, &plan);
    peers[1].until("a round is certified", || {
        peers[1].certified(&run) >= Some(1)
    });
    (peers, run, address)
}

fn warnings(peer: &Peer) -> String {
    let status = peer.try_ask(&["status"]);
    status.map_or_else(String::new, |status| status["warnings"].to_string())
}

#[test]
fn the_owner_of_a_copied_home_hears_that_its_own_key_is_used_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (mut peers, _, address) = endless(dir.path());
    let mut amy = peers.pop().unwrap();
    amy.kill();
    let mut copy = Peer::init(dir.path(), "copy");
    fs::remove_dir_all(&copy.home).unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .args([&amy.home, &copy.home])
        .status();
    assert!(copied.unwrap().success());
    let _ = fs::remove_file(copy.home.join("control.json"));
    let _ = fs::remove_file(copy.home.join("daemon.log"));
    copy.up(Some(&address));
    amy.up(Some(&address));
    let told = |peer: &Peer| warnings(peer).contains("copy of this home");
    amy.until("one of the two is told", || told(&amy) || told(&copy));
    let log = [amy.log(), copy.log()].concat();
    assert!(log.contains("this peer's own key"), "{log}");
    assert!(
        !warnings(&peers[0]).contains("own key"),
        "it is not about the host"
    );
}

#[test]
fn a_key_that_was_restored_alone_does_not_join_its_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut peers, run, address) = endless(dir.path());
    let mut amy = peers.pop().unwrap();
    amy.kill();
    let key = fs::read(amy.home.join("key")).unwrap();
    let mut again = Peer::init(dir.path(), "again");
    fs::write(again.home.join("key"), key).unwrap();
    let file = text(&dir.path().join("again.txt"), "peer01");
    again.ask(&["datanet", "add", "birds", &file]);
    again.up(Some(&address));
    // Following the run is what makes the daemon hear of its own past.
    let folder = dir.path().join("adapter");
    let get = [
        "adapter",
        "get",
        &run,
        folder.to_str().unwrap(),
        "--timeout-s",
        "2",
    ];
    again.refused(&get, &[]);
    again.until("the run is followed", || again.certified(&run) >= Some(1));
    let refused = again.refused(&["run", "join", &run], &[]);
    assert!(
        refused.contains("knows nothing of it") && refused.contains("backup"),
        "{refused}"
    );
    assert!(
        !warnings(&again).contains("own key"),
        "it said nothing twice"
    );
}
