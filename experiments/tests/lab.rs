//! The program as a researcher runs it: what it lists, what it refuses, and what it leaves behind.

use std::process::{Command, Output};

fn lab(arguments: &[&str]) -> Output {
    (Command::new(env!("CARGO_BIN_EXE_tributary-lab")).args(arguments))
        .output()
        .expect("the program starts")
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn studies_rules_and_methods_are_listed_by_name() {
    let listed = lab(&["list"]);
    assert!(listed.status.success());
    let text = words(&listed.stdout);
    for name in [
        "attacks",
        "luck",
        "Multi-Krum",
        "exact Shapley of each round",
    ] {
        assert!(text.contains(name), "{name} is missing in:\n{text}");
    }
}

#[test]
fn a_rule_that_nobody_registered_is_refused_with_the_nearest_name() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().expect("a plain path");
    let refused = lab(&[
        "attacks",
        "--out",
        out,
        "--rules",
        "multi_crum",
        "--minutes",
        "0",
    ]);
    assert_eq!(refused.status.code(), Some(2));
    let why = words(&refused.stderr);
    assert!(why.contains("did you mean `Multi-Krum`"), "{why}");
}

#[test]
fn a_study_without_time_leaves_its_tables_and_says_what_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().expect("a plain path");
    let shown = lab(&[
        "attacks",
        "--out",
        out,
        "--rules",
        "agreement",
        "--minutes",
        "0",
    ]);
    assert!(shown.status.success(), "{}", words(&shown.stderr));
    // The plain mean is there for comparison: two rules, fifteen attacks three times and none, three seeds.
    let left = format!("{} cells of this part are left", 2 * (15 * 3 + 1) * 3);
    assert!(
        words(&shown.stderr).contains(&left),
        "{}",
        words(&shown.stderr)
    );
    let tables = std::fs::read_to_string(folder.path().join("tables.md")).unwrap();
    assert!(
        tables.contains("| agreement |") && tables.contains("| mean |"),
        "{tables}"
    );
    let figures = std::fs::read_to_string(folder.path().join("figures.json")).unwrap();
    assert_eq!(figures, "[]");
}

#[test]
fn full_devices_pipes_and_endless_numbers_are_no_panics() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().expect("a plain path");
    let full = || {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
        full.expect("a device of the system")
    };
    let mut list = Command::new(env!("CARGO_BIN_EXE_tributary-lab"));
    let ended = list.arg("list").stdout(full()).output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    assert!(words(&ended.stderr).contains("cannot be written"));

    let mut shown = Command::new(env!("CARGO_BIN_EXE_tributary-lab"));
    shown
        .args(["attacks", "--out", out, "--minutes", "0"])
        .stderr(full());
    assert_eq!(shown.status().unwrap().code(), Some(0));
    let endless = lab(&[
        "attacks",
        "--out",
        out,
        "--minutes",
        "1e300",
        "--only",
        "no such cell",
    ]);
    assert!(endless.status.success(), "{}", words(&endless.stderr));

    let pipe = folder.path().join("results.jsonl");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let refused = lab(&["attacks", "--out", out, "--minutes", "0"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(words(&refused.stderr).contains("pipe or a device"));
    let refused = lab(&[
        "attribution",
        "--bank",
        pipe.to_str().expect("a plain path"),
    ]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(words(&refused.stderr).contains("pipe or a device"));
}

#[test]
fn studies_run_on_a_researcher_s_own_texts_and_members_from_any_folder() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    for shard in &tributary_trainer::shards::DEMO_SHARDS[..2] {
        let text: String = shard.text.chars().take(60_000).collect();
        std::fs::write(home.join(format!("{}.txt", shard.name)), text).unwrap();
    }
    let run = |arguments: &[&str]| {
        let mut lab = Command::new(env!("CARGO_BIN_EXE_tributary-lab"));
        lab.current_dir(home).args(arguments).output().unwrap()
    };
    let ground = ["--data", "shakespeare.txt", "hackers.txt", "--members", "6"];
    let attacks = [
        "attacks",
        "--out",
        "own",
        "--rules",
        "mean",
        "--only",
        "mean; nobody; seed 1",
    ];
    let shown = run(&[&attacks[..], &ground].concat());
    assert!(shown.status.success(), "{}", words(&shown.stderr));
    let page = words(&shown.stdout);
    assert!(
        page.starts_with("From `tributary-lab attacks --out FOLDER --data shakespeare.txt"),
        "{page}"
    );
    assert!(page.contains("6 members, 12 rounds"), "{page}");
    let kept = std::fs::read_dir(home.join("own")).unwrap();
    let kept: Vec<String> = kept
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    let results =
        (kept.iter()).find(|name| name.starts_with("results-") && name.ends_with(".jsonl"));
    let results =
        std::fs::read_to_string(home.join("own").join(results.expect("a results file"))).unwrap();
    assert_eq!(results.lines().count(), 1, "{results}");

    let learning = [
        "learning",
        "--out",
        "own",
        "--minutes",
        "0",
        "--members",
        "65",
    ];
    let refused = run(&learning);
    assert_eq!(refused.status.code(), Some(2));
    assert!(words(&refused.stderr).contains("between 3 and 64"));
    let refused = run(&[
        "attacks",
        "--out",
        "own",
        "--data",
        "nowhere.txt",
        "--only",
        "mean; nobody",
    ]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(words(&refused.stderr).contains("nowhere.txt"));
    // The bank is inside the program.
    let shown = run(&["attribution", "--only", "no such method"]);
    assert!(
        !words(&shown.stderr).contains("bank.bin"),
        "{}",
        words(&shown.stderr)
    );
}

#[test]
fn attribution_retrains_and_gaming_cheats_among_as_many_members_as_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    for shard in &tributary_trainer::shards::DEMO_SHARDS[..2] {
        let text: String = shard.text.chars().take(60_000).collect();
        std::fs::write(home.join(format!("{}.txt", shard.name)), text).unwrap();
    }
    let run = |arguments: &[&str]| {
        let mut lab = Command::new(env!("CARGO_BIN_EXE_tributary-lab"));
        lab.current_dir(home).args(arguments).output().unwrap()
    };
    let data = ["--data", "shakespeare.txt", "hackers.txt"];
    let some = [
        "attribution",
        "--out",
        "own",
        "--only",
        "alike; seed 1; 0011",
    ];
    let shown = run(&[&some[..], &data, &["--members", "4"]].concat());
    assert!(shown.status.success(), "{}", words(&shown.stderr));
    let kept = std::fs::read_dir(home.join("own")).unwrap();
    let kept: Vec<_> = kept.map(|file| file.unwrap().path()).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let results = std::fs::read_to_string(&kept[0]).unwrap();
    assert_eq!(results.lines().count(), 1, "{results}");
    assert!(results.contains("alike; seed 1; 0011"), "{results}");

    let refusals: [(&[&str], &str); 5] = [
        (
            &["attribution", "--out", "own", "--members", "3"],
            "between 4 and 10",
        ),
        (
            &["attribution", "--out", "own", "--members", "11"],
            "between 4 and 10",
        ),
        (&["attribution", "--members", "5"], "--out FOLDER"),
        (&["attribution", "--data", "hackers.txt"], "--out FOLDER"),
        (
            &["gaming", "--out", "own", "--members", "50"],
            "between 3 and 49",
        ),
    ];
    for (arguments, why) in refusals {
        let refused = run(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(
            words(&refused.stderr).contains(why),
            "{}",
            words(&refused.stderr)
        );
    }
}
