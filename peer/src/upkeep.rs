//! Making a stopped home smaller: [`removal`] takes one run off the disk, [`waste`] finds what no run needs.
//!
//! Both hold the home while they look and remove, so that no daemon starts meanwhile. Rows of the ledger go first, in one
//! commit, then blobs. A crash anywhere leaves a home that starts and lacks nothing that a run needs; what it left over is
//! waste that the next collection finds.

pub(crate) mod removal;
#[cfg(test)]
mod tests;
pub(crate) mod waste;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tributary_protocol::certificate::Certificate;
use tributary_protocol::entry::Entry;
use tributary_protocol::event::Record;
use tributary_protocol::hash;
use tributary_protocol::id::{BlobHash, RunId, Scope};
use tributary_protocol::log::Unverified;
use tributary_protocol::node::forgotten;

use crate::NETWORK;
use crate::home::{self, Home, HomeError, HomePaths};
use crate::store::{StoreError, Upkeep};
use crate::terminal::Failure;

/// A stopped home that this process holds, with its ledger open.
#[derive(Debug)]
pub(crate) struct HeldHome {
    home: Home,
    store: Upkeep,
    records: Vec<Record>,
    blobs: BTreeMap<BlobHash, u64>,
}

impl HeldHome {
    /// Takes the home in the folder `root`.
    ///
    /// # Errors
    /// Where a daemon runs on it, there is none, or its ledger is damaged.
    pub(crate) fn take(root: &Path) -> Result<Self, Failure> {
        refuse_running(&HomePaths::new(root))?;
        let home = Home::open(root)?;
        let store = Upkeep::open(&home)?;
        let records = store.records()?;
        let blobs = store.blobs()?;
        Ok(Self {
            home,
            store,
            records,
            blobs,
        })
    }

    /// Bytes of these blobs.
    fn bytes_of(&self, blobs: &BTreeSet<BlobHash>) -> u64 {
        blobs.iter().filter_map(|hash| self.blobs.get(hash)).sum()
    }
}

/// Says what to do where a daemon holds the home.
fn refuse_running(paths: &HomePaths) -> Result<(), Failure> {
    if !paths.key().exists() {
        return Err(HomeError::Missing(paths.root().to_owned()).into());
    }
    match home::is_held(paths) {
        true => Err(StoreError::InUse(paths.root().to_owned()).into()),
        false => Ok(()),
    }
}

/// The blobs that each run names, of runs that the home still has.
fn named(records: &[Record]) -> BTreeMap<RunId, BTreeSet<BlobHash>> {
    let mut out: BTreeMap<RunId, BTreeSet<BlobHash>> = BTreeMap::new();
    for record in records {
        let (run, blobs) = names(record);
        if let Some(run) = run {
            out.entry(run).or_default().extend(blobs);
        }
    }
    for run in forgotten(records) {
        out.remove(&run);
    }
    out
}

/// The run of a record, and the blobs that the record names. What does not decode names nothing: the audit reports it, and
/// no node starts from it.
fn names(record: &Record) -> (Option<RunId>, Vec<BlobHash>) {
    match record {
        Record::Block(bytes) => match Unverified::decode(bytes, NETWORK) {
            Ok(block) => {
                let said = block.block();
                let run = match said.scope {
                    Scope::Run(run) => Some(run),
                    _ => None,
                };
                let blobs = said.entries.iter().filter_map(|entry| match entry {
                    Entry::Contribution(receipt) => Some(receipt.update.hash),
                    Entry::Publish(blob) => Some(blob.hash),
                    _ => None,
                });
                (run, blobs.collect())
            }
            Err(_) => (None, Vec::new()),
        },
        Record::Certificate { run, bytes, .. } => {
            let certificate = Certificate::decode(bytes).ok();
            let value = certificate.map(|certificate| certificate.value);
            let blobs = value.into_iter().flat_map(|value| {
                let updates = value.included.into_iter().map(|i| i.update.hash);
                updates.chain([value.adapter.hash]).collect::<Vec<_>>()
            });
            (Some(*run), blobs.collect())
        }
        Record::Sent { run, bytes, .. } => (Some(*run), vec![BlobHash(hash::blob(bytes))]),
        Record::Consensus { run, .. }
        | Record::ConsensusDone { run, .. }
        | Record::Residual { run, .. }
        | Record::Followed { run, .. }
        | Record::Forgotten { run, .. } => (Some(*run), Vec::new()),
        Record::Blob { .. } => (None, Vec::new()),
    }
}
