//! Credits: what a round's final scores earn, in integers.
//!
//! A *score* is measured usefulness and may be negative; the *credit* is the contributor's part of
//! the round in billionths, the positive scores' proportions by largest remainder; the budget is
//! split by the credits as shown, so that anyone recomputes a payment from the statement alone.
//!
//! - A score of zero or less earns nothing, and stays on record.
//! - A score whose author is not beyond luck yet ([`crate::evidence`]) is held back: it earns nothing.
//! - If no score is positive, nobody helped: the sponsor pays nothing.
//! - If some are positive and all of them held back, nobody can tell work from luck yet: the budget is paid
//!   in and waits in `Account::Unallocated`. Were it the sponsor's, it would pay to keep runs so short, or
//!   hold-outs so small, that nobody passes; were it the contributors', luck would be paid after all.
//! - If there are no scores (too few evaluators answered in time), the work was done and not judged:
//!   the budget is paid in and waits in `Account::Unallocated`. Otherwise a sponsor could save the
//!   budget by keeping its evaluators silent.

use tributary_protocol::id::{MicroOpen, PeerId, Ppb};

use crate::evidence::Tested;
use crate::money::{self, MAX_AMOUNT, MoneyError};

/// Why scores cannot be turned into credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreditError {
    /// Final scores are strictly ordered by peer in every certified value.
    #[error("the score of {0} is out of order or given twice: these are no certified scores")]
    Order(PeerId),
    /// The budget is beyond every sense.
    #[error(transparent)]
    Money(#[from] MoneyError),
}

/// What became of a round's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Paid to contributors in full.
    Paid,
    /// No score was positive; the sponsor keeps it.
    NobodyHelped,
    /// Some scores are positive, and no author of one is beyond luck yet; it waits unallocated.
    NotBeyondLuck,
    /// The round has no final scores; it waits unallocated.
    Unscored,
}

/// One contributor's line of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// The final score, and what its author had shown with it.
    pub tested: Tested,
    /// Part of the round.
    pub credit: Ppb,
    /// What that is of the budget.
    pub amount: MicroOpen,
}

impl Credit {
    /// Whose.
    pub fn peer(&self) -> PeerId {
        self.tested.score.peer
    }
}

/// A round's scores, credits and amounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundCredits {
    /// What became of the budget.
    pub outcome: Outcome,
    /// One line per scored contribution, ordered by peer. When paid, credits add up to one billion
    /// and amounts to the budget; otherwise both are zero.
    pub lines: Vec<Credit>,
}

/// Turns tested scores into credits and splits `budget` by them.
///
/// # Errors
/// See [`CreditError`].
pub fn assign(scores: &[Tested], budget: MicroOpen) -> Result<RoundCredits, CreditError> {
    let is_out_of_order = |pair: &&[Tested]| pair[0].score.peer >= pair[1].score.peer;
    if let Some(pair) = scores.windows(2).find(is_out_of_order) {
        return Err(CreditError::Order(pair[1].score.peer));
    }
    if budget > MAX_AMOUNT {
        return Err(MoneyError::TooLarge(budget).into());
    }
    let weights: Vec<(PeerId, u64)> = (scores.iter())
        .map(|tested| (tested.score.peer, tested.counts()))
        .collect();
    let parts = money::apportion(u128::from(Ppb::ONE.0), &weights);
    let outcome = match &parts {
        Some(_) => Outcome::Paid,
        None if scores.is_empty() => Outcome::Unscored,
        None if scores.iter().any(Tested::is_held_back) => Outcome::NotBeyondLuck,
        None => Outcome::NobodyHelped,
    };
    let parts = parts.unwrap_or_else(|| vec![0; scores.len()]);
    let credits: Vec<(PeerId, u64)> = (weights.iter().zip(parts))
        .map(|((peer, _), part)| (*peer, part as u64))
        .collect();
    let amounts =
        money::split(budget, &credits).unwrap_or_else(|| vec![MicroOpen(0); scores.len()]);
    let lines = (scores.iter().zip(credits).zip(amounts))
        .map(|((tested, (_, credit)), amount)| Credit {
            tested: *tested,
            credit: Ppb(credit as u32),
            amount,
        })
        .collect();
    Ok(RoundCredits { outcome, lines })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tributary_protocol::hash::Digest;
    use tributary_protocol::id::NanoNats;
    use tributary_protocol::round::FinalScore;

    use super::*;
    use crate::evidence::Shown;

    /// Of authors that have shown enough.
    fn scores(nanonats: &[i64]) -> Vec<Tested> {
        (nanonats.iter().enumerate())
            .map(|(n, &score)| Tested {
                score: FinalScore {
                    peer: PeerId(Digest::from_bytes([n as u8; 32])),
                    score: NanoNats(score),
                    low: NanoNats(score.saturating_sub(5)),
                    high: NanoNats(score.saturating_add(5)),
                    luck: NanoNats(1),
                },
                shown: Shown {
                    scores: 4,
                    squares: 1,
                },
            })
            .collect()
    }

    fn hold_back(tested: &mut Tested) {
        tested.shown.scores = 3;
    }

    fn amounts(nanonats: &[i64], budget: u128) -> Vec<u128> {
        let assigned = assign(&scores(nanonats), MicroOpen(budget)).expect("ordered");
        assigned.lines.iter().map(|line| line.amount.0).collect()
    }

    #[test]
    fn the_budget_follows_the_positive_scores() {
        assert_eq!(amounts(&[300, 100, -900], 1000), [750, 250, 0]);
    }

    #[test]
    fn a_negative_score_earns_nothing_and_stays_on_record() {
        let assigned = assign(&scores(&[10, -7]), MicroOpen(5)).expect("ordered");
        assert_eq!(assigned.lines[1].tested.score.score, NanoNats(-7));
        assert_eq!(assigned.lines[1].tested.score.low, NanoNats(-12));
        assert_eq!(assigned.lines[1].credit, Ppb(0));
        assert_eq!(assigned.lines[1].amount, MicroOpen(0));
    }

    #[test]
    fn a_round_in_which_nobody_helped_costs_the_sponsor_nothing() {
        let assigned = assign(&scores(&[0, -7, i64::MIN]), MicroOpen(5)).expect("ordered");
        assert_eq!(assigned.outcome, Outcome::NobodyHelped);
        assert!(assigned.lines.iter().all(|l| l.amount == MicroOpen(0)));
        assert_eq!(assigned.lines.len(), 3);
    }

    #[test]
    fn a_score_that_is_held_back_earns_nothing_and_the_others_the_whole_budget() {
        let mut held = scores(&[300, 100, 100]);
        hold_back(&mut held[0]);
        let assigned = assign(&held, MicroOpen(1000)).expect("ordered");
        let amounts: Vec<u128> = assigned.lines.iter().map(|line| line.amount.0).collect();
        assert_eq!(
            (assigned.outcome, amounts),
            (Outcome::Paid, vec![0, 500, 500])
        );
        assert_eq!(assigned.lines[0].tested, held[0]);
    }

    #[test]
    fn a_round_in_which_nobody_is_beyond_luck_is_told_from_one_in_which_nobody_helped() {
        let outcome = |nanonats: &[i64]| {
            let mut held = scores(nanonats);
            held.iter_mut().for_each(hold_back);
            let assigned = assign(&held, MicroOpen(5)).expect("ordered");
            assert!(assigned.lines.iter().all(|l| l.amount == MicroOpen(0)));
            assigned.outcome
        };
        assert_eq!(outcome(&[1, -7]), Outcome::NotBeyondLuck);
        assert_eq!(outcome(&[0, -7]), Outcome::NobodyHelped);
    }

    #[test]
    fn a_round_without_scores_is_unscored() {
        let assigned = assign(&[], MicroOpen(5)).expect("ordered");
        assert_eq!(
            (assigned.outcome, assigned.lines.len()),
            (Outcome::Unscored, 0)
        );
    }

    #[test]
    fn unordered_scores_and_absurd_budgets_are_refused() {
        let mut twice = scores(&[1, 2]);
        twice[1].score.peer = twice[0].score.peer;
        let refused = assign(&twice, MicroOpen(5));
        assert_eq!(refused, Err(CreditError::Order(twice[0].score.peer)));
        let absurd = assign(&scores(&[1]), MicroOpen(u128::MAX));
        assert!(matches!(absurd, Err(CreditError::Money(_))));
    }

    proptest! {
        #[test]
        fn credits_and_amounts_add_up(
            nanonats in prop::collection::vec((any::<i64>(), any::<bool>()), 1..64),
            budget in 0..=MAX_AMOUNT.0,
        ) {
            let (nanonats, held): (Vec<i64>, Vec<bool>) = nanonats.into_iter().unzip();
            let mut scores = scores(&nanonats);
            (scores.iter_mut().zip(&held)).filter(|(_, held)| **held).for_each(|(s, _)| hold_back(s));
            let assigned = assign(&scores, MicroOpen(budget)).expect("ordered");
            let credits: u64 = assigned.lines.iter().map(|l| u64::from(l.credit.0)).sum();
            let paid: u128 = assigned.lines.iter().map(|l| l.amount.0).sum();
            let counts = nanonats.iter().zip(&held).any(|(&n, held)| n > 0 && !held);
            prop_assert_eq!(assigned.outcome == Outcome::Paid, counts);
            prop_assert_eq!(credits, if counts { 1_000_000_000 } else { 0 });
            prop_assert_eq!(paid, if counts { budget } else { 0 });
            for (line, held) in assigned.lines.iter().zip(&held) {
                let earns = line.tested.score.score > NanoNats(0) && !held;
                prop_assert!(earns || line.amount == MicroOpen(0));
            }
        }

        #[test]
        fn splitting_one_score_over_identities_earns_at_most_the_rounding(
            own in 1i64..1_000_000_000, others in prop::collection::vec(-1000i64..1_000_000_000, 1..20),
            pieces in 2usize..16,
        ) {
            let budget = 1_000_000_000_000u128;
            let mut honest = vec![own];
            honest.extend(&others);
            let mut split: Vec<i64> = vec![own / pieces as i64; pieces];
            split[0] += own % pieces as i64;
            split.extend(&others);
            let alone = amounts(&honest, budget)[0];
            let together: u128 = amounts(&split, budget)[..pieces].iter().sum();
            // One unit of credit, a billionth of the budget, and one micro-OPEN per identity.
            let rounding = (pieces as u128 + 1) * (budget / 1_000_000_000 + 1);
            prop_assert!(together <= alone + rounding);
        }
    }
}
