//! How fast entries are taken into a ledger: decoded, checked, their block's signature verified, linked to their log.

use std::time::Instant;

use tributary_protocol::entry::{Contribution, Entry};
use tributary_protocol::id::{Round, RunId, Scope};
use tributary_protocol::limits;
use tributary_protocol::log::SignedBlock;
use tributary_protocol::logset::{Insert, LogSet};
use tributary_protocol::test_utils::attack::{NET, block};
use tributary_protocol::test_utils::fixture::contribution;
use tributary_protocol::test_utils::net::key;

/// A log of blocks with as many receipts as one takes.
fn log(blocks: u64, run: RunId) -> Vec<SignedBlock> {
    let receipts = |of: u64| {
        let receipt = |n: u64| Contribution {
            round: Round((1 + of + n) as u32),
            ..contribution()
        };
        let entries = (0..limits::MAX_BLOCK_ENTRIES as u64).map(receipt);
        entries.map(Entry::Contribution).collect()
    };
    let mut out: Vec<SignedBlock> = Vec::new();
    for seq in 0..blocks {
        let prev = out.last().map(SignedBlock::id);
        out.push(block(&key(1), run, (seq, prev), Vec::new(), receipts(seq)));
    }
    out
}

/// Takes a log in, as a peer that is sent it does. Entries a second.
fn admit(blocks: &[SignedBlock], run: RunId) -> f64 {
    let mut set = LogSet::new(NET, Scope::Run(run));
    let start = Instant::now();
    let mut entries = 0;
    for sent in blocks {
        let block = SignedBlock::decode(sent.bytes(), NET).expect("a good block");
        entries += block.block().entries.len();
        assert_eq!(set.insert(block), Insert::New);
    }
    entries as f64 / start.elapsed().as_secs_f64()
}

#[test]
fn a_log_of_full_blocks_is_taken_in() {
    let run = RunId::default();
    let blocks = log(3, run);
    assert!((blocks.iter()).all(|block| block.block().entries.len() == limits::MAX_BLOCK_ENTRIES));
    assert!(admit(&blocks, run) > 0.0);
}

/// Writes a figure of `docs/numbers/books.md`.
#[test]
#[ignore = "a measurement"]
fn entries_a_second() {
    let run = RunId::default();
    let blocks = log(400, run);
    let mut found: Vec<f64> = (0..9).map(|_| admit(&blocks, run)).collect();
    found.sort_by(f64::total_cmp);
    let entries = limits::MAX_BLOCK_ENTRIES;
    println!(
        "admission: {entries} entries a block, median {:.0} entries/s",
        found[4]
    );
}
