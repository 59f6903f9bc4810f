//! SIGKILL at random moments: what a daemon acknowledged before is there after.
//!
//! Acknowledged is what its home held when it was killed, what its own API had shown (certified rounds,
//! members), and whatever of its own log any other peer holds: nobody can have got that but from a
//! daemon that called it durable. The homes are read between kills, bytes against bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tributary_peer::NETWORK;
use tributary_peer::home::HomePaths;
use tributary_peer::identity::Identity;
use tributary_peer::store::LedgerReader;
use tributary_protocol::event::Record;
use tributary_protocol::hash::{Domain, Hasher, Stream};
use tributary_protocol::id::PeerId;
use tributary_protocol::log::SignedBlock;

use super::daemon::{Peer, Plan, federation, states};

/// Kills of the short test.
const SHORT: usize = 8;
/// Kills of the long one.
const LONG: usize = 200;

/// What one home holds that must never be missing again.
#[derive(Clone, Default)]
struct Ledger {
    blocks: BTreeSet<Vec<u8>>,
    certificates: BTreeSet<Vec<u8>>,
}

impl Ledger {
    /// Reads a stopped home.
    fn read(home: &Path) -> Self {
        let reader = LedgerReader::open(&HomePaths::new(home)).expect("a readable ledger");
        let mut ledger = Self::default();
        for record in reader.records() {
            match record {
                Record::Block(bytes) => {
                    ledger.blocks.insert(bytes.clone());
                }
                Record::Certificate { bytes, .. } => {
                    ledger.certificates.insert(bytes.clone());
                }
                _ => {}
            }
        }
        ledger
    }

    fn by(&self, author: PeerId) -> BTreeSet<Vec<u8>> {
        let of = |bytes: &&Vec<u8>| {
            let block = SignedBlock::decode(bytes, NETWORK).expect("a stored block");
            block.block().author == author
        };
        self.blocks.iter().filter(of).cloned().collect()
    }

    /// Entries of `self` that `later` lacks.
    fn lost(&self, later: &Self) -> usize {
        self.blocks.difference(&later.blocks).count()
            + self.certificates.difference(&later.certificates).count()
    }
}

/// Everything acknowledged so far, by home.
#[derive(Default)]
struct Acknowledged {
    held: BTreeMap<usize, Ledger>,
    /// Blocks of each peer that others hold.
    published: BTreeMap<usize, BTreeSet<Vec<u8>>>,
    /// Rounds and members that its API showed.
    rounds: BTreeMap<usize, BTreeMap<u64, String>>,
    members: BTreeMap<usize, BTreeSet<String>>,
}

impl Acknowledged {
    /// What a daemon shows before it is killed.
    fn saw(&mut self, peer: usize, view: &Value) {
        if view["history"].is_array() {
            self.rounds.entry(peer).or_default().extend(states(view));
            let names = view["roster"].as_array().into_iter().flatten();
            let names = names.filter_map(|member| member["peer"].as_str().map(str::to_owned));
            self.members.entry(peer).or_default().extend(names);
        }
    }

    /// Compares a stopped home with all that was acknowledged of it, and notes what it holds.
    fn check(&mut self, peer: usize, home: &Path, ids: &[PeerId]) -> usize {
        let now = Ledger::read(home);
        let mut lost = self.held.get(&peer).map_or(0, |before| before.lost(&now));
        if let Some(published) = self.published.get(&peer) {
            lost += published.difference(&now.blocks).count();
        }
        for (other, id) in ids.iter().enumerate().filter(|(other, _)| *other != peer) {
            self.published.entry(other).or_default().extend(now.by(*id));
        }
        self.held.insert(peer, now);
        lost
    }

    /// Compares what a daemon shows after its restart with what it showed before.
    fn compare(&self, peer: usize, view: &Value) -> usize {
        let now: BTreeMap<u64, String> = states(view).into_iter().collect();
        let before = self.rounds.get(&peer).into_iter().flatten();
        let rounds = before
            .filter(|(round, state)| now.get(round) != Some(state))
            .count();
        let roster = view["roster"].to_string();
        let members = self.members.get(&peer).into_iter().flatten();
        rounds + members.filter(|member| !roster.contains(*member)).count()
    }

    fn entries(&self) -> usize {
        let held = self.held.values();
        held.map(|l| l.blocks.len() + l.certificates.len()).sum()
    }
}

/// Draws who is killed and when, the same each time.
struct Dice(Stream);

impl Dice {
    fn new(kills: usize) -> Self {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"kills").update(&kills.to_le_bytes());
        Self(hasher.finalize_xof())
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }
}

fn id(peer: &Peer) -> PeerId {
    let key = HomePaths::new(&peer.home).key();
    Identity::read_file(&key).expect("a key").peer_id()
}

fn ledger(peer: &Peer) -> PathBuf {
    HomePaths::new(&peer.home).ledger()
}

fn storm(kills: usize, rounds: u32) {
    const PEERS: usize = 5;
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        rounds,
        members: PEERS,
        local_steps: 2,
        round_ms: 6_000,
        grace_ms: 500,
    };
    let started = Instant::now();
    let (mut peers, run, address) = federation(dir.path(), &plan);
    let ids: Vec<PeerId> = peers.iter().map(id).collect();
    let mut acknowledged = Acknowledged::default();
    let mut dice = Dice::new(kills);
    let (mut lost, mut early, mut copied) = (0, 0, 0);
    let copy = dir.path().join("early.redb");
    for kill in 0..kills {
        std::thread::sleep(Duration::from_millis(dice.below(700)));
        let at = dice.below(PEERS as u64) as usize;
        if let Some(view) = peers[at].try_ask(&["run", "show", &run]) {
            assert!(
                view["finished"] != true,
                "over after {kill} kills of {kills}: too few rounds"
            );
            acknowledged.saw(at, &view);
        }
        // From the answer above to the kill: anything may be under way.
        std::thread::sleep(Duration::from_millis(dice.below(100)));
        early += u64::from(peers[at].certified(&run).is_none());
        peers[at].kill();
        lost += acknowledged.check(at, &peers[at].home, &ids);
        if kill == kills / 4 {
            copied = at;
            std::fs::copy(ledger(&peers[at]), &copy).unwrap();
        }
        let next = peers[(at + 1) % PEERS].address();
        peers[at].start(&[&address, &next]);
        if kill % 10 == 9 || kill + 1 == kills {
            lost += acknowledged.compare(at, &peers[at].certified_view(&run));
        }
    }
    let killed_s = started.elapsed().as_secs();
    let views: Vec<Value> = peers.iter().map(|peer| peer.outcome(&run)).collect();
    for (at, view) in views.iter().enumerate() {
        assert_eq!(states(view), states(&views[0]), "peer {at}");
        lost += acknowledged.compare(at, view);
        peers[at].verify("after the kills");
    }
    for (at, peer) in peers.iter_mut().enumerate() {
        peer.kill();
        lost += acknowledged.check(at, &peer.home, &ids);
    }
    println!(
        "kills: {kills} of {PEERS} daemons in {killed_s} s, {early} before their first certificate was \
         shown; {rounds} rounds finished by all after {} s with one state, {} entries acknowledged, \
         {lost} lost",
        started.elapsed().as_secs(),
        acknowledged.entries()
    );
    assert_eq!(lost, 0, "acknowledged entries are missing");
    // A home whose database was put back to an earlier hour is found out.
    std::fs::copy(&copy, ledger(&peers[copied])).unwrap();
    let missing = acknowledged.check(copied, &peers[copied].home, &ids);
    println!("kills: a ledger put back to the first quarter of the storm lacks {missing} entries");
    assert!(missing > 0, "the check cannot fail");
}

#[test]
fn a_few_kills_lose_nothing_that_was_acknowledged() {
    storm(SHORT, 6);
}

#[test]
#[ignore = "some minutes; docs/numbers/processes.md says how to run it"]
fn two_hundred_kills_lose_nothing_that_was_acknowledged() {
    storm(LONG, 80);
}
