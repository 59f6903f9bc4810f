//! Every fused operation against its slow twin: outputs and all gradients, at ragged sizes.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::Config;
use crate::lora::Pair;
use crate::model::rope::RopeTable;
use crate::model::{Batch, NO_TARGET, download, plain, upload};
use crate::testing::tiny_config;

fn random(seed: u64, rows: usize, cols: usize) -> Tensor<2> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values = (0..rows * cols)
        .map(|_| rng.random::<f32>() * 4.0 - 2.0)
        .collect();
    let device: Device = crate::device::cpu().autodiff();
    upload(values, [rows, cols], &device)
}

fn close(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let size = b.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= 2e-5 * size, "{what} at {i}: {a} {b}");
    }
}

/// Runs both forms on the same numbers; the inputs marked true are tracked.
fn compare<const N: usize>(
    inputs: [Tensor<2>; N],
    tracked: [bool; N],
    fused: impl Fn([Tensor<2>; N]) -> Tensor<2>,
    plain: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) {
    let run = |operation: &dyn Fn([Tensor<2>; N]) -> Tensor<2>| {
        let mut marks = tracked.iter();
        let leaves = inputs.clone().map(|t| match marks.next() {
            Some(true) => t.detach().require_grad(),
            _ => t,
        });
        let output = operation(leaves.clone());
        let [rows, cols] = output.dims();
        // A different weight for every output, so that no mistake cancels.
        let loss = (output.clone() * random(99, rows, cols)).sum();
        let mut gradients = loss.backward();
        let pulled = leaves.map(|leaf| leaf.grad_remove(&mut gradients).map(download));
        (download(output), pulled)
    };
    let (fast, slow) = (run(&fused), run(&plain));
    close(&fast.0, &slow.0, "output");
    for (i, (fast, slow)) in fast.1.iter().zip(&slow.1).enumerate() {
        match (fast, slow) {
            (Some(fast), Some(slow)) => close(fast, slow, &format!("gradient of input {i}")),
            (None, None) => assert!(!tracked[i]),
            _ => panic!("only one form has a gradient of input {i}"),
        }
    }
}

#[test]
fn norm_matches_its_twin() {
    for (rows, width) in [(1, 1), (5, 33), (700, 64)] {
        for tracked in [[true, true], [true, false], [false, true]] {
            compare(
                [random(1, rows, width), random(2, 1, width)],
                tracked,
                |[x, gain]| super::rms_norm(x, gain.reshape([width]), 1e-5),
                |[x, gain]| plain::rms_norm(x, gain.reshape([width]), 1e-5),
            );
        }
    }
}

#[test]
fn gate_matches_its_twin() {
    for (rows, width) in [(1, 1), (7, 45), (300, 130)] {
        compare(
            [random(1, rows, width) * 6.0, random(2, rows, width)],
            [true, true],
            |[gate, up]| super::swiglu(gate, up),
            |[gate, up]| plain::swiglu(gate, up),
        );
    }
}

#[test]
fn linear_matches_its_twin_whatever_is_frozen() {
    let pair = |a, b| Pair { a, b, scale: 0.75 };
    // A single row has a path of its own.
    for (rows, rank) in [(11, 1), (11, 3), (11, 4), (11, 9), (1, 4)] {
        for tracked in 1..16u32 {
            let tracked = [0, 1, 2, 3].map(|bit| tracked >> bit & 1 == 1);
            compare(
                [
                    random(1, rows, 20),
                    random(2, 37, 20),
                    random(3, rank, 20),
                    random(4, 37, rank),
                ],
                tracked,
                |[x, w, a, b]| super::linear(x, w, Some(&pair(a, b))),
                |[x, w, a, b]| plain::linear(x, w, Some(&pair(a, b))),
            );
        }
        compare(
            [random(1, rows, 20), random(2, 37, 20)],
            [true, true],
            |[x, w]| super::linear(x, w, None),
            |[x, w]| plain::linear(x, w, None),
        );
    }
}

/// A batch whose tokens do not matter, with documents that start at `starts` in every window.
fn shaped(windows: usize, context: usize, starts: Option<&[usize]>) -> Batch {
    let first = |starts: &[usize], position| {
        let before = starts.iter().filter(|start| **start <= position);
        before.max().map_or(0, |start| *start as u32)
    };
    let firsts = |starts| {
        (0..windows * context)
            .map(|row| first(starts, row % context))
            .collect()
    };
    Batch {
        tokens: vec![0; windows * context],
        targets: vec![NO_TARGET; windows * context],
        windows,
        context,
        firsts: starts.map(firsts),
    }
}

fn compare_attention(heads: usize, kv_heads: usize, batch: &Batch) {
    let config = Config {
        heads,
        kv_heads,
        head_dim: 8,
        ..tiny_config()
    };
    let table = Arc::new(RopeTable::of_system(&config, batch.context));
    let rows = batch.tokens.len();
    compare(
        [
            random(1, rows, heads * 8),
            random(2, rows, kv_heads * 8),
            random(3, rows, kv_heads * 8),
        ],
        [true; 3],
        |[q, k, v]| super::attention(q, k, v, &table, &config, batch),
        |[q, k, v]| plain::attention(q, k, v, &table, &config, batch),
    );
}

#[test]
fn attention_matches_its_twin_across_block_edges() {
    for (heads, kv_heads, context, windows) in [
        (4, 2, 5, 3),
        (2, 2, 64, 1),
        (3, 1, 65, 2),
        (4, 4, 130, 1),
        (1, 1, 1, 2),
    ] {
        compare_attention(heads, kv_heads, &shaped(windows, context, None));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn attention_matches_its_twin_whatever_documents_share_a_window(
        windows in 1usize..3,
        context in 1usize..150,
        starts in prop::collection::vec(0usize..150, 0..6),
        kv_heads in 1usize..3,
    ) {
        compare_attention(2 * kv_heads, kv_heads, &shaped(windows, context, Some(&starts)));
    }
}

#[test]
fn one_document_per_window_costs_and_gives_the_same_as_a_whole_window() {
    let config = tiny_config();
    let table = Arc::new(RopeTable::of_system(&config, 70));
    let run = |batch: &Batch| {
        let (width, kv_width) = (config.query_width(), config.kv_width());
        let [q, k, v] = [(1, width), (2, kv_width), (3, kv_width)].map(|(s, w)| random(s, 140, w));
        download(super::attention(q, k, v, &table, &config, batch))
    };
    assert_eq!(
        run(&shaped(2, 70, None)),
        run(&shaped(2, 70, Some(&[0]))),
        "same bytes"
    );
}

#[test]
fn cross_entropy_matches_its_twin_across_slices() {
    for rows in [3, 1024, 1500] {
        let targets: Vec<i32> = (0..rows)
            .map(|i| if i % 5 == 2 { NO_TARGET } else { i * 7 % 19 })
            .collect();
        for tracked in [[true, true], [true, false], [false, true]] {
            compare(
                [random(1, rows as usize, 6), random(2, 19, 6)],
                tracked,
                |[h, w]| super::cross_entropy_sum(h, w, &targets).reshape([1, 1]) / 10.0,
                |[h, w]| plain::cross_entropy_sum(h, w, &targets).reshape([1, 1]) / 10.0,
            );
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let run = || {
        let (x, gain) = (
            random(1, 3000, 64).require_grad(),
            random(2, 1, 64).require_grad(),
        );
        let output = super::rms_norm(x.clone(), gain.clone().reshape([64]), 1e-5);
        let mut gradients = (output * random(3, 3000, 64)).sum().backward();
        [x, gain].map(|leaf| download(leaf.grad_remove(&mut gradients).unwrap()))
    };
    let pool = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
    };
    assert_eq!(pool(1).install(run), pool(3).install(run));
}
