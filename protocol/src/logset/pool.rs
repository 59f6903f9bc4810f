//! Logs of strangers: authors that no certificate has admitted yet.
//!
//! Keys are free, so the memory that all strangers together may take is bounded, and their logs are not part of the
//! ledger that peers compare. A full pool drops whole logs at random: nobody can arrange to stay, and a newcomer
//! repeats its join until it is admitted. The pool never drops this peer's own log or a log that a proposal names.

use std::collections::{BTreeMap, BTreeSet};

use super::author::{AuthorLog, Outcome, Room};
use crate::hash::Stream;
use crate::id::{BlockId, PeerId};
use crate::limits;
use crate::log::SignedBlock;

/// Bytes of a log beside its blocks: places in the maps that lead to it.
const BYTES_PER_LOG: usize = 512;
/// Draws before an eviction gives up: so many in a row are spared only where almost all are.
const MAX_DRAWS: usize = 64;

#[derive(Clone, Debug)]
struct Pooled {
    log: AuthorLog,
    /// Its place in `order`.
    at: usize,
    bytes: usize,
}

/// The logs of strangers, bounded in bytes. Invariants: `order` lists the authors of `logs` once each,
/// `logs[order[i]].at == i`, and `bytes` is the sum over `logs`.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    logs: BTreeMap<PeerId, Pooled>,
    order: Vec<PeerId>,
    bytes: usize,
}

impl Pool {
    pub(super) fn get(&self, author: &PeerId) -> Option<&AuthorLog> {
        self.logs.get(author).map(|pooled| &pooled.log)
    }

    pub(super) fn logs(&self) -> impl Iterator<Item = &AuthorLog> {
        self.logs.values().map(|pooled| &pooled.log)
    }

    pub(super) fn authors(&self) -> &[PeerId] {
        &self.order
    }

    /// Memory that the logs take, as far as it follows from their blocks.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a block. Also returns the authors whose logs were dropped for it.
    pub(super) fn insert(
        &mut self,
        block: SignedBlock,
        certified: &BTreeSet<BlockId>,
        draws: &mut Stream,
        is_spared: &dyn Fn(&PeerId) -> bool,
    ) -> (Outcome, Vec<PeerId>) {
        let author = block.block().author;
        let mut log = self.remove(&author).unwrap_or_default();
        let most = limits::MAX_STRANGER_BLOCKS as usize;
        let entries = limits::MAX_STRANGER_ENTRIES * limits::ENTRY_BYTES;
        let bytes = most * (limits::MAX_STRANGER_BLOCK_BYTES + entries);
        let room = Room {
            blocks: most.saturating_sub(log.pending_blocks()),
            bytes: bytes.saturating_sub(log.pending_bytes()),
        };
        let outcome = log.insert(block, room, certified);
        if !log.is_empty() {
            self.put(author, log);
        }
        let spared = |peer: &PeerId| *peer == author || is_spared(peer);
        (outcome, self.shrink(draws, &spared))
    }

    /// Adds a whole log; the next insertion sees to the bound.
    pub(super) fn put(&mut self, author: PeerId, log: AuthorLog) {
        let bytes = BYTES_PER_LOG + log.held_blocks().map(SignedBlock::memory).sum::<usize>();
        self.bytes += bytes;
        let at = self.order.len();
        self.order.push(author);
        let before = self.logs.insert(author, Pooled { log, at, bytes });
        assert!(before.is_none(), "a log stands in the pool once");
    }

    /// Takes a log out.
    pub(super) fn remove(&mut self, author: &PeerId) -> Option<AuthorLog> {
        let pooled = self.logs.remove(author)?;
        self.bytes -= pooled.bytes;
        self.order.swap_remove(pooled.at);
        if let Some(moved) = self.order.get(pooled.at) {
            let moved = self.logs.get_mut(moved).expect("its author is listed");
            moved.at = pooled.at;
        }
        assert_eq!(self.order.len(), self.logs.len(), "each author once");
        Some(pooled.log)
    }

    fn shrink(&mut self, draws: &mut Stream, is_spared: &dyn Fn(&PeerId) -> bool) -> Vec<PeerId> {
        let mut dropped = Vec::new();
        while self.bytes > limits::MAX_STRANGERS_BYTES {
            let mut drawn = (0..MAX_DRAWS).map(|_| {
                let at = draws.below(self.order.len() as u64) as usize;
                self.order[at]
            });
            let Some(author) = drawn.find(|author| !is_spared(author)) else {
                break;
            };
            self.remove(&author);
            dropped.push(author);
        }
        dropped
    }
}
