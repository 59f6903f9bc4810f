//! Whatever a neighbour sends, `Node::handle` neither panics nor grows, and the run goes on.
//!
//! Two attackers, both from a fixed seed. The outsider mutates and repeats traffic, 100,000 messages or
//! as many as `TRIBUTARY_FUZZ` says, after the messages of the corpus.
//! The insider holds members' keys: its mutations are signed correctly, so they get past every
//! decoder and signature check to the rules behind.

use std::sync::{Mutex, PoisonError};

use peak_alloc::PeakAlloc;
use tributary_protocol::beacon::Chain;
use tributary_protocol::certificate::Certificate;
use tributary_protocol::codec;
use tributary_protocol::consensus::{ConsensusMessage, Proposal, Signed, Vote, VoteKind};
use tributary_protocol::entry::{Entry, Role};
use tributary_protocol::event::{Command, Effect, Input, Notice, Record};
use tributary_protocol::id::{Blob, BlobRef, PeerId, Round, RunId, Scope, Seq, StateHash};
use tributary_protocol::limits;
use tributary_protocol::log::{Block, SignedBlock};
use tributary_protocol::node::Node;
use tributary_protocol::round::RoundValue;
use tributary_protocol::sign::SecretKey;
use tributary_protocol::state::{committee, conclude, update_size};
use tributary_protocol::sync;
use tributary_protocol::test_utils::corpus::{Corpus, executions, plain};
use tributary_protocol::test_utils::mutate::Mutator;
use tributary_protocol::test_utils::net::{Net, config, join, manifest};
use tributary_protocol::time::{Instant, Now, Timestamp};
use tributary_protocol::wire::Message;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// One measurement at a time: the counter is the process's.
static ALONE: Mutex<()> = Mutex::new(());

const MEMBERS: usize = 4;
const VICTIM: usize = 3;
const MESSAGES: usize = 100_000;
const INSIDER_MESSAGES: usize = 10_000;

/// A federation in the middle of a run, after two certified rounds.
fn federation(rounds: u32) -> (Net, RunId) {
    let mut net = Net::new(MEMBERS);
    let mut evaluators = vec![net.ids[0], net.ids[1]];
    evaluators.sort();
    let manifest = manifest(net.ids[0], evaluators, MEMBERS as u32, rounds);
    let run = manifest.run_id();
    net.command(0, Command::Create(Box::new(manifest)));
    for node in 0..MEMBERS {
        let role = if node < 2 {
            Role::Both
        } else {
            Role::Contributor
        };
        let join = Some(join(node, role).into());
        net.command(node, Command::Follow { run, join });
    }
    let reached = net.run_until(60_000, |net| round(net, &run) >= Some(Round(2)));
    assert!(reached, "two rounds are certified");
    (net, run)
}

fn round(net: &Net, run: &RunId) -> Option<Round> {
    let view = net.nodes[VICTIM].as_ref()?.run(run)?;
    view.head().map(|head| head.round)
}

/// What the federation said so far, and what any peer can say about it.
fn traffic(net: &Net, run: RunId) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let (mut blocks, mut certificates) = (Vec::new(), Vec::new());
    for record in net.records.iter().flatten() {
        match record {
            Record::Block(bytes) => blocks.push(bytes.clone()),
            Record::Certificate { bytes, .. } => certificates.push(bytes.clone()),
            _ => {}
        }
    }
    blocks.sort();
    blocks.dedup();
    certificates.sort();
    certificates.dedup();
    let log = net.nodes[0]
        .as_ref()
        .expect("running")
        .run(&run)
        .expect("followed")
        .log();
    let certified = Some(Round(9));
    let ranges = sync::open(log);
    let lists = sync::heads(log);
    out.push(Message::Summary {
        scope: run.into(),
        ranges,
        certified,
    });
    out.push(Message::Heads {
        scope: run.into(),
        lists,
        certified,
        wants: false,
    });
    let named: Vec<_> = (log.heads().iter())
        .map(|head| (head.author, head.block))
        .collect();
    out.push(Message::WantBlocks {
        scope: run.into(),
        blocks: named,
    });
    out.push(Message::WantCertificates {
        run,
        from: Round(0),
    });
    out.push(Message::Blocks {
        scope: run.into(),
        blocks: blocks.iter().take(8).cloned().collect(),
    });
    out.push(Message::Certificates {
        run,
        certificates: certificates.clone(),
    });
    out.extend(blocks.into_iter().map(Message::Block));
    out.extend(certificates.into_iter().map(Message::Certificate));
    out.extend(
        statements(net, run)
            .iter()
            .map(|m| Message::Consensus(m.encode())),
    );
    out.iter().map(Message::encode).collect()
}

fn keys() -> Vec<SecretKey> {
    (0..MEMBERS)
        .map(|node| SecretKey::from_seed(config(node).seed))
        .collect()
}

/// Proposals and votes of every member for the open height.
fn statements(net: &Net, run: RunId) -> Vec<ConsensusMessage> {
    let view = net.nodes[0]
        .as_ref()
        .expect("running")
        .run(&run)
        .expect("followed");
    let last = view.chain().last().expect("certified").value.clone();
    let network = config(0).network;
    let mut out = Vec::new();
    for key in keys() {
        let mut value = last.clone();
        value.previous = last.state;
        value.round = last.round.next();
        for kind in [VoteKind::Prevote, VoteKind::Precommit] {
            let body = Vote {
                run,
                round: value.round,
                attempt: 0,
                kind,
                value: Some(value.id()),
                author: key.peer_id(),
            };
            out.push(ConsensusMessage::Vote(Signed::vote(body, network, &key)));
        }
        let body = Proposal {
            attempt: 0,
            polka: None,
            value,
            author: key.peer_id(),
        };
        out.push(ConsensusMessage::Proposal(Signed::proposal(
            body, network, &key,
        )));
    }
    out
}

fn input(from: PeerId, at: usize, bytes: Vec<u8>) -> Input {
    if at.is_multiple_of(2) {
        Input::Direct { from, bytes }
    } else {
        Input::Gossip {
            from,
            id: at as u64,
            bytes,
        }
    }
}

/// What a node does about an input, once everything is computed.
fn answers(node: &mut Node, input: Input, now: Now) -> Vec<Effect> {
    let effects = node.handle(input, now);
    node.complete(effects, now)
}

#[test]
fn mutated_traffic_of_an_outsider_changes_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut net, run) = federation(6);
    let mut corpus = Corpus::read("node");
    let kept: Vec<Vec<u8>> = corpus.inputs().map(<[u8]>::to_vec).collect();
    let mut seeds = traffic(&net, run);
    seeds.extend(kept.iter().cloned());
    let from = net.ids[0];
    let mut mutator = Mutator::new(&seeds, 1);
    let now_ms = net.now_ms;
    let node = net.nodes[VICTIM].as_mut().expect("running");
    let mut now = Now {
        monotonic: Instant(now_ms),
        wall: Timestamp(now_ms),
    };
    for (at, bytes) in kept.into_iter().enumerate() {
        drop(answers(node, input(from, at, bytes), now));
    }
    let mut feed = |messages: usize, mutator: &mut Mutator, corpus: &mut Corpus| {
        let (mut peak, mut kept) = (0, 0);
        for at in 0..messages {
            now.monotonic.0 += u64::from(at.is_multiple_of(1000));
            let bytes = mutator.next();
            let input = input(from, at, bytes.clone());
            MEMORY.reset_peak_usage();
            let start = MEMORY.current_usage();
            let effects = answers(node, input, now);
            peak = peak.max(MEMORY.peak_usage().saturating_sub(start));
            let start = MEMORY.current_usage();
            for why in effects.iter().filter_map(refusal) {
                corpus.found(&why, &bytes);
            }
            kept += MEMORY.current_usage().saturating_sub(start);
        }
        (peak, kept)
    };
    // What can be learnt from the seeds is learnt first.
    feed(2_000, &mut mutator, &mut corpus);
    let before = MEMORY.current_usage();
    let messages = executions(MESSAGES);
    let (peak, kept) = feed(messages, &mut mutator, &mut corpus);
    let grown = (MEMORY.current_usage().saturating_sub(before)).saturating_sub(kept);
    println!(
        "outsider: {messages} messages, peak {} KiB, grown {grown} bytes",
        peak / 1024
    );
    corpus.write();
    assert!(peak <= 20 << 20, "{peak} bytes held at once");
    assert!(grown <= 256 * 1024, "{grown} bytes kept");
    // The node forgot nothing: it goes on to the end with the others.
    assert_finishes(&mut net, run);
}

fn refusal(effect: &Effect) -> Option<String> {
    match effect {
        Effect::Notify(Notice::Refused { why, .. }) => Some(plain(why.to_string())),
        _ => None,
    }
}

fn assert_finishes(net: &mut Net, run: RunId) {
    let state = |net: &Net, node: usize| -> Option<StateHash> {
        let view = net.nodes[node].as_ref()?.run(&run)?;
        view.is_finished()
            .then(|| view.head().map(|head| head.hash))?
    };
    let done = net.run_until(240_000, |net| {
        (0..MEMBERS).all(|node| state(net, node).is_some())
    });
    let states: Vec<_> = (0..MEMBERS).map(|node| state(net, node)).collect();
    assert!(
        done,
        "the run goes on: {states:?}, victim at {:?}",
        round(net, &run)
    );
    assert!(states.windows(2).all(|w| w[0] == w[1]), "{states:?}");
}

/// Signs mutated content with the keys of members; `None` when it is no statement any more.
struct Insider {
    keys: Vec<SecretKey>,
    blocks: Mutator,
    statements: Mutator,
    values: Mutator,
}

impl Insider {
    fn new(net: &Net, run: RunId, keys: Vec<SecretKey>) -> Self {
        let network = config(0).network;
        let mut blocks = Vec::new();
        let mut values = Vec::new();
        for record in net.records.iter().flatten() {
            match record {
                Record::Block(bytes) => {
                    let block = SignedBlock::decode(bytes, network).expect("our own");
                    blocks.push(codec::encode(block.block()));
                }
                Record::Certificate { bytes, .. } => values.push(bytes.clone()),
                _ => {}
            }
        }
        let bodies: Vec<Vec<u8>> = statements(net, run).iter().map(|m| m.encode()).collect();
        Self {
            keys,
            blocks: Mutator::new(&blocks, 2),
            statements: Mutator::new(&bodies, 3),
            values: Mutator::new(&values, 4),
        }
    }

    fn key(&self, author: PeerId) -> Option<&SecretKey> {
        self.keys.iter().find(|key| key.peer_id() == author)
    }

    fn message(&mut self, at: usize) -> Option<Message> {
        match at % 3 {
            0 => self.block(),
            1 => self.statement(),
            _ => self.certificate(),
        }
    }

    fn block(&mut self) -> Option<Message> {
        let bytes = self.blocks.next();
        let mut block = codec::decode::<Block, { limits::MAX_BLOCK_BYTES }>(&bytes).ok()?;
        // An insider speaks for itself; that its log then forks is what is to be borne.
        block.author = self.keys[0].peer_id();
        let signed = SignedBlock::sign(block, &self.keys[0]).ok()?;
        Some(Message::Block(signed.bytes().to_vec()))
    }

    fn statement(&mut self) -> Option<Message> {
        let network = config(0).network;
        let message = ConsensusMessage::decode(&self.statements.next()).ok()?;
        let author = self.key(message.author()).unwrap_or(&self.keys[0]).clone();
        let signed = match message {
            ConsensusMessage::Vote(vote) => {
                let body = Vote {
                    author: author.peer_id(),
                    ..vote.body
                };
                ConsensusMessage::Vote(Signed::vote(body, network, &author))
            }
            ConsensusMessage::Proposal(proposal) => {
                let body = Proposal {
                    author: author.peer_id(),
                    ..proposal.body
                };
                ConsensusMessage::Proposal(Signed::proposal(body, network, &author))
            }
        };
        Some(Message::Consensus(signed.encode()))
    }

    /// A certificate for a mutated value, signed by every key at hand.
    fn certificate(&mut self) -> Option<Message> {
        let network = config(0).network;
        let mut certificate = Certificate::decode(&self.values.next()).ok()?;
        let value = Some(certificate.value.id());
        certificate.precommits = (self.keys.iter())
            .map(|key| {
                let body = Vote {
                    run: certificate.value.run,
                    round: certificate.value.round,
                    attempt: certificate.attempt,
                    kind: VoteKind::Precommit,
                    value,
                    author: key.peer_id(),
                };
                (key.peer_id(), Signed::vote(body, network, key).signature)
            })
            .collect();
        certificate.precommits.sort_unstable();
        Some(Message::Certificate(certificate.encode()))
    }
}

#[test]
fn a_member_that_signs_nonsense_stops_nobody() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut net, run) = federation(8);
    // Member 2 contributes and may sit in the committee of four, where one fault is tolerated.
    let mut insider = Insider::new(&net, run, vec![keys()[2].clone()]);
    net.crash(2);
    let from = net.ids[2];
    let mut sent = 0;
    for at in 0..INSIDER_MESSAGES {
        if let Some(message) = insider.message(at) {
            for node in [0, 1, VICTIM] {
                net.input(node, input(from, at, message.encode()));
            }
            sent += 1;
        }
        if at.is_multiple_of(100) {
            net.run_until(20, |_| false);
        }
    }
    println!("insider: {sent} signed messages to each of three members");
    assert!(
        sent > INSIDER_MESSAGES / 20,
        "the attack got through: {sent}"
    );
    let state = |net: &Net, node: usize| -> Option<StateHash> {
        let view = net.nodes[node].as_ref()?.run(&run)?;
        view.is_finished()
            .then(|| view.head().map(|head| head.hash))?
    };
    let done = net.run_until(600_000, |net| {
        [0, 1, VICTIM].iter().all(|n| state(net, *n).is_some())
    });
    let states = [0, 1, VICTIM].map(|node| state(&net, node));
    assert!(
        done,
        "the run goes on: {states:?}, victim at {:?}",
        round(&net, &run)
    );
    assert!(states.windows(2).all(|w| w[0] == w[1]), "{states:?}");
}

#[test]
fn a_block_behind_a_fork_does_not_keep_the_rest_of_an_answer_out() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut net, run) = federation(6);
    let block = |seed: u8, before: Option<&SignedBlock>, time: u64| {
        let key = SecretKey::from_seed([seed; 32]);
        let block = Block {
            network: config(0).network,
            author: key.peer_id(),
            scope: Scope::Run(run),
            seq: before.map_or(Seq(0), |b| Seq(b.block().seq.0 + 1)),
            prev: before.map(SignedBlock::id),
            seen: vec![],
            time: Timestamp(time),
            entries: vec![Entry::Leave],
        };
        SignedBlock::sign(block, &key).expect("valid")
    };
    let (one, other) = (block(200, None, 1), block(200, None, 2));
    let behind = block(200, Some(&one), 3);
    let later = block(201, None, 4);
    let answer = [&one, &other, &behind, &later];
    let blocks = answer.iter().map(|b| b.bytes().to_vec()).collect();
    let message = Message::Blocks {
        scope: run.into(),
        blocks,
    };
    let from = net.ids[0];
    net.input(VICTIM, input(from, 0, message.encode()));
    let node = net.nodes[VICTIM].as_ref().expect("running");
    let log = node.run(&run).expect("followed").log();
    assert!(log.is_equivocator(one.block().author));
    assert!(!log.knows(&behind.head()));
    assert!(log.knows(&later.head()));
}

/// The next round's certificate, signed by everybody, `change`d but with hashes that fit.
fn corrupt(net: &Net, run: RunId, change: impl Fn(&mut RoundValue)) -> Certificate {
    let view = net.nodes[VICTIM]
        .as_ref()
        .expect("running")
        .run(&run)
        .expect("followed");
    let head = view.head().expect("certified");
    let mut value = view.chain().last().expect("certified").value.clone();
    value.round = head.round.next();
    value.previous = head.hash;
    value.sheets.clear();
    value.seals.clear();
    value.scores.clear();
    value.joins.clear();
    let manifest = view.manifest().expect("known");
    let size = update_size(manifest, value.round);
    value.included.iter_mut().for_each(|i| i.update.size = size);
    change(&mut value);
    let proposer = committee(manifest, &run, Some(head)).proposer(0);
    let key = keys().into_iter().find(|key| key.peer_id() == proposer);
    let key = key.expect("a node proposes");
    if value.round > manifest.closing_round() {
        return signed(value);
    }
    value.attempt = 0;
    value.link = Chain::new(&key, &run, manifest.closing_round()).link(value.round);
    // Where members cannot change as it says, the value stays without a name.
    let _ = conclude(manifest, Some(head), &mut value);
    signed(value)
}

/// Under everybody's name.
fn signed(value: RoundValue) -> Certificate {
    let mut precommits: Vec<_> = (keys().iter())
        .map(|key| {
            let body = Vote {
                run: value.run,
                round: value.round,
                attempt: 0,
                kind: VoteKind::Precommit,
                value: Some(value.id()),
                author: key.peer_id(),
            };
            let signed = Signed::vote(body, config(0).network, key);
            (key.peer_id(), signed.signature)
        })
        .collect();
    precommits.sort_unstable();
    Certificate {
        value,
        attempt: 0,
        precommits,
    }
}

/// Gives the victim a certificate and every blob it then asks for, all zeros of the right size.
fn swallow(net: &mut Net, certificate: &Certificate) -> Vec<Effect> {
    let now = Now {
        monotonic: Instant(net.now_ms),
        wall: Timestamp(0),
    };
    let node = net.nodes[VICTIM].as_mut().expect("running");
    let bytes = Message::Certificate(certificate.encode()).encode();
    let mut effects = answers(node, input(certificate.precommits[0].0, 0, bytes), now);
    let mut at = 0;
    while at < effects.len() && at < 10_000 {
        if let Effect::FetchBlob { blob, .. } = &effects[at] {
            assert!(blob.size < 100_000, "asks for {} bytes", blob.size);
            let bytes = vec![0; blob.size as usize];
            effects.extend(answers(node, Input::Blob(Blob::of(bytes.into())), now));
        }
        at += 1;
    }
    effects
}

#[test]
fn certified_numbers_beyond_any_bound_neither_overflow_nor_fetch() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let zeros = |value: &mut RoundValue| {
        // An update that the attack can deliver: zeros are a canonical update.
        for included in &mut value.included {
            included.update = BlobRef::of(&vec![0; included.update.size as usize]);
        }
    };
    type Change = fn(&mut RoundValue);
    let changes: [Change; 6] = [
        |value| value.included.iter_mut().for_each(|i| i.tokens = u64::MAX),
        |value| value.included.iter_mut().for_each(|i| i.tokens = 0),
        // One token more than four steps of one window of eight.
        |value| value.included.iter_mut().for_each(|i| i.tokens = 33),
        |value| {
            value
                .included
                .iter_mut()
                .for_each(|i| i.update.size = u64::MAX)
        },
        |value| value.adapter.size = u64::MAX,
        |value| value.round = Round(u32::MAX),
    ];
    for (at, change) in changes.iter().enumerate() {
        let (mut net, run) = federation(6);
        let before = round(&net, &run);
        let certificate = corrupt(&net, run, |value| {
            zeros(value);
            change(value);
        });
        let effects = swallow(&mut net, &certificate);
        assert_eq!(round(&net, &run), before, "change {at} was certified");
        assert!(
            !effects.iter().any(is_alarm),
            "change {at}: its bounds come first"
        );
    }
    // The attack is real: without a change nothing but the receipts speaks against the corrupt quorum.
    let (mut net, run) = federation(6);
    let before = round(&net, &run);
    let certificate = corrupt(&net, run, zeros);
    let effects = swallow(&mut net, &certificate);
    assert!(effects.iter().any(is_alarm), "receipts name other updates");
    assert_eq!(round(&net, &run), before);
}

fn is_alarm(effect: &Effect) -> bool {
    matches!(effect, Effect::Notify(Notice::Refuted { .. }))
}

#[test]
fn even_a_committee_that_is_wholly_corrupt_panics_nobody() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut net, run) = federation(8);
    let mut insider = Insider::new(&net, run, keys());
    let from = net.ids[0];
    let node = net.nodes[VICTIM].as_mut().expect("running");
    let mut now = Now {
        monotonic: Instant(net.now_ms),
        wall: Timestamp(0),
    };
    let before = MEMORY.current_usage();
    let (mut sent, mut bytes) = (0, 0);
    for at in 0..INSIDER_MESSAGES {
        now.monotonic.0 += 1;
        if let Some(message) = insider.message(at) {
            let encoded = message.encode();
            bytes += encoded.len();
            drop(answers(node, input(from, at, encoded), now));
            sent += 1;
        }
    }
    let grown = MEMORY.current_usage().saturating_sub(before);
    println!("corrupt committee: {sent} messages of {bytes} bytes, grown {grown} bytes");
    assert!(grown <= 16 * bytes, "{grown} bytes kept of {bytes}");
}
