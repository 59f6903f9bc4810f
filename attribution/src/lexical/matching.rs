//! The longest runs of whole blocks that a text and a shard have in common.
//!
//! A block is [`BLOCK_WORDS`] words of the shard, counted from its beginning. A run may start at any word of the
//! text, in the shard only where a block does: a run that could end anywhere would confirm one guessed word at a
//! time. The slow twin compares words (`reference.rs`).

use std::collections::BTreeMap;
use std::ops::Range;

use tributary_protocol::fingerprint::Shingle;
use tributary_protocol::limits::{BLOCK_WORDS, MIN_SPAN_WORDS};

use super::shard::Shard;

/// Places of one shingle that are looked at: what stands in more of them is a template, and any will do.
const MAX_PLACES: usize = 16;

/// A run of words that stands in a text and in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Its first word in the text.
    pub from: usize,
    /// Its first word in the shard.
    pub place: usize,
    /// How many words: whole blocks.
    pub words: usize,
}

/// Runs of at least [`MIN_SPAN_WORDS`] words, in the order of the text and without overlap: the longest of all,
/// then the longest to its left and to its right. Of equally long ones the first, at its first place.
pub fn matches(shingles: &[Shingle], shard: &Shard) -> Vec<Match> {
    Runs::find(shingles, shard).pick(|_, blocks| blocks)
}

/// For each shingle of a text the runs that start there: place in the shard and number of blocks.
pub(super) struct Runs(Vec<BTreeMap<usize, usize>>);

impl Runs {
    pub(super) fn find(shingles: &[Shingle], shard: &Shard) -> Self {
        let mut out: Vec<BTreeMap<usize, usize>> = vec![BTreeMap::new(); shingles.len()];
        for (at, shingle) in shingles.iter().enumerate().rev() {
            let next = out.get(at + BLOCK_WORDS);
            let run = |place: usize| match next.and_then(|runs| runs.get(&(place + BLOCK_WORDS))) {
                Some(run) => run + 1,
                // The place behind may be one that was not looked at.
                None => {
                    let text = shingles[at..].iter().step_by(BLOCK_WORDS);
                    let places = (place..).step_by(BLOCK_WORDS);
                    text.zip(places)
                        .take_while(|(shingle, place)| shard.has(shingle, *place))
                        .count()
                }
            };
            out[at] = (shard.places(shingle, MAX_PLACES))
                .map(|place| (place, run(place)))
                .collect();
        }
        Self(out)
    }

    fn words(&self) -> usize {
        match self.0.len() {
            0 => 0,
            shingles => shingles + BLOCK_WORDS - 1,
        }
    }

    /// As [`matches`], of runs cut to what `cut` leaves of (first word in the text, blocks).
    pub(super) fn pick(&self, cut: impl Fn(usize, usize) -> usize) -> Vec<Match> {
        let mut found = Vec::new();
        self.pick_within(&cut, 0..self.words(), &mut found);
        found
    }

    fn pick_within(
        &self,
        cut: &impl Fn(usize, usize) -> usize,
        within: Range<usize>,
        found: &mut Vec<Match>,
    ) {
        let Some(best) = self.longest(cut, within.clone()) else {
            return;
        };
        self.pick_within(cut, within.start..best.from, found);
        found.push(best);
        self.pick_within(cut, best.from + best.words..within.end, found);
    }

    /// The longest run beside those that were taken already (in the order of the text).
    pub(super) fn longest_beside(
        &self,
        cut: impl Fn(usize, usize) -> usize,
        taken: &[Match],
    ) -> Option<Match> {
        let ends = taken.iter().map(|run| run.from + run.words);
        let starts = taken.iter().map(|run| run.from);
        let gaps = (std::iter::once(0).chain(ends)).zip(starts.chain([self.words()]));
        let best = gaps.filter_map(|(from, to)| self.longest(&cut, from..to));
        best.max_by_key(|run| (run.words, std::cmp::Reverse(run.from)))
    }

    /// The longest run among the words `within` of the text.
    fn longest(&self, cut: &impl Fn(usize, usize) -> usize, within: Range<usize>) -> Option<Match> {
        let starts = within.start..(within.end + 1).saturating_sub(MIN_SPAN_WORDS);
        let runs = starts.flat_map(|from| {
            // The part of a longer run that does not reach beyond.
            let most = (within.end - from) / BLOCK_WORDS;
            self.0[from].iter().map(move |(place, blocks)| Match {
                from,
                place: *place,
                words: BLOCK_WORDS * cut(from, *blocks).min(most),
            })
        });
        let enough = runs.filter(|run| run.words >= MIN_SPAN_WORDS);
        enough.max_by_key(|run| {
            let first = std::cmp::Reverse((run.from, run.place));
            (run.words, first)
        })
    }
}
