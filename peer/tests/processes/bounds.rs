//! A run of somebody else's that asks for more than the owner gives, on real daemons.

use std::fs;
use std::path::Path;

use super::daemon::{Peer, text};

/// A run of one round that `members` begin, with an adapter beyond a MiB.
fn run_file(name: &str, members: u32) -> String {
    format!(
        r#"
name = "{name}"
base = "brook"
datanet = "birds"
rounds = 1
score_windows = 2
min_members = {members}
min_contributions = {members}
[adapter]
rank = 32
alpha = 32
[training]
local_steps = 1
batch = 1
context = 32
[deadlines]
round_ms = 30_000
grace_ms = 2_000
"#
    )
}

pub(super) fn open(dir: &Path, host: &Peer, name: &str, members: u32) -> String {
    let file = dir.join(format!("{name}.toml"));
    fs::write(&file, run_file(name, members)).unwrap();
    let neutral = text(&dir.join("neutral.txt"), "neighbour");
    let file = file.to_str().unwrap();
    let created = host.ask(&["run", "create", file, "--join", "--holdout", &neutral]);
    created["run"].as_str().unwrap().to_owned()
}

fn blobs(peer: &Peer) -> usize {
    fs::read_dir(peer.home.join("blobs")).map_or(0, Iterator::count)
}

fn says_what_and_how(said: &str) {
    for part in [
        "MiB for its adapter",
        "gives 1 MiB",
        "--max-adapter-mib",
        "TRIBUTARY_MAX_ADAPTER_MIB",
        "under [bounds] in the home's config.toml",
    ] {
        assert!(said.contains(part), "{part:?} is missing: {said}");
    }
}

#[test]
fn a_run_that_asks_for_more_than_its_reader_gives_is_refused_until_the_bound_is_raised() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Peer::init(dir.path(), "host");
    let mut guest = Peer::init(dir.path(), "guest");
    for peer in [&host, &guest] {
        let file = text(&dir.path().join(format!("{}.txt", peer.name)), &peer.name);
        peer.ask(&["datanet", "add", "birds", &file]);
    }
    host.up(None);
    let address = host.address();
    let alone = open(dir.path(), &host, "alone", 1);
    let together = open(dir.path(), &host, "together", 2);
    host.outcome(&alone);
    let folder = dir.path().join("adapter");
    let get = ["adapter", "get", &alone, folder.to_str().unwrap()];
    let get_there = [&get[..], &["--bootstrap", &address]].concat();

    let little = [("TRIBUTARY_MAX_ADAPTER_MIB", "1")];
    says_what_and_how(&guest.refused(&get_there, &little));
    let settings = guest.home.join("config.toml");
    let own = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, format!("{own}[bounds]\nmax_adapter_mib = 1\n")).unwrap();
    guest.up(Some(&address));
    says_what_and_how(&guest.refused(&["run", "join", &together], &[]));
    says_what_and_how(&guest.refused(&get_there, &[]));
    assert_eq!(blobs(&guest), 0, "nothing was fetched");
    assert!(!folder.exists());
    assert_eq!(host.certified(&together), None, "it waits for the guest");
    guest.kill();

    fs::write(&settings, format!("{own}[bounds]\nmax_adapter_mib = 8\n")).unwrap();
    guest.up(Some(&address));
    guest.ask(&["run", "join", &together]);
    assert_eq!(guest.ask(&get_there)["run"], alone.as_str());
    guest.outcome(&together);
    assert!(blobs(&guest) > 0);
}
