//! Tests of the codecs and of error feedback.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::adapter::{AdapterShape, Module, Trainable};
use crate::aggregate::Layout;
use crate::id::Ppb;

fn sparse(top: u16) -> UpdateCodec {
    UpdateCodec::Sparse {
        top,
        feedback: Ppb(950_000_000),
    }
}

fn codecs() -> impl Strategy<Value = UpdateCodec> {
    let tops = prop_oneof![1u16..4, Just(64), 1u16..=4096].prop_map(sparse);
    prop_oneof![
        Just(UpdateCodec::DenseF32),
        Just(UpdateCodec::DenseInt8),
        tops
    ]
}

/// Any number an update may carry: ordinary ones, zeros, ties, subnormals, huge ones.
fn number() -> impl Strategy<Value = f32> {
    let ordinary = (-1.0f32..1.0, -6i32..3).prop_map(|(m, e)| m * 10f32.powi(e));
    let ties = prop_oneof![Just(0.5f32), Just(-0.5), Just(0.0), Just(-0.0)];
    let edges = prop_oneof![
        Just(1e-45f32),
        Just(-1e-40),
        Just(f32::MIN_POSITIVE),
        Just(1e9),
        Just(-1e9)
    ];
    prop_oneof![6 => ordinary, 3 => ties, 1 => edges]
}

fn vector() -> impl Strategy<Value = Vec<f32>> {
    let lengths = prop_oneof![4 => 1usize..300, 1 => 4090usize..4100, 1 => 8190usize..8200];
    lengths.prop_flat_map(|len| prop::collection::vec(number(), len))
}

fn squares(values: impl IntoIterator<Item = f32>) -> f64 {
    values.into_iter().map(|v| f64::from(v).powi(2)).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn error_of_an_encoding_never_exceeds_its_input(update in vector(), codec in codecs()) {
        let bytes = encode(&update, codec).expect("in range");
        prop_assert_eq!(bytes.len(), encoded_len(update.len(), codec));
        let decoded = decode(&bytes, update.len(), codec).expect("our own bytes");
        let errors = update.iter().zip(&decoded).map(|(u, d)| u - d);
        prop_assert!(squares(errors) <= squares(update.iter().copied()) * (1.0 + 1e-6));
    }

    #[test]
    fn sparse_codec_is_at_least_as_good_as_its_slow_twin(
        update in prop::collection::vec(number(), 1..200),
        top in prop_oneof![Just(64u16), 1u16..=4096],
    ) {
        let bytes = encode(&update, sparse(top)).expect("in range");
        let fast = decode(&bytes, update.len(), sparse(top)).expect("our own bytes");
        let slow = reference::sparse(&update, top);
        let miss = |out: &[f32]| squares(update.iter().zip(out).map(|(u, o)| u - o));
        // The twin minimises the error of rounded levels, the codec that of exact ones.
        let scale = squares(update.iter().copied());
        prop_assert!(miss(&fast) <= miss(&slow) + scale * 1e-6);
        let kept = |out: &[f32]| out.iter().map(|v| *v != 0.0).collect::<Vec<_>>();
        prop_assert_eq!(kept(&fast), kept(&slow));
    }

    #[test]
    fn decoder_accepts_no_second_encoding_of_a_vector(
        update in prop::collection::vec(number(), 1..200),
        codec in codecs(),
        flip in any::<prop::sample::Index>(),
    ) {
        let bytes = encode(&update, codec).expect("in range");
        let decoded = decode(&bytes, update.len(), codec).expect("our own bytes");
        let mut other = bytes.clone();
        let bit = flip.index(bytes.len() * 8);
        other[bit / 8] ^= 1 << (bit % 8);
        if let Ok(found) = decode(&other, update.len(), codec) {
            let raw = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_ne!(raw(&found), raw(&decoded));
        }
    }

    #[test]
    fn decoder_survives_any_bytes_of_the_right_length(
        seed in any::<u64>(),
        len in 1usize..5000,
        codec in codecs(),
    ) {
        let mut state = seed | 1;
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        let bytes: Vec<u8> = (0..encoded_len(len, codec)).map(|_| byte()).collect();
        if let Ok(update) = decode(&bytes, len, codec) {
            prop_assert!(update.iter().all(|v| v.abs() <= MAX_MAGNITUDE));
        }
    }

    #[test]
    fn error_feedback_telescopes(
        deltas in prop::collection::vec(prop::collection::vec(-1.0f32..1.0, 300), 1..12),
        top in 1u16..600,
    ) {
        let codec = UpdateCodec::Sparse { top, feedback: Ppb::ONE };
        let segments = [whole(300)];
        let mut feedback = Feedback::new(300);
        let mut sent = vec![0.0f64; 300];
        let mut wanted = vec![0.0f64; 300];
        for (round, delta) in deltas.iter().enumerate() {
            let bytes = feedback.prepare(delta, &segments, codec).expect("in range");
            let decoded = decode(&bytes, 300, codec).expect("our own bytes");
            let included = round % 3 != 1;
            if !included {
                let update = Packed::read(bytes.into(), 300, codec).expect("our own bytes");
                feedback.restore(&update, &Layout::whole(300));
            }
            for at in 0..300 {
                wanted[at] += f64::from(delta[at]);
                sent[at] += if included { f64::from(decoded[at]) } else { 0.0 };
            }
        }
        for at in 0..300 {
            let left = f64::from(feedback.residual()[at]);
            prop_assert!((wanted[at] - sent[at] - left).abs() < 1e-4);
        }
    }
}

fn whole(len: usize) -> Segment {
    Segment {
        module: 0,
        factor: crate::adapter::Factor::A,
        offset: 0,
        rows: 1,
        cols: len,
    }
}

fn shape() -> Arc<AdapterShape> {
    let module = |name: &str| Module {
        name: name.into(),
        inputs: 3,
        outputs: 5,
    };
    Arc::new(AdapterShape {
        rank: 2,
        alpha: 2,
        modules: vec![module("a"), module("b")],
    })
}

#[test]
fn packing_equals_its_slow_twin() {
    let codes: Vec<u16> = (0..37).map(|i| (i * 1237 + 11) % (1 << 14)).collect();
    for count in 1..codes.len() {
        let mut fast = Vec::new();
        sparse::pack(&codes[..count], &mut fast);
        assert_eq!(fast, reference::pack(&codes[..count]));
    }
}

#[test]
fn sparse_chunk_has_the_documented_bytes() {
    // Kept: 8 at 1, -4 and 4 at 3 and 4 (the tie at 5 loses to lower indices), levels 4 and 8.
    let update = [0.0, 8.0, 1.0, -4.0, 4.0, 4.0];
    let bytes = encode(&update, sparse(2048)).expect("in range");
    let mut expected = Vec::new();
    expected.extend(4f32.to_le_bytes());
    expected.extend(8f32.to_le_bytes());
    let codes = [1 | 1 << 12, 3 | 1 << 13, 4];
    expected.extend(reference::pack(&codes));
    assert_eq!(bytes, expected);
    let decoded = decode(&bytes, 6, sparse(2048)).expect("our own bytes");
    assert_eq!(decoded, [0.0, 8.0, 0.0, -4.0, 4.0, 0.0]);
}

#[test]
fn default_codec_is_136_times_smaller_than_f32() {
    let numbers = 10 * CHUNK;
    assert_eq!(encoded_len(numbers, sparse(64)), 10 * 120);
    assert_eq!(numbers * 4 / encoded_len(numbers, sparse(64)), 136);
}

#[test]
fn int8_is_within_half_a_scale_and_f32_is_exact() {
    let update: Vec<f32> = (0..5000).map(|i| ((i * 37) % 401) as f32 - 200.0).collect();
    let exact = encode(&update, UpdateCodec::DenseF32).expect("in range");
    assert_eq!(
        decode(&exact, 5000, UpdateCodec::DenseF32),
        Ok(update.clone())
    );
    let bytes = encode(&update, UpdateCodec::DenseInt8).expect("in range");
    let decoded = decode(&bytes, 5000, UpdateCodec::DenseInt8).expect("our own bytes");
    let half = 200.0 / 127.0 / 2.0 * 1.0001;
    assert!((update.iter().zip(&decoded)).all(|(u, d)| (u - d).abs() <= half));
}

#[test]
fn other_lengths_are_refused_before_anything_is_allocated() {
    let codec = sparse(64);
    let bytes = encode(&[1.0; 10], codec).expect("in range");
    for len in [0, 8000, usize::MAX / 1_000_000] {
        assert!(matches!(
            decode(&bytes, len, codec),
            Err(Rejection::Blob(_))
        ));
    }
    assert!(decode(&bytes[1..], 10, codec).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_density_is_told_by_its_length(update in vector(), codec in codecs(), most in 0u64..20_000) {
        let thin = fitting(most, update.len(), codec);
        let bytes = encode(&update, thin).expect("in range");
        prop_assert_eq!(decode(&bytes, update.len(), codec), decode(&bytes, update.len(), thin));
        let size = bytes.len() as u64;
        let told = density(size, update.len(), codec).expect("a density of the codec");
        prop_assert_eq!(encode(&update, told).expect("in range"), bytes);
        // Nothing denser would have fitted, and only the thinnest is taken when nothing does.
        let denser = codec.densities().map(|c| encoded_len(update.len(), c) as u64);
        prop_assert!(denser.filter(|d| *d <= most).all(|d| d <= size));
        let thinnest = codec.densities().map(|c| encoded_len(update.len(), c) as u64).min();
        prop_assert!(size <= most || Some(size) == thinnest);
    }
}

#[test]
fn bytes_that_are_never_written_are_refused() {
    let codec = sparse(4096);
    let chunk = |low: f32, high: f32, codes: &[u16]| {
        let mut bytes = low.to_le_bytes().to_vec();
        bytes.extend(high.to_le_bytes());
        bytes.extend(reference::pack(codes));
        bytes
    };
    let (high, minus) = (1 << 12, 1 << 13);
    let good = chunk(1.0, 2.0, &[high, 1 | minus, 2]);
    assert_eq!(decode(&good, 3, codec), Ok(vec![2.0, -1.0, 1.0]));
    let bad = [
        ("order", chunk(1.0, 2.0, &[1, high, 2])),
        ("twice", chunk(1.0, 2.0, &[high, 1, 1])),
        ("beyond", chunk(1.0, 2.0, &[high, 1, 3])),
        ("levels swapped", chunk(2.0, 1.0, &[high, 1, 2])),
        ("levels equal", chunk(1.0, 1.0, &[high, 1, 2])),
        ("no high", chunk(1.0, 2.0, &[0, 1, 2])),
        ("unused low", chunk(1.0, 2.0, &[high, 1 | high, 2 | high])),
        ("minus zero", chunk(0.0, 2.0, &[high, 1 | minus, 2])),
        ("negative level", chunk(-1.0, 2.0, &[high, 1, 2])),
        ("not a number", chunk(f32::NAN, 2.0, &[high, 1, 2])),
        ("infinite", chunk(1.0, f32::INFINITY, &[high, 1, 2])),
        ("too large", chunk(1.0, 2e9, &[high, 1, 2])),
    ];
    for (what, bytes) in bad {
        assert!(decode(&bytes, 3, codec).is_err(), "{what}");
    }
    let mut padded = good;
    *padded.last_mut().expect("not empty") |= 0x80;
    assert!(decode(&padded, 3, codec).is_err());
}

#[test]
fn int8_bytes_that_are_never_written_are_refused() {
    let chunk = |scale: f32, ints: [i8; 3]| {
        let mut bytes = scale.to_le_bytes().to_vec();
        bytes.extend(ints.map(|i| i as u8));
        bytes
    };
    let read = |bytes: &[u8]| decode(bytes, 3, UpdateCodec::DenseInt8);
    assert_eq!(read(&chunk(0.5, [127, -2, 0])), Ok(vec![63.5, -1.0, 0.0]));
    for scale in [-0.5, -0.0, 1e-40, f32::NAN, f32::INFINITY, 1e8] {
        assert!(read(&chunk(scale, [127, -2, 0])).is_err(), "{scale}");
    }
    assert!(read(&chunk(0.5, [126, 0, 0])).is_err());
    assert!(read(&chunk(0.5, [-128, 127, 0])).is_err());
    assert!(read(&chunk(0.0, [1, 0, 0])).is_err());
}

#[test]
fn diverged_training_is_an_error_that_names_the_place() {
    let found = encode(&[0.0, f32::NAN], UpdateCodec::DenseF32);
    assert_eq!(found, Err(UpdateError::OutOfRange(1)));
    let mut feedback = Feedback::new(2);
    let before = feedback.clone();
    let refused = feedback.prepare(&[f32::INFINITY, 0.0], &[whole(2)], sparse(64));
    assert_eq!(refused, Err(UpdateError::OutOfRange(0)));
    assert_eq!(feedback, before);
}

#[test]
fn gather_and_scatter_are_inverse_on_the_trainable_factor() {
    let shape = shape();
    let flat: Vec<f32> = (0..shape.parameters()).map(|i| i as f32 + 1.0).collect();
    for trainable in [Trainable::A, Trainable::B, Trainable::Both] {
        let segments = shape.trainable_segments(trainable);
        let update = gather(&flat, &segments);
        assert_eq!(
            update.len(),
            segments.iter().map(Segment::len).sum::<usize>()
        );
        let back = scatter(&update, &segments, flat.len());
        let moved: Vec<usize> = segments.iter().flat_map(Segment::range).collect();
        for (at, value) in back.iter().enumerate() {
            let expected = if moved.contains(&at) { flat[at] } else { 0.0 };
            assert_eq!(*value, expected);
        }
        assert_eq!(gather(&back, &segments), update);
    }
}

#[test]
fn residual_of_a_factor_waits_for_its_turn() {
    let shape = shape();
    let (a, b) = (
        shape.trainable_segments(Trainable::A),
        shape.trainable_segments(Trainable::B),
    );
    let mut feedback = Feedback::new(shape.parameters());
    let delta: Vec<f32> = (0..shape.parameters()).map(|i| 1.0 + i as f32).collect();
    feedback.add(&delta);
    feedback
        .prepare(&vec![0.0; delta.len()], &b, sparse(64))
        .expect("in range");
    assert_eq!(gather(feedback.residual(), &a), gather(&delta, &a));
    assert_ne!(gather(feedback.residual(), &b), gather(&delta, &b));
    let bytes = feedback.share();
    assert_eq!(Feedback::from_bytes(&bytes), Ok(feedback));
    assert!(Feedback::from_bytes(&bytes[1..]).is_err());
    assert!(Feedback::from_bytes(&f32::NAN.to_le_bytes()).is_err());
}

#[test]
fn decayed_residual_forgets_what_is_never_sent() {
    let codec = UpdateCodec::Sparse {
        top: 1,
        feedback: Ppb(500_000_000),
    };
    let mut feedback = Feedback::new(2);
    feedback.add(&[0.0, 1.0]);
    for _ in 0..3 {
        feedback
            .prepare(&[100.0, 0.0], &[whole(2)], codec)
            .expect("in range");
    }
    assert_eq!(feedback.residual(), [0.0, 0.125]);
}
