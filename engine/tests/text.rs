//! The text of an answer while its tokens come, against decoding the whole.

use std::sync::LazyLock;

use proptest::prelude::*;

use tributary_engine::brook;
use tributary_engine::test_utils::sentencepiece_tokenizer;
use tributary_engine::text::{Shown, Text};
use tributary_engine::tokenizer::Tokenizer;

/// The embedded model's, which is one of bytes.
fn brook() -> Tokenizer {
    static LOADED: LazyLock<Tokenizer> = LazyLock::new(|| brook::tokenizer().unwrap());
    LOADED.clone()
}

/// Cut before the stop string that is complete first, one character after the other.
fn cut<'a>(whole: &'a str, stops: &[String]) -> &'a str {
    for (at, character) in whole.char_indices() {
        let read = &whole[..at + character.len_utf8()];
        let ended = stops.iter().filter(|stop| read.ends_with(stop.as_str()));
        if let Some(longest) = ended.map(String::len).max() {
            return &whole[..read.len() - longest];
        }
    }
    whole
}

/// What is shown at each token and at the end.
fn shown(tokenizer: &Tokenizer, ids: &[u32], stops: &[String]) -> Vec<Shown> {
    let mut text = Text::new(tokenizer, stops.to_vec());
    let mut all = Vec::new();
    for id in ids {
        all.push(text.push(tokenizer, *id));
        if all.last().unwrap().stopped {
            return all;
        }
    }
    all.push(text.finish(tokenizer));
    all
}

fn joined(all: &[Shown]) -> String {
    all.iter().map(|shown| shown.text.as_str()).collect()
}

fn stops() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[ab \u{e9}\u{1f30a}]{1,4}", 0..4)
}

proptest! {
    #[test]
    fn what_is_shown_of_any_tokens_is_the_text_of_the_whole(
        ids in prop::collection::vec(0u32..4100, 0..60)
    ) {
        let tokenizer = brook();
        let all = shown(&tokenizer, &ids, &[]);
        prop_assert_eq!(joined(&all), tokenizer.decode(&ids).unwrap());
        prop_assert_eq!(all.iter().map(|s| s.tokens).sum::<usize>(), ids.len());
    }

    #[test]
    fn what_is_shown_ends_before_the_first_stop_string(
        text in "[ab \u{e9}\u{1f30a}]{0,30}", stops in stops(), is_byte_level: bool
    ) {
        let tokenizer = if is_byte_level { brook() } else { sentencepiece_tokenizer() };
        let ids = tokenizer.encode(&text).unwrap();
        let whole = tokenizer.decode(&ids).unwrap();
        prop_assert_eq!(&whole, &text);
        let all = shown(&tokenizer, &ids, &stops);
        prop_assert_eq!(joined(&all), cut(&whole, &stops));
        let is_cut = joined(&all).len() < whole.len();
        prop_assert_eq!(all.last().unwrap().stopped, is_cut);
    }

    #[test]
    fn tokens_belong_to_what_is_shown(text in "[ab \u{e9}\u{1f30a}]{0,30}", stops in stops()) {
        let tokenizer = brook();
        let ids = tokenizer.encode(&text).unwrap();
        let bytes = |tokens: usize| -> usize {
            ids[..tokens].iter().map(|id| tokenizer.token_bytes(*id).len()).sum()
        };
        let (mut told, mut tokens) = (0, 0);
        for shown in shown(&tokenizer, &ids, &stops) {
            told += shown.text.len();
            tokens += shown.tokens;
            match shown.stopped {
                // The last one may reach into the stop string.
                true => prop_assert!(tokens == 0 || bytes(tokens - 1) < told),
                false => prop_assert!(bytes(tokens) <= told),
            }
        }
    }
}

#[test]
fn half_a_character_waits_for_its_other_half() {
    let tokenizer = brook();
    let ids = tokenizer.encode("\u{1f30a}").unwrap();
    assert!(ids.len() > 1, "the vocabulary has no such character");
    let mut text = Text::new(&tokenizer, Vec::new());
    let (last, first) = ids.split_last().unwrap();
    for id in first {
        assert_eq!(text.push(&tokenizer, *id), Shown::default());
        assert_eq!(text.characters(), 0);
    }
    let shown = text.push(&tokenizer, *last);
    assert_eq!(
        (shown.text.as_str(), shown.tokens),
        ("\u{1f30a}", ids.len())
    );
    assert_eq!(text.characters(), 1);
    // Cut within the character, the end says so.
    let all = shown_of(&tokenizer, first);
    assert_eq!(all, "\u{fffd}");
}

fn shown_of(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    joined(&shown(tokenizer, ids, &[]))
}

#[test]
fn the_beginning_of_a_stop_string_waits_until_it_is_none() {
    let tokenizer = brook();
    let stops = vec!["END".to_owned()];
    let mut text = Text::new(&tokenizer, stops);
    let mut push = |part: &str| {
        let ids = tokenizer.encode(part).unwrap();
        let shown: Vec<Shown> = ids.iter().map(|id| text.push(&tokenizer, *id)).collect();
        (joined(&shown), shown.last().unwrap().stopped)
    };
    assert_eq!(push("one E"), ("one ".into(), false));
    assert_eq!(push("N"), (String::new(), false));
    assert_eq!(push("O"), ("ENO".into(), false));
    assert_eq!(push("E"), (String::new(), false));
    assert_eq!(push("N"), (String::new(), false));
    assert_eq!(push("D"), (String::new(), true));
}

#[test]
fn every_byte_has_a_token_that_says_so() {
    let tokenizer = brook();
    let mut found = [false; 256];
    for id in 0..tokenizer.vocab_size() as u32 {
        if let [byte] = tokenizer.token_bytes(id)[..] {
            found[usize::from(byte)] = true;
        }
    }
    assert!(found.iter().all(|found| *found));
}
