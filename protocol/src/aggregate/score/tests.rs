//! Every choice of sheets that the rule leaves to a proposer, with every kind of lie.

use super::*;
use crate::hash::Digest;
use crate::id::{BlobRef, BlockId, Round, Seq, StateHash};
use crate::limits::MAX_NANO_NATS;
use crate::panel::Panel;
use crate::round::EntryRef;

fn peer(i: u8) -> PeerId {
    PeerId(Digest::from_bytes([i; 32]))
}

/// A contribution of each of `peers`.
fn included(peers: &[u8]) -> Vec<Included> {
    let of = |i: &u8| Included {
        receipt: EntryRef {
            author: peer(*i),
            seq: Seq(0),
            block: BlockId::default(),
            index: 0,
        },
        update: BlobRef::default(),
        tokens: 1,
        weight: 1,
    };
    peers.iter().map(of).collect()
}

fn sheet(scores: &[i64]) -> ScoreSheet {
    let line = |(at, score): (usize, &i64)| Score {
        peer: peer(at as u8 + 1),
        score: NanoNats(*score),
        low: NanoNats(score - 10),
        high: NanoNats(score + 1000),
        luck: NanoNats(score.unsigned_abs() as i64 / 2),
    };
    ScoreSheet {
        round: Round(1),
        state: StateHash::default(),
        predicted: 1,
        loss_before: NanoNats(0),
        loss_after: NanoNats(0),
        scores: scores.iter().enumerate().map(line).collect(),
    }
}

/// Evaluators that contribute nothing.
fn outside(count: usize) -> Vec<PeerId> {
    (0..count as u8).map(|n| peer(100 + n)).collect()
}

/// The final scores of contributions `of`, by the sheets of the evaluators at the given places.
fn finals(sheets: &[(usize, &[i64])], evaluators: &[PeerId], of: &[u8]) -> Vec<FinalScore> {
    let sheets: Vec<(PeerId, ScoreSheet)> = (sheets.iter())
        .map(|(at, scores)| (evaluators[*at], sheet(scores)))
        .collect();
    let sheets: Vec<(PeerId, &ScoreSheet)> = sheets.iter().map(|(p, s)| (*p, s)).collect();
    let panel = Panel::equal(evaluators.iter().copied());
    let found = final_scores(&sheets, &included(of), &panel);
    (found.iter()).for_each(|s| assert!(s.low <= s.score && s.score <= s.high));
    found
}

/// The same of two contributions, by sheets of the first evaluators in order.
fn scores(sheets: &[&[i64]], evaluators: usize) -> Vec<i64> {
    let sheets: Vec<(usize, &[i64])> = sheets.iter().copied().enumerate().collect();
    let found = finals(&sheets, &outside(evaluators), &[1, 2]);
    found.iter().map(|line| line.score.0).collect()
}

/// One evaluator that finds luck in nothing, or in everything, decides nothing.
#[test]
fn luck_is_a_median_of_its_own_and_a_missing_sheet_ranks_highest_there() {
    let luck = |sheets: &[i64], evaluators: usize| {
        let lines: Vec<[i64; 1]> = sheets.iter().map(|score| [*score]).collect();
        let sheets: Vec<(usize, &[i64])> = (lines.iter().enumerate())
            .map(|(at, line)| (at, line.as_slice()))
            .collect();
        let found = finals(&sheets, &outside(evaluators), &[1])[0];
        (found.score.0, found.luck.0)
    };
    assert_eq!(luck(&[8, 6, -2], 3), (6, 3));
    assert_eq!(luck(&[8, 6], 2), (7, 4));
    assert_eq!(luck(&[20, 40, 60, 80], 5), (40, 30));
}

#[test]
fn final_score_is_the_median_of_the_evaluators() {
    assert_eq!(scores(&[&[1, 9], &[5, -7], &[3, 2]], 3), [3, 2]);
    assert_eq!(scores(&[&[7, 1]], 1), [7, 1]);
}

#[test]
fn even_count_takes_the_mean_of_the_middle_two_rounded_down_where_no_sheet_is_missing() {
    assert_eq!(scores(&[&[1, -4], &[4, -1]], 2), [2, -3]);
    let four: [&[i64]; 4] = [&[1, 0], &[4, 0], &[8, 0], &[9, 0]];
    assert_eq!(scores(&four, 4), [6, 0]);
    assert_eq!(scores(&four, 5), [4, 0], "the missing one ranks lowest");
    let most = MAX_NANO_NATS;
    assert_eq!(scores(&[&[most, 0], &[most, 0]], 2), [most, 0]);
}

#[test]
fn scores_take_more_than_two_thirds_of_the_sheets() {
    for evaluators in 1..=33 {
        let least = needed(evaluators);
        assert!(3 * least > 2 * evaluators && 3 * (least - 1) <= 2 * evaluators);
        assert!(least <= evaluators);
        let sheets = vec![[1, 2].as_slice(); least];
        assert_eq!(scores(&sheets, evaluators), [1, 2]);
        assert!(scores(&sheets[1..], evaluators).is_empty());
    }
    assert!(scores(&[], 0).is_empty());
}

/// Every choice of sheets of at least `least`, as lists of places.
fn choices(evaluators: usize, least: usize) -> impl Iterator<Item = Vec<usize>> {
    (0u32..1 << evaluators)
        .filter(move |set| set.count_ones() as usize >= least)
        .map(move |set| (0..evaluators).filter(|at| set >> at & 1 == 1).collect())
}

/// All that the last `liars` of `evaluators` can make of the score that the others put at 100, 110 and so on, with a
/// proposer that picks any `least` or more of the sheets: the lowest and the highest outcome.
fn outcomes(evaluators: usize, liars: usize, least: usize) -> (i64, i64) {
    let lies = [-MAX_NANO_NATS, 99, 105, 1_000, MAX_NANO_NATS];
    let honest: Vec<i64> = (0..evaluators - liars)
        .map(|n| 100 + 10 * n as i64)
        .collect();
    let keys = outside(evaluators);
    let (mut low, mut high) = (i64::MAX, i64::MIN);
    for pattern in 0..lies.len().pow(liars as u32) {
        let told = (0..liars).map(|n| lies[pattern / lies.len().pow(n as u32) % lies.len()]);
        let lines: Vec<[i64; 1]> = honest.iter().copied().chain(told).map(|s| [s]).collect();
        for chosen in choices(evaluators, least) {
            let sheets: Vec<(usize, &[i64])> = (chosen.iter())
                .map(|at| (*at, lines[*at].as_slice()))
                .collect();
            let score = finals(&sheets, &keys, &[1])[0].score.0;
            (low, high) = (low.min(score), high.max(score));
        }
    }
    (low, high)
}

#[test]
fn one_of_four_and_three_of_ten_liars_with_the_proposer_leave_a_score_in_the_honest_range() {
    for (evaluators, liars) in [(4, 1), (7, 2), (10, 3)] {
        let (low, high) = outcomes(evaluators, liars, needed(evaluators));
        let most = 100 + 10 * (evaluators - liars - 1) as i64;
        let least = needed(evaluators);
        println!("{liars} of {evaluators}, {least} sheets: {low} to {high} of 100 to {most}");
        assert!(low >= 100 && high <= most, "{low} to {high}");
    }
}

#[test]
fn two_of_five_liars_leave_it_there_when_no_sheet_is_left_out_and_never_raise_it() {
    let (low, high) = outcomes(5, 2, 5);
    println!("2 of 5, 5 sheets: {low} to {high} of 100 to 120");
    assert!(low >= 100 && high <= 120, "{low} to {high}");
    let (low, high) = outcomes(5, 2, needed(5));
    println!("2 of 5, 4 sheets: {low} to {high} of 100 to 120");
    assert!(high <= 120, "{high}");
    assert_eq!(
        low, -MAX_NANO_NATS,
        "what no rule over four sheets prevents"
    );
}

/// Whichever of four sheets a rule takes: with one honest sheet of five missing there are two liars that carry it
/// out of the honest range, above or below.
#[test]
fn no_place_among_four_sheets_of_five_withstands_two_liars_both_ways() {
    for place in 0..4 {
        let escapes = |lie: i64| {
            let mut sheets = [100, 110, lie, lie];
            sheets.sort_unstable();
            !(100..=120).contains(&sheets[place])
        };
        assert!(escapes(-1_000) || escapes(1_000), "place {place}");
    }
}

/// Half of the sheets were enough for scores once, and the proposer picked which.
#[test]
fn two_of_five_evaluators_do_not_decide_the_scores() {
    let lie = MAX_NANO_NATS;
    let all: [&[i64]; 5] = [&[100], &[100], &[100], &[lie], &[lie]];
    let picked = |places: &[usize], evaluators: usize| {
        let sheets: Vec<(usize, &[i64])> = (places.iter().enumerate())
            .map(|(nth, at)| (nth, all[*at]))
            .collect();
        let found = finals(&sheets, &outside(evaluators), &[1]);
        found.first().map(|line| line.score.0)
    };
    assert_eq!(picked(&[0, 1, 2, 3, 4], 5), Some(100), "with all sheets");
    assert_eq!(picked(&[0, 1, 3, 4], 5), Some(100), "without one");
    assert_eq!(
        picked(&[0, 3, 4], 5),
        None,
        "of a proposer's choice of three"
    );
    assert_eq!(picked(&[0, 3], 4), None, "one of four");
}

#[test]
fn nobodys_sheet_counts_for_itself() {
    // Of the four evaluators, the first contributes too.
    let evaluators: Vec<PeerId> = (1..=4).map(peer).collect();
    let boast: &[i64] = &[MAX_NANO_NATS, 9];
    let all = [(0, boast), (1, &[1, 5]), (2, &[2, 6]), (3, &[3, 7])];
    let found = finals(&all, &evaluators, &[1, 9]);
    assert_eq!((found[0].score.0, found[1].score.0), (2, 6));
    // Its own sheet makes no quorum for it, and that of another does.
    let found = finals(&all[..3], &evaluators, &[1, 9]);
    assert_eq!((found[0].score.0, found[1].score.0), (0, 6));
    assert_eq!((found[0].luck.0, found[0].high.0), (0, 0), "not judged");
    let found = finals(&all[1..], &evaluators, &[1, 9]);
    assert_eq!((found[0].score.0, found[1].score.0), (2, 6));
}

#[test]
fn the_only_evaluator_of_a_run_earns_nothing_by_its_own_sheet() {
    let found = finals(&[(0, &[500, 9])], &[peer(1)], &[1, 2]);
    assert_eq!((found[0].score.0, found[1].score.0), (0, 9));
}

#[test]
fn one_liar_among_three_evaluators_moves_a_score_no_further_than_the_honest() {
    for lie in [i64::MIN / 2, 0, i64::MAX / 2] {
        let moved = scores(&[&[100, 0], &[110, 0], &[lie, lie]], 3);
        assert!((100..=110).contains(&moved[0]));
    }
}
