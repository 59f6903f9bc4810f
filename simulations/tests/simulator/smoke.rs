//! The smoke scenario through the library and through the binary.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use tributary_simulations::machine::Disk;
use tributary_simulations::scenario::{self, Scenario};
use tributary_simulations::soak::soak;
use tributary_simulations::world::World;

/// Few enough to be run with every test, enough to meet crashes at many places.
const SEEDS: u64 = 3;

fn smoke() -> Scenario {
    scenario::load("smoke").expect("the built-in scenario is accepted")
}

fn harsh() -> Scenario {
    scenario::load("harsh").expect("the built-in scenario is accepted")
}

#[test]
fn smoke_seeds_keep_every_promise() {
    let scenario = smoke();
    let total = soak(&scenario, 1, SEEDS, 2, None, &|_, _| {});
    let broken: Vec<String> = (total.failed.iter())
        .flat_map(|outcome| outcome.violations.iter().map(ToString::to_string))
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert_eq!(total.rounds, SEEDS * u64::from(scenario.rounds));
    assert!(total.crashes >= SEEDS * 4, "only {} crashes", total.crashes);
}

#[test]
fn the_same_seed_gives_the_same_digest_and_another_seed_another() {
    let scenario = harsh();
    let digest = |seed| World::new(&scenario, seed, None).run().digest;
    let first = digest(11);
    assert_eq!(first, digest(11));
    assert_ne!(first, digest(12));
}

#[test]
fn harsh_seeds_keep_every_promise() {
    let total = soak(&harsh(), 1, 20, 2, None, &|_, _| {});
    assert!(total.failed.is_empty(), "{:#?}", total.failed);
    assert!(total.crashes >= 20 * 10, "only {} crashes", total.crashes);
}

#[test]
fn a_federation_on_a_quiet_network_learns() {
    let mut scenario = smoke();
    scenario.link.loss = 0.0;
    scenario.churn.per_round = 0.0;
    scenario.partitions.clear();
    let outcome = World::new(&scenario, 1, None).run();
    assert!(outcome.violations.is_empty(), "{:?}", outcome.violations);
    let (before, after) = outcome.loss.expect("the run has an adapter");
    assert!(after < before / 4.0, "{before} before, {after} after");
}

/// The promises that break when every machine has this disk, over a few seeds with many crashes.
fn broken_by(disk: Disk) -> BTreeSet<&'static str> {
    let mut scenario = smoke();
    (scenario.peers, scenario.evaluators) = (13, 2);
    (scenario.run.min_members, scenario.run.min_contributions) = (8, 4);
    scenario.churn.per_round = 0.8;
    scenario.churn.down_ms = [50, 500];
    let outcomes = (1..=4).map(|seed| World::new(&scenario, seed, None).with_disks(disk).run());
    outcomes
        .flat_map(|outcome| outcome.violations)
        .map(|v| v.promise)
        .collect()
}

#[test]
fn the_oracle_notices_disks_that_lie() {
    assert_eq!(broken_by(Disk::Honest), BTreeSet::new());
    let early = "nothing is acknowledged before it is durable";
    assert!(broken_by(Disk::SyncsLater).contains(early));
    let twice = "no honest peer equivocates";
    assert!(broken_by(Disk::ForgetsVotes).contains(twice));
    assert!(broken_by(Disk::ForgetsLastBlock).contains(twice));
}

fn sim(arguments: &[&str]) -> std::process::Output {
    (Command::new(env!("CARGO_BIN_EXE_tributary-sim")).args(arguments))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("the binary runs")
}

#[test]
fn two_processes_print_the_same_digest_as_one_json_object() {
    let figures = || {
        let out = sim(&[
            "run",
            "scenarios/smoke.toml",
            "--seed",
            "11",
            "--format",
            "json",
        ]);
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        let text = String::from_utf8(out.stdout).expect("UTF-8");
        let figures: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
        assert_eq!(text.lines().count(), 1);
        figures
    };
    let (first, second) = (figures(), figures());
    assert_eq!(first["schema"], "sim/1");
    assert_eq!(first["seed"], 11);
    assert_eq!(first["rounds_certified"], 4);
    assert_eq!(first["violations"], serde_json::json!([]));
    assert_eq!(first["digest"], second["digest"]);
}

#[test]
fn a_missing_scenario_is_an_error_that_says_what_to_do() {
    let out = sim(&["run", "nowhere.toml"]);
    assert_eq!(out.status.code(), Some(2));
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(
        text.contains("nowhere.toml") && text.contains("built-in"),
        "{text}"
    );
}

#[test]
fn a_reader_that_has_enough_and_a_full_disk_are_no_panics() {
    let simulator = || Command::new(env!("CARGO_BIN_EXE_tributary-sim"));
    let mut replay = (simulator().args(["replay", "smoke", "--verbose"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the simulator starts");
    let mut first = String::new();
    let answer = replay.stdout.take().expect("it is a pipe");
    BufReader::new(answer)
        .read_line(&mut first)
        .expect("a line");
    let ended = replay.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(
        ended.status.success() && !said.contains("panicked"),
        "{said}"
    );

    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let mut list = simulator();
    list.args(["list", "--metrics"])
        .stdout(full.expect("a device of the system"));
    let ended = list.stderr(Stdio::piped()).output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2));
    assert!(
        said.contains("cannot be written") && !said.contains("panicked"),
        "{said}"
    );
}

/// In a daemon a round's arithmetic takes its time beside the loop, and anything may happen meanwhile.
#[test]
fn every_promise_holds_where_computing_takes_as_long_as_a_message_or_a_vote() {
    let scenario = scenario::load("soak").expect("the built-in scenario is accepted");
    for (seed, compute_ms) in (1..=16).zip([30, 400, 2_000].into_iter().cycle()) {
        let mut slow = scenario.clone();
        slow.learner.compute_ms = compute_ms;
        let outcome = World::new(&slow, seed, None).run();
        assert!(
            outcome.violations.is_empty(),
            "seed {seed}, {compute_ms} ms: {:#?}",
            outcome.violations
        );
        assert!(outcome.rounds_certified > 0, "seed {seed}");
    }
}
