//! Tests of what a training sees and when.

use super::*;

fn stream(count: u32) -> Stream {
    Stream::new((0..count).collect(), 7).expect("long enough")
}

#[test]
fn each_pass_shows_every_block_once_in_another_order() {
    let mut stream = stream(20 * BLOCK as u32 + 3);
    let blocks = stream.blocks();
    let firsts = |stream: &mut Stream, pass: u64| -> Vec<u32> {
        let tokens = stream.take(pass * blocks, blocks as usize);
        tokens.chunks(BLOCK).map(|block| block[0]).collect()
    };
    let (one, two) = (firsts(&mut stream, 0), firsts(&mut stream, 1));
    for starts in [&one, &two] {
        let mut sorted = starts.clone();
        sorted.sort_unstable();
        let shift = sorted[0];
        let expected: Vec<u32> = (0..blocks as u32)
            .map(|i| shift + i * BLOCK as u32)
            .collect();
        assert_eq!(sorted, expected);
    }
    assert_ne!(one, two);
    assert_ne!(
        one.iter().min(),
        two.iter().min(),
        "the second pass is cut elsewhere"
    );
}

#[test]
fn blocks_are_runs_of_the_text() {
    let mut stream = stream(9 * BLOCK as u32);
    for block in stream.take(5, 12).chunks(BLOCK) {
        assert!(block.windows(2).all(|pair| pair[1] == pair[0] + 1));
    }
}

#[test]
fn resuming_in_the_middle_sees_the_same_tokens() {
    let whole = stream(30 * BLOCK as u32).take(0, 100);
    let mut resumed = stream(30 * BLOCK as u32);
    assert_eq!(resumed.take(64, 36), whole[64 * BLOCK..]);
}

#[test]
fn too_little_text_is_refused() {
    let error = Stream::new(vec![1; BLOCK], 0).err().expect("refused");
    assert!(error.to_string().contains("512"), "{error}");
}

#[test]
fn learning_rate_rises_to_the_peak_and_falls_to_a_fiftieth() {
    let plan = Plan {
        steps: 1000,
        ..Plan::default()
    };
    assert!(plan.learning_rate(0) < plan.peak / 50.0);
    assert!((plan.learning_rate(plan.warm_up) - plan.peak).abs() < 1e-12);
    assert!((plan.learning_rate(999) / plan.peak - 0.02).abs() < 1e-4);
    assert!((0..999).all(|s| (s < 99) == (plan.learning_rate(s) < plan.learning_rate(s + 1))));
}

#[test]
fn windows_grow_to_a_block_late_in_the_plan() {
    let plan = Plan {
        steps: 100,
        ..Plan::default()
    };
    assert_eq!(plan.context_at(79), 256);
    assert_eq!(plan.context_at(80), BLOCK);
}

#[test]
fn killed_training_goes_on_to_the_same_weights() {
    let config = Config {
        hidden: 16,
        ffn: 24,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        head_dim: 8,
        ..brook_config(64, 0)
    };
    let plan = Plan {
        steps: 4,
        batch_tokens: BLOCK,
        warm_up: 1,
        ..Plan::default()
    };
    let text: Vec<u32> = (0..4 * BLOCK as u32).map(|i| i * i % 63 + 1).collect();
    let train = |plan: &Plan, folder: &Path| {
        let run = Run {
            folder: folder.to_path_buf(),
            log_every: 1,
            save_every: 2,
        };
        let mut stream = Stream::new(text.clone(), 3).expect("long enough");
        let mut lines = Vec::new();
        pretrain(plan, &run, config.clone(), &mut stream, &text, &mut |l| {
            lines.push(*l)
        })
        .expect("trains");
        (
            std::fs::read(folder.join("model/model.safetensors")).expect("saved"),
            lines,
        )
    };
    let (once, twice) = (
        tempfile::tempdir().expect("folder"),
        tempfile::tempdir().expect("folder"),
    );
    let (whole, lines) = train(&plan, once.path());
    assert_eq!(lines.len(), 4);
    assert!(lines[3].held_out.expect("measured") < lines[1].held_out.expect("measured"));
    // The learning rate of the first two steps must be that of the whole plan, so the first run is stopped
    // by taking away what it did after its second step.
    train(&plan, twice.path());
    let checkpoint = twice.path().join("checkpoint");
    std::fs::remove_dir_all(&checkpoint).expect("removed");
    let run = Run {
        folder: twice.path().to_path_buf(),
        log_every: 1,
        save_every: 1,
    };
    let mut trainer =
        FullTrainer::new(config.clone(), FullConfig::default(), plan.seed).expect("new");
    let mut stream = Stream::new(text.clone(), 3).expect("long enough");
    for step in 0..2 {
        let tokens = stream.take(step, 1);
        trainer
            .step(&tokens, 2, 256, plan.learning_rate(step))
            .expect("steps");
    }
    save(&trainer, &run).expect("saved");
    let (resumed, lines) = train(&plan, twice.path());
    assert_eq!(lines.len(), 2, "only the last two steps were left");
    assert_eq!(resumed, whole);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    names
}

/// A trainer that has done nothing, and a run in `folder`.
fn untrained(folder: &Path, seed: u64) -> (FullTrainer, Run) {
    let config = Config {
        hidden: 16,
        ffn: 24,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        head_dim: 8,
        ..brook_config(64, 0)
    };
    let run = Run {
        folder: folder.to_path_buf(),
        log_every: 1,
        save_every: 1,
    };
    let trainer = FullTrainer::new(config, FullConfig::default(), seed);
    (trainer.expect("new"), run)
}

#[test]
fn trainings_that_meet_in_a_folder_leave_one_whole_checkpoint_and_nothing_else() {
    let folder = tempfile::tempdir().expect("folder");
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let folder = folder.path();
            scope.spawn(move || {
                let (trainer, run) = untrained(folder, seed);
                // Two renames at one moment: the later one fails, and leaves the other's.
                for _ in 0..5 {
                    let _ = save(&trainer, &run);
                }
            });
        }
    });
    assert_eq!(names(folder.path()), ["checkpoint", "model"]);
    let resumed = FullTrainer::resume(&folder.path().join("checkpoint"), FullConfig::default());
    let again = tempfile::tempdir().expect("folder");
    resumed
        .expect("a whole checkpoint")
        .save_checkpoint(again.path())
        .expect("saved");
    let weights = |folder: &Path| std::fs::read(folder.join("model.safetensors")).expect("weights");
    let found = weights(again.path());
    let whose = (0..4).filter(|seed| {
        let own = tempfile::tempdir().expect("folder");
        let (trainer, _) = untrained(own.path(), *seed);
        trainer.save_checkpoint(own.path()).expect("saved");
        weights(own.path()) == found
    });
    assert_eq!(whose.count(), 1, "it is of one of the trainings");
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_old_one_and_nothing_else() {
    let folder = tempfile::tempdir().expect("folder");
    let (trainer, run) = untrained(folder.path(), 1);
    save(&trainer, &run).expect("saved");
    std::fs::remove_dir_all(folder.path().join("model")).expect("removed");
    std::fs::write(folder.path().join("model"), "in the way").expect("written");
    assert!(save(&trainer, &run).is_err());
    assert_eq!(names(folder.path()), ["checkpoint", "model"]);
    let weights = folder.path().join("model/model.safetensors");
    std::fs::remove_file(folder.path().join("model")).expect("removed");
    std::fs::create_dir_all(weights.join("in the way")).expect("made");
    assert!(save(&trainer, &run).is_err());
    assert_eq!(names(folder.path()), ["checkpoint", "model"]);
    assert_eq!(
        names(&folder.path().join("model")),
        ["config.json", "model.safetensors"]
    );
    FullTrainer::resume(&folder.path().join("checkpoint"), FullConfig::default()).expect("whole");
}
