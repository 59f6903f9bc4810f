//! An index shows what the slow twin works out, however its records come.

use serde_json::{Value, json};
use tributary_protocol::consensus::{Signed, Vote, VoteKind};
use tributary_protocol::hash::{Domain, Hasher};
use tributary_protocol::id::Round;

use super::*;
use crate::account::RunAccount;
use crate::fixture::{NETWORK, RunBuilder, finished, id, key};

/// Everything that a reader is shown of a run.
fn of_volume(indexed: &IndexedRun) -> Value {
    let statements = (0..4).map(|who| indexed.statement(id(who), Some(2)));
    let statements = statements.collect::<Result<Vec<_>, _>>();
    json!({
        "members": indexed.members(),
        "rounds": indexed.rounds(),
        "credits": indexed.credits().map_err(|e| e.to_string()),
        "statements": statements.map_err(|e| e.to_string()),
        "adapter": indexed.adapter(true),
    })
}

/// The same by folding the whole chain.
fn of_book(account: &RunAccount<'_>) -> Value {
    let statements = (0..4).map(|who| account.statement(id(who), Some(2)));
    let statements = statements.collect::<Result<Vec<_>, _>>();
    json!({
        "members": account.members(),
        "rounds": account.rounds(),
        "credits": account.credits().map_err(|e| e.to_string()),
        "statements": statements.map_err(|e| e.to_string()),
        "adapter": account.adapter(true),
    })
}

fn slow(records: &[Record]) -> Value {
    let blobs = BTreeMap::new();
    let archive = crate::Archive::of(NETWORK, records, blobs);
    let (_, account) = archive.books().next().expect("the manifest is here");
    of_book(&account)
}

fn shown(index: &mut LedgerIndex) -> Value {
    let snapshot = index.snapshot();
    let indexed = snapshot.runs().next().expect("the manifest is here");
    of_volume(indexed)
}

#[test]
fn every_prefix_of_a_history_shows_what_folding_all_of_it_shows() {
    let (builder, _, _) = finished();
    let mut index = LedgerIndex::new(NETWORK);
    for (at, record) in builder.records.iter().enumerate() {
        index.extend([record]);
        let records = &builder.records[..=at];
        assert_eq!(shown(&mut index), slow(records), "after {at} records");
    }
    assert_eq!(index.runs[&builder.run()].certified(), Some(Round(4)));
}

#[test]
fn records_in_any_order_and_repeated_end_in_the_same_views() {
    let (builder, _, _) = finished();
    let end = slow(&builder.records);
    for seed in 0..50u8 {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"orders").update(&[seed]);
        let mut draws = hasher.finalize_xof();
        let mut records: Vec<&Record> = builder
            .records
            .iter()
            .chain(&builder.records[5..20])
            .collect();
        for at in (1..records.len()).rev() {
            let other = draws.below(at as u64 + 1) as usize;
            records.swap(at, other);
        }
        let mut index = LedgerIndex::new(NETWORK);
        records.iter().for_each(|record| index.extend([*record]));
        assert_eq!(shown(&mut index), end, "seed {seed}");
    }
}

#[test]
fn a_missing_certificate_stops_the_account_as_it_stops_the_slow_twin() {
    let (builder, _, _) = finished();
    let second = |record: &&Record| {
        matches!(
            record,
            Record::Certificate {
                round: Round(2),
                ..
            }
        )
    };
    let records: Vec<Record> = (builder.records.iter())
        .filter(|record| !second(record))
        .cloned()
        .collect();
    let mut index = LedgerIndex::of(NETWORK, &records);
    let snapshot = index.snapshot();
    let indexed = snapshot.run(&builder.run()).expect("the manifest is here");
    let why = indexed
        .credits()
        .expect_err("a round is missing")
        .to_string();
    assert!(why.contains("round 2"), "{why}");
    assert_eq!(slow(&records)["credits"]["Err"], json!(why));
    index.extend(builder.records.iter().filter(second));
    assert_eq!(shown(&mut index), slow(&builder.records));
}

/// The creator signs two beginnings; what later rounds build on is shown, whichever came first.
#[test]
fn of_two_certified_values_the_one_that_goes_on_is_shown() {
    let (builder, _, _) = finished();
    let is_genesis = |record: &&Record| {
        matches!(
            record,
            Record::Certificate {
                round: Round(0),
                ..
            }
        )
    };
    let Some(Record::Certificate { bytes, .. }) = builder.records.iter().find(is_genesis) else {
        panic!("the genesis is certified");
    };
    let mut other = Certificate::decode(bytes).expect("it was written here");
    other.value.joins.pop();
    let body = Vote {
        run: builder.run(),
        round: Round(0),
        attempt: 0,
        kind: VoteKind::Precommit,
        value: Some(other.value.id()),
        author: id(0),
    };
    other.precommits = vec![(id(0), Signed::vote(body, NETWORK, &key(0)).signature)];
    let other = Record::Certificate {
        run: builder.run(),
        round: Round(0),
        bytes: other.encode(),
    };
    for place in [0, builder.records.len() - 1] {
        let mut records = builder.records.clone();
        records.insert(place, other.clone());
        let mut index = LedgerIndex::new(NETWORK);
        for (at, record) in records.iter().enumerate() {
            index.extend([record]);
            if index.runs.values().any(|fold| fold.indexed.is_some()) {
                let expected = slow(&records[..=at]);
                // A value that nothing builds on yet may stand for its round; both twins take the first.
                let rounds = |view: &Value| view["rounds"].as_array().map(Vec::len);
                assert_eq!(rounds(&shown(&mut index)), rounds(&expected), "after {at}");
            }
        }
        assert_eq!(shown(&mut index), slow(&records), "inserted at {place}");
    }
}

#[test]
fn a_snapshot_never_changes_and_shares_what_did_not() {
    let (builder, _, _) = finished();
    let half = builder.records.len() / 2;
    let mut index = LedgerIndex::of(NETWORK, &builder.records[..half]);
    let before = index.snapshot();
    let seen = of_volume(before.run(&builder.run()).expect("the manifest is here"));
    let again = index.snapshot();
    assert!(Arc::ptr_eq(&before.runs, &again.runs), "nothing changed");
    index.extend(&builder.records[half..]);
    let after = index.snapshot();
    let now = of_volume(after.run(&builder.run()).expect("the manifest is here"));
    assert_ne!(seen, now);
    assert_eq!(
        seen,
        of_volume(before.run(&builder.run()).expect("as before"))
    );
    let other = RunBuilder::opened(4, 2);
    assert_ne!(other.run(), builder.run());
    index.extend(&other.records);
    let both = index.snapshot();
    let shared = |snapshot: &Snapshot| snapshot.runs[&builder.run()].clone();
    assert!(Arc::ptr_eq(&shared(&after), &shared(&both)));
}

#[test]
fn a_run_that_its_owner_removed_is_not_shown_until_it_is_followed_again() {
    let (made, _, _) = finished();
    let run = made.run();
    let own = made
        .records
        .iter()
        .filter(|r| matches!(r, Record::Block(_)));
    let marked = Record::Forgotten { run, last: None };
    let left: Vec<Record> = own.cloned().chain([marked]).collect();
    let mut index = LedgerIndex::of(NETWORK, &left);
    assert_eq!(index.snapshot().runs().count(), 0);
    let bytes = Vec::new();
    index.extend(&[Record::Followed { run, bytes }]);
    assert!(index.snapshot().run(&run).is_some());
}

/// Who changes a block of what is kept is found out, and a removal that is none as well.
#[test]
fn what_is_kept_of_a_removed_run_is_checked() {
    let (made, _, _) = finished();
    let marked = Record::Forgotten {
        run: made.run(),
        last: None,
    };
    let checked = |records: &[Record]| {
        let none = std::collections::BTreeMap::new();
        let archive = crate::Archive::of(NETWORK, records, none);
        let mut report = crate::Report::default();
        crate::audit::archive(&archive, &mut report);
        report
    };
    let whole: Vec<Record> = made
        .records
        .iter()
        .cloned()
        .chain([marked.clone()])
        .collect();
    let report = checked(&whole);
    assert!(
        report.faults[0].reason.contains("certificates"),
        "{report:?}"
    );
    let blocks = made
        .records
        .iter()
        .filter(|r| matches!(r, Record::Block(_)));
    let mut left: Vec<Record> = blocks.cloned().chain([marked]).collect();
    let report = checked(&left);
    assert_eq!(report.faults, []);
    assert_eq!(report.runs[0].blocks as usize, left.len() - 1);
    if let Record::Block(bytes) = &mut left[0] {
        *bytes.last_mut().expect("a block has bytes") ^= 1;
    }
    let report = checked(&left);
    assert!(report.faults[0].reason.contains("signature"), "{report:?}");
}
