//! Proofs that an author wrote two histories.
//!
//! A block at position n asserts its own id for n and its `prev` for n - 1. Two blocks of one author
//! that assert different blocks for one position contradict each other; no honest author signs both.

use crate::id::{BlockId, PeerId, Seq};
use crate::log::SignedBlock;

/// Two blocks that assert different blocks for one position of their author's log.
///
/// Of all pairs that prove the lowest forked position, the one kept is least by (position, id), so
/// that peers end with the same proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EquivocationProof {
    at: Seq,
    first: SignedBlock,
    second: SignedBlock,
}

/// A proof by name: enough to see whether two peers hold the same.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode,
)]
pub struct ForkMark {
    /// The author that equivocated.
    pub author: PeerId,
    /// The position from which on nothing counts.
    pub at: Seq,
    /// The first block of the proof.
    pub first: BlockId,
    /// The second.
    pub second: BlockId,
}

/// What `block` says stands at position `at`, if it says anything.
pub(super) fn assertion(block: &SignedBlock, at: Seq) -> Option<BlockId> {
    let seq = block.block().seq.0;
    if seq == at.0 {
        Some(block.id())
    } else if seq.checked_sub(1) == Some(at.0) {
        block.block().prev
    } else {
        None
    }
}

fn rank(block: &SignedBlock) -> (Seq, BlockId) {
    (block.block().seq, block.id())
}

impl EquivocationProof {
    /// The proof that two blocks make at position `at`, if they make one.
    pub fn new(at: Seq, one: &SignedBlock, other: &SignedBlock) -> Option<Self> {
        let (a, b) = (one.block(), other.block());
        if (a.author, a.scope, a.network) != (b.author, b.scope, b.network) {
            return None;
        }
        let (says, also_says) = (assertion(one, at)?, assertion(other, at)?);
        if says == also_says {
            return None;
        }
        let (first, second) = if rank(one) <= rank(other) {
            (one, other)
        } else {
            (other, one)
        };
        Some(Self {
            at,
            first: first.clone(),
            second: second.clone(),
        })
    }

    /// The lowest position at which two blocks contradict each other, with the proof.
    pub fn between(one: &SignedBlock, other: &SignedBlock) -> Option<Self> {
        let low = one.block().seq.min(other.block().seq);
        let below = low.0.checked_sub(1).map(Seq);
        (below.into_iter().chain([low])).find_map(|at| Self::new(at, one, other))
    }

    /// The author that equivocated.
    pub fn author(&self) -> PeerId {
        self.first.block().author
    }

    /// The position from which on nothing of the author counts.
    pub fn at(&self) -> Seq {
        self.at
    }

    /// The two blocks, lower position and id first.
    pub fn blocks(&self) -> [&SignedBlock; 2] {
        [&self.first, &self.second]
    }

    /// The proof by name.
    pub fn mark(&self) -> ForkMark {
        ForkMark {
            author: self.author(),
            at: self.at,
            first: self.first.id(),
            second: self.second.id(),
        }
    }

    /// The least proof for the same position among the two blocks at hand and one more.
    ///
    /// `first` is the least of all blocks that assert anything here, `second` the least of those that
    /// assert something else; both survive one block at a time, so nothing else need be kept.
    pub(super) fn with(&self, block: &SignedBlock) -> Option<Self> {
        let says = assertion(block, self.at)?;
        let first_says = assertion(&self.first, self.at);
        let pair = if rank(block) < rank(&self.first) {
            let second = if first_says == Some(says) {
                &self.second
            } else {
                &self.first
            };
            (block, second)
        } else if first_says != Some(says) && rank(block) < rank(&self.second) {
            (&self.first, block)
        } else {
            return None;
        };
        Self::new(self.at, pair.0, pair.1)
    }
}
