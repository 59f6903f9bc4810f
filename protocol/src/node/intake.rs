//! Blocks of others: which are taken, which are left for later, which are refused.
//!
//! A peer keeps every block of a member that it takes, in memory and on disk, so how much it takes is bounded
//! by what the certified rounds let a member have something to say. What is left is not refused, because its
//! sender may simply be further than we are; it comes again by comparison of heads once there is room for it.
//!
//! Keys are free, so strangers share one bounded pool in memory. It is no part of the ledger that peers compare:
//! a stranger repeats its join until a certificate admits it, to everyone by gossip and to one drawn neighbour at
//! each tick, and everyone passes one drawn stranger on to one drawn neighbour. The certificate moves what the
//! stranger said into the ledger and onto the disk.

use super::Desk;
use super::collect::Index;
use super::run::Run;
use crate::entry::Entry;
use crate::event::{Notice, Record, Verdict};
use crate::id::{PeerId, Scope};
use crate::limits;
use crate::log::{Block, SignedBlock, Unverified};
use crate::logset::Insert;
use crate::reject::Rejection;
use crate::round::RoundValue;
use crate::sync;
use crate::wire::Message;

impl Index {
    /// Takes a stranger out that was dropped.
    fn forget(&mut self, author: &PeerId) {
        self.joins.remove(author);
        self.openings.remove(author);
        self.leaves.remove(author);
        self.sorted.remove(author);
    }
}

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
        if self.log.knows(&head) {
            return Ok(self.known(&block));
        }
        if self.log.is_useless(&head) || !self.has_room_for(&block) {
            return Ok(Verdict::Ignore);
        }
        let block = block.verify()?;
        let outcome = if self.is_admitted(block.block()) {
            self.on_ledger_block(desk, from, block)
        } else {
            Ok(self.on_stranger(desk, block))
        };
        self.facts += 1;
        outcome
    }

    /// A block of an author that others have admitted.
    fn on_ledger_block(
        &mut self,
        desk: &mut Desk,
        from: PeerId,
        block: SignedBlock,
    ) -> Result<Verdict, Rejection> {
        let head = block.head();
        let bytes = block.bytes().to_vec();
        match self.log.insert(block) {
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

    /// A block that is here already. Floods of a stranger's join pass those that hold it on their way to those
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

    /// A block of somebody whom no certificate has admitted here.
    fn on_stranger(&mut self, desk: &mut Desk, block: SignedBlock) -> Verdict {
        let head = block.head();
        let outcome = self.pool(desk, block);
        self.reindex(head.author);
        let held = self.log.knows(&head);
        if head.author == desk.me && held {
            // Said in an earlier life of this peer, whose disk it left.
            desk.persist(records(self.said_by(desk.me)));
        }
        if matches!(outcome, Insert::Fork(_)) {
            desk.notify(Notice::Equivocation {
                run: self.id,
                author: head.author,
            });
        }
        match held {
            true => Verdict::Accept,
            false => Verdict::Ignore,
        }
    }

    /// Puts a stranger's block into the pool and forgets whoever had to make room for it. This peer's own log
    /// stays, and those that an open proposal names.
    fn pool(&mut self, desk: &mut Desk, block: SignedBlock) -> Insert {
        let judging = self.height.as_ref().map(|deciding| &deciding.judging);
        let is_named = |peer: &PeerId| {
            (judging.into_iter().flatten())
                .flat_map(|value| &value.joins)
                .any(|joined| joined.entry.author == *peer)
        };
        let me = desk.me;
        let is_spared = |peer: &PeerId| *peer == me || is_named(peer);
        let (outcome, dropped) = self.log.insert_stranger(block, &mut desk.draws, &is_spared);
        for peer in &dropped {
            self.index.forget(peer);
        }
        outcome
    }

    /// Takes a block of this peer's own.
    pub(super) fn keep_own(&mut self, desk: &mut Desk, block: SignedBlock) {
        if self.is_admitted(block.block()) {
            self.log.insert(block);
        } else {
            self.pool(desk, block);
        }
        self.reindex(desk.me);
    }

    /// What the members that a certificate admits have said becomes part of the ledger. Returns what is to be made
    /// durable with the certificate.
    pub(super) fn admit(&mut self, value: &RoundValue) -> Vec<Record> {
        let mut out = Vec::new();
        for joined in &value.joins {
            let author = joined.entry.author;
            if self.log.admit(author) {
                out.extend(records(self.said_by(author)));
            }
        }
        out
    }

    /// After a restart: whom no certificate admits is a stranger again.
    pub(super) fn set_strangers_aside(&mut self) {
        let authors: Vec<PeerId> = self
            .log
            .authors()
            .filter(|a| !self.has_admitted(a))
            .collect();
        for author in authors {
            self.log.set_aside(author);
        }
    }

    /// Says again what a stranger, this peer or another, has said: whoever holds it may drop it at any time.
    pub(super) fn repeat_strangers(&mut self, desk: &mut Desk, to: PeerId) {
        let count = self.log.strangers().len();
        if count == 0 {
            return;
        }
        let drawn = self.log.strangers()[desk.draws.below(count as u64) as usize];
        let mine = self.log.is_stranger(desk.me).then_some(desk.me);
        let others = Some(drawn).filter(|drawn| *drawn != desk.me);
        let mut budget = sync::SizeLimit::new(sync::MAX_ANSWER_BYTES);
        for block in mine.into_iter().chain(others).flat_map(|a| self.said_by(a)) {
            budget.push(block);
        }
        let (run, blocks) = (self.id, budget.blocks);
        desk.send(to, &Message::Blocks { run, blocks });
        let since = desk.now.monotonic.since_ms(self.repeated);
        if mine.is_none() || since < limits::REPEAT_JOIN_MS || self.is_finished() {
            return;
        }
        self.repeated = desk.now.monotonic;
        for block in self.log.blocks(desk.me) {
            desk.gossip(self.id, &Message::Block(block.bytes().to_vec()));
        }
    }

    /// Every block at hand of one author that is of use to others.
    fn said_by(&self, author: PeerId) -> impl Iterator<Item = &SignedBlock> {
        (self.log.blocks(author)).chain(self.log.left_over(author))
    }

    /// Whether a certificate has admitted somebody, now or once; the creator needs none.
    fn has_admitted(&self, author: &PeerId) -> bool {
        let creator = self.manifest.as_ref().map(|manifest| manifest.creator);
        let roster = self.head.as_ref().map(|head| &head.roster);
        roster.is_some_and(|roster| roster.has_known(author)) || creator == Some(*author)
    }

    /// Whether a block is part of the ledger that peers compare. The block with the manifest says by itself that it
    /// is the creator's.
    fn is_admitted(&self, said: &Block) -> bool {
        let opens = matches!(said.entries.first(), Some(Entry::Create(_)));
        opens || self.log.log(said.author).is_some() || self.has_admitted(&said.author)
    }

    /// Whether the run's progress lets its author have a block at this position, and so many bytes. What a
    /// certificate relies on, and what may prove an equivocation, stands below the bound of positions, and is taken
    /// whatever its bytes.
    fn has_room_for(&self, block: &Unverified) -> bool {
        let said = block.block();
        if self.is_admitted(said) {
            let rounds = self.chain.len() as u64;
            let bytes = limits::FREE_LOG_BYTES + limits::LOG_BYTES_PER_ROUND * rounds;
            return said.seq.0 < limits::FREE_BLOCKS + limits::BLOCKS_PER_ROUND * rounds
                && self.log.has_room_for(block, bytes);
        }
        said.seq.0 < limits::MAX_STRANGER_BLOCKS
            && block.size() <= limits::MAX_STRANGER_BLOCK_BYTES
            && said.entries.len() <= limits::MAX_STRANGER_ENTRIES
    }
}

fn records<'a>(blocks: impl Iterator<Item = &'a SignedBlock>) -> Vec<Record> {
    let bytes = blocks.map(|block| block.bytes().to_vec());
    bytes.map(Record::Block).collect()
}
