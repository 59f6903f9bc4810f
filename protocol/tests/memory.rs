//! Strangers, whose keys are free, fill nothing that all share: what they say costs bounded memory, no disk, and
//! keeps no newcomer out.

use std::sync::{Mutex, PoisonError};

use peak_alloc::PeakAlloc;
use tributary_protocol::entry::{Entry, Role};
use tributary_protocol::event::{Command, Record};
use tributary_protocol::hash::{self, Domain};
use tributary_protocol::id::{BlockId, PeerId, Round, RunId, Seq};
use tributary_protocol::limits;
use tributary_protocol::log::SignedBlock;
use tributary_protocol::logset::LogHead;
use tributary_protocol::node::{Bounds, NodeConfig, Resource, Resources};
use tributary_protocol::sketch::Sketch;
use tributary_protocol::sync;
use tributary_protocol::test_utils::attack::{
    self, ask, begun, block, opened, round, say, stranger, view,
};
use tributary_protocol::test_utils::net::{self, Net, join, manifest};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What is allocated is counted for the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What a person may read here: a peer's memory for all that strangers say.
const PROMISE: usize = 64 << 20;

fn heads() -> Vec<LogHead> {
    (0..limits::MAX_SEEN_HEADS as u8)
        .map(|nth| LogHead {
            author: PeerId(hash::Digest::from_bytes([nth; 32])),
            seq: Seq(0),
            block: BlockId::default(),
        })
        .collect()
}

/// All that one stranger may say, as large as it may be.
fn fat(nth: u64, run: RunId) -> Vec<SignedBlock> {
    let key = stranger(nth);
    let mut blocks: Vec<SignedBlock> = Vec::new();
    for seq in 0..limits::MAX_STRANGER_BLOCKS {
        let prev = blocks.last().map(SignedBlock::id);
        let entries = vec![Entry::Leave; limits::MAX_STRANGER_ENTRIES];
        blocks.push(block(&key, run, (seq, prev), heads(), entries));
    }
    blocks
}

fn joining(nth: u64, run: RunId) -> SignedBlock {
    let mut join = join(1, Role::Contributor);
    let prints = (0..4_000u64).map(|n| {
        let digest = hash::digest(Domain::Simulation, &(nth * 4_000 + n).to_le_bytes());
        u64::from_le_bytes(digest.as_bytes()[..8].try_into().expect("eight bytes"))
    });
    let key = stranger(nth);
    let sketch = Sketch::keeping(prints);
    join.sketch = Some(sketch.commit(&key.peer_id()));
    block(
        &key,
        run,
        (0, None),
        Vec::new(),
        vec![Entry::Join(join), Entry::Opening(sketch)],
    )
}

fn durable_blocks(net: &Net, node: usize) -> usize {
    let is_block = |record: &&Record| matches!(record, Record::Block(_));
    net.records[node].iter().filter(is_block).count()
}

/// Fills the pools of `nodes`, and says how many strangers that took.
fn fill(net: &mut Net, nodes: std::ops::Range<usize>, run: RunId) -> u64 {
    let before = durable_blocks(net, nodes.start);
    for nth in 0.. {
        for block in fat(nth, run) {
            nodes.clone().for_each(|node| say(net, node, &block));
        }
        assert_eq!(durable_blocks(net, nodes.start), before, "no disk");
        let held = view(net, nodes.start, &run).log().strangers().len() as u64;
        if held <= nth {
            return nth;
        }
    }
    unreachable!("there is a bound")
}

#[test]
fn strangers_do_not_close_the_ledger_to_newcomers() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut net, run) = begun(6, 5);
    let mut said = fill(&mut net, 0..5, run);
    ask(&mut net, 5, run);
    let mine = net.ids[5];
    let mut asked = None;
    // They go on, a hundred of them each second.
    for _ in 0..600 {
        let until = net.now_ms + 20;
        net.run_until(1_000, |net| net.now_ms >= until);
        if asked.is_none() && view(&net, 5, &run).log().last(mine).is_some() {
            asked = round(&net, 0, &run);
        }
        if view(&net, 0, &run)
            .head()
            .is_some_and(|h| h.roster.get(&mine).is_some())
        {
            break;
        }
        for nth in said..said + 2 {
            for block in fat(nth, run) {
                (0..5).for_each(|node| say(&mut net, node, &block));
            }
        }
        said += 2;
    }
    let admits = |c: &tributary_protocol::certificate::Certificate| {
        let joins = &c.value.joins;
        joins.iter().any(|j| j.entry.author == mine)
    };
    let chain = view(&net, 0, &run).chain();
    let admitted = chain.iter().find(|c| admits(c)).map(|c| c.value.round);
    let asked = asked.expect("it says its join");
    println!(
        "{said} strangers before and after: asked after round {asked}, admitted by {admitted:?}"
    );
    assert!(
        admitted.is_some_and(|at| at <= asked.next().next()),
        "asked after {asked}, admitted by {admitted:?}"
    );
}

#[test]
fn what_strangers_may_say_fits_in_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut net, run) = begun(2, 2);
    let before = MEMORY.current_usage();
    let grown = || MEMORY.current_usage().saturating_sub(before);
    let first = fill(&mut net, 0..1, run);
    let full = grown();
    for nth in first..2 * first {
        for block in fat(nth, run) {
            say(&mut net, 0, &block);
        }
    }
    let (twice, of_joins) = (grown(), 1 << 32);
    for nth in of_joins..of_joins + 12_000 {
        say(&mut net, 0, &joining(nth, run));
    }
    let joins = grown();
    println!(
        "{first} strangers fill the pool: {full} bytes; twice as many: {twice}; joins instead: {joins}"
    );
    let held = view(&net, 0, &run).log().strangers_bytes();
    assert!(held <= limits::MAX_STRANGERS_BYTES, "{held}");
    assert!(
        held > limits::MAX_STRANGERS_BYTES / 2,
        "the pool was full: {held}"
    );
    assert!(full.max(twice).max(joins) <= PROMISE);
}

/// 256 entries of one byte each would take a hundred times that once decoded.
#[test]
fn a_stranger_may_not_say_what_grows_when_it_is_read() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut net, run) = begun(2, 2);
    let many = vec![Entry::Leave; limits::MAX_STRANGER_ENTRIES + 1];
    let grows = block(&stranger(1), run, (0, None), Vec::new(), many);
    say(&mut net, 0, &grows);
    assert_eq!(view(&net, 0, &run).log().strangers(), []);
}

#[test]
fn peers_compare_what_certificates_admit_and_nothing_else() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut net, run) = begun(6, 5);
    for nth in 0..10 {
        say(&mut net, 0, &fat(nth, run)[0]);
    }
    ask(&mut net, 5, run);
    let mine = net.ids[5];
    let admitted = |net: &Net, node: usize| {
        let head = view(net, node, &run).head();
        head.is_some_and(|head| head.roster.get(&mine).is_some())
    };
    let all = |net: &Net| (0..6).all(|node| admitted(net, node));
    assert!(net.run_until(60_000, all));
    assert!(net.run_until(60_000, |net| {
        (0..6).all(|n| view(net, n, &run).is_finished())
    }));
    net.run_until(20_000, |_| false);
    let digest = |node: usize| sync::open(view(&net, node, &run).log());
    assert!((1..6).all(|node| digest(node) == digest(0)), "one ledger");
    assert_eq!(view(&net, 0, &run).log().strangers().len(), 10);
    for node in 0..6 {
        let durable = net.records[node].iter().filter(|record| match record {
            Record::Block(bytes) => {
                let block = SignedBlock::decode(bytes, attack::NET).expect("it was checked");
                block.block().author == mine && block.block().seq == Seq(0)
            }
            _ => false,
        });
        assert!(
            durable.count() >= 1,
            "node {node} made the admitted join durable"
        );
    }
}

/// Sixty-four mebibytes an adapter: the first peer opened the run, the second gives less, the third as much.
#[test]
fn a_run_that_asks_for_more_than_a_peer_gives_costs_that_peer_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut wide = manifest(PeerId::default(), Vec::new(), 2, 6);
    wide.model.adapter.rank = 256;
    wide.model.adapter.modules.truncate(1);
    (
        wide.model.adapter.modules[0].inputs,
        wide.model.adapter.modules[0].outputs,
    ) = (1 << 15, 1 << 15);
    let asked = Bounds::of(&wide);
    assert_eq!(asked.adapter, 64 << 20);
    let giving = |node: usize, adapter: u64| {
        let bounds = Some(Bounds { adapter, ..asked });
        let resources = Resources {
            bounds,
            ..Resources::default()
        };
        NodeConfig {
            resources,
            ..net::config(node)
        }
    };
    let configs = vec![
        net::config(0),
        giving(1, asked.adapter - 1),
        giving(2, asked.adapter),
    ];
    let mut net = Net::of(configs);
    wide.creator = net.ids[0];
    let run = wide.run_id();
    net.command(0, Command::Create(Box::new(wide)));
    let mut grown = [0; 3];
    for (node, grown) in grown.iter_mut().enumerate().skip(1) {
        let before = MEMORY.current_usage();
        net.command(node, Command::Follow { run, join: None });
        let knows = |net: &Net| {
            let view = view(net, node, &run);
            view.manifest().is_some() || view.declined().is_some()
        };
        assert!(net.run_until(60_000, knows), "the manifest arrives");
        *grown = MEMORY.current_usage().saturating_sub(before);
    }
    println!("declined: {} bytes, followed: {} bytes", grown[1], grown[2]);
    let declined = *view(&net, 1, &run)
        .declined()
        .expect("it asks for too much");
    assert_eq!(
        (declined.part, declined.asks),
        (Resource::Adapter, asked.adapter)
    );
    assert!(grown[1] < 1 << 20, "{}", grown[1]);
    assert!(grown[2] >= 64 << 20, "{}", grown[2]);
    // It stays declined, whatever else is heard of it, and takes no part.
    ask(&mut net, 1, run);
    net.run_until(5_000, |_| false);
    assert!(view(&net, 1, &run).join().is_none());
    assert!(view(&net, 1, &run).manifest().is_none());
    assert_eq!(view(&net, 1, &run).awaited_blobs(), 0);
}

/// The genesis waits for a sixth member; meanwhile every peer forgets what strangers said.
#[test]
fn a_join_that_everybody_forgot_is_said_again() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut net, run) = opened(6, 5, 6);
    let heard = |net: &Net| view(net, 0, &run).log().strangers().len() >= 4;
    assert!(net.run_until(60_000, heard), "the joins of four others");
    for node in 0..5 {
        net.crash(node);
    }
    for node in 0..5 {
        net.restart(node);
    }
    ask(&mut net, 5, run);
    let begun = |net: &Net| (0..6).all(|node| round(net, node, &run) >= Some(Round(0)));
    assert!(net.run_until(60_000, begun), "genesis");
}
