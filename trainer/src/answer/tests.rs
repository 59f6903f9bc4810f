//! One pass over an answer against one pass per prefix.

use super::*;
use crate::data::Windows;
use crate::evaluate::evaluate;
use crate::testing::{base_of, every_family, random_adapter, tiny_base};

#[test]
fn an_answers_loss_is_over_its_own_tokens() {
    let base = tiny_base();
    let adapter = random_adapter(&base, 3, 1);
    let whole = Windows::from_text(&base, "abcdefg", 16).unwrap();
    let start = Windows::from_text(&base, "abcd", 16).unwrap();
    let sum = |w: &Windows| {
        let e = evaluate(&base, Some(&adapter), w).unwrap();
        e.nll * e.predicted as f64
    };
    let ask = |prompt: &str, answer: &str| {
        let [prompt, answer] = [prompt, answer].map(|text| base.encode(text).unwrap());
        tokens_loss_and_gradient(&base, &adapter, &prompt, &answer)
    };
    let answer = ask("abcd", "efg").unwrap();
    assert_eq!(answer.predicted, 3);
    assert!((answer.loss * 3.0 - (sum(&whole) - sum(&start))).abs() < 1e-4);
    // Without a prompt the first token has nothing before it.
    let bare = ask("", "abcd").unwrap();
    assert_eq!(bare.predicted, 3);
    let nothing = ask("abc", "");
    assert!(matches!(nothing, Err(GradientError::Nothing)));
}

/// Loss of a text prefix by prefix: what it grows by with each token.
fn losses_by_prefixes(base: &BaseModel, adapter: Option<&Adapter>, text: &[u32]) -> Vec<f64> {
    let sum = |length: usize| match length {
        0 | 1 => 0.0,
        _ => {
            let prefix = vec![text[..length].to_vec()];
            let windows = Windows::from_tokens(prefix, length, base.config().vocab).unwrap();
            let found = evaluate(base, adapter, &windows).unwrap();
            found.nll * found.predicted as f64
        }
    };
    (1..=text.len()).map(|n| sum(n) - sum(n - 1)).collect()
}

fn text(length: usize, vocab: usize) -> Vec<u32> {
    let id = |at: usize| (at * at * 7 + at * 13 + 5) % (vocab - 3) + 3;
    (0..length).map(|at| id(at) as u32).collect()
}

#[test]
fn one_pass_gives_the_losses_that_prefixes_give() {
    for config in every_family() {
        let base = base_of(&config);
        let adapter = random_adapter(&base, 3, 1);
        let text = text(60, config.vocab);
        for adapter in [None, Some(&adapter)] {
            let slow = losses_by_prefixes(&base, adapter, &text);
            for prompt in [0, 1, 2, 31, 32, 59, 60] {
                let (before, said) = text.split_at(prompt);
                let fast = token_losses(&base, adapter, before, said).unwrap();
                assert_eq!(fast.len(), said.len());
                for (fast, slow) in fast.iter().zip(&slow[prompt..]) {
                    assert!((fast - slow).abs() < 1e-4, "{prompt}: {fast} {slow}");
                }
            }
        }
    }
}

#[test]
fn tensors_give_the_losses_of_the_pass_in_host_memory() {
    let base = tiny_base();
    let adapter = random_adapter(&base, 3, 1);
    let batch = padded_batch(&[&text(50, 48)], 9);
    let model = base.model();
    let factors = Factors::new(model.config(), &adapter, None, model.device()).unwrap();
    let slow = model.losses(Some(&factors), &batch);
    let fast = model
        .lean()
        .unwrap()
        .losses(Some(&adapter), &batch)
        .unwrap();
    assert_eq!(fast.len(), slow.len());
    for (fast, slow) in fast.iter().zip(&slow) {
        assert!((fast - slow).abs() < 1e-5 * slow.max(1.0), "{fast} {slow}");
    }
    assert_eq!(fast.iter().filter(|loss| **loss > 0.0).count(), 41);
}

#[test]
fn stretches_of_one_pass_have_the_gradients_of_prefixes() {
    for config in every_family() {
        let base = base_of(&config);
        let adapter = random_adapter(&base, 3, 1);
        let text = text(61, config.vocab);
        for (prompt, each) in [(0, 8), (1, 3), (5, 7), (30, 32), (60, 2)] {
            let (before, said) = text.split_at(prompt);
            let fast = stretch_gradients(&base, &adapter, before, said, each).unwrap();
            let stretches = said.chunks(each).enumerate();
            let slow: Vec<Vec<f32>> = stretches
                .map(|(at, said)| {
                    let before = &text[..prompt + at * each];
                    let found = tokens_loss_and_gradient(&base, &adapter, before, said).unwrap();
                    let predicted = found.predicted as f32;
                    found.gradient.iter().map(|g| predicted * g).collect()
                })
                .collect();
            assert_eq!(fast.len(), slow.len());
            for (fast, slow) in fast.iter().zip(&slow) {
                let largest = slow.iter().fold(0.0f32, |m, g| m.max(g.abs()));
                assert!(largest > 0.0);
                for (fast, slow) in fast.iter().zip(slow) {
                    assert!((fast - slow).abs() <= 1e-5 * largest, "{fast} {slow}");
                }
            }
        }
    }
}

#[test]
fn a_text_beyond_the_models_context_is_refused_and_one_that_fills_it_is_not() {
    let base = tiny_base();
    let adapter = random_adapter(&base, 2, 1);
    assert_eq!(most_tokens(&base), 64);
    let text = text(65, 48);
    let whole = token_losses(&base, None, &text[..4], &text[4..64]).unwrap();
    assert_eq!(whole.len(), 60);
    let long = token_losses(&base, None, &text[..4], &text[4..]);
    let message = long.unwrap_err().to_string();
    assert!(
        message.contains("65 tokens") && message.contains("reads 64"),
        "{message}"
    );
    let long = stretch_gradients(&base, &adapter, &text[..4], &text[4..], 9);
    assert!(matches!(
        long,
        Err(GradientError::TooLong {
            found: 65,
            most: 64
        })
    ));
    let one = stretch_gradients(&base, &adapter, &[], &text[..1], 2);
    assert!(matches!(one, Err(GradientError::Nothing)));
}
