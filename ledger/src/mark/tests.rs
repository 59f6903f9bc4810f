//! Tests: what a mark takes over, and what it never hides.

use tributary_protocol::event::Record;

use super::*;
use crate::fixture::{NETWORK, RunBuilder, finished};
use crate::{Archive, Report, audit};

const SECRET: Digest = Digest::from_bytes([7; 32]);

/// What opening a home with these kept marks reports, and the marks that are to be kept from then on.
fn opened(records: &[Record], builder: &RunBuilder, kept: &[u8]) -> (Report, bool, Vec<Mark>) {
    let kept = |run: &RunId| Mark::open(kept, &SECRET).filter(|mark| mark.run == *run);
    let archive = Archive::marked(NETWORK, records, builder.kept.clone(), &kept);
    let was_marked = archive.runs.iter().any(|run| run.was_marked);
    let mut report = Report::default();
    audit::archive(&archive, &mut report);
    (report.concluded(), was_marked, archive.new_marks())
}

fn mark(builder: &RunBuilder) -> Vec<u8> {
    let (report, was_marked, marks) = opened(&builder.records, builder, b"");
    assert!(report.verified && !was_marked, "{:?}", report.faults);
    marks[0].seal(&SECRET)
}

#[test]
fn a_marked_run_reports_what_its_audit_reported() {
    let (builder, _, _) = finished();
    let kept = mark(&builder);
    let (first, _, _) = opened(&builder.records, &builder, b"");
    let (second, was_marked, marks) = opened(&builder.records, &builder, &kept);
    assert!(was_marked && marks.is_empty(), "nothing new is to be kept");
    assert_eq!(first, second);
}

#[test]
fn no_mark_hides_a_changed_record_or_a_lost_blob() {
    let (mut builder, first, _) = finished();
    let kept = mark(&builder);
    for at in 0..builder.records.len() {
        let mut records = builder.records.clone();
        let (Record::Block(bytes) | Record::Certificate { bytes, .. }) = &mut records[at] else {
            panic!("a run is blocks and certificates");
        };
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let (report, was_marked, marks) = opened(&records, &builder, &kept);
        assert!(!was_marked && !report.verified, "record {at}");
        assert!(marks.is_empty(), "a run with a fault is marked");
        records.remove(at);
        assert!(!opened(&records, &builder, &kept).1, "record {at} is gone");
    }
    builder.kept.remove(&first[0].update.hash);
    let (report, was_marked, _) = opened(&builder.records, &builder, &kept);
    assert!(!was_marked && report.runs[0].aggregates < 3, "{report:?}");
}

/// The run without what came after its second training round, and how many records that is.
fn younger(builder: &RunBuilder) -> Vec<Record> {
    let is_last =
        |record: &Record| matches!(record, Record::Certificate { round, .. } if round.0 == 2);
    let last = builder.records.iter().position(is_last);
    builder.records[..=last.expect("a second round")].to_vec()
}

/// The adapters after every round, as a home keeps them.
fn keep_adapters(builder: &mut RunBuilder) {
    let archive = builder.archive();
    let mut adapters = Vec::new();
    audit::audited(&archive, &archive.runs[0], &mut |value, derived| {
        let adapter = &derived.expect("every update is here").adapter;
        adapters.push((value.adapter.hash, adapter.to_bytes()));
    })
    .expect("the run holds");
    builder.kept.extend(adapters);
}

#[test]
fn a_run_that_went_on_is_audited_from_its_mark_and_reports_the_same() {
    let (mut builder, _, _) = finished();
    keep_adapters(&mut builder);
    let (_, _, marks) = opened(&younger(&builder), &builder, b"");
    let kept = marks[0].seal(&SECRET);
    let (full, _, _) = opened(&builder.records, &builder, b"");
    let read = |run: &RunId| Mark::open(&kept, &SECRET).filter(|mark| mark.run == *run);
    let archive = Archive::marked(NETWORK, &builder.records, builder.kept.clone(), &read);
    let run = &archive.runs[0];
    assert_eq!(run.earlier.as_ref().map(|earlier| earlier.rounds), Some(3));
    assert!(!run.was_marked, "there is more than was marked");
    audit::caught_up(&archive, run).expect("the rest holds");
    assert!(
        run.checked.get().is_some(),
        "the audit went on from the mark"
    );
    let (report, _, marks) = opened(&builder.records, &builder, &kept);
    assert_eq!(report, full);
    let (_, was_marked, _) = opened(&builder.records, &builder, &marks[0].seal(&SECRET));
    assert!(was_marked, "the next time nothing is new");
}

#[test]
fn a_fault_in_what_is_new_or_old_is_found_behind_a_mark() {
    let (mut builder, _, _) = finished();
    keep_adapters(&mut builder);
    let (_, _, marks) = opened(&younger(&builder), &builder, b"");
    let kept = marks[0].seal(&SECRET);
    for at in 0..builder.records.len() {
        let mut records = builder.records.clone();
        let (Record::Block(bytes) | Record::Certificate { bytes, .. }) = &mut records[at] else {
            panic!("a run is blocks and certificates");
        };
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let (report, _, marks) = opened(&records, &builder, &kept);
        assert!(!report.verified && marks.is_empty(), "record {at}");
    }
}

#[test]
fn a_mark_that_was_tampered_with_or_sealed_by_another_is_none() {
    let (builder, _, _) = finished();
    let kept = mark(&builder);
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
