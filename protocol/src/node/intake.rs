//! Blocks of others: which are taken, which are left for later, which are refused.
//!
//! A peer keeps every block that it takes, in memory and on disk, so how much it takes is bounded: of a
//! member what the certified rounds let it have something to say, of a stranger a join. What is left is
//! not refused, because its sender may simply be further than we are; it comes again by comparison of
//! heads once there is room for it.

use super::Desk;
use super::run::Run;
use crate::entry::Entry;
use crate::event::{Notice, Record, Verdict};
use crate::id::{PeerId, Scope};
use crate::limits;
use crate::log::Unverified;
use crate::logset::Insert;
use crate::reject::Rejection;

impl Run {
    /// One block that cannot be used does not keep the others out. A sender that does not check what it
    /// hands on is not read any further.
    pub(super) fn on_blocks(
        &mut self,
        desk: &mut Desk,
        from: PeerId,
        blocks: &[Vec<u8>],
    ) -> Result<Verdict, Rejection> {
        let mut outcome = Ok(Verdict::Ignore);
        for bytes in blocks {
            let block = Unverified::decode(bytes, desk.config.network)?;
            if block.block().scope != Scope::Run(self.id) {
                continue;
            }
            match self.on_block(desk, from, block) {
                Err(Rejection::Signature) => return Err(Rejection::Signature),
                Err(why) => outcome = Err(why),
                Ok(_) => {}
            }
        }
        outcome
    }

    pub(super) fn on_block(
        &mut self,
        desk: &mut Desk,
        from: PeerId,
        block: Unverified,
    ) -> Result<Verdict, Rejection> {
        let head = block.head();
        if self.log.knows(&head) || self.log.is_useless(&head) || !self.has_room_for(&block) {
            return Ok(Verdict::Ignore);
        }
        let block = block.verify()?;
        let bytes = block.bytes().to_vec();
        let outcome = self.log.insert(block);
        self.facts += 1;
        match outcome {
            Insert::New => {
                // Blocks that waited for this one become part of the log with it; only now are they
                // worth a place on the disk.
                let counted = self.log.blocks_from(head.author, head.seq);
                let records = match counted {
                    // Kept for a certificate's sake, behind a fork.
                    [] => vec![Record::Block(bytes)],
                    counted => (counted.iter())
                        .map(|block| Record::Block(block.bytes().to_vec()))
                        .collect(),
                };
                desk.persist(records);
                self.reindex(head.author);
                Ok(Verdict::Accept)
            }
            Insert::Known => Ok(Verdict::Ignore),
            Insert::Gap { .. } => {
                self.open_exchange(desk, from);
                Ok(if self.log.knows(&head) {
                    Verdict::Accept
                } else {
                    Verdict::Ignore
                })
            }
            Insert::Fork(_) => {
                self.refit();
                // The other half of the proof may have been waiting until now.
                let left_over = self.log.left_over(head.author);
                let records = left_over.map(|block| Record::Block(block.bytes().to_vec()));
                desk.persist(records.collect());
                desk.notify(Notice::Equivocation {
                    run: self.id,
                    author: head.author,
                });
                Ok(Verdict::Accept)
            }
            // Whoever sent it may not have heard of the fork.
            Insert::Refused(Rejection::Equivocator) => Ok(Verdict::Ignore),
            Insert::Refused(why) => Err(why),
        }
    }

    /// Whether the run's progress lets its author have a block at this position. What a certificate
    /// relies on, and what may prove an equivocation, stands below any such bound.
    fn has_room_for(&self, block: &Unverified) -> bool {
        let said = block.block();
        let creator = self.manifest.as_ref().map(|manifest| manifest.creator);
        let roster = self.head.as_ref().map(|head| &head.roster);
        let is_known = roster.is_some_and(|roster| roster.has_known(&said.author));
        // The block with the manifest says by itself that it is the creator's. Whoever lacks it yet takes
        // of all others what they take of strangers who know it, or ledgers would differ for good.
        let opens = matches!(said.entries.first(), Some(Entry::Create(_)));
        if is_known || creator == Some(said.author) || opens {
            let rounds = self.chain.len() as u64;
            return said.seq.0 < limits::FREE_BLOCKS + limits::BLOCKS_PER_ROUND * rounds;
        }
        said.seq.0 < limits::MAX_STRANGER_BLOCKS && block.size() <= limits::MAX_STRANGER_BLOCK_BYTES
    }
}
