//! One author's log inside a ledger: what counts, what waits, and what an equivocation left.

use std::collections::{BTreeMap, BTreeSet};

use super::fork::{EquivocationProof, assertion};
use crate::id::{BlockId, Seq};
use crate::limits;
use crate::log::{LogHead, SignedBlock, Unverified};

/// What became of a block.
#[derive(Debug)]
pub(super) enum Outcome {
    Counted,
    Known,
    Waiting,
    Fork(Box<EquivocationProof>),
    BehindFork,
}

/// Space left for waiting blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) blocks: usize,
    pub(super) bytes: usize,
}

/// One author's log: its linked chain, the blocks that wait, and the proof of a fork. Invariants: `chain[i]` stands at
/// position i and links to `chain[i - 1]`; with a proof at position s, `chain` ends before s and nothing at or after s
/// waits; no two blocks of `chain` and `waiting` contradict each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuthorLog {
    chain: Vec<SignedBlock>,
    /// What the blocks of `chain` count together, and those that wait.
    chain_bytes: usize,
    waiting: BTreeMap<Seq, SignedBlock>,
    waiting_bytes: usize,
    proof: Option<EquivocationProof>,
    /// Blocks at or behind the fork that counted once or that a certificate relies on.
    kept: BTreeMap<BlockId, SignedBlock>,
}

impl AuthorLog {
    pub(super) fn is_empty(&self) -> bool {
        self.chain.is_empty()
            && self.waiting.is_empty()
            && self.proof.is_none()
            && self.kept.is_empty()
    }

    /// What counts and what waits, together.
    pub(super) fn weight(&self) -> usize {
        self.chain_bytes + self.waiting_bytes
    }

    pub(super) fn pending_blocks(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// The counted blocks in order.
    pub(crate) fn chain(&self) -> impl Iterator<Item = &SignedBlock> {
        self.chain.iter()
    }

    /// The counted blocks from a position on.
    pub(crate) fn chain_from(&self, from: Seq) -> &[SignedBlock] {
        let from = usize::try_from(from.0).unwrap_or(usize::MAX);
        self.chain.get(from..).unwrap_or_default()
    }

    /// The counted block at a position.
    pub(crate) fn counted(&self, at: Seq) -> Option<&SignedBlock> {
        self.chain_from(at).first()
    }

    /// The last counted block.
    pub(crate) fn last(&self) -> Option<&SignedBlock> {
        self.chain.last()
    }

    /// The proof against the author.
    pub(crate) fn proof(&self) -> Option<&EquivocationProof> {
        self.proof.as_ref()
    }

    /// A block at hand that stands at or behind the fork.
    pub(super) fn behind_fork(&self, id: &BlockId) -> Option<&SignedBlock> {
        let mut proof = self.proof.iter().flat_map(EquivocationProof::blocks);
        (self.kept.get(id)).or_else(|| proof.find(|block| block.id() == *id))
    }

    /// Any block at hand that is not only waiting.
    pub(super) fn held(&self, id: &BlockId) -> Option<&SignedBlock> {
        let mut linked = self.chain.iter();
        (self.behind_fork(id)).or_else(|| linked.find(|block| block.id() == *id))
    }

    /// Whether a block waits for the one before it.
    #[cfg(test)]
    pub(super) fn waits(&self, id: &BlockId) -> bool {
        self.waiting.values().any(|block| block.id() == *id)
    }

    /// Everything at or behind the fork that is kept: the proof, and what counted or is relied on.
    pub(super) fn left_over(&self) -> impl Iterator<Item = &SignedBlock> {
        let proof = self.proof.iter().flat_map(EquivocationProof::blocks);
        proof.chain(self.kept.values())
    }

    /// Every block at hand, those that wait included.
    pub(super) fn held_blocks(&self) -> impl Iterator<Item = &SignedBlock> {
        let linked = self.chain.iter().chain(self.waiting.values());
        linked.chain(self.left_over())
    }

    /// Whether the log ends before this position for good.
    fn is_behind_fork(&self, at: Seq) -> bool {
        self.proof.as_ref().is_some_and(|proof| at >= proof.at())
    }

    /// Whether a block keeps the log within so many bytes. Where one follows the last that counts, blocks that wait
    /// are not held against it, or an author could keep a gap open with them; they fit themselves, so that the log never
    /// counts more than twice `most`. A block that proves an equivocation is the last that is taken.
    pub(super) fn has_room_for(&self, block: &Unverified, most: u64) -> bool {
        let follows = block.block().seq.0 == self.chain.len() as u64;
        let waiting = if follows { 0 } else { self.waiting_bytes };
        let bytes = (self.chain_bytes + waiting + block.weight()) as u64;
        bytes <= most || self.is_contradicted_by(block.head(), block.block().prev)
    }

    /// Whether something at hand asserts another block for a position that a block speaks of.
    fn is_contradicted_by(&self, head: LogHead, prev: Option<BlockId>) -> bool {
        let before = head.seq.0.checked_sub(1).map(Seq);
        let says = [Some((head.seq, head.block)), before.zip(prev)];
        (self.neighbours(head.seq)).any(|other| {
            let contradicts =
                |(at, id): &(Seq, BlockId)| assertion(other, *at).is_some_and(|said| said != *id);
            says.iter().flatten().any(contradicts)
        })
    }

    /// Adds a block. `room` is what all waiting blocks of the scope together may still take up.
    pub(super) fn insert(
        &mut self,
        block: SignedBlock,
        room: Room,
        certified: &BTreeSet<BlockId>,
    ) -> Outcome {
        let seq = block.block().seq;
        if self.is_known(seq, &block.id()) {
            return Outcome::Known;
        }
        if let Some(proof) = self.contradiction(&block) {
            self.cut(&proof, &block, certified);
            return Outcome::Fork(Box::new(proof));
        }
        if self.is_behind_fork(seq) {
            if certified.contains(&block.id()) {
                self.kept.insert(block.id(), block);
                return Outcome::Counted;
            }
            return Outcome::BehindFork;
        }
        if seq.0 == self.chain.len() as u64 {
            self.link(block);
            self.advance();
            return Outcome::Counted;
        }
        self.wait(block, room);
        Outcome::Waiting
    }

    pub(super) fn is_known(&self, seq: Seq, id: &BlockId) -> bool {
        let here = self.counted(seq).or_else(|| self.waiting.get(&seq));
        here.is_some_and(|block| block.id() == *id) || self.behind_fork(id).is_some()
    }

    /// The blocks at hand that assert anything about a position that `seq` speaks of.
    fn neighbours(&self, seq: Seq) -> impl Iterator<Item = &SignedBlock> {
        let at = seq.0.saturating_sub(1)..=seq.0.saturating_add(1);
        let linked = at.filter_map(|at| {
            let at = Seq(at);
            self.counted(at).or_else(|| self.waiting.get(&at))
        });
        linked.chain(self.proof.iter().flat_map(EquivocationProof::blocks))
    }

    /// The proof that comes of adding `block`, if it is lower or plainer than the one at hand.
    fn contradiction(&self, block: &SignedBlock) -> Option<EquivocationProof> {
        let found = self.neighbours(block.block().seq);
        let lowest = found
            .filter_map(|other| EquivocationProof::between(block, other))
            .min_by_key(EquivocationProof::at);
        match (lowest, &self.proof) {
            (Some(new), Some(old)) if new.at() >= old.at() => old.with(block),
            (Some(new), _) => Some(self.plainest(new, block)),
            (None, Some(old)) => old.with(block),
            (None, None) => None,
        }
    }

    /// The least proof at a newly found position over everything at hand that speaks of it.
    fn plainest(&self, found: EquivocationProof, block: &SignedBlock) -> EquivocationProof {
        let at = found.at();
        let here = self.neighbours(at).chain([block]);
        here.filter(|other| assertion(other, at).is_some())
            .fold(found.clone(), |best, other| {
                best.with(other).unwrap_or(best)
            })
    }

    /// Takes everything at and behind the fork out of the count.
    fn cut(
        &mut self,
        proof: &EquivocationProof,
        block: &SignedBlock,
        certified: &BTreeSet<BlockId>,
    ) {
        let at = proof.at();
        let keep = usize::try_from(at.0).unwrap_or(usize::MAX);
        if keep < self.chain.len() {
            let cut = self.chain.split_off(keep);
            self.chain_bytes -= cut.iter().map(SignedBlock::weight).sum::<usize>();
            self.kept.extend(cut.into_iter().map(|b| (b.id(), b)));
        }
        let waited: Vec<SignedBlock> = self.waiting.split_off(&at).into_values().collect();
        self.waiting_bytes -= waited.iter().map(SignedBlock::weight).sum::<usize>();
        let old = self.proof.replace(proof.clone());
        let displaced = old.iter().flat_map(EquivocationProof::blocks);
        let relied_on =
            (waited.iter().chain(displaced).chain([block])).filter(|b| certified.contains(&b.id()));
        self.kept.extend(relied_on.map(|b| (b.id(), b.clone())));
    }

    /// Counts what waited for the end of the chain.
    fn advance(&mut self) {
        while let Some(next) = self.waiting.remove(&Seq(self.chain.len() as u64)) {
            self.waiting_bytes -= next.weight();
            self.link(next);
        }
    }

    fn link(&mut self, block: SignedBlock) {
        self.chain_bytes += block.weight();
        self.chain.push(block);
    }

    /// Lets a block wait. The bounds push out what is farthest ahead, so that a gap can always be
    /// closed from below.
    fn wait(&mut self, block: SignedBlock, mut room: Room) {
        let seq = block.block().seq;
        let size = block.weight();
        room.blocks = room
            .blocks
            .min(limits::MAX_PENDING_BLOCKS.saturating_sub(self.waiting.len()));
        while room.blocks == 0 || room.bytes < size {
            match self.waiting.last_entry() {
                Some(last) if *last.key() > seq => {
                    let out = last.remove().weight();
                    self.waiting_bytes -= out;
                    room.blocks += 1;
                    room.bytes += out;
                }
                _ => return,
            }
        }
        self.waiting_bytes += size;
        self.waiting.insert(seq, block);
    }
}
