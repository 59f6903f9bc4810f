//! Windows of several documents: full, and blind to each other.

use proptest::prelude::*;

use super::*;
use crate::evaluate::{Evaluation, evaluate};
use crate::gradient::loss_and_gradient;
use crate::testing::{random_adapter, tiny_base};

fn documents(lengths: &[usize]) -> Vec<Document> {
    let mut next = 4;
    let mut token = || {
        next = 4 + (next * 7 + 5) % 26;
        next
    };
    (lengths.iter())
        .map(|length| Document::whole((0..*length).map(|_| token()).collect()))
        .collect()
}

/// Tries every window in turn.
fn slow_first_fit(order: &[usize], lengths: &[usize], context: usize) -> Vec<Vec<usize>> {
    let mut shares: Vec<Vec<usize>> = Vec::new();
    for at in order {
        let room = |share: &Vec<usize>| {
            context - share.iter().map(|at| lengths[*at]).sum::<usize>() >= lengths[*at]
        };
        match shares.iter_mut().find(|share| room(share)) {
            Some(share) => share.push(*at),
            None => shares.push(vec![*at]),
        }
    }
    shares
}

proptest! {
    #[test]
    fn first_fit_by_tree_equals_first_fit_by_search(
        lengths in proptest::collection::vec(1usize..=20, 1..60)
    ) {
        let order: Vec<usize> = (0..lengths.len()).collect();
        prop_assert_eq!(
            first_fit(&order, &lengths, 20),
            slow_first_fit(&order, &lengths, 20)
        );
    }

    #[test]
    fn every_packing_keeps_every_token_and_no_window_overflows(
        lengths in proptest::collection::vec(2usize..=50, 1..40),
        seed: u64,
    ) {
        for packing in [Packing::Apart, Packing::Fit, Packing::Shuffled(seed)] {
            let (windows, report) = Windows::pack(documents(&lengths), 20, packing).unwrap();
            // A cut may leave one token, which predicts nothing and is left out.
            let lost: usize = lengths.iter().filter(|l| **l % 20 == 1).count();
            prop_assert_eq!(report.tokens as usize, lengths.iter().sum::<usize>() - lost);
            prop_assert_eq!(report.empty as usize, lost);
            prop_assert!(windows.iter().all(|w| w.len() <= 20));
            let pieces: usize = lengths.iter().map(|l| l.div_ceil(20)).sum();
            prop_assert_eq!(report.predicted, report.tokens - (pieces - lost) as u64);
        }
    }
}

#[test]
fn packed_documents_have_the_losses_and_gradients_they_have_alone() {
    let base = tiny_base();
    let adapter = random_adapter(&base, 3, 1);
    let mut documents = documents(&[5, 9, 3, 12, 2, 7, 6, 4]);
    // One learns its end only.
    let learned = (0..9).map(|at| at > 5).collect();
    documents[1].learned = Some(learned);
    let mut apart = Evaluation::default();
    let mut gradient = vec![0.0f64; adapter.values().len()];
    for document in &documents {
        let (alone, _) = Windows::pack(vec![document.clone()], 24, Packing::Apart).unwrap();
        let one = evaluate(&base, Some(&adapter), &alone).unwrap();
        apart = apart.and(one);
        let step = loss_and_gradient(&base, &adapter, &alone).unwrap();
        for (sum, g) in gradient.iter_mut().zip(step.gradient) {
            *sum += f64::from(g) * one.predicted as f64;
        }
    }
    for packing in [Packing::Apart, Packing::Fit, Packing::Shuffled(3)] {
        let (windows, report) = Windows::pack(documents.clone(), 24, packing).unwrap();
        let packed = evaluate(&base, Some(&adapter), &windows).unwrap();
        assert_eq!(packed.predicted, apart.predicted, "{packing:?} {report}");
        assert!(
            (packed.nll - apart.nll).abs() < 1e-5,
            "{packing:?}: {packed:?} {apart:?}"
        );
        let step = loss_and_gradient(&base, &adapter, &windows).unwrap();
        let largest = step.gradient.iter().fold(0.0f32, |m, g| m.max(g.abs()));
        for (ours, sum) in step.gradient.iter().zip(&gradient) {
            let alone = (sum / apart.predicted as f64) as f32;
            assert!(
                (ours - alone).abs() < 1e-4 * largest,
                "{packing:?}: {ours} {alone}"
            );
        }
    }
}

#[test]
fn fitting_fills_windows_better_than_the_order_of_a_shuffle() {
    let lengths: Vec<usize> = (0..200).map(|i| 2 + i * 7919 % 60).collect();
    let fill = |packing| {
        Windows::pack(documents(&lengths), 64, packing)
            .unwrap()
            .1
            .fill
    };
    let (fit, shuffled, apart) = (
        fill(Packing::Fit),
        fill(Packing::Shuffled(1)),
        fill(Packing::Apart),
    );
    assert!(
        fit > 0.95 && fit > shuffled && shuffled > apart,
        "{fit} {shuffled} {apart}"
    );
}

#[test]
fn long_documents_are_cut_and_prompts_that_fill_a_window_left_out() {
    let mut long = documents(&[10]).remove(0);
    long.learned = Some((0..10).map(|at| at >= 6).collect());
    let (windows, report) = Windows::pack(vec![long.clone()], 4, Packing::Apart).unwrap();
    // Tokens 4 to 7 and 8 to 9; the first four hold only the prompt.
    assert_eq!((windows.len(), windows.predicted()), (2, 3));
    assert_eq!((report.cut, report.empty), (1, 1));
    long.learned = Some(vec![false; 10]);
    assert!(Windows::pack(vec![long], 4, Packing::Fit).is_err());
    assert!(Windows::pack(documents(&[3]), 1, Packing::Fit).is_err());
}
