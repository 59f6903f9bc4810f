//! Tests of the robust rules; the slow twin works on the vectors themselves, in f64.

use proptest::prelude::*;

use super::*;
use crate::id::Ppb;

const TOLERATE: Ppb = Ppb(250_000_000);
const RULES: [Aggregation; 3] = [
    Aggregation::MultiKrum { tolerate: TOLERATE },
    Aggregation::CentredClip { tolerate: TOLERATE },
    Aggregation::GeometricMedian { tolerate: TOLERATE },
];

type Vector = Vec<f64>;

fn length(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn between(a: &[f64], b: &[f64]) -> f64 {
    length(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>())
}

fn average(vectors: &[Vector], weights: &[f64]) -> Vector {
    let total: f64 = weights.iter().sum();
    (0..vectors[0].len())
        .map(|at| {
            (vectors.iter().zip(weights))
                .map(|(v, w)| v[at] * w / total)
                .sum()
        })
        .collect()
}

/// Weights cut to the part that belongs to the smallest `values`, until `share` of weight is taken.
fn smallest(values: &[f64], weights: &[f64], share: f64) -> Vec<f64> {
    let slack = EQUAL * values.iter().copied().fold(0.0, f64::max);
    let mut taken = vec![0.0; values.len()];
    loop {
        let open = || (0..values.len()).filter(|i| taken[*i] == 0.0);
        let left = share - taken.iter().sum::<f64>();
        if left <= NO_WEIGHT || open().next().is_none() {
            return taken;
        }
        let least = open().map(|i| values[i]).fold(f64::INFINITY, f64::min);
        let group: Vec<usize> = open().filter(|i| values[*i] <= least + slack).collect();
        let weight: f64 = group.iter().map(|i| weights[*i]).sum();
        for i in group {
            taken[i] = weights[i] * (left / weight).min(1.0);
        }
    }
}

fn median(values: &[f64], weights: &[f64]) -> f64 {
    (values.iter().copied())
        .filter(|v| {
            let below = values.iter().zip(weights).filter(|(x, _)| *x <= v);
            below.map(|(_, w)| w).sum::<f64>() >= 0.5 - NO_WEIGHT
        })
        .fold(f64::INFINITY, f64::min)
}

/// The combined vector, by the rules' definitions.
fn twin(rule: Aggregation, updates: &[Vector], weights: &[f64]) -> Vector {
    let keep = 1.0 - f64::from(TOLERATE.0) / 1e9;
    let limit = median(
        &updates.iter().map(|u| length(u)).collect::<Vec<_>>(),
        weights,
    );
    let clipped: Vec<Vector> = (updates.iter())
        .map(|u| {
            let factor = if length(u) > limit {
                limit / length(u)
            } else {
                1.0
            };
            u.iter().map(|x| x * factor).collect()
        })
        .collect();
    let from = |centre: &[f64], cloud: &[Vector]| -> Vec<f64> {
        cloud.iter().map(|v| between(centre, v)).collect()
    };
    let mixed: Vec<Vector> = (clipped.iter())
        .map(|u| average(&clipped, &smallest(&from(u, &clipped), weights, keep)))
        .collect();
    let mut centre = average(&mixed, weights);
    match rule {
        Aggregation::MultiKrum { .. } => {
            let score = |u: &Vector| -> f64 {
                let distances = from(u, &mixed);
                let near = smallest(&distances, weights, keep);
                distances.iter().zip(near).map(|(d, w)| d * d * w).sum()
            };
            let scores: Vec<f64> = mixed.iter().map(score).collect();
            average(&mixed, &smallest(&scores, weights, keep))
        }
        Aggregation::CentredClip { .. } => {
            for _ in 0..CENTRING {
                let distances = from(&centre, &mixed);
                let limit = median(&distances, weights);
                let before = centre.clone();
                for (i, v) in mixed.iter().enumerate() {
                    let cut = if distances[i] > limit {
                        limit / distances[i]
                    } else {
                        1.0
                    };
                    for at in 0..v.len() {
                        centre[at] += weights[i] * cut * (v[at] - before[at]);
                    }
                }
            }
            centre
        }
        _ => {
            for _ in 0..WEISZFELD {
                let distances = from(&centre, &mixed);
                let least = TOUCHING * median(&distances, weights);
                if least <= 0.0 {
                    break;
                }
                let pulls: Vec<f64> = (distances.iter().zip(weights))
                    .map(|(d, w)| w / d.max(least))
                    .collect();
                centre = average(&mixed, &pulls);
            }
            centre
        }
    }
}

fn fast(rule: Aggregation, updates: &[Vector], weights: &[f64]) -> (Vec<f64>, Vector) {
    let rounded: Vec<Vec<f32>> = (updates.iter())
        .map(|u| u.iter().map(|x| *x as f32).collect())
        .collect();
    let views: Vec<&[f32]> = rounded.iter().map(Vec::as_slice).collect();
    let out = coefficients(rule, weights, || Gram::of(&views)).expect("a robust rule");
    let sum = (0..updates[0].len())
        .map(|at| (out.iter().zip(updates)).map(|(c, u)| c * u[at]).sum())
        .collect();
    (out, sum)
}

/// Honest updates around a common direction, and weights that add up to one.
fn crowd() -> impl Strategy<Value = (Vec<Vector>, Vec<f64>)> {
    let number = (-1.0f32..1.0).prop_map(f64::from);
    (3usize..9, 8usize..40).prop_flat_map(move |(peers, length)| {
        let vector = prop::collection::vec(number.clone(), length);
        let tokens = prop::collection::vec(1u32..5, peers);
        (prop::collection::vec(vector, peers), tokens).prop_map(|(updates, tokens)| {
            let sum = f64::from(tokens.iter().sum::<u32>());
            (
                updates,
                tokens.iter().map(|t| f64::from(*t) / sum).collect(),
            )
        })
    })
}

proptest! {
    #[test]
    fn rules_in_gram_space_are_the_rules_on_vectors((updates, weights) in crowd()) {
        for rule in RULES {
            let (_, sum) = fast(rule, &updates, &weights);
            let slow = twin(rule, &updates, &weights);
            // Distances that nearly tie may be cut off at either side; both are valid outcomes then,
            // but random numbers do not tie to 1e-4.
            prop_assert!(
                between(&sum, &slow) <= 1e-3 * (length(&slow) + 0.1),
                "{rule:?} {} {}", between(&sum, &slow), length(&slow)
            );
        }
    }

    #[test]
    fn coefficients_are_parts_of_one((updates, weights) in crowd()) {
        for rule in RULES {
            let (coefficients, _) = fast(rule, &updates, &weights);
            prop_assert!(coefficients.iter().all(|c| (-1e-12..=1.0 + 1e-9).contains(c)));
            prop_assert!(coefficients.iter().sum::<f64>() <= 1.0 + 1e-9);
        }
    }

    #[test]
    fn a_peer_that_splits_in_two_changes_nothing((updates, weights) in crowd()) {
        for rule in RULES {
            let (_, whole) = fast(rule, &updates, &weights);
            let mut twice = updates.clone();
            let mut halves = weights.clone();
            twice.push(updates[0].clone());
            halves[0] /= 2.0;
            halves.push(halves[0]);
            let (_, split) = fast(rule, &twice, &halves);
            prop_assert!(
                between(&whole, &split) <= 1e-3 * (length(&whole) + 0.1),
                "{rule:?} {whole:?} {split:?}"
            );
        }
    }
}

/// Eight honest peers that agree up to noise, and two that lie.
fn attacked(lie: impl Fn(&[f64]) -> Vector) -> (Vec<Vector>, Vec<f64>, Vector) {
    let honest: Vec<Vector> = (0..8)
        .map(|i| {
            let noise = |at: usize| f64::from(((i * 37 + at * 11) % 23) as u32) / 23.0 - 0.5;
            (0..64).map(|at| 1.0 + 0.5 * noise(at)).collect()
        })
        .collect();
    let mean = average(&honest, &[1.0; 8]);
    let mut all = honest;
    all.extend([lie(&mean), lie(&mean)]);
    (all, vec![0.1; 10], mean)
}

/// What a liar sends, given the mean of the honest.
type Lie = fn(&[f64]) -> Vector;

#[test]
fn two_liars_of_ten_move_the_step_by_little() {
    let lies: [(&str, Lie); 4] = [
        ("sign flip", |m| m.iter().map(|x| -x).collect()),
        ("a hundred times", |m| m.iter().map(|x| 100.0 * x).collect()),
        ("elsewhere", |m| {
            (0..m.len())
                .map(|at| if at % 2 == 0 { 9.0 } else { -9.0 })
                .collect()
        }),
        ("zero", |m| vec![0.0; m.len()]),
    ];
    for (name, lie) in lies {
        let (updates, weights, mean) = attacked(lie);
        for rule in RULES {
            let (_, sum) = fast(rule, &updates, &weights);
            let off = between(&sum, &mean) / length(&mean);
            assert!(off < 0.12, "{name}, {rule:?}: {off}");
        }
    }
}

#[test]
fn the_plain_mean_is_carried_away_by_the_same_lies() {
    let (updates, weights, mean) = attacked(|m| m.iter().map(|x| -x).collect());
    let off = between(&average(&updates, &weights), &mean) / length(&mean);
    assert!(off > 0.35, "{off}");
}

#[test]
fn equal_updates_give_that_update() {
    let updates = vec![vec![1.0, -2.0, 0.5]; 4];
    for rule in RULES {
        let (_, sum) = fast(rule, &updates, &[0.25; 4]);
        assert!(between(&sum, &updates[0]) < 1e-6, "{rule:?} {sum:?}");
    }
}

#[test]
fn nothing_and_zeros_are_fine() {
    for rule in RULES {
        assert_eq!(coefficients(rule, &[], || Gram::of(&[])), Some(vec![]));
        let (coefficients, sum) = fast(rule, &[vec![0.0; 3], vec![0.0; 3]], &[0.5, 0.5]);
        assert!(coefficients.iter().all(|c| c.is_finite()));
        assert_eq!(sum, [0.0; 3]);
    }
}
