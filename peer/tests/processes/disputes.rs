//! A score that somebody disputes without reason: a juror's daemon has the evaluator show its windows, scores them again, and
//! the challenger's stake pays.

use serde_json::Value;

use super::daemon::{Peer, Plan, federation};

fn listed(peer: &Peer, run: &str) -> Value {
    peer.ask(&["dispute", "list", run])
}

/// Disputes what the evaluator's newest sheet says of a contributor, once that is possible.
fn dispute(challenger: &Peer, run: &str, scored: &str) -> Value {
    let mut opened = Value::Null;
    challenger.until("the dispute is opened", || {
        let found = listed(challenger, run);
        let sheets = found["disputable"].as_array().expect("a list");
        let of_both = |sheet: &&Value| {
            let mut peers = sheet["scored"].as_array().into_iter().flatten();
            peers.any(|peer| peer == scored)
        };
        let Some(sheet) = sheets.iter().rev().find(of_both) else {
            return false;
        };
        let round = sheet["round"].to_string();
        let evaluator = sheet["evaluator"].as_str().expect("an id");
        let asked = ["dispute", "open", run, &round, evaluator, scored];
        let asked = [&asked[..], &["--reason", "it should be twice that"]].concat();
        // Refused while no stake of the challenger counts.
        opened = challenger.try_ask(&asked).unwrap_or_default();
        opened["run"] == *run
    });
    opened
}

#[test]
fn a_score_that_holds_costs_whoever_disputes_it_a_bond() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        rounds: 60,
        members: 4,
        local_steps: 4,
        round_ms: 60_000,
        grace_ms: 3_000,
    };
    let (peers, run, _) = federation(dir.path(), &plan);
    let [ada, bea, cyd, dan] = &peers[..] else {
        panic!("four peers");
    };
    let id = |peer: &Peer| peer.ask(&["status"])["peer"].as_str().unwrap().to_owned();
    let (ada_id, bea_id, cyd_id, dan_id) = (id(ada), id(bea), id(cyd), id(dan));
    ada.until("the first rounds are certified", || {
        ada.certified(&run) >= Some(2)
    });
    let unknown = bea.refused(
        &[
            "dispute", "open", &run, "999", &ada_id, &cyd_id, "--reason", "x",
        ],
        &[],
    );
    assert!(unknown.contains("counts such a sheet"), "{unknown}");
    let own = ["dispute", "appeal", &run, "d51e"];
    assert!(
        bea.refused(&own, &[]).contains("begin with"),
        "no such dispute"
    );
    dispute(bea, &run, &cyd_id);
    let mut found = Value::Null;
    bea.until("the jury has found and the stake has signed", || {
        found = listed(bea, &run)["disputes"][0].clone();
        found["stage"] == "over"
            && found["sentence"]["signatures"].as_array().map(Vec::len) >= Some(3)
    });
    assert_eq!(found["author"], ada_id, "{found}");
    assert_eq!(
        (&found["score"]["challenger"], &found["loser"]),
        (&bea_id.clone().into(), &bea_id.into())
    );
    let jury = found["jury"].as_array().unwrap();
    assert_eq!(
        jury.len(),
        1,
        "whoever is concerned judges nothing: {found}"
    );
    assert_eq!(
        (&jury[0]["peer"], &jury[0]["finding"]),
        (&dan_id.into(), &"holds".into())
    );
    assert!(
        dan.log().contains("found that the score holds"),
        "{}",
        dan.log()
    );
    let mut staked = Value::Null;
    ada.until("the bond is burned", || {
        staked = ada.ask(&["run", "show", &run])["settlement"]["staked_micro_open"].clone();
        staked == 3_000_000
    });
    for peer in &peers {
        peer.verify("after the dispute");
    }
}
