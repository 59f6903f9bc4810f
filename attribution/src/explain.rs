//! Why a contribution was paid what it was: the arithmetic of one payout, laid open.
//!
//! ```text
//!   payout <- split of the round's worth <- final score <- score sheets <- certificate
//!                                              <- contribution vector <- receipt <- shard root
//! ```
//!
//! [`Payout`] breaks the splits down into quotas, remainders and the receivers of left-over units; [`MedianBasis`] breaks
//! the median down into the evaluators' judgements. The code that pays makes both, and they say where they differ from
//! what was certified. A [`Step`] notes how far one station of the walk was checked. The caller that holds the bytes
//! behind the stations reads them.

use tributary_protocol::aggregate;
use tributary_protocol::entry::Score;
use tributary_protocol::id::{MicroOpen, NanoNats, PeerId, Ppb, Round};
use tributary_protocol::panel::Panel;

use crate::credit::{self, CreditError, Offer, Outcome};
use crate::fold::CertifiedRound;
use crate::money::{self, Portion};
use crate::significance::TestedScore;

/// Why a payout cannot be explained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// The certified scores are none.
    #[error(transparent)]
    Credit(#[from] CreditError),
    /// A round with scores, none of them this peer's.
    #[error(
        "round {round} has final scores and none of {peer}: its contribution was not included, ask \
         for a receipt that was"
    )]
    NotScored {
        /// The round.
        round: Round,
        /// The peer whose contribution was asked for.
        peer: PeerId,
    },
}

/// What a round is worth, split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payout {
    /// The round.
    pub round: Round,
    /// The peer whose payout is explained.
    pub peer: PeerId,
    /// What the round may pay, and for what.
    pub offer: Offer,
    /// Sum of all final scores, in nanonats.
    pub gain: i128,
    /// What that is worth: paid, but for what waits.
    pub worth: MicroOpen,
    /// What of it contributors have.
    pub contributors: MicroOpen,
    /// What goes to nobody yet.
    pub waiting: MicroOpen,
    /// What became of it.
    pub outcome: Outcome,
    /// Sum of the positive scores: the denominator of every credit, in nanonats.
    pub positive: u128,
    /// One line per scored contribution, ordered by peer.
    pub lines: Vec<PayoutLine>,
}

/// One contributor's way from score to amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayoutLine {
    /// The final score, and what its author had shown with it.
    pub tested: TestedScore,
    /// `10^9 * score / positive` in whole billionths; `None` without a gain. It waits while the score is held back.
    pub credit: Option<Portion>,
    /// `contributors * credit / 10^9` in whole micro-OPEN.
    pub amount: Option<Portion>,
}

impl PayoutLine {
    /// The contributor.
    pub fn peer(&self) -> PeerId {
        self.tested.score.peer
    }

    /// The credit in billionths; none while the score is held back.
    pub fn credit(&self) -> Ppb {
        Ppb(self.given(self.credit) as u32)
    }

    /// The amount; none while the score is held back.
    pub fn amount(&self) -> MicroOpen {
        MicroOpen(self.given(self.amount))
    }

    fn given(&self, part: Option<Portion>) -> u128 {
        part.filter(|_| self.tested.counts() > 0)
            .map_or(0, |part| part.whole())
    }
}

impl Payout {
    /// Breaks down what `round` pays `peer`.
    ///
    /// # Errors
    /// See [`ExplainError`].
    pub fn of(round: &CertifiedRound, peer: PeerId) -> Result<Self, ExplainError> {
        let credits = round.credits()?;
        let known = round.scores.iter().any(|tested| tested.score.peer == peer);
        if !known && credits.outcome != Outcome::Unscored {
            let round = round.round;
            return Err(ExplainError::NotScored { round, peer });
        }
        let weights = credit::weights(&round.scores);
        let credit = (credits.gain > 0).then(|| money::portions(u128::from(Ppb::ONE.0), &weights));
        let credit = credit.flatten();
        let given: Option<Vec<(PeerId, u64)>> = credit.as_ref().map(|credit| {
            (weights.iter().zip(credit))
                .map(|((peer, _), part)| (*peer, part.whole() as u64))
                .collect()
        });
        let amount = given.and_then(|given| money::portions(credits.contributors.0, &given));
        let lines = (round.scores.iter().enumerate())
            .map(|(at, tested)| PayoutLine {
                tested: *tested,
                credit: credit.as_ref().map(|parts| parts[at]),
                amount: amount.as_ref().map(|parts| parts[at]),
            })
            .collect();
        Ok(Self {
            round: round.round,
            peer,
            offer: round.offer,
            gain: credits.gain,
            worth: credits.worth,
            contributors: credits.contributors,
            waiting: credits.waiting,
            outcome: credits.outcome,
            positive: weights.iter().map(|(_, weight)| u128::from(*weight)).sum(),
            lines,
        })
    }

    /// The line that is explained; `None` when the round has no scores.
    pub fn explained_line(&self) -> Option<&PayoutLine> {
        self.lines.iter().find(|line| line.peer() == self.peer)
    }
}

/// The evaluators' judgements of one contribution, from the lowest up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MedianBasis {
    /// What each evaluator but the contributor signed, and whether its score is (or is half of) the median.
    pub judgements: Vec<Judgement>,
    /// How many the final score needs.
    pub needed: usize,
    /// The final score: the median of the scores ([`aggregate::final_score`]), or zero of fewer than are needed.
    pub score: NanoNats,
    /// The final luck, which need not rest on the same judgements.
    pub luck: NanoNats,
}

/// One evaluator's line about one contribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The evaluator.
    pub evaluator: PeerId,
    /// What it found.
    pub line: Score,
    /// How often it counts: the evaluator's seats.
    pub seats: usize,
    /// Whether the median rests on it.
    pub is_middle: bool,
}

impl MedianBasis {
    /// Ranks what evaluators found of `peer`, of a panel that might have said something; `None` where none did. What
    /// `peer` said of itself is left out, and who has no seat counts for nothing.
    pub fn of(
        peer: &PeerId,
        found: impl IntoIterator<Item = (PeerId, Score)>,
        panel: &Panel,
    ) -> Option<Self> {
        let mut judgements: Vec<Judgement> = (found.into_iter())
            .filter(|(evaluator, _)| evaluator != peer)
            .map(|(evaluator, line)| Judgement {
                evaluator,
                line,
                seats: panel.seats_of(&evaluator),
                is_middle: false,
            })
            .collect();
        judgements.sort_by_key(|j| (j.line.score, j.evaluator));
        if judgements.is_empty() {
            return None;
        }
        let expected = panel.judges_of(peer);
        let needed = aggregate::needed(expected);
        let seats = judgements.iter().enumerate();
        let seats: Vec<(usize, Score)> = seats
            .flat_map(|(at, j)| std::iter::repeat_n((at, j.line), j.seats))
            .collect();
        let lines: Vec<Score> = seats.iter().map(|(_, line)| *line).collect();
        let last = aggregate::final_score(*peer, &lines, expected);
        if lines.len() >= needed {
            for seat in aggregate::middle(lines.len(), expected) {
                judgements[seats[seat].0].is_middle = true;
            }
        }
        Some(Self {
            judgements,
            needed,
            score: last.score,
            luck: last.luck,
        })
    }
}

/// A station of the walk from a payout to the data behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Station {
    /// The line of the statement, and the account that it moved.
    Payout,
    /// What the round is worth, over all contributors.
    Split,
    /// The final score as a median of signed sheets.
    Score,
    /// What the committee signed.
    Certificate,
    /// What the contribution added to the adapter.
    Vector,
    /// What the contributor signed.
    Receipt,
    /// What it had committed to when it joined.
    Shard,
}

impl Station {
    /// In one word, stable.
    pub fn word(self) -> &'static str {
        match self {
            Self::Payout => "payout",
            Self::Split => "split",
            Self::Score => "score",
            Self::Certificate => "certificate",
            Self::Vector => "vector",
            Self::Receipt => "receipt",
            Self::Shard => "shard",
        }
    }
}

/// One station, and how far it was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The station.
    pub station: Station,
    /// How far it was checked.
    pub check: Check,
}

/// How far something was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Recomputed just now, and found as certified; the sentence says from what.
    Holds(String),
    /// Not recomputed.
    Missing {
        /// What is not at hand.
        what: String,
        /// Where to get it.
        mend: String,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tributary_protocol::entry::ScoreSheet;
    use tributary_protocol::hash::Digest;
    use tributary_protocol::id::{RunId, StateHash};
    use tributary_protocol::round::{FinalScore, Included};

    use super::*;
    use crate::credit::Served;
    use crate::significance::CumulativeScore;

    fn peer(n: u8) -> PeerId {
        PeerId(Digest::from_bytes([n; 32]))
    }

    fn round(scores: &[i64], budget: u128) -> CertifiedRound {
        let scores = (scores.iter().zip(0u8..)).map(|(score, n)| FinalScore {
            peer: peer(n),
            score: NanoNats(*score),
            low: NanoNats(*score),
            high: NanoNats(*score),
            luck: NanoNats(1),
        });
        // Without luck so far, whoever scores is beyond it.
        let scores = scores.map(|score| TestedScore {
            score,
            shown: CumulativeScore {
                scores: score.score.0.into(),
                squares: 0,
            },
        });
        CertifiedRound {
            run: RunId::default(),
            round: Round(3),
            sponsor: peer(9),
            offer: Offer {
                budget: MicroOpen(budget),
                price_per_nat: MicroOpen(u128::MAX),
                ..Offer::WHOLE
            },
            scores: scores.collect(),
            served: Served::default(),
        }
    }

    fn line(score: i64) -> Score {
        Score {
            peer: peer(1),
            score: NanoNats(score),
            low: NanoNats(score),
            high: NanoNats(score),
            luck: NanoNats(score.unsigned_abs() as i64 % 7),
        }
    }

    #[test]
    fn the_unit_that_is_left_goes_to_the_largest_remainder() {
        let payout = Payout::of(&round(&[2, 1, -2], 10), peer(0)).expect("scored");
        assert_eq!(payout.lines[1].peer(), peer(1));
        let own = payout.explained_line().expect("scored");
        assert_eq!((payout.positive, payout.outcome), (3, Outcome::Paid));
        assert_eq!((payout.gain, payout.worth), (1, MicroOpen(10)));
        let credit = own.credit.expect("paid");
        assert_eq!((credit.floor, credit.remainder), (666_666_666, 2));
        assert!(credit.is_topped);
        assert_eq!(own.credit(), Ppb(666_666_667));
        assert_eq!(own.amount(), MicroOpen(7));
        assert_eq!(payout.lines[2].amount(), MicroOpen(0));
    }

    #[test]
    fn a_round_without_scores_explains_that_nothing_is_paid() {
        let payout = Payout::of(&round(&[], 10), peer(0)).expect("no scores");
        assert_eq!(
            (payout.outcome, payout.explained_line()),
            (Outcome::Unscored, None)
        );
        let nobody = Payout::of(&round(&[-1, 0], 10), peer(1)).expect("scored");
        assert_eq!(nobody.outcome, Outcome::NoGain);
        assert_eq!(
            nobody.explained_line().expect("scored").amount(),
            MicroOpen(0)
        );
    }

    #[test]
    fn what_is_held_back_is_split_off_and_waits() {
        let mut round = round(&[2, 1, 5], 10);
        round.scores[2].shown.squares = 100;
        let payout = Payout::of(&round, peer(2)).expect("scored");
        assert_eq!((payout.positive, payout.outcome), (8, Outcome::Paid));
        let own = payout.explained_line().expect("scored");
        assert!(own.tested.is_held_back() && own.amount() == MicroOpen(0));
        assert_eq!(own.amount.expect("a gain").whole(), payout.waiting.0);
        assert_eq!(payout.waiting, MicroOpen(6));
        round.scores.drain(..2);
        let alone = Payout::of(&round, peer(2)).expect("scored");
        assert_eq!((alone.positive, alone.outcome), (5, Outcome::NotBeyondLuck));
    }

    #[test]
    fn a_peer_that_was_not_scored_is_named() {
        let refused = Payout::of(&round(&[1, 2], 10), peer(7)).unwrap_err();
        assert!(refused.to_string().contains("round 3"), "{refused}");
    }

    fn evaluators(count: usize) -> Panel {
        Panel::equal((0..count as u8).map(peer))
    }

    #[test]
    fn the_median_names_the_judgements_it_rests_on() {
        let found = [(peer(1), line(9)), (peer(2), line(-4)), (peer(3), line(2))];
        let of = |found: &[(PeerId, Score)], expected| {
            let found_by = found.iter().map(|(peer, _)| *peer);
            let panel = Panel::equal(found_by.chain((20..).map(peer)).take(expected));
            MedianBasis::of(&peer(9), found.iter().copied(), &panel).expect("judged")
        };
        let middle =
            |v: &MedianBasis| -> Vec<bool> { v.judgements.iter().map(|j| j.is_middle).collect() };
        let odd = of(&found, 3);
        assert_eq!((odd.score, odd.needed), (NanoNats(2), 3));
        assert_eq!(middle(&odd), [false, true, false]);
        let even = of(&found[1..], 2);
        assert_eq!((even.score, middle(&even)), (NanoNats(-1), vec![true; 2]));
        let few = of(&found, 5);
        assert_eq!((few.score, middle(&few)), (NanoNats(0), vec![false; 3]));
        assert_eq!(MedianBasis::of(&peer(9), [], &evaluators(3)), None);
    }

    #[test]
    fn a_judgement_counts_once_for_each_seat() {
        let found = [(peer(1), line(9)), (peer(2), line(-4)), (peer(3), line(2))];
        let panel = Panel::new([(peer(1), 4), (peer(2), 1), (peer(3), 1)]);
        let median = MedianBasis::of(&peer(9), found, &panel).expect("judged");
        assert_eq!((median.score, median.needed), (NanoNats(9), 5));
        let middle: Vec<bool> = median.judgements.iter().map(|j| j.is_middle).collect();
        assert_eq!(middle, [false, false, true]);
        let own = MedianBasis::of(&peer(1), found, &panel).expect("judged");
        assert_eq!((own.score, own.needed), (NanoNats(-1), 2));
    }

    #[test]
    fn what_an_evaluator_says_of_itself_is_no_judgement() {
        let found = [(peer(0), line(900)), (peer(1), line(2))];
        let own = MedianBasis::of(&peer(0), found, &evaluators(2)).expect("judged");
        assert_eq!((own.score, own.judgements.len()), (NanoNats(2), 1));
        assert_eq!(own.judgements[0].evaluator, peer(1));
        assert_eq!(MedianBasis::of(&peer(0), [found[0]], &evaluators(1)), None);
    }

    proptest! {
        #[test]
        fn explained_payouts_are_those_that_are_paid(
            scores in prop::collection::vec((-1_000_000i64..5_000_000_000, 0u128..2_000_000_000), 1..20),
            budget in 0..=money::MAX_AMOUNT.0,
        ) {
            let (scores, luck): (Vec<i64>, Vec<u128>) = scores.into_iter().unzip();
            let mut round = round(&scores, budget);
            (round.scores.iter_mut().zip(luck)).for_each(|(s, luck)| s.shown.squares = luck * luck);
            let paid = round.credits().expect("ordered");
            let payout = Payout::of(&round, peer(0)).expect("scored");
            prop_assert_eq!((payout.outcome, payout.worth), (paid.outcome, paid.worth));
            prop_assert_eq!((payout.gain, payout.waiting), (paid.gain, paid.waiting));
            for (line, paid) in payout.lines.iter().zip(&paid.lines) {
                prop_assert_eq!((line.credit(), line.amount()), (paid.credit, paid.amount));
            }
        }

        #[test]
        fn explained_medians_are_those_that_are_certified(
            scores in prop::collection::vec(any::<i32>(), 1..12),
            missing in 0usize..4,
        ) {
            let evaluators = evaluators(scores.len() + missing);
            let sheets: Vec<(PeerId, ScoreSheet)> = (scores.iter().zip(0u8..))
                .map(|(score, n)| {
                    let sheet = ScoreSheet {
                        round: Round(1),
                        state: StateHash::default(),
                        predicted: 1,
                        loss_before: NanoNats(0),
                        loss_after: NanoNats(0),
                        scores: vec![line(i64::from(*score))],
                    };
                    (peer(n), sheet)
                })
                .collect();
            let views: Vec<(PeerId, &ScoreSheet)> = sheets.iter().map(|(p, s)| (*p, s)).collect();
            let included = [Included {
                receipt: tributary_protocol::round::EntryRef {
                    author: peer(3),
                    seq: tributary_protocol::id::Seq(0),
                    block: Default::default(),
                    index: 0,
                },
                update: Default::default(),
                tokens: 1,
                weight: 1,
            }];
            let certified = aggregate::final_scores(&views, &included, &evaluators);
            prop_assert_eq!(certified.is_empty(), scores.len() < aggregate::needed(evaluators.seats()));
            let found = sheets.iter().map(|(peer, sheet)| (*peer, sheet.scores[0]));
            let verdict = MedianBasis::of(&peer(3), found, &evaluators);
            for certified in certified {
                let Some(verdict) = &verdict else {
                    prop_assert_eq!(certified.score, NanoNats(0));
                    continue;
                };
                prop_assert_eq!(verdict.score, certified.score);
                prop_assert_eq!(verdict.luck, certified.luck);
            }
        }
    }
}
