//! A reader that knows eight words of a shard and wants the ones around them, with an hour's questions.
//!
//! It attacks what a holder really answers: `Allowance::spans`, through its file between any two questions. It knows
//! every word that the shard uses, where its blocks begin, and how words follow each other: in six other books, or
//! (more than anybody could know) in the shard itself. `--nocapture` prints the figures of
//! `docs/numbers/extraction.md`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use tributary_attribution::lexical::{Allowance, MAX_QUESTIONS, Shard, Spent, WINDOW_MS};
use tributary_protocol::fingerprint::{Secret, check, words};
use tributary_protocol::id::MerkleRoot;
use tributary_protocol::limits::{BLOCK_WORDS, MAX_QUESTION_WORDS, MIN_SPAN_WORDS};
use tributary_protocol::time::Timestamp;

/// Where the known words stand: passages all over the book, so that blocks begin at each of their words.
const PASSAGES: [usize; 8] = [
    5_000, 12_001, 19_002, 26_003, 33_004, 40_005, 47_006, 54_007,
];
/// Guesses of sixteen words that one question holds.
const GUESSES: usize = MAX_QUESTION_WORDS / MIN_SPAN_WORDS;
/// Continuations that are kept of each length: an hour's guesses.
const BEAM: usize = GUESSES * MAX_QUESTIONS;
/// Words that are tried after a word, the most frequent first.
const FOLLOWERS: usize = 24;

fn book(name: &str) -> Vec<String> {
    let shards = concat!(env!("CARGO_MANIFEST_DIR"), "/../trainer/assets/shards");
    let text = std::fs::read_to_string(format!("{shards}/{name}.txt")).expect("a shard");
    words(&text).map(|(_, word)| word).collect()
}

fn shard(text: &[String]) -> Shard {
    let secret = Secret::new(b"salt", &MerkleRoot::default());
    Shard::new(&text.join(" "), secret).unwrap()
}

/// The holder: its file between any two questions, as if it had restarted, and a clock.
struct Holder<'a> {
    shard: &'a Shard,
    file: String,
    now: Timestamp,
    questions: usize,
}

impl<'a> Holder<'a> {
    fn new(shard: &'a Shard) -> Self {
        Self {
            shard,
            file: Allowance::default().to_string(),
            now: Timestamp(0),
            questions: 0,
        }
    }

    /// Words of `asked` that are proven, by their places in it.
    fn ask(&mut self, asked: &[String]) -> Result<BTreeSet<usize>, Spent> {
        assert!(asked.len() <= MAX_QUESTION_WORDS);
        let mut allowance: Allowance = self.file.parse().unwrap();
        self.now.0 += 1;
        let spans = allowance.spans(self.shard, asked, self.now)?;
        self.questions += 1;
        self.file = allowance.to_string();
        let proven = check(&self.shard.root(), asked, &spans).expect("and it is proven");
        Ok(proven.into_iter().flatten().collect())
    }

    /// Asks about guesses, as many to a question as fit, until one is confirmed as a whole or the hour is used up.
    fn try_all(&mut self, guesses: &[Vec<String>]) -> Option<Vec<String>> {
        let most = MAX_QUESTION_WORDS / guesses.first()?.len();
        for together in guesses.chunks(most) {
            let proven = self.ask(&together.concat()).ok()?;
            let mut from = 0;
            for guess in together {
                if (from..from + guess.len()).all(|at| proven.contains(&at)) {
                    return Some(guess.clone());
                }
                from += guess.len();
            }
        }
        None
    }
}

/// Which words follow a word, the most frequent first, with the logarithm of how often.
type Model = BTreeMap<String, Vec<(String, f64)>>;

/// Of texts; what never follows there is not guessed at.
fn model<'a>(texts: impl Iterator<Item = Vec<&'a String>>) -> Model {
    let mut pairs: BTreeMap<&String, BTreeMap<&String, u32>> = BTreeMap::new();
    for text in texts {
        for pair in text.windows(2) {
            *pairs
                .entry(pair[0])
                .or_default()
                .entry(pair[1])
                .or_default() += 1;
        }
    }
    let ranked = |next: BTreeMap<&String, u32>| {
        let all: u32 = next.values().sum();
        let mut next: Vec<_> = next.into_iter().collect();
        next.sort_by_key(|(_, count)| Reverse(*count));
        next.truncate(FOLLOWERS);
        let chance = |count| (f64::from(count) / f64::from(all)).ln();
        let chances = next
            .into_iter()
            .map(|(w, count)| (w.clone(), chance(count)));
        chances.collect()
    };
    let ranked = pairs
        .into_iter()
        .map(|(word, next)| (word.clone(), ranked(next)));
    ranked.collect()
}

/// The likeliest runs of `length` words after `first`.
fn continuations(model: &Model, first: &str, length: usize) -> Vec<(f64, Vec<String>)> {
    let mut beam = vec![(0.0, vec![first.to_owned()])];
    for _ in 0..length {
        let mut longer = Vec::new();
        for (chance, words) in &beam {
            for (next, more) in model.get(&words[words.len() - 1]).into_iter().flatten() {
                longer.push((
                    chance + more,
                    [words.as_slice(), std::slice::from_ref(next)].concat(),
                ));
            }
        }
        longer.sort_by(|a, b| b.0.total_cmp(&a.0));
        longer.truncate(BEAM);
        beam = longer;
    }
    beam.iter_mut().for_each(|(_, words)| drop(words.remove(0)));
    beam
}

/// Two blocks around eight known words, of which `left` unknown ones stand before them: the likeliest first.
fn around(models: &[Model; 2], known: &[String], left: usize) -> Vec<Vec<String>> {
    let [forwards, backwards] = models;
    let before = continuations(backwards, &known[0], left);
    let behind = continuations(forwards, &known[BLOCK_WORDS - 1], BLOCK_WORDS - left);
    let mut pairs = Vec::new();
    for (i, (one, before)) in before.iter().enumerate() {
        for (two, behind) in behind.iter().take(BEAM / (i + 1)) {
            let words = before.iter().rev().chain(known).chain(behind);
            pairs.push((one + two, words.cloned().collect::<Vec<_>>()));
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    pairs.truncate(BEAM);
    pairs.into_iter().map(|(_, words)| words).collect()
}

fn models(books: &[Vec<String>]) -> [Model; 2] {
    let forwards = books.iter().map(|book| book.iter().collect());
    let backwards = books.iter().map(|book| book.iter().rev().collect());
    [model(forwards), model(backwards)]
}

#[test]
fn a_reader_that_tries_every_word_of_the_vocabulary_is_told_none() {
    let victim = book("opticks");
    let shard = shard(&victim);
    let mut vocabulary: Vec<&String> = victim.iter().collect();
    vocabulary.sort();
    vocabulary.dedup();
    let (mut questions, mut found) = (0, 0);
    for from in PASSAGES {
        let mut holder = Holder::new(&shard);
        // The word behind the known ones first, so that it is among those that an hour has room for.
        let (known, next) = (
            &victim[from..from + BLOCK_WORDS],
            &victim[from + BLOCK_WORDS],
        );
        let guesses: Vec<Vec<String>> = std::iter::once(next)
            .chain(vocabulary.iter().copied())
            .map(|word| known.iter().chain([word]).cloned().collect())
            .collect();
        found += usize::from(holder.try_all(&guesses).is_some());
        questions += holder.questions;
    }
    println!(
        "one word at a time: {} hours, {questions} questions, {found} further words",
        PASSAGES.len()
    );
    assert!(
        questions > PASSAGES.len() * MAX_QUESTIONS / 2,
        "it hardly asks"
    );
    assert_eq!(found, 0);
}

#[test]
fn an_hour_of_likely_guesses_with_the_shards_vocabulary_gives_eight_more_words_at_most() {
    let victim = book("opticks");
    let shard = shard(&victim);
    let others = [
        "atlas",
        "devil",
        "genesis",
        "hackers",
        "nature",
        "shakespeare",
    ]
    .map(book);
    let knowledge = [
        ("six other books", models(&others)),
        ("the shard itself", models(std::slice::from_ref(&victim))),
    ];
    for (name, models) in &knowledge {
        let (mut questions, mut guesses, mut most) = (0, 0, 0);
        for from in PASSAGES {
            let known = &victim[from..from + BLOCK_WORDS];
            let mut holder = Holder::new(&shard);
            let tried = around(models, known, from % BLOCK_WORDS);
            guesses += tried.len();
            let found = holder
                .try_all(&tried)
                .map_or(0, |words| words.len() - BLOCK_WORDS);
            questions += holder.questions;
            most = most.max(found);
        }
        println!(
            "likely guesses from {name}: {} hours, {questions} questions, {guesses} guesses, \
             {most} further words in an hour at most",
            PASSAGES.len()
        );
        assert!(
            guesses > PASSAGES.len() * GUESSES,
            "{name}: it hardly guesses"
        );
        assert!(most <= BLOCK_WORDS, "{most} words beyond eight known ones");
    }
}

#[test]
fn a_reader_whose_guesses_are_always_right_still_gets_eight_more_words_an_hour() {
    let victim = book("opticks");
    let shard = shard(&victim);
    let start = PASSAGES[0];
    assert_eq!(start % BLOCK_WORDS, 0, "the known words are a block");
    let mut holder = Holder::new(&shard);
    let mut known = BLOCK_WORDS;
    let mut hours = Vec::new();
    for hour in 0..4 {
        holder.now = Timestamp(hour * WINDOW_MS);
        let before = known;
        // The right words among wrong ones, one block further at a time, for as long as anything is answered.
        loop {
            let (last, next) = (start + known - BLOCK_WORDS, start + known);
            let wrong = (0..GUESSES - 1).map(|n| victim[n * 800..n * 800 + BLOCK_WORDS].to_vec());
            let blocks = wrong.chain([victim[next..next + BLOCK_WORDS].to_vec()]);
            let guesses = blocks.map(|block| [&victim[last..next], &block].concat());
            match holder.try_all(&guesses.collect::<Vec<_>>()) {
                Some(_) => known += BLOCK_WORDS,
                None if holder.ask(&[]).is_err() => break,
                None => {}
            }
        }
        hours.push(known - before);
    }
    println!("right guesses among wrong ones: further words by hour {hours:?}");
    assert_eq!(hours, [BLOCK_WORDS; 4]);
}
