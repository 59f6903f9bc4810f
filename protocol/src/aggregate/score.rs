//! From score sheets to final scores: the median over evaluators, in integers.
//!
//! With more than half of the evaluators honest, the median lies between two honest judgements. The
//! ends of the interval are medians too, of the evaluators' own ends, so a final interval always
//! contains its score. So is the luck that a score is held against.

use crate::entry::{Score, ScoreSheet};
use crate::id::{NanoNats, PeerId};
use crate::round::{FinalScore, Included};

/// The final scores of the contributions that `included` lists, in their order. Each sheet must hold
/// one line per contribution, in the same order ([`crate::state::sheet_fits`]). Empty when nothing was
/// included or fewer than half of the run's `evaluators` sent a sheet.
///
/// # Panics
/// If a sheet has another number of lines than `included`.
pub fn final_scores(
    sheets: &[(PeerId, &ScoreSheet)],
    included: &[Included],
    evaluators: usize,
) -> Vec<FinalScore> {
    if sheets.is_empty() || sheets.len() * 2 < evaluators {
        return Vec::new();
    }
    let lines = |(_, sheet): &(PeerId, &ScoreSheet)| sheet.scores.len() == included.len();
    assert!(sheets.iter().all(lines), "a line per contribution");
    (included.iter().enumerate())
        .map(|(at, contribution)| {
            let over = |part: fn(&Score) -> NanoNats| {
                median(sheets.iter().map(|(_, sheet)| part(&sheet.scores[at]).0))
            };
            FinalScore {
                peer: contribution.receipt.author,
                score: over(|line| line.score),
                low: over(|line| line.low),
                high: over(|line| line.high),
                luck: over(|line| line.luck),
            }
        })
        .collect()
}

/// The middle one; of an even count the mean of the two in the middle, rounded down.
fn median(values: impl Iterator<Item = i64>) -> NanoNats {
    let mut sorted: Vec<i64> = values.collect();
    sorted.sort_unstable();
    let upper = sorted[sorted.len() / 2];
    let lower = sorted[(sorted.len() - 1) / 2];
    let mean = (i128::from(lower) + i128::from(upper)).div_euclid(2);
    NanoNats(i64::try_from(mean).expect("the mean of two numbers lies between them"))
}
