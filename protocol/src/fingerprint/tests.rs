//! What a proof shows, and what no proof can.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "one span, not the numbers in it"
)]

use proptest::prelude::*;

use super::*;
use crate::hash::digest;

fn split(text: &str) -> Vec<String> {
    words(text).map(|(_, word)| word).collect()
}

const TEXT: &str = "The Miller, at dawn, opens the upper sluice and counts seven sacks of rye; \
                    then he sweeps the floor, feeds the grey cat and waits for carts.";

fn asked(words: &[String]) -> Question {
    let key = SecretKey::from_seed([3; 32]);
    Question::new(
        (&key, NetworkId(1)),
        RunId::default(),
        MerkleRoot::default(),
        words,
    )
}

fn root_of(words: &[String], secret: &Secret) -> MerkleRoot {
    merkle::root(&leaves(words, secret))
}

fn leaves(words: &[String], secret: &Secret) -> Vec<Digest> {
    let leaf = |(place, word): (usize, &String)| secret.blinding(place as u64).leaf(word);
    words.iter().enumerate().map(leaf).collect()
}

/// The words `place..place + count` of `shard` as words `from..` of a text.
fn span(shard: &[String], secret: &Secret, place: usize, count: usize, from: u32) -> Span {
    let leaves = leaves(shard, secret);
    let range = place as u64..(place + count) as u64;
    let proof = merkle::prove_range(leaves.len() as u64, range.clone(), |part| {
        merkle::root(&leaves[part.start as usize..part.end as usize]).0
    });
    Span {
        from,
        blindings: range.map(|place| secret.blinding(place)).collect(),
        proof: proof.expect("a range"),
    }
}

fn secret() -> Secret {
    Secret::new(b"salt", &MerkleRoot(digest(Domain::MerkleLeaf, b"shard")))
}

#[test]
fn case_and_punctuation_are_no_part_of_a_word() {
    assert_eq!(
        split("Don't  STOP--now: Über 2,5\n"),
        ["don", "t", "stop", "now", "über", "2", "5"]
    );
    assert_eq!(split("水車の粉 ok"), ["水", "車", "の", "粉", "ok"]);
    assert!(split(" .,!\n").is_empty() && split("").is_empty());
    for (range, word) in words(TEXT) {
        assert_eq!(TEXT[range].to_lowercase(), word);
    }
}

#[test]
fn a_gram_depends_on_its_words_and_on_where_they_end() {
    assert_eq!(Shingle::of(["ab", "c"]), Shingle::of(["ab", "c"]));
    assert_ne!(Shingle::of(["ab", "c"]), Shingle::of(["a", "bc"]));
    let (text, few) = (split(TEXT), split("one two three four five six seven"));
    assert_eq!(shingles(&text).count(), text.len() - BLOCK_WORDS + 1);
    assert_eq!(shingles(&few).count(), 0);
}

#[test]
fn a_span_is_proven_in_the_shard_that_holds_it_and_in_no_other() {
    let (shard, secret) = (split(TEXT), secret());
    let root = root_of(&shard, &secret);
    let asked = split(
        "he says: the upper sluice and counts seven sacks of rye, then he sweeps the floor, feeds the dog",
    );
    let found = span(&shard, &secret, 5, 16, 2);
    assert_eq!(shard[5..21], asked[2..18], "the test's own places");
    assert_eq!(
        check(&root, &asked, std::slice::from_ref(&found)),
        Ok(vec![2..18])
    );
    let other = root_of(&split(&TEXT.replace("seven", "nine")), &secret);
    assert_eq!(
        check(&other, &asked, std::slice::from_ref(&found)),
        Err(SpanFault::Unproven)
    );
    let mut reworded = asked.clone();
    reworded[6] = "nine".to_owned();
    assert_eq!(check(&root, &reworded, &[found]), Err(SpanFault::Unproven));
}

#[test]
fn spans_that_are_short_elsewhere_overlapping_or_too_many_are_refused_by_name() {
    let (shard, secret) = (split(TEXT), secret());
    let root = root_of(&shard, &secret);
    let whole = |from| span(&shard, &secret, 0, MIN_SPAN_WORDS, from);
    let short = span(&shard, &secret, 0, MIN_SPAN_WORDS - 1, 0);
    let refused = |spans: &[Span]| check(&root, &shard, spans);
    assert_eq!(refused(&[short]), Err(SpanFault::Short(MIN_SPAN_WORDS - 1)));
    assert_eq!(refused(&[whole(shard.len() as u32)]), Err(SpanFault::Place));
    assert_eq!(refused(&[whole(u32::MAX)]), Err(SpanFault::Place));
    assert_eq!(refused(&[whole(0), whole(0)]), Err(SpanFault::Place));
    assert_eq!(
        refused(&[whole(1)]),
        Err(SpanFault::Unproven),
        "other words"
    );
    let many = vec![whole(0); MAX_SPANS + 1];
    assert_eq!(refused(&many), Err(SpanFault::Many(MAX_SPANS + 1)));
}

#[test]
fn blindings_of_one_shard_say_nothing_about_another_or_another_place() {
    let one = Secret::new(b"salt", &MerkleRoot(digest(Domain::MerkleLeaf, b"one")));
    let two = Secret::new(b"salt", &MerkleRoot(digest(Domain::MerkleLeaf, b"two")));
    let three = Secret::new(b"pepper", &MerkleRoot(digest(Domain::MerkleLeaf, b"one")));
    assert_ne!(one.blinding(0), two.blinding(0));
    assert_ne!(one.blinding(0), three.blinding(0));
    assert_ne!(one.blinding(0), one.blinding(1));
    // The same word twice is two different leaves.
    assert_ne!(one.blinding(0).leaf("rye"), one.blinding(1).leaf("rye"));
}

#[test]
fn the_longest_question_and_answer_fit_their_bounds() {
    let text: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
    let question = asked(&text);
    assert_eq!(question.words, text[..MAX_QUESTION_WORDS]);
    assert_eq!(Question::decode(&question.encode()), Ok(question));
    // Words as long as they like: of these fewer are asked about.
    for length in [250, 251, 1000, MAX_QUESTION_BYTES] {
        let question = asked(&vec!["w".repeat(length); 600]);
        let (bytes, words) = (question.encode(), question.words.len());
        assert!(bytes.len() <= MAX_QUESTION_BYTES, "{} bytes", bytes.len());
        assert_eq!(words == 0, length == MAX_QUESTION_BYTES, "{length}");
        assert!(words == 0 || bytes.len() + length + 3 * words + 20 > MAX_QUESTION_BYTES);
        assert_eq!(Question::decode(&bytes), Ok(question));
    }
    let words = MAX_QUESTION_WORDS;
    let longest = Span {
        from: u32::MAX,
        blindings: vec![Blinding([7; 16]); words.div_ceil(MAX_SPANS)],
        proof: RangeProof {
            first: u64::MAX,
            leaves: u64::MAX,
            outside: vec![Digest::default(); 2 * merkle::MAX_PROOF_HASHES],
        },
    };
    let answer = Answer::new(Ok(vec![longest; MAX_SPANS]));
    let bytes = answer.encode();
    assert!(bytes.len() <= MAX_EVIDENCE_BYTES, "{} bytes", bytes.len());
    assert_eq!(Answer::decode(&bytes), Ok(answer));
}

#[test]
fn questions_of_another_version_or_with_too_many_words_are_refused() {
    let mut question = asked(&split(TEXT));
    let mut bytes = question.encode();
    bytes[0] = VERSION + 1;
    assert_eq!(
        Question::decode(&bytes),
        Err(CodecError::Version(VERSION + 1))
    );
    assert_eq!(
        Answer::decode(&bytes),
        Err(CodecError::Version(VERSION + 1))
    );
    question.words = vec!["w".to_owned(); MAX_QUESTION_WORDS + 1];
    assert_eq!(
        Question::decode(&question.encode()),
        Err(CodecError::Malformed)
    );
}

#[test]
fn a_question_is_signed_by_its_asker_for_one_network_and_binds_every_word() {
    let question = asked(&split(TEXT));
    assert_eq!(question.check(NetworkId(1)), Ok(()));
    assert!(question.check(NetworkId(2)).is_err(), "another network");
    let mut changed = [question.clone(), question.clone(), question.clone()];
    changed[0].asker = SecretKey::from_seed([4; 32]).peer_id();
    changed[1].words.swap(3, 4);
    changed[2].run = RunId(digest(Domain::Manifest, b"another"));
    for changed in changed {
        assert!(changed.check(NetworkId(1)).is_err(), "{changed:?}");
    }
}

proptest! {
    #[test]
    fn a_proven_span_with_any_byte_changed_is_refused(
        at in any::<prop::sample::Index>(),
        flip in 1u8..=255,
    ) {
        let (shard, secret) = (split(TEXT), secret());
        let root = root_of(&shard, &secret);
        let mut bytes = Answer::new(Ok(vec![span(&shard, &secret, 2, 17, 2)])).encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(Answer { found: Ok(spans), .. }) = Answer::decode(&bytes) {
            // The number of leaves is no part of what a root fixes, and no span at all proves nothing.
            let proven = check(&root, &shard, &spans);
            prop_assert!(proven.is_err() || proven == Ok(vec![]) || spans[0].proof.leaves != shard.len() as u64);
        }
    }
}
