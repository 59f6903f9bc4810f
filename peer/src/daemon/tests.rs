//! Whole daemons on loopback, with a learner that costs nothing.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "one span, not the numbers in it"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use tributary_attribution::lexical::Shard;
use tributary_protocol::entry::{Join, Role};
use tributary_protocol::fingerprint::{Answer, Declined, Question, Secret, words};
use tributary_protocol::hash;
use tributary_protocol::id::{MerkleRoot, Round, StateHash};
use tributary_protocol::manifest::{Aggregation, Manifest, UpdateCodec};
use tributary_protocol::node::Resources;
use tributary_protocol::test_utils;

use super::*;
use crate::evidence::{Commitment, Inquiry, Reply};
use crate::identity::Identity;
use crate::shard::Committed;
use crate::store::LedgerReader;
use crate::work::quadratic::Quadratic;

const LIMIT: Duration = Duration::from_secs(60);
const ROUNDS: u32 = 3;

fn manifest(creator: PeerId, evaluator: PeerId) -> Manifest {
    let mut manifest = test_utils::net::manifest(creator, vec![evaluator], 4, ROUNDS);
    manifest.model.adapter = test_utils::net::shape(2, &["m"], (64, 64));
    manifest.updates.codec = UpdateCodec::DenseF32;
    manifest.updates.aggregation = Aggregation::Mean;
    manifest.plan.deadlines.round_ms = 20_000;
    manifest.plan.deadlines.grace_ms = 1_000;
    manifest.plan.deadlines.propose_ms = 1_500;
    manifest.plan.deadlines.vote_ms = 800;
    manifest
}

fn join(n: usize, role: Role) -> Join {
    Join {
        name: format!("peer-{n}"),
        role,
        root: MerkleRoot(hash::blob(&[n as u8])),
        tokens: 1000,
        fingerprints: None,
        beacon: hash::Digest::default(),
        sketch: None,
        bind: None,
    }
}

async fn start(root: &Path, n: usize, bootstrap: Vec<Address>, slots: &Slots) -> Daemon {
    start_with(root, n, bootstrap, slots, true).await
}

async fn start_with(
    root: &Path,
    n: usize,
    bootstrap: Vec<Address>,
    slots: &Slots,
    evidence: bool,
) -> Daemon {
    let identity = Identity::from_seed([n as u8 + 1; 32]);
    Daemon::start(DaemonConfig {
        home: Arc::new(Home::open_or_create(root.join(n.to_string()), &identity).unwrap()),
        network: NetworkId(9),
        listen: "127.0.0.1:0".parse().unwrap(),
        reach: Reach::Loopback,
        known: net::Known::default(),
        relay: None,
        bootstrap,
        learner: Arc::new(Quadratic::new(n as f32)),
        slots: slots.clone(),
        archive: true,
        resources: Resources::default(),
        evidence,
        chain: crate::settings::ChainAccess::default(),
        still_clock: None,
    })
    .await
    .unwrap()
}

async fn head(daemon: &Daemon, run: RunId) -> Option<(Round, StateHash, bool)> {
    let look = move |node: &Node| {
        let run = node.run(&run)?;
        let head = run.head()?;
        Some((head.round, head.hash, run.is_finished()))
    };
    daemon.inspect(look).await.unwrap()
}

pub(crate) async fn finished(daemon: &Daemon, run: RunId) -> StateHash {
    let start = Instant::now();
    loop {
        match head(daemon, run).await {
            Some((_, state, true)) => return state,
            other => assert!(start.elapsed() < LIMIT, "not finished: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Four daemons that know the first one's address, joined in a run that the first creates.
pub(crate) async fn federation(root: &Path, slots: &Slots) -> (Vec<Daemon>, RunId) {
    let mut daemons = vec![start(root, 0, Vec::new(), slots).await];
    let known = daemons[0].addresses();
    for n in 1..4 {
        daemons.push(start(root, n, known.clone(), slots).await);
    }
    let manifest = manifest(daemons[0].peer_id(), daemons[3].peer_id());
    let run = manifest.run_id();
    let create = Command::Create(Box::new(manifest));
    daemons[0].command(create).await.unwrap();
    for (n, daemon) in daemons.iter().enumerate() {
        let role = match n {
            3 => Role::Evaluator,
            _ => Role::Contributor,
        };
        let join = Some(join(n, role).into());
        daemon.command(Command::Follow { run, join }).await.unwrap();
    }
    (daemons, run)
}

/// A peer that took no part finds the run through the addresses and gets `state`.
async fn latecomer(
    root: &Path,
    known: Vec<Address>,
    slots: &Slots,
    (run, state): (RunId, StateHash),
) -> Daemon {
    let late = start(root, 9, known, slots).await;
    let waited = Instant::now();
    while !late.known_runs().contains_key(&run) {
        assert!(waited.elapsed() < LIMIT, "the run is not heard of");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let follow = Command::Follow { run, join: None };
    late.command(follow).await.unwrap();
    assert_eq!(finished(&late, run).await, state);
    let traffic = late.traffic();
    assert!(
        traffic.payload_down > 0 && traffic.control_down > 0,
        "{traffic:?}"
    );
    let metrics = late.metrics();
    assert!(
        metrics.contains("tributary_rounds_certified_total 5"),
        "{metrics}"
    );
    assert_eq!(late.health(), []);
    assert!(!late.records().await.unwrap().is_empty());
    late
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_daemons_finish_a_run_one_is_restarted_and_a_latecomer_gets_the_same_state() {
    let dir = tempfile::tempdir().unwrap();
    let slots = Slots::new(2);
    let (mut daemons, run) = federation(dir.path(), &slots).await;
    let known = daemons[0].addresses();
    // One is stopped once the first round is certified, and comes back.
    let waited = Instant::now();
    let early = |head: Option<(Round, StateHash, bool)>| head.is_none_or(|(r, ..)| r < Round(1));
    while early(head(&daemons[1], run).await) {
        assert!(waited.elapsed() < LIMIT, "round 1 is not certified");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    daemons.remove(1).shutdown().await;
    daemons.insert(1, start(dir.path(), 1, known.clone(), &slots).await);

    let mut states = Vec::new();
    for daemon in &daemons {
        states.push(finished(daemon, run).await);
    }
    assert!(states.iter().all(|s| *s == states[0]), "{states:?}");
    daemons.push(latecomer(dir.path(), known, &slots, (run, states[0])).await);
    for daemon in daemons {
        daemon.shutdown().await;
    }
    // Everything is on the disk, and a restart alone knows it.
    for n in [0, 1, 2, 3, 9] {
        let reader = LedgerReader::open(&HomePaths::new(dir.path().join(n.to_string()))).unwrap();
        let certificates = reader.records().iter();
        let certificates = certificates.filter(|r| matches!(r, Record::Certificate { .. }));
        assert_eq!(certificates.count(), ROUNDS as usize + 2, "home {n}");
        let alone = start(dir.path(), n, Vec::new(), &slots).await;
        assert_eq!(
            finished(&alone, run).await,
            states[0],
            "home {n} after a restart"
        );
        alone.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_on_a_port_in_use_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let slots = Slots::new(1);
    let first = start(dir.path(), 0, Vec::new(), &slots).await;
    let listen = first.addresses()[0].socket().unwrap();
    let home = Home::open_or_create(dir.path().join("b"), &Identity::generate()).unwrap();
    let started = Daemon::start(DaemonConfig {
        home: Arc::new(home),
        network: NetworkId(9),
        listen,
        reach: Reach::Loopback,
        known: net::Known::default(),
        relay: None,
        bootstrap: Vec::new(),
        learner: Arc::new(Quadratic::new(0.0)),
        slots,
        archive: false,
        resources: Resources::default(),
        evidence: true,
        chain: crate::settings::ChainAccess::default(),
        still_clock: None,
    })
    .await;
    let Err(why) = started else {
        panic!("two daemons on one port")
    };
    assert!(matches!(why, StartError::PortInUse(_)), "{why}");
    assert!(why.to_string().contains("--listen"), "{why}");
    first.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_releases_the_home_and_later_requests_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = start(dir.path(), 0, Vec::new(), &Slots::new(1)).await;
    let path = dir.path().join("0");
    assert!(Home::open(&path).is_err(), "the home is not held");
    assert!(matches!(daemon.health()[..], [Warning::Alone]));
    let sender = daemon.requests.clone();
    daemon.shutdown().await;
    assert!(sender.is_closed());
    Home::open(&path).unwrap();
}

const TEXT: &str = "At dawn the miller opens the upper sluice and counts seven sacks of rye by the door. His dog sleeps on.";

/// Freezes `text` in home `n` and asks to join `run` with what is committed.
async fn join_with_text(
    (root, n): (&Path, usize),
    daemon: &Daemon,
    run: RunId,
    text: &str,
) -> Commitment {
    let identity = Identity::from_seed([n as u8 + 1; 32]);
    let passages = vec![text.to_owned()];
    let base = (hash::blob(b"no model"), 8);
    let committed = Committed::new(&identity, base, passages, Vec::new());
    let home = HomePaths::new(root.join(n.to_string()));
    let commitment = Commitment {
        shard: committed.write(&home).unwrap(),
        fingerprints: committed.fingerprints().unwrap(),
    };
    let join = Join {
        root: commitment.shard,
        fingerprints: Some(commitment.fingerprints),
        ..join(n, Role::Contributor)
    };
    let join = Some(join.into());
    daemon.command(Command::Follow { run, join }).await.unwrap();
    commitment
}

/// Waits until a certificate that `daemon` holds has admitted `peer`.
async fn admitted(daemon: &Daemon, run: RunId, peer: PeerId) {
    let waited = Instant::now();
    let is_member = move |node: &Node| {
        let head = node.run(&run).and_then(|run| run.head());
        head.is_some_and(|head| head.roster.get(&peer).is_some())
    };
    while !daemon.inspect(is_member).await.unwrap() {
        assert!(waited.elapsed() < LIMIT, "it is not admitted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A peer that answers every question as if its shard were `TEXT`. Runs until the test ends.
async fn liar(root: &Path, bootstrap: Vec<Address>) -> PeerId {
    let identity = Identity::from_seed([77; 32]);
    let home = Home::open_or_create(root.join("liar"), &identity).unwrap();
    let store = Store::open(home.paths()).unwrap();
    let (ask, mut questions) = mpsc::channel(net::MAX_WAITING_QUESTIONS);
    let (net, mut events) = net::start(NetConfig {
        identity: &identity,
        network: NetworkId(9),
        listen: "127.0.0.1:0".parse().unwrap(),
        reach: net::Reach::Loopback,
        known: net::Known::default(),
        relay: None,
        bootstrap,
        blobs: store.blobs().clone(),
        holder: Some(ask),
    })
    .await
    .unwrap();
    tokio::spawn(async move { while events.next().await.is_some() {} });
    tokio::spawn(async move {
        let _kept = (net, store, home);
        let secret = Secret::new(b"made up", &MerkleRoot::default());
        let shard = Shard::new(TEXT, secret).unwrap();
        while let Some(asked) = questions.recv().await {
            let question = Question::decode(&asked.bytes).unwrap();
            let spans = shard.spans(&question.words);
            assert!(!spans.is_empty(), "it has something to lie with");
            let _ = asked.answer.send(Answer::new(Ok(spans)).encode());
        }
    });
    identity.peer_id()
}

async fn met(daemon: &Daemon, peers: &[PeerId]) {
    let waited = Instant::now();
    while !peers.iter().all(|peer| daemon.connected().contains(peer)) {
        assert!(waited.elapsed() < LIMIT, "{:?}", daemon.connected());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const ANSWER: &str = "It is said that at dawn the miller opens the upper sluice and counts seven sacks of rye by the river.";

/// Peers 0, that holds `TEXT`, and 1, both admitted to a run; and what to ask 0 about `ANSWER`.
async fn quoting(root: &Path, slots: &Slots) -> (Daemon, Daemon, Inquiry) {
    let holder = start(root, 0, Vec::new(), slots).await;
    let asker = start(root, 1, holder.addresses(), slots).await;
    met(&asker, &[holder.peer_id()]).await;
    let mut manifest = manifest(holder.peer_id(), holder.peer_id());
    manifest.membership.min_members = 2;
    let run = manifest.run_id();
    let create = Command::Create(Box::new(manifest));
    holder.command(create).await.unwrap();
    let commitment = join_with_text((root, 0), &holder, run, TEXT).await;
    let other: String = (0..16).map(|n| format!("other{n} ")).collect();
    join_with_text((root, 1), &asker, run, &other).await;
    admitted(&holder, run, asker.peer_id()).await;
    let asking = Inquiry {
        run,
        words: words(ANSWER).map(|(_, word)| word).collect(),
        contributors: vec![(holder.peer_id(), Some(commitment))],
    };
    (holder, asker, asking)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quoted_shard_is_proven_over_sockets_and_a_lying_holder_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (root, slots) = (dir.path(), Slots::new(1));
    let (holder, asker, asking) = quoting(root, &slots).await;
    let closed = start_with(root, 2, asker.addresses(), &slots, false).await;
    let liar = liar(root, asker.addresses()).await;
    met(&asker, &[closed.peer_id(), liar]).await;
    let commitment = asking.contributors[0].1;
    let contributors = [holder.peer_id(), liar, closed.peer_id(), PeerId::default()];
    let asking = Inquiry {
        contributors: contributors.map(|peer| (peer, commitment)).into(),
        ..asking
    };
    let home = HomePaths::new(root.join("1"));
    let said = asking.everywhere(&asker, &home).await;
    assert_eq!(said[0], Reply::Proven(vec![4..20]));
    assert!(
        matches!(&said[1], Reply::False(why) if why.contains("committed")),
        "{said:?}"
    );
    assert_eq!(said[2], Reply::Declined(Declined::Closed));
    assert!(
        matches!(said[3], Reply::NotAsked(_)),
        "no connection: {said:?}"
    );
    // A root that the holder never said it joined with.
    let unknown = commitment.map(|commitment| Commitment {
        fingerprints: MerkleRoot::default(),
        ..commitment
    });
    let asking = Inquiry {
        contributors: vec![(holder.peer_id(), unknown)],
        ..asking
    };
    assert_eq!(
        asking.everywhere(&asker, &home).await,
        [Reply::Declined(Declined::Gone)]
    );
    // Who goes on asking is no longer heard, and that is no answer.
    let mut last = Vec::new();
    for _ in 0..10 {
        last = asking.everywhere(&asker, &home).await;
    }
    assert!(matches!(last[..], [Reply::Silent(_)]), "{last:?}");
    for daemon in [asker, closed, holder] {
        daemon.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_was_a_member_is_told_nothing_even_with_a_members_question() {
    let dir = tempfile::tempdir().unwrap();
    let (root, slots) = (dir.path(), Slots::new(1));
    let (holder, asker, asking) = quoting(root, &slots).await;
    let stranger = start(root, 2, holder.addresses(), &slots).await;
    met(&stranger, &[holder.peer_id()]).await;
    let elsewhere = HomePaths::new(root.join("2"));
    let said = asking.everywhere(&stranger, &elsewhere).await;
    assert_eq!(said, [Reply::Declined(Declined::Stranger)]);
    let fingerprints = asking.contributors[0].1.unwrap().fingerprints;
    let about = (asking.run, fingerprints);
    let members = Question::new((&asker.key, asker.network), about.0, about.1, &asking.words);
    let forged = forged(&stranger, &asker, about, &asking.words);
    for bytes in [members.encode(), forged] {
        let answer = stranger.net.ask(holder.peer_id(), bytes).await;
        assert!(matches!(answer, Err(Unanswered::Silent(_))), "{answer:?}");
    }
    // The member's own is answered.
    let answer = asker.net.ask(holder.peer_id(), members.encode()).await;
    let spans = Answer::decode(&answer.unwrap()).unwrap().found.unwrap();
    assert_eq!(spans.len(), 1);
    for daemon in [asker, stranger, holder] {
        daemon.shutdown().await;
    }
}

/// A question that `from` signed and that says `asker` asks.
fn forged(from: &Daemon, asker: &Daemon, about: (RunId, MerkleRoot), words: &[String]) -> Vec<u8> {
    let mut question = Question::new((&from.key, from.network), about.0, about.1, words);
    question.asker = asker.peer_id();
    question.encode()
}
