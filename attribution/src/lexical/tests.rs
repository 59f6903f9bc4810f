//! Found spans are those of the slow twin, proofs hold, and boilerplate is told from evidence.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "one span, not the numbers in it"
)]

use proptest::prelude::*;
use tributary_protocol::fingerprint::{Secret, Span, check, shingles, words};
use tributary_protocol::id::MerkleRoot;
use tributary_protocol::limits::{BLOCK_WORDS, MAX_QUESTION_WORDS, MAX_SPANS, MIN_SPAN_WORDS};
use tributary_protocol::time::Timestamp;

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
    check(&shard.root(), text, &shard.spans(text)).expect("an honest holder's proofs hold")
}

fn numbers(range: Range<u32>) -> String {
    range.map(|n| format!("{n} ")).collect()
}

#[test]
fn a_quoted_passage_is_found_and_proven_whatever_its_case_and_punctuation() {
    let shard = "At dawn the miller opens the upper sluice, and he counts seven sacks of rye. They smell of \
                 summer; nobody buys.";
    let quote = "They say AT DAWN the miller opens -- the upper sluice and he counts seven sacks of rye they sing";
    assert_eq!(proven(&split(quote), shard), [2..18]);
    let changed = shard.replace("sluice", "door");
    assert!(proven(&split(quote), &changed).is_empty());
    assert!(
        proven(&split(&shard[..70]), shard).is_empty(),
        "too few words"
    );
    assert!(proven(&split(quote), "").is_empty());
}

#[test]
fn only_whole_blocks_are_confirmed_wherever_an_answer_begins_and_ends() {
    let shard = numbers(0..80);
    for (first, last) in (0..80).flat_map(|first| (first..=80).map(move |last| (first, last))) {
        // Other words around it, so that places in the answer and in the shard differ.
        let answer = format!("once upon a time {} and so on", numbers(first..last));
        let (from, to) = (first.next_multiple_of(8), last / 8 * 8);
        let held: Vec<_> = (to >= from + 16)
            .then(|| (from - first + 4) as usize..(to - first + 4) as usize)
            .into_iter()
            .collect();
        assert_eq!(proven(&split(&answer), &shard), held, "{first}..{last}");
    }
}

#[test]
fn spans_over_the_ends_of_subtrees_are_proven_in_shards_of_many_sizes() {
    for size in [16, 255, 256, 257, 511, 512, 513, 1000, 5000] {
        let shard = numbers(0..size);
        let firsts = [0, 248, 504, 760, 4000].into_iter();
        for first in firsts.filter(|n| n + 16 <= size) {
            let last = (first + 40).min(size) / 8 * 8;
            let text = split(&numbers(first..last));
            assert_eq!(proven(&text, &shard), [0..text.len()], "{first} of {size}");
        }
        let whole = Shard::new(&shard, secret()).unwrap().root();
        assert_eq!(Shard::commit(&shard, secret()), Ok(Some(whole)));
    }
    assert_eq!(Shard::commit(&numbers(0..15), secret()), Ok(None));
}

#[test]
fn of_many_spans_the_longest_are_given_in_order() {
    // Spans of 2, 3, 4 .. blocks, torn apart by a word that the shard does not have. More than one question.
    let spans: Vec<String> = (0..MAX_SPANS as u32 + 4)
        .map(|n| numbers(1000 * n..1000 * n + 8 * (n + 2)))
        .collect();
    let found = proven(&split(&spans.join("and ")), &spans.join("a b c d e f g h "));
    let lengths: Vec<usize> = found.iter().map(Range::len).collect();
    let longest = (6..6 + MAX_SPANS).map(|blocks| 8 * blocks);
    assert_eq!(lengths, longest.collect::<Vec<_>>());
}

#[test]
fn a_shard_that_repeats_itself_without_end_is_answered() {
    let shard = "la ".repeat(20_000);
    let text = split(&"la ".repeat(512));
    assert_eq!(proven(&text, &shard), [0..512]);
    let mut allowance = Allowance::default();
    let shard = Shard::new(&shard, secret()).unwrap();
    for _ in 0..2 {
        let shown = allowance.spans(&shard, &text, Timestamp(0)).unwrap();
        assert_eq!(shown.iter().map(Span::words).collect::<Vec<_>>(), [0..512]);
    }
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

const HOUR: u64 = WINDOW_MS;

/// What is shown of numbers, at a time in ms.
fn shown(allowance: &mut Allowance, shard: &Shard, asked: Range<u32>, at: u64) -> Vec<usize> {
    let text = split(&numbers(asked));
    let spans = allowance.spans(shard, &text, Timestamp(at)).unwrap();
    let proven = check(&shard.root(), &text, &spans).unwrap();
    proven.iter().map(Range::len).collect()
}

#[test]
fn a_passage_that_was_shown_grows_no_sooner_than_an_hour_later() {
    let shard = Shard::new(&numbers(0..400), secret()).unwrap();
    let mut allowance = Allowance::default();
    assert_eq!(shown(&mut allowance, &shard, 80..96, 0), [16]);
    // The same again, a part with what stands around it, and a passage elsewhere.
    assert_eq!(shown(&mut allowance, &shard, 80..96, 1), [16]);
    assert_eq!(shown(&mut allowance, &shard, 80..111, 2), [16]);
    assert_eq!(shown(&mut allowance, &shard, 65..96, 3), [16]);
    assert_eq!(shown(&mut allowance, &shard, 88..104, 4), [0; 0]);
    assert_eq!(shown(&mut allowance, &shard, 240..280, 5), [40]);
    assert_eq!(shown(&mut allowance, &shard, 80..104, HOUR - 1), [16]);
    assert_eq!(shown(&mut allowance, &shard, 80..104, HOUR), [24]);
    assert_eq!(shown(&mut allowance, &shard, 80..112, HOUR + 1), [24]);
    // A clock that was set back forgets nothing.
    assert_eq!(shown(&mut allowance, &shard, 80..112, 0), [24]);
}

#[test]
fn a_second_copy_of_a_passage_or_another_shard_with_it_is_no_way_around() {
    // Blocks of the copies begin at other words.
    let text: String = (0..8)
        .map(|n| format!("{} other{n} ", numbers(0..64)))
        .collect();
    let shard = Shard::new(&text, secret()).unwrap();
    let other = Shard::new(&format!("another beginning {text}"), secret()).unwrap();
    let mut allowance = Allowance::default();
    assert_eq!(shown(&mut allowance, &shard, 16..32, 0), [16]);
    for (from, shard) in (8..=24).flat_map(|from| [(from, &shard), (from, &other)]) {
        let held = match from {
            16 => vec![16],
            _ => vec![],
        };
        let more = shown(&mut allowance, shard, from..from + 16, 1);
        assert_eq!(more, held, "{from}");
        let asked = split(&numbers(from..from + 16));
        assert_eq!(
            shard.spans(&asked).len(),
            1,
            "it stands there, block by block"
        );
    }
}

#[test]
fn what_is_held_back_does_not_stand_in_the_way_of_what_is_shown() {
    // An asker that knows A B and Q guesses C, whose last word is the first of Q: were the run A B C chosen and cut
    // down afterwards, Q would be missing from the answer, and its absence would say that C is right.
    let (a_b, c, q) = (
        numbers(0..16),
        numbers(16..24),
        format!("23 {}", numbers(100..115)),
    );
    let shard = Shard::new(&format!("{a_b}{c}{q}"), secret()).unwrap();
    let mut allowance = Allowance::default();
    let mut ask = |text: &str| {
        let spans = allowance.spans(&shard, &split(text), Timestamp(0)).unwrap();
        spans.iter().map(Span::words).collect::<Vec<_>>()
    };
    assert_eq!(ask(&a_b), [0..16]);
    assert_eq!(ask(&q), [0..16]);
    let right = format!("{a_b}{c}{}", numbers(100..115));
    let wrong = right.replace(" 17 ", " 71 ");
    assert_eq!(ask(&right), [0..16, 23..39]);
    assert_eq!(ask(&wrong), ask(&right));
}

#[test]
fn questions_and_words_of_an_hour_run_out_and_come_back() {
    let shard = Shard::new(&numbers(0..20_000), secret()).unwrap();
    let other = Shard::new(&numbers(1..200), secret()).unwrap();
    let mut allowance = Allowance::default();
    let nothing = split("nothing of it stands there");
    for n in 0..MAX_QUESTIONS as u64 {
        assert_eq!(allowance.spans(&shard, &nothing, Timestamp(n)), Ok(vec![]));
    }
    let spent = |allowance: &mut Allowance, shard: &Shard, at| {
        allowance.spans(shard, &nothing, Timestamp(at)) == Err(Spent)
    };
    assert!(spent(&mut allowance, &shard, HOUR - 1));
    assert!(
        !spent(&mut allowance, &other, HOUR - 1),
        "of one root alone"
    );
    assert!(!spent(&mut allowance, &shard, HOUR));
    let mut allowance = Allowance::default();
    let longest = MAX_QUESTION_WORDS as u32;
    let answers = (0..).take_while(|n| {
        let text = split(&numbers(n * longest..(n + 1) * longest));
        allowance.spans(&shard, &text, Timestamp(0)).is_ok()
    });
    assert_eq!(
        answers.count(),
        MAX_SHOWN_WORDS.div_ceil(MAX_QUESTION_WORDS - 7)
    );
    assert!(spent(&mut allowance, &other, 1), "of all roots together");
}

#[test]
fn an_allowance_survives_its_text_and_a_damaged_text_is_named() {
    let shard = Shard::new(&numbers(0..400), secret()).unwrap();
    let mut allowance = Allowance::default();
    shown(&mut allowance, &shard, 80..96, 7);
    let text = allowance.to_string();
    assert_eq!(text.parse(), Ok(allowance.clone()));
    assert_eq!(shown(&mut text.parse().unwrap(), &shard, 80..104, 8), [16]);
    let lines = [
        ("shown 7", "shown x"),
        ("asked", "saked"),
        ("asked 7 ", "asked 7 0"),
        ("-1\n", "-2\n"),
    ];
    for (right, wrong) in lines {
        let damaged = text.replacen(right, wrong, 1);
        assert_ne!(damaged, text);
        assert!(damaged.parse::<Allowance>().is_err(), "{wrong}");
    }
    assert!(
        text[..text.len() - 1].parse::<Allowance>().is_err(),
        "a cut line"
    );
    assert!("".parse::<Allowance>().is_err());
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
    /// Few different words, so that runs overlap, repeat and touch. Each shingle stands in few places.
    #[test]
    fn spans_are_those_of_the_slow_twin(
        shard in prop::collection::vec(0u8..2, 0..90),
        copies in prop::collection::vec((0usize..12, 0usize..60, 0u8..4), 1..5),
    ) {
        // A text of pieces of the shard with foreign words between some of them.
        let mut text = Vec::new();
        for (from, length, between) in copies {
            text.extend(shard.iter().skip(from * BLOCK_WORDS).take(length).copied());
            text.extend((between == 3).then_some(9));
        }
        let spoken = |letters: &[u8]| letters.iter().map(|l| format!("w{l} ")).collect::<String>();
        let (text, spoken) = (split(&spoken(&text)), spoken(&shard));
        let held = Shard::new(&spoken, secret()).unwrap();
        let asked: Vec<_> = shingles(&text).collect();
        let found = matches(&asked, &held);
        let slow = reference::common_spans(&text, &split(&spoken), (BLOCK_WORDS, MIN_SPAN_WORDS));
        let spans = |of: &[Match]| of.iter().map(|m| (m.from, m.words)).collect::<Vec<_>>();
        prop_assert_eq!(spans(&found), slow.iter().map(|(from, words)| (*from, *words)).collect::<Vec<_>>());
        let shard_words = split(&spoken);
        for Match { from, place, words } in found {
            prop_assert_eq!(&text[from..from + words], &shard_words[place..place + words]);
            prop_assert!(place % BLOCK_WORDS == 0 && words % BLOCK_WORDS == 0);
        }
        prop_assert!(check(&held.root(), &text, &held.spans(&text)).is_ok());
    }
}
