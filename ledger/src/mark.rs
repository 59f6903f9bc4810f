//! What an earlier audit of a run established, under the name of exactly the bytes that it looked at.
//!
//! Checking every signature and aggregate of a long run takes minutes, and a stopped home does not change. A
//! [`Mark`] keeps the outcome of an audit that found no fault. Its key is a hash over every block and certificate of
//! the run in the order in which they are stored, and over which of the blobs that the run names are here; where one
//! bit of that differs, the key does, and the run is audited again.
//!
//! | taken from a mark | looked at again every time |
//! |---|---|
//! | signatures, links, certificates, states, aggregates, sums of accounts | the bytes of blocks and certificates (by the key), checksums of the database, hashes of blobs, roots of shards, the key file |
//!
//! Anybody that can write a ledger can also hash it, so a mark is sealed with a secret that follows from the home's
//! key: only the owner of a home can make marks for it. A copy without its key is audited in full, and so is a home
//! whose owner is not trusted, when the caller hands in no marks.

use serde::{Deserialize, Serialize};
use tributary_protocol::hash::{Digest, Domain, Hasher};
use tributary_protocol::id::RunId;

use crate::report::{Fault, RunReport};

/// Name and version of this layout. A program that audits otherwise takes another.
const SCHEMA: &str = "checked/1";

/// What an audit found of a run that holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was checked.
    pub report: RunReport,
    /// What was not, and why that is not a fault.
    pub notes: Vec<String>,
    /// What the run proves against others.
    pub findings: Vec<Fault>,
    /// Heights whose adapter was not recomputed.
    pub unchecked: Vec<u32>,
}

/// An [`Outcome`] under the name of the bytes that it holds for.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// The run.
    pub run: RunId,
    /// Names the bytes.
    pub(crate) key: Digest,
    /// What was found of them.
    pub(crate) outcome: Outcome,
}

/// A mark as it is kept.
#[derive(Serialize, Deserialize)]
struct Sealed {
    schema: String,
    run: String,
    key: String,
    outcome: Outcome,
    seal: String,
}

impl Sealed {
    /// Covers every field but itself.
    fn seal(&self, secret: &Digest) -> Option<String> {
        let covered = (&self.schema, &self.run, &self.key, &self.outcome);
        let bytes = serde_json::to_vec(&covered).ok()?;
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"checked mark").update(secret.as_bytes());
        Some(hasher.update(&bytes).finalize().to_string())
    }
}

impl Mark {
    /// The bytes to keep, sealed.
    pub fn seal(&self, secret: &Digest) -> Vec<u8> {
        let mut sealed = Sealed {
            schema: SCHEMA.to_owned(),
            run: self.run.to_string(),
            key: self.key.to_string(),
            outcome: self.outcome.clone(),
            seal: String::new(),
        };
        sealed.seal = sealed.seal(secret).expect("plain data");
        serde_json::to_vec(&sealed).expect("plain data")
    }

    /// A mark that was kept; `None` when its seal is not this secret's, or it is of another version.
    pub fn open(bytes: &[u8], secret: &Digest) -> Option<Self> {
        let sealed: Sealed = serde_json::from_slice(bytes).ok()?;
        let holds = sealed.schema == SCHEMA && sealed.seal(secret)? == sealed.seal;
        let run = sealed.run.parse().ok()?;
        let key = sealed.key.parse().ok()?;
        let outcome = sealed.outcome;
        holds.then_some(Self { run, key, outcome })
    }
}

/// Names the bytes of a run as they come.
pub(crate) struct Naming(Hasher);

impl Naming {
    pub(crate) fn new(run: &RunId) -> Self {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"checked bytes").update(SCHEMA.as_bytes());
        hasher.update(run.as_bytes());
        Self(hasher)
    }

    /// One more record of a kind.
    pub(crate) fn record(&mut self, kind: u8, bytes: &[u8]) {
        let length = (bytes.len() as u64).to_le_bytes();
        self.0.update(&[kind]).update(&length).update(bytes);
    }

    /// Whether a named blob is here.
    pub(crate) fn blob(&mut self, is_here: bool) {
        self.0.update(&[u8::from(is_here)]);
    }

    pub(crate) fn finish(self) -> Digest {
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests {
    use tributary_protocol::event::Record;

    use super::*;
    use crate::hand::{Hand, NETWORK, finished};
    use crate::{Archive, Report, audit};

    const SECRET: Digest = Digest::from_bytes([7; 32]);

    /// What opening a home with these kept marks reports, and the marks that are to be kept from then on.
    fn opened(records: &[Record], hand: &Hand, kept: &[u8]) -> (Report, bool, Vec<Mark>) {
        let kept = |run: &RunId| Mark::open(kept, &SECRET).filter(|mark| mark.run == *run);
        let archive = Archive::marked(NETWORK, records, hand.kept.clone(), &kept);
        let was_marked = archive.runs.iter().any(|run| run.was_marked);
        let mut report = Report::default();
        audit::archive(&archive, &mut report);
        (report.concluded(), was_marked, archive.new_marks())
    }

    fn mark(hand: &Hand) -> Vec<u8> {
        let (report, was_marked, marks) = opened(&hand.records, hand, b"");
        assert!(report.verified && !was_marked, "{:?}", report.faults);
        marks[0].seal(&SECRET)
    }

    #[test]
    fn a_marked_run_reports_what_its_audit_reported() {
        let (hand, _, _) = finished();
        let kept = mark(&hand);
        let (first, _, _) = opened(&hand.records, &hand, b"");
        let (second, was_marked, marks) = opened(&hand.records, &hand, &kept);
        assert!(was_marked && marks.is_empty(), "nothing new is to be kept");
        assert_eq!(first, second);
    }

    #[test]
    fn no_mark_hides_a_changed_record_or_a_lost_blob() {
        let (mut hand, first, _) = finished();
        let kept = mark(&hand);
        for at in 0..hand.records.len() {
            let mut records = hand.records.clone();
            let (Record::Block(bytes) | Record::Certificate { bytes, .. }) = &mut records[at]
            else {
                panic!("a run is blocks and certificates");
            };
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            let (report, was_marked, marks) = opened(&records, &hand, &kept);
            assert!(!was_marked && !report.verified, "record {at}");
            assert!(marks.is_empty(), "a run with a fault is marked");
            records.remove(at);
            assert!(!opened(&records, &hand, &kept).1, "record {at} is gone");
        }
        hand.kept.remove(&first[0].update.hash);
        let (report, was_marked, _) = opened(&hand.records, &hand, &kept);
        assert!(!was_marked && report.runs[0].aggregates < 3, "{report:?}");
    }

    #[test]
    fn a_mark_that_was_tampered_with_or_sealed_by_another_is_none() {
        let (hand, _, _) = finished();
        let kept = mark(&hand);
        for at in 0..kept.len() {
            let mut bad = kept.clone();
            bad[at] ^= 1;
            let opened = Mark::open(&bad, &SECRET);
            let same = opened.is_none() || opened == Mark::open(&kept, &SECRET);
            assert!(same, "byte {at} says something else");
        }
        assert!(Mark::open(&kept, &SECRET).is_some());
        assert!(Mark::open(&kept, &Digest::from_bytes([8; 32])).is_none());
    }
}
