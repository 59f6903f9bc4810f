//! The pass against its slow twin, and against itself in other company.

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tributary_protocol::adapter::Adapter;
use tributary_protocol::hash::Digest;

use super::*;
use crate::base::Base;
use crate::lora::full_shape;
use crate::reference::Reference;
use crate::test_utils::{every_family, files_of};

fn base_of(config: &Config) -> Base {
    let [config, model, tokenizer] = files_of(config);
    Base::from_bytes("tiny", &config, &model, &tokenizer).unwrap()
}

fn adapter_of(config: &Config, rank: u32, seed: u64) -> Adapter {
    let shape = Arc::new(full_shape(config, rank, 2 * rank));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = || rng.random::<f32>() * 0.4 - 0.2;
    let values = (0..shape.parameters()).map(|_| draw()).collect();
    Adapter::new(shape, values).unwrap()
}

fn loaded(config: &Config, adapter: &Adapter) -> LoadedAdapter {
    LoadedAdapter::new(config, adapter, Digest::default()).unwrap()
}

fn forward(base: &Base, precision: Precision, threads: usize) -> Forward {
    let parameters = base.parameters.iter().cloned();
    let parameters = parameters.map(|p| PackedParameter::new(p, precision));
    Forward::new(&base.info, parameters, precision, threads, (1024, 64))
}

fn tokens(count: usize, seed: u64) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(0..48)).collect()
}

/// Root of the mean square of the differences, as a part of that of `b`.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    let differences: f32 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    (differences / b.iter().map(|b| b * b).sum::<f32>()).sqrt()
}

#[test]
fn logits_are_those_of_the_slow_twin_in_every_family() {
    for config in every_family() {
        let base = base_of(&config);
        let adapter = adapter_of(&config, 3, 5);
        // None of its keys lies so close to the middle of two bf16 that the twin takes the other one.
        let text = tokens(40, 2);
        for adapter in [None, Some(&adapter)] {
            let mut twin = Reference::new(&base, adapter, 64).unwrap();
            let expected: Vec<f32> = text.iter().flat_map(|token| twin.read(*token)).collect();
            let adapter = adapter.map(|adapter| loaded(&config, adapter));
            // Bytes of so small and random a model differ by 0.06 to 0.21, and by others of these after any other rounding.
            for (precision, bound) in [(Precision::F32, 1e-5), (Precision::Int8, 0.3)] {
                let mut forward = forward(&base, precision, 2);
                forward.step(&[Span {
                    tokens: &text,
                    position: 0,
                    pages: &[3, 1],
                    adapter: adapter.as_ref(),
                    logits: text.len(),
                }]);
                let found: Vec<f32> = (0..40)
                    .flat_map(|row| forward.logits(row).to_vec())
                    .collect();
                let difference = difference(&found, &expected);
                assert!(difference < bound, "{config:?} {precision:?}: {difference}");
            }
        }
    }
}

/// A text that is read beside others.
struct Text {
    tokens: Vec<u32>,
    pages: Vec<u32>,
    adapter: Option<LoadedAdapter>,
    read: usize,
    logits: Vec<Vec<f32>>,
}

impl Text {
    fn span(&self, count: usize) -> Span<'_> {
        Span {
            tokens: &self.tokens[self.read..self.read + count],
            position: self.read,
            pages: &self.pages,
            adapter: self.adapter.as_ref(),
            logits: count,
        }
    }
}

fn texts(config: &Config, lengths: &[usize]) -> Vec<Text> {
    let mut free = (0..64).rev();
    let text = |(at, length): (usize, &usize)| Text {
        tokens: tokens(*length, at as u64),
        pages: free.by_ref().take(length.div_ceil(attend::PAGE)).collect(),
        adapter: (at % 3 > 0)
            .then(|| loaded(config, &adapter_of(config, at as u32 % 9 + 1, at as u64))),
        read: 0,
        logits: Vec::new(),
    };
    lengths.iter().enumerate().map(text).collect()
}

/// Reads all texts, as many tokens of each at a time as `count` says.
fn read(forward: &mut Forward, texts: &mut [Text], mut count: impl FnMut() -> usize) {
    loop {
        let counts: Vec<usize> = texts
            .iter()
            .map(|text| count().min(text.tokens.len() - text.read))
            .collect();
        if texts.iter().all(|text| text.read == text.tokens.len()) {
            return;
        }
        let spans = texts.iter().zip(&counts).filter(|(_, count)| **count > 0);
        let spans: Vec<Span> = spans.map(|(text, count)| text.span(*count)).collect();
        forward.step(&spans);
        let mut row = 0;
        for (text, count) in texts.iter_mut().zip(counts) {
            for _ in 0..count {
                text.logits.push(forward.logits(row).to_vec());
                row += 1;
            }
            text.read += count;
        }
    }
}

#[test]
fn a_row_comes_to_the_same_bits_alone_in_company_in_chunks_and_on_any_number_of_threads() {
    let lengths = [1, 300, 7, 33, 64, 65, 90, 5, 600];
    for config in every_family() {
        let config = Config {
            max_context: 1024,
            ..config
        };
        let base = base_of(&config);
        for precision in [Precision::F32, Precision::Int8] {
            let mut expected: Vec<Text> = texts(&config, &lengths);
            let mut alone = forward(&base, precision, 1);
            for text in &mut expected {
                read(&mut alone, std::slice::from_mut(text), || 1);
            }
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            for threads in [1, 3] {
                let mut together = texts(&config, &lengths);
                let mut forward = forward(&base, precision, threads);
                read(&mut forward, &mut together, || {
                    match rng.random_range(0..3) {
                        0 => 1,
                        1 => rng.random_range(0..40),
                        _ => rng.random_range(0..400),
                    }
                });
                for (at, (found, expected)) in together.iter().zip(&expected).enumerate() {
                    for (row, (found, expected)) in
                        found.logits.iter().zip(&expected.logits).enumerate()
                    {
                        let same = found.iter().zip(expected).all(|(a, b)| a == b);
                        assert!(same, "{precision:?} {threads} text {at} row {row}");
                    }
                }
            }
        }
    }
}

/// Mean loss in nats over windows of 256 tokens of the text that brook was not trained on.
fn loss(precision: Precision) -> f64 {
    let base = Base::brook().unwrap();
    let mut forward = forward(&base, precision, 2);
    let text = base.info.tokenizer.encode(crate::brook::HELD_OUT_SAMPLE);
    let text = text.unwrap();
    let (mut sum, mut count) = (0.0, 0);
    for window in text.chunks_exact(256).take(24) {
        forward.step(&[Span {
            tokens: window,
            position: 0,
            pages: &[0, 1, 2, 3, 4, 5, 6, 7],
            adapter: None,
            logits: window.len(),
        }]);
        for (row, next) in window[1..].iter().enumerate() {
            let logits = forward.logits(row).iter().map(|logit| f64::from(*logit));
            let largest = logits.clone().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = logits.clone().map(|logit| (logit - largest).exp()).sum();
            let own = f64::from(forward.logits(row)[*next as usize]);
            sum += largest + total.ln() - own;
            count += 1;
        }
    }
    sum / f64::from(count)
}

#[test]
fn bytes_cost_brook_less_than_a_two_hundredth_of_its_perplexity() {
    let (exact, bytes) = (loss(Precision::F32), loss(Precision::Int8));
    let ratio = (bytes - exact).exp();
    println!("perplexity {:.4}, with bytes {ratio:.5} of it", exact.exp());
    assert!(ratio < 1.005, "{ratio}");
}

/// Logits of some texts that are read together, and of their next tokens.
#[cfg(target_arch = "x86_64")]
fn bits(base: &Base, precision: Precision, lengths: &[usize]) -> Vec<u32> {
    let mut texts = texts(&base.info.config, lengths);
    let mut forward = forward(base, precision, 2);
    let mut counts = [33, 1, 20, 2].into_iter().cycle();
    read(&mut forward, &mut texts, || counts.next().unwrap());
    let logits = texts.iter().flat_map(|text| text.logits.iter().flatten());
    logits.map(|logit| logit.to_bits()).collect()
}

#[cfg(target_arch = "x86_64")]
#[test]
fn every_vector_unit_comes_to_the_same_bits() {
    use crate::model::vector::{Unit, unit};
    let tiny = every_family().into_iter().map(|config| {
        // More than one block of attention and one panel of everything.
        let config = Config {
            hidden: 80,
            ffn: 144,
            max_context: 1024,
            ..config
        };
        (base_of(&config), vec![1, 300, 7, 65, 90])
    });
    let brook = (Base::brook().unwrap(), vec![5, 1, 40]);
    for (base, lengths) in tiny.chain([brook]) {
        for precision in [Precision::F32, Precision::Int8] {
            let on = |best| unit::up_to(best, || bits(&base, precision, &lengths));
            let portable = on(Unit::Portable);
            assert!(
                portable
                    .iter()
                    .all(|bits| f32::from_bits(*bits).is_finite())
            );
            for best in [Unit::Avx2, Unit::Avx512, Unit::Best] {
                // Where the processor lacks a unit this is the next best one again.
                assert!(
                    on(best) == portable,
                    "{:?} {precision:?} {best:?}",
                    base.info.config
                );
            }
        }
    }
}
