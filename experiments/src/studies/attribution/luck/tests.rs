//! Tests of the figures; one federation is really run.

use super::*;

#[test]
fn a_federation_is_judged_as_evaluators_sign_it() {
    let setup = Setup::own().expect("the trainer's texts");
    let stage = setup.stage(&FEDERATIONS[ALIKE], 1);
    let played = stage.play(Coalition::full(MEMBERS));
    let run = judged(&stage, &played, SCORE_WINDOWS);
    assert_eq!(run.len(), played.rounds.len());
    for lines in &run {
        assert_eq!(lines.len(), MEMBERS, "everybody sends an update");
        assert!(lines.iter().all(|line| line.score.luck.0 > 0));
        assert!(lines.iter().any(|line| line.halves > 0.0));
    }
    let total: f64 = (0..MEMBERS).map(|at| sum(&run, at)).sum();
    assert!(total > 0.0, "the federation learns: {total}");
    let paid = SHIPPED.payouts(&run, &[]);
    assert!(paid.iter().all(|paid| *paid > 0.0), "{paid:?}");
}

#[test]
fn threads_give_what_one_would_in_order() {
    assert_eq!(in_parallel(50, |nth| nth * nth)[7..10], [49, 64, 81]);
    assert_eq!(in_parallel(0, |nth| nth), Vec::<usize>::new());
}

#[test]
fn differences_are_of_members_and_of_repetitions() {
    let table = vec![vec![1.0, 3.0, 1.0, 3.0, 1.0, 3.0]; 4];
    let (within, between) = differences(&table);
    // Standard deviation of a sample, over a mean of two.
    assert!((within - (6.0f64 / 5.0).sqrt() / 2.0).abs() < 1e-12);
    assert!(between.abs() < 1e-12);
    let luck: Vec<Vec<f64>> = (1..=3).map(|n| vec![f64::from(n); MEMBERS]).collect();
    let (within, between) = differences(&luck);
    assert!(within.abs() < 1e-12 && (between - 0.5).abs() < 1e-12);
}
