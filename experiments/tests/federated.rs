//! Scenarios whose peers train a real model, through the library and through the program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use tributary_experiments::learner::{federated, write_tiny_model};
use tributary_simulations::scenario::grid::load_with;
use tributary_simulations::{Catalogue, World};
use tributary_trainer::{brook, shards::DEMO_SHARDS};

/// A tiny model and two texts.
struct Ground {
    home: TempDir,
}

impl Ground {
    fn new() -> Self {
        let home = TempDir::new().expect("a folder");
        write_tiny_model(brook::HELD_OUT_SAMPLE, 120, &home.path().join("tiny")).expect("a model");
        std::fs::create_dir(home.path().join("notes")).expect("a folder");
        for shard in &DEMO_SHARDS[..2] {
            let mut end = 40_000;
            while !shard.text.is_char_boundary(end) {
                end += 1;
            }
            let path = home
                .path()
                .join("notes")
                .join(format!("{}.txt", shard.name));
            std::fs::write(path, &shard.text[..end]).expect("writable");
        }
        Self { home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The settings that make the example scenario small.
    fn settings(&self, more: &[&str]) -> Vec<String> {
        let (model, texts) = (self.path("tiny"), self.path("notes"));
        let mut out: Vec<String> = [
            "learner.rank=4",
            "learner.context=32",
            "learner.windows=8",
            "learner.steps=12",
            "learner.learning_rate=0.01",
            "rounds=3",
            "calm.after_round=2",
        ]
        .map(str::to_owned)
        .to_vec();
        out.push(format!("learner.model={}", model.display()));
        out.push(format!("learner.texts={}", texts.display()));
        out.extend(more.iter().map(|set| (*set).to_owned()));
        out
    }

    /// Common loss before and after, and the digest.
    fn run(&self, catalogue: &Arc<Catalogue>, more: &[&str]) -> (f64, f64, String) {
        let scenario = load_with(catalogue, &example(), &self.settings(more));
        let scenario = scenario.unwrap_or_else(|why| panic!("{why}"));
        let outcome = World::new(&scenario, 1, None).run();
        assert!(outcome.violations.is_empty(), "{:?}", outcome.violations);
        assert_eq!(outcome.rounds_certified, 3);
        let (before, after) = outcome.loss.expect("certified adapters");
        (before, after, outcome.digest.to_string())
    }
}

fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/language.toml");
    path.to_str().expect("UTF-8").to_owned()
}

fn catalogue() -> Arc<Catalogue> {
    Arc::new(federated(Catalogue::default()))
}

#[test]
fn peers_that_train_a_model_learn_their_texts_and_a_seed_names_the_run() {
    let (ground, catalogue) = (Ground::new(), catalogue());
    let (before, after, digest) = ground.run(&catalogue, &["liars=[]"]);
    assert!(after < before - 0.02, "{before} before, {after} after");
    // Loaded anew, as another program would.
    let (_, again, same) = ground.run(&self::catalogue(), &["liars=[]"]);
    assert_eq!((after.to_bits(), digest), (again.to_bits(), same));
}

#[test]
fn false_numbers_hurt_a_plain_mean_of_real_adapters_more_than_a_robust_rule() {
    let (ground, catalogue) = (Ground::new(), catalogue());
    let scale = "liars=[{ behaviour = \"scale\", count = 2 }]";
    let after = |rule: &str, liars: &str| ground.run(&catalogue, &[rule, liars]).1;
    let honest = after("run.aggregation=mean", "liars=[]");
    let mean = after("run.aggregation=mean", scale);
    let clipped = after("run.aggregation=clipped-mean", scale);
    assert!(mean > honest + 0.04, "{mean} beside {honest}");
    assert!(clipped < mean - 0.01, "{clipped} beside {honest}");
    let flip = "liars=[{ behaviour = \"sign_flip\", count = 2 }]";
    let mean = after("run.aggregation=mean", flip);
    assert!(mean > honest + 0.02, "{mean} beside {honest}");
}

#[test]
fn the_program_runs_and_replays_a_scenario_with_a_model_from_any_folder() {
    let ground = Ground::new();
    let lab = |arguments: &[&str], settings: &[String]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tributary-lab"));
        command.current_dir(ground.home.path()).args(arguments);
        for set in settings {
            command.args(["--set", set]);
        }
        let out = command.output().expect("the program starts");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{arguments:?}: {said}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let settings = ground.settings(&[]);
    let run = lab(&["run", &example(), "--out", "result"], &settings);
    assert!(run.contains("every promise was kept"), "{run}");
    let page = std::fs::read_to_string(ground.path("result/report.html")).expect("a page");
    assert!(page.contains("nats a token") && page.contains("sign_flip"));
    assert!(
        page.contains("tributary-lab run"),
        "the page says how to get it again"
    );
    let replay = lab(&["replay", "result"], &[]);
    assert!(
        replay.contains("the digest is that of the folder"),
        "{replay}"
    );
}

#[test]
fn what_cannot_be_learnt_from_is_refused_with_its_name() {
    let (ground, catalogue) = (Ground::new(), catalogue());
    let refused = |set: String| {
        let set = ground.settings(&[&set]);
        let refused = load_with(&catalogue, &example(), &set);
        refused.expect_err("a refusal").to_string()
    };
    std::fs::write(ground.path("short.txt"), "Too short to hold anything out.").expect("writable");
    let short = ground.path("short.txt").display().to_string();
    let why = refused(format!("learner.texts={short}"));
    assert!(
        why.contains(&short) && why.contains("give more text"),
        "{why}"
    );
    let why = refused("learner.texts=/dev/zero".into());
    assert!(
        why.contains("/dev/zero") && why.contains("pipe or a device"),
        "{why}"
    );
    let why = refused("learner.texts=nowhere.txt".into());
    assert!(why.contains("nowhere.txt"), "{why}");
    let why = refused("learner.model=nowhere".into());
    assert!(
        why.contains("learner.model") && why.contains("nowhere"),
        "{why}"
    );
    let why = refused("learner.windows=4".into());
    assert!(why.contains("at least 8"), "{why}");
    let why = refused("learner.rank=100000".into());
    assert!(why.contains("learner.rank"), "{why}");
    let why = refused("learner.context=1".into());
    assert!(why.contains("context"), "{why}");
}
