//! Tests of the rule by agreement; the slow twin works on the vectors themselves.

use proptest::prelude::*;

use super::*;

type Vector = Vec<f64>;

fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn length(v: &[f64]) -> f64 {
    inner(v, v).sqrt()
}

fn fast(updates: &[Vector], weights: &[f64], tolerate: f64) -> Vec<f64> {
    let rounded: Vec<Vec<f32>> = (updates.iter())
        .map(|u| u.iter().map(|x| *x as f32).collect())
        .collect();
    let views: Vec<&[f32]> = rounded.iter().map(Vec::as_slice).collect();
    coefficients(weights, Gram::of(&views), tolerate)
}

/// The smallest value that at least half of the weight does not exceed.
fn median(values: &[(f64, f64)]) -> f64 {
    let total: f64 = values.iter().map(|(_, weight)| weight).sum();
    let enough = |limit: f64| {
        let below = values.iter().filter(|(value, _)| *value <= limit);
        below.map(|(_, weight)| weight).sum::<f64>() >= total / 2.0 - 1e-9
    };
    let fitting = values
        .iter()
        .map(|(value, _)| *value)
        .filter(|v| enough(*v));
    fitting.fold(f64::INFINITY, f64::min)
}

/// The definition, on vectors: no Gram matrix, one update at a time.
fn twin(updates: &[Vector], weights: &[f64], tolerate: f64) -> Vec<f64> {
    let members = updates.len();
    let cosine = |i: usize, j: usize| {
        inner(&updates[i], &updates[j]) / (length(&updates[i]) * length(&updates[j]))
    };
    let mut pairs = Vec::new();
    for i in 0..members {
        for j in 0..members {
            pairs.push((cosine(i, j).abs(), weights[i] * weights[j]));
        }
    }
    let cap = median(&pairs);
    let (mut kept, mut budget) = (weights.to_vec(), tolerate);
    loop {
        let mut worst: Option<(f64, usize)> = None;
        for i in (0..members).filter(|i| kept[*i] > 0.0) {
            let agreement: f64 = (0..members).map(|j| kept[j] * cosine(i, j).min(cap)).sum();
            if worst.is_none_or(|(least, _)| agreement < least) {
                worst = Some((agreement, i));
            }
        }
        let Some((_, i)) = worst.filter(|(agreement, _)| *agreement < -EQUAL && budget > 1e-9)
        else {
            break;
        };
        let taken = kept[i].min(budget);
        kept[i] -= taken;
        budget -= taken;
    }
    let lengths: Vec<(f64, f64)> = updates
        .iter()
        .map(|u| length(u))
        .zip(weights.to_vec())
        .collect();
    let limit = median(&lengths);
    let total: f64 = kept.iter().sum();
    (updates.iter().zip(kept))
        .map(|(u, kept)| kept / total * (limit / length(u)).min(1.0))
        .collect()
}

fn crowd() -> impl Strategy<Value = (Vec<Vector>, Vec<f64>)> {
    let number = (-1.0f32..1.0).prop_map(f64::from);
    (2usize..9, 4usize..30).prop_flat_map(move |(members, length)| {
        let vector = prop::collection::vec(number.clone(), length);
        let tokens = prop::collection::vec(1u32..5, members);
        (prop::collection::vec(vector, members), tokens).prop_map(|(updates, tokens)| {
            let sum = f64::from(tokens.iter().sum::<u32>());
            let shares = tokens.iter().map(|t| f64::from(*t) / sum);
            (updates, shares.collect())
        })
    })
}

proptest! {
    #[test]
    fn the_rule_in_gram_space_is_the_rule_on_vectors(
        (updates, weights) in crowd(), tolerate in 0.0f64..0.49,
    ) {
        // Random agreements neither tie nor lie within rounding of zero.
        let (quick, slow) = (fast(&updates, &weights, tolerate), twin(&updates, &weights, tolerate));
        for (quick, slow) in quick.iter().zip(&slow) {
            prop_assert!((quick - slow).abs() < 1e-4, "{quick} {slow}");
        }
    }

    #[test]
    fn a_peer_that_splits_in_two_changes_nothing(
        (updates, weights) in crowd(), tolerate in 0.0f64..0.49,
    ) {
        let whole = fast(&updates, &weights, tolerate);
        let (mut twice, mut halves) = (updates.clone(), weights.clone());
        twice.push(updates[0].clone());
        halves[0] /= 2.0;
        halves.push(halves[0]);
        let split = fast(&twice, &halves, tolerate);
        prop_assert!((whole[0] - split[0] - split[updates.len()]).abs() < 1e-6);
        for i in 1..updates.len() {
            prop_assert!((whole[i] - split[i]).abs() < 1e-6);
        }
    }

    #[test]
    fn at_most_what_is_tolerated_is_turned_away(
        (updates, weights) in crowd(), tolerate in 0.0f64..0.49,
    ) {
        let views: Vec<Vec<f32>> = (updates.iter())
            .map(|u| u.iter().map(|x| *x as f32).collect())
            .collect();
        let views: Vec<&[f32]> = views.iter().map(Vec::as_slice).collect();
        let left = kept(&Gram::of(&views).directions(), &weights, tolerate);
        prop_assert!(left.iter().sum::<f64>() >= 1.0 - tolerate - 1e-9);
        prop_assert!(left.iter().zip(&weights).all(|(left, w)| (0.0..=*w).contains(left)));
    }
}

/// Ten members whose updates hardly overlap: a little in common, the rest each its own.
fn sparse() -> Vec<Vector> {
    (0..10)
        .map(|i| {
            let mut update = vec![0.0; 140];
            update[..10].fill(0.4);
            update[10 + i * 13..23 + i * 13].fill(1.0);
            update
        })
        .collect()
}

fn mean(updates: &[Vector]) -> Vector {
    let of = |at: usize| updates.iter().map(|u| u[at]).sum::<f64>() / updates.len() as f64;
    (0..updates[0].len()).map(of).collect()
}

#[test]
fn members_with_little_in_common_are_all_heard() {
    for coefficient in fast(&sparse(), &[0.1; 10], 0.34) {
        assert!((coefficient - 0.1).abs() < 1e-6, "{coefficient}");
    }
}

/// The attack that distances miss: all liars push in one direction, against the honest mean, and as their
/// update is no longer than the others it lies nearer to everybody.
#[test]
fn liars_in_one_voice_are_turned_away_however_short_they_speak() {
    let mut updates = sparse();
    let mean = mean(&updates);
    for stretch in [-0.1, -1.0, -3.0, -100.0] {
        updates.truncate(10);
        updates.extend(vec![
            mean.iter().map(|v| stretch * v).collect::<Vector>();
            5
        ]);
        let found = fast(&updates, &[1.0 / 15.0; 15], 0.34);
        assert!(
            found[10..].iter().all(|c| *c < 1e-6),
            "{stretch}: {found:?}"
        );
        assert!(
            found[..10].iter().all(|c| *c > 0.05),
            "{stretch}: {found:?}"
        );
    }
}

#[test]
fn zeros_oppose_nobody_and_alone_they_stay_zeros() {
    let mut updates = sparse();
    updates.push(vec![0.0; 140]);
    let found = fast(&updates, &[1.0 / 11.0; 11], 0.34);
    assert!(
        found.iter().all(|c| (c - 1.0 / 11.0).abs() < 1e-6),
        "{found:?}"
    );
    let alone = fast(&vec![vec![0.0; 4]; 2], &[0.5; 2], 0.34);
    assert!(alone.iter().all(|c| c.is_finite()));
    assert!(fast(&[], &[], 0.34).is_empty());
}

#[test]
fn of_two_that_oppose_each_other_both_lose_the_same() {
    let updates = vec![
        vec![1.0, 0.0],
        vec![-1.0, 0.0],
        vec![0.0, 1.0],
        vec![0.0, 1.0],
    ];
    let found = fast(&updates, &[0.3, 0.3, 0.2, 0.2], 0.2);
    assert!((found[0] - found[1]).abs() < 1e-9, "{found:?}");
}

/// Coefficients are part of what every peer must agree on: these bits may never change.
#[test]
fn coefficients_have_pinned_bits() {
    let mut updates = sparse();
    let mean = mean(&updates);
    updates.extend(vec![mean.iter().map(|v| -2.0 * v).collect::<Vector>(); 3]);
    let weights: Vec<f64> = (1..=13).map(|i| f64::from(i) / 91.0).collect();
    let mut folded = 0u64;
    for coefficient in fast(&updates, &weights, 0.25) {
        folded = folded.rotate_left(7) ^ coefficient.to_bits();
    }
    assert_eq!(folded, PINNED, "{folded:#x}");
}
const PINNED: u64 = 0x04b5_4866_a8ff_d770;
