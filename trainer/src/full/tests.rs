//! Learning, resuming, refusing.

use super::*;
use crate::testing::{every_family, tiny_config};

fn tokens(count: usize) -> Vec<u32> {
    (0..count).map(|i| (i * 7 % 12) as u32 + 3).collect()
}

#[test]
fn a_regular_sequence_is_learnt() {
    let mut trainer = FullTrainer::new(tiny_config(), FullConfig::default(), 1).unwrap();
    let tokens = tokens(4 * 16);
    let before = trainer.evaluate(&tokens, 4, 16).unwrap();
    assert!(
        (before.nll - 48f64.ln()).abs() < 0.2,
        "fresh weights know nothing: {before:?}"
    );
    for _ in 0..60 {
        trainer.step(&tokens, 4, 16, 1e-2).unwrap();
    }
    let after = trainer.evaluate(&tokens, 4, 16).unwrap();
    assert!(after.nll < 0.5, "{after:?}");
    assert_eq!(after.predicted, 4 * 15);
}

#[test]
fn a_resumed_training_of_any_family_continues_byte_for_byte() {
    let tokens = tokens(2 * 16);
    for config in every_family() {
        let mut straight = FullTrainer::new(config, FullConfig::default(), 1).unwrap();
        let fresh = straight.parameters.clone();
        for _ in 0..3 {
            straight.step(&tokens, 2, 16, 1e-2).unwrap();
        }
        for (before, after) in fresh.iter().zip(&straight.parameters) {
            assert_ne!(before.values, after.values, "{} learns", after.name);
        }
        let folder = tempfile::tempdir().unwrap();
        straight.save_checkpoint(folder.path()).unwrap();
        let mut resumed = FullTrainer::resume(folder.path(), FullConfig::default()).unwrap();
        let a = straight.step(&tokens, 2, 16, 1e-2).unwrap();
        let b = resumed.step(&tokens, 2, 16, 1e-2).unwrap();
        assert_eq!((a.step, a.loss), (b.step, b.loss));
        assert_eq!(straight.parameters, resumed.parameters);
        assert_eq!(straight.adam, resumed.adam);
    }
}

#[test]
fn a_saved_model_loads_with_nearly_the_same_loss() {
    let tokens = tokens(2 * 16);
    let mut trainer = FullTrainer::new(tiny_config(), FullConfig::default(), 1).unwrap();
    for _ in 0..20 {
        trainer.step(&tokens, 2, 16, 1e-2).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    trainer.save(folder.path()).unwrap();
    let loaded = FullTrainer::load(folder.path(), FullConfig::default()).unwrap();
    let before = trainer.evaluate(&tokens, 2, 16).unwrap().nll;
    let after = loaded.evaluate(&tokens, 2, 16).unwrap().nll;
    assert!((before - after).abs() < 0.02 * before, "{before} {after}");
}

#[test]
fn tokens_that_are_no_batch_are_refused() {
    let mut trainer = FullTrainer::new(tiny_config(), FullConfig::default(), 1).unwrap();
    assert!(trainer.step(&tokens(31), 2, 16, 1e-2).is_err());
    assert!(trainer.step(&[1; 2], 2, 1, 1e-2).is_err());
    assert!(trainer.step(&[], 0, 16, 1e-2).is_err());
    assert!(trainer.step(&[48; 32], 2, 16, 1e-2).is_err());
    assert!(trainer.evaluate(&tokens(16), 2, 16).is_err());
    assert_eq!(trainer.steps(), 0);
}
