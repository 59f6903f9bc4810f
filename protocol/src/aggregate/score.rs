//! From score sheets to final scores: the median over evaluators, in integers.
//!
//! The proposer of a height picks the sheets that its value carries, so a rule has to hold for every choice that it
//! allows. With `E` evaluators that may judge a contribution, of which `n` sent a sheet:
//!
//! - Scores exist with **more than two thirds** of the sheets only ([`needed`]). Each certified score is the `t`-th
//!   largest of those `n` (or lies between two such). It cannot lie above what honest sheets span if fewer than `t` lie,
//!   nor below if no more than `n - t` do. The median meets both for fewer liars than half of `n`, which are all liars
//!   that a third of `E` leaves room for.
//! - A **missing sheet ranks lowest**: where one is missing, the lower of the middle two counts and not their mean.
//!   Two liars of four sheets then raise nobody. They can lower somebody, and no rule prevents it: of two sheets that
//!   say `a` and two that say `b`, either pair may be the honest one. Voters prevent it: they leave a value unanswered
//!   that omits a sheet which was there in time.
//! - **Nobody judges itself.** The sheet of an evaluator counts for all contributions but its own, and it is not among
//!   the `E` of that one.
//!
//! The ends of the interval are medians too, of the evaluators' own ends, so a final interval always contains its
//! score. So is the luck that a score is compared with; there a missing sheet ranks highest.

use std::ops::RangeInclusive;

use crate::entry::{Score, ScoreSheet};
use crate::id::{NanoNats, PeerId};
use crate::panel::Panel;
use crate::round::{FinalScore, Included};

/// Sheets that a final score takes where `expected` evaluators may judge: more than two thirds of them, and one at
/// least.
pub fn needed(expected: usize) -> usize {
    expected * 2 / 3 + 1
}

/// The final scores of the contributions that `included` lists, in their order. Each sheet must hold
/// one line per contribution, in the same order ([`crate::state::sheet_fits`]). Empty when nothing was
/// included or no more than two thirds of the run's `evaluators` (ordered) sent a sheet. A contribution of an evaluator
/// that too few of the others judged has a score, an interval and a luck of zero.
///
/// # Panics
/// If a sheet has another number of lines than `included`.
pub fn final_scores(
    sheets: &[(PeerId, &ScoreSheet)],
    included: &[Included],
    panel: &Panel,
) -> Vec<FinalScore> {
    let seated = sheets.iter().map(|(author, _)| panel.seats_of(author));
    if seated.sum::<usize>() < needed(panel.seats()) {
        return Vec::new();
    }
    let lines = |(_, sheet): &(PeerId, &ScoreSheet)| sheet.scores.len() == included.len();
    assert!(sheets.iter().all(lines), "a line per contribution");
    (included.iter().enumerate())
        .map(|(at, contribution)| {
            let peer = contribution.receipt.author;
            let others = (sheets.iter()).filter(|(author, _)| *author != peer);
            let lines = others.flat_map(|(author, sheet)| {
                std::iter::repeat_n(sheet.scores[at], panel.seats_of(author))
            });
            let lines: Vec<Score> = lines.collect();
            final_score(peer, &lines, panel.judges_of(&peer))
        })
        .collect()
}

/// What the lines about one contribution come to, of the `expected` that there could be: zeros where they are fewer than
/// [`needed`].
pub fn final_score(peer: PeerId, lines: &[Score], expected: usize) -> FinalScore {
    let over = |part: fn(&Score) -> NanoNats| match lines.len() >= needed(expected) {
        true => median(lines.iter().map(part), expected),
        false => NanoNats(0),
    };
    // Of a luck, more is what counts against its author.
    let luck = over(|line| NanoNats(line.luck.0.saturating_neg()));
    FinalScore {
        peer,
        score: over(|line| line.score),
        low: over(|line| line.low),
        high: over(|line| line.high),
        luck: NanoNats(luck.0.saturating_neg()),
    }
}

/// The places, from the lowest, of the `given` values that a median over `expected` rests on: the middle one; of an even
/// count the middle two where no value is missing, else the lower of them.
///
/// # Panics
/// Without a value.
pub fn middle(given: usize, expected: usize) -> RangeInclusive<usize> {
    assert!(given > 0, "a median of nothing");
    let lower = (given - 1) / 2;
    let upper = if given < expected { lower } else { given / 2 };
    lower..=upper
}

/// The value in the [`middle`], or the mean of the two there, rounded down.
fn median(values: impl Iterator<Item = NanoNats>, expected: usize) -> NanoNats {
    let mut sorted: Vec<i64> = values.map(|value| value.0).collect();
    sorted.sort_unstable();
    let (lower, upper) = middle(sorted.len(), expected).into_inner();
    let mean = (i128::from(sorted[lower]) + i128::from(sorted[upper])).div_euclid(2);
    NanoNats(i64::try_from(mean).expect("the mean of two numbers lies between them"))
}

#[cfg(test)]
mod tests;
