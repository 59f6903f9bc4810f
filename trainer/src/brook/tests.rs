//! Tests that brook is the language model that its card describes.

use std::collections::HashSet;

use super::*;
use crate::full::{FullConfig, FullTrainer};
use crate::generate::{GenerateConfig, generate};
use crate::pretrain;
use crate::shards::DEMO_SHARDS;

const CARD: &str = include_str!("../../../engine/assets/brook/README.md");

/// The number in the card's table row that starts with `label`.
fn stated(label: &str) -> f64 {
    let row = CARD
        .lines()
        .find(|line| line.starts_with(&format!("| {label} |")));
    let cell = row
        .and_then(|row| row.split('|').nth(2))
        .expect("the card has the row");
    let number: String = cell
        .chars()
        .filter(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    number.parse().expect("a number")
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    write_to(folder.path()).expect("written");
    folder
}

#[test]
fn shape_and_size_are_what_the_card_says() {
    let config = config().expect("reads");
    let tokenizer = tokenizer().expect("reads");
    assert_eq!(config.parameters() as f64, stated("parameters"));
    assert!((3_000_000..8_000_000).contains(&config.parameters()));
    assert_eq!(tokenizer.vocab_size(), config.vocab);
    assert_eq!(tokenizer.eos_ids(), config.eos);
    let bytes: usize = FILES.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes <= 14 * 1024 * 1024, "{bytes} bytes");
}

#[test]
fn embedded_and_written_out_are_one_model() {
    let folder = folder();
    let written = BaseModel::from_dir(folder.path()).expect("loads");
    assert_eq!(load().expect("loads").hash(), written.hash());
}

#[test]
fn held_out_loss_is_the_stated_one_and_far_below_counting_words() {
    let folder = folder();
    let tokenizer = tokenizer().expect("reads");
    let end = tokenizer.eos_ids()[0];
    let tokens = pretrain::tokens_of(HELD_OUT_SAMPLE, &tokenizer, end).expect("encodes");
    let trainer = FullTrainer::load(folder.path(), FullConfig::default()).expect("loads");
    let found = pretrain::held_out_loss(&trainer, &tokens, 512)
        .expect("measures")
        .nll;
    let said = stated("loss on heldout-sample.txt");
    assert!(
        (found - said).abs() < 0.002,
        "{found} measured, {said} in the card"
    );

    // The entropy of the sample's own token counts: no guess that ignores order can be better.
    let mut counts = vec![0u32; tokenizer.vocab_size()];
    tokens.iter().for_each(|id| counts[*id as usize] += 1);
    let shares = counts
        .iter()
        .filter(|c| **c > 0)
        .map(|c| f64::from(*c) / tokens.len() as f64);
    let entropy: f64 = shares.map(|p| -p * p.ln()).sum();
    assert!(found < entropy - 1.0, "{found} against {entropy}");
}

fn words(text: &str) -> Vec<String> {
    let words = text
        .split(|c: char| !c.is_alphabetic())
        .filter(|w| !w.is_empty());
    words.map(str::to_lowercase).collect()
}

/// Real words in varied order: noise fails the first condition, a loop on one word the second.
#[test]
fn greedy_text_is_made_of_english_words_and_no_single_loop() {
    let base = load().expect("loads");
    let texts = DEMO_SHARDS.iter().map(|shard| shard.text);
    let known: HashSet<String> = texts.chain([HELD_OUT_SAMPLE]).flat_map(words).collect();
    let config = GenerateConfig {
        max_tokens: 40,
        ..GenerateConfig::default()
    };
    let (mut all, mut real, mut distinct) = (0, 0, 0);
    for prompt in [
        "She was",
        "The king said",
        "A bird is",
        "To walk is",
        "It was a very",
    ] {
        let text = generate(&base, None, prompt, &config)
            .expect("generates")
            .text;
        let said = words(&text);
        all += said.len();
        real += said.iter().filter(|w| known.contains(*w)).count();
        distinct += said.iter().collect::<HashSet<_>>().len();
    }
    assert!(all >= 100, "{all} words");
    assert!(real as f64 > 0.9 * all as f64, "{real} of {all} are words");
    assert!(
        distinct as f64 > 0.3 * all as f64,
        "{distinct} of {all} differ within a text"
    );
}
