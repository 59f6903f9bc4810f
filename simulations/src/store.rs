//! What a simulated peer has on disk, under the same rules as the daemon's tables.
//!
//! A record is here only once its sync is over; a crash forgets the rest. [`Store::saved`] is what a
//! restarted node gets back.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tributary_protocol::event::Record;
use tributary_protocol::hash::{self, Digest};
use tributary_protocol::id::{BlobHash, PeerId, Round, RunId};
use tributary_protocol::log::Unverified;
use tributary_protocol::node::Saved;

use crate::network::NETWORK;

thread_local! {
    /// Blocks on any disk of this thread's world, by hash: they are the same bytes on all.
    static SHARED: RefCell<BTreeMap<Digest, Weak<[u8]>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Blocks known before those that no disk holds any more are dropped.
const MAX_SHARED: usize = 1 << 16;

fn shared(name: Digest, bytes: Vec<u8>) -> Arc<[u8]> {
    SHARED.with_borrow_mut(|shared| {
        if let Some(known) = shared.get(&name).and_then(Weak::upgrade) {
            return known;
        }
        if shared.len() >= MAX_SHARED {
            shared.retain(|_, block| block.strong_count() > 0);
        }
        let bytes: Arc<[u8]> = bytes.into();
        shared.insert(name, Arc::downgrade(&bytes));
        bytes
    })
}

/// Durable records of one peer.
#[derive(Clone, Debug, Default)]
pub struct Store {
    blocks: Vec<Arc<[u8]>>,
    seen: BTreeSet<Digest>,
    /// In the order in which they became durable: of two for one round the first is the one that was followed.
    certificates: Vec<(RunId, Round, Vec<u8>)>,
    blobs: BTreeMap<BlobHash, Bytes>,
    consensus: BTreeMap<(RunId, Round), Vec<Vec<u8>>>,
    residuals: BTreeMap<RunId, (Round, Bytes)>,
    sent: BTreeMap<RunId, (Round, Bytes)>,
    followed: BTreeMap<RunId, Vec<u8>>,
}

impl Store {
    /// Makes a record durable.
    pub fn put(&mut self, record: Record) {
        match record {
            Record::Block(bytes) => {
                let name = hash::blob(&bytes);
                if self.seen.insert(name) {
                    self.blocks.push(shared(name, bytes));
                }
            }
            Record::Certificate { run, round, bytes } => {
                let certificate = (run, round, bytes);
                if !self.certificates.contains(&certificate) {
                    self.certificates.push(certificate);
                }
            }
            Record::Blob { hash, bytes } => {
                self.blobs.insert(hash, bytes);
            }
            Record::Consensus { run, round, bytes } => {
                self.consensus.entry((run, round)).or_default().push(bytes);
            }
            Record::ConsensusDone { run, round } => {
                self.consensus.remove(&(run, round));
            }
            Record::Residual { run, round, bytes } => {
                self.residuals.insert(run, (round, bytes));
            }
            Record::Sent { run, round, bytes } => {
                self.sent.insert(run, (round, bytes));
            }
            Record::Followed { run, bytes } => {
                self.followed.insert(run, bytes);
            }
            Record::Forgotten { .. } => panic!("no owner in a simulation forgets a run"),
        }
    }

    /// A durable blob.
    pub fn blob(&self, hash: &BlobHash) -> Option<&Bytes> {
        self.blobs.get(hash)
    }

    /// Whether exactly this block is durable.
    pub fn has_block(&self, bytes: &[u8]) -> bool {
        self.seen.contains(&hash::blob(bytes))
    }

    /// Blocks in the order in which they became durable.
    pub fn blocks(&self) -> &[Arc<[u8]>] {
        &self.blocks
    }

    /// Certificates of a run, in the order in which they became durable.
    pub fn certificates(&self, run: &RunId) -> impl Iterator<Item = (Round, &Vec<u8>)> {
        let run = *run;
        (self.certificates.iter())
            .filter(move |(of, _, _)| *of == run)
            .map(|(_, round, bytes)| (*round, bytes))
    }

    /// Drops what was said in undecided heights, as no honest disk does.
    pub(crate) fn forget_votes(&mut self) {
        self.consensus.clear();
    }

    /// Drops the newest block of one author, as no honest disk does.
    pub(crate) fn forget_last_block_of(&mut self, author: &PeerId) {
        let is_theirs = |bytes: &Arc<[u8]>| {
            let block = Unverified::decode(bytes, NETWORK);
            block.is_ok_and(|block| block.block().author == *author)
        };
        if let Some(at) = self.blocks.iter().rposition(is_theirs) {
            let bytes = self.blocks.remove(at);
            self.seen.remove(&hash::blob(&bytes));
        }
    }

    /// Whether nothing was ever made durable.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.followed.is_empty()
    }

    /// Everything, for `Node::restore`; of blobs only their hashes, as the daemon's store does.
    pub fn saved(&self) -> Saved {
        let mut records = Vec::new();
        let followed = self.followed.iter();
        records.extend(followed.map(|(run, bytes)| Record::Followed {
            run: *run,
            bytes: bytes.clone(),
        }));
        let blocks = self.blocks.iter().map(|bytes| bytes.to_vec());
        records.extend(blocks.map(Record::Block));
        let certificates = self.certificates.iter();
        records.extend(certificates.map(|(run, round, bytes)| Record::Certificate {
            run: *run,
            round: *round,
            bytes: bytes.clone(),
        }));
        for ((run, round), steps) in &self.consensus {
            records.extend(steps.iter().map(|bytes| Record::Consensus {
                run: *run,
                round: *round,
                bytes: bytes.clone(),
            }));
        }
        let residuals = self.residuals.iter();
        records.extend(residuals.map(|(run, (round, bytes))| Record::Residual {
            run: *run,
            round: *round,
            bytes: bytes.clone(),
        }));
        let sent = self.sent.iter();
        records.extend(sent.map(|(run, (round, bytes))| Record::Sent {
            run: *run,
            round: *round,
            bytes: bytes.clone(),
        }));
        Saved {
            records,
            blobs: self.blobs.keys().copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_comes_back_once_and_decided_heights_are_forgotten() {
        let (run, round) = (RunId::default(), Round(1));
        let mut store = Store::default();
        let block = Record::Block(vec![1]);
        let residual = |byte| Record::Residual {
            run,
            round,
            bytes: vec![byte].into(),
        };
        let step = Record::Consensus {
            run,
            round,
            bytes: vec![2],
        };
        for record in [&block, &block, &residual(1), &residual(2), &step, &step] {
            store.put(record.clone());
        }
        assert_eq!(
            store.saved().records,
            [block.clone(), step.clone(), step, residual(2)]
        );
        store.put(Record::ConsensusDone { run, round });
        assert_eq!(store.saved().records, [block, residual(2)]);
    }
}
