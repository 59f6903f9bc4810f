//! Rows without zeros give what whole vectors give, to the last bit, and survive being written.

use proptest::prelude::*;
use tributary_protocol::hash::Digest;

use super::*;
use crate::query::{Moved, influences};

fn peer(n: usize) -> PeerId {
    PeerId(Digest::from_bytes([n as u8; 32]))
}

/// A vector of which about one in `rare` numbers is not zero.
fn vector(len: usize, rare: u32) -> impl Strategy<Value = Vec<f32>> {
    let number = (0..rare, -3.0f32..3.0).prop_map(|(draw, v)| if draw == 0 { v } else { 0.0 });
    prop::collection::vec(number, len)
}

/// Rounds of contributions by some of five peers.
fn rounds(len: usize, rare: u32) -> impl Strategy<Value = Vec<Vec<(PeerId, Vec<f32>)>>> {
    let round = prop::collection::btree_map(0usize..5, vector(len, rare), 0..5);
    let round = round.prop_map(|by| by.into_iter().map(|(n, v)| (peer(n), v)).collect());
    prop::collection::vec(round, 1..5)
}

fn both(rounds: &[Vec<(PeerId, Vec<f32>)>]) -> (Stage, Moved) {
    let (mut stage, mut moved) = (Stage::default(), Moved::default());
    for round in rounds {
        stage.add(round).expect("vectors of one length");
        moved.add(round).expect("vectors of one length");
    }
    (stage, moved)
}

type Case = (Vec<Vec<(PeerId, Vec<f32>)>>, Vec<Vec<f32>>);

/// Lengths around a chunk and around the lanes, rows from nearly empty to nearly full.
fn case() -> impl Strategy<Value = Case> {
    let len = prop_oneof![1usize..40, CHUNK - 2..CHUNK + 11, Just(2 * CHUNK + 3)];
    (len, 1u32..70).prop_flat_map(|(len, rare)| {
        let gradients =
            prop::collection::vec(prop::collection::vec(-5.0f32..5.0, len), 1..WIDE + 3);
        (rounds(len, rare), gradients)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn influences_equal_those_of_whole_vectors_to_the_last_bit((rounds, gradients) in case()) {
        let (stage, moved) = both(&rounds);
        let views: Vec<&[f32]> = gradients.iter().map(Vec::as_slice).collect();
        let found = stage.influences(&views).expect("finite");
        for (at, gradient) in gradients.iter().enumerate() {
            let slow = influences(gradient, moved.iter()).expect("finite");
            let fast: Vec<(PeerId, f64)> = found.iter().map(|(p, by)| (*p, by[at])).collect();
            prop_assert_eq!(fast, slow);
        }
    }

    #[test]
    fn a_written_stage_is_read_as_it_was_and_a_cut_one_is_refused(
        (rounds, _) in case(), cut in any::<prop::sample::Index>(),
    ) {
        let (stage, _) = both(&rounds);
        let mut bytes = Vec::new();
        stage.write(&mut bytes);
        let mut rest = &bytes[..];
        prop_assert_eq!(Stage::read(&mut rest), Some(stage));
        prop_assert!(rest.is_empty());
        prop_assert_eq!(Stage::read(&mut &bytes[..cut.index(bytes.len())]), None);
    }

    #[test]
    fn any_bytes_are_answered_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let read = Stage::read(&mut &bytes[..]);
        prop_assert!(read.is_none_or(|stage| stage.bytes() <= bytes.len()));
    }
}

#[test]
fn a_sparse_row_takes_room_for_what_it_moved_only() {
    let mut stage = Stage::default();
    let mut vector = vec![0.0f32; 10_000];
    vector[7] = 1.0;
    stage.add(&[(peer(1), vector.clone())]).expect("fits");
    assert_eq!(stage.bytes(), 8);
    vector.fill(2.0);
    stage.add(&[(peer(1), vector)]).expect("fits");
    assert_eq!(stage.bytes(), 40_000, "a full row needs no places");
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let mut stage = Stage::default();
    stage.add(&[(peer(1), vec![1.0, 0.0])]).expect("fits");
    let before = stage.clone();
    let short = stage.add(&[(peer(1), vec![1.0, 1.0]), (peer(2), vec![1.0])]);
    assert!(matches!(
        short,
        Err(QueryError::Length {
            expected: 2,
            found: 1,
            ..
        })
    ));
    let wild = stage.add(&[(peer(2), vec![f32::NAN, 0.0])]);
    assert_eq!(wild, Err(QueryError::Vector(peer(2))));
    assert_eq!(stage, before);
    let long = stage.influences(&[&[1.0, 2.0, 3.0]]);
    assert!(matches!(long, Err(QueryError::Length { .. })));
    assert_eq!(
        stage.influences(&[&[f32::NAN, 0.0]]),
        Err(QueryError::Gradient)
    );
}
