//! Training, accumulating, stopping and going on.

use std::sync::Arc;

use super::checkpoint::CheckpointError;
use super::*;
use crate::evaluate::evaluate;
use crate::testing::tiny_base;
use tributary_protocol::adapter::Factor;
use tributary_protocol::hash::Digest;

fn setup() -> (BaseModel, Adapter, Windows) {
    let base = tiny_base();
    let shape = Arc::new(base.adapter_shape(4, 8));
    let adapter = Adapter::init(shape, &Digest::from_bytes([3; 32]));
    let windows = Windows::from_text(&base, &"she sells sea shells ".repeat(16), 16).unwrap();
    (base, adapter, windows)
}

fn config() -> TrainConfig {
    TrainConfig {
        steps: 12,
        learning_rate: 2e-2,
        seed: 5,
        ..TrainConfig::default()
    }
}

fn train(config: TrainConfig) -> (Vec<f32>, u64) {
    let (base, adapter, windows) = setup();
    let mut session = Session::new(&base, &adapter, windows, config).unwrap();
    session
        .run(&mut |_: &StepReport| Control::Continue)
        .unwrap();
    let predicted = session.predicted();
    (session.finish(), predicted)
}

#[test]
fn training_lowers_the_loss_by_exactly_its_delta() {
    let (base, adapter, windows) = setup();
    let (delta, predicted) = train(config());
    let moved: Vec<f32> = adapter
        .values()
        .iter()
        .zip(&delta)
        .map(|(a, d)| a + d)
        .collect();
    let moved = Adapter::new(adapter.shape().clone(), moved).unwrap();
    let before = evaluate(&base, Some(&adapter), &windows).unwrap();
    let after = evaluate(&base, Some(&moved), &windows).unwrap();
    assert!(after.nll < before.nll - 0.3, "{before:?} {after:?}");
    assert_eq!(predicted, 12 * 4 * 15);
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    assert_eq!(train(config()), train(config()));
    assert_ne!(
        train(config()),
        train(TrainConfig {
            seed: 6,
            ..config()
        })
    );
}

#[test]
fn only_the_trained_factor_moves() {
    let (_, adapter, _) = setup();
    for (trainable, still) in [(Trainable::A, Factor::B), (Trainable::B, Factor::A)] {
        // With B at zero, A has no gradient: nothing moves at all.
        let (delta, _) = train(TrainConfig {
            trainable,
            ..config()
        });
        for segment in adapter.shape().segments() {
            let moved = delta[segment.range()].iter().any(|d| *d != 0.0);
            let expected = segment.factor != still && trainable == Trainable::B;
            assert_eq!(moved, expected, "{trainable:?} {segment:?}");
        }
    }
}

#[test]
fn a_stopped_session_keeps_what_it_did() {
    let (base, adapter, windows) = setup();
    let mut session = Session::new(&base, &adapter, windows, config()).unwrap();
    let stop = &mut |report: &StepReport| match report.step {
        3 => Control::Stop,
        _ => Control::Continue,
    };
    session.run(stop).unwrap();
    assert_eq!((session.steps_done(), session.is_done()), (3, false));
    let (delta, _) = train(TrainConfig {
        steps: 3,
        ..config()
    });
    assert_eq!(session.finish(), delta);
}

#[test]
fn a_hopeless_learning_rate_is_an_error_and_moves_nothing_to_infinity() {
    let (base, adapter, windows) = setup();
    let hopeless = TrainConfig {
        learning_rate: 1e38,
        steps: 9,
        ..config()
    };
    let mut session = Session::new(&base, &adapter, windows.clone(), hopeless).unwrap();
    let result = session.run(&mut |_: &StepReport| Control::Continue);
    assert!(result.unwrap_err().to_string().contains("learning rate"));
    assert!(session.finish().iter().all(|d| d.is_finite()));
    let wrong = TrainConfig {
        learning_rate: f64::NAN,
        ..config()
    };
    assert!(Session::new(&base, &adapter, windows, wrong).is_err());
}

/// Windows that predict different numbers of tokens.
fn uneven() -> Windows {
    let texts = [
        "abcdefghijklmno",
        "pq",
        "rstuvw",
        "xyzabcdefg",
        "hij",
        "klmnopqr",
    ];
    Windows::from_documents(&tiny_base(), texts, 16).unwrap()
}

#[test]
fn accumulated_gradients_are_those_of_one_large_batch() {
    let (base, _, _) = setup();
    let adapter = crate::testing::random_adapter(&base, 4, 2);
    let first = |batch: usize, accumulate: usize| {
        let config = TrainConfig {
            batch,
            accumulate,
            clip_norm: None,
            ..config()
        };
        let mut session = Session::new(&base, &adapter, uneven(), config).unwrap();
        let drawn = session.draw.clone().next(6);
        let batches: Vec<Batch> = (drawn.chunks(batch))
            .map(|chosen| session.windows.batch(chosen))
            .collect();
        let predicted = batches.iter().map(Batch::predicted).sum();
        let (loss, gradient) = session.loss_and_gradient(&batches, predicted).unwrap();
        let report = session.step().unwrap();
        assert_eq!((report.loss, report.predicted), (loss, predicted as u64));
        assert_eq!(report.gradient_norm, optimizer::norm([gradient.as_slice()]));
        (loss, gradient)
    };
    let (loss, whole) = first(6, 1);
    let largest = whole.iter().fold(0.0f32, |m, g| m.max(g.abs()));
    for (batch, accumulate) in [(3, 2), (2, 3), (1, 6)] {
        let (split_loss, split) = first(batch, accumulate);
        assert!((loss - split_loss).abs() < 1e-5, "{loss} {split_loss}");
        for (a, b) in whole.iter().zip(&split) {
            assert!(
                (a - b).abs() <= 1e-5 * largest,
                "{batch} x {accumulate}: {a} {b}"
            );
        }
    }
}

#[test]
fn rates_follow_the_schedule_and_reports_say_so() {
    let (base, adapter, windows) = setup();
    let config = TrainConfig {
        schedule: Schedule::Cosine,
        warm_up: 2,
        steps: 4,
        ..config()
    };
    let mut session = Session::new(&base, &adapter, windows, config).unwrap();
    let mut rates = Vec::new();
    let mut note = |report: &StepReport| {
        assert_eq!(report.tokens, 4 * 16);
        assert!(report.remaining_ms >= 0.0 && report.tokens_per_second() > 0.0);
        rates.push(report.learning_rate);
        Control::Continue
    };
    session.run(&mut note).unwrap();
    assert_eq!(rates, [0.0, 1e-2, 2e-2, 1e-2]);
    assert!(session.finish().iter().any(|d| *d != 0.0));
}

fn scheduled() -> TrainConfig {
    TrainConfig {
        accumulate: 2,
        batch: 2,
        schedule: Schedule::Cosine,
        warm_up: 3,
        ..config()
    }
}

#[test]
fn a_cancelled_training_goes_on_bit_for_bit_from_its_checkpoint() {
    let (straight, predicted) = train(scheduled());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep").join("training.checkpoint");
    let (base, adapter, windows) = setup();
    for stop_at in [1, 5, 11] {
        let mut session = Session::new(&base, &adapter, windows.clone(), scheduled()).unwrap();
        let stop = &mut |report: &StepReport| match report.step == stop_at {
            true => Control::Stop,
            false => Control::Continue,
        };
        session.run(stop).unwrap();
        session.save(&path).unwrap();
        drop(session);
        let mut resumed = Session::resume(&base, windows.clone(), scheduled(), &path).unwrap();
        assert_eq!(resumed.steps_done(), stop_at);
        resumed
            .run(&mut |_: &StepReport| Control::Continue)
            .unwrap();
        assert_eq!(resumed.predicted(), predicted);
        assert_eq!(resumed.finish(), straight, "stopped at {stop_at}");
    }
}

#[test]
fn checkpoints_of_another_training_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.checkpoint");
    let (base, adapter, windows) = setup();
    let session = Session::new(&base, &adapter, windows.clone(), scheduled()).unwrap();
    session.save(&path).unwrap();
    let refused = |windows: &Windows, config: TrainConfig| {
        let resumed = Session::resume(&base, windows.clone(), config, &path);
        resumed.err().expect("it is another training").to_string()
    };
    assert!(refused(&uneven(), scheduled()).contains("its data is"));
    let faster = TrainConfig {
        learning_rate: 3e-2,
        ..scheduled()
    };
    let error = refused(&windows, faster);
    assert!(
        error.contains("its learning rate is 0.02, this one's is 0.03"),
        "{error}"
    );
    let other = BaseModel::brook().unwrap();
    let resumed = Session::resume(&other, windows, scheduled(), &path);
    let error = resumed.err().expect("another base").to_string();
    assert!(error.contains("its base model is"), "{error}");
}

#[test]
fn damaged_checkpoints_are_refused_without_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.checkpoint");
    let (base, adapter, windows) = setup();
    let mut session = Session::new(&base, &adapter, windows.clone(), scheduled()).unwrap();
    session.step().unwrap();
    session.save(&path).unwrap();
    let good = std::fs::read(&path).unwrap();
    let resume = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Session::resume(&base, windows.clone(), scheduled(), &path).err()
    };
    assert!(resume(&good).is_none());
    for length in [0, 7, 8, 100, good.len() / 2, good.len() - 1] {
        let error = resume(&good[..length]).expect("it is cut").to_string();
        assert!(error.contains("training.checkpoint is damaged"), "{error}");
    }
    for at in (0..good.len()).step_by(good.len() / 97) {
        let mut flipped = good.clone();
        flipped[at] ^= 0x10;
        assert!(resume(&flipped).is_some(), "byte {at}");
    }
    let version = b"\\\"version\\\":1,";
    let at = good.windows(version.len()).position(|w| w == version);
    let mut later = good.clone();
    later[at.expect("the header is text") + version.len() - 2] = b'9';
    let error = resume(&later).expect("a later version").to_string();
    assert!(error.contains("version 9"), "{error}");
    std::fs::remove_file(&path).unwrap();
    let missing = Session::resume(&base, windows.clone(), scheduled(), &path);
    assert!(matches!(missing, Err(CheckpointError::Read { .. })));
}
