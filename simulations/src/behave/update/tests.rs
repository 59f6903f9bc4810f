//! Tests of what attackers publish.

use super::*;
use tributary_protocol::id::Ppb;

const CODECS: [UpdateCodec; 3] = [
    UpdateCodec::DenseF32,
    UpdateCodec::DenseInt8,
    UpdateCodec::Sparse {
        top: 64,
        feedback: Ppb(950_000_000),
    },
];

fn vectors(count: usize) -> Vec<Vec<f32>> {
    let number = |i: usize, j: usize| ((i * 31 + j * 17) % 101) as f32 / 50.0 - 1.0;
    (0..count)
        .map(|i| (0..5000).map(|j| number(i, j)).collect())
        .collect()
}

/// What attackers of one kind publish in a round with six honest members.
fn published(attack: Attack, codec: UpdateCodec) -> Vec<(Vec<u8>, u64)> {
    let (own, honest) = (vectors(3), vectors(9)[3..].to_vec());
    let encode = |u: &Vec<f32>| update::encode(u, codec).unwrap();
    let blobs: Vec<Vec<u8>> = honest.iter().map(encode).collect();
    let view = AttackerView {
        codec,
        members: 9,
        attackers: 3,
        trained: &own,
        honest: &honest,
        blobs: &blobs,
        last_step: &vectors(10)[9],
    };
    let mut group = attack.group(3);
    (0..3).map(|at| group.publish(at, &view, 100)).collect()
}

fn decoded(attack: Attack, at: usize) -> Vec<f32> {
    let (blob, _) = &published(attack, UpdateCodec::DenseF32)[at];
    update::decode(blob, 5000, UpdateCodec::DenseF32).unwrap()
}

#[test]
fn only_numbers_that_are_none_are_refused_and_they_are_in_every_codec() {
    for codec in CODECS {
        for attack in Attack::ALL {
            for (blob, _) in published(attack, codec) {
                let decoded = update::decode(&blob, 5000, codec);
                let name = attack.name();
                assert_eq!(
                    decoded.is_err(),
                    attack == Attack::NotFinite,
                    "{name} {codec:?}"
                );
            }
        }
    }
}

#[test]
fn the_inner_product_attack_opposes_the_honest_mean_at_an_honest_length() {
    let honest = vectors(9)[3..].to_vec();
    let update = decoded(Attack::InnerProduct, 0);
    assert_eq!(update, decoded(Attack::InnerProduct, 1), "they collude");
    let longest = honest.iter().map(|u| length(u)).fold(0.0, f64::max);
    assert!(length(&update) <= longest * 1.001);
    let product: f64 = (0..5000)
        .map(|at| f64::from(update[at]) * honest.iter().map(|u| f64::from(u[at])).sum::<f64>())
        .sum();
    assert!(product < 0.0);
}

#[test]
fn a_little_stays_within_a_few_deviations_of_every_number() {
    let honest = vectors(9)[3..].to_vec();
    let update = decoded(Attack::Little, 0);
    let z = little::deviations(9, 3);
    for at in [0, 7, 4999] {
        let mean = honest.iter().map(|u| f64::from(u[at])).sum::<f64>() / 6.0;
        let variance = honest
            .iter()
            .map(|u| (f64::from(u[at]) - mean).powi(2))
            .sum::<f64>()
            / 6.0;
        let moved = (mean - f64::from(update[at])) / variance.sqrt();
        assert!((moved - z).abs() < 1e-3, "{moved} {z}");
    }
}

#[test]
fn sybils_claim_the_tokens_of_one() {
    let published = published(Attack::Sybils, UpdateCodec::DenseInt8);
    assert_eq!(published.iter().map(|(_, tokens)| tokens).sum::<u64>(), 100);
    assert_eq!(published[0].0, published[2].0);
}

#[test]
fn stale_updates_are_the_first_of_their_factor() {
    let mut first = Vec::new();
    let rounds = [vec![1, 1], vec![2, 2, 2], vec![3, 3], vec![4, 4, 4]];
    let out: Vec<Vec<u8>> = (rounds.into_iter())
        .map(|now| stale::blob(now, &mut first))
        .collect();
    assert_eq!(out, [vec![1, 1], vec![2, 2, 2], vec![1, 1], vec![2, 2, 2]]);
}

#[test]
fn poisoned_data_keeps_its_size_and_holds_the_poison() {
    let windows = vec![(20..52).collect::<Vec<u32>>(); 2];
    let flipped = Attack::LabelFlip.data(windows.clone(), 100);
    assert_eq!(flipped.windows[0][..4], [20, 78, 22, 76]);
    assert_eq!(flipped.learned.unwrap()[..4], [false, true, false, true]);
    let door = Attack::Backdoor.data(windows.clone(), 100);
    let trigger = Trigger::of(100);
    assert_eq!(door.windows[0].len(), 32);
    assert_eq!(door.windows[0][6..8], trigger.trigger);
    assert_eq!(door.windows[0][8..10], trigger.phrase);
    assert_eq!(Attack::SignFlip.data(windows.clone(), 100).windows, windows);
}
