//! Causes add up, and name what changed and nothing else.

use proptest::prelude::*;
use tributary_protocol::hash::Digest;
use tributary_protocol::round::FinalScore;

use super::*;
use crate::credit::{Offer, Served};
use crate::fold::{CertifiedRound, Fact};
use crate::significance::{CumulativeScore, TestedScore};

const BUDGET: u128 = 10_000_000;
/// With it, one nanonat is worth the usual budget.
const PRICE: u128 = BUDGET * 1_000_000_000;
const BEYOND_LUCK: i64 = 4;

fn peer(n: u8) -> PeerId {
    PeerId(Digest::from_bytes([n; 32]))
}

/// Scores by peer; `None` is a round without final scores. Those below [`BEYOND_LUCK`] are held back.
type Scores = Option<Vec<(u8, i64)>>;

fn books(rounds: &[(u128, Scores)]) -> Books {
    let facts = (rounds.iter().zip(1u32..)).map(|((budget, scores), round)| {
        let scores = scores.iter().flatten().map(|(who, score)| TestedScore {
            score: FinalScore {
                peer: peer(*who),
                score: NanoNats(*score),
                low: NanoNats(*score),
                high: NanoNats(*score),
                luck: NanoNats(1),
            },
            shown: CumulativeScore {
                scores: (*score).into(),
                squares: u128::from(BEYOND_LUCK.unsigned_abs() - 1).pow(2) / 9,
            },
        });
        Fact::Round(CertifiedRound {
            run: RunId::default(),
            round: Round(round),
            sponsor: peer(99),
            offer: Offer {
                budget: MicroOpen(*budget),
                price_per_nat: MicroOpen(PRICE),
                ..Offer::WHOLE
            },
            scores: scores.collect(),
            served: Served::default(),
        })
    });
    Books::of(facts).expect("facts")
}

/// Two periods of `by` rounds, and what changed between them for peer 1.
fn change(by: u32, rounds: &[(u128, Scores)]) -> Change {
    let periods = periods(&books(rounds), RunId::default(), peer(1), by);
    assert_eq!(periods.len(), 2);
    periods[1].since(&periods[0])
}

fn scored(scores: &[(u8, i64)]) -> (u128, Scores) {
    (BUDGET, Some(scores.to_vec()))
}

/// The causes that did something.
fn causes(change: &Change) -> Vec<(Cause, i128)> {
    let parts = change.parts.iter().map(|(cause, part)| (*cause, part.0));
    parts.filter(|(_, part)| *part != 0).collect()
}

#[test]
fn a_higher_own_score_is_named_alone() {
    let found = change(
        1,
        &[scored(&[(1, 50), (2, 50)]), scored(&[(1, 150), (2, 50)])],
    );
    assert_eq!(causes(&found), [(Cause::OwnScore, 2_500_000)]);
}

#[test]
fn higher_scores_of_others_are_named_alone() {
    let found = change(
        1,
        &[scored(&[(1, 50), (2, 50)]), scored(&[(1, 50), (2, 150)])],
    );
    assert_eq!(causes(&found), [(Cause::OthersScores, -2_500_000)]);
}

#[test]
fn a_round_without_the_peer_is_absence() {
    let both = scored(&[(1, 50), (2, 50)]);
    let found = change(2, &[both.clone(), both.clone(), both, scored(&[(2, 50)])]);
    assert_eq!(causes(&found), [(Cause::Absent, -5_000_000)]);
}

#[test]
fn rounds_without_scores_and_without_a_gain_are_told_apart() {
    let both = scored(&[(1, 50), (2, 50)]);
    let rounds = [
        both.clone(),
        both.clone(),
        both.clone(),
        both,
        (BUDGET, None),
        scored(&[(1, -5), (2, 0)]),
    ];
    let found = change(3, &rounds);
    let expected = [(Cause::Unscored, -5_000_000), (Cause::NoGain, -5_000_000)];
    assert_eq!(causes(&found), expected);
}

#[test]
fn rounds_held_back_are_named_whether_others_were_paid_or_nobody() {
    let both = scored(&[(1, 50), (2, 50)]);
    let rounds = [
        scored(&[(1, BEYOND_LUCK - 1), (2, 50)]),
        scored(&[(1, BEYOND_LUCK - 1), (2, BEYOND_LUCK - 1)]),
        scored(&[(2, BEYOND_LUCK - 1)]),
        both.clone(),
        both.clone(),
        both,
    ];
    let found = change(3, &rounds);
    assert_eq!(causes(&found), [(Cause::NotBeyondLuck, 15_000_000)]);
}

#[test]
fn others_that_pass_are_others_scores() {
    let (one, other) = (BEYOND_LUCK, BEYOND_LUCK - 1);
    let found = change(
        1,
        &[
            scored(&[(1, one), (2, other)]),
            scored(&[(1, one), (2, one)]),
        ],
    );
    // Its part of what the round is worth was 4 of 7, though the other's 3 waited.
    assert_eq!(causes(&found), [(Cause::OthersScores, -714_286)]);
}

#[test]
fn a_budget_that_doubles_and_a_shorter_last_period_are_named() {
    let found = change(
        1,
        &[
            (BUDGET, Some(vec![(1, 7)])),
            (2 * BUDGET, Some(vec![(1, 7)])),
        ],
    );
    assert_eq!(causes(&found), [(Cause::Worth, 10_000_000)]);
    let alone = scored(&[(1, 7)]);
    let found = change(2, &[alone.clone(), alone.clone(), alone]);
    assert_eq!(causes(&found), [(Cause::Length, -10_000_000)]);
}

#[test]
fn a_first_period_without_a_round_of_ones_own_is_all_absence() {
    let found = change(1, &[scored(&[(2, 5)]), scored(&[(1, 5), (2, 5)])]);
    assert_eq!(causes(&found), [(Cause::Absent, 5_000_000)]);
}

#[test]
fn periods_count_from_the_first_round_and_the_last_may_be_short() {
    let both = scored(&[(1, 30), (2, 50)]);
    let rounds = vec![both; 5];
    let found = periods(&books(&rounds), RunId::default(), peer(1), 2);
    let bounds: Vec<(u32, u32, u32)> = (found.iter())
        .map(|period| (period.first.0, period.last.0, period.rounds()))
        .collect();
    assert_eq!(bounds, [(1, 2, 2), (3, 4, 2), (5, 5, 1)]);
    assert_eq!(
        (found[0].score, found[0].others),
        (NanoNats(30), NanoNats(50))
    );
    assert_eq!([period_of(6), period_of(100), period_of(1)], [2, 25, 1]);
}

fn any_round() -> impl Strategy<Value = (u128, Scores)> {
    let score = || prop_oneof![-1_000_000i64..1_000_000_000, -1..2 * BEYOND_LUCK];
    let line = |who: u8| (Just(who), score());
    let scores = (
        prop::option::of(line(1)),
        prop::option::of(line(2)),
        prop::option::of(line(3)),
    );
    let scores = scores.prop_map(|(a, b, c)| [a, b, c].into_iter().flatten().collect());
    (
        0u128..1_000_000_000_000,
        prop::option::weighted(0.9, scores),
    )
}

proptest! {
    #[test]
    fn the_causes_add_up_to_the_change_and_turn_with_the_periods(
        rounds in prop::collection::vec(any_round(), 2..24), by in 1u32..8,
    ) {
        let found = periods(&books(&rounds), RunId::default(), peer(1), by);
        for pair in found.windows(2) {
            let change = pair[1].since(&pair[0]);
            let sum: i128 = change.parts.iter().map(|(_, part)| part.0).sum();
            prop_assert_eq!(sum, change.total.0);
            prop_assert_eq!(sum, pair[1].earned.0 as i128 - pair[0].earned.0 as i128);
            let back = pair[0].since(&pair[1]);
            for ((_, part), (_, back)) in change.parts.iter().zip(&back.parts) {
                // Credits are whole billionths of a round, and amounts whole micro-OPEN.
                prop_assert!((part.0 + back.0).abs() <= 24 * 1_002, "{} and {}", part.0, back.0);
            }
        }
    }

    #[test]
    fn earned_is_the_sum_of_the_statements_lines(
        rounds in prop::collection::vec(any_round(), 1..24), by in 1u32..8,
    ) {
        let books = books(&rounds);
        let found = periods(&books, RunId::default(), peer(1), by);
        let earned: u128 = found.iter().map(|period| period.earned.0).sum();
        let statement = crate::statement::Statement::of(&books, peer(1));
        let lines: u128 = statement.runs.iter().map(|run| run.earned.0).sum();
        prop_assert_eq!(earned, lines);
        let counted: u32 = found.iter().map(Period::rounds).sum();
        prop_assert_eq!(counted as usize, rounds.len());
    }
}
