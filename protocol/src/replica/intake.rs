//! Blocks of others: which are taken, which are left for later, which are refused.
//!
//! A replica keeps every block of an admitted author that it takes, in memory and on disk, so how much it takes is
//! bounded by what its owner lets an author have to say. What is left is not refused, because its sender may simply be
//! further than we are; it comes again by comparison of heads once there is room for it.
//!
//! Keys are free, so strangers share one bounded pool in memory. It is no part of the ledger that peers compare: a
//! stranger repeats its log until it is admitted ([`Replica::strangers_again`], [`Replica::own_again`]).
//! [`Replica::admit`] moves what the stranger said into the ledger and onto the disk.

use super::{Replica, records};
use crate::event::{Record, Verdict};
use crate::hash::Stream;
use crate::id::PeerId;
use crate::limits;
use crate::log::{Block, SignedBlock, Unverified};
use crate::logset::Insert;
use crate::reject::Rejection;

/// How much of one admitted author's log is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Blocks.
    pub blocks: u64,
    /// Bytes, in memory.
    pub bytes: u64,
}

/// What the owner of a replica decides about authors.
pub trait Admission {
    /// Whether an author belongs to the scope, now or once.
    fn admits(&self, author: &PeerId) -> bool;

    /// Whether a block says by itself that its author belongs to the scope.
    fn opens(&self, said: &Block) -> bool;

    /// How much of one author's log is taken.
    fn room(&self) -> Room;

    /// Whether a stranger's log may not be dropped to make room for another's.
    fn spares(&self, author: &PeerId) -> bool;
}

/// What became of a block, and what its owner is to do about it.
#[derive(Debug)]
pub struct Taken {
    /// How the block is judged.
    pub verdict: Result<Verdict, Rejection>,
    /// Whether the block is signed and was new.
    pub is_news: bool,
    /// Whether blocks of its author came to count.
    pub has_grown: bool,
    /// Whether it proves an equivocation of its author.
    pub is_forked: bool,
    /// Whether a block before it is missing: its sender has more.
    pub has_gap: bool,
    /// What is to be made durable.
    pub records: Option<Vec<Record>>,
    /// Strangers whose logs made room.
    pub dropped: Vec<PeerId>,
}

impl Taken {
    fn judged(verdict: Result<Verdict, Rejection>) -> Self {
        Self {
            verdict,
            is_news: false,
            has_grown: false,
            is_forked: false,
            has_gap: false,
            records: None,
            dropped: Vec::new(),
        }
    }
}

impl Replica {
    /// Takes a block of this scope. Its signature is checked only if the block is new and there is room for it.
    ///
    /// # Errors
    /// [`Rejection::Signature`].
    pub fn take(
        &mut self,
        block: Unverified,
        admission: &impl Admission,
        draws: &mut Stream,
    ) -> Result<Taken, Rejection> {
        let head = block.head();
        if self.log.knows(&head) {
            return Ok(Taken::judged(Ok(self.known(&block))));
        }
        if self.log.is_useless(&head) || !self.has_room_for(&block, admission) {
            return Ok(Taken::judged(Ok(Verdict::Ignore)));
        }
        let block = block.verify()?;
        let taken = match self.is_admitted(block.block(), admission) {
            true => self.take_admitted(block),
            false => self.take_stranger(block, admission, draws),
        };
        Ok(Taken {
            is_news: true,
            ..taken
        })
    }

    /// A block of an author that belongs to the scope.
    fn take_admitted(&mut self, block: SignedBlock) -> Taken {
        let head = block.head();
        let bytes = block.bytes().to_vec();
        match self.log.insert(block) {
            Insert::New => {
                // Blocks that waited for this one become part of the log with it; only now are they
                // worth a place on the disk.
                let records = match self.log.blocks_from(head.author, head.seq) {
                    // Kept for a certificate's sake, behind a fork.
                    [] => vec![Record::Block(bytes)],
                    counted => records(counted.iter()),
                };
                Taken {
                    has_grown: true,
                    records: Some(records),
                    ..Taken::judged(Ok(Verdict::Accept))
                }
            }
            Insert::Known => Taken::judged(Ok(Verdict::Ignore)),
            Insert::Gap { .. } => Taken {
                has_gap: true,
                ..Taken::judged(Ok(match self.log.knows(&head) {
                    true => Verdict::Accept,
                    false => Verdict::Ignore,
                }))
            },
            Insert::Fork(_) => {
                assert!(self.log.is_equivocator(head.author), "a fork is proven");
                Taken {
                    is_forked: true,
                    // The other half of the proof may have been waiting until now.
                    records: Some(records(self.log.left_over(head.author))),
                    ..Taken::judged(Ok(Verdict::Accept))
                }
            }
            // Its sender may not have heard of the fork.
            Insert::Refused(Rejection::Equivocator) => Taken::judged(Ok(Verdict::Ignore)),
            Insert::Refused(why) => Taken::judged(Err(why)),
        }
    }

    /// A block that is here already. Floods of a stranger's log pass those that hold it on their way to those
    /// that dropped it; byte for byte, or a copy with a broken signature would be ours to answer for.
    fn known(&self, again: &Unverified) -> Verdict {
        let author = again.block().author;
        let held = self.log.block(author, &again.id());
        let is_same = held.is_some_and(|held| held.bytes() == again.bytes());
        match is_same && self.log.is_stranger(author) {
            true => Verdict::Accept,
            false => Verdict::Ignore,
        }
    }

    /// A block of an author that does not belong to the scope yet.
    fn take_stranger(
        &mut self,
        block: SignedBlock,
        admission: &impl Admission,
        draws: &mut Stream,
    ) -> Taken {
        let head = block.head();
        let (outcome, dropped) = self.pool(block, admission, draws);
        let is_held = self.log.knows(&head);
        // Said in an earlier life of this peer, whose disk it left.
        let is_lost = head.author == self.me && is_held;
        Taken {
            has_grown: true,
            is_forked: matches!(outcome, Insert::Fork(_)),
            records: is_lost.then(|| records(self.said_by(self.me))),
            dropped,
            ..Taken::judged(Ok(match is_held {
                true => Verdict::Accept,
                false => Verdict::Ignore,
            }))
        }
    }

    /// Puts a stranger's block into the pool, and names the strangers that made room for it. This peer's own log
    /// stays.
    fn pool(
        &mut self,
        block: SignedBlock,
        admission: &impl Admission,
        draws: &mut Stream,
    ) -> (Insert, Vec<PeerId>) {
        let me = self.me;
        let is_spared = |peer: &PeerId| *peer == me || admission.spares(peer);
        let (outcome, dropped) = self.log.insert_stranger(block, draws, &is_spared);
        assert!(!dropped.contains(&me), "this peer keeps its own log");
        (outcome, dropped)
    }

    /// Takes a block of this peer's own. Returns the strangers that made room for it.
    pub(super) fn keep_own(
        &mut self,
        block: SignedBlock,
        admission: &impl Admission,
        draws: &mut Stream,
    ) -> Vec<PeerId> {
        if self.is_admitted(block.block(), admission) {
            self.log.insert(block);
            return Vec::new();
        }
        self.pool(block, admission, draws).1
    }

    /// Whether a block is part of the ledger that peers compare.
    fn is_admitted(&self, said: &Block, admission: &impl Admission) -> bool {
        admission.opens(said)
            || self.log.log(said.author).is_some()
            || admission.admits(&said.author)
    }

    /// Whether its author may have a block at this position, and so many bytes. What a certificate relies on, and what
    /// may prove an equivocation, stands below the bound of positions, and is taken whatever its bytes.
    fn has_room_for(&self, block: &Unverified, admission: &impl Admission) -> bool {
        let said = block.block();
        if self.is_admitted(said, admission) {
            let room = admission.room();
            return said.seq.0 < room.blocks && self.log.has_room_for(block, room.bytes);
        }
        said.seq.0 < limits::MAX_STRANGER_BLOCKS
            && block.size() <= limits::MAX_STRANGER_BLOCK_BYTES
            && said.entries.len() <= limits::MAX_STRANGER_ENTRIES
    }
}
