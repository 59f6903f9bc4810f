//! What strangers, whose keys are free, and single members with a seat try against a run. Each test states the
//! property that holds.

use tributary_protocol::beacon::Chain;
use tributary_protocol::certificate::Certificate;
use tributary_protocol::consensus::{ConsensusMessage, Proposal, Signed, Vote, VoteKind};
use tributary_protocol::entry::{Contribution, Entry, Role};
use tributary_protocol::event::{Command, Effect, Input, JoinRequest, Notice, Record};
use tributary_protocol::hash::{self, Digest, Domain};
use tributary_protocol::id::{
    BlobHash, BlobRef, BlockId, MerkleRoot, PeerId, Round, RunId, Seq, StateHash, ValueId,
};
use tributary_protocol::limits;
use tributary_protocol::log::SignedBlock;
use tributary_protocol::manifest::{Manifest, Weights};
use tributary_protocol::reject::Rejection;
use tributary_protocol::round::{EntryRef, Included, Joined, RoundValue};
use tributary_protocol::sign::SecretKey;
use tributary_protocol::sketch::Sketch;
use tributary_protocol::state::{self, Head, Selection};
use tributary_protocol::test_utils::attack::{
    self, NET, round, stranger, tell, value_of, view, with_evidence,
};
use tributary_protocol::test_utils::net::{Net, join, key, manifest};
use tributary_protocol::wire::Message;

fn run_of<J: Into<JoinRequest>>(
    change: impl Fn(&mut Manifest),
    joins: impl Fn(usize) -> J,
) -> (Net, RunId) {
    let mut net = Net::new(5);
    let mut manifest = manifest(net.ids[0], Vec::new(), 5, 3);
    change(&mut manifest);
    let run = manifest.run_id();
    net.command(0, Command::Create(Box::new(manifest)));
    for node in 0..5 {
        let join = Some(joins(node).into());
        net.command(node, Command::Follow { run, join });
    }
    let all = |net: &Net| (0..5).all(|node| round(net, node, &run) >= Some(Round(0)));
    assert!(net.run_until(60_000, all), "genesis");
    (net, run)
}

fn begun() -> (Net, RunId) {
    run_of(|_| (), |node| join(node, Role::Contributor))
}

fn block(
    key: &SecretKey,
    run: RunId,
    seq: u64,
    prev: Option<BlockId>,
    entries: Vec<Entry>,
) -> SignedBlock {
    attack::block(key, run, (seq, prev), Vec::new(), entries)
}

/// To every node.
fn tell_all(net: &mut Net, block: &SignedBlock) {
    let bytes = Message::Block(block.bytes().to_vec()).encode();
    for node in 0..net.nodes.len() {
        let (from, bytes) = (block.block().author, bytes.clone());
        net.input(node, Input::Direct { from, bytes });
    }
}

fn finished(net: &Net, run: &RunId) -> bool {
    (0..net.nodes.len()).all(|node| view(net, node, run).is_finished())
}

fn a_stranger_says(entries: Vec<Entry>) -> Option<Round> {
    let (mut net, run) = begun();
    let block = block(&stranger(1), run, 0, None, entries);
    tell_all(&mut net, &block);
    net.run_until(30 * 60_000, |net| finished(net, &run));
    round(&net, 0, &run)
}

#[test]
fn a_block_that_leaves_and_joins_does_not_stop_the_run() {
    let entries = vec![Entry::Leave, Entry::Join(join(50, Role::Contributor))];
    assert_eq!(
        a_stranger_says(entries),
        Some(Round(4)),
        "half an hour later"
    );
}

#[test]
fn a_block_that_joins_and_leaves_does_not_stop_the_run() {
    let entries = vec![Entry::Join(join(50, Role::Contributor)), Entry::Leave];
    assert_eq!(
        a_stranger_says(entries),
        Some(Round(4)),
        "half an hour later"
    );
}

#[test]
fn a_stranger_that_only_joins_stops_nothing() {
    let entries = vec![Entry::Join(join(50, Role::Contributor))];
    assert_eq!(a_stranger_says(entries), Some(Round(4)));
}

/// What `voter` says at once to a proposal of attempt 0.
fn prevotes(
    net: &mut Net,
    voter: usize,
    proposer: usize,
    value: &RoundValue,
) -> Vec<Option<ValueId>> {
    let body = Proposal {
        attempt: 0,
        polka: None,
        value: value.clone(),
        author: net.ids[proposer],
    };
    let words = ConsensusMessage::Proposal(Signed::<Proposal>::proposal(body, NET, &key(proposer)));
    let from = net.ids[proposer];
    let effects = tell(net, voter, from, &Message::Consensus(words.encode()));
    (effects.iter())
        .filter_map(|effect| match effect {
            Effect::Gossip { bytes, .. } => match Message::decode(bytes).ok()? {
                Message::Consensus(inner) => match ConsensusMessage::decode(&inner).ok()? {
                    ConsensusMessage::Vote(vote) => Some(vote.body.value),
                    ConsensusMessage::Proposal(_) => None,
                },
                _ => None,
            },
            _ => None,
        })
        .collect()
}

fn seats(net: &Net, run: &RunId) -> (usize, usize) {
    let view = view(net, 0, run);
    let committee = state::committee(view.manifest().unwrap(), run, view.head());
    let at = |peer: &PeerId| net.ids.iter().position(|id| id == peer).unwrap();
    let proposer = at(&committee.proposer(0));
    let voter = (0..5)
        .find(|n| committee.contains(&net.ids[*n]) && *n != proposer)
        .unwrap();
    (proposer, voter)
}

fn receipt(net: &Net, node: usize, author: usize, run: &RunId, update: BlobRef) -> SignedBlock {
    let view = view(net, node, run);
    let head = view.head().unwrap();
    let last = view.log().last(net.ids[author]).expect("it joined").head();
    let receipt = Contribution {
        round: head.round.next(),
        base: head.hash,
        update,
        tokens: 8,
        shard: head.roster.get(&net.ids[author]).unwrap().root,
    };
    block(
        &key(author),
        *run,
        last.seq.0 + 1,
        Some(last.block),
        vec![Entry::Contribution(receipt)],
    )
}

/// What `node` makes of a value and of the choice behind it: whether it can be built, and whether it is valid.
fn judged(
    net: &Net,
    node: usize,
    run: &RunId,
    value: &mut RoundValue,
) -> (Result<(), Rejection>, Result<(), Rejection>) {
    with_evidence(net, node, run, |view, sources| {
        let manifest = view.manifest().expect("known");
        let selection = Selection {
            included: value.included.clone(),
            link: value.link,
            ..Selection::default()
        };
        state::conclude(manifest, view.head(), value).expect("a roster follows");
        let built = state::build(manifest, *run, view.head(), selection, sources).map(|_| ());
        (built, state::check(manifest, view.head(), value, sources))
    })
}

#[test]
fn a_second_receipt_of_one_author_and_round_is_never_valid() {
    let (mut net, run) = begun();
    let (proposer, voter) = seats(&net, &run);
    net.crash(proposer); // its key is ours now
    let size = state::update_size(view(&net, voter, &run).manifest().unwrap(), Round(1));
    let dummy = BlobRef {
        hash: BlobHash(Digest::from_bytes([77; 32])),
        size,
    };
    let early = receipt(&net, voter, proposer, &run, dummy);
    let bytes = Message::Block(early.bytes().to_vec()).encode();
    for node in (0..5).filter(|n| *n != proposer) {
        net.input(
            node,
            Input::Direct {
                from: net.ids[proposer],
                bytes: bytes.clone(),
            },
        );
    }
    // All five receipts are in, updates are revealed, the voter holds the four honest ones.
    assert!(net.run_until(60_000, |net| view(net, voter, &run).arrived().0 == 4));
    let victim = (0..5).find(|n| *n != proposer && *n != voter).unwrap();
    let stolen = (view(&net, voter, &run).log().entries(net.ids[victim]))
        .find_map(|(_, e)| match e {
            Entry::Contribution(c) => Some(c.update),
            _ => None,
        })
        .unwrap();
    let late = receipt(&net, voter, proposer, &run, stolen);
    tell(
        &mut net,
        voter,
        late.block().author,
        &Message::Block(late.bytes().to_vec()),
    );
    // What the proposer of an attempt would make of it, with a receipt of its own put in the place of another's.
    let mut value = value_of(&net, voter, &run, |at, _| at.author != net.ids[proposer]);
    let thief = value.included.iter().find(|i| i.update == stolen);
    let mut thief = *thief.expect("the victim's update is in");
    thief.receipt = EntryRef {
        author: net.ids[proposer],
        seq: late.block().seq,
        block: late.id(),
        index: 0,
    };
    value.included.push(thief);
    value.included.sort();
    let (built, checked) = judged(&net, voter, &run, &mut value);
    let why = "a receipt is not its author's first for the round";
    assert_eq!(built, Err(Rejection::Contradiction(why)));
    assert_eq!(checked, built);
    let said = prevotes(&mut net, voter, proposer, &value);
    assert!(!said.contains(&Some(value.id())));
}

#[test]
fn a_proposal_that_leaves_timely_updates_out_is_not_voted_for_at_once() {
    let (mut net, run) = begun();
    let (proposer, voter) = seats(&net, &run);
    assert!(net.run_until(60_000, |net| view(net, voter, &run).arrived().0 == 5));
    let friend = (0..5).find(|n| *n != proposer && *n != voter).unwrap();
    let ours = [net.ids[proposer], net.ids[friend]];
    let value = value_of(&net, voter, &run, |at, _| ours.contains(&at.author));
    assert_eq!(value.included.len(), 2, "of five that everybody holds");
    let said = prevotes(&mut net, voter, proposer, &value);
    assert!(
        !said.contains(&Some(value.id())),
        "an honest voter prevoted for it in attempt 0"
    );
}

#[test]
fn a_forged_certificate_of_an_old_round_is_blamed_on_its_sender() {
    let (mut net, run) = begun();
    assert!(net.run_until(3_600_000, |net| finished(net, &run)));
    let mut value = view(&net, 0, &run).chain()[1].value.clone();
    value.previous = StateHash::default();
    let precommits = Vec::new();
    let forged = Certificate {
        value,
        attempt: 0,
        precommits,
    };
    let from = stranger(5).peer_id();
    let effects = tell(&mut net, 0, from, &Message::Certificate(forged.encode()));
    let blamed =
        |e: &Effect| matches!(e, Effect::Notify(Notice::Refused { from: who, .. }) if *who == from);
    assert!(effects.iter().any(blamed), "{effects:?}");
}

#[test]
fn a_contradiction_is_kept_once() {
    let (mut net, run) = begun();
    let mut value = view(&net, 0, &run).chain()[0].value.clone();
    value.joins.pop();
    let mut kept = 0;
    for attempt in 0..50 {
        let body = Vote {
            run,
            round: Round(0),
            attempt,
            kind: VoteKind::Precommit,
            value: Some(value.id()),
            author: net.ids[0],
        };
        let signed = Signed::vote(body, NET, &key(0));
        let second = Certificate {
            value: value.clone(),
            attempt,
            precommits: vec![(net.ids[0], signed.signature)],
        };
        let from = net.ids[0];
        let effects = tell(&mut net, 2, from, &Message::Certificate(second.encode()));
        kept += (effects.iter())
            .filter(|e| matches!(e, Effect::Persist(r) if matches!(r[..], [Record::Certificate { .. }])))
            .count();
    }
    assert_eq!(kept, 1, "of fifty");
}

#[test]
fn a_run_of_seventy_members_can_begin() {
    let mut net = Net::new(1);
    let manifest = manifest(net.ids[0], Vec::new(), 70, 3);
    manifest.check().expect("allowed");
    let run = manifest.run_id();
    net.command(0, Command::Create(Box::new(manifest)));
    for nth in 0..80 {
        let join = Entry::Join(join(nth as usize, Role::Contributor));
        tell_all(&mut net, &block(&stranger(nth), run, 0, None, vec![join]));
    }
    net.run_until(600_000, |net| round(net, 0, &run).is_some());
    assert_eq!(round(&net, 0, &run), Some(Round(0)));
}

/// Any mixture of joins and leaves of one stranger, however many stand in a block: the run goes on to its end.
#[test]
fn no_mixture_of_joins_and_leaves_stops_the_run() {
    for mixture in 0..64u32 {
        let (mut net, run) = begun();
        let mut prev = None;
        for seq in 0..2 {
            let entries: Vec<Entry> = (0..3)
                .map(|nth| match mixture >> (seq * 3 + nth) & 1 {
                    0 => Entry::Leave,
                    _ => Entry::Join(join(50, Role::Contributor)),
                })
                .collect();
            let said = block(&stranger(1), run, seq, prev, entries);
            prev = Some(said.id());
            tell_all(&mut net, &said);
        }
        let done = net.run_until(30 * 60_000, |net| finished(net, &run));
        assert!(done, "mixture {mixture:b}");
    }
}

#[test]
fn joins_that_nobody_can_admit_crowd_nobody_out() {
    let mut net = Net::new(5);
    let manifest = manifest(net.ids[0], Vec::new(), 5, 3);
    let run = manifest.run_id();
    net.command(0, Command::Create(Box::new(manifest)));
    for nth in 0..1_000 {
        let join = Entry::Join(join(nth as usize % 200, Role::Evaluator));
        tell_all(&mut net, &block(&stranger(nth), run, 0, None, vec![join]));
    }
    for node in 0..5 {
        let join = Some(join(node, Role::Contributor).into());
        net.command(node, Command::Follow { run, join });
    }
    assert!(net.run_until(60_000, |net| round(net, 0, &run) >= Some(Round(1))));
    assert_eq!(
        view(&net, 0, &run).head().map(|head| head.roster.len()),
        Some(5)
    );
}

fn prints(of: u64, count: u64) -> Vec<u64> {
    let print = |n: u64| {
        let seed = [of.to_le_bytes(), n.to_le_bytes()].concat();
        let digest = hash::digest(Domain::Simulation, &seed);
        u64::from_le_bytes(digest.as_bytes()[..8].try_into().expect("eight bytes"))
    };
    (0..count).map(print).collect()
}

fn with_sketch(node: usize) -> JoinRequest {
    JoinRequest {
        join: join(node, Role::Contributor),
        sketch: Some(Sketch::keeping(prints(node as u64, 4_000))),
    }
}

/// Whether these peers are members at node 0.
fn are_members(net: &Net, run: &RunId, peers: &[PeerId]) -> bool {
    let view = view(net, 0, run);
    let head = view.head().expect("the genesis is certified");
    peers.iter().all(|peer| head.roster.get(peer).is_some())
}

/// A stranger joins as a contributor of text with this sketch, is admitted, and opens it. Until then the others work.
fn join_and_open(net: &mut Net, run: RunId, who: &SecretKey, sketch: Sketch, tokens: u64) {
    let mut join = join(60, Role::Contributor);
    (join.sketch, join.tokens) = (Some(sketch.commit(&who.peer_id())), tokens);
    let asks = block(who, run, 0, None, vec![Entry::Join(join)]);
    tell_all(net, &asks);
    let admitted = |net: &Net| are_members(net, &run, &[who.peer_id()]);
    assert!(net.run_until(120_000, admitted), "it is admitted");
    let opens = block(who, run, 1, Some(asks.id()), vec![Entry::Opening(sketch)]);
    tell_all(net, &opens);
    let next = round(net, 0, &run).map(Round::next);
    assert!(net.run_until(120_000, |net| round(net, 0, &run) >= next));
}

/// What an update of node 1 and one of a stranger weigh, after the stranger joined a run in which `full` own tokens
/// are full weight, with these prints and the largest claim of tokens.
fn weights(full: u64, of_stranger: Vec<u64>) -> [u64; 2] {
    let (mut net, run) = run_of(|m| m.updates.weights = Weights::Own { full }, with_sketch);
    let liar = stranger(2);
    let sketch = Sketch::keeping(of_stranger);
    join_and_open(&mut net, run, &liar, sketch, limits::MAX_TOKENS);
    let view = view(&net, 0, &run);
    let (manifest, head) = (
        view.manifest().expect("known"),
        view.head().expect("certified"),
    );
    [net.ids[1], liar.peer_id()].map(|peer| state::weigh(manifest, &head.roster, &peer, 10_000))
}

#[test]
fn a_copy_with_one_new_print_does_not_weigh_as_much_as_the_text_itself() {
    let mut copied = Sketch::keeping(prints(1, 4_000)).prints().to_vec();
    copied[0] -= 1;
    let [honest, copier] = weights(1_000, copied);
    assert!(copier * 10 < honest, "{copier} beside {honest}");
}

#[test]
fn a_claim_of_tokens_is_no_weight() {
    let [honest, liar] = weights(61_440, prints(999, 300));
    assert!(liar > 0 && liar <= 2 * honest, "{liar} beside {honest}");
}

#[test]
fn joins_that_never_open_do_not_keep_a_genesis_waiting() {
    let mut net = Net::new(5);
    let mut manifest = manifest(net.ids[0], Vec::new(), 5, 3);
    manifest.updates.weights = Weights::Own { full: 1_000 };
    let (run, round_ms) = (
        manifest.run_id(),
        u64::from(manifest.plan.deadlines.round_ms),
    );
    net.command(0, Command::Create(Box::new(manifest)));
    // Enough of them for a call, before anybody else comes, and some more later.
    let says = |net: &mut Net, from: u64| {
        for nth in from..from + 40 {
            let mut join = join(nth as usize % 200, Role::Contributor);
            join.sketch = Some(Digest::from_bytes([7; 32]));
            let join = Entry::Join(join);
            tell_all(net, &block(&stranger(nth), run, 0, None, vec![join]));
        }
    };
    says(&mut net, 0);
    let until = net.now_ms + 3 * round_ms;
    net.run_until(until, |_| false);
    for node in 0..5 {
        let join = Some(with_sketch(node));
        net.command(node, Command::Follow { run, join });
    }
    says(&mut net, 100);
    let until = net.now_ms + 20 * round_ms;
    assert!(net.run_until(until, |net| round(net, 0, &run) >= Some(Round(0))));
    let own = |net: &Net| {
        let view = view(net, 0, &run);
        let roster = &view.head().expect("certified").roster;
        roster
            .iter()
            .map(|member| member.own_tokens)
            .collect::<Vec<_>>()
    };
    assert_eq!(own(&net), [1_000; 5]);
}

#[test]
fn who_sees_a_join_cannot_take_its_text() {
    let full = 1_000;
    let (mut net, run) = run_of(|m| m.updates.weights = Weights::Own { full }, with_sketch);
    let victim = stranger(10);
    let sketch = Sketch::keeping(prints(70, 4_000));
    let mut mine = join(70, Role::Contributor);
    mine.sketch = Some(sketch.commit(&victim.peer_id()));
    let asks = block(&victim, run, 0, None, vec![Entry::Join(mine.clone())]);
    tell_all(&mut net, &asks);
    // Half of the thieves repeat the commitment at once, the others commit to the sketch when they see it.
    let thieves: Vec<SecretKey> = (1_000..1_020).map(stranger).collect();
    let (early, late) = thieves.split_at(10);
    let steal = |net: &mut Net, thief: &SecretKey, commitment: Digest| {
        let mut join = join(100, Role::Contributor);
        join.sketch = Some(commitment);
        let said = block(thief, run, 0, None, vec![Entry::Join(join)]);
        tell_all(net, &said);
        said.id()
    };
    let mut said = Vec::new();
    for thief in early {
        let commitment = mine.sketch.expect("committed");
        said.push(steal(&mut net, thief, commitment));
    }
    let admitted = |net: &Net| are_members(net, &run, &[victim.peer_id()]);
    assert!(net.run_until(120_000, admitted), "the victim is admitted");
    let opening = vec![Entry::Opening(sketch.clone())];
    let opens = block(&victim, run, 1, Some(asks.id()), opening.clone());
    tell_all(&mut net, &opens);
    for thief in late {
        let commitment = sketch.commit(&thief.peer_id());
        said.push(steal(&mut net, thief, commitment));
    }
    let all: Vec<PeerId> = thieves.iter().map(SecretKey::peer_id).collect();
    let admitted = |net: &Net| are_members(net, &run, &all);
    assert!(net.run_until(120_000, admitted), "commitments are admitted");
    for (thief, join) in thieves.iter().zip(said) {
        tell_all(&mut net, &block(thief, run, 1, Some(join), opening.clone()));
    }
    let next = round(&net, 0, &run).map(Round::next);
    assert!(net.run_until(120_000, |net| round(net, 0, &run) >= next));
    let view = view(&net, 0, &run);
    let roster = &view.head().expect("certified").roster;
    let own = |peer: &PeerId| roster.get(peer).map(|member| member.own_tokens);
    assert_eq!(own(&victim.peer_id()), Some(1_000));
    assert!(all.iter().all(|thief| own(thief) == Some(0)));
}

#[test]
fn a_proposer_does_not_choose_the_next_committee() {
    let run = RunId(hash::digest(Domain::Simulation, b"run"));
    let manifest = {
        let mut manifest = manifest(stranger(0).peer_id(), Vec::new(), 90, 9);
        manifest.membership.committee = 7;
        manifest
    };
    let chain = |n: u64| Chain::new(&stranger(n), &run, manifest.closing_round());
    let joined = |n: u64, root: u64| Joined {
        entry: EntryRef {
            author: stranger(n).peer_id(),
            seq: Seq(0),
            block: BlockId::default(),
            index: 0,
        },
        role: Role::Contributor,
        root: MerkleRoot(hash::digest(Domain::Simulation, &root.to_le_bytes())),
        tokens: 1_000,
        own_tokens: 1_000,
        beacon: chain(n).commitment(),
    };
    let mut genesis = empty_value(run, Round(0));
    genesis.joins = (0..90).map(|n| joined(n, 0)).collect();
    genesis.joins.sort();
    genesis.adapter.size = 4 * manifest.model.adapter.parameters() as u64;
    let after = |head: Option<&Head>, mut value: RoundValue| {
        state::conclude(&manifest, head, &mut value).expect("a change of members");
        state::follow(&manifest, run, head, &value)
    };
    let head = after(None, genesis).expect("a genesis");
    let proposer = state::committee(&manifest, &run, Some(&head)).proposer(0);
    let at = (0..90)
        .find(|n| stranger(*n).peer_id() == proposer)
        .expect("a member");
    // Everything that a proposer can put in: joins and leaves of its own names, with any root, and any adapter.
    let next = |nonce: u64| {
        let mut value = empty_value(run, Round(1));
        value.link = chain(at).link(Round(1));
        value.previous = head.hash;
        value.adapter = head.adapter;
        value.adapter.hash = BlobHash(hash::digest(Domain::Simulation, &nonce.to_le_bytes()));
        value.included = (0..2 + nonce % 3).map(|n| included(n, &manifest)).collect();
        value.included.sort();
        value.joins = (0..nonce % 5)
            .map(|n| joined(100 + nonce * 5 + n, nonce))
            .collect();
        value.joins.sort();
        let leaver = 80 + nonce % 10;
        let mut leave = joined(leaver, 0).entry;
        leave.seq = Seq(1 + nonce);
        value.leaves = if nonce.is_multiple_of(2) {
            vec![leave]
        } else {
            vec![]
        };
        let head = after(Some(&head), value).expect("a next round");
        (leaver, state::committee(&manifest, &run, Some(&head)))
    };
    let names: Vec<PeerId> = (0..90).map(|n| stranger(n).peer_id()).collect();
    let (_, first) = next(1);
    for nonce in 2..1_000 {
        let (leaver, committee) = next(nonce);
        let gone = (nonce % 2 == 0).then(|| names[leaver as usize]);
        for name in names.iter().filter(|name| Some(**name) != gone) {
            assert_eq!(committee.votes(name), first.votes(name), "try {nonce}");
        }
        assert!(committee.members().iter().all(|name| names.contains(name)));
    }
}

fn empty_value(run: RunId, round: Round) -> RoundValue {
    RoundValue {
        run,
        round,
        ..RoundValue::default()
    }
}

fn included(n: u64, manifest: &Manifest) -> Included {
    Included {
        receipt: EntryRef {
            author: stranger(n).peer_id(),
            seq: Seq(1),
            block: BlockId::default(),
            index: 0,
        },
        update: BlobRef {
            hash: BlobHash::default(),
            size: state::update_size(manifest, Round(1)),
        },
        tokens: 1,
        weight: 1,
    }
}
