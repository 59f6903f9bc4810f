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
//! - A round pays out of a deposit that a certificate had seen before it began ([`crate::fold::Chain`]). Without one it
//!   is *unfunded*: scores and credits stand, and it pays nothing.
//! - The manifest gives evaluators whose sheets count and members that signed the round's root a part of what it is
//!   worth. A part that nobody is there for waits as well.
//! - If there are no scores (too few evaluators answered in time), the work was done and not judged:
//!   the budget is paid in and waits in `Account::Unallocated`. When the run closes, what the round is worth is taken from
//!   those beside it, and the rest goes back ([`crate::closing`]).

use tributary_protocol::id::{MicroOpen, PeerId, Ppb};
use tributary_protocol::manifest::{Manifest, RoundSplit};
use tributary_protocol::round::RoundValue;

use crate::account::Account;
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
    /// What of that a deposit covers.
    pub funded: MicroOpen,
    /// For each nat per predicted token that it gains.
    pub price_per_nat: MicroOpen,
    /// Part of the weight that was committed to in time and that the round includes: the round pays that part. A
    /// member that leaves others out, or commits and does not send, gains nothing by it.
    pub arrived: Ppb,
    /// How what the round is worth is split.
    pub split: RoundSplit,
}

/// Whom a round pays beside its contributors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Evaluators whose sheets count, ordered, each as often as it has seats.
    pub evaluators: Vec<PeerId>,
    /// Members that signed the round's root, ordered, with their votes.
    pub signers: Vec<(PeerId, u64)>,
}

impl Offer {
    /// Offers nothing, as far as anybody could ask; what tests and studies begin with.
    pub const WHOLE: Self = Self {
        budget: MicroOpen(0),
        funded: MAX_AMOUNT,
        price_per_nat: MicroOpen(0),
        arrived: Ppb::ONE,
        split: RoundSplit::CONTRIBUTORS,
    };

    /// What a run offers for a round of which everything arrived, and that a deposit covers.
    pub fn of(manifest: &Manifest) -> Self {
        Self {
            budget: manifest.payment.budget_per_round,
            funded: manifest.payment.budget_per_round,
            price_per_nat: manifest.payment.price_per_nat,
            arrived: Ppb::ONE,
            split: manifest.payment.round,
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

    /// What a round is worth whose scores add up to `gain` nanonats: rounded down, nothing for a loss, at most what is
    /// funded of the budget; of that, as much as arrived.
    pub fn worth(&self, gain: i128) -> MicroOpen {
        self.of_arrived(self.whole(gain).min(self.funded).0)
    }

    /// What it would be worth if all of it had arrived and its budget were there.
    pub(crate) fn whole(&self, gain: i128) -> MicroOpen {
        let gain = u128::try_from(gain).unwrap_or(0);
        // A product beyond 128 bits is beyond every budget.
        let worth = gain.checked_mul(self.price_per_nat.0);
        let budget = self.budget.0;
        MicroOpen(worth.map_or(budget, |worth| (worth / NANO).min(budget)))
    }

    /// What contributors have of a round without scores, where one with scores would be worth as much: nobody judged it, so
    /// nobody is paid for having done so.
    pub(crate) fn unscored(&self, whole: MicroOpen) -> MicroOpen {
        let worth = self.of_arrived(whole.min(self.most()).0);
        self.parts(worth)[0]
    }

    /// The most that the round can pay.
    pub fn most(&self) -> MicroOpen {
        self.budget.min(self.funded)
    }

    /// Whether it can pay nothing, although the run has a budget.
    pub fn is_unfunded(&self) -> bool {
        self.budget > MicroOpen(0) && self.funded == MicroOpen(0)
    }

    /// What contributors, evaluators and members have of what a round is worth.
    fn parts(&self, worth: MicroOpen) -> [MicroOpen; 3] {
        let parts = [
            self.split.contributors,
            self.split.evaluators,
            self.split.members,
        ];
        let weights: Vec<(usize, u64)> = (parts.iter().enumerate())
            .map(|(n, part)| (n, u64::from(part.0)))
            .collect();
        let parts = money::split(worth, &weights);
        let parts = parts.and_then(|parts| <[MicroOpen; 3]>::try_from(parts).ok());
        parts.unwrap_or([worth, MicroOpen(0), MicroOpen(0)])
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
    /// The round has no final scores; its budget waits unallocated until the run closes.
    Unscored,
    /// No deposit covers the round: scores and credits stand, and nothing is paid.
    Unfunded,
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
    /// What the sponsor pays in: the amounts of all lines, those of evaluators and members, and what waits.
    pub worth: MicroOpen,
    /// What of it is split by credit.
    pub contributors: MicroOpen,
    /// What goes to nobody yet: the parts of scores that are held back, or the budget of a round that nobody scored.
    pub waiting: MicroOpen,
    /// One line per scored contribution, ordered by peer.
    pub lines: Vec<Credit>,
    /// What evaluators and members are paid, and the dust of that.
    pub others: Vec<(Account, MicroOpen)>,
}

/// Turns tested scores into credits, splits by them what contributors have of what the round is worth, and gives the rest
/// to whoever `served`.
///
/// # Errors
/// See [`CreditError`].
pub fn assign(
    scores: &[TestedScore],
    offer: &Offer,
    served: &Served,
) -> Result<RoundCredits, CreditError> {
    let is_out_of_order = |pair: &&[TestedScore]| pair[0].score.peer >= pair[1].score.peer;
    if let Some(pair) = scores.windows(2).find(is_out_of_order) {
        return Err(CreditError::Order(pair[1].score.peer));
    }
    if offer.budget > MAX_AMOUNT {
        return Err(MoneyError::TooLarge(offer.budget).into());
    }
    let gain = gain(scores);
    let worth = match scores.is_empty() {
        true => offer.of_arrived(offer.most().0),
        false => offer.worth(gain),
    };
    let credits = shares(scores, gain);
    let [contributors, others] = match scores.is_empty() {
        // Nobody judged it, so nobody is paid for having done so.
        true => [worth, MicroOpen(0)],
        false => [
            offer.parts(worth)[0],
            MicroOpen(worth.0 - offer.parts(worth)[0].0),
        ],
    };
    let amounts =
        money::split(contributors, &credits).unwrap_or_else(|| vec![MicroOpen(0); scores.len()]);
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
        1.. if offer.is_unfunded() => Outcome::Unfunded,
        ..=0 => Outcome::NoGain,
        _ if scores.iter().all(|tested| tested.counts() == 0) => Outcome::NotBeyondLuck,
        _ => Outcome::Paid,
    };
    let others = match others {
        MicroOpen(0) => Vec::new(),
        _ => serve(offer.parts(worth), served),
    };
    let given: u128 = others.iter().map(|(_, amount)| amount.0).sum();
    assert!(paid + given <= worth.0, "a round pays what it is worth");
    Ok(RoundCredits {
        outcome,
        gain,
        worth,
        waiting: MicroOpen(worth.0 - paid - given),
        contributors,
        lines,
        others,
    })
}

/// What evaluators have, each the same, and members that signed, by their votes; nobody of no part.
fn serve([_, evaluators, members]: [MicroOpen; 3], served: &Served) -> Vec<(Account, MicroOpen)> {
    let mut out = Vec::new();
    if let Some((each, dust)) = money::split_equal(evaluators, served.evaluators.len()) {
        out.extend((served.evaluators.iter()).map(|peer| (Account::Evaluator(*peer), each)));
        out.push((Account::Dust, dust));
    }
    if let Some(parts) = money::split(members, &served.signers) {
        let signers = served.signers.iter().zip(parts);
        out.extend(signers.map(|((peer, _), part)| (Account::Member(*peer), part)));
    }
    out.retain(|(_, amount)| *amount > MicroOpen(0));
    out
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
            ..Offer::WHOLE
        }
    }

    fn amounts(nanonats: &[i64], of: u128) -> Vec<u128> {
        let assigned = assign(&scores(nanonats), &budget(of), &Served::default()).expect("ordered");
        assigned.lines.iter().map(|line| line.amount.0).collect()
    }

    #[test]
    fn the_budget_follows_the_positive_scores() {
        assert_eq!(amounts(&[300, 100, -300], 1000), [750, 250, 0]);
    }

    #[test]
    fn a_negative_score_earns_nothing_and_stays_on_record() {
        let assigned = assign(&scores(&[10, -7]), &budget(5), &Served::default()).expect("ordered");
        assert_eq!(assigned.lines[1].tested.score.score, NanoNats(-7));
        assert_eq!(assigned.lines[1].tested.score.low, NanoNats(-12));
        assert_eq!(assigned.lines[1].credit, Ppb(0));
        assert_eq!(assigned.lines[1].amount, MicroOpen(0));
    }

    #[test]
    fn a_round_in_which_no_score_is_positive_costs_the_sponsor_nothing() {
        let assigned =
            assign(&scores(&[0, -7, i64::MIN]), &budget(5), &Served::default()).expect("ordered");
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
        let assigned = assign(&held, &budget(1000), &Served::default()).expect("ordered");
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
            let assigned = assign(&held, &budget(5), &Served::default()).expect("ordered");
            assert!(assigned.lines.iter().all(|l| l.amount == MicroOpen(0)));
            assigned.outcome
        };
        assert_eq!(outcome(&[8, -7]), Outcome::NotBeyondLuck);
        assert_eq!(outcome(&[7, -7]), Outcome::NoGain);
        assert_eq!(outcome(&[0, -7]), Outcome::NoGain);
    }

    #[test]
    fn a_round_without_scores_is_unscored() {
        let assigned = assign(&[], &budget(5), &Served::default()).expect("ordered");
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
            ..Offer::WHOLE
        };
        let assigned =
            assign(&scores(&[400_000, -700_000]), &offer, &Served::default()).expect("ordered");
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
            ..Offer::WHOLE
        };
        let worth = |nanonats: &[i64]| {
            let assigned = assign(&scores(nanonats), &offer, &Served::default()).expect("ordered");
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
        let refused = assign(&twice, &budget(5), &Served::default());
        assert_eq!(refused, Err(CreditError::Order(twice[0].score.peer)));
        let absurd = assign(&scores(&[1]), &budget(u128::MAX), &Served::default());
        assert!(matches!(absurd, Err(CreditError::Money(_))));
    }

    #[test]
    fn evaluators_share_their_part_equally_and_members_theirs_by_votes() {
        let peer = |n: u8| PeerId(Digest::from_bytes([n; 32]));
        let offer = Offer {
            split: RoundSplit::default(),
            ..budget(2_003)
        };
        let served = Served {
            evaluators: vec![peer(1), peer(2), peer(3)],
            signers: vec![(peer(1), 30), (peer(4), 10)],
        };
        let assigned = assign(&scores(&[300, 100]), &offer, &served).expect("ordered");
        let amounts: Vec<u128> = assigned.lines.iter().map(|line| line.amount.0).collect();
        assert_eq!(
            (assigned.contributors.0, amounts),
            (1_803, vec![1_352, 451])
        );
        let others: Vec<(Account, u128)> = (assigned.others.iter())
            .map(|(account, amount)| (*account, amount.0))
            .collect();
        let evaluator = |n| (Account::Evaluator(peer(n)), 33);
        assert_eq!(
            others,
            [
                evaluator(1),
                evaluator(2),
                evaluator(3),
                (Account::Dust, 1),
                (Account::Member(peer(1)), 75),
                (Account::Member(peer(4)), 25),
            ]
        );
        assert_eq!(assigned.waiting, MicroOpen(0));
        let alone = assign(&scores(&[300, 100]), &offer, &Served::default()).expect("ordered");
        assert_eq!((alone.others, alone.waiting), (vec![], MicroOpen(200)));
        assert_eq!(
            alone.worth, assigned.worth,
            "nobody saves by keeping others out"
        );
        let unscored = assign(&[], &offer, &served).expect("ordered");
        assert_eq!(
            (unscored.others, unscored.waiting),
            (vec![], MicroOpen(2_003))
        );
    }

    #[test]
    fn a_round_that_no_deposit_covers_pays_nothing_and_its_credits_stand() {
        let unfunded = Offer {
            funded: MicroOpen(0),
            ..budget(1_000)
        };
        let assigned =
            assign(&scores(&[300, 100]), &unfunded, &Served::default()).expect("ordered");
        assert_eq!(
            (assigned.outcome, assigned.worth),
            (Outcome::Unfunded, MicroOpen(0))
        );
        let credits: Vec<u32> = assigned.lines.iter().map(|line| line.credit.0).collect();
        assert_eq!(credits, [750_000_000, 250_000_000]);
        let half = Offer {
            funded: MicroOpen(500),
            ..budget(1_000)
        };
        let assigned = assign(&scores(&[300, 100]), &half, &Served::default()).expect("ordered");
        assert_eq!(
            (assigned.outcome, assigned.worth),
            (Outcome::Paid, MicroOpen(500))
        );
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
            let offer = Offer { budget: MicroOpen(budget), price_per_nat: MicroOpen(price), ..Offer::WHOLE };
            let assigned = assign(&scores, &offer, &Served::default()).expect("ordered");
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
