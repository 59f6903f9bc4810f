//! What the program refuses, how fast, and that no input or reader makes it panic, hang or run out of memory.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tributary-sim"))
}

/// Runs a command that must end soon, whatever it reads.
fn soon(command: &mut Command) -> Output {
    let mut child = (command.stdin(Stdio::null()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let started = Instant::now();
    while child.try_wait().expect("it can be waited for").is_none() {
        if started.elapsed() > Duration::from_secs(60) {
            child.kill().expect("it can be ended");
            panic!("{command:?} did not end within a minute");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().expect("it has ended")
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn refused(arguments: &[&str]) -> String {
    let out = soon(program().args(arguments));
    let why = words(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{arguments:?}: {why}");
    assert!(!why.contains("panicked"), "{arguments:?}: {why}");
    why
}

fn refused_set(set: &str) -> String {
    refused(&["run", "smoke", "--set", set])
}

fn pipe(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("mkfifo runs").success());
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn what_no_machine_holds_is_refused_with_numbers_before_anything_is_allocated() {
    let why = refused_set("peers=100000000");
    assert!(why.contains("100000000") && why.contains("16384"), "{why}");
    let why = refused_set("peers=16000");
    assert!(
        why.contains("GiB of memory") && why.contains("this machine has"),
        "{why}"
    );
    let why = refused_set("learner.dimension=268435456");
    assert!(why.contains("GiB of memory"), "{why}");
    let why = refused_set("rounds=999999999");
    assert!(why.contains("999999999") && why.contains("100000"), "{why}");
    let why = refused_set("rounds=100000");
    assert!(
        why.contains("million events") && why.contains("20 million"),
        "{why}"
    );
    let sweep = ["sweep", "smoke", "--set", "link.loss=0,0.1"];
    let why = refused(&[&sweep[..], &["--seeds", "999999999999"]].concat());
    assert!(why.contains("1999999999998 runs"), "{why}");
    let why = refused(&[&sweep[..], &["--threads", "1000000"]].concat());
    assert!(why.contains("1024"), "{why}");
    let why = refused(&[
        "soak",
        "smoke",
        "--from",
        "18446744073709551615",
        "--seeds",
        "7",
    ]);
    assert!(why.contains("more than there are"), "{why}");
}

#[test]
fn a_run_that_peers_would_not_open_is_refused_with_the_scenarios_key() {
    for (set, key) in [
        (
            "run.committee=900",
            "`run.committee` is 900, but must lie between 1 and 64",
        ),
        ("learner.steps=0", "`learner.steps` is 0"),
        ("learner.learning_rate=0", "`learner.learning_rate` is 0"),
        ("run.participants=65", "`run.participants` is 65"),
        ("run.vote_ms=0", "`run.vote_ms` is 0"),
        ("run.min_contributions=38", "no round could ever close"),
        ("evaluators=32", "min_contributions"),
        ("name=", "KEY=VALUE"),
        ("name=\"\"", "`name`"),
    ] {
        let why = refused_set(set);
        assert!(why.contains(key), "{set}: {why}");
    }
}

/// Every number of the scenario `smoke`, and some that it leaves at their defaults.
const NUMBERS: [&str; 40] = [
    "peers",
    "evaluators",
    "rounds",
    "run.min_members",
    "run.min_contributions",
    "run.participants",
    "run.committee",
    "run.round_ms",
    "run.tick_ms",
    "learner.dimension",
    "learner.steps",
    "learner.train_ms",
    "learner.score_ms",
    "learner.compute_ms",
    "learner.batch",
    "learner.context",
    "learner.windows",
    "learner.spread",
    "learner.noise",
    "learner.learning_rate",
    "learner.train_spread",
    "link.latency_ms",
    "link.jitter_ms",
    "link.reorder_ms",
    "link.replay_ms",
    "link.bandwidth_kib_s",
    "link.degree",
    "link.loss",
    "partitions.0.at_ms",
    "partitions.0.for_ms",
    "partitions.0.split",
    "churn.per_round",
    "clock.skew_s",
    "clock.drift_ppm",
    "calm.after_ms",
    "calm.round_within_ms",
    "calm.after_round",
    "joins.0.count",
    "run.tolerate",
    "run.full_weight_tokens",
];

#[test]
fn no_number_of_a_scenario_is_large_or_odd_enough_for_a_panic() {
    let most = i64::MAX.to_string();
    for key in NUMBERS {
        for value in [most.as_str(), "-1", "nan", "inf"] {
            let why = refused_set(&format!("{key}={value}"));
            assert!(why.contains("error: "), "{key}={value}: {why}");
        }
    }
    for lists in [
        format!("churn.down_ms=[0, {most}]"),
        format!("store.sync_ms=[0, {most}]"),
        format!(
            "liars=[{{ behaviour = \"scale\", count = {most} }}, {{ behaviour = \"scale\", count = {most} }}]"
        ),
        format!("joins=[{{ round = 1, count = {most} }}, {{ round = 1, count = {most} }}]"),
        format!("kills=[{{ at_ms = {most}, share = 0.5 }}]"),
    ] {
        refused_set(&lists);
    }
    for draw in [
        "peers",
        "evaluators",
        "late",
        "leavers",
        "rounds",
        "participants",
        "kills",
        "partitions",
    ] {
        let why = refused(&["run", "soak", "--set", &format!("draw.{draw}=[0, {most}]")]);
        assert!(why.contains("draw."), "{draw}: {why}");
    }
}

#[test]
fn odd_numbers_that_are_allowed_run_to_a_whole_page() {
    let home = TempDir::new().expect("a folder");
    let small = [
        "peers=5",
        "evaluators=1",
        "rounds=1",
        "run.min_members=4",
        "run.min_contributions=1",
        "calm.after_round=0",
        "joins=[]",
        "leaves=[]",
        "partitions=[]",
    ];
    let odd: [&[&str]; 5] = [
        // Nothing to learn, and nothing that differs.
        &[
            "learner.spread=0",
            "learner.noise=0",
            "learner.train_spread=0",
            "link.degree=0",
        ],
        // Losses beyond what a score sheet can say.
        &[
            "learner.learning_rate=1",
            "learner.steps=100000",
            "learner.spread=1e6",
            "learner.dimension=2",
        ],
        &["evaluators=0", "run.budget_per_round=0"],
        &[
            "peers=2",
            "evaluators=1",
            "run.min_members=2",
            "link.loss=1",
        ],
        &["peers=1", "evaluators=0", "run.min_members=1"],
    ];
    for (nth, odd) in odd.iter().enumerate() {
        let out = home.path().join(format!("odd-{nth}"));
        let mut run = program();
        run.args(["run", "smoke", "--out"]).arg(&out);
        small.iter().chain(*odd).for_each(|set| {
            run.args(["--set", set]);
        });
        let ended = soon(&mut run);
        let said = words(&ended.stderr);
        assert!(!said.contains("panicked"), "{odd:?}: {said}");
        assert!(
            ended.status.code().is_some_and(|code| code < 2),
            "{odd:?}: {said}"
        );
        let page = std::fs::read_to_string(out.join("report.html")).expect("a page");
        assert!(page.trim_end().ends_with("</html>"), "{odd:?}");
        assert!(!page.contains("NaN"), "{odd:?}");
    }
}

#[test]
fn a_pipe_or_a_device_in_the_place_of_a_file_neither_hangs_nor_grows() {
    let home = TempDir::new().expect("a folder");
    let here = home.path();
    let fifo = pipe(here, "scenario.toml");
    for source in [fifo.as_str(), "/dev/zero"] {
        for command in [
            ["run", source],
            ["sweep", source],
            ["soak", source],
            ["replay", source],
        ] {
            let why = refused(&command);
            assert!(why.contains("pipe or a device"), "{command:?}: {why}");
        }
        let why = refused(&["compare", source, source]);
        assert!(why.contains("pipe or a device"), "{why}");
        let soak = [
            "soak",
            "smoke",
            "--seeds",
            "1",
            "--threads",
            "1",
            "--write",
            source,
        ];
        let why = refused(&soak);
        assert!(why.contains("pipe or a device"), "{why}");
    }
    let result = here.join("result");
    std::fs::create_dir(&result).expect("a folder");
    std::fs::copy("../scenarios/smoke.toml", result.join("scenario.toml")).expect("a copy");
    pipe(&result, "result.json");
    let why = refused(&["replay", result.to_str().expect("UTF-8")]);
    assert!(why.contains("pipe or a device"), "{why}");
    let long = here.join("long.toml");
    std::fs::write(&long, "# long\n".repeat(200_000)).expect("writable");
    let why = refused(&["run", long.to_str().expect("UTF-8")]);
    assert!(why.contains("more than the 1048576 bytes"), "{why}");
}

#[test]
fn a_full_device_for_what_is_said_beside_the_answer_changes_nothing() {
    let home = TempDir::new().expect("a folder");
    let full = || {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
        full.expect("a device of the system")
    };
    let mut run = program();
    run.args(["run", "smoke", "--format", "json", "--out"])
        .arg(home.path().join("result"));
    let ended = run.stderr(full()).output().expect("it ends");
    assert_eq!(ended.status.code(), Some(0));
    let figures: serde_json::Value = serde_json::from_slice(&ended.stdout).expect("JSON");
    assert_eq!(figures["seed"], 1);
    let missing = program().args(["run", "nowhere"]).stderr(full()).status();
    assert_eq!(missing.expect("it ends").code(), Some(2));
}

#[test]
fn a_model_that_this_program_cannot_train_names_the_program_that_can() {
    let why = refused_set("learner.kind=language");
    assert!(why.contains("tributary-lab run"), "{why}");
    let why = refused_set("learner.model=brook");
    assert!(why.contains("kind = \"language\""), "{why}");
}
