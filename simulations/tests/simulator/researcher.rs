//! What a researcher does with the binary: write a scenario, run it, read the folder, compare, sweep,
//! replay.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn sim(home: &Path, arguments: &[&str]) -> Output {
    (Command::new(env!("CARGO_BIN_EXE_tributary-sim")).args(arguments))
        .current_dir(home)
        .output()
        .expect("the binary runs")
}

fn ok(home: &Path, arguments: &[&str]) -> String {
    let out = sim(home, arguments);
    let (text, errors) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert!(out.status.success(), "{arguments:?}: {text}{errors}");
    text.into_owned()
}

fn refused(home: &Path, arguments: &[&str]) -> String {
    let out = sim(home, arguments);
    assert_eq!(out.status.code(), Some(2), "{arguments:?}");
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&read(path)).expect("JSON")
}

/// The rows of a CSV file, by heading.
fn rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).expect("a readable table");
    (reader.deserialize())
        .map(|row| row.expect("a row of the heading's length"))
        .collect()
}

fn sum(rows: &[BTreeMap<String, String>], column: &str) -> f64 {
    rows.iter()
        .map(|row| row[column].parse::<f64>().expect("a number"))
        .sum()
}

/// A folder with `study.toml` and its result in `result/`.
fn study() -> TempDir {
    let home = TempDir::new().expect("a folder");
    let new = [
        "new",
        "study.toml",
        "--peers",
        "8",
        "--evaluators",
        "2",
        "--rounds",
        "3",
    ];
    ok(home.path(), &new);
    ok(home.path(), &["run", "study.toml", "--out", "result"]);
    home
}

#[test]
fn what_new_writes_runs_and_is_never_overwritten() {
    let home = study();
    let before = read(&home.path().join("study.toml"));
    let error = refused(home.path(), &["new", "study.toml"]);
    assert!(error.contains("where no file is yet"), "{error}");
    assert_eq!(read(&home.path().join("study.toml")), before);
}

#[test]
fn the_folder_has_a_row_for_every_participant_and_round_and_its_sums_agree() {
    let home = study();
    let at = home.path().join("result");
    let result = json(&at.join("result.json"));
    let metrics = &result["metrics"];
    let contributions = rows(&at.join("contributions.csv"));
    for round in 1..=3 {
        for participant in 0..8 {
            let of = |row: &&BTreeMap<String, String>| {
                row["round"] == round.to_string() && row["participant"] == participant.to_string()
            };
            assert_eq!(
                contributions.iter().filter(of).count(),
                1,
                "{round} {participant}"
            );
        }
    }
    let rounds = rows(&at.join("rounds.csv"));
    // The genesis, three training rounds, the closing height.
    assert_eq!(rounds.len(), 5);
    let participants = rows(&at.join("participants.csv"));
    assert_eq!(participants.len(), 8);
    let traffic = rows(&at.join("traffic.csv"));
    for column in [
        "control_sent_bytes",
        "control_received_bytes",
        "payload_sent_bytes",
        "payload_received_bytes",
    ] {
        let total = sum(&traffic, column);
        assert!(total > 0.0, "{column}");
        assert_eq!(total, sum(&participants, column), "{column}");
    }
    assert_eq!(
        metrics["control_bytes"],
        sum(&traffic, "control_sent_bytes")
    );
    assert_eq!(
        metrics["payload_bytes"],
        sum(&traffic, "payload_sent_bytes")
    );
    // What is received was sent; what is lost is not received.
    assert!(sum(&traffic, "control_received_bytes") < 1.1 * sum(&traffic, "control_sent_bytes"));
    assert_eq!(metrics["crashes"], sum(&participants, "crashes"));
    let included = contributions
        .iter()
        .filter(|row| row["outcome"] == "included")
        .count();
    assert_eq!(included as f64, sum(&rounds, "included"));
    // A judged round pays its budget of one OPEN at most; what is held back waits.
    let judged = rounds.iter().filter(|row| row["judged"] == "true").count();
    let paid = sum(&participants, "earned_open");
    assert!(
        paid > 0.0 && paid <= judged as f64 + 1e-6,
        "{paid} paid in {judged} rounds"
    );
    assert_eq!(result["rounds"].as_array().map(Vec::len), Some(5));
}

#[test]
fn every_line_of_the_events_is_json_in_order_of_time() {
    let home = study();
    let text = read(&home.path().join("result/events.jsonl"));
    let events: Vec<Value> = (text.lines())
        .map(|line| serde_json::from_str(line).expect("one JSON object a line"))
        .collect();
    let times: Vec<f64> = events
        .iter()
        .map(|e| e["at_s"].as_f64().expect("a time"))
        .collect();
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
    let of = |kind: &str| events.iter().filter(|e| e["kind"] == kind).count();
    assert_eq!(of("first_certificate"), 5);
    assert_eq!(of("split"), 1);
    let follow = events.iter().filter(|e| e["kind"] == "following");
    let who: BTreeSet<&str> = follow.filter_map(|e| e["participant"].as_str()).collect();
    assert_eq!(who.len(), 8, "every peer follows the run: {who:?}");
    assert_eq!(of("crash"), of("restart"));
}

#[test]
fn the_page_needs_nothing_else_and_names_everybody() {
    let home = study();
    let page = read(&home.path().join("result/report.html"));
    for foreign in ["<script", "<link", "src=", "url(", "@import"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    // Namespaces are names, not addresses.
    let addresses =
        page.matches("http").count() - page.matches("http://www.w3.org/2000/svg").count();
    assert_eq!(addresses, 0);
    for participant in 0..8 {
        assert!(page.matches(&format!("peer-{participant:02}")).count() >= 4);
    }
    for figure in ["loss", "scores", "rounds", "traffic", "timeline"] {
        assert!(
            page.contains(&format!("<figure id=\"{figure}\"")),
            "{figure}"
        );
        let svg = read(&home.path().join(format!("result/{figure}.svg")));
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{figure}");
    }
}

#[test]
fn recording_changes_nothing_and_a_folder_replays_to_its_digest() {
    let home = study();
    let printed = ok(home.path(), &["run", "study.toml", "--format", "json"]);
    let printed: Value = serde_json::from_str(&printed).expect("one JSON object");
    let result = json(&home.path().join("result/result.json"));
    assert_eq!(printed["digest"], result["digest"]);
    let scenario = tributary_simulations::scenario::load(
        home.path().join("study.toml").to_str().expect("UTF-8"),
    );
    let plain = tributary_simulations::World::new(&scenario.expect("accepted"), 1, None).run();
    assert_eq!(result["digest"], plain.digest.to_string());
    let replay = ok(home.path(), &["replay", "result"]);
    assert!(
        replay.contains("the digest is that of the folder"),
        "{replay}"
    );
    // Another history under the same name is noticed.
    let path = home.path().join("result/scenario.toml");
    let text = read(&path).replace("latency_ms = 40", "latency_ms = 41");
    std::fs::write(&path, text).expect("writable");
    let out = sim(home.path(), &["replay", "result"]);
    assert_eq!(out.status.code(), Some(1));
}

#[test]
fn a_split_that_never_began_is_reported_and_not_taken_for_withstood() {
    let home = study();
    let late = "partitions.0.at_ms=500000";
    let text = ok(
        home.path(),
        &["run", "study.toml", "--set", late, "--out", "late"],
    );
    assert!(text.contains("1 of 1 splits never began"), "{text}");
    let page = read(&home.path().join("late/report.html"));
    assert!(page.contains("1 of 1 splits never began"));
    let page = read(&home.path().join("result/report.html"));
    assert!(!page.contains("never began"));
}

#[test]
fn compare_says_by_its_exit_code_whether_thresholds_hold() {
    let home = study();
    let here = home.path();
    let worse = [
        "run",
        "study.toml",
        "--out",
        "worse",
        "--set",
        "learner.learning_rate=0.01",
    ];
    ok(here, &worse);
    let same = ok(
        here,
        &["compare", "result", "result", "--max", "final_loss=+0%"],
    );
    assert!(same.contains("the same run"), "{same}");
    assert!(ok(here, &["compare", "result", "worse/result.json"]).contains("final_loss"));
    let out = sim(
        here,
        &["compare", "result", "worse", "--max", "final_loss=+1%"],
    );
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("BROKEN worse: final_loss is"), "{text}");
    // The other way round it is an improvement.
    ok(
        here,
        &["compare", "worse", "result", "--max", "final_loss=+1%"],
    );
    let out = sim(
        here,
        &[
            "compare",
            "worse",
            "result",
            "--min",
            "final_loss=+1%",
            "--format",
            "json",
        ],
    );
    assert_eq!(out.status.code(), Some(1));
    let value: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(value["breaches"].as_array().map(Vec::len), Some(1));
    let error = refused(here, &["compare", "result", "nowhere"]);
    assert!(error.contains("nowhere"), "{error}");
    let error = refused(
        here,
        &["compare", "result", "worse", "--max", "final_los=1"],
    );
    assert!(error.contains("did you mean `final_loss`"), "{error}");
}

#[test]
fn a_sweep_has_one_row_per_combination_and_refuses_misspelt_keys() {
    let home = study();
    let here = home.path();
    let set = [
        "--set",
        "link.loss=0,0.2",
        "--set",
        "run.aggregation=mean,clipped-mean",
    ];
    let mut arguments = vec!["sweep", "study.toml", "--seeds", "2", "--out", "grid"];
    arguments.extend(set);
    ok(here, &arguments);
    let table = rows(&here.join("grid/sweep.csv"));
    assert_eq!(table.len(), 4);
    let result = json(&here.join("grid/sweep.json"));
    for (row, cell) in table.iter().zip(result["cells"].as_array().expect("cells")) {
        assert_eq!(row["seeds"], "2");
        let losses: Vec<f64> = (cell["seeds"].as_array().expect("seeds").iter())
            .map(|seed| seed["metrics"]["final_loss"].as_f64().expect("a loss"))
            .collect();
        let middle = (losses[0] + losses[1]) / 2.0;
        let written: f64 = row["final_loss_median"].parse().expect("a number");
        assert!((written - middle).abs() < 1e-12);
    }
    let page = read(&here.join("grid/sweep.html"));
    assert!(page.contains("link.loss=0.2, run.aggregation=mean"));
    let error = refused(here, &["sweep", "study.toml", "--set", "link.los=0,0.1"]);
    assert!(error.contains("did you mean `loss`"), "{error}");
    assert!(
        !error.contains("runs"),
        "something ran before the refusal: {error}"
    );
}

#[test]
fn a_folder_with_other_things_is_left_alone() {
    let home = study();
    let other = home.path().join("other");
    std::fs::create_dir(&other).expect("a folder");
    std::fs::write(other.join("thesis.tex"), "years").expect("writable");
    let error = refused(home.path(), &["run", "study.toml", "--out", "other"]);
    assert!(error.contains("nothing was written"), "{error}");
    assert_eq!(std::fs::read_dir(&other).expect("readable").count(), 1);
    // An earlier result is replaced.
    ok(
        home.path(),
        &["run", "study.toml", "--out", "result", "--seed", "2"],
    );
    assert_eq!(json(&home.path().join("result/result.json"))["seed"], 2);
}

#[test]
fn a_broken_promise_names_participant_round_and_cause_first() {
    use tributary_simulations::machine::Disk;
    use tributary_simulations::report::Run;
    let mut scenario = tributary_simulations::scenario::load("smoke").expect("built in");
    (scenario.peers, scenario.evaluators) = (13, 2);
    (scenario.run.min_members, scenario.run.min_contributions) = (8, 4);
    scenario.churn.per_round = 0.8;
    scenario.churn.down_ms = [50, 500];
    let world = tributary_simulations::World::new(&scenario, 1, None);
    let outcome = world.with_disks(Disk::SyncsLater).recorded().run();
    let run = Run::of(&scenario, &outcome, 0.0).expect("recorded");
    let broken = run.all_broken();
    assert!(!broken.is_empty());
    let (who, rest) = broken[0].split_once(", ").expect("a comma");
    assert!(who.starts_with("peer-"), "{who}");
    assert!(rest.starts_with("round "), "{rest}");
    assert!(
        rest.contains("nothing is acknowledged before it is durable"),
        "{rest}"
    );
}

#[test]
fn who_is_not_drawn_for_a_round_is_not_missing_in_it() {
    let home = study();
    let set = [
        "--set",
        "run.participants=3",
        "--set",
        "run.min_contributions=2",
    ];
    let calm = [
        "--set",
        "link.loss=0",
        "--set",
        "churn.per_round=0",
        "--out",
        "drawn",
    ];
    ok(
        home.path(),
        &[&["run", "study.toml"], &set[..], &calm[..]].concat(),
    );
    let contributions = rows(&home.path().join("drawn/contributions.csv"));
    let rounds = rows(&home.path().join("drawn/rounds.csv"));
    for round in rounds.iter().filter(|row| row["expected"] != "0") {
        let of = contributions
            .iter()
            .filter(|row| row["round"] == round["round"]);
        let outcomes: Vec<&str> = of.map(|row| row["outcome"].as_str()).collect();
        let count = |outcome| outcomes.iter().filter(|o| **o == outcome).count();
        assert!(count("included") <= 3, "{outcomes:?}");
        assert!(count("not drawn") > 0, "{outcomes:?}");
        let members = outcomes.len() - count("evaluator") - count("not a member");
        assert_eq!(
            count("not drawn") + round["expected"].parse::<usize>().expect("a number"),
            members
        );
    }
}
