//! Ledgers that nobody would write: whatever the logs of strangers and of one member hold, the others go on.

use tributary_protocol::entry::{Contribution, Entry, Role, Score, ScoreSheet, ShownSheet};
use tributary_protocol::event::{Command, JoinRequest};
use tributary_protocol::hash::{Digest, Domain, Hasher, Stream};
use tributary_protocol::id::{
    BlobHash, BlobRef, BlockId, MerkleRoot, NanoNats, Round, RunId, Seq, StateHash,
};
use tributary_protocol::manifest::Weights;
use tributary_protocol::round::EntryRef;
use tributary_protocol::sign::SecretKey;
use tributary_protocol::sketch::Sketch;
use tributary_protocol::test_utils::attack::{block, round, say, stranger, view};
use tributary_protocol::test_utils::fixture;
use tributary_protocol::test_utils::net::{Net, join, key, manifest};

const LEDGERS: u64 = 40;

/// Draws for one ledger.
fn draws(seed: u64) -> Stream {
    let mut hasher = Hasher::new(Domain::Simulation);
    hasher.update(b"ledger").update(&seed.to_le_bytes());
    hasher.finalize_xof()
}

/// Members with text of their own, and the genesis certified. Names without text weigh next to nothing here.
fn begun(members: usize, rounds: u32) -> (Net, RunId) {
    let mut net = Net::new(members);
    let mut manifest = manifest(net.ids[0], Vec::new(), members as u32, rounds);
    manifest.updates.weights = Weights::Own { full: 1_000 };
    manifest.plan.min_contributions = (members as u32 - 1).clamp(1, 2);
    let run = manifest.run_id();
    net.command(0, Command::Create(Box::new(manifest)));
    for node in 0..members {
        let mut prints = draws(1_000 + node as u64);
        let join = Some(JoinRequest {
            join: join(node, Role::Contributor),
            sketch: Some(Sketch::keeping((0..2_000).map(|_| prints.next_u64()))),
        });
        net.command(node, Command::Follow { run, join });
    }
    let all = |net: &Net| (0..members).all(|node| round(net, node, &run) >= Some(Round(0)));
    assert!(net.run_until(60_000, all), "genesis");
    (net, run)
}

/// Any entry that a block may carry, about a round and a state that may or may not be the open one.
fn entry(draws: &mut Stream, net: &Net, run: &RunId) -> Entry {
    let head = view(net, 0, run).head().expect("the genesis is certified");
    let state = match draws.below(2) {
        0 => head.hash,
        _ => StateHash::default(),
    };
    let round = Round(1 + draws.below(4) as u32);
    match draws.below(9) {
        0 | 1 => Entry::Leave,
        7 => Entry::Opening(Sketch::keeping([draws.below(3), 1 << 40])),
        8 => Entry::Call(vec![EntryRef {
            author: net.ids[0],
            seq: Seq(draws.below(3)),
            block: BlockId::default(),
            index: 0,
        }]),
        2..=4 => {
            let roles = [Role::Contributor, Role::Evaluator, Role::Both];
            let mut join = join(draws.below(200) as usize, roles[draws.below(3) as usize]);
            // A commitment to what is opened now and then.
            let sketch = Sketch::keeping([draws.below(3), 1 << 40]);
            let liar = net.ids.last().expect("members");
            join.sketch = Some(sketch.commit(liar));
            Entry::Join(join)
        }
        5 => Entry::Contribution(Contribution {
            round,
            base: state,
            update: BlobRef {
                hash: BlobHash(Digest::from_bytes([draws.below(250) as u8; 32])),
                size: 10 + draws.below(3),
            },
            tokens: 1 + draws.below(40),
            // As the last member joined with.
            shard: MerkleRoot(Digest::from_bytes([net.ids.len() as u8; 32])),
        }),
        _ => judgement(draws, net, round, state),
    }
}

/// A seal, or a sheet that may be another than was sealed.
fn judgement(draws: &mut Stream, net: &Net, round: Round, state: StateHash) -> Entry {
    let sheet = ScoreSheet {
        round,
        state,
        predicted: 1,
        loss_before: NanoNats(2),
        loss_after: NanoNats(1),
        scores: vec![Score {
            peer: net.ids[0],
            score: NanoNats(draws.below(2) as i64),
            low: NanoNats(0),
            high: NanoNats(2),
            luck: NanoNats(1),
        }],
    };
    let author = net.ids[draws.below(net.ids.len() as u64) as usize];
    match draws.below(7) {
        0 => Entry::SheetSeal(sheet.seal(&author)),
        1 => Entry::Bind(fixture::bind()),
        2 => Entry::RootSignature(fixture::root_signature()),
        3 => Entry::Transaction(fixture::transaction()),
        4 => Entry::Answers(fixture::answers()),
        5 => Entry::Confirm(fixture::confirm()),
        _ => Entry::ScoreSheet(ShownSheet {
            sheet,
            seals: draws.below(8) as u32,
        }),
    }
}

/// Blocks of one author behind what is known of its log, now and then two at one place.
fn write(draws: &mut Stream, net: &mut Net, run: RunId, author: &SecretKey) {
    let last = view(net, 0, &run)
        .log()
        .last(author.peer_id())
        .map(|block| block.head());
    let (mut seq, mut prev) = last.map_or((0, None), |head| (head.seq.0 + 1, Some(head.block)));
    for _ in 0..1 + draws.below(3) {
        let some = |draws: &mut Stream, net: &Net| -> Vec<Entry> {
            (0..1 + draws.below(4))
                .map(|_| entry(draws, net, &run))
                .collect()
        };
        let twins = 1 + u64::from(draws.below(5) == 0);
        let mut written = None;
        for _ in 0..twins {
            let entries = some(draws, net);
            let signed = block(author, run, (seq, prev), Vec::new(), entries);
            for node in 0..net.nodes.len() {
                // Not everybody hears everything at once.
                if draws.below(4) > 0 && net.nodes[node].is_some() {
                    say(net, node, &signed);
                }
            }
            written = Some(signed.id());
        }
        (seq, prev) = (seq + 1, written);
    }
}

/// Lets strangers write what they like while members go on to the end. Of four and more, the last is a liar: its node is
/// gone, and its key writes too.
fn goes_on(members: usize, rounds: u32, seed: u64) {
    let mut draws = draws(seed);
    let (mut net, run) = begun(members, rounds);
    let liar = Some(members - 1).filter(|_| members >= 4);
    liar.into_iter().for_each(|liar| net.crash(liar));
    for _ in 0..=rounds {
        for nth in 0..draws.below(12) {
            let author = stranger(seed * 100 + nth);
            write(&mut draws, &mut net, run, &author);
        }
        if let Some(liar) = liar {
            write(&mut draws, &mut net, run, &key(liar));
        }
        let until = net.now_ms + 1_500;
        net.run_until(until, |_| false);
    }
    let honest = liar.unwrap_or(members);
    let finished = |net: &Net| (0..honest).all(|node| view(net, node, &run).is_finished());
    assert!(
        net.run_until(3_600_000, finished),
        "ledger {seed} of {members} members stops the run"
    );
}

#[test]
fn whatever_logs_hold_the_next_rounds_are_certified() {
    (0..LEDGERS).for_each(|seed| goes_on(5, 5, seed));
}

#[test]
fn they_are_certified_whatever_the_number_of_members() {
    // Up to 64 all vote; of more a committee is drawn.
    for (seed, members) in (1_000..).zip([1, 2, 3, 4, 6, 7, 8, 11, 16, 24, 33, 48, 64, 65, 66, 80])
    {
        goes_on(members, 2, seed);
    }
}
