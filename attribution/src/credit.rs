//! Credits: what a round's final scores earn, in integers.
//!
//! A *score* is measured usefulness and may be negative. The sum of a round's scores is its **gain**: what the
//! contributions, harmful ones among them, took off the loss of hold-outs, in nats per predicted token. A round pays
//! for its gain at the manifest's price, and no more than its budget, for the part of the committed weight that
//! arrived ([`Offer::worth`]); the sponsor keeps the rest. A *credit* is the contributor's part of the positive scores
//! in billionths, by largest remainder; what the round is worth is split by the credits as shown, so that anyone
//! recomputes a payment from the statement alone.
//!
//! - A score of zero or less earns nothing, and stays on record.
//! - A round whose scores do not add up to more than zero gained nothing: the sponsor pays nothing.
//! - A score whose author is not beyond luck yet ([`crate::significance`]) is held back: it earns nothing. Its part is
//!   paid in and waits in `Account::Unallocated`. If the sponsor got it, it would pay to keep runs so short, or
//!   hold-outs so small, that nobody passes; if the other contributors got it, each would earn by the others' bad
//!   luck; if its author got it, luck would be paid after all. When the run closes, what waits is split by what was
//!   earned ([`crate::closing`]).
//! - If there are no scores (too few evaluators answered in time), the work was done and not judged:
//!   the budget is paid in and waits in `Account::Unallocated`. Otherwise a sponsor could save the
//!   budget by keeping its evaluators silent.

use tributary_protocol::id::{MicroOpen, PeerId, Ppb};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::round::RoundValue;

use crate::money::{self, MAX_AMOUNT, MoneyError};
use crate::significance::TestedScore;

/// Nanonats in a nat.
const NANO: u128 = 1_000_000_000;

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

/// What a sponsor offers for a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The most that a round pays.
    pub budget: MicroOpen,
    /// For each nat per predicted token that it gains.
    pub price_per_nat: MicroOpen,
    /// Part of the weight that was committed to in time and that the round includes: the round pays that part. A
    /// member that leaves others out, or commits and does not send, gains nothing by it.
    pub arrived: Ppb,
}

impl Offer {
    /// What a run offers for a round of which everything arrived.
    pub fn of(manifest: &Manifest) -> Self {
        Self {
            budget: manifest.payment.budget_per_round,
            price_per_nat: manifest.payment.price_per_nat,
            arrived: Ppb::ONE,
        }
    }

    /// What it offers for the round of this value.
    pub fn of_round(manifest: &Manifest, value: &RoundValue) -> Self {
        let included: u128 = (value.included.iter()).map(|i| u128::from(i.weight)).sum();
        let missed: u128 = value.missed.iter().map(|m| u128::from(m.weight)).sum();
        let arrived = included * u128::from(Ppb::ONE.0) / (included + missed).max(1);
        let arrived = match missed {
            0 => Ppb::ONE,
            _ => Ppb(u32::try_from(arrived).expect("no more than the whole")),
        };
        Self {
            arrived,
            ..Self::of(manifest)
        }
    }

    /// What a round is worth whose scores add up to `gain` nanonats: rounded down, nothing for a loss, at most the
    /// budget; of that, as much as arrived.
    pub fn worth(&self, gain: i128) -> MicroOpen {
        let gain = u128::try_from(gain).unwrap_or(0);
        // A product beyond 128 bits is beyond every budget.
        let worth = gain.checked_mul(self.price_per_nat.0);
        let worth = worth.map_or(self.budget.0, |worth| (worth / NANO).min(self.budget.0));
        self.of_arrived(worth)
    }

    fn of_arrived(&self, amount: u128) -> MicroOpen {
        MicroOpen(amount * u128::from(self.arrived.0) / u128::from(Ppb::ONE.0))
    }
}

/// What became of a round's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What the round is worth was paid to contributors, but for what waits.
    Paid,
    /// The scores add up to nothing or less; the sponsor keeps the budget.
    NoGain,
    /// The round gained something, and no author of a positive score is beyond luck yet; its worth waits unallocated.
    NotBeyondLuck,
    /// The round has no final scores; its budget waits unallocated.
    Unscored,
}

/// One contributor's line of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// The final score, and what its author had shown with it.
    pub tested: TestedScore,
    /// Part of the round; nothing while it is held back.
    pub credit: Ppb,
    /// What that is of the round's worth.
    pub amount: MicroOpen,
}

impl Credit {
    /// The contributor.
    pub fn peer(&self) -> PeerId {
        self.tested.score.peer
    }
}

/// A round's scores, credits and amounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundCredits {
    /// What became of the budget.
    pub outcome: Outcome,
    /// Sum of all final scores, in nanonats.
    pub gain: i128,
    /// What the sponsor pays in: the amounts of all lines and what waits.
    pub worth: MicroOpen,
    /// What goes to nobody yet: the parts of scores that are held back, or the budget of a round that nobody scored.
    pub waiting: MicroOpen,
    /// One line per scored contribution, ordered by peer.
    pub lines: Vec<Credit>,
}

/// Turns tested scores into credits and splits by them what the round is worth.
///
/// # Errors
/// See [`CreditError`].
pub fn assign(scores: &[TestedScore], offer: &Offer) -> Result<RoundCredits, CreditError> {
    let is_out_of_order = |pair: &&[TestedScore]| pair[0].score.peer >= pair[1].score.peer;
    if let Some(pair) = scores.windows(2).find(is_out_of_order) {
        return Err(CreditError::Order(pair[1].score.peer));
    }
    if offer.budget > MAX_AMOUNT {
        return Err(MoneyError::TooLarge(offer.budget).into());
    }
    let gain = gain(scores);
    let worth = match scores.is_empty() {
        true => offer.of_arrived(offer.budget.0),
        false => offer.worth(gain),
    };
    let credits = shares(scores, gain);
    let amounts = money::split(worth, &credits).unwrap_or_else(|| vec![MicroOpen(0); scores.len()]);
    let lines: Vec<Credit> = (scores.iter().zip(credits).zip(amounts))
        .map(|((tested, (_, credit)), amount)| match tested.counts() {
            0 => Credit {
                tested: *tested,
                credit: Ppb(0),
                amount: MicroOpen(0),
            },
            _ => Credit {
                tested: *tested,
                credit: Ppb(credit as u32),
                amount,
            },
        })
        .collect();
    let paid: u128 = lines.iter().map(|line| line.amount.0).sum();
    let outcome = match gain {
        _ if scores.is_empty() => Outcome::Unscored,
        ..=0 => Outcome::NoGain,
        _ if scores.iter().all(|tested| tested.counts() == 0) => Outcome::NotBeyondLuck,
        _ => Outcome::Paid,
    };
    assert!(paid <= worth.0, "a round pays what it is worth");
    Ok(RoundCredits {
        outcome,
        gain,
        worth,
        waiting: MicroOpen(worth.0 - paid),
        lines,
    })
}

/// Sum of all scores of a round, in nanonats.
pub(crate) fn gain(scores: &[TestedScore]) -> i128 {
    (scores.iter())
        .map(|tested| i128::from(tested.score.score.0))
        .sum()
}

/// Each contributor's part of the positive scores in billionths, whether it counts yet or not; nothing in a round without
/// a gain.
fn shares(scores: &[TestedScore], gain: i128) -> Vec<(PeerId, u64)> {
    let weights = weights(scores);
    let parts = (gain > 0).then(|| money::apportion(u128::from(Ppb::ONE.0), &weights));
    let parts = parts.flatten().unwrap_or_else(|| vec![0; scores.len()]);
    (weights.iter().zip(parts))
        .map(|((peer, _), part)| (*peer, part as u64))
        .collect()
}

/// What is split by: the positive scores, in nanonats.
pub(crate) fn weights(scores: &[TestedScore]) -> Vec<(PeerId, u64)> {
    (scores.iter())
        .map(|tested| (tested.score.peer, tested.positive()))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tributary_protocol::hash::Digest;
    use tributary_protocol::id::NanoNats;
    use tributary_protocol::round::FinalScore;

    use super::*;
    use crate::significance::CumulativeScore;

    /// Of authors that have shown enough.
    fn scores(nanonats: &[i64]) -> Vec<TestedScore> {
        (nanonats.iter().enumerate())
            .map(|(n, &score)| TestedScore {
                score: FinalScore {
                    peer: PeerId(Digest::from_bytes([n as u8; 32])),
                    score: NanoNats(score),
                    low: NanoNats(score.saturating_sub(5)),
                    high: NanoNats(score.saturating_add(5)),
                    luck: NanoNats(1),
                },
                shown: CumulativeScore {
                    scores: 4,
                    squares: 1,
                },
            })
            .collect()
    }

    fn hold_back(tested: &mut TestedScore) {
        tested.shown.scores = 3;
    }

    /// That any gain reaches.
    fn budget(budget: u128) -> Offer {
        Offer {
            budget: MicroOpen(budget),
            price_per_nat: MicroOpen(u128::MAX),
            arrived: Ppb::ONE,
        }
    }

    fn amounts(nanonats: &[i64], of: u128) -> Vec<u128> {
        let assigned = assign(&scores(nanonats), &budget(of)).expect("ordered");
        assigned.lines.iter().map(|line| line.amount.0).collect()
    }

    #[test]
    fn the_budget_follows_the_positive_scores() {
        assert_eq!(amounts(&[300, 100, -300], 1000), [750, 250, 0]);
    }

    #[test]
    fn a_negative_score_earns_nothing_and_stays_on_record() {
        let assigned = assign(&scores(&[10, -7]), &budget(5)).expect("ordered");
        assert_eq!(assigned.lines[1].tested.score.score, NanoNats(-7));
        assert_eq!(assigned.lines[1].tested.score.low, NanoNats(-12));
        assert_eq!(assigned.lines[1].credit, Ppb(0));
        assert_eq!(assigned.lines[1].amount, MicroOpen(0));
    }

    #[test]
    fn a_round_in_which_no_score_is_positive_costs_the_sponsor_nothing() {
        let assigned = assign(&scores(&[0, -7, i64::MIN]), &budget(5)).expect("ordered");
        assert_eq!(
            (assigned.outcome, assigned.worth),
            (Outcome::NoGain, MicroOpen(0))
        );
        assert!(assigned.lines.iter().all(|l| l.amount == MicroOpen(0)));
        assert_eq!(assigned.lines.len(), 3);
    }

    #[test]
    fn a_score_that_is_held_back_earns_nothing_and_its_part_waits() {
        let mut held = scores(&[300, 100, 100]);
        hold_back(&mut held[0]);
        let assigned = assign(&held, &budget(1000)).expect("ordered");
        let amounts: Vec<u128> = assigned.lines.iter().map(|line| line.amount.0).collect();
        assert_eq!(
            (assigned.outcome, amounts),
            (Outcome::Paid, vec![0, 200, 200])
        );
        assert_eq!(
            (assigned.worth, assigned.waiting),
            (MicroOpen(1000), MicroOpen(600))
        );
        assert_eq!(assigned.lines[0].tested, held[0]);
    }

    #[test]
    fn a_round_in_which_nobody_is_beyond_luck_is_told_from_one_without_a_gain() {
        let outcome = |nanonats: &[i64]| {
            let mut held = scores(nanonats);
            held.iter_mut().for_each(hold_back);
            let assigned = assign(&held, &budget(5)).expect("ordered");
            assert!(assigned.lines.iter().all(|l| l.amount == MicroOpen(0)));
            assigned.outcome
        };
        assert_eq!(outcome(&[8, -7]), Outcome::NotBeyondLuck);
        assert_eq!(outcome(&[7, -7]), Outcome::NoGain);
        assert_eq!(outcome(&[0, -7]), Outcome::NoGain);
    }

    #[test]
    fn a_round_without_scores_is_unscored() {
        let assigned = assign(&[], &budget(5)).expect("ordered");
        assert_eq!(
            (assigned.outcome, assigned.lines.len()),
            (Outcome::Unscored, 0)
        );
        assert_eq!(assigned.waiting, MicroOpen(5), "not the sponsor's to save");
    }

    /// The loss of a round rose from 4.9620 to 4.9623, and one OPEN was paid for it.
    #[test]
    fn a_round_after_which_the_loss_is_higher_pays_nothing_although_some_scores_are_positive() {
        let offer = Offer {
            budget: MicroOpen(1_000_000),
            price_per_nat: MicroOpen(50_000_000),
            arrived: Ppb::ONE,
        };
        let assigned = assign(&scores(&[400_000, -700_000]), &offer).expect("ordered");
        assert_eq!(assigned.outcome, Outcome::NoGain);
        assert_eq!((assigned.gain, assigned.worth), (-300_000, MicroOpen(0)));
        assert!(
            assigned
                .lines
                .iter()
                .all(|line| line.amount == MicroOpen(0))
        );
    }

    #[test]
    fn a_round_pays_its_gain_at_the_price_and_never_more_than_its_budget() {
        let offer = Offer {
            budget: MicroOpen(1_000_000),
            price_per_nat: MicroOpen(50_000_000),
            arrived: Ppb::ONE,
        };
        let worth = |nanonats: &[i64]| {
            let assigned = assign(&scores(nanonats), &offer).expect("ordered");
            let paid: u128 = assigned.lines.iter().map(|line| line.amount.0).sum();
            assert_eq!((paid, assigned.waiting), (assigned.worth.0, MicroOpen(0)));
            paid
        };
        // Ten millinats at 50 OPEN a nat.
        assert_eq!(worth(&[6_000_000, 4_000_000]), 500_000);
        // Harm is taken off.
        assert_eq!(worth(&[6_000_000, 4_000_000, -5_000_000]), 250_000);
        assert_eq!(worth(&[20_000_000]), 1_000_000);
        assert_eq!(worth(&[20_000_001]), 1_000_000);
        assert_eq!(worth(&[19]), 0, "less than a micro-OPEN");
        assert_eq!(offer.worth(i128::MAX), offer.budget);
    }

    #[test]
    fn unordered_scores_and_absurd_budgets_are_refused() {
        let mut twice = scores(&[1, 2]);
        twice[1].score.peer = twice[0].score.peer;
        let refused = assign(&twice, &budget(5));
        assert_eq!(refused, Err(CreditError::Order(twice[0].score.peer)));
        let absurd = assign(&scores(&[1]), &budget(u128::MAX));
        assert!(matches!(absurd, Err(CreditError::Money(_))));
    }

    proptest! {
        #[test]
        fn credits_and_amounts_add_up(
            nanonats in prop::collection::vec((any::<i64>(), any::<bool>()), 1..64),
            budget in 0..=MAX_AMOUNT.0, price in 0..=1u128 << 80,
        ) {
            let (nanonats, held): (Vec<i64>, Vec<bool>) = nanonats.into_iter().unzip();
            let mut scores = scores(&nanonats);
            (scores.iter_mut().zip(&held)).filter(|(_, held)| **held).for_each(|(s, _)| hold_back(s));
            let offer = Offer { budget: MicroOpen(budget), price_per_nat: MicroOpen(price), arrived: Ppb::ONE };
            let assigned = assign(&scores, &offer).expect("ordered");
            let credits: u64 = assigned.lines.iter().map(|l| u64::from(l.credit.0)).sum();
            let paid: u128 = assigned.lines.iter().map(|l| l.amount.0).sum();
            let gain: i128 = nanonats.iter().map(|&n| i128::from(n)).sum();
            let counts = gain > 0 && nanonats.iter().zip(&held).any(|(&n, held)| n > 0 && !held);
            prop_assert_eq!(assigned.outcome == Outcome::Paid, counts);
            prop_assert_eq!(assigned.worth.0, paid + assigned.waiting.0);
            prop_assert_eq!(assigned.worth, offer.worth(gain));
            prop_assert!(assigned.worth.0 <= budget);
            prop_assert!(counts || (credits, paid) == (0, 0));
            if gain > 0 && held.iter().all(|held| !held) {
                prop_assert_eq!((credits, assigned.waiting), (1_000_000_000, MicroOpen(0)));
            }
            // Nobody is paid more than the price of what it gained, but for rounding.
            for line in &assigned.lines {
                let most = offer.worth(line.tested.score.score.0.into()).0;
                prop_assert!(line.amount.0 <= most + budget / 1_000_000_000 + 2);
            }
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
