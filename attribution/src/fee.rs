//! Fees of answers, split by the run's policy.
//!
//! ```text
//!   fees ─┬─ contributors: shares that the payer agreed to; of other answers, the run's credits
//!         ├─ base author, where the manifest names its account: its portion, and what no share names
//!         ├─ server
//!         ├─ committee: who signed the root before, by votes
//!         └─ stakers, by stake
//! ```
//!
//! A portion without a payee is split by the run's credits, as if nobody had ever been meant by it: no one has more by keeping
//! others out. A server that files no answers for what it claims loses its portion in the same way. In a run where nobody has
//! credits, what would follow them is burned.

use std::collections::BTreeMap;

use tributary_protocol::hash::Digest;
use tributary_protocol::id::{MicroOpen, PeerId, Ppb, Round, RunId};
use tributary_protocol::manifest::RevenueSplit;
use tributary_protocol::round::EntryRef;

use crate::account::Account;
use crate::fold::Posting;
use crate::money::{self, Balance, MoneyError};
use crate::settlement::Address;

/// Why fees cannot be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeeError {
    /// The five portions of the policy are not a whole.
    #[error("the run's revenue split adds up to {0} billionths: it must be one billion")]
    Policy(u64),
    /// No weight at all.
    #[error("the fees are not said to be anybody's: name shares, or the run's credits")]
    Nobody,
    /// The fees are larger than any sensible amount.
    #[error(transparent)]
    Money(#[from] MoneyError),
}

/// Where fees come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Answers that a server filed, and claimed from a channel.
    Answers {
        /// The entry.
        at: EntryRef,
        /// Who served them: its author.
        server: PeerId,
        /// Whose channel it was.
        payer: Address,
    },
    /// Money in the run's till for which nobody filed answers.
    Unexplained,
}

/// By what the contributors' portion is split: weights, of which only their ratios count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shaped {
    /// Contributors by shares that payers agreed to, ordered by peer.
    pub agreed: Vec<(PeerId, u128)>,
    /// What agreed shares name nobody for.
    pub nobody: u128,
    /// What follows the run's credits.
    pub by_credits: u128,
}

/// Fees that a run had at one height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fees {
    /// The run.
    pub run: RunId,
    /// The height.
    pub round: Round,
    /// Where they come from.
    pub source: Source,
    /// How much.
    pub amount: MicroOpen,
    /// The run's policy.
    pub revenue: RevenueSplit,
    /// The base model, where its author has an account.
    pub base: Option<Digest>,
    /// Who signed the root before, with votes, ordered.
    pub committee: Vec<(PeerId, u64)>,
    /// Who has stake, with micro-OPEN of it, ordered.
    pub stakers: Vec<(PeerId, u64)>,
    /// Whose data shaped the answers.
    pub shaped: Shaped,
    /// The run's credits, ordered by peer.
    pub credits: Vec<(PeerId, u128)>,
}

impl Fees {
    /// What each account gets, ordered; all together the amount.
    fn parts(&self) -> Result<BTreeMap<Account, MicroOpen>, FeeError> {
        let mut parts = Parts::default();
        let [contributors, base, server, committee, stakers] = self.portions()?;
        let base_author = self.base.map(Account::BaseAuthor);
        self.contributors(&mut parts, contributors, base_author)?;
        parts.pay_or_leave(base_author, base);
        let server_account = match self.source {
            Source::Answers { server, .. } => Some(Account::Server(server)),
            Source::Unexplained => None,
        };
        parts.pay_or_leave(server_account, server);
        parts.pay_by(committee, &self.committee, Account::Committee);
        parts.pay_by(stakers, &self.stakers, Account::Staker);
        let left = parts.left;
        match money::split_wide(left, &self.credits) {
            None => parts.pay(Account::Burned, left),
            Some(amounts) => {
                for ((peer, _), amount) in self.credits.iter().zip(amounts) {
                    parts.pay(Account::Contributor(*peer), amount);
                }
            }
        }
        Ok(parts.of)
    }

    fn portions(&self) -> Result<[MicroOpen; 5], FeeError> {
        let revenue = &self.revenue;
        let policy = [
            revenue.contributors,
            revenue.base_author,
            revenue.server,
            revenue.committee,
            revenue.stakers,
        ];
        let whole = policy.iter().map(|p| u64::from(p.0)).sum();
        if whole != u64::from(Ppb::ONE.0) {
            return Err(FeeError::Policy(whole));
        }
        let weights: Vec<(usize, u64)> = (policy.iter().enumerate())
            .map(|(n, p)| (n, u64::from(p.0)))
            .collect();
        let portions = money::split(self.amount, &weights).expect("the portions are a whole");
        Ok(portions.try_into().expect("five of five"))
    }

    fn contributors(
        &self,
        parts: &mut Parts,
        portion: MicroOpen,
        base_author: Option<Account>,
    ) -> Result<(), FeeError> {
        let shaped = &self.shaped;
        let agreed = (shaped.agreed.iter())
            .map(|(peer, weight)| (Some(Account::Contributor(*peer)), *weight));
        let weights: Vec<(Option<Account>, u128)> = agreed
            .chain([(base_author, shaped.nobody), (None, shaped.by_credits)])
            .collect();
        let amounts = money::split_wide(portion, &weights).ok_or(FeeError::Nobody)?;
        for ((account, _), amount) in weights.into_iter().zip(amounts) {
            parts.pay_or_leave(account, amount);
        }
        Ok(())
    }
}

/// What accounts get, and what is left for the run's credits.
#[derive(Default)]
struct Parts {
    of: BTreeMap<Account, MicroOpen>,
    left: MicroOpen,
}

impl Parts {
    fn pay(&mut self, account: Account, amount: MicroOpen) {
        if amount > MicroOpen(0) {
            self.of.entry(account).or_default().0 += amount.0;
        }
    }

    fn pay_or_leave(&mut self, account: Option<Account>, amount: MicroOpen) {
        match account {
            Some(account) => self.pay(account, amount),
            None => self.left.0 += amount.0,
        }
    }

    fn pay_by(&mut self, portion: MicroOpen, weights: &[(PeerId, u64)], to: fn(PeerId) -> Account) {
        let Some(amounts) = money::split(portion, weights) else {
            self.left.0 += portion.0;
            return;
        };
        for ((peer, _), amount) in weights.iter().zip(amounts) {
            self.pay(to(*peer), amount);
        }
    }
}

/// Postings of fees; they add up to zero.
///
/// # Errors
/// See [`FeeError`].
pub fn postings(fees: &Fees) -> Result<Vec<Posting>, FeeError> {
    let from = match fees.source {
        Source::Answers { payer, .. } => Account::Consumer(payer),
        Source::Unexplained => Account::Till,
    };
    let mut out = vec![Posting {
        account: from,
        amount: Balance::minus(fees.amount)?,
    }];
    for (account, amount) in fees.parts()? {
        let amount = Balance::plus(amount)?;
        out.push(Posting { account, amount });
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
