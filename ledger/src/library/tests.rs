//! A library shows what the slow twin works out, however its records come.

use serde_json::{Value, json};
use tributary_protocol::consensus::{Signed, Vote, VoteKind};
use tributary_protocol::hash::{Domain, Hasher};
use tributary_protocol::id::Round;

use super::*;
use crate::book::Book;
use crate::hand::{Hand, NETWORK, finished, id, key};

/// Everything that a reader is shown of a run.
fn of_volume(volume: &Volume) -> Value {
    let statements = (0..4).map(|who| volume.statement(id(who), Some(2)));
    let statements = statements.collect::<Result<Vec<_>, _>>();
    json!({
        "members": volume.members(),
        "rounds": volume.rounds(),
        "credits": volume.credits().map_err(|e| e.to_string()),
        "statements": statements.map_err(|e| e.to_string()),
        "adapter": volume.adapter(true),
    })
}

/// The same by folding the whole chain.
fn of_book(book: &Book<'_>) -> Value {
    let statements = (0..4).map(|who| book.statement(id(who), Some(2)));
    let statements = statements.collect::<Result<Vec<_>, _>>();
    json!({
        "members": book.members(),
        "rounds": book.rounds(),
        "credits": book.credits().map_err(|e| e.to_string()),
        "statements": statements.map_err(|e| e.to_string()),
        "adapter": book.adapter(true),
    })
}

fn slow(records: &[Record]) -> Value {
    let blobs = BTreeMap::new();
    let archive = crate::Archive::of(NETWORK, records, blobs);
    let (_, book) = archive.books().next().expect("the manifest is here");
    of_book(&book)
}

fn shown(library: &mut Library) -> Value {
    let snapshot = library.snapshot();
    let volume = snapshot.runs().next().expect("the manifest is here");
    of_volume(volume)
}

#[test]
fn every_prefix_of_a_history_shows_what_folding_all_of_it_shows() {
    let (hand, _, _) = finished();
    let mut library = Library::new(NETWORK);
    for (at, record) in hand.records.iter().enumerate() {
        library.extend([record]);
        let records = &hand.records[..=at];
        assert_eq!(shown(&mut library), slow(records), "after {at} records");
    }
    assert_eq!(library.runs[&hand.run()].certified(), Some(Round(4)));
}

#[test]
fn records_in_any_order_and_repeated_end_in_the_same_views() {
    let (hand, _, _) = finished();
    let end = slow(&hand.records);
    for seed in 0..50u8 {
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(b"orders").update(&[seed]);
        let mut draws = hasher.finalize_xof();
        let mut records: Vec<&Record> = hand.records.iter().chain(&hand.records[5..20]).collect();
        for at in (1..records.len()).rev() {
            let other = draws.below(at as u64 + 1) as usize;
            records.swap(at, other);
        }
        let mut library = Library::new(NETWORK);
        records.iter().for_each(|record| library.extend([*record]));
        assert_eq!(shown(&mut library), end, "seed {seed}");
    }
}

#[test]
fn a_missing_certificate_stops_the_account_as_it_stops_the_slow_twin() {
    let (hand, _, _) = finished();
    let second = |record: &&Record| {
        matches!(
            record,
            Record::Certificate {
                round: Round(2),
                ..
            }
        )
    };
    let records: Vec<Record> = (hand.records.iter())
        .filter(|record| !second(record))
        .cloned()
        .collect();
    let mut library = Library::of(NETWORK, &records);
    let snapshot = library.snapshot();
    let volume = snapshot.run(&hand.run()).expect("the manifest is here");
    let why = volume
        .credits()
        .expect_err("a round is missing")
        .to_string();
    assert!(why.contains("round 2"), "{why}");
    assert_eq!(slow(&records)["credits"]["Err"], json!(why));
    library.extend(hand.records.iter().filter(second));
    assert_eq!(shown(&mut library), slow(&hand.records));
}

/// The creator signs two beginnings; what later rounds build on is shown, whichever came first.
#[test]
fn of_two_certified_values_the_one_that_goes_on_is_shown() {
    let (hand, _, _) = finished();
    let is_genesis = |record: &&Record| {
        matches!(
            record,
            Record::Certificate {
                round: Round(0),
                ..
            }
        )
    };
    let Some(Record::Certificate { bytes, .. }) = hand.records.iter().find(is_genesis) else {
        panic!("the genesis is certified");
    };
    let mut other = Certificate::decode(bytes).expect("it was written here");
    other.value.joins.pop();
    let body = Vote {
        run: hand.run(),
        round: Round(0),
        attempt: 0,
        kind: VoteKind::Precommit,
        value: Some(other.value.id()),
        author: id(0),
    };
    other.precommits = vec![(id(0), Signed::vote(body, NETWORK, &key(0)).signature)];
    let other = Record::Certificate {
        run: hand.run(),
        round: Round(0),
        bytes: other.encode(),
    };
    for place in [0, hand.records.len() - 1] {
        let mut records = hand.records.clone();
        records.insert(place, other.clone());
        let mut library = Library::new(NETWORK);
        for (at, record) in records.iter().enumerate() {
            library.extend([record]);
            if library.runs.values().any(|shelf| shelf.volume.is_some()) {
                let expected = slow(&records[..=at]);
                // A value that nothing builds on yet may stand for its round; both twins take the first.
                let rounds = |view: &Value| view["rounds"].as_array().map(Vec::len);
                assert_eq!(
                    rounds(&shown(&mut library)),
                    rounds(&expected),
                    "after {at}"
                );
            }
        }
        assert_eq!(shown(&mut library), slow(&records), "inserted at {place}");
    }
}

#[test]
fn a_snapshot_never_changes_and_shares_what_did_not() {
    let (hand, _, _) = finished();
    let half = hand.records.len() / 2;
    let mut library = Library::of(NETWORK, &hand.records[..half]);
    let before = library.snapshot();
    let seen = of_volume(before.run(&hand.run()).expect("the manifest is here"));
    let again = library.snapshot();
    assert!(Arc::ptr_eq(&before.runs, &again.runs), "nothing changed");
    library.extend(&hand.records[half..]);
    let after = library.snapshot();
    let now = of_volume(after.run(&hand.run()).expect("the manifest is here"));
    assert_ne!(seen, now);
    assert_eq!(seen, of_volume(before.run(&hand.run()).expect("as before")));
    let other = Hand::opened(4, 2);
    assert_ne!(other.run(), hand.run());
    library.extend(&other.records);
    let both = library.snapshot();
    let shared = |snapshot: &Snapshot| snapshot.runs[&hand.run()].clone();
    assert!(Arc::ptr_eq(&shared(&after), &shared(&both)));
}
