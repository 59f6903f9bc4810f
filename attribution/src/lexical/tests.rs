//! Found spans are those of the slow twin, proofs hold, and boilerplate is told from evidence.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "one span, not the numbers in it"
)]

use proptest::prelude::*;
use tributary_protocol::fingerprint::{Secret, check, grams, words};
use tributary_protocol::id::MerkleRoot;
use tributary_protocol::limits::{MAX_SPANS, MIN_SPAN_WORDS};

use super::*;
use crate::reference;

fn secret() -> Secret {
    Secret::new(b"salt", &MerkleRoot::default())
}

fn split(text: &str) -> Vec<String> {
    words(text).map(|(_, word)| word).collect()
}

/// What `text` and `shard` have in common, after the proofs are checked.
fn proven(text: &[String], shard: &str) -> Vec<Range<usize>> {
    let shard = Shard::new(shard, secret()).unwrap();
    let asked: Vec<_> = grams(text).collect();
    check(&shard.root(), text, &shard.spans(&asked)).expect("an honest holder's proofs hold")
}

fn numbers(range: Range<u32>) -> String {
    range.map(|n| format!("{n} ")).collect()
}

#[test]
fn a_quoted_passage_is_found_and_proven_whatever_its_case_and_punctuation() {
    let shard = "At dawn the miller opens the upper sluice, and he counts seven sacks of rye.";
    let text = split("They say THE MILLER opens the upper sluice and he counts -- seven goats");
    assert_eq!(proven(&text, shard), [2..12]);
    assert!(
        proven(
            &text,
            "The miller opens the upper door and he counts seven sacks"
        )
        .is_empty()
    );
    assert!(
        proven(&split("opens the upper sluice"), shard).is_empty(),
        "too few words"
    );
    assert!(proven(&text, "").is_empty());
}

#[test]
fn spans_over_the_ends_of_blocks_are_proven_in_shards_of_many_sizes() {
    for size in [8, 255, 256, 257, 511, 512, 513, 1000, 5000] {
        let shard = numbers(0..size);
        for first in [0, 250, 500, 760, 4000]
            .into_iter()
            .filter(|n| n + 8 <= size)
        {
            let last = (first + 40).min(size);
            let text = split(&numbers(first..last));
            assert_eq!(proven(&text, &shard), [0..text.len()], "{first} of {size}");
        }
        let whole = Shard::new(&shard, secret()).unwrap().root();
        assert_eq!(Shard::commit(&shard, secret()), Ok(Some(whole)));
    }
    assert_eq!(
        Shard::commit("seven words are not enough for it", secret()),
        Ok(None)
    );
}

#[test]
fn of_many_spans_the_longest_are_given_in_order() {
    // Spans of 8, 9, 10 .. words, torn apart by a word that the shard does not have.
    let spans: Vec<String> = (0..MAX_SPANS as u32 + 4)
        .map(|n| numbers(100 * n..100 * n + 8 + n))
        .collect();
    let text = split(&spans.join("and "));
    let found = proven(&text, &spans.join("or "));
    let lengths: Vec<usize> = found.iter().map(Range::len).collect();
    assert_eq!(lengths, (12..12 + MAX_SPANS).collect::<Vec<_>>());
}

#[test]
fn a_shard_that_repeats_itself_without_end_is_answered() {
    let shard = "la ".repeat(20_000);
    let text = split(&"la ".repeat(519));
    assert_eq!(proven(&text, &shard), [0..519]);
}

#[test]
fn a_root_depends_on_every_word_their_order_and_the_secret() {
    let text = numbers(0..600);
    let root = |text: &str| Shard::commit(text, secret()).unwrap();
    assert_eq!(root(&text), root(&text.replace(' ', ", ")));
    assert_ne!(root(&text), root(&text.replace("599", "598")));
    assert_ne!(root(&text), root(&text.replace("0 1 ", "1 0 ")));
    let other = Secret::new(b"pepper", &MerkleRoot::default());
    assert_ne!(root(&text), Shard::commit(&text, other).unwrap());
}

/// Sifts with a base that is surprised by `nats` a word.
fn sifted(text: &str, held: &Held, nats: f64) -> Vec<Vec<Option<Boilerplate>>> {
    let surprise = |span: &Range<usize>| Ok::<_, ()>(span.len() as f64 * nats);
    sift(&split(text), held, surprise).unwrap()
}

#[test]
fn what_the_base_says_too_is_boilerplate() {
    let (text, held) = (numbers(0..40), vec![vec![0..10, 10..40], vec![]]);
    let expected = Some(Boilerplate::Expected);
    assert_eq!(sifted(&text, &held, 2.0), [vec![None, None], vec![]]);
    assert_eq!(sifted(&text, &held, 1.0), [vec![expected, None], vec![]]);
    assert_eq!(
        sifted(&text, &held, 0.1),
        [vec![expected, expected], vec![]]
    );
}

#[test]
fn what_most_members_hold_is_boilerplate_but_one_member_alone_is_no_majority() {
    let text = numbers(0..40);
    let common = Some(Boilerplate::Common);
    assert_eq!(sifted(&text, &vec![vec![0..10]], 9.0), [[None]]);
    assert_eq!(
        sifted(&text, &vec![vec![0..10], vec![10..20]], 9.0),
        [[None], [None]]
    );
    // Other ends of the same passage.
    let both = vec![vec![0..10], vec![3..30]];
    assert_eq!(sifted(&text, &both, 9.0), [[common], [None]]);
    let half = vec![vec![0..10], vec![0..10], vec![], vec![]];
    assert_eq!(
        sifted(&text, &half, 9.0),
        [vec![None], vec![None], vec![], vec![]]
    );
    let most = vec![vec![0..10], vec![0..10], vec![]];
    assert_eq!(
        sifted(&text, &most, 9.0),
        [vec![common], vec![common], vec![]]
    );
}

#[test]
fn a_refrain_is_boilerplate_and_the_base_is_not_asked_about_it() {
    let words = split(&"row row row your boat ".repeat(4));
    let asked = |_: &Range<usize>| Err(());
    let judged = sift(&words, &vec![vec![0..20]], asked);
    assert_eq!(judged, Ok(vec![vec![Some(Boilerplate::Repetitive)]]));
    let failing = sift(&split(&numbers(0..20)), &vec![vec![0..20]], asked);
    assert_eq!(failing, Err(()), "a failure of the base is passed on");
}

proptest! {
    /// Few different words, so that runs overlap, repeat and touch. Each gram stands in few places.
    #[test]
    fn spans_are_those_of_the_slow_twin(
        shard in prop::collection::vec(0u8..3, 0..60),
        copies in prop::collection::vec((0usize..60, 0usize..40, 0u8..4), 1..5),
    ) {
        // A text of pieces of the shard with foreign words between some of them.
        let mut text = Vec::new();
        for (from, length, between) in copies {
            text.extend(shard.iter().skip(from).take(length).copied());
            text.extend((between == 3).then_some(9));
        }
        let spoken = |letters: &[u8]| letters.iter().map(|l| format!("w{l} ")).collect::<String>();
        let (text, spoken) = (split(&spoken(&text)), spoken(&shard));
        let held = Shard::new(&spoken, secret()).unwrap();
        let asked: Vec<_> = grams(&text).collect();
        let found = matches(&asked, &held);
        let slow = reference::common_spans(&text, &split(&spoken), MIN_SPAN_WORDS);
        let spans = |of: &[Match]| of.iter().map(|m| (m.from, m.words)).collect::<Vec<_>>();
        prop_assert_eq!(spans(&found), slow.iter().map(|(from, words)| (*from, *words)).collect::<Vec<_>>());
        let shard_words = split(&spoken);
        for Match { from, place, words } in found {
            prop_assert_eq!(&text[from..from + words], &shard_words[place..place + words]);
        }
        prop_assert!(check(&held.root(), &text, &held.spans(&asked)).is_ok());
    }
}
