//! The longest runs of words that a text and a shard have in common.
//!
//! The holder sees grams of the text and not its words, so a run is found as grams that follow each other on
//! both sides. The slow twin compares words (`reference.rs`).

use std::collections::BTreeMap;
use std::ops::Range;

use tributary_protocol::fingerprint::Gram;
use tributary_protocol::limits::MIN_SPAN_WORDS;

use super::shard::Shard;

/// Places of one gram that are looked at: what stands in more of them is a template, and any will do.
const MAX_PLACES: usize = 16;

/// A run of words that stands in a text and in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Its first word in the text.
    pub from: usize,
    /// Its first word in the shard.
    pub place: usize,
    /// How many words.
    pub words: usize,
}

/// Runs of at least [`MIN_SPAN_WORDS`] words, in the order of the text and without overlap: the longest of all,
/// then the longest to its left and to its right. Of equally long ones the first, at its first place.
pub fn matches(grams: &[Gram], shard: &Shard) -> Vec<Match> {
    let longest = longest(grams, shard);
    let mut found = Vec::new();
    if !grams.is_empty() {
        pick(&longest, 0..grams.len() + MIN_SPAN_WORDS - 1, &mut found);
    }
    found
}

/// For each gram of the text the longest run that starts there: how many grams, and its first place.
fn longest(grams: &[Gram], shard: &Shard) -> Vec<(usize, usize)> {
    let mut out = vec![(0, 0); grams.len()];
    let mut behind: BTreeMap<usize, usize> = BTreeMap::new();
    for (at, gram) in grams.iter().enumerate().rev() {
        let run = |place: usize| match behind.get(&(place + 1)) {
            Some(run) => run + 1,
            // The place behind may be one that was not looked at.
            None => {
                let next = grams[at + 1..].iter().zip(place + 1..);
                1 + next
                    .take_while(|(gram, place)| shard.has(gram, *place))
                    .count()
            }
        };
        let runs: BTreeMap<usize, usize> = (shard.places(gram, MAX_PLACES))
            .map(|place| (place, run(place)))
            .collect();
        let best = runs
            .iter()
            .max_by_key(|(place, run)| (**run, std::cmp::Reverse(**place)));
        out[at] = best.map_or((0, 0), |(place, run)| (*run, *place));
        behind = runs;
    }
    out
}

/// Picks from the words `within` of the text.
fn pick(longest: &[(usize, usize)], within: Range<usize>, found: &mut Vec<Match>) {
    let starts = within.start..(within.end + 1).saturating_sub(MIN_SPAN_WORDS);
    let runs = starts.filter_map(|from| {
        let (grams, place) = longest[from];
        // The part of a longer run that does not reach beyond.
        let words = (grams + MIN_SPAN_WORDS - 1).min(within.end - from);
        (grams > 0).then_some(Match { from, place, words })
    });
    let Some(best) = runs.max_by_key(|run| (run.words, std::cmp::Reverse(run.from))) else {
        return;
    };
    pick(longest, within.start..best.from, found);
    found.push(best);
    pick(longest, best.from + best.words..within.end, found);
}
