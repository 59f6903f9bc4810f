//! The demo as a process: finished, killed, resumed, checked.

#[path = "support/cli.rs"]
mod cli;

use std::path::Path;
use std::time::Duration;

use cli::{Running, json, program, run};

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
    for round in rounds {
        assert_eq!(round["included"], 3, "{round}");
        assert!(
            round["loss_before"].is_f64() && round["loss_after"].is_f64(),
            "{round}"
        );
        assert!(round["bytes_up_max"].as_u64().unwrap() > 0, "{round}");
        assert!(round["bytes_down_max"].as_u64().unwrap() > 0, "{round}");
    }
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
    assert_eq!(paid, 2 * 10_000_000, "two rounds of ten OPEN");

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
