//! The demo as a process: finished, killed, resumed, checked.

use std::path::Path;
use std::time::Duration;

use super::cli::{self, Running, json, program, run};

const PATIENCE: Duration = Duration::from_secs(420);

fn demo(home: &Path) -> Vec<String> {
    let home = home.display().to_string();
    let args = [
        "demo", "--peers", "3", "--rounds", "2", "--steps", "8", "--home", &home,
    ];
    args.map(str::to_owned).to_vec()
}

fn strings(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn a_small_demo_ends_verified_and_lowers_the_loss_of_every_domain() {
    let dir = tempfile::tempdir().unwrap();
    let args = demo(dir.path());
    let report = json(&strings(&args));
    assert_eq!(report["schema"], "demo/1");
    assert_eq!(report["ledger_verified"], true, "{report}");
    assert_eq!(report["state_hashes_equal"], true, "{report}");
    let rounds = report["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 2);
    rounds.iter().for_each(a_round_is_measured);
    let domains = report["domains"].as_array().unwrap();
    assert_eq!(domains.len(), 3);
    for domain in domains {
        let (base, adapter) = (&domain["loss_base"], &domain["loss_adapter"]);
        assert!(
            adapter.as_f64().unwrap() < base.as_f64().unwrap(),
            "{domain}"
        );
    }
    let paid: u64 = (report["credits"].as_array().unwrap().iter())
        .map(|c| c["micro_open"].as_u64().unwrap())
        .sum();
    let most = 2 * 10_000_000;
    assert!(
        paid > 0 && paid <= most,
        "at most two rounds of ten OPEN, for what they gained: {paid}"
    );

    everything_deposited_is_claimed_or_back(&report);
    a_payout_is_proven_to_who_has_no_home(dir.path());
    payouts_are_explained(dir.path(), paid);
    holdouts_are_proven(dir.path(), report["run"].as_str().unwrap());
    // The folder that it names is a working adapter.
    let folder = report["adapter"]["path"].as_str().unwrap();
    let text = dir.path().join("text.txt");
    std::fs::write(&text, "The light of the sun is made of rays. ".repeat(20)).unwrap();
    let text = text.display().to_string();
    let eval = json(&["eval", "--adapter", folder, "--text", &text]);
    assert_eq!(eval["schema"], "eval/1");
    assert!(eval["nll"].as_f64().unwrap() > 0.0 && eval["predicted"].as_u64().unwrap() > 50);
    let generate = [
        "generate",
        "--adapter",
        folder,
        "--prompt",
        "The light",
        "--max-tokens",
        "5",
    ];
    let generated = json(&generate);
    assert_eq!(generated["schema"], "generate/1");
    assert_eq!(generated["token_ids"].as_array().unwrap().len(), 5);
    assert_eq!(
        json(&generate),
        generated,
        "greedy text differs from call to call"
    );

    // Again on the finished folder: the same run, nothing trained again.
    let again = json(&strings(&args));
    assert_eq!(again["run"], report["run"]);
    assert_eq!(again["rounds"], report["rounds"]);
    let home = dir.path().display().to_string();
    let other = run(&["demo", "--peers", "3", "--rounds", "3", "--home", &home]);
    assert_eq!(other.status.code(), Some(2));
    let why = String::from_utf8_lossy(&other.stderr);
    assert!(why.contains("--rounds 2 there, 3 now"), "{why}");
}

#[test]
fn the_same_seed_gives_the_same_run_states_credits_and_answers() {
    let dir = tempfile::tempdir().unwrap();
    let play = |name: &str| {
        let args = demo(&dir.path().join(name));
        let mut report = json(&strings(&args));
        // What differs is where it was, and what was measured on the way.
        let part = report.as_object_mut().unwrap();
        for measured in ["home", "wall_s"] {
            part.remove(measured).unwrap();
        }
        part["adapter"].as_object_mut().unwrap().remove("path");
        // A root names its height, and how many heights claims took is measured; so is who signed a root before the next
        // height, which has a part of the round.
        part["settlement"].as_object_mut().unwrap().remove("root");
        for credit in part["credits"].as_array_mut().unwrap() {
            credit.as_object_mut().unwrap().remove("micro_open");
        }
        for round in part["rounds"].as_array_mut().unwrap() {
            let round = round.as_object_mut().unwrap();
            for measured in ["bytes_up_max", "bytes_down_max", "certificate_ms"] {
                round.remove(measured).unwrap();
            }
        }
        report
    };
    assert_eq!(play("here"), play("there"));
}

fn everything_deposited_is_claimed_or_back(report: &serde_json::Value) {
    let settlement = &report["settlement"];
    assert_eq!(settlement["chain"], "test", "{settlement}");
    assert_eq!(settlement["conserved"], true, "{settlement}");
    let of = |part: &str| settlement[part].as_u64().unwrap();
    assert_eq!(of("deposited"), 2 * 10_000_000, "{settlement}");
    assert!(of("paid") > 0, "{settlement}");
    assert_eq!(of("claimed"), of("paid"), "{settlement}");
    assert_eq!(of("paid") + of("left"), of("deposited"), "{settlement}");
    assert_eq!(
        settlement["root"].as_str().unwrap().len(),
        66,
        "{settlement}"
    );
}

/// The proof of a payout fits a message, and is checked where there is no home.
fn a_payout_is_proven_to_who_has_no_home(demo: &Path) {
    let home = std::fs::read_dir(demo.join("peers")).unwrap();
    let mut homes: Vec<_> = home.map(|entry| entry.unwrap().path()).collect();
    homes.sort();
    let home = homes[0].display().to_string();
    let statement = json(&["--home", &home, "ledger", "statement"]);
    let lines = statement["runs"][0]["lines"].as_array().unwrap();
    let line = lines
        .iter()
        .find(|line| line["micro_open"].as_u64() > Some(0));
    let receipt = line.expect("somebody was paid")["receipt"]
        .as_str()
        .unwrap();
    let file = demo.join("payout.json").display().to_string();
    let written = json(&["--home", &home, "ledger", "proof", receipt, &file]);
    assert!(written["bytes"].as_u64().unwrap() <= 6 * 1024, "{written}");
    let nowhere = demo.join("nowhere").display().to_string();
    let checked = json(&["--home", &nowhere, "ledger", "check", &file]);
    assert_eq!(
        checked["micro_open"],
        line.unwrap()["micro_open"],
        "{checked}"
    );
    let forged =
        std::fs::read_to_string(&file)
            .unwrap()
            .replacen("\"micro_open\":", "\"micro_open\":9", 1);
    std::fs::write(&file, forged).unwrap();
    let refused = run(&["--home", &nowhere, "ledger", "check", &file]);
    assert_eq!(refused.status.code(), Some(1));
    let beancount = run(&[
        "--home",
        &home,
        "ledger",
        "statement",
        "--export",
        "beancount",
    ]);
    let beancount = String::from_utf8(beancount.stdout).unwrap();
    assert!(
        beancount.contains("TEST-OPEN") && beancount.contains(" balance Assets:"),
        "{beancount}"
    );
    commands_for_a_real_chain_say_that_daemons_do_it(&home, &statement["runs"][0]["run"]);
}

/// The run of the demo settles on the test chain.
fn commands_for_a_real_chain_say_that_daemons_do_it(home: &str, run: &serde_json::Value) {
    let run = run.as_str().unwrap();
    for command in [
        vec!["settle", "status", run],
        vec!["settle", "post", run],
        vec!["settle", "challenge", run],
        vec!["settle", "claim", run],
        vec!["settle", "watch", run],
        vec!["stake", run, "1"],
        vec!["unstake", run, "0"],
        vec!["budget", run, "1"],
    ] {
        let said = json(&[&["--home", home], &command[..]].concat());
        assert_eq!(said["schema"], "settle-test-chain/1", "{said}");
        assert!(
            said["money"]["deposited_micro_open"].as_u64() > Some(0),
            "{said}"
        );
    }
    let price = json(&["--home", home, "price", run]);
    assert_eq!(
        (&price["chain"], &price["gas"]),
        (&"test".into(), &serde_json::Value::Null)
    );
}

fn a_round_is_measured(round: &serde_json::Value) {
    assert_eq!(round["included"], 3, "{round}");
    assert!(
        round["loss_before"].is_f64() && round["loss_after"].is_f64(),
        "{round}"
    );
    assert!(round["bytes_up_max"].as_u64().unwrap() > 0, "{round}");
    assert!(round["bytes_down_max"].as_u64().unwrap() > 0, "{round}");
}

/// Every line of every contributor's statement leads back to its shard, and they add up to what was paid.
fn payouts_are_explained(demo: &Path, paid: u64) {
    let mut explained = 0;
    for name in ["00", "01", "02"] {
        let home = peer_home(demo, name);
        let statement = json(&["ledger", "statement", "--by", "1", "--home", &home]);
        let run = &statement["runs"][0];
        let lines = run["lines"].as_array().unwrap();
        assert_eq!(lines.len(), 2, "{statement}");
        for line in lines {
            let receipt = &line["receipt"].as_str().unwrap()[..10];
            let found = json(&["ledger", "explain", receipt, "--home", &home]);
            assert_eq!(found["schema"], "explain/1");
            assert_eq!(found["payout"]["micro_open"], line["micro_open"], "{found}");
            let steps = found["steps"].as_array().unwrap();
            let is_checked = |step: &serde_json::Value| step["checked"] == true;
            assert!(steps.len() == 7 && steps.iter().all(is_checked), "{found}");
            explained += line["micro_open"].as_u64().unwrap();
        }
        let change = &run["periods"][1]["change"];
        let causes = change["causes"].as_array().unwrap();
        let sum: i64 = causes
            .iter()
            .map(|c| c["micro_open"].as_i64().unwrap())
            .sum();
        let amount = |at: usize| lines[at]["micro_open"].as_i64().unwrap();
        assert_eq!(sum, amount(1) - amount(0), "{change}");
        assert_eq!(change["micro_open"], sum);
    }
    assert_eq!(explained, paid);
}

/// An evaluator shows what it scored on; a contributor finds that it holds, and that no other text does.
fn holdouts_are_proven(demo: &Path, run: &str) {
    let (judge, other) = (peer_home(demo, "03"), peer_home(demo, "00"));
    let file = demo.join("proof.json");
    let path = file.to_str().unwrap();
    json(&[
        "ledger",
        "prove-holdout",
        &run[..10],
        "2",
        path,
        "--home",
        &judge,
    ]);
    let report = json(&["ledger", "check-holdout", path, "--home", &other]);
    assert_eq!(report["schema"], "holdout-check/1");
    let (signed, found) = (&report["sheet"], &report["recomputed"]);
    for moment in ["before", "after"] {
        let gap = signed[moment].as_f64().unwrap() - found[moment].as_f64().unwrap();
        assert!(gap.abs() < 1e-3, "{report}");
    }
    let proof: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert!(proof["windows"].as_u64() > Some(proof["drawn"].as_array().unwrap().len() as u64));
    let refused = |what: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let mut bad = proof.clone();
        change(&mut bad);
        std::fs::write(&file, bad.to_string()).unwrap();
        let output = cli::run(&["ledger", "check-holdout", path, "--home", &other]);
        assert_eq!(output.status.code(), Some(1), "{what} was accepted");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let why = refused("another text", &|bad| {
        bad["drawn"][0]["tokens"][0] = 7.into()
    });
    assert!(why.contains("committed to"), "{why}");
    let why = refused("another round's draw", &|bad| bad["round"] = 1.into());
    assert!(why.contains("draws other windows"), "{why}");
    let why = refused("a smaller hold-out", &|bad| bad["windows"] = 9.into());
    assert!(why.contains("of this size"), "{why}");
    let why = refused("another's hold-out", &|bad| {
        bad["evaluator"] = json(&["ledger", "statement", "--home", &other])["peer"].clone();
    });
    assert!(why.contains("no evaluating member"), "{why}");
    let why = refused("a window left out", &|bad| {
        bad["drawn"].as_array_mut().unwrap().pop();
    });
    assert!(why.contains("draws other windows"), "{why}");
}

/// The home of the demo's peer whose folder begins so.
fn peer_home(demo: &Path, begins: &str) -> String {
    let folders = std::fs::read_dir(demo.join("peers")).unwrap();
    let paths = folders.map(|entry| entry.unwrap().path());
    let is_it = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(begins)
    };
    let found: Vec<_> = paths.filter(is_it).collect();
    assert_eq!(found.len(), 1, "{begins}");
    found[0].display().to_string()
}

#[test]
fn a_killed_demo_resumes_and_ends_verified() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("demo");
    let args = demo(&home);
    // What was certified just before a kill is not certified again: the next phase tells as well.
    let moments: [&[&str]; 3] = [
        &["waiting for 6 members", "start certified"],
        &["start certified", "round 1/2"],
        &["round 1/2 certified", "round 2/2", "closing"],
    ];
    for (at, words) in moments.into_iter().enumerate() {
        let mut command = program();
        command.args(&args);
        let log = dir.path().join(format!("log-{at}"));
        let mut demo = Running::start(command, &log);
        demo.wait_for(words, PATIENCE);
        demo.kill();
    }
    let report = json(&strings(&args));
    assert_eq!(report["ledger_verified"], true, "{report}");
    assert_eq!(report["state_hashes_equal"], true, "{report}");
    assert_eq!(report["rounds"].as_array().unwrap().len(), 2);
    let home = home.display().to_string();
    let checked = json(&["ledger", "verify", "--home", &home]);
    assert_eq!(checked["verified"], true);
    assert_eq!(checked["runs"].as_array().unwrap().len(), 6);
}
