//! What a neighbour that floods can do to a daemon: cost it a little, and lose its place.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tributary_peer::home::HomePaths;
use tributary_peer::identity::Identity;
use tributary_protocol::id::RunId;

use super::attacker::{Flood, Outcome, Target, attack};
use super::daemon::{Peer, Plan, federation};

/// Messages a second of an attacker.
const PER_SECOND: u64 = 10_000;
/// Within this a neighbour that floods has lost its connection.
const CUT_OFF: Duration = Duration::from_secs(10);
/// Messages that the most talkative honest peer could send meanwhile: its burst, twelve seconds at its
/// rate, and what is forgiven.
const MAX_HONEST: u64 = 5200;
/// Messages that are faults and may get out unpunished: what was under way before the first was read.
const MAX_FAULTS: u64 = 500;
/// What any flood may add to a daemon's memory.
pub(super) const MAX_GROWN: u64 = 64 << 20;
/// How much longer rounds may take under attack.
pub(super) const MAX_SLOWER: u64 = 2;

const FLOODS: [Flood; 9] = [
    Flood::Junk,
    Flood::Blocks,
    Flood::Oversize,
    Flood::Hellos,
    Flood::Gossip,
    Flood::Forgeries,
    Flood::FreshKeys,
    Flood::Churn,
    Flood::Blobs,
];

/// The attacker of a kind has an address of its own; 127.0.0.1 is the honest peers'.
fn target(peer: &Peer, run: &str, at: usize) -> Target {
    target_from(peer, run, IpAddr::from([127, 0, 1, at as u8 + 1]))
}

/// A daemon, as seen by an attacker at an address.
pub(super) fn target_from(peer: &Peer, run: &str, from: IpAddr) -> Target {
    let key = HomePaths::new(&peer.home).key();
    Target {
        address: format!("/ip4/127.0.0.1/tcp/{}", peer.port())
            .parse()
            .expect("a multiaddress"),
        peer: Identity::read_file(&key).expect("a key").peer_id(),
        run: run.parse::<RunId>().expect("a run"),
        from,
        per_second: PER_SECOND,
    }
}

/// Highest resident memory of a daemon while `during` runs.
fn watch<T: Send>(peer: &Peer, during: impl FnOnce() -> T + Send) -> (u64, T) {
    std::thread::scope(|scope| {
        let work = scope.spawn(during);
        let mut highest = peer.resident_bytes();
        while !work.is_finished() {
            std::thread::sleep(Duration::from_millis(50));
            highest = highest.max(peer.resident_bytes());
        }
        (highest, work.join().expect("the attackers do not panic"))
    })
}

/// All at once, each from its own address, for so long.
fn flood(targets: Vec<(Target, Flood)>, lasting: Duration) -> Vec<Outcome> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads");
    let until = Instant::now() + lasting;
    runtime.block_on(async {
        let attacks: Vec<_> = targets
            .into_iter()
            .map(|(target, kind)| tokio::spawn(async move { attack(&target, kind, until).await }))
            .collect();
        let outcomes = futures::future::join_all(attacks).await;
        let whole = |outcome: Result<Outcome, _>| outcome.expect("an attacker does not panic");
        outcomes.into_iter().map(whole).collect()
    })
}

fn report(kind: Flood, lasting: Duration, outcome: &Outcome) {
    let cut = outcome
        .cut_off
        .map_or("never".into(), |t| format!("after {} ms", t.as_millis()));
    println!(
        "flood {kind:?}: {} messages got out of 10000 a second for {:.1} s, cut off {cut}, refused {} times \
         afterwards, back for {} ms at most",
        outcome.sent,
        lasting.as_secs_f64(),
        outcome.refused,
        outcome.back.as_millis()
    );
}

/// An attacker has lost its place, and does not get it back for long while it tries. One that was heard
/// no more than an honest peer, on a machine with other things to do, has not flooded and may stay.
fn assert_cut_off(kind: Flood, outcome: &Outcome) {
    match outcome.cut_off {
        Some(after) => {
            assert!(after < CUT_OFF, "{kind:?}: {outcome:?}");
            assert!(outcome.refused > 0, "{kind:?}: {outcome:?}");
            assert!(outcome.back < CUT_OFF, "{kind:?}: {outcome:?}");
        }
        // It has no place to lose: its connections are closed, and its address is refused.
        None if kind == Flood::Churn => {}
        // No honest peer says these at all, however slowly.
        None if matches!(kind, Flood::Junk | Flood::Oversize | Flood::FreshKeys) => {
            assert!(outcome.sent < MAX_FAULTS, "{kind:?}: {outcome:?}");
        }
        None => assert!(outcome.sent < MAX_HONEST, "{kind:?}: {outcome:?}"),
    }
}

#[test]
fn every_flood_is_cut_off_and_costs_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        rounds: 1,
        members: 2,
        local_steps: 1,
        round_ms: 30_000,
        grace_ms: 1_000,
    };
    let (peers, run, _) = federation(dir.path(), &plan);
    peers[0].outcome(&run);
    let before = peers[0].resident_bytes();
    let lasting = Duration::from_secs(12);
    let targets = (FLOODS.into_iter().enumerate())
        .map(|(at, kind)| (target(&peers[0], &run, at), kind))
        .collect();
    let (highest, outcomes) = watch(&peers[0], || flood(targets, lasting));
    for (kind, outcome) in FLOODS.into_iter().zip(&outcomes) {
        report(kind, lasting, outcome);
    }
    let grown = highest.saturating_sub(before);
    for line in peers[0].log().lines().filter(|line| line.contains("WARN")) {
        println!("{line}");
    }
    println!("floods at once: {} MiB more memory", grown >> 20);
    for (kind, outcome) in FLOODS.into_iter().zip(&outcomes) {
        assert_cut_off(kind, outcome);
    }
    assert!(grown <= MAX_GROWN, "{grown} bytes more");
    let status = peers[0].ask(&["status"]);
    let connected = status["connected"].as_array().map(Vec::len);
    assert_eq!(
        connected,
        Some(1),
        "the honest neighbour is still there: {status}"
    );
    peers[0].verify("after the floods");
}

/// A stretch of a run.
pub(super) struct Stretch {
    lasting: Duration,
    /// Milliseconds of each round certified in it, sorted.
    rounds: Vec<u64>,
    pub(super) memory: u64,
}

impl Stretch {
    /// Watches a daemon while `during` runs.
    pub(super) fn of<T: Send>(peer: &Peer, during: impl FnOnce() -> T + Send) -> (Self, T) {
        let (before, started) = (peer.rounds().len(), Instant::now());
        let (memory, outcome) = watch(peer, during);
        let lasting = started.elapsed();
        let mut rounds: Vec<u64> = (peer.rounds().iter().skip(before).map(|(_, ms)| *ms)).collect();
        rounds.sort_unstable();
        assert!(!rounds.is_empty(), "no round was certified");
        let stretch = Self {
            lasting,
            rounds,
            memory,
        };
        (stretch, outcome)
    }

    /// Of all rounds together, so that one that never ends counts as well.
    pub(super) fn round_ms(&self) -> u64 {
        self.lasting.as_millis() as u64 / self.rounds.len() as u64
    }

    pub(super) fn line(&self) -> String {
        format!(
            "{} rounds in {:.0} s, one every {} ms ({} ms at the median, {} ms at most), {} MiB of memory \
             at most",
            self.rounds.len(),
            self.lasting.as_secs_f64(),
            self.round_ms(),
            self.rounds[self.rounds.len() / 2],
            self.rounds[self.rounds.len() - 1],
            self.memory >> 20
        )
    }
}

#[test]
#[ignore = "two minutes; docs/numbers/processes.md says how to run it"]
fn a_minute_of_floods_slows_rounds_to_less_than_twice_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        rounds: 5000,
        members: 4,
        local_steps: 4,
        round_ms: 30_000,
        grace_ms: 5_000,
    };
    let (peers, run, _) = federation(dir.path(), &plan);
    let victim = &peers[0];
    victim.until("round 3 is certified", || victim.certified(&run) >= Some(3));
    let peace = Duration::from_secs(30);
    let (quiet, ()) = Stretch::of(victim, || std::thread::sleep(peace));
    // One attacker after the other, each as fast as it can for its part of the minute.
    let lasting = Duration::from_secs(60) / FLOODS.len() as u32;
    let (attacked, outcomes) = Stretch::of(victim, || {
        let each = FLOODS.into_iter().enumerate();
        each.map(|(at, kind)| flood(vec![(target(victim, &run, at), kind)], lasting)[0])
            .collect::<Vec<_>>()
    });
    for (kind, outcome) in FLOODS.into_iter().zip(&outcomes) {
        report(kind, lasting, outcome);
    }
    println!(
        "minute of floods: in peace {}; under attack {}",
        quiet.line(),
        attacked.line()
    );
    for (kind, outcome) in FLOODS.into_iter().zip(&outcomes) {
        assert_cut_off(kind, outcome);
    }
    let grown = attacked.memory.saturating_sub(quiet.memory);
    assert!(grown <= MAX_GROWN, "{grown} bytes more");
    assert!(attacked.round_ms() <= MAX_SLOWER * quiet.round_ms());
}
