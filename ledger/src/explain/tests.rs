//! A run made by hand, walked from payouts back to shards, and asked for what it does not hold.

use tributary_protocol::consensus::{Signed, Vote, VoteKind};
use tributary_protocol::entry::Contribution;
use tributary_protocol::event::Record;

use super::*;
use crate::Remedy;
use crate::account::receipt_id;
use crate::fixture::{NAMES, NETWORK, RunBuilder, finished, id, key, root};
use crate::report::Report;

const MEMBERS: usize = 4;

impl RunBuilder {
    fn explain(&self, wanted: &str) -> Result<Explanation, ExplainError> {
        explain(&self.archive(), &|_| ShardText::Elsewhere, id(9), wanted)
    }

    fn refused(&self, wanted: &str) -> String {
        let error = self
            .explain(wanted)
            .expect_err("explained what it should not");
        format!("{error} ({})", error.hint().unwrap_or_default())
    }
}

#[test]
fn every_station_of_a_payout_is_checked() {
    let (builder, first, _) = finished();
    let id = receipt_id(&first[2].receipt);
    let found = builder.explain(&id[..10]).unwrap();
    assert_eq!((found.round, found.name.as_str()), (1, NAMES[2]));
    let stations: Vec<&str> = found.steps.iter().map(|s| s.station.as_str()).collect();
    let walk = [
        "payout",
        "split",
        "score",
        "certificate",
        "vector",
        "receipt",
        "shard",
    ];
    assert_eq!(stations, walk);
    assert!(
        found.steps.iter().all(|step| step.checked),
        "{:?}",
        found.steps
    );
    let paid: u64 = found.split.iter().map(|line| line.micro_open).sum();
    assert_eq!(
        paid + found.payout.waiting_micro_open,
        found.payout.worth_micro_open
    );
    // 800 billionths of a nat at 50 OPEN a nat, of which one score of 50 is held back.
    assert_eq!((paid, found.payout.worth_micro_open), (37, 40));
    let own = found
        .split
        .iter()
        .find(|line| line.peer == found.peer)
        .unwrap();
    assert_eq!(own.micro_open, found.payout.micro_open);
    assert_eq!(found.score.score_nanonats, Some(own.score_nanonats));
    assert_eq!(found.score.sheets.len(), 2, "all but its own");
    assert!(
        found.score.sheets[1].middle,
        "the mean of two rests on both"
    );
    let vector = found.vector.unwrap();
    assert!((vector.token_share - 12.0 / 46.0).abs() < 1e-12);
    assert!(vector.factor <= 1.0 && vector.factor > 0.0, "{vector:?}");
    let length = vector.coefficient * vector.update_norm;
    assert!(
        (length - vector.vector_norm).abs() < 1e-6 * length,
        "{vector:?}"
    );
    let signed = found
        .certificate
        .committee
        .iter()
        .filter(|seat| seat.signed);
    assert!(signed.count() >= found.certificate.quorum as usize);
    assert_eq!(found.shard.root, root(2).to_string());
}

#[test]
fn the_account_moves_by_what_the_rounds_paid() {
    let (builder, first, _) = finished();
    let run = builder.run().short();
    let rounds = [1, 2, 3].map(|n| builder.explain(&format!("{run}/{n}/cyd")).unwrap().payout);
    assert_eq!(rounds[0].account_before_micro_open, 0);
    for pair in rounds.windows(2) {
        assert_eq!(
            pair[0].account_after_micro_open,
            pair[1].account_before_micro_open
        );
    }
    assert!(rounds[0].micro_open > 0, "{rounds:?}");
    assert_eq!(
        (rounds[1].outcome.as_str(), rounds[1].micro_open),
        ("unscored", 0)
    );
    let by_id = builder
        .explain(&first[2].receipt.block.to_string())
        .unwrap();
    assert_eq!(by_id.payout, rounds[0]);
}

/// Places are in the order of ids, and the first place's median is 50 where three times its luck is 90.
#[test]
fn a_score_that_is_held_back_shows_what_it_lacks() {
    let (builder, _, _) = finished();
    let least = (0..MEMBERS).min_by_key(|who| id(*who)).unwrap();
    let found = builder
        .explain(&format!("{}/1/{}", builder.run().short(), NAMES[least]))
        .unwrap();
    let own = (found.split.iter())
        .find(|line| line.peer == found.peer)
        .unwrap();
    assert_eq!((own.score_nanonats, own.luck_nanonats), (50, 30));
    assert_eq!((own.shown_nanonats, own.bar_nanonats), (50, 90));
    assert!(!own.beyond_luck && own.micro_open == 0, "{own:?}");
    assert_eq!(found.payout.outcome, "paid");
    assert_eq!(found.positive_nanonats, 50 + 150 + 250 + 350);
    assert!(found.score.sheets.iter().all(|s| s.luck_nanonats == 30));
}

#[test]
fn a_round_with_too_few_sheets_says_so() {
    let (builder, _, _) = finished();
    let found = builder
        .explain(&format!("{}/2/ada", builder.run().short()))
        .unwrap();
    assert_eq!((found.score.score_nanonats, found.score.needed), (None, 3));
    assert_eq!(found.score.sheets.len(), 1);
    assert!(!found.score.sheets[0].middle, "one sheet decides nothing");
}

#[test]
fn an_update_that_is_not_here_is_named_and_nothing_else_suffers() {
    let (mut builder, first, _) = finished();
    builder.kept.remove(&first[1].update.hash);
    let found = builder
        .explain(&first[0].receipt.block.to_string())
        .unwrap();
    let open: Vec<&str> = (found.steps.iter().filter(|step| !step.checked))
        .map(|step| step.station.as_str())
        .collect();
    assert_eq!(open, ["vector"]);
    let step = &found.steps[4];
    assert!(step.how.contains("1 of the round's 4 updates"), "{step:?}");
    assert!(step.mend.is_some() && found.vector.is_none());
}

#[test]
fn a_changed_ledger_is_not_explained() {
    let (mut builder, first, _) = finished();
    builder.kept.insert(first[0].update.hash, b"other".to_vec());
    let why = builder.refused(&first[0].receipt.block.to_string());
    assert!(why.contains("does not have the hash"), "{why}");
    builder.kept = builder.blobs.clone();
    let Some(Record::Certificate { bytes, .. }) = (builder.records.iter_mut()).find(|record| {
        matches!(
            record,
            Record::Certificate {
                round: Round(2),
                ..
            }
        )
    }) else {
        panic!("round 2 is certified");
    };
    let mut certificate = Certificate::decode(bytes).unwrap();
    certificate.precommits[0].1.0[3] ^= 1;
    *bytes = certificate.encode();
    let why = builder.refused(&first[0].receipt.block.to_string());
    assert!(why.contains("the ledger does not hold"), "{why}");
}

/// The creator owes the budget: a second genesis of its own must not stop anybody's payouts from being shown.
#[test]
fn a_second_genesis_is_a_finding_and_changes_no_payout() {
    let (mut builder, first, _) = finished();
    let wanted = first[0].receipt.block.to_string();
    let shown = |builder: &RunBuilder| {
        let explanation = builder.explain(&wanted).expect("the ledger holds");
        serde_json::to_value(explanation).expect("it is plain data")
    };
    let before = shown(&builder);
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
    let mut second = Certificate::decode(bytes).expect("it was written here");
    second.value.joins.pop();
    let body = Vote {
        run: builder.run(),
        round: Round(0),
        attempt: 0,
        kind: VoteKind::Precommit,
        value: Some(second.value.id()),
        author: id(0),
    };
    second.precommits = vec![(id(0), Signed::vote(body, NETWORK, &key(0)).signature)];
    builder.records.push(Record::Certificate {
        run: builder.run(),
        round: Round(0),
        bytes: second.encode(),
    });
    assert_eq!(shown(&builder), before);
    let mut report = Report::default();
    audit::archive(&builder.archive(), &mut report);
    assert_eq!(report.findings.len(), 1, "{:?}", report.faults);
    let finding = report.findings[0].to_string();
    assert!(
        finding.contains("round 0") && finding.contains(&id(0).to_string()),
        "{finding}"
    );
}

#[test]
fn a_receipt_that_came_late_is_told_from_one_that_was_refused() {
    let (builder, _, late) = finished();
    let why = builder.refused(&late.receipt.block.to_string());
    assert!(why.contains("late"), "{why}");
    let mut builder = builder;
    let stale = Contribution {
        round: Round(3),
        base: builder.heads[0].hash,
        update: late.update,
        tokens: 10,
        shard: root(3),
    };
    let at = builder.say(3, Entry::Contribution(stale));
    let why = builder.refused(&at.block.to_string());
    assert!(why.contains("was included instead"), "{why}");
    let stale = Contribution {
        round: Round(2),
        ..stale
    };
    let at = builder.say(3, Entry::Contribution(stale));
    let why = builder.refused(&at.block.to_string());
    assert!(
        why.contains("refused: it was trained from another state"),
        "{why}"
    );
}

#[test]
fn rounds_that_are_open_or_not_final_say_when_to_ask_again() {
    let mut builder = RunBuilder::opened(4, 3);
    let first = builder.round(&[0, 1], &[]);
    let why = builder.refused(&first[0].receipt.block.to_string());
    assert!(
        why.contains("not final yet") && why.contains("run watch"),
        "{why}"
    );
    let open = builder.contribute(2);
    let why = builder.refused(&open.receipt.block.to_string());
    assert!(why.contains("not certified in this home yet"), "{why}");
}

#[test]
fn an_unknown_receipt_is_answered_with_those_near_it() {
    let (builder, first, _) = finished();
    let known = first[3].receipt.block.to_string();
    let typo = format!("{}{}", &known[..6], "zzzz");
    let why = builder.refused(&typo);
    assert!(why.contains(&format!("near it: {}", &known[..10])), "{why}");
    assert!(builder.refused("").contains("are named by"), "one of many");
    assert!(builder.refused("1/2/3/4").contains("RUN/ROUND/PEER"));
    let nobody = builder.refused(&format!("{}/1/eve", builder.run().short()));
    assert!(nobody.contains("named by"), "{nobody}");
}
