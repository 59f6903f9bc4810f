//! What waited while a run went on, given out when it closes.
//!
//! Money waits in `Account::Unallocated` where a round's work was not judged, or a score was not beyond luck yet
//! ([`crate::credit`]). The closing height makes the last round final, so nothing can be shown any more: what waits is
//! split among those who earned, in proportion to what the run's credits gave them. Everybody's earnings grow by the
//! same factor. Nothing of it goes back to the sponsor, who would gain by evaluators that stay silent. Where nobody earned
//! anything it is burned.

use std::collections::BTreeMap;

use tributary_protocol::id::{MicroOpen, PeerId, RunId};

use crate::account::Account;
use crate::credit::RoundCredits;
use crate::fold::Posting;
use crate::money::{self, Balance, MoneyError};

/// What waited when a run closed, and by what it is split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The run.
    pub run: RunId,
    /// What waited.
    pub waiting: MicroOpen,
    /// What the run's rounds paid to each contributor, ordered by peer; nobody that was paid nothing.
    pub earned: Vec<(PeerId, MicroOpen)>,
}

impl Closing {
    /// Each one's part of what waited, in the order of `earned`; `None` where nobody earned anything.
    pub fn parts(&self) -> Option<Vec<MicroOpen>> {
        let weights: Vec<(PeerId, u128)> = (self.earned.iter())
            .map(|(peer, amount)| (*peer, amount.0))
            .collect();
        money::split_wide(self.waiting, &weights)
    }

    /// `peer`'s part of what waited.
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
            None => vec![(Account::Burned, self.waiting)],
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
        for (account, amount) in payees {
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
    earned: BTreeMap<PeerId, u128>,
    /// Of whoever was scored: its parts of what rounds gained, in billionths of a nanonat. Money has no say in it, so a
    /// run without a deposit has credits too.
    credits: BTreeMap<PeerId, u128>,
}

impl Running {
    /// One round on.
    pub(crate) fn add(&mut self, round: &RoundCredits) {
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

    /// The run's credits so far: everybody that was ever scored, with its part of what rounds gained.
    pub(crate) fn credits(&self) -> &BTreeMap<PeerId, u128> {
        &self.credits
    }

    /// The run closes.
    pub(crate) fn close(&self, run: RunId) -> Closing {
        let earned = self.earned.iter();
        Closing {
            run,
            waiting: MicroOpen(self.waiting),
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

    use super::*;

    fn peer(n: usize) -> PeerId {
        PeerId(Digest::from_bytes([n as u8; 32]))
    }

    fn closing(waiting: u128, earned: &[u128]) -> Closing {
        let earned = earned.iter().enumerate();
        Closing {
            run: RunId::default(),
            waiting: MicroOpen(waiting),
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
