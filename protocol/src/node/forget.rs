//! Forgetting a run on the disk: what goes, and what must stay because its author signed it.
//!
//! A peer that lost what it said and takes part again writes a second history, and both together prove an equivocation
//! against its owner. So everything that this peer signed stays as the run's tombstone: its own log, and what its seat
//! said in heights that are still open. What its seat said in certified heights is not on the disk even before, because
//! the certificate took its place. So [`Record::Forgotten`] keeps the last certificate, and the seat stays silent up to its
//! round. The certificate itself may be the only one of its round in the world: members that wait for this peer's vote
//! would wait for ever. A run that is followed again comes by it as soon as it has caught up.

use std::collections::BTreeSet;

use super::NodeContext;
use super::refute::PendingCertificate;
use super::run::{OpenRun, Run, Stage};
use crate::certificate::Certificate;
use crate::entry::Entry;
use crate::event::Record;
use crate::id::{NetworkId, PeerId, RunId, Scope};
use crate::log::Unverified;

/// What becomes of the records of a run that its owner wants forgotten.
#[derive(Clone, Copy, Debug)]
pub struct Forgetting {
    /// The network.
    pub network: NetworkId,
    /// Whose disk it is.
    pub me: PeerId,
    /// The run.
    pub run: RunId,
}

impl Forgetting {
    /// Whether a record is the run's.
    pub fn concerns(&self, record: &Record) -> bool {
        match record {
            Record::Block(bytes) => self.author(bytes).is_some(),
            Record::Certificate { run, .. }
            | Record::Consensus { run, .. }
            | Record::ConsensusDone { run, .. }
            | Record::Residual { run, .. }
            | Record::Sent { run, .. }
            | Record::Followed { run, .. }
            | Record::Forgotten { run, .. } => *run == self.run,
            Record::Blob { .. } => false,
        }
    }

    /// Whether a record stays: those of other runs, and what this peer signed.
    pub fn stays(&self, record: &Record) -> bool {
        match record {
            Record::Block(bytes) => self.author(bytes).is_none_or(|author| author == self.me),
            Record::Consensus { .. } | Record::ConsensusDone { .. } | Record::Forgotten { .. } => {
                true
            }
            other => !self.concerns(other),
        }
    }

    /// The author of a block of the run.
    fn author(&self, bytes: &[u8]) -> Option<PeerId> {
        let block = Unverified::decode(bytes, self.network).ok()?;
        let said = block.block();
        (said.scope == Scope::Run(self.run)).then_some(said.author)
    }

    /// The mark to write in the same commit; none where this peer never signed anything in the run.
    pub fn mark(&self, records: &[Record]) -> Option<Record> {
        let is_said = |record: &Record| !matches!(record, Record::ConsensusDone { .. });
        let own = |record: &&Record| is_said(record) && self.concerns(record) && self.stays(record);
        records.iter().find(own)?;
        let round = |bytes: &[u8]| Certificate::decode(bytes).map(|found| found.round());
        let certificates = records.iter().filter_map(|record| match record {
            Record::Certificate { run, round, bytes } if *run == self.run => Some((*round, bytes)),
            Record::Forgotten { run, last } if *run == self.run => {
                let bytes = last.as_ref()?;
                Some((round(bytes).ok()?, bytes))
            }
            _ => None,
        });
        // Of two of one round the first is the one that was followed.
        let last = certificates.reduce(|last, next| if next.0 > last.0 { next } else { last });
        Some(Record::Forgotten {
            run: self.run,
            last: last.map(|(_, bytes)| bytes.clone()),
        })
    }
}

/// Runs that were forgotten and are not followed again.
pub fn forgotten<'a>(records: impl IntoIterator<Item = &'a Record>) -> BTreeSet<RunId> {
    let (mut marked, mut followed) = (BTreeSet::new(), BTreeSet::new());
    for record in records {
        match record {
            Record::Forgotten { run, .. } => drop(marked.insert(*run)),
            Record::Followed { run, .. } => drop(followed.insert(*run)),
            _ => {}
        }
    }
    &marked - &followed
}

impl Run {
    /// Takes up a forgotten run: this peer's own log goes on where it ends, and so does its membership.
    pub(super) fn recall(&mut self, cx: &mut NodeContext) {
        assert!(
            matches!(self.stage, Stage::Waiting(_)),
            "a forgotten run was never opened"
        );
        self.ledger.reindex_all();
        self.learn_manifest(cx);
        (self.ledger.replica).set_strangers_aside(&self.stage.standing());
        let own = self.ledger.replica.log().entries(cx.me);
        self.membership.join = own.fold(None, |join, (_, entry)| match entry {
            Entry::Join(asked) => Some(asked.clone()),
            Entry::Leave => None,
            _ => join,
        });
    }
}

impl OpenRun {
    /// Whether this peer may have spoken in the open height and cannot tell what it said. At the last of those heights the
    /// certificate that it kept is tried.
    pub(super) fn is_silenced(&mut self, cx: &NodeContext) -> bool {
        let round = self.height.round;
        let upto = self.forgotten.as_ref().map(Certificate::round);
        if upto == Some(round)
            && let Some(kept) = self.forgotten.take()
        {
            let pending = PendingCertificate::kept(kept, cx.now.monotonic);
            self.height.pending_certificate = Some(pending);
        }
        upto >= Some(round)
    }
}
