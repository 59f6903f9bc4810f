//! What an earlier audit of a run established, under the name of exactly the bytes that it looked at.
//!
//! Checking every signature and aggregate of a long run takes minutes, and a stopped home does not change. A
//! [`Mark`] keeps the outcome of an audit that found no fault. Its key is a hash over every block and certificate of
//! the run in the order in which they are stored, and over which of the blobs that the run names are here; where one
//! bit of that differs, the key does, and the run is audited again.
//!
//! A run that went on has the marked records first and new ones behind them. Where the key holds for those first ones,
//! the audit goes on from there ([`tributary_protocol::audit::resume()`]), so that one more round costs one round. It
//! starts from the genesis where a round was certified twice, somebody equivocated, a block waits for another, or the
//! adapter that the next round builds on is not here.
//!
//! | taken from a mark | looked at again every time |
//! |---|---|
//! | signatures, links, certificates, states, aggregates, sums of accounts | the bytes of blocks and certificates (by the key), checksums of the database, roots of shards, the key file |
//!
//! [`crate::glance`] says what is looked at of a home in which nothing has changed at all, and [`crate::seen`] how
//! blobs are told that were not written since they were hashed.
//!
//! Whoever can write a ledger can also hash it, so a mark is sealed with a secret that follows from the home's key:
//! only the owner of a home can make marks for it. A copy without its key is audited in full, and so is a
//! home whose owner is not trusted, when the caller hands in no marks.

use serde::{Deserialize, Serialize};
use tributary_protocol::hash::{Digest, Domain, Hasher};
use tributary_protocol::id::RunId;

use crate::report::{Fault, RunReport};
use crate::seal;

/// Name and version of this layout. A program that audits otherwise takes another.
const SCHEMA: &str = "checked/2";

/// What an audit found of a run that holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was checked.
    pub report: RunReport,
    /// What was not, and why that is no fault.
    pub notes: Vec<String>,
    /// What the run proves against others.
    pub findings: Vec<Fault>,
    /// Heights whose adapter was not recomputed.
    pub unchecked: Vec<u32>,
}

/// How many records of a run an audit looked at: the first of each kind, in the order in which they are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reach {
    pub(crate) blocks: usize,
    pub(crate) certificates: usize,
    /// Rounds of the chain that the certificates make.
    pub(crate) rounds: usize,
}

/// An [`Outcome`] under the name of the bytes that it holds for.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// The run.
    pub run: RunId,
    /// Which of its records.
    pub(crate) reach: Reach,
    /// Names their bytes.
    pub(crate) key: Digest,
    /// What was found of them.
    pub(crate) outcome: Outcome,
}

/// A mark as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    run: String,
    reach: Reach,
    key: String,
    outcome: Outcome,
}

impl Mark {
    /// The bytes to keep, sealed.
    pub fn seal(&self, secret: &Digest) -> Vec<u8> {
        let kept = Kept {
            run: self.run.to_string(),
            reach: self.reach,
            key: self.key.to_string(),
            outcome: self.outcome.clone(),
        };
        seal::json(SCHEMA, &kept, secret)
    }

    /// A mark that was kept; `None` when its seal is not this secret's, or it is of another version.
    pub fn open(bytes: &[u8], secret: &Digest) -> Option<Self> {
        let kept: Kept = seal::from_json(SCHEMA, bytes, secret)?;
        Some(Self {
            run: kept.run.parse().ok()?,
            reach: kept.reach,
            key: kept.key.parse().ok()?,
            outcome: kept.outcome,
        })
    }
}

/// Names the records of one kind as they come, and the first of them.
struct Names {
    hasher: Hasher,
    count: usize,
    /// How many are the first ones, and their name once they have come.
    first: (usize, Option<Digest>),
}

impl Names {
    fn new(kind: &[u8], run: &RunId, first: usize) -> Self {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"checked bytes").update(SCHEMA.as_bytes());
        hasher.update(run.as_bytes()).update(kind);
        let mut names = Self {
            hasher,
            count: 0,
            first: (first, None),
        };
        names.note();
        names
    }

    fn add(&mut self, bytes: &[u8]) {
        let length = (bytes.len() as u64).to_le_bytes();
        self.hasher.update(&length).update(bytes);
        self.count += 1;
        self.note();
    }

    fn note(&mut self) {
        if self.count == self.first.0 {
            self.first.1 = Some(self.hasher.clone().finalize());
        }
    }
}

/// Names the bytes of a run as they come.
pub(crate) struct Naming {
    blocks: Names,
    certificates: Names,
}

impl Naming {
    /// Of a run that may have a mark.
    pub(crate) fn new(run: &RunId, mark: Option<&Mark>) -> Self {
        let first = mark.map(|mark| mark.reach).unwrap_or_default();
        Self {
            blocks: Names::new(b"blocks", run, first.blocks),
            certificates: Names::new(b"certificates", run, first.certificates),
        }
    }

    pub(crate) fn block(&mut self, bytes: &[u8]) {
        self.blocks.add(bytes);
    }

    pub(crate) fn certificate(&mut self, bytes: &[u8]) {
        self.certificates.add(bytes);
    }

    /// How far the records go that came, where the certificates make so many rounds.
    pub(crate) fn reach(&self, rounds: usize) -> Reach {
        Reach {
            blocks: self.blocks.count,
            certificates: self.certificates.count,
            rounds,
        }
    }

    /// Names all that came, and `here`, for every blob that the certificates name, whether it is here.
    pub(crate) fn all(&self, here: &[bool]) -> Digest {
        let names = [&self.blocks, &self.certificates].map(|n| n.hasher.clone().finalize());
        key(names, here)
    }

    /// Names what came first; `None` where less came.
    pub(crate) fn first(&self, here: &[bool]) -> Option<Digest> {
        Some(key(
            [self.blocks.first.1?, self.certificates.first.1?],
            here,
        ))
    }
}

fn key(names: [Digest; 2], here: &[bool]) -> Digest {
    let mut hasher = Hasher::new(Domain::Simulation);
    hasher.update(b"checked run");
    for name in names {
        hasher.update(name.as_bytes());
    }
    for is_here in here {
        hasher.update(&[u8::from(*is_here)]);
    }
    hasher.finalize()
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

    /// The run without what came after its second training round, and how many records that is.
    fn younger(hand: &Hand) -> Vec<Record> {
        let is_last =
            |record: &Record| matches!(record, Record::Certificate { round, .. } if round.0 == 2);
        let last = hand.records.iter().position(is_last);
        hand.records[..=last.expect("a second round")].to_vec()
    }

    /// The adapters after every round, as a home keeps them.
    fn keep_adapters(hand: &mut Hand) {
        let archive = hand.archive();
        let mut adapters = Vec::new();
        audit::audited(&archive, &archive.runs[0], &mut |value, derived| {
            let adapter = &derived.expect("every update is here").adapter;
            adapters.push((value.adapter.hash, adapter.to_bytes()));
        })
        .expect("the run holds");
        hand.kept.extend(adapters);
    }

    #[test]
    fn a_run_that_went_on_is_audited_from_its_mark_and_reports_the_same() {
        let (mut hand, _, _) = finished();
        keep_adapters(&mut hand);
        let (_, _, marks) = opened(&younger(&hand), &hand, b"");
        let kept = marks[0].seal(&SECRET);
        let (full, _, _) = opened(&hand.records, &hand, b"");
        let read = |run: &RunId| Mark::open(&kept, &SECRET).filter(|mark| mark.run == *run);
        let archive = Archive::marked(NETWORK, &hand.records, hand.kept.clone(), &read);
        let run = &archive.runs[0];
        assert_eq!(run.earlier.as_ref().map(|earlier| earlier.rounds), Some(3));
        assert!(!run.was_marked, "there is more than was marked");
        audit::caught_up(&archive, run).expect("the rest holds");
        assert!(
            run.checked.get().is_some(),
            "the audit went on from the mark"
        );
        let (report, _, marks) = opened(&hand.records, &hand, &kept);
        assert_eq!(report, full);
        let (_, was_marked, _) = opened(&hand.records, &hand, &marks[0].seal(&SECRET));
        assert!(was_marked, "the next time nothing is new");
    }

    #[test]
    fn a_fault_in_what_is_new_or_old_is_found_behind_a_mark() {
        let (mut hand, _, _) = finished();
        keep_adapters(&mut hand);
        let (_, _, marks) = opened(&younger(&hand), &hand, b"");
        let kept = marks[0].seal(&SECRET);
        for at in 0..hand.records.len() {
            let mut records = hand.records.clone();
            let (Record::Block(bytes) | Record::Certificate { bytes, .. }) = &mut records[at]
            else {
                panic!("a run is blocks and certificates");
            };
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            let (report, _, marks) = opened(&records, &hand, &kept);
            assert!(!report.verified && marks.is_empty(), "record {at}");
        }
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
