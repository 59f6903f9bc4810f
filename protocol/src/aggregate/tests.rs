//! Tests of combination and step.

use proptest::prelude::*;

use super::*;
use crate::hash::Digest;
use crate::id::Ppb;

/// The rules that weigh every update by itself.
const RULES: [Aggregation; 2] = [Aggregation::Mean, Aggregation::ClippedMean];
const TOLERATE: Ppb = Ppb(200_000_000);
const ALL: [Aggregation; 6] = [
    Aggregation::Mean,
    Aggregation::ClippedMean,
    Aggregation::MultiKrum { tolerate: TOLERATE },
    Aggregation::CentredClip { tolerate: TOLERATE },
    Aggregation::GeometricMedian { tolerate: TOLERATE },
    Aggregation::Agreement { tolerate: TOLERATE },
];

fn peer(i: u8) -> PeerId {
    PeerId(Digest::from_bytes([i; 32]))
}

fn weighted(i: u8, weight: u64, update: &[f32]) -> Weighted {
    let update = update.to_vec();
    Weighted {
        peer: peer(i),
        weight,
        update,
    }
}

fn bits(contributions: &[(PeerId, Vec<f32>)]) -> Vec<(PeerId, Vec<u32>)> {
    (contributions.iter())
        .map(|(peer, vector)| (*peer, vector.iter().map(|v| v.to_bits()).collect()))
        .collect()
}

/// Updates of 1 to 9 peers with magnitudes over many orders, and an order to shuffle them in.
fn updates() -> impl Strategy<Value = (Vec<Weighted>, Vec<Weighted>)> {
    let number = (-1.0f32..1.0, -12i32..6).prop_map(|(m, e)| m * 10f32.powi(e));
    (1usize..10, 1usize..40)
        .prop_flat_map(move |(peers, len)| {
            let vector = prop::collection::vec(number.clone(), len);
            prop::collection::vec((1u64..100_000, vector), peers)
        })
        .prop_flat_map(|vectors| {
            let updates: Vec<Weighted> = (vectors.into_iter().enumerate())
                .map(|(i, (tokens, update))| weighted(i as u8 * 7 + 1, tokens, &update))
                .collect();
            let shuffled = Just(updates.clone()).prop_shuffle();
            (Just(updates), shuffled)
        })
}

proptest! {
    #[test]
    fn aggregation_permuted_in_input_order_gives_identical_bytes(
        (updates, shuffled) in updates()
    ) {
        let before = vec![0.25; updates[0].update.len()];
        for rule in ALL {
            let (one, other) = (combine(rule, &updates), combine(rule, &shuffled));
            prop_assert_eq!(bits(&one), bits(&other));
            let (one, other) = (step(&before, &one), step(&before, &other));
            let raw = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
            prop_assert_eq!(raw(&one), raw(&other));
        }
    }

    #[test]
    fn aggregation_equals_its_slow_twin_bit_for_bit((updates, _) in updates()) {
        let before = vec![-1.5; updates[0].update.len()];
        for rule in RULES {
            let fast = combine(rule, &updates);
            let slow = reference::combine(rule, &updates);
            prop_assert_eq!(bits(&fast), bits(&slow));
            let stepped = (peer(0), step(&before, &fast));
            let twin = (peer(0), reference::step(&before, &slow));
            prop_assert_eq!(bits(&[stepped]), bits(&[twin]));
        }
    }

    #[test]
    fn step_is_the_sum_of_contributions_to_half_a_unit_in_the_last_place(
        (updates, _) in updates()
    ) {
        let before = vec![0.75f32; updates[0].update.len()];
        let contributions = combine(Aggregation::Mean, &updates);
        let after = step(&before, &contributions);
        for (at, after) in after.iter().enumerate() {
            let sum: f64 = contributions.iter().map(|(_, c)| f64::from(c[at])).sum();
            let exact = f64::from(before[at]) + sum;
            let unit = f64::from(f32::EPSILON) * f64::from(after.abs()).max(1e-30);
            prop_assert!((f64::from(*after) - exact).abs() <= unit);
        }
    }

    #[test]
    fn clipped_contribution_is_at_most_its_weight_times_the_median_norm(
        (updates, _) in updates()
    ) {
        let length = |v: &[f32]| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let sum: u64 = updates.iter().map(|w| w.weight).sum();
        let mut norms: Vec<(f64, u64)> =
            updates.iter().map(|w| (length(&w.update), w.weight)).collect();
        norms.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut below = 0;
        let middle = norms.iter().find(|(_, weight)| {
            below += weight;
            2 * below >= sum
        });
        let median = middle.expect("updates").0;
        for (who, vector) in combine(Aggregation::ClippedMean, &updates) {
            let own = updates.iter().find(|w| w.peer == who).expect("one of them");
            let weight = own.weight as f64 / sum as f64;
            prop_assert!(length(&vector) <= weight * median * (1.0 + 1e-6) + 1e-40);
        }
    }
}

#[test]
fn mean_weighs_by_tokens() {
    let updates = [weighted(1, 1, &[4.0, 0.0]), weighted(2, 3, &[0.0, 4.0])];
    let combined = combine(Aggregation::Mean, &updates);
    assert_eq!(
        combined,
        [(peer(1), vec![1.0, 0.0]), (peer(2), vec![0.0, 3.0])]
    );
    assert_eq!(step(&[10.0, 10.0], &combined), [11.0, 13.0]);
}

#[test]
fn clipping_takes_the_lower_median_and_leaves_short_updates_alone() {
    let updates = [
        weighted(1, 1, &[1.0]),
        weighted(2, 1, &[2.0]),
        weighted(3, 1, &[4.0]),
        weighted(4, 1, &[1024.0]),
    ];
    let combined = combine(Aggregation::ClippedMean, &updates);
    let vectors: Vec<f32> = combined.iter().map(|(_, v)| v[0]).collect();
    assert_eq!(vectors, [0.25, 0.5, 0.5, 0.5]);
}

#[test]
fn a_weight_under_many_names_moves_no_median_further_than_under_one() {
    let honest = [
        weighted(1, 8, &[1.0]),
        weighted(2, 8, &[2.0]),
        weighted(3, 8, &[3.0]),
    ];
    let under = |names: u8| -> f32 {
        let split = (0..names).map(|n| weighted(10 + n, 8 / u64::from(names), &[1024.0]));
        let all: Vec<Weighted> = honest.iter().cloned().chain(split).collect();
        let combined = combine(Aggregation::ClippedMean, &all);
        combined.iter().map(|(_, v)| v[0]).sum()
    };
    assert_eq!(under(1), under(8));
}

#[test]
fn updates_of_zeros_combine_to_zeros() {
    let updates = [weighted(1, 1, &[0.0]), weighted(2, 1, &[0.0])];
    for rule in ALL {
        assert!(combine(rule, &updates).iter().all(|(_, v)| v == &[0.0]));
        assert!(combine(rule, &[]).is_empty());
    }
}

#[test]
#[should_panic(expected = "one update per peer")]
fn two_updates_of_one_peer_are_a_bug_of_the_caller() {
    combine(
        Aggregation::Mean,
        &[weighted(1, 1, &[0.0]), weighted(1, 1, &[0.0])],
    );
}
