//! What a peer does about others that do not follow the protocol: each test is a fault that a liar in
//! virtual time found, or could have.

use tributary_protocol::consensus::{ConsensusMessage, Proposal, Signed, Vote, VoteKind};
use tributary_protocol::entry::{Contribution, Entry, Role};
use tributary_protocol::event::{Command, Effect, Input, Notice, Record, Verdict};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{
    BlobHash, BlobRef, BlockId, PeerId, Round, RunId, Scope, Seq, ValueId,
};
use tributary_protocol::limits;
use tributary_protocol::log::{Block, SignedBlock};
use tributary_protocol::sign::SecretKey;
use tributary_protocol::state;
use tributary_protocol::test_utils::attack::{NET, tell, value_of, view};
use tributary_protocol::test_utils::net::{Net, join, key, manifest};
use tributary_protocol::time::Timestamp;
use tributary_protocol::wire::Message;

/// Five nodes, all members, before anything has happened.
fn federation() -> (Net, RunId) {
    let mut net = Net::new(5);
    let run = create(&mut net, 1);
    (net, run)
}

fn create(net: &mut Net, nonce: u64) -> RunId {
    let mut manifest = manifest(net.ids[0], Vec::new(), 5, 3);
    manifest.nonce = nonce;
    let run = manifest.run_id();
    net.command(0, Command::Create(Box::new(manifest)));
    for node in 0..5 {
        let join = Some(join(node, Role::Contributor).into());
        net.command(node, Command::Follow { run, join });
    }
    run
}

fn round(net: &Net, node: usize, run: &RunId) -> Option<Round> {
    view(net, node, run).head().map(|head| head.round)
}

/// A run of which every node has certified the genesis.
fn begun() -> (Net, RunId) {
    let (mut net, run) = federation();
    let all = |net: &Net| (0..5).all(|node| round(net, node, &run) >= Some(Round(0)));
    assert!(net.run_until(60_000, all));
    (net, run)
}

/// A block of `key` at a place; what it says means nothing.
fn block(
    key: &SecretKey,
    run: RunId,
    seq: u64,
    prev: Option<BlockId>,
    entries: usize,
) -> SignedBlock {
    let block = Block {
        network: NET,
        author: key.peer_id(),
        scope: Scope::Run(run),
        seq: Seq(seq),
        prev,
        seen: Vec::new(),
        time: Timestamp(1),
        entries: vec![Entry::Leave; entries],
    };
    SignedBlock::sign(block, key).expect("it keeps all bounds")
}

fn tell_block(net: &mut Net, node: usize, block: &SignedBlock) -> Vec<Effect> {
    let author = block.block().author;
    tell(net, node, author, &Message::Block(block.bytes().to_vec()))
}

fn verdict(effects: &[Effect]) -> Option<Verdict> {
    effects.iter().find_map(|effect| match effect {
        Effect::Verdict { verdict, .. } => Some(*verdict),
        _ => None,
    })
}

fn refused(effects: &[Effect]) -> bool {
    let refuses = |e: &Effect| matches!(e, Effect::Notify(Notice::Refused { .. }));
    effects.iter().any(refuses)
}

fn written(effects: &[Effect]) -> usize {
    let blocks = |effect: &Effect| match effect {
        Effect::Persist(records) => {
            let is_block = |r: &&Record| matches!(r, Record::Block(_));
            records.iter().filter(is_block).count()
        }
        _ => 0,
    };
    effects.iter().map(blocks).sum()
}

#[test]
fn blocks_that_wait_for_one_before_are_written_once_it_arrives() {
    let (mut net, run) = begun();
    let member = key(4);
    let last = view(&net, 2, &run)
        .log()
        .last(net.ids[4])
        .map(SignedBlock::head);
    let last = last.expect("it joined");
    let first = block(&member, run, last.seq.0 + 1, Some(last.block), 1);
    let second = block(&member, run, last.seq.0 + 2, Some(first.id()), 1);
    assert_eq!(written(&tell_block(&mut net, 2, &second)), 0);
    assert_eq!(written(&tell_block(&mut net, 2, &first)), 2);
    let log = view(&net, 2, &run).log();
    assert_eq!(log.last(net.ids[4]), Some(&second));
}

#[test]
fn blocks_that_never_link_cost_no_disk_and_bounded_memory() {
    let (mut net, run) = begun();
    let member = key(4);
    for nth in (0..2_000u64).rev() {
        let prev = Some(BlockId(Digest::from_bytes([nth as u8; 32])));
        let ahead = block(&member, run, 3 + 2 * nth, prev, 1);
        assert_eq!(written(&tell_block(&mut net, 2, &ahead)), 0);
    }
    let waiting = view(&net, 2, &run).log().waiting();
    assert!(
        (1..=limits::MAX_PENDING_BLOCKS).contains(&waiting),
        "{waiting}"
    );
}

#[test]
fn a_members_log_grows_no_further_than_the_certified_rounds_allow() {
    let (mut net, run) = begun();
    let member = key(4);
    let mut last = view(&net, 2, &run)
        .log()
        .last(net.ids[4])
        .map(SignedBlock::head);
    for _ in 0..100 {
        let (seq, prev) = last.map_or((0, None), |head| (head.seq.0 + 1, Some(head.block)));
        let next = block(&member, run, seq, prev, 4);
        last = Some(next.head());
        let effects = tell_block(&mut net, 2, &next);
        assert!(!refused(&effects), "it may be right and we may be late");
    }
    let view = view(&net, 2, &run);
    let most = limits::FREE_BLOCKS + limits::BLOCKS_PER_ROUND * view.chain().len() as u64;
    assert_eq!(view.log().blocks(net.ids[4]).count() as u64, most);
}

#[test]
fn a_stranger_may_say_little_more_than_that_it_wants_to_join() {
    let (mut net, run) = begun();
    let stranger = SecretKey::from_seed([201; 32]);
    let huge = Block {
        seen: (0..64u8)
            .map(|nth| tributary_protocol::logset::LogHead {
                author: PeerId(Digest::from_bytes([nth; 32])),
                seq: Seq(0),
                block: BlockId::default(),
            })
            .collect(),
        entries: (0..250)
            .map(|nth| Entry::Join(join(nth, Role::Contributor)))
            .collect(),
        ..block(&stranger, run, 0, None, 1).block().clone()
    };
    let huge = SignedBlock::sign(huge, &stranger).expect("it keeps all bounds");
    assert!(huge.bytes().len() > limits::MAX_STRANGER_BLOCK_BYTES);
    assert_eq!(written(&tell_block(&mut net, 2, &huge)), 0);
    let mut prev = None;
    for seq in 0..20 {
        let next = block(&stranger, run, seq, prev, 1);
        prev = Some(next.id());
        tell_block(&mut net, 2, &next);
    }
    let log = view(&net, 2, &run).log();
    let count = log.blocks(stranger.peer_id()).count() as u64;
    assert_eq!(count, limits::MAX_STRANGER_BLOCKS);
}

/// A receipt of node 4 for the open round, as a block that follows its log.
fn receipt(net: &Net, run: &RunId, update: BlobRef) -> SignedBlock {
    let view = view(net, 0, run);
    let head = view.head().expect("the genesis is certified");
    let last = view.log().last(net.ids[4]).expect("it joined").head();
    let receipt = Contribution {
        round: head.round.next(),
        base: head.hash,
        update,
        tokens: 8,
        shard: head.roster.get(&net.ids[4]).expect("it is a member").root,
    };
    let mut next = block(&key(4), *run, last.seq.0 + 1, Some(last.block), 1)
        .block()
        .clone();
    next.entries = vec![Entry::Contribution(receipt)];
    SignedBlock::sign(next, &key(4)).expect("it keeps all bounds")
}

/// Four honest nodes, and a fifth that fell silent when the genesis was certified; its key is ours.
fn with_a_liar() -> (Net, RunId) {
    let (mut net, run) = begun();
    net.crash(4);
    (net, run)
}

fn tell_all(net: &mut Net, block: &SignedBlock) {
    let bytes = Message::Block(block.bytes().to_vec()).encode();
    for node in 0..4 {
        let (from, bytes) = (block.block().author, bytes.clone());
        net.input(node, Input::Direct { from, bytes });
    }
}

fn finished(net: &Net, run: &RunId) -> bool {
    (0..4).all(|node| view(net, node, run).is_finished())
}

#[test]
fn an_update_that_was_announced_and_never_came_is_not_asked_for_after_its_round() {
    let (mut net, run) = with_a_liar();
    let size = state::update_size(view(&net, 0, &run).manifest().expect("known"), Round(1));
    let hash = BlobHash(Digest::from_bytes([77; 32]));
    let lie = receipt(&net, &run, BlobRef { hash, size });
    tell_all(&mut net, &lie);
    assert!(net.run_until(60_000, |net| view(net, 1, &run).awaited_blobs() > 0));
    assert!(net.run_until(240_000, |net| finished(net, &run)));
    for node in 0..4 {
        assert_eq!(view(&net, node, &run).awaited_blobs(), 0, "node {node}");
    }
}

#[test]
fn an_update_that_does_not_decode_is_neither_kept_nor_counted() {
    let (mut net, run) = with_a_liar();
    let size = state::update_size(view(&net, 0, &run).manifest().expect("known"), Round(1));
    let garbage = vec![0xff; size as usize];
    let update = BlobRef::of(&garbage);
    net.blobs[4].insert(update.hash, garbage);
    net.offered[4].insert(update.hash);
    let lie = receipt(&net, &run, update);
    tell_all(&mut net, &lie);
    let before = view(&net, 1, &run).arrived().0;
    assert!(net.run_until(60_000, |net| round(net, 1, &run) >= Some(Round(1))));
    assert!(before <= 4);
    for node in 0..4 {
        assert!(!net.blobs[node].contains_key(&update.hash), "node {node}");
        let says = |n: &Notice| matches!(n, Notice::Refused { from, .. } if *from == net.ids[4]);
        assert!(net.notices[node].iter().any(says), "node {node}");
    }
    let value = &view(&net, 1, &run).chain()[1].value;
    assert_eq!(value.included.len(), 4, "the honest ones");
    assert!(net.run_until(240_000, |net| finished(net, &run)));
}

#[test]
fn a_block_behind_a_fork_is_nobodys_fault() {
    let (mut net, run) = with_a_liar();
    let last = view(&net, 2, &run)
        .log()
        .last(net.ids[4])
        .expect("it joined")
        .head();
    let one = block(&key(4), run, last.seq.0 + 1, Some(last.block), 1);
    let other = block(&key(4), run, last.seq.0 + 1, Some(last.block), 2);
    let behind = block(&key(4), run, last.seq.0 + 2, Some(one.id()), 1);
    tell_block(&mut net, 2, &one);
    tell_block(&mut net, 2, &other);
    assert!(view(&net, 2, &run).log().is_equivocator(net.ids[4]));
    let effects = tell_block(&mut net, 2, &behind);
    assert!(
        !refused(&effects),
        "whoever hands it on may not know of the fork"
    );
    assert_eq!(verdict(&effects), Some(Verdict::Ignore));
    let far = block(&key(4), run, last.seq.0 + 9, Some(one.id()), 1);
    assert!(view(&net, 2, &run).log().is_useless(&far.head()));
}

#[test]
fn a_peer_whose_own_log_is_forked_says_nothing_more_in_it() {
    let (mut net, run) = begun();
    // Somebody runs a second peer with the key of node 3.
    let mut twin = view(&net, 3, &run)
        .log()
        .blocks(net.ids[3])
        .next()
        .expect("its join")
        .block()
        .clone();
    twin.time = Timestamp(9);
    let twin = SignedBlock::sign(twin, &key(3)).expect("it keeps all bounds");
    let bytes = Message::Block(twin.bytes().to_vec()).encode();
    let from = net.ids[1];
    net.input(3, Input::Direct { from, bytes });
    let me = net.ids[3];
    assert!(view(&net, 3, &run).log().is_equivocator(me));
    let said = net.records[3].len();
    net.crash(3);
    net.restart(3);
    net.run_until(5_000, |_| false);
    let own = |record: &&Record| match record {
        Record::Block(bytes) => {
            SignedBlock::decode(bytes, NET).is_ok_and(|b| b.block().author == me)
        }
        _ => false,
    };
    assert_eq!(net.records[3][said..].iter().filter(own).count(), 0);
}

/// A run in which a member holds all updates of round 1 while its first proposer does not: that one, and the member.
fn before_it_is_proposed(nonce: u64) -> Option<(Net, RunId, usize, usize)> {
    let mut net = Net::new(5);
    let run = create(&mut net, nonce);
    let all = |net: &Net| (0..5).all(|node| round(net, node, &run) >= Some(Round(0)));
    assert!(net.run_until(60_000, all));
    let committee = {
        let view = view(&net, 0, &run);
        state::committee(view.manifest().expect("known"), &run, view.head())
    };
    let proposer = committee.proposer(0);
    let at = (net.ids.iter().position(|id| *id == proposer)).expect("a node");
    let here = |net: &Net, node: usize| view(net, node, &run).arrived().0 == 5;
    let first = |net: &Net| (0..5).find(|node| here(net, *node));
    assert!(net.run_until(60_000, |net| first(net).is_some()));
    let voter = first(&net).filter(|_| !here(&net, at))?;
    Some((net, run, at, voter))
}

/// Whether validity hangs on what a member happens to know of forks: with locks on both sides of such a
/// question a height never ends.
#[test]
fn a_value_is_as_valid_for_a_member_that_knows_of_a_fork_as_for_the_others() {
    let before_the_proposer = (1..50).find_map(before_it_is_proposed);
    let (mut net, run, at, voter) = before_the_proposer.expect("one of fifty draws");
    let proposer = net.ids[at];
    let liar = (0..5)
        .find(|node| net.ids[*node] != proposer && *node != voter)
        .expect("five nodes");
    let value = value_of(&net, voter, &run, |_, _| true);
    let place = value
        .included
        .iter()
        .find(|i| i.receipt.author == net.ids[liar])
        .expect("included")
        .receipt;
    let mut twin = view(&net, voter, &run)
        .log()
        .block(net.ids[liar], &place.block)
        .expect("held")
        .block()
        .clone();
    twin.time = Timestamp(3);
    let twin = SignedBlock::sign(twin, &key(liar)).expect("it keeps all bounds");
    tell_block(&mut net, voter, &twin);
    assert!(view(&net, voter, &run).log().is_equivocator(net.ids[liar]));
    let body = Proposal {
        attempt: 0,
        polka: None,
        value: value.clone(),
        author: proposer,
    };
    let words = ConsensusMessage::Proposal(Signed::<Proposal>::proposal(body, NET, &key(at)));
    let effects = tell(
        &mut net,
        voter,
        proposer,
        &Message::Consensus(words.encode()),
    );
    let prevotes = effects.iter().filter_map(|effect| match effect {
        Effect::Gossip { bytes, .. } => match Message::decode(bytes).ok()? {
            Message::Consensus(inner) => match ConsensusMessage::decode(&inner).ok()? {
                ConsensusMessage::Vote(vote) => Some(vote.body.value),
                ConsensusMessage::Proposal(_) => None,
            },
            _ => None,
        },
        _ => None,
    });
    assert_eq!(prevotes.collect::<Vec<_>>(), [Some(value.id())]);
}

/// A run that has begun, with a sixth node that follows it and is no member.
fn followed() -> (Net, RunId) {
    let mut net = Net::new(6);
    let run = create(&mut net, 1);
    net.command(FOLLOWER, Command::Follow { run, join: None });
    let all = |net: &Net| (0..6).all(|node| round(net, node, &run) >= Some(Round(0)));
    assert!(net.run_until(60_000, all));
    (net, run)
}

/// The node of [`followed`] that is no member, and so has no vote.
const FOLLOWER: usize = 5;

fn vote(net: &Net, run: RunId, member: usize, attempt: u32, value: Option<ValueId>) -> Message {
    let body = Vote {
        run,
        round: Round(1),
        attempt,
        kind: VoteKind::Prevote,
        value,
        author: net.ids[member],
    };
    let vote = Signed::vote(body, NET, &key(member));
    Message::Consensus(ConsensusMessage::Vote(vote).encode())
}

#[test]
fn the_network_carries_no_more_votes_of_one_member_than_it_could_have_to_cast() {
    let (mut net, run) = followed();
    let (relay, member) = (FOLLOWER, 1);
    let from = net.ids[member];
    let mut passed_on = 0;
    for attempt in 0..200 {
        for nth in 0..4u8 {
            let value = Some(ValueId(Digest::from_bytes([nth; 32])));
            let words = vote(&net, run, member, attempt, value);
            let effects = tell(&mut net, relay, from, &words);
            passed_on += usize::from(verdict(&effects) == Some(Verdict::Accept));
            assert!(!refused(&effects));
        }
    }
    let most = limits::MAX_RELAYED_PER_SLOT * (limits::MAX_ATTEMPTS_AHEAD as usize + 1);
    assert_eq!(passed_on, most);
}

#[test]
fn a_peer_without_a_seat_sees_a_member_contradict_itself() {
    let (mut net, run) = followed();
    let (relay, member) = (FOLLOWER, 1);
    let from = net.ids[member];
    let exposes = |effects: &[Effect]| {
        let of = |e: &Effect| matches!(e, Effect::Notify(Notice::Equivocation { author, .. }) if *author == from);
        effects.iter().filter(|e| of(e)).count()
    };
    let (one, other) = (
        vote(&net, run, member, 0, None),
        vote(&net, run, member, 0, Some(ValueId::default())),
    );
    assert_eq!(exposes(&tell(&mut net, relay, from, &one)), 0);
    assert_eq!(exposes(&tell(&mut net, relay, from, &one)), 0);
    assert_eq!(exposes(&tell(&mut net, relay, from, &other)), 1);
}

#[test]
fn a_proposal_out_of_turn_is_not_passed_on_to_members_that_refuse_it() {
    let (mut net, run) = followed();
    let relay = FOLLOWER;
    let committee = {
        let view = view(&net, 0, &run);
        state::committee(view.manifest().expect("known"), &run, view.head())
    };
    let author = committee.proposer(1);
    let member = net.ids.iter().position(|id| *id == author).expect("a node");
    let mut value = view(&net, 0, &run).chain()[0].value.clone();
    value.round = Round(1);
    let body = Proposal {
        attempt: 0,
        polka: None,
        value,
        author,
    };
    let words = ConsensusMessage::Proposal(Signed::<Proposal>::proposal(body, NET, &key(member)));
    let effects = tell(&mut net, relay, author, &Message::Consensus(words.encode()));
    assert!(refused(&effects));
    assert_ne!(verdict(&effects), Some(Verdict::Accept));
}

#[test]
fn no_choice_of_keys_puts_a_newcomer_first() {
    let (mut net, run) = begun();
    let mut newcomers = Vec::new();
    for nth in 0..90u8 {
        let newcomer = SecretKey::from_seed([nth + 100; 32]);
        newcomers.push(newcomer.peer_id());
        let mut first = block(&newcomer, run, 0, None, 1).block().clone();
        first.entries = vec![Entry::Join(join(1, Role::Contributor))];
        let first = SignedBlock::sign(first, &newcomer).expect("it keeps all bounds");
        let bytes = Message::Block(first.bytes().to_vec()).encode();
        for node in 0..5 {
            let (from, bytes) = (newcomer.peer_id(), bytes.clone());
            net.input(node, Input::Direct { from, bytes });
        }
    }
    assert!(net.run_until(60_000, |net| round(net, 0, &run) >= Some(Round(1))));
    let value = &view(&net, 0, &run).chain()[1].value;
    let admitted: Vec<PeerId> = value.joins.iter().map(|j| j.entry.author).collect();
    newcomers.sort_unstable();
    assert_eq!(admitted.len(), limits::MAX_CHANGES_PER_ROUND * 3 / 8);
    assert_ne!(
        admitted,
        newcomers[..admitted.len()],
        "the smallest ids came first"
    );
}

#[test]
fn both_halves_of_a_proof_are_durable_before_either_is_shown() {
    let (mut net, run) = with_a_liar();
    let member = key(4);
    let last = view(&net, 2, &run)
        .log()
        .last(net.ids[4])
        .expect("it joined")
        .head();
    // The first half waits for a block that never comes.
    let gone = Some(BlockId(Digest::from_bytes([5; 32])));
    let one = block(&member, run, last.seq.0 + 2, gone, 1);
    let other = block(&member, run, last.seq.0 + 2, gone, 2);
    tell_block(&mut net, 2, &one);
    let held = view(&net, 2, &run)
        .log()
        .block(net.ids[4], &one.id())
        .is_some();
    assert!(!held, "what is not durable is not handed out");
    let effects = tell_block(&mut net, 2, &other);
    assert!(view(&net, 2, &run).log().is_equivocator(net.ids[4]));
    assert_eq!(written(&effects), 2);
}

#[test]
fn a_newcomer_takes_no_more_of_a_stranger_than_those_who_know_the_manifest() {
    let (mut net, run) = begun();
    let mut newcomer = Net::new(1);
    newcomer.command(0, Command::Follow { run, join: None });
    let stranger = SecretKey::from_seed([202; 32]);
    let mut prev = None;
    for seq in 0..10 {
        let next = block(&stranger, run, seq, prev, 1);
        prev = Some(next.id());
        tell_block(&mut net, 2, &next);
        tell_block(&mut newcomer, 0, &next);
    }
    let taken = |net: &Net, node| {
        view(net, node, &run)
            .log()
            .blocks(stranger.peer_id())
            .count()
    };
    assert_eq!(taken(&newcomer, 0), taken(&net, 2));
    // The block that opens the run is larger than a stranger's may be, and is taken all the same.
    let opening = view(&net, 0, &run)
        .log()
        .blocks(net.ids[0])
        .next()
        .expect("it opened the run")
        .clone();
    tell_block(&mut newcomer, 0, &opening);
    assert!(view(&newcomer, 0, &run).manifest().is_some());
}
