//! Bases and the learner on the embedded model.

use std::sync::Arc;

use tributary_protocol::aggregate::ContributionVector;
use tributary_protocol::entry::Join;
use tributary_protocol::event::{ScoreTask, TrainTask};
use tributary_protocol::hash::Domain;
use tributary_protocol::hash::digest;
use tributary_protocol::id::{PeerId, Ppb, Round, RunId, StateHash};
use tributary_protocol::manifest::{FactorSchedule, Training};

use super::learner::ModelLearner;
use super::*;
use crate::identity::Identity;
use crate::work::{Cancel, Learner, WorkError};

const CONTEXT: u32 = 32;

struct Bench {
    _dir: tempfile::TempDir,
    home: HomePaths,
    learner: ModelLearner,
    run: RunId,
    adapter: Adapter,
}

/// A learner that joined with some of brook's own kind of text.
fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let home = HomePaths::new(dir.path());
    let identity = Identity::from_seed([5; 32]);
    let base = open(BROOK).unwrap();
    let text = crate::shard::passages(brook::HELD_OUT_SAMPLE);
    let (train, holdout) = crate::shard::split(text);
    let holdout = super::holdout(&base, &holdout, CONTEXT).unwrap();
    let committed = Committed::new(&identity, (base.hash(), CONTEXT), train, holdout);
    let root = committed.write(&home).unwrap();
    let learner = ModelLearner::new(home.clone(), identity.peer_id());
    let run = RunId(digest(Domain::Manifest, b"run"));
    let join = Join {
        name: "amy".to_owned(),
        role: Role::Both,
        root,
        tokens: tokens(&base, &committed, Role::Both).unwrap(),
        fingerprints: committed.fingerprints(),
        beacon: Default::default(),
        sketch: None,
        bind: None,
    };
    learner.joined(run, &join);
    let shape = Arc::new(base.adapter_shape(2, 4));
    Bench {
        _dir: dir,
        home,
        learner,
        run,
        adapter: Adapter::init(shape, &run.0),
    }
}

impl Bench {
    fn train_task(&self) -> TrainTask {
        let schedule = FactorSchedule::Alternate;
        TrainTask {
            run: self.run,
            round: Round(1),
            base: StateHash(digest(Domain::State, b"0")),
            adapter: self.adapter.clone().into(),
            shape: self.adapter.shape().clone(),
            trainable: schedule.trainable(Round(1)),
            training: Training {
                local_steps: 3,
                batch: 2,
                context: CONTEXT,
                learning_rate: Ppb(2_000_000),
                schedule,
            },
        }
    }
}

#[test]
fn a_learner_trains_what_its_join_committed_to_and_scores_it() {
    let bench = bench();
    let task = bench.train_task();
    let mut steps = Vec::new();
    let trained = bench
        .learner
        .train(&task, &Cancel::new(), &mut |p| steps.push(p.step))
        .unwrap();
    assert_eq!(steps, [1, 2, 3]);
    assert!(trained.tokens > 0);
    for segment in bench.adapter.shape().segments() {
        let moved = trained.delta[segment.range()].iter().any(|v| *v != 0.0);
        let trains = segment.factor == tributary_protocol::adapter::Factor::B;
        assert_eq!(moved, trains, "{segment:?}");
    }
    let again = bench
        .learner
        .train(&task, &Cancel::new(), &mut |_| ())
        .unwrap();
    assert_eq!(again.delta, trained.delta, "the same task gave other bytes");

    let peer = PeerId(digest(Domain::Simulation, b"amy"));
    let sheet = bench
        .learner
        .score(
            &ScoreTask {
                run: bench.run,
                round: Round(1),
                state: StateHash::default(),
                before: bench.adapter.clone().into(),
                trainable: task.trainable,
                contributions: [(peer, ContributionVector::of(&trained.delta))].into(),
                public: Vec::new(),
                seed: digest(Domain::ScoreSeed, b"1"),
                windows: 8,
            },
            &Cancel::new(),
        )
        .unwrap();
    let drop = sheet.loss_before.0 - sheet.loss_after.0;
    let score = sheet.scores[0];
    assert!(
        drop > 0,
        "three steps on its own kind of text made it worse"
    );
    assert!(
        (score.score.0 - drop).abs() <= drop / 10 + 1000,
        "{score:?} and a drop of {drop}"
    );
    assert!(score.low <= score.score && score.score <= score.high);
}

#[test]
fn work_that_is_not_wanted_stops_at_the_next_step() {
    let bench = bench();
    let cancel = Cancel::new();
    let mut seen = 0;
    let outcome = bench
        .learner
        .train(&bench.train_task(), &cancel.clone(), &mut |_| {
            seen += 1;
            cancel.cancel();
        });
    assert_eq!(outcome.unwrap_err(), WorkError::Cancelled);
    assert_eq!(seen, 1);
}

#[test]
fn a_damaged_or_missing_shard_is_named() {
    let bench = bench();
    let mut task = bench.train_task();
    task.run = RunId::default();
    let fails = |task: &TrainTask, learner: &ModelLearner| {
        let error = learner
            .train(task, &Cancel::new(), &mut |_| ())
            .unwrap_err();
        error.to_string()
    };
    let why = fails(&task, &bench.learner);
    assert!(why.contains("committed to no data"), "{why}");
    let committed = bench.home.shards().join("committed");
    for entry in std::fs::read_dir(committed).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[200] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let why = fails(&bench.train_task(), &bench.learner);
    assert!(why.contains("damaged"), "{why}");
}

#[test]
fn a_base_is_found_again_where_the_owner_said_and_only_if_it_is_that_base() {
    let dir = tempfile::tempdir().unwrap();
    let home = HomePaths::new(dir.path());
    let folder = dir.path().join("model");
    brook::write_to(&folder).unwrap();
    let mut config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    config.push('\n'); // The same model in other bytes is another base.
    std::fs::write(folder.join("config.json"), config).unwrap();
    let here = open(&folder.to_string_lossy()).unwrap();
    let wanted = Base {
        name: "mine".to_owned(),
        hash: here.hash(),
        files: None,
    };
    assert_ne!(here.hash(), open(BROOK).unwrap().hash());
    provide(&home, &wanted, Some(&folder)).unwrap();
    assert_eq!(provide(&home, &wanted, None).unwrap().hash(), here.hash());
    let other = Base {
        name: "other".to_owned(),
        hash: digest(Domain::BaseModel, b"other"),
        files: None,
    };
    let error = provide(&home, &other, Some(&folder)).unwrap_err();
    assert!(
        error.to_string().contains("is not the run's base other"),
        "{error}"
    );
    let error = provide(&home, &other, None).unwrap_err();
    assert!(error.to_string().contains("--base DIR"), "{error}");
}

#[test]
fn a_folder_with_something_in_it_is_not_written_over() {
    let bench = bench();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("precious"), "x").unwrap();
    let file = crate::config::RunFile::parse(crate::config::example(), "x").unwrap();
    let facts = facts(BROOK).unwrap();
    let manifest = file.manifest(PeerId::default(), 1, &facts).unwrap();
    let error = export(dir.path(), &manifest, &bench.adapter, None).unwrap_err();
    assert!(error.to_string().contains("not empty"), "{error}");
    let new = dir.path().join("deep/adapter");
    export(&new, &manifest, &bench.adapter, None).unwrap();
    let base = open(BROOK).unwrap();
    let back = tributary_trainer::import_peft(&new, &base);
    // B is all zero in a fresh adapter, which an import refuses; that it got so far is enough.
    assert!(new.join("adapter_model.safetensors").exists());
    drop(back);
}

#[test]
fn an_export_touches_nothing_beside_its_folder() {
    let bench = bench();
    let dir = tempfile::tempdir().unwrap();
    let file = crate::config::RunFile::parse(crate::config::example(), "x").unwrap();
    let manifest = (file.manifest(PeerId::default(), 1, &facts(BROOK).unwrap())).unwrap();
    let thesis = dir.path().join("mine.tmp/thesis.txt");
    std::fs::create_dir(dir.path().join("mine.tmp")).unwrap();
    std::fs::write(&thesis, "thesis").unwrap();
    // As a shell completes it.
    export(&dir.path().join("mine/"), &manifest, &bench.adapter, None).unwrap();
    assert!(thesis.exists());
    let beside = std::fs::read_dir(dir.path()).unwrap();
    let mut names: Vec<_> = beside.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["mine", "mine.tmp"], "nothing is left behind");
}
