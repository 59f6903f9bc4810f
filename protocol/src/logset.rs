//! The ledger of one scope: the union of all its logs, a grow-only CRDT.
//!
//! Every block asserts two facts about its author's log: which block stands at its own position, and which stands one
//! before. Blocks that assert different blocks for one position are an equivocation and prove it by themselves. The
//! part of a log that counts is its linked part from position 0 up to, but not including, the lowest position with two
//! assertions. That is a function of the *set* of blocks, so peers that have seen the same blocks agree whatever the
//! order, and what counts of a forked log only ever shrinks. The slow twin in `reference` states exactly this
//! function.
//!
//! One thing overrides a fork: what a certificate made final stays final ([`LogSet::certify`]), or an
//! author could take back what others have already built on.
//!
//! Blocks that arrive before their predecessor wait, within bounds; what is dropped for space comes again by
//! [`crate::sync`]. Logs of strangers, whom no certificate has admitted, are kept beside the ledger in a bounded pool:
//! they can be looked up by author, and take no part in what peers compare. The node does storage and gossip, and
//! decides which authors are strangers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeBounds;

use crate::entry::Entry;
use crate::hash::Stream;
use crate::id::{BlockId, NetworkId, PeerId, Scope, Seq};
use crate::limits;
use crate::log::{SignedBlock, Unverified};
use crate::reject::Rejection;
use crate::round::EntryRef;

mod author;
mod fork;
mod pool;
#[cfg(test)]
mod reference;

pub use crate::log::LogHead;
use author::{AuthorLog, Outcome, Room};
pub use fork::{EquivocationProof, ForkMark};
use pool::Pool;

/// What became of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Insert {
    /// It counts now, perhaps with others that waited for it.
    New,
    /// It was here already.
    Known,
    /// A block before it is missing; it waits if there is room.
    Gap {
        /// The last position that counts; `None` when nothing does.
        have: Option<Seq>,
    },
    /// It proves an equivocation, or proves one more plainly than the proof at hand.
    Fork(Box<EquivocationProof>),
    /// It cannot be part of this ledger.
    Refused(Rejection),
}

/// All logs of one scope.
#[derive(Clone, Debug)]
pub struct LogSet {
    network: NetworkId,
    scope: Scope,
    logs: BTreeMap<PeerId, AuthorLog>,
    /// Logs of strangers; nobody's log stands in both.
    strangers: Pool,
    /// Blocks that a certificate made final, kept and counted even behind a fork.
    certified: BTreeSet<BlockId>,
    /// Waiting blocks and their bytes over all authors.
    pending: usize,
    pending_bytes: usize,
}

impl LogSet {
    /// An empty ledger.
    pub fn new(network: NetworkId, scope: Scope) -> Self {
        Self {
            network,
            scope,
            logs: BTreeMap::new(),
            strangers: Pool::default(),
            certified: BTreeSet::new(),
            pending: 0,
            pending_bytes: 0,
        }
    }

    /// What the logs are about.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The network they are of.
    pub fn network(&self) -> NetworkId {
        self.network
    }

    fn check(&self, signed: &SignedBlock) -> Result<(), Rejection> {
        if signed.block().network != self.network {
            return Err(Rejection::Network);
        }
        if signed.block().scope != self.scope {
            return Err(Rejection::Contradiction("block of another scope"));
        }
        Ok(())
    }

    /// Adds a block, in any order, any number of times. Its author is not a stranger from now on.
    pub fn insert(&mut self, signed: SignedBlock) -> Insert {
        if let Err(why) = self.check(&signed) {
            return Insert::Refused(why);
        }
        let author = signed.block().author;
        self.admit(author);
        if !self.logs.contains_key(&author) && self.logs.len() >= limits::MAX_AUTHORS {
            return Insert::Refused(Rejection::Limit("authors of a scope"));
        }
        let room = Room {
            blocks: limits::MAX_PENDING_IN_SCOPE.saturating_sub(self.pending),
            bytes: limits::MAX_PENDING_BYTES.saturating_sub(self.pending_bytes),
        };
        let log = self.logs.entry(author).or_default();
        let before = (log.pending_blocks(), log.pending_bytes());
        let outcome = log.insert(signed, room, &self.certified);
        self.pending = self.pending - before.0 + log.pending_blocks();
        self.pending_bytes = self.pending_bytes - before.1 + log.pending_bytes();
        let have = log.last().map(|last| last.block().seq);
        if log.is_empty() {
            self.logs.remove(&author);
        }
        told(outcome, have)
    }

    /// Adds a block of a stranger to the pool; also returns the strangers that had to make room for it.
    /// `is_spared` says which may not.
    pub(crate) fn insert_stranger(
        &mut self,
        signed: SignedBlock,
        draws: &mut Stream,
        is_spared: &dyn Fn(&PeerId) -> bool,
    ) -> (Insert, Vec<PeerId>) {
        if let Err(why) = self.check(&signed) {
            return (Insert::Refused(why), Vec::new());
        }
        let author = signed.block().author;
        assert!(!self.logs.contains_key(&author), "no log stands in both");
        let (outcome, dropped) = (self.strangers).insert(signed, &self.certified, draws, is_spared);
        let have = self.last(author).map(|last| last.block().seq);
        (told(outcome, have), dropped)
    }

    /// Makes a stranger's log part of the ledger. Returns whether there was one.
    pub(crate) fn admit(&mut self, author: PeerId) -> bool {
        let Some(log) = self.strangers.remove(&author) else {
            return false;
        };
        self.pending += log.pending_blocks();
        self.pending_bytes += log.pending_bytes();
        self.logs.insert(author, log);
        true
    }

    /// Makes the author of a log a stranger: what a restored ledger does with whom no certificate admits.
    pub(crate) fn set_aside(&mut self, author: PeerId) {
        if let Some(log) = self.logs.remove(&author) {
            self.pending -= log.pending_blocks();
            self.pending_bytes -= log.pending_bytes();
            self.strangers.put(author, log);
        }
    }

    /// Authors in the pool, in no particular order.
    pub fn strangers(&self) -> &[PeerId] {
        self.strangers.authors()
    }

    /// Bytes of memory that the pool takes, at most about `limits::MAX_STRANGERS_BYTES`.
    pub fn strangers_bytes(&self) -> usize {
        self.strangers.bytes()
    }

    /// Whether an author's log stands in the pool.
    pub fn is_stranger(&self, author: PeerId) -> bool {
        self.strangers.get(&author).is_some()
    }

    /// The log of an author, whether it is part of the ledger or in the pool.
    fn any_log(&self, author: PeerId) -> Option<&AuthorLog> {
        (self.logs.get(&author)).or_else(|| self.strangers.get(&author))
    }

    /// Notes that a certificate (or a proposal that may become one) relies on this entry: its block counts
    /// from now on, or once it arrives, whether or not its author equivocates or has equivocated.
    ///
    /// A restored ledger must hear of its certificates before its blocks.
    pub fn certify(&mut self, at: &EntryRef) {
        self.certified.insert(at.block);
    }

    /// The entry at `at`, if its block counts. `None` also when the block stands behind a fork and no
    /// certificate relies on it.
    pub fn entry(&self, at: &EntryRef) -> Option<&Entry> {
        let log = self.any_log(at.author)?;
        let counted = log.counted(at.seq).filter(|b| b.id() == at.block);
        let block = counted.or_else(|| {
            let kept = self
                .certified
                .contains(&at.block)
                .then(|| log.behind_fork(&at.block));
            kept.flatten().filter(|block| block.block().seq == at.seq)
        })?;
        block.block().entries.get(usize::from(at.index))
    }

    /// The entries that count of one author, in order, with their places. Entries that only a
    /// certificate keeps are found by [`LogSet::entry`], not here.
    pub fn entries(&self, author: PeerId) -> impl Iterator<Item = (EntryRef, &Entry)> {
        let log = self.any_log(author);
        (log.into_iter().flat_map(AuthorLog::chain)).flat_map(entries_of)
    }

    /// The entries that count of all authors but strangers, ordered by author and place.
    pub fn all(&self) -> impl Iterator<Item = (EntryRef, &Entry)> {
        (self.logs.values().flat_map(AuthorLog::chain)).flat_map(entries_of)
    }

    /// The blocks that count of one author, in order.
    pub fn blocks(&self, author: PeerId) -> impl Iterator<Item = &SignedBlock> {
        let log = self.any_log(author);
        log.into_iter().flat_map(AuthorLog::chain)
    }

    /// Any block at hand by its name, whether it counts or stands behind a fork: for peers that ask for
    /// blocks a certificate relies on. Not those that wait: nobody has made them durable.
    pub fn block(&self, author: PeerId, id: &BlockId) -> Option<&SignedBlock> {
        let log = self.any_log(author)?;
        log.held(id)
    }

    /// What is kept of an equivocator's log from the fork on: the proof, and what a certificate relies on.
    pub fn left_over(&self, author: PeerId) -> impl Iterator<Item = &SignedBlock> {
        let log = self.any_log(author);
        log.into_iter().flat_map(AuthorLog::left_over)
    }

    /// Whether a block is at hand, without a walk through the log, since the node asks this for every block of a
    /// flood.
    pub fn knows(&self, head: &LogHead) -> bool {
        let log = self.any_log(head.author);
        log.is_some_and(|log| log.is_known(head.seq, &head.block))
    }

    /// Whether a block keeps its author's log within so many bytes, or is relied on by a certificate, which was within
    /// bounds where it was made.
    pub(crate) fn has_room_for(&self, block: &Unverified, most: u64) -> bool {
        let head = block.head();
        match self.any_log(head.author) {
            Some(log) => log.has_room_for(block, most) || self.certified.contains(&head.block),
            None => block.weight() as u64 <= most,
        }
    }

    /// Bytes that the blocks of an author count, those that wait included.
    pub fn weight(&self, author: PeerId) -> usize {
        self.any_log(author).map_or(0, AuthorLog::weight)
    }

    /// Whether a block stands behind a known fork, too far to say anything about it, with nothing that
    /// relies on it: no use to anybody, which is seen without checking its signature.
    pub fn is_useless(&self, head: &LogHead) -> bool {
        let proof = self.proof(head.author);
        // A block speaks of its own position and of the one before.
        let behind = proof.is_some_and(|proof| head.seq.0 > proof.at().0.saturating_add(1));
        behind && !self.certified.contains(&head.block)
    }

    /// The counted blocks of one author from a position on.
    pub fn blocks_from(&self, author: PeerId, from: Seq) -> &[SignedBlock] {
        self.any_log(author).map_or(&[], |log| log.chain_from(from))
    }

    /// The last block that counts of one author: what the author's next block links to.
    pub fn last(&self, author: PeerId) -> Option<&SignedBlock> {
        self.any_log(author)?.last()
    }

    /// The last counted block of every author that has one, ordered by author; without strangers.
    pub fn heads(&self) -> Vec<LogHead> {
        let lasts = self.logs.values().filter_map(AuthorLog::last);
        lasts.map(SignedBlock::head).collect()
    }

    /// Every author known to have equivocated, strangers too, ordered, with the proof's blocks.
    pub fn forks(&self) -> Vec<ForkMark> {
        let logs = self.logs.values().chain(self.strangers.logs());
        let mut marks: Vec<ForkMark> = (logs.filter_map(AuthorLog::proof))
            .map(EquivocationProof::mark)
            .collect();
        marks.sort_unstable();
        marks
    }

    /// The proof against an author, if there is one.
    pub fn proof(&self, author: PeerId) -> Option<&EquivocationProof> {
        self.any_log(author)?.proof()
    }

    /// Whether an author is known to have equivocated.
    pub fn is_equivocator(&self, author: PeerId) -> bool {
        self.proof(author).is_some()
    }

    /// Authors with at least one block in the ledger, ordered; without strangers.
    pub fn authors(&self) -> impl Iterator<Item = PeerId> {
        self.logs.keys().copied()
    }

    /// Blocks that wait for the one before them.
    pub fn waiting(&self) -> usize {
        self.pending
    }

    /// The counted blocks that a peer with `theirs` lacks, oldest first within each log, at most
    /// `max_bytes` in all. Forks are left to [`crate::sync::compare`].
    pub fn suffix(&self, theirs: &[LogHead], max_bytes: usize) -> Vec<Vec<u8>> {
        let theirs: BTreeMap<PeerId, Seq> = theirs.iter().map(|h| (h.author, h.seq)).collect();
        let mut budget = crate::sync::SizeLimit::new(max_bytes);
        for (author, log) in &self.logs {
            let from = theirs.get(author).map_or(0, |seq| seq.0.saturating_add(1));
            for block in log.chain_from(Seq(from)) {
                if !budget.push(block) {
                    return budget.blocks;
                }
            }
        }
        budget.blocks
    }

    pub(crate) fn log(&self, author: PeerId) -> Option<&AuthorLog> {
        self.logs.get(&author)
    }

    pub(crate) fn logs_in(
        &self,
        range: impl RangeBounds<PeerId>,
    ) -> impl Iterator<Item = (&PeerId, &AuthorLog)> {
        self.logs.range(range)
    }
}

fn told(outcome: Outcome, have: Option<Seq>) -> Insert {
    match outcome {
        Outcome::Counted => Insert::New,
        Outcome::Known => Insert::Known,
        Outcome::Waiting => Insert::Gap { have },
        Outcome::Fork(proof) => Insert::Fork(proof),
        Outcome::BehindFork => Insert::Refused(Rejection::Equivocator),
    }
}

fn entries_of(block: &SignedBlock) -> impl Iterator<Item = (EntryRef, &Entry)> {
    let LogHead {
        author,
        seq,
        block: id,
    } = block.head();
    (block.block().entries.iter().zip(0u8..=u8::MAX)).map(move |(entry, index)| {
        let at = EntryRef {
            author,
            seq,
            block: id,
            index,
        };
        (at, entry)
    })
}

#[cfg(test)]
pub(crate) mod tests;
