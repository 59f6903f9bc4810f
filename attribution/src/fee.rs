//! The fee of one answer, split by the run's policy.
//!
//! The manifest's revenue split cuts the fee into five portions by largest remainder. The
//! contributors' portion follows the shares of the answer; what is nobody's share is not handed to
//! the others but waits in `Account::Unallocated`. Committee members are paid per head and leave
//! dust. A portion without a payee waits unallocated too.

use tributary_protocol::hash::Digest;
use tributary_protocol::id::{MicroOpen, PeerId, Ppb, RunId};
use tributary_protocol::manifest::RevenueSplit;

use crate::account::Account;
use crate::fold::Posting;
use crate::money::{self, Balance, MoneyError};
use crate::query::AnswerShares;

/// Why a fee cannot be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeeError {
    /// The five portions of the policy are not a whole.
    #[error("the run's revenue split adds up to {0} billionths: it must be one billion")]
    Policy(u64),
    /// Shares and nobody's part are not a whole.
    #[error("the answer's shares add up to {0} billionths: they must be one billion")]
    Shares(u64),
    /// The fee is larger than any sensible amount.
    #[error(transparent)]
    Money(#[from] MoneyError),
}

/// One paid answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The run whose adapter answered.
    pub run: RunId,
    /// Names the answer: hash of its signed record.
    pub answer: Digest,
    /// The consumer that pays.
    pub consumer: PeerId,
    /// The peer that served the answer.
    pub server: PeerId,
    /// The price.
    pub fee: MicroOpen,
    /// The run's policy.
    pub revenue: RevenueSplit,
    /// The base model, as the manifest names it.
    pub base: Digest,
    /// The committee that certified the adapter.
    pub committee: Vec<PeerId>,
    /// The contributors that shaped the answer.
    pub shares: AnswerShares,
}

/// Postings of one paid answer; they add up to zero.
///
/// # Errors
/// See [`FeeError`].
pub fn postings(usage: &Usage) -> Result<Vec<Posting>, FeeError> {
    let revenue = &usage.revenue;
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
    let portions = money::split(usage.fee, &weights).expect("the portions are a whole");
    let mut out = vec![Posting {
        account: Account::Consumer(usage.consumer),
        amount: Balance::minus(usage.fee)?,
    }];
    contributors(&mut out, portions[0], &usage.shares)?;
    pay(&mut out, Account::BaseAuthor(usage.base), portions[1])?;
    pay(&mut out, Account::Server(usage.server), portions[2])?;
    committee(&mut out, portions[3], &usage.committee)?;
    pay(&mut out, Account::Stakers, portions[4])?;
    Ok(out)
}

fn contributors(
    out: &mut Vec<Posting>,
    portion: MicroOpen,
    shares: &AnswerShares,
) -> Result<(), FeeError> {
    let named = (shares.shares.iter()).map(|s| (Account::Contributor(s.peer), s.share));
    let payees: Vec<(Account, u64)> = named
        .chain([(Account::Unallocated, shares.nobody)])
        .map(|(account, share)| (account, u64::from(share.0)))
        .collect();
    let whole = payees.iter().map(|(_, share)| share).sum();
    if whole != u64::from(Ppb::ONE.0) {
        return Err(FeeError::Shares(whole));
    }
    let parts = money::split(portion, &payees).expect("the shares are a whole");
    for ((account, _), part) in payees.into_iter().zip(parts) {
        pay(out, account, part)?;
    }
    Ok(())
}

fn committee(
    out: &mut Vec<Posting>,
    portion: MicroOpen,
    members: &[PeerId],
) -> Result<(), FeeError> {
    let Some((each, dust)) = money::split_equal(portion, members.len()) else {
        return pay(out, Account::Unallocated, portion);
    };
    for member in members {
        pay(out, Account::Committee(*member), each)?;
    }
    pay(out, Account::Dust, dust)
}

fn pay(out: &mut Vec<Posting>, account: Account, amount: MicroOpen) -> Result<(), FeeError> {
    if amount > MicroOpen(0) {
        let amount = Balance::plus(amount)?;
        out.push(Posting { account, amount });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tributary_protocol::id::NanoNats;

    use super::*;
    use crate::query::AnswerShare;

    fn peer(n: u8) -> PeerId {
        PeerId(Digest::from_bytes([n; 32]))
    }

    fn usage(fee: u128, policy: [u32; 5], shares: &[u32], members: u8) -> Usage {
        let given: u32 = shares.iter().sum();
        Usage {
            run: RunId::default(),
            answer: Digest::default(),
            consumer: peer(200),
            server: peer(201),
            fee: MicroOpen(fee),
            revenue: RevenueSplit {
                contributors: Ppb(policy[0]),
                base_author: Ppb(policy[1]),
                server: Ppb(policy[2]),
                committee: Ppb(policy[3]),
                stakers: Ppb(policy[4]),
            },
            base: Digest::from_bytes([9; 32]),
            committee: (100..100 + members).map(peer).collect(),
            shares: AnswerShares {
                nobody: Ppb(1_000_000_000 - given),
                shares: (shares.iter().enumerate())
                    .map(|(n, &share)| AnswerShare {
                        peer: peer(n as u8),
                        influence: NanoNats(i64::from(share)),
                        share: Ppb(share),
                    })
                    .collect(),
            },
        }
    }

    const POLICY: [u32; 5] = [
        600_000_000,
        100_000_000,
        200_000_000,
        50_000_000,
        50_000_000,
    ];

    fn paid(postings: &[Posting], account: Account) -> i128 {
        let of = |p: &&Posting| p.account == account;
        postings.iter().filter(of).map(|p| p.amount.0).sum()
    }

    #[test]
    fn a_fee_reaches_everyone_the_policy_names() {
        let usage = usage(1000, POLICY, &[250_000_000, 500_000_000], 3);
        let made = postings(&usage).expect("a whole policy");
        let expected = [
            (Account::Consumer(peer(200)), -1000),
            (Account::Contributor(peer(0)), 150),
            (Account::Contributor(peer(1)), 300),
            (Account::Unallocated, 150),
            (Account::BaseAuthor(usage.base), 100),
            (Account::Server(peer(201)), 200),
            (Account::Committee(peer(101)), 16),
            (Account::Dust, 2),
            (Account::Stakers, 50),
        ];
        for (account, amount) in expected {
            assert_eq!(paid(&made, account), amount, "{account}");
        }
    }

    #[test]
    fn a_portion_without_a_payee_waits_unallocated() {
        let made = postings(&usage(1000, POLICY, &[1_000_000_000], 0)).expect("a whole policy");
        assert_eq!(paid(&made, Account::Unallocated), 50);
    }

    #[test]
    fn policies_and_shares_that_are_no_whole_are_refused() {
        let mut odd = usage(10, POLICY, &[1], 1);
        odd.shares.nobody = Ppb(1);
        assert_eq!(postings(&odd), Err(FeeError::Shares(2)));
        odd.revenue.server = Ppb(0);
        assert_eq!(postings(&odd), Err(FeeError::Policy(800_000_000)));
        let absurd = usage(u128::MAX, POLICY, &[1], 1);
        assert!(matches!(postings(&absurd), Err(FeeError::Money(_))));
    }

    proptest! {
        #[test]
        fn postings_of_a_fee_add_up_to_zero(
            fee in 0..=money::MAX_AMOUNT.0,
            cuts in prop::collection::vec(0u32..=1_000_000_000, 4),
            shares in prop::collection::vec(0u32..100_000_000, 0..10),
            members in 0u8..20,
        ) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let ends = [&[0], &cuts[..], &[1_000_000_000]].concat();
            let mut policy = [0; 5];
            for (portion, pair) in policy.iter_mut().zip(ends.windows(2)) {
                *portion = pair[1] - pair[0];
            }
            let made = postings(&usage(fee, policy, &shares, members)).expect("a whole policy");
            prop_assert_eq!(made.iter().map(|p| p.amount.0).sum::<i128>(), 0);
            let payer = Account::Consumer(peer(200));
            prop_assert!(made.iter().all(|p| p.account == payer || p.amount.0 > 0));
        }
    }
}
