//! Members fill nothing that all share either: the bytes of a log are bounded by the rounds that are certified, and all
//! that an honest member has to say fits.

use std::sync::{Mutex, PoisonError};

use peak_alloc::PeakAlloc;
use tributary_protocol::codec;
use tributary_protocol::entry::{
    Contribution, Entry, Join, Role, Score, ScoreSheet, SheetSeal, ShownSheet,
};
use tributary_protocol::event::Record;
use tributary_protocol::filing::{EvmAddress, Transaction};
use tributary_protocol::hash::{self, Digest, Domain};
use tributary_protocol::id::{
    BlobHash, BlobRef, BlockId, MerkleRoot, NanoNats, PeerId, Round, RunId, Seq, StateHash,
};
use tributary_protocol::limits;
use tributary_protocol::log::SignedBlock;
use tributary_protocol::logset::LogHead;
use tributary_protocol::manifest::Manifest;
use tributary_protocol::round::EntryRef;
use tributary_protocol::sketch::Sketch;
use tributary_protocol::test_utils::attack::{self, begun, block, round, say, view};
use tributary_protocol::test_utils::fixture;
use tributary_protocol::test_utils::net::{Net, join, key, manifest};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What is allocated is counted for the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Rounds that honest logs are looked at for.
const ROUNDS: u32 = 200;
/// A block in memory, in bytes of what it counts: as it came, decoded, and in views; and what holds the views.
const MEMORY_PER_BYTE: usize = 4;

/// What a log may count after so many certificates.
fn quota(certificates: u64) -> u64 {
    limits::FREE_LOG_BYTES + limits::LOG_BYTES_PER_ROUND * certificates
}

fn heads() -> Vec<LogHead> {
    (0..limits::MAX_SEEN_HEADS as u8)
        .map(|nth| LogHead {
            author: PeerId(Digest::from_bytes([nth; 32])),
            seq: Seq(limits::MAX_SEQ),
            block: BlockId(Digest::from_bytes([nth; 32])),
        })
        .collect()
}

/// A log under construction, each block as large as its entries and 64 heads make it.
struct Log {
    author: usize,
    run: RunId,
    blocks: Vec<SignedBlock>,
    next: (u64, Option<BlockId>),
}

impl Log {
    fn say(&mut self, entries: Vec<Entry>) {
        let said = block(&key(self.author), self.run, self.next, heads(), entries);
        self.next = (self.next.0 + 1, Some(said.id()));
        self.blocks.push(said);
    }

    fn weight(&self) -> u64 {
        self.blocks.iter().map(|block| block.weight() as u64).sum()
    }
}

fn largest_manifest(creator: PeerId) -> Manifest {
    let mut manifest = manifest(creator, Vec::new(), 2, ROUNDS);
    let module = manifest.model.adapter.modules[0].clone();
    manifest.model.adapter.modules.clear();
    for nth in 0..limits::MAX_MODULES {
        let mut module = module.clone();
        module.name = format!("{nth:0>36}");
        (module.inputs, module.outputs) = (4096, 4096);
        manifest.model.adapter.modules.push(module);
    }
    let bytes = codec::encode(&manifest).len();
    assert!(bytes > limits::MAX_MANIFEST_BYTES * 9 / 10, "{bytes}");
    manifest
}

fn largest_sketch() -> Sketch {
    let prints = (0..4_000u64).map(|n| {
        let digest = hash::digest(Domain::Simulation, &n.to_le_bytes());
        u64::from_le_bytes(digest.as_bytes()[..8].try_into().expect("eight bytes"))
    });
    Sketch::keeping(prints)
}

fn largest_join() -> Join {
    let sketch = Some(largest_sketch().commit(&key(0).peer_id()));
    Join {
        name: "x".repeat(limits::MAX_NAME_BYTES),
        tokens: limits::MAX_TOKENS,
        fingerprints: Some(MerkleRoot(Digest::from_bytes([7; 32]))),
        sketch,
        ..join(1, Role::Both)
    }
}

fn largest_call() -> Entry {
    let place = |nth: usize| EntryRef {
        author: PeerId(Digest::from_bytes([nth as u8; 32])),
        seq: Seq(1 << 33),
        block: BlockId(Digest::from_bytes([6; 32])),
        index: 255,
    };
    Entry::Call((0..limits::MAX_CALLED).map(place).collect())
}

fn largest_receipt(round: u32) -> Entry {
    Entry::Contribution(Contribution {
        round: Round(round),
        base: StateHash(Digest::from_bytes([1; 32])),
        update: BlobRef {
            hash: BlobHash(Digest::from_bytes([2; 32])),
            size: limits::MAX_UPDATE_BYTES,
        },
        tokens: limits::MAX_TOKENS,
        shard: MerkleRoot(Digest::from_bytes([3; 32])),
    })
}

fn largest_sheet(round: u32) -> Entry {
    let most = NanoNats(limits::MAX_NANO_NATS);
    let score = |nth: u8| Score {
        peer: PeerId(Digest::from_bytes([nth; 32])),
        score: most,
        low: NanoNats(-limits::MAX_NANO_NATS),
        high: most,
        luck: most,
    };
    let sheet = ScoreSheet {
        round: Round(round),
        state: StateHash(Digest::from_bytes([4; 32])),
        predicted: limits::MAX_TOKENS,
        loss_before: most,
        loss_after: most,
        scores: (0..limits::MAX_INCLUDED as u8).map(score).collect(),
    };
    Entry::ScoreSheet(ShownSheet {
        sheet,
        seals: u32::MAX,
    })
}

fn largest_transaction() -> Entry {
    Entry::Transaction(Transaction {
        to: EvmAddress([0xff; 20]),
        data: vec![0xff; limits::MAX_TRANSACTION_BYTES],
    })
}

fn seal(round: u32) -> Entry {
    Entry::SheetSeal(SheetSeal {
        round: Round(round),
        state: StateHash(Digest::from_bytes([4; 32])),
        sheet: Digest::from_bytes([5; 32]),
    })
}

/// A creator that trains and scores, leaves whenever it may, and joins again; an eighth of what it may say stays free.
#[test]
fn the_largest_log_that_an_honest_member_can_have_fits_with_room() {
    let creator = key(0).peer_id();
    let manifest = largest_manifest(creator);
    let mut log = Log {
        author: 0,
        run: manifest.run_id(),
        blocks: Vec::new(),
        next: (0, None),
    };
    log.say(vec![Entry::Create(Box::new(manifest))]);
    log.say(vec![Entry::Join(largest_join())]);
    for _ in 0..limits::MAX_CALLS {
        log.say(vec![largest_call()]);
    }
    log.say(vec![Entry::Opening(largest_sketch())]);
    assert!(log.next.0 <= limits::FREE_BLOCKS);
    let opening = log.weight();
    assert!(opening <= quota(0) * 7 / 8, "{opening}");
    for certified in 1..=ROUNDS {
        log.say(vec![largest_receipt(certified)]);
        log.say(vec![seal(certified)]);
        log.say(vec![largest_sheet(certified)]);
        log.say(vec![Entry::RootSignature(fixture::root_signature())]);
        log.say(vec![largest_transaction()]);
        // A leave is certified before the author can join again, and that join before it can open its sketch or leave.
        if certified % 2 == 0 {
            log.say(vec![Entry::Join(largest_join())]);
        } else {
            log.say(vec![Entry::Opening(largest_sketch())]);
            log.say(vec![Entry::Leave]);
        }
        let (said, most) = (log.weight(), quota(u64::from(certified)));
        assert!(said <= most * 7 / 8, "round {certified}: {said} of {most}");
        let blocks = limits::FREE_BLOCKS + limits::BLOCKS_PER_ROUND * u64::from(certified);
        assert!(log.next.0 <= blocks);
    }
    let per_round = (log.weight() - opening) / u64::from(ROUNDS);
    println!("opening: {opening} bytes; a round: {per_round} bytes");
}

/// What follows the log of member 4, which has gone, as long as positions last, in blocks of these entries.
fn follow_up(net: &Net, run: RunId, entries: impl Fn(u64) -> Vec<Entry>) -> Vec<SignedBlock> {
    let rounds = view(net, 0, &run).chain().len() as u64;
    let positions = limits::FREE_BLOCKS + limits::BLOCKS_PER_ROUND * rounds;
    let last = view(net, 0, &run)
        .log()
        .last(net.ids[4])
        .map(SignedBlock::head);
    let last = last.expect("it has joined");
    let mut log = Log {
        author: 4,
        run,
        blocks: Vec::new(),
        next: (last.seq.0 + 1, Some(last.block)),
    };
    while log.next.0 < positions {
        log.say(entries(log.next.0));
    }
    log.blocks
}

/// As many sheets as a block takes.
fn fat(_: u64) -> Vec<Entry> {
    vec![largest_sheet(1); 9]
}

/// As many entries as a block takes, of a byte each.
fn thin(_: u64) -> Vec<Entry> {
    vec![Entry::Leave; limits::MAX_BLOCK_ENTRIES]
}

fn durable_bytes(net: &Net, author: PeerId) -> u64 {
    let blocks = net.records[0].iter().filter_map(|record| match record {
        Record::Block(bytes) => Some(bytes),
        _ => None,
    });
    let of_author = blocks.filter(|bytes| {
        let block = SignedBlock::decode(bytes, attack::NET).expect("it was checked");
        block.block().author == author
    });
    of_author.map(|bytes| bytes.len() as u64).sum()
}

/// Says `blocks` to the first of five nodes, whose fifth has gone; what the log counts then, and what memory it took.
fn said(net: &mut Net, run: RunId, blocks: &[SignedBlock]) -> (u64, usize) {
    let before = MEMORY.current_usage();
    for block in blocks {
        say(net, 0, block);
    }
    let grown = MEMORY.current_usage().saturating_sub(before);
    (view(net, 0, &run).log().weight(net.ids[4]) as u64, grown)
}

#[test]
fn a_member_that_writes_the_largest_blocks_takes_bounded_memory_and_disk() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for (entries, is_fat) in [(fat as fn(u64) -> Vec<Entry>, true), (thin, false)] {
        let (mut net, run) = begun(5, 5);
        net.crash(4);
        let blocks = follow_up(&net, run, entries);
        let wanted: u64 = blocks.iter().map(|block| block.weight() as u64).sum();
        let most = quota(view(&net, 0, &run).chain().len() as u64);
        assert!(wanted > 3 * most, "positions alone allow more: {wanted}");
        let (weight, grown) = said(&mut net, run, &blocks);
        println!("largest blocks: {wanted} bytes said, {weight} taken, {grown} in memory");
        assert!(weight <= most, "{weight} of {most}");
        assert!(!is_fat || weight > most - limits::MAX_BLOCK_BYTES as u64 - 4096);
        assert!(durable_bytes(&net, net.ids[4]) <= most);
        // The records of this test's disk are in memory as well.
        let allowed = (MEMORY_PER_BYTE + 1) * most as usize;
        assert!(grown <= allowed, "{grown} of {allowed}");
    }
}

#[test]
fn blocks_that_wait_for_others_are_no_way_around_the_bound() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut net, run) = begun(5, 5);
    net.crash(4);
    let mut blocks = follow_up(&net, run, fat);
    let most = quota(view(&net, 0, &run).chain().len() as u64);
    // All but the first, the last before the others, and then from the first on.
    blocks.rotate_left(1);
    let (waiting, _) = said(
        &mut net,
        run,
        &blocks.iter().rev().skip(1).cloned().collect::<Vec<_>>(),
    );
    assert!(waiting <= most, "{waiting} of {most}");
    blocks.rotate_right(1);
    let (weight, _) = said(&mut net, run, &blocks);
    assert!(weight <= 2 * most, "{weight} of {most}");
    assert!(weight > waiting, "the gap was closed");
}

#[test]
fn what_a_member_may_not_say_yet_is_taken_once_more_rounds_are_certified() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut net, run) = begun(5, 5);
    net.crash(4);
    let blocks = follow_up(&net, run, fat);
    let (weight, _) = said(&mut net, run, &blocks);
    let rounds = view(&net, 0, &run).chain().len() as u64;
    assert!(net.run_until(120_000, |net| round(net, 0, &run) >= Some(Round(4))));
    let (later, _) = said(&mut net, run, &blocks);
    let certified = view(&net, 0, &run).chain().len() as u64;
    assert!(
        later > weight + (certified - rounds - 2) * limits::LOG_BYTES_PER_ROUND,
        "{weight}, then {later}"
    );
    assert!(later <= quota(certified));
}

#[test]
fn a_proof_of_equivocation_is_taken_beyond_the_bound() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut net, run) = begun(5, 5);
    net.crash(4);
    let blocks = follow_up(&net, run, fat);
    said(&mut net, run, &blocks);
    let liar = net.ids[4];
    let last = view(&net, 0, &run)
        .log()
        .last(liar)
        .expect("it has said much")
        .head();
    let full = blocks
        .iter()
        .find(|block| block.block().seq.0 == last.seq.0 + 1);
    let full = full.expect("not all of it was taken");
    assert!(
        !view(&net, 0, &run).log().knows(&full.head()),
        "the log is full"
    );
    let other = Some(BlockId(Digest::from_bytes([9; 32])));
    let at = (last.seq.0 + 1, other);
    say(&mut net, 0, &block(&key(4), run, at, Vec::new(), fat(0)));
    assert!(view(&net, 0, &run).log().is_equivocator(liar));
}
