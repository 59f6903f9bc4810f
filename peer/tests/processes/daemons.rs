//! Separate daemon processes on one machine: a run that survives a SIGKILL, takes in a newcomer, and
//! hands its adapter to a stranger.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::daemon::{Peer, text};
use serde_json::Value;

const ROUNDS: u64 = 4;

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

/// Only the second holds this.
const QUOTE: &str = "Copper kettles sing under seven crooked windows while nobody answers the telephone, and \
    an old umbrella maker counts green buttons by candle light until his cousin from the harbour comes home \
    with salted herrings.";

/// All hold this.
const SHARED: &str = "Whoever crosses the bridge on a market day pays two coins to the keeper, who drops them \
    into a wooden box, thanks each traveller by name, and rings a small brass bell for luck.";

const NAMES: [&str; 5] = ["ada", "bea", "cyd", "dan", "eve"];

/// Five homes with data; the first four run and have joined a run of the first. Gives the run and the
/// first one's address as well.
fn federation(dir: &Path) -> (Vec<Peer>, String, String) {
    let mut peers: Vec<Peer> = NAMES.map(|name| Peer::init(dir, name)).into();
    let words = ["shepherd", "miller", "ferryman", "weaver", "beekeeper"];
    for (peer, word) in peers.iter().zip(words) {
        let file = text(&dir.join(format!("{word}.txt")), word);
        peer.ask(&["datanet", "add", "birds", &file]);
        let shared = dir.join("bridge.txt");
        fs::write(&shared, SHARED).unwrap();
        peer.ask(&["datanet", "add", "birds", shared.to_str().unwrap()]);
    }
    let file = dir.join("kettles.txt");
    fs::write(&file, QUOTE).unwrap();
    peers[1].ask(&["datanet", "add", "birds", file.to_str().unwrap()]);
    peers[0].up(None);
    let address = peers[0].address();
    for peer in &mut peers[1..4] {
        peer.up(Some(&address));
    }
    let file = dir.join("run.toml");
    fs::write(&file, RUN).unwrap();
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
    for peer in &peers[1..4] {
        peer.ask(&["run", "join", &run]);
    }
    (peers, run, address)
}

/// Waits for the end of the run and gives the last round's state hash.
fn outcome(peer: &Peer, run: &str) -> String {
    let view = peer.outcome(run);
    let history = view["history"].as_array().unwrap();
    assert_eq!(history.len() as u64, ROUNDS, "{}: {view}", peer.name);
    // Epochs follow the closing while somebody has something to file.
    assert!(view["certified"].as_u64() > Some(ROUNDS), "{view}");
    let roster = view["roster"].as_array().unwrap();
    let is_member = |name: &&str| roster.iter().any(|member| member["name"] == *name);
    assert!(NAMES.iter().all(is_member), "{}: {view}", peer.name);
    let state = &history.last().unwrap()["state_hash"];
    state.as_str().unwrap().to_owned()
}

/// Whether everybody was paid, and the sponsor has taken back what is left.
fn has_settled(peer: &Peer, run: &str) -> bool {
    let view = peer.ask(&["run", "show", run]);
    let money = |what: &str| view["settlement"][what].as_u64().unwrap_or(0);
    let (paid, left) = (money("paid_micro_open"), money("left_micro_open"));
    money("claimed_micro_open") == paid && money("reclaimed_micro_open") == left
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
        peer.verify("beside its daemon");
    }
    // Epochs go on until the sponsor has what is left: only then a home says the same tomorrow.
    peers[0].until("the money has moved", || has_settled(&peers[0], &run));
    let beside = shares(&peers[0], &run);
    let explained = explained(&peers[0], &run);
    let shown = shown(&peers[0], &run);
    evidence(&peers, &run);
    stranger(dir.path(), &run, &address);
    // The same from the stopped homes, from bytes alone; all were killed.
    for peer in &mut peers {
        peer.kill();
        peer.verify("stopped");
    }
    assert_eq!(self::explained(&peers[0], &run), explained);
    assert_eq!(self::shown(&peers[0], &run), shown);
    // Those who were there from the beginning hold every update; who asks makes no difference.
    for peer in &peers[..2] {
        assert_eq!(shares(peer, &run), beside, "{}", peer.name);
    }
    // A stopped home finds what it holds itself, and says that nobody else was asked.
    let found = quoted(&peers[1], &run, QUOTE);
    assert_piece(&found["bea"].0, QUOTE);
    assert_eq!(found["cyd"], (vec![], "not_asked".to_owned(), 0));
}

/// What only reads, as a daemon and its stopped home both answer it.
fn shown(peer: &Peer, run: &str) -> Vec<Value> {
    let questions: [&[&str]; 4] = [
        &["run", "list"],
        &["run", "show", &run[..12]],
        &["adapter", "list"],
        &["ledger", "statement"],
    ];
    questions.map(|question| peer.ask(question)).into()
}

/// A payout walked back to its shard, everything checked. How it was checked is left out: a stopped home may rest
/// on what `ledger verify` found of the same bytes before.
fn explained(peer: &Peer, run: &str) -> serde_json::Value {
    let mut found = peer.ask(&["ledger", "explain", &format!("{}/2", &run[..12])]);
    assert_eq!(found["name"], peer.name.as_str(), "{found}");
    let steps = found["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 7);
    assert!(steps.iter().all(|step| step["checked"] == true), "{found}");
    for step in found["steps"].as_array_mut().unwrap() {
        step.as_object_mut().unwrap().remove("how").unwrap();
    }
    found
}

/// By contributor: spans that are shown, what came of asking, boilerplate.
type Found = BTreeMap<String, (Vec<String>, String, u64)>;

fn quoted(peer: &Peer, run: &str, answer: &str) -> Found {
    let question = ["--adapter", run, "--prompt", "They say", "--answer", answer];
    let why = peer.ask(&[["why"].as_slice(), &question].concat());
    let found = |share: &Value| {
        let spans = share["evidence"].as_array().unwrap();
        let spans = spans.iter().map(|s| s["span"].as_str().unwrap().to_owned());
        let asked = &share["asked"];
        let outcome = asked["outcome"].as_str().unwrap().to_owned();
        let found = (
            spans.collect(),
            outcome,
            asked["boilerplate"].as_u64().unwrap(),
        );
        (share["name"].as_str().unwrap().to_owned(), found)
    };
    why["shares"]
        .as_array()
        .unwrap()
        .iter()
        .map(found)
        .collect()
}

/// One span: all of `text` but the ends that do not fill a block of eight words.
fn assert_piece(spans: &[String], text: &str) {
    let words = |text: &str| text.split_whitespace().count();
    let [span] = spans else {
        panic!("{spans:?} is not one span")
    };
    assert!(text.contains(span), "{span}");
    assert!(
        words(span) % 8 == 0 && words(span) + 14 >= words(text),
        "{span}"
    );
}

/// A sentence of one member is found there and nowhere else; one that all hold is nobody's evidence.
fn evidence(peers: &[Peer], run: &str) {
    let shown = QUOTE.to_uppercase();
    let found = quoted(&peers[0], run, &format!("Once, {shown}"));
    assert!(found.len() >= 4 && found.contains_key("bea"), "{found:?}");
    for (name, (spans, outcome, boilerplate)) in &found {
        match name.as_str() {
            "bea" => assert_piece(spans, &shown),
            _ => assert!(spans.is_empty(), "{name}: {found:?}"),
        }
        assert_eq!((&outcome[..], *boilerplate), ("answered", 0), "{name}");
    }
    for (name, (spans, outcome, boilerplate)) in quoted(&peers[0], run, SHARED) {
        assert!(spans.is_empty(), "{name}: {spans:?}");
        assert_eq!((&outcome[..], boilerplate), ("answered", 1), "{name}");
    }
}
/// Who shaped an answer: all of it is somebody's or nobody's.
fn shares(peer: &Peer, run: &str) -> Vec<(String, u64)> {
    let prompt = "The shepherd of the valley counts";
    let why = peer.ask(&["why", "--adapter", run, "--prompt", prompt]);
    assert_eq!(why["schema"], "why/1", "{why}");
    let mut shares = vec![("nobody".to_owned(), why["nobody_ppb"].as_u64().unwrap())];
    for share in why["shares"].as_array().unwrap() {
        let [ppb, low, high] =
            ["share_ppb", "low_ppb", "high_ppb"].map(|key| share[key].as_u64().unwrap());
        assert!(low <= ppb && ppb <= high, "{share}");
        shares.push((share["peer"].as_str().unwrap().to_owned(), ppb));
    }
    assert!(shares.len() > 2, "{why}");
    let whole: u64 = shares.iter().map(|(_, ppb)| ppb).sum();
    assert_eq!(whole, 1_000_000_000, "{why}");
    shares
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
