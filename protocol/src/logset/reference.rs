//! The slow twin of [`super::LogSet`]: the plain set of all blocks, everything recomputed from it.

use std::collections::{BTreeMap, BTreeSet};

use super::{EquivocationProof, ForkMark, LogHead};
use crate::id::{BlockId, PeerId, Seq};
use crate::log::SignedBlock;

/// Blocks that count and the fork, author by author; authors without either are left out.
pub(super) type Ledger = BTreeMap<PeerId, (Vec<LogHead>, Option<ForkMark>)>;

pub(super) fn ledger(blocks: &[SignedBlock]) -> Ledger {
    let authors: BTreeSet<PeerId> = blocks.iter().map(|b| b.block().author).collect();
    let of = |author| blocks.iter().filter(move |b| b.block().author == author);
    (authors.into_iter())
        .map(|author| (author, log(of(author).collect())))
        .filter(|(_, (chain, fork))| !chain.is_empty() || fork.is_some())
        .collect()
}

fn asserts(block: &SignedBlock) -> Vec<(Seq, BlockId)> {
    let mut out = vec![(block.block().seq, block.id())];
    if let Some(prev) = block.block().prev {
        out.push((Seq(block.block().seq.0 - 1), prev));
    }
    out
}

fn log(blocks: Vec<&SignedBlock>) -> (Vec<LogHead>, Option<ForkMark>) {
    let mut said: BTreeMap<Seq, BTreeSet<BlockId>> = BTreeMap::new();
    for (at, id) in blocks.iter().flat_map(|b| asserts(b)) {
        said.entry(at).or_default().insert(id);
    }
    let forked = said
        .iter()
        .find(|(_, ids)| ids.len() > 1)
        .map(|(at, _)| *at);
    let mut chain = Vec::new();
    while let Some(block) = (blocks.iter())
        .find(|b| b.block().seq.0 == chain.len() as u64 && forked.is_none_or(|f| b.block().seq < f))
    {
        chain.push(block.head());
    }
    (chain, forked.map(|at| proof(&blocks, at)))
}

fn proof(blocks: &[&SignedBlock], at: Seq) -> ForkMark {
    let mut pairs = Vec::new();
    for one in blocks {
        for other in blocks {
            if let Some(proof) = EquivocationProof::new(at, one, other) {
                let key = proof.blocks().map(|b| (b.block().seq, b.id()));
                pairs.push((key, proof.mark()));
            }
        }
    }
    pairs.sort();
    pairs[0].1
}
