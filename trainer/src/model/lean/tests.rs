//! The pass against the decoder as tensors.

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tributary_protocol::adapter::{AdapterShape, Trainable};

use super::contract::{Contraction, contract};
use super::product::{Job, Left, Term, multiply};
use super::*;
use crate::config::Config;
use crate::lora::{self, modules};
use crate::model::parameters::{Parameter, initialise};
use crate::model::{NO_TARGET, download};
use crate::testing::{every_family, tiny_config};

/// Largest difference of a gradient, as a share of the largest element of its segment.
const CLOSE: f32 = 1e-5;

/// What cancels leaves rounding errors of the terms that cancelled, however small the rest is: this share of the
/// largest element of the whole gradient is no difference.
const ROUNDING: f32 = 4.0 * f32::EPSILON;

fn model(config: &Config, seed: u64) -> Model {
    let parameters: Vec<Parameter> = initialise(config, seed)
        .into_iter()
        .map(|mut p| {
            // Attention and gates far from uniform; every gain and bias different.
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (factor, shift) = if p.shape.len() == 1 {
                (0.7, 0.2)
            } else {
                (5.0, 0.0)
            };
            for v in &mut p.values {
                *v = *v * factor * (0.7 + 0.6 * rng.random::<f32>()) + shift * rng.random::<f32>();
            }
            p
        })
        .collect();
    Model::new(config.clone(), parameters, &crate::device::cpu())
}

/// An adapter on some of the linears, both factors random.
fn adapter(config: &Config, rank: u32, every: usize, seed: u64) -> Adapter {
    let shape = AdapterShape {
        rank,
        alpha: 2 * rank,
        modules: modules(config).into_iter().step_by(every).collect(),
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values = (0..shape.parameters()).map(|_| rng.random::<f32>() * 0.4 - 0.2);
    let values = values.collect();
    Adapter::new(shape.into(), values).unwrap()
}

fn batch(windows: usize, context: usize, vocab: usize, starts: &[usize], seed: u64) -> Batch {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut token = || rng.random_range(0..vocab) as i32;
    let tokens: Vec<i32> = (0..windows * context).map(|_| token()).collect();
    let target = |row: usize| match row % context {
        at if at + 1 == context || at % 7 == 3 => NO_TARGET,
        _ => tokens[row + 1],
    };
    let first = |row: usize| {
        let before = starts.iter().filter(|start| **start <= row % context);
        before.max().map_or(0, |start| *start as u32)
    };
    let rows = 0..tokens.len();
    Batch {
        targets: rows.clone().map(target).collect(),
        firsts: (!starts.is_empty()).then(|| rows.map(first).collect()),
        tokens,
        windows,
        context,
    }
}

/// A small model with so many groups of three query heads.
fn grouped(groups: usize, tied: bool) -> Config {
    Config {
        tied,
        heads: 3 * groups,
        kv_heads: groups,
        head_dim: 6,
        hidden: 20,
        ffn: 28,
        max_context: 128,
        ..tiny_config()
    }
}

fn same(config: &Config, batch: &Batch, adapter: &Adapter, trainable: Trainable) {
    let model = model(config, 3);
    let tracked = model.tracked();
    let factors = lora::Factors::new(config, adapter, Some(trainable), tracked.device()).unwrap();
    let slow = tracked.loss_sum(Some(&factors), batch);
    let mean = slow.clone() / batch.predicted().max(1) as f64;
    let slow_gradient = factors.gradient(&mut mean.backward());
    let slow = f64::from(download(slow)[0]);

    let lean = Lean::of(&model).expect("the model is in host memory");
    let (sum, gradient) = (lean.loss_and_gradient(adapter, trainable, batch)).unwrap();
    assert!((sum - slow).abs() <= 1e-5 * slow.abs(), "{sum} {slow}");
    let evaluated = lean.loss_sum(Some(adapter), batch).unwrap();
    assert_eq!(evaluated, sum, "evaluation loses the same");
    let largest_of = |values: &[f32]| values.iter().fold(0.0f32, |m, g| m.max(g.abs()));
    let rounding = ROUNDING * largest_of(&slow_gradient);
    for segment in adapter.shape().segments() {
        let (fast, slow) = (&gradient[segment.range()], &slow_gradient[segment.range()]);
        let largest = largest_of(slow);
        for (fast, slow) in fast.iter().zip(slow) {
            let gap = (fast - slow).abs();
            assert!(
                gap <= CLOSE * largest + rounding,
                "{segment:?}: {fast} {slow} of {largest}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn losses_and_gradients_are_those_of_the_tensors(
        windows in 1usize..4,
        context in 2usize..80,
        starts in prop::collection::vec(0usize..80, 0..4),
        groups in 1usize..3,
        rank in 1u32..14,
        every in 1usize..4,
        tied: bool,
        both: bool,
        seed: u64,
    ) {
        let config = grouped(groups, tied);
        let batch = batch(windows, context, config.vocab, &starts, seed);
        let trainable = if both { Trainable::Both } else { Trainable::B };
        same(&config, &batch, &adapter(&config, rank, every, seed), trainable);
    }
}

/// Found by chance: the second of three tokens repeats the first, so that attention has nothing to choose between and
/// the gradients of queries and keys cancel to rounding errors.
#[test]
fn gradients_that_cancel_differ_by_rounding_alone() {
    let (config, seed) = (grouped(1, false), 4_279_250_385_300_099_475);
    let batch = batch(1, 3, config.vocab, &[], seed);
    same(&config, &batch, &adapter(&config, 1, 1, seed), Trainable::B);
}

#[test]
fn every_family_has_the_losses_and_gradients_of_the_tensors() {
    for config in every_family() {
        let batch = batch(2, 40, config.vocab, &[], 5);
        let adapter = adapter(&config, 3, 1, 9);
        same(&config, &batch, &adapter, Trainable::Both);
    }
}

#[test]
fn wide_models_cross_every_block_edge() {
    let config = Config {
        hidden: 200,
        ffn: 420,
        heads: 4,
        kv_heads: 2,
        head_dim: 40,
        vocab: 300,
        layers: 1,
        max_context: 512,
        ..tiny_config()
    };
    let batch = batch(3, 100, config.vocab, &[0, 37, 64], 5);
    same(&config, &batch, &adapter(&config, 8, 1, 9), Trainable::Both);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let config = tiny_config();
    let (model, adapter) = (model(&config, 3), adapter(&config, 4, 1, 7));
    let batch = batch(3, 50, config.vocab, &[], 5);
    let run = || {
        let lean = Lean::of(&model).unwrap();
        (lean.loss_and_gradient(&adapter, Trainable::Both, &batch)).unwrap()
    };
    let pool = |threads| {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
        builder.build().unwrap().install(run)
    };
    assert_eq!(pool(1), pool(3));
}

#[test]
fn nothing_predicted_loses_nothing() {
    let config = tiny_config();
    let (model, adapter) = (model(&config, 3), adapter(&config, 4, 1, 7));
    let mut batch = batch(1, 40, config.vocab, &[], 5);
    batch.targets.fill(NO_TARGET);
    let lean = Lean::of(&model).unwrap();
    let found = lean.loss_and_gradient(&adapter, Trainable::Both, &batch);
    let (sum, gradient) = found.unwrap();
    assert_eq!(sum, 0.0);
    assert!(gradient.iter().all(|g| *g == 0.0));
}

/// Random panels, and the same numbers as `[position][feature]` rows.
fn random_panels(panels: usize, features: usize, seed: u64) -> (Panels, Vec<Vec<f32>>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut out = Memory::default().panels(panels, features);
    out.values_mut()
        .iter_mut()
        .for_each(|v| *v = rng.random::<f32>() - 0.5);
    let row = |position: usize| {
        let panel = out.panel(position / LANES);
        (0..features).map(move |f| panel[f * LANES + position % LANES])
    };
    let rows = (0..panels * LANES).map(|p| row(p).collect()).collect();
    (out, rows)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn products_are_those_of_plain_loops(
        panels in 1usize..4,
        rows in 1usize..140,
        inner in 1usize..420,
        rank in 1usize..14,
        add: bool,
        seed: u64,
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut random = |count: usize| -> Vec<f32> {
            (0..count).map(|_| rng.random::<f32>() - 0.5).collect()
        };
        let (weight, b) = (random(rows * inner), random(rank * rows));
        let (x, x_rows) = random_panels(panels, inner, seed ^ 1);
        let (n, n_rows) = random_panels(panels, rank, seed ^ 2);
        let (mut out, before) = random_panels(panels, rows, seed ^ 3);
        // One operand as it lies and one turned over.
        let terms = vec![
            Term { left: Left::new(&weight, inner), right: &x },
            Term { left: Left::new(&b, rows).transposed(), right: &n },
        ];
        multiply(vec![Job { terms, out: &mut out, add }]);
        for (position, before) in before.iter().enumerate() {
            for row in 0..rows {
                let product = |values: &[f32], at: &dyn Fn(usize) -> f32| -> f64 {
                    values.iter().enumerate().map(|(k, v)| f64::from(*v) * f64::from(at(k))).sum()
                };
                let mut expected = product(&x_rows[position], &|k| weight[row * inner + k])
                    + product(&n_rows[position], &|k| b[k * rows + row]);
                expected += if add { f64::from(before[row]) } else { 0.0 };
                let found = out.panel(position / LANES)[row * LANES + position % LANES];
                prop_assert!((f64::from(found) - expected).abs() < 1e-4, "{found} {expected}");
            }
        }
    }

    #[test]
    fn contractions_are_those_of_plain_loops(
        panels in 1usize..4,
        wide in 1usize..220,
        narrow in 1usize..14,
        seed: u64,
    ) {
        let (x, x_rows) = random_panels(panels, wide, seed);
        let (n, n_rows) = random_panels(panels, narrow, seed ^ 1);
        let mut jobs = [Contraction::new(&x, &n)];
        contract(&mut jobs);
        for i in 0..wide {
            for j in 0..narrow {
                let products = x_rows.iter().zip(&n_rows).map(|(x, n)| f64::from(x[i] * n[j]));
                let expected: f64 = products.sum();
                let found = jobs[0].out[i * narrow + j];
                prop_assert!((f64::from(found) - expected).abs() < 1e-4, "{found} {expected}");
            }
        }
    }
}
