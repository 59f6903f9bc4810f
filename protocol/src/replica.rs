//! One peer's copy of one scope: its own log, the logs of others, and the blobs that they name.
//!
//! A replica takes blocks, compares what it holds with other replicas, appends to its own log, and fetches blobs. It
//! serves any [`Scope`] and knows neither rounds nor manifests nor consensus. Its owner says through [`Admission`] whose
//! logs belong to the scope and how much of each is taken; it puts what the replica answers into messages, and carries
//! out what the replica asks for ([`Taken`], [`Appended`], effects of [`Blobs`]). Replicas of one scope that exchange
//! summaries converge, whatever liars say in between: the ledger is a CRDT ([`crate::logset`]).

mod blobs;
mod intake;

use crate::entry::Entry;
use crate::event::Record;
use crate::hash::Stream;
use crate::id::{BlockId, NetworkId, PeerId, Scope, Seq};
use crate::limits;
use crate::log::{Block, LogHead, SignedBlock};
use crate::logset::LogSet;
use crate::reject::Rejection;
use crate::round::EntryRef;
use crate::sign::SecretKey;
use crate::sync::{self, HeadList, Plan, RangeDigest, Refined};
use crate::time::{Instant, Now};

pub use blobs::{Blobs, PendingFetch};
pub use intake::{Admission, Room, Taken};

/// Milliseconds between two requests for blocks by name: an answer takes a round trip.
const ASK_EVERY_MS: u64 = 1_000;

/// All logs of one scope as one peer holds them, and its blobs.
pub struct Replica {
    me: PeerId,
    log: LogSet,
    /// Blobs asked for, at hand and durable.
    pub blobs: Blobs,
    /// When blocks were last asked for by name.
    asked: Option<Instant>,
    /// When the own log, that of a stranger to others, was last flooded again.
    repeated: Instant,
}

/// A block of one's own that was just appended.
pub struct Appended {
    /// What is to be durable and then flooded.
    pub bytes: Vec<u8>,
    /// Strangers whose logs made room for it.
    pub dropped: Vec<PeerId>,
}

impl Replica {
    /// An empty replica. `tick_ms` is how often its owner looks after outstanding fetches.
    pub fn new(network: NetworkId, scope: Scope, me: PeerId, now: Instant, tick_ms: u64) -> Self {
        Self {
            me,
            log: LogSet::new(network, scope),
            blobs: Blobs::new(me, tick_ms),
            asked: None,
            repeated: now,
        }
    }

    /// All logs of the scope.
    pub fn log(&self) -> &LogSet {
        &self.log
    }

    /// Whose replica it is.
    pub fn me(&self) -> PeerId {
        self.me
    }

    /// Appends to this peer's own log. `None` where the log has forked: somebody else writes with this key, or its disk
    /// lost what it had said, and nothing more of it counts for anybody.
    ///
    /// # Errors
    /// [`Rejection`] when an entry has no place in a block of this scope.
    pub fn append(
        &mut self,
        key: &SecretKey,
        now: Now,
        entries: Vec<Entry>,
        admission: &impl Admission,
        draws: &mut Stream,
    ) -> Result<Option<Appended>, Rejection> {
        assert_eq!(key.peer_id(), self.me, "a replica writes its owner's log");
        if self.log.is_equivocator(self.me) {
            return Ok(None);
        }
        let last = self.log.last(self.me).map(SignedBlock::head);
        let (seq, prev) = last.map_or((Seq(0), None), |head| {
            (Seq(head.seq.0 + 1), Some(head.block))
        });
        let block = Block {
            network: self.log.network(),
            author: self.me,
            scope: self.log.scope(),
            seq,
            prev,
            // What filings rest on is said by certificates: every member signs every root, so each name would cost much.
            seen: match entries.iter().all(Entry::is_filing) {
                true => Vec::new(),
                false => self.seen(),
            },
            time: now.wall,
            entries,
        };
        let signed = SignedBlock::sign(block, key)?;
        let bytes = signed.bytes().to_vec();
        let dropped = self.keep_own(signed, admission, draws);
        Ok(Some(Appended { bytes, dropped }))
    }

    /// Heads of other logs, for the block's `seen` list: as many as fit, those after our own id first
    /// so that a large roster is covered by all authors together.
    fn seen(&self) -> Vec<LogHead> {
        let me = self.me;
        let others = (self.log.heads().into_iter()).filter(|head| head.author != me);
        let (mut after, before): (Vec<LogHead>, Vec<LogHead>) = others.partition(|h| h.author > me);
        after.extend(before);
        after.truncate(limits::MAX_SEEN_HEADS);
        after.sort_unstable_by_key(|head| head.author);
        after
    }

    /// Notes that something final relies on this entry; see [`LogSet::certify`].
    pub fn certify(&mut self, at: &EntryRef) {
        self.log.certify(at);
    }

    /// What an exchange with another replica begins with.
    pub fn summary(&self) -> Vec<RangeDigest> {
        sync::open(&self.log)
    }

    /// The answer to a summary of another replica.
    pub fn refine(&self, theirs: &[RangeDigest]) -> Refined {
        sync::refine(&self.log, theirs)
    }

    /// The answer to the heads of another replica.
    pub fn compare(&self, theirs: &[HeadList]) -> Plan {
        sync::compare(&self.log, theirs, sync::MAX_ANSWER_BYTES)
    }

    /// The answer to a request for blocks by name.
    pub fn named(&self, wanted: &[(PeerId, BlockId)]) -> Vec<Vec<u8>> {
        let mut budget = sync::SizeLimit::new(sync::MAX_ANSWER_BYTES);
        for (author, id) in wanted {
            let Some(block) = self.log.block(*author, id) else {
                continue;
            };
            if self.log.is_stranger(*author) {
                // Comparing heads brings nothing of a stranger: what stands before the block goes with it.
                let before = self.log.blocks(*author);
                for block in before.take_while(|before| before.id() != *id) {
                    budget.push(block);
                }
            }
            if !budget.push(block) {
                break;
            }
        }
        budget.blocks
    }

    /// Which of these blocks to ask others for now: requests by name go out once a second.
    pub fn ask(
        &mut self,
        now: Instant,
        mut blocks: Vec<(PeerId, BlockId)>,
    ) -> Option<Vec<(PeerId, BlockId)>> {
        let lately = |asked: Instant| now.since_ms(asked) < ASK_EVERY_MS;
        if blocks.is_empty() || self.asked.is_some_and(lately) {
            return None;
        }
        self.asked = Some(now);
        blocks.sort_unstable();
        blocks.dedup();
        blocks.truncate(limits::MAX_WANTED_BLOCKS);
        Some(blocks)
    }

    /// What of strangers to say again to one neighbour: the own log if it is one, and a drawn other one. A peer that holds
    /// them may drop them at any time.
    pub fn strangers_again(&self, draws: &mut Stream) -> Option<Vec<Vec<u8>>> {
        let count = self.log.strangers().len();
        if count == 0 {
            return None;
        }
        let drawn = self.log.strangers()[draws.below(count as u64) as usize];
        let mine = self.log.is_stranger(self.me).then_some(self.me);
        let others = Some(drawn).filter(|drawn| *drawn != self.me);
        let mut budget = sync::SizeLimit::new(sync::MAX_ANSWER_BYTES);
        for block in mine.into_iter().chain(others).flat_map(|a| self.said_by(a)) {
            budget.push(block);
        }
        Some(budget.blocks)
    }

    /// Blocks of the own log to flood again, while it is a stranger's to others.
    pub fn own_again(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let since = now.since_ms(self.repeated);
        if !self.log.is_stranger(self.me) || since < limits::REPEAT_JOIN_MS {
            return Vec::new();
        }
        self.repeated = now;
        let own = self.log.blocks(self.me);
        own.map(|block| block.bytes().to_vec()).collect()
    }

    /// Makes a stranger's log part of what replicas compare. Returns what is to be durable now.
    pub fn admit(&mut self, author: PeerId) -> Vec<Record> {
        match self.log.admit(author) {
            true => records(self.said_by(author)),
            false => Vec::new(),
        }
    }

    /// After a restart: an author that does not belong to the scope is a stranger again.
    pub fn set_strangers_aside(&mut self, admission: &impl Admission) {
        let strangers: Vec<PeerId> = (self.log.authors())
            .filter(|author| !admission.admits(author))
            .collect();
        for author in strangers {
            self.log.set_aside(author);
        }
    }

    /// Puts a block back that was durable, whoever its author is.
    pub fn restore(&mut self, block: SignedBlock) {
        self.log.insert(block);
    }

    /// Every block at hand of one author that is of use to others.
    fn said_by(&self, author: PeerId) -> impl Iterator<Item = &SignedBlock> {
        (self.log.blocks(author)).chain(self.log.left_over(author))
    }

    /// Asserts what holds of a replica between any two inputs.
    pub(crate) fn assert_invariants(&self) {
        self.blobs.assert_invariants();
        let strangers = self.log.strangers();
        assert!(
            strangers.iter().all(|peer| self.log.log(*peer).is_none()),
            "no log stands in the ledger and in the pool"
        );
    }
}

fn records<'a>(blocks: impl Iterator<Item = &'a SignedBlock>) -> Vec<Record> {
    let bytes = blocks.map(|block| block.bytes().to_vec());
    bytes.map(Record::Block).collect()
}

#[cfg(test)]
mod tests;
