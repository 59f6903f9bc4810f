//! One run off the disk: what goes, what stays, and when it is refused.
//!
//! What this peer signed stays ([`Forgetting`]); so do blobs that other runs name. A run that is open and counts on this peer
//! is refused, unless its owner says that it is abandoned.

use std::collections::BTreeSet;

use serde::Serialize;
use tributary_ledger::{LedgerIndex, Snapshot};
use tributary_protocol::entry::Entry;
use tributary_protocol::event::Record;
use tributary_protocol::id::{BlobHash, PeerId, RunId, Scope};
use tributary_protocol::log::Unverified;
use tributary_protocol::node::{Forgetting, forgotten};

use super::{HeldHome, named, names};
use crate::NETWORK;
use crate::api::handler::pick;
use crate::problem::{Code, Problem};
use crate::terminal::Failure;

/// What a removal takes off the disk, and what it leaves there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Removal {
    /// The run.
    pub(crate) run: String,
    /// Its name, where the manifest is here.
    pub(crate) name: Option<String>,
    /// Records that go: blocks of others, certificates, error feedback, what was followed.
    pub(crate) records: u64,
    /// Their bytes.
    pub(crate) record_bytes: u64,
    /// Blobs that go.
    pub(crate) blobs: u64,
    /// Their bytes.
    pub(crate) blob_bytes: u64,
    /// Blobs of the run that stay because another run names them.
    pub(crate) shared_blobs: u64,
    /// Blocks that this peer signed, which stay.
    pub(crate) own_blocks: u64,
    /// Bytes of all records that stay of the run.
    pub(crate) own_bytes: u64,
    /// Whether the run was open and counted on this peer.
    pub(crate) abandoned: bool,
}

/// A removal that may be carried out.
#[derive(Debug)]
pub(crate) struct PlannedRemoval {
    held: HeldHome,
    forgetting: Forgetting,
    gone: BTreeSet<BlobHash>,
    /// What it comes to.
    pub(crate) removal: Removal,
}

/// How a run counts on this peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    /// Not at all.
    Free,
    /// It asked to join, and may still be admitted.
    Asked,
    /// It is a member.
    Member,
}

/// Plans the removal of the run that `id` names, in full or by its first digits.
///
/// # Errors
/// [`Code::UnknownId`] and [`Code::AmbiguousId`]; [`Code::NotFollowed`] where it was removed before; [`Code::Refused`] where
/// the run is open and counts on this peer, unless it is abandoned.
pub(crate) fn plan(held: HeldHome, id: &str, abandon: bool) -> Result<PlannedRemoval, Failure> {
    let index = LedgerIndex::of(NETWORK, &held.records).snapshot();
    let known = held.records.iter().filter_map(|record| names(record).0);
    let run = pick(id, known.collect())?;
    if forgotten(&held.records).contains(&run) {
        let text = format!("run {} was removed from this home before", run.short());
        let hint = "what this peer signed in it stays, so that it never signs another history; `tributary gc` removes \
                    what an interrupted removal left";
        return Err(Problem::new(Code::NotFollowed, text).hint(hint).into());
    }
    let me = held.home.identity().peer_id();
    let duty = duty(&index, &held.records, run, me);
    if duty != Duty::Free && !abandon {
        return Err(refusal(run, duty).into());
    }
    let forgetting = Forgetting {
        network: NETWORK,
        me,
        run,
    };
    let mut blobs = named(&held.records);
    let mut gone = blobs.remove(&run).unwrap_or_default();
    gone.retain(|hash| held.blobs.contains_key(hash));
    let shared = |hash: &BlobHash| blobs.values().any(|of| of.contains(hash));
    let here = gone.len();
    gone.retain(|hash| !shared(hash));
    let name = index.run(&run).map(|run| run.manifest().name.clone());
    let mut removal = Removal {
        run: run.to_string(),
        name,
        blobs: gone.len() as u64,
        blob_bytes: held.bytes_of(&gone),
        shared_blobs: (here - gone.len()) as u64,
        abandoned: duty != Duty::Free,
        ..Removal::default()
    };
    for record in held.records.iter().filter(|r| forgetting.concerns(r)) {
        match forgetting.stays(record) {
            true => {
                removal.own_blocks += u64::from(matches!(record, Record::Block(_)));
                removal.own_bytes += weight(record);
            }
            false => {
                removal.records += 1;
                removal.record_bytes += weight(record);
            }
        }
    }
    Ok(PlannedRemoval {
        held,
        forgetting,
        gone,
        removal,
    })
}

impl PlannedRemoval {
    /// Carries it out: the records in one commit, then the blobs that they named.
    ///
    /// # Errors
    /// When the disk refuses. Where the commit succeeded the run is removed, and blobs may be left.
    pub(crate) fn carry_out(self) -> Result<Removal, Failure> {
        let HeldHome { store, records, .. } = &self.held;
        let mark = self.forgetting.mark(records);
        store.retain(&|record| self.forgetting.stays(record), mark.as_ref())?;
        store.remove_blobs(&self.gone)?;
        Ok(self.removal)
    }
}

fn refusal(run: RunId, duty: Duty) -> Problem {
    let run = run.short();
    let (text, hint) = match duty {
        Duty::Asked => (
            format!("this peer asked to join run {run}, which is open, and may still be admitted"),
            "`--abandon` removes it all the same".to_owned(),
        ),
        Duty::Member | Duty::Free => (
            format!("run {run} is open, and this peer is a member of it"),
            format!(
                "start the daemon, `tributary run leave {run}`, and remove it once a round has certified that; `--abandon` \
                 removes it now, and loses what of this peer's work is not certified yet and the updates that others would \
                 fetch from it"
            ),
        ),
    };
    Problem::new(Code::Refused, text).hint(hint)
}

/// How an open run counts on this peer, as far as this home knows.
fn duty(index: &Snapshot, records: &[Record], run: RunId, me: PeerId) -> Duty {
    let mut is_member = false;
    if let Some(indexed) = index.run(&run) {
        let closing = indexed.manifest().closing_round();
        for certificate in indexed.chain() {
            let value = &certificate.value;
            is_member &= !value.leaves.iter().any(|at| at.author == me);
            is_member |= value.joins.iter().any(|joined| joined.entry.author == me);
            if value.round == closing {
                return Duty::Free;
            }
        }
    }
    let mut asks = false;
    for record in records {
        let Record::Block(bytes) = record else {
            continue;
        };
        let Ok(block) = Unverified::decode(bytes, NETWORK) else {
            continue;
        };
        let said = block.block();
        if said.author == me && said.scope == Scope::Run(run) {
            for entry in &said.entries {
                match entry {
                    Entry::Join(_) => asks = true,
                    Entry::Leave => asks = false,
                    _ => {}
                }
            }
        }
    }
    match (is_member, asks) {
        (true, _) => Duty::Member,
        (false, true) => Duty::Asked,
        (false, false) => Duty::Free,
    }
}

/// Bytes of what a record says.
fn weight(record: &Record) -> u64 {
    let bytes = match record {
        Record::Block(bytes)
        | Record::Certificate { bytes, .. }
        | Record::Consensus { bytes, .. }
        | Record::Followed { bytes, .. } => bytes.len(),
        Record::Blob { bytes, .. }
        | Record::Residual { bytes, .. }
        | Record::Sent { bytes, .. } => bytes.len(),
        Record::Forgotten { last, .. } => last.as_ref().map_or(0, Vec::len),
        Record::ConsensusDone { .. } => 0,
    };
    bytes as u64
}
