//! What waited while a run went on, given out when it closes.
//!
//! Money waits in `Account::Unallocated` where a round's work was not judged, or a score was not beyond luck yet
//! ([`crate::credit`]). The closing height makes the last round final, so nothing can be shown any more: what waits is
//! split among those who earned, in proportion to what the run's credits gave them. Everybody's earnings grow by the
//! same factor. Where nobody earned anything it is burned.
//!
//! A round without scores set its whole budget aside. What it is worth is taken from its neighbours: what contributors have of
//! the mean of the scored round before it and the one behind it, or of the only one there is. The rest goes back to the
//! sponsor. If all of it went back, a sponsor would gain by evaluators that stay silent; if nothing did, contributors would
//! by rounds that nobody scores. Where no round of the run was scored, nothing is known and nothing goes back.

use std::collections::BTreeMap;

use tributary_protocol::id::{MicroOpen, PeerId, RunId};

use crate::account::Account;
use crate::credit::{Offer, Outcome, RoundCredits};
use crate::fold::Posting;
use crate::money::{self, Balance, MoneyError};

/// What waited when a run closed, and by what it is split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The run.
    pub run: RunId,
    /// Who paid it in.
    pub sponsor: PeerId,
    /// What waited.
    pub waiting: MicroOpen,
    /// What of it goes back to the sponsor.
    pub returned: MicroOpen,
    /// What the run's rounds paid to each contributor, ordered by peer; nobody that was paid nothing.
    pub earned: Vec<(PeerId, MicroOpen)>,
}

impl Closing {
    /// What is given out.
    fn given(&self) -> MicroOpen {
        MicroOpen(self.waiting.0.saturating_sub(self.returned.0))
    }

    /// Each one's part of what is given out, in the order of `earned`; `None` where nobody earned anything.
    pub fn parts(&self) -> Option<Vec<MicroOpen>> {
        let weights: Vec<(PeerId, u128)> = (self.earned.iter())
            .map(|(peer, amount)| (*peer, amount.0))
            .collect();
        money::split_wide(self.given(), &weights)
    }

    /// `peer`'s part of it.
    pub fn part(&self, peer: &PeerId) -> MicroOpen {
        let parts = self.parts().unwrap_or_default();
        let mut found = self.earned.iter().zip(parts);
        found
            .find(|((earner, _), _)| earner == peer)
            .map_or(MicroOpen(0), |(_, part)| part)
    }

    /// Postings of a closing; they add up to zero, and there are none where nothing waited.
    ///
    /// # Errors
    /// [`MoneyError`] for an amount that no run can come to.
    pub fn postings(&self) -> Result<Vec<Posting>, MoneyError> {
        if self.waiting == MicroOpen(0) {
            return Ok(Vec::new());
        }
        let payees: Vec<(Account, MicroOpen)> = match self.parts() {
            None => vec![(Account::Burned, self.given())],
            Some(parts) => {
                let earners = self
                    .earned
                    .iter()
                    .map(|(peer, _)| Account::Contributor(*peer));
                earners.zip(parts).collect()
            }
        };
        let mut out = vec![Posting {
            account: Account::Unallocated,
            amount: Balance::minus(self.waiting)?,
        }];
        let sponsor = (Account::Sponsor(self.sponsor), self.returned);
        for (account, amount) in payees.into_iter().chain([sponsor]) {
            if amount > MicroOpen(0) {
                let amount = Balance::plus(amount)?;
                out.push(Posting { account, amount });
            }
        }
        Ok(out)
    }
}

/// What a run's rounds paid, and what of them waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Running {
    waiting: u128,
    returned: u128,
    /// What the last scored round would have been worth, had all of it arrived.
    scored: Option<MicroOpen>,
    /// Rounds without scores since then: what was offered for them, and what they set aside.
    unscored: Vec<(Offer, MicroOpen)>,
    earned: BTreeMap<PeerId, u128>,
    /// Of whoever was scored: its parts of what rounds gained, in billionths of a nanonat. Money has no say in it, so a
    /// run without a deposit has credits too.
    credits: BTreeMap<PeerId, u128>,
}

impl Running {
    /// One round on, and what was offered for it.
    pub(crate) fn add(&mut self, round: &RoundCredits, offer: &Offer) {
        match round.outcome {
            Outcome::Unscored => self.unscored.push((*offer, round.waiting)),
            _ => {
                let worth = offer.whole(round.gain);
                let before = self.scored.replace(worth).unwrap_or(worth);
                let mean = MicroOpen(u128::midpoint(before.0, worth.0));
                for (offer, aside) in std::mem::take(&mut self.unscored) {
                    self.returned += aside.0 - offer.unscored(mean).0;
                }
            }
        }
        // Fewer rounds than 2^17, each of less than 2^60.
        self.waiting += round.waiting.0;
        for line in round.lines.iter().filter(|line| line.amount > MicroOpen(0)) {
            *self.earned.entry(line.peer()).or_default() += line.amount.0;
        }
        // A round gains less than 2^64 nanonats, so all of them together stay below 2^112.
        let gain = u128::try_from(round.gain).unwrap_or(0);
        for line in &round.lines {
            *self.credits.entry(line.peer()).or_default() += gain * u128::from(line.credit.0);
        }
    }

    /// An amount waits that nobody earned after all.
    pub(crate) fn wait(&mut self, amount: MicroOpen) {
        self.waiting += amount.0;
    }

    /// The run's credits so far: everybody that was ever scored, with its part of what rounds gained.
    pub(crate) fn credits(&self) -> &BTreeMap<PeerId, u128> {
        &self.credits
    }

    /// The run closes.
    pub(crate) fn close(&self, run: RunId, sponsor: PeerId) -> Closing {
        let earned = self.earned.iter();
        let last = self.scored.map(|worth| {
            let left = self.unscored.iter();
            left.map(|(offer, aside)| aside.0 - offer.unscored(worth).0)
                .sum()
        });
        Closing {
            run,
            sponsor,
            waiting: MicroOpen(self.waiting),
            returned: MicroOpen(self.returned + last.unwrap_or(0)),
            earned: earned
                .map(|(peer, amount)| (*peer, MicroOpen(*amount)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tributary_protocol::hash::Digest;
    use tributary_protocol::id::{NanoNats, Ppb};
    use tributary_protocol::manifest::RoundSplit;
    use tributary_protocol::round::FinalScore;

    use super::*;
    use crate::credit::{self, Served};
    use crate::significance::{CumulativeScore, TestedScore};

    /// A score beyond luck.
    fn tested(gain: u64) -> TestedScore {
        let score = NanoNats(gain as i64);
        TestedScore {
            score: FinalScore {
                peer: peer(1),
                score,
                low: score,
                high: score,
                luck: NanoNats(1),
            },
            shown: CumulativeScore {
                scores: 100,
                squares: 1,
            },
        }
    }

    fn peer(n: usize) -> PeerId {
        PeerId(Digest::from_bytes([n as u8; 32]))
    }

    fn closing(waiting: u128, earned: &[u128]) -> Closing {
        let earned = earned.iter().enumerate();
        Closing {
            run: RunId::default(),
            sponsor: peer(250),
            waiting: MicroOpen(waiting),
            returned: MicroOpen(0),
            earned: earned
                .map(|(n, amount)| (peer(n), MicroOpen(*amount)))
                .collect(),
        }
    }

    #[test]
    fn what_waited_follows_what_was_earned() {
        let closing = closing(600, &[1_000, 4_000, 1_000]);
        let parts: Vec<u128> = (0..3).map(|n| closing.part(&peer(n)).0).collect();
        assert_eq!(parts, [100, 400, 100]);
        assert_eq!(closing.part(&peer(9)), MicroOpen(0));
    }

    #[test]
    fn what_waited_in_a_run_that_paid_nobody_is_burned() {
        let made = closing(7, &[]).postings().expect("a sensible amount");
        let accounts: Vec<(Account, i128)> = made.iter().map(|p| (p.account, p.amount.0)).collect();
        assert_eq!(accounts, [(Account::Unallocated, -7), (Account::Burned, 7)]);
        assert_eq!(closing(0, &[5]).postings(), Ok(vec![]));
    }

    /// What goes back where rounds are worth these, `None` for one without scores; of ten at most, half of it contributors'.
    fn returned(rounds: &[Option<u64>]) -> u128 {
        let offer = Offer {
            budget: MicroOpen(10),
            funded: MicroOpen(10),
            price_per_nat: MicroOpen(1_000_000_000),
            split: RoundSplit {
                contributors: Ppb(500_000_000),
                evaluators: Ppb(500_000_000),
                members: Ppb(0),
            },
            ..Offer::WHOLE
        };
        let mut running = Running::default();
        for gain in rounds {
            let scores: Vec<TestedScore> = gain.iter().map(|gain| tested(*gain)).collect();
            let credits = credit::assign(&scores, &offer, &Served::default()).expect("in order");
            running.add(&credits, &offer);
        }
        let closing = running.close(RunId::default(), peer(250));
        let sum: i128 = (closing.postings().expect("amounts").iter())
            .map(|posting| posting.amount.0)
            .sum();
        assert_eq!(sum, 0);
        closing.returned.0
    }

    #[test]
    fn a_round_without_scores_is_worth_what_its_neighbours_are_and_the_rest_goes_back() {
        assert_eq!(returned(&[Some(8), None, Some(4)]), 10 - 3);
        // Two of them between two rounds, and one round on only one side.
        assert_eq!(returned(&[Some(8), None, None, Some(4)]), 2 * (10 - 3));
        assert_eq!(returned(&[None, Some(4), None]), 2 * (10 - 2));
        assert_eq!(returned(&[Some(8), None]), 10 - 4);
        // Beside a round that gained nothing it is worth half of the other.
        assert_eq!(returned(&[Some(8), None, Some(0)]), 10 - 2);
        assert_eq!(returned(&[None, None]), 0, "nothing is known");
        assert_eq!(returned(&[Some(8), Some(4)]), 0);
    }

    proptest! {
        #[test]
        fn everybodys_earnings_grow_by_the_same_factor(
            waiting in 0..=1u128 << 76, earned in prop::collection::vec(1..=1u128 << 76, 0..20),
        ) {
            let closing = closing(waiting, &earned);
            let made = closing.postings().expect("within bounds");
            prop_assert_eq!(made.iter().map(|p| p.amount.0).sum::<i128>(), 0);
            let total: u128 = earned.iter().sum();
            for (n, amount) in earned.iter().enumerate() {
                let part = closing.part(&peer(n)).0 as f64;
                let exact = waiting as f64 * (*amount as f64 / total as f64);
                prop_assert!((part - exact).abs() <= 2.0 + waiting as f64 * 1e-12, "{part} of {exact}");
            }
        }
    }
}
