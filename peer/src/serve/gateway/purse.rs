//! What this machine's owner spends at servers: pure accounting, the payer's side of allowances and channels.
//!
//! ```text
//!   signed in a channel >= before (other lives) + owed (counted here) + doubtful (answers that broke off) + reserved (open)
//!   budget >= what all channels together may take                 budget >= what is deposited in this life
//! ```
//!
//! A server is never believed more than what was counted here. One that claims more is owed what was counted, and gets no
//! voucher again.

use std::collections::BTreeMap;

use tributary_attribution::settlement::Address;
use tributary_attribution::voucher::ChannelId;
use tributary_protocol::id::MicroOpen;

/// Prices of a request that a deposit is made for.
const DEPOSITED_PRICES: u128 = 5;

/// A server, by the account that signs for it, and a channel to it.
pub(super) type Account = (Address, ChannelId);

/// What a server was promised through one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Promised {
    /// Total of the highest voucher: what the server can take at most.
    pub(super) signed: u128,
    /// What the channel was charged before this gateway began.
    pub(super) before: u128,
    /// What lies in the channel, as far as is known; None where nothing is.
    pub(super) balance: Option<u128>,
    /// What was deposited by this gateway.
    pub(super) deposited: u128,
    /// What its answers cost, as counted here.
    pub(super) owed: u128,
    /// What answers that broke off may have cost.
    pub(super) doubtful: u128,
    /// What is being answered may cost.
    pub(super) reserved: u128,
    /// Answers that were paid for.
    pub(super) answers: u64,
    /// It claimed more than it made.
    pub(super) is_distrusted: bool,
}

impl Promised {
    fn most(&self) -> u128 {
        self.owed + self.doubtful + self.reserved
    }
}

/// Why nothing is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsigned {
    #[error(
        "the server claimed more than it made before, and gets no voucher again; leave it out of --server"
    )]
    Distrusted,
    #[error(
        "the request may cost {price} micro-OPEN, and --most allows {most} a request; ask for fewer tokens, or raise --most"
    )]
    TooDear { price: u128, most: u128 },
    #[error(
        "the request may cost {price} micro-OPEN, and {left} are left of --budget; raise --budget"
    )]
    Spent { price: u128, left: u128 },
    #[error(
        "the channel needs a deposit of {needed} micro-OPEN, and {left} of --budget are not deposited yet; raise --budget"
    )]
    NoDeposit { needed: u128, left: u128 },
    #[error(
        "the server says that its channel owes {claimed} micro-OPEN, and at most {counted} were counted here; it gets no voucher again"
    )]
    Overclaimed { claimed: u128, counted: u128 },
}

/// How a request ended that a voucher was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The server refused it, which costs nothing.
    Refused,
    /// It broke off: the server may have charged all of it.
    Broken,
    /// It was answered.
    Answered {
        /// What the server says that it cost; None where it says nothing.
        claimed: Option<MicroOpen>,
        /// What it can have cost at most, as counted here.
        counted: MicroOpen,
    },
}

/// A claim that was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overcharged {
    pub(super) claimed: u128,
    pub(super) counted: u128,
}

/// What may be spent, and what was.
#[derive(Clone, Debug)]
pub(super) struct Purse {
    budget: u128,
    /// Of one request.
    most: u128,
    pub(super) servers: BTreeMap<Account, Promised>,
}

impl Purse {
    pub(super) fn new(budget: MicroOpen, most: MicroOpen) -> Self {
        Self {
            budget: budget.0,
            most: most.0,
            servers: BTreeMap::new(),
        }
    }

    /// What all servers together may take.
    pub(super) fn spent(&self) -> u128 {
        self.servers.values().map(Promised::most).sum()
    }

    /// What is left of the budget.
    pub(super) fn left(&self) -> u128 {
        self.budget.saturating_sub(self.spent())
    }

    /// The total of a voucher for a request that may cost `price`, which is reserved. `claimed` is what the server says that
    /// the channel was charged.
    pub(super) fn sign(
        &mut self,
        account: Account,
        price: MicroOpen,
        claimed: Option<MicroOpen>,
    ) -> Result<MicroOpen, Unsigned> {
        let (price, left, most) = (price.0, self.left(), self.most);
        if self.of(account.0).is_distrusted {
            return Err(Unsigned::Distrusted);
        }
        let promised = self.servers.entry(account).or_default();
        if price > most {
            return Err(Unsigned::TooDear { price, most });
        }
        if price > left {
            return Err(Unsigned::Spent { price, left });
        }
        let counted = promised.before + promised.most();
        if let Some(claimed) = claimed.filter(|claimed| claimed.0 > counted) {
            promised.is_distrusted = true;
            let claimed = claimed.0;
            return Err(Unsigned::Overclaimed { claimed, counted });
        }
        promised.reserved += price;
        // Each total pays for one request.
        promised.signed = (promised.before + promised.most()).max(promised.signed + 1);
        Ok(MicroOpen(promised.signed))
    }

    /// Takes over what another life signed in a channel, which the caller has checked. `charged` is what the server says of it:
    /// within what was signed, it was the server's to take anyway.
    pub(super) fn adopt(&mut self, account: Account, charged: MicroOpen, signed: MicroOpen) {
        let promised = self.servers.entry(account).or_default();
        if charged <= signed && signed.0 > promised.signed {
            let before = charged.0.saturating_sub(promised.most());
            promised.before = promised.before.max(before);
            promised.signed = signed.0;
        }
    }

    /// Takes a server's word for what lies in a channel. A lie costs a deposit too many, which only the owner gets back.
    pub(super) fn see(&mut self, account: Account, balance: MicroOpen) {
        self.servers.entry(account).or_default().balance = Some(balance.0);
    }

    /// What has to be deposited so that a voucher of `total` is covered, if anything; it counts as deposited from now on.
    pub(super) fn deposit(
        &mut self,
        account: Account,
        total: MicroOpen,
        price: MicroOpen,
    ) -> Result<Option<MicroOpen>, Unsigned> {
        let deposited: u128 = self.servers.values().map(|one| one.deposited).sum();
        let left = self.budget.saturating_sub(deposited);
        let promised = self.servers.entry(account).or_default();
        let Some(balance) = promised.balance.filter(|balance| *balance < total.0) else {
            return Ok(None);
        };
        let needed = total.0 - balance;
        if needed > left {
            return Err(Unsigned::NoDeposit { needed, left });
        }
        let deposit = needed
            .max(price.0.saturating_mul(DEPOSITED_PRICES))
            .min(left);
        promised.deposited += deposit;
        promised.balance = Some(balance + deposit);
        Ok(Some(MicroOpen(deposit)))
    }

    /// Takes back a promise that was never sent.
    pub(super) fn take_back(&mut self, account: Account, price: MicroOpen) {
        let promised = self.servers.get_mut(&account).expect("it was signed for");
        promised.reserved -= price.0;
    }

    /// Takes back a deposit that the server refused.
    pub(super) fn kept(&mut self, account: Account, deposit: MicroOpen) {
        let promised = self.servers.get_mut(&account).expect("it was signed for");
        promised.deposited -= deposit.0;
        promised.balance = promised
            .balance
            .map(|balance| balance.saturating_sub(deposit.0));
    }

    /// What a server was promised through all its channels.
    pub(super) fn of(&self, server: Address) -> Promised {
        let mut all = Promised::default();
        for (_, one) in self.servers.iter().filter(|((of, _), _)| *of == server) {
            all.signed += one.signed;
            all.before += one.before;
            all.deposited += one.deposited;
            all.owed += one.owed;
            all.doubtful += one.doubtful;
            all.reserved += one.reserved;
            all.answers += one.answers;
            all.is_distrusted |= one.is_distrusted;
        }
        all
    }

    /// Ends a request that was signed for. Gives what it cost as far as is known.
    pub(super) fn end(
        &mut self,
        account: Account,
        price: MicroOpen,
        ended: Ended,
    ) -> Result<MicroOpen, Overcharged> {
        let promised = self.servers.get_mut(&account).expect("it was signed for");
        promised.reserved -= price.0;
        match ended {
            Ended::Refused => Ok(MicroOpen(0)),
            Ended::Broken => {
                promised.doubtful += price.0;
                Ok(price)
            }
            Ended::Answered { claimed, counted } => {
                promised.answers += 1;
                let counted = counted.0.min(price.0);
                let Some(claimed) = claimed else {
                    promised.doubtful += counted;
                    return Ok(MicroOpen(counted));
                };
                promised.owed += claimed.0.min(counted);
                if claimed.0 > counted {
                    promised.is_distrusted = true;
                    let claimed = claimed.0;
                    return Err(Overcharged { claimed, counted });
                }
                Ok(claimed)
            }
        }
    }

    /// What a server may take of vouchers beyond what it was counted to have made.
    pub(super) fn at_risk(&self, account: Account) -> u128 {
        let promised = self.servers.get(&account);
        promised.map_or(0, |one| one.signed.saturating_sub(one.before + one.owed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tributary_attribution::settlement::Keccak;

    use super::*;

    fn server(seed: u8) -> Account {
        (Address([seed; 20]), ChannelId(Keccak([seed; 32])))
    }

    fn answered(claimed: u128, counted: u128) -> Ended {
        Ended::Answered {
            claimed: Some(MicroOpen(claimed)),
            counted: MicroOpen(counted),
        }
    }

    #[test]
    fn a_server_that_claims_more_than_it_made_is_owed_what_it_made_and_gets_nothing_more() {
        let mut purse = Purse::new(MicroOpen(1000), MicroOpen(100));
        assert_eq!(
            purse.sign(server(1), MicroOpen(100), None),
            Ok(MicroOpen(100))
        );
        let told = purse.end(server(1), MicroOpen(100), answered(80, 30));
        assert_eq!(
            told,
            Err(Overcharged {
                claimed: 80,
                counted: 30
            })
        );
        assert_eq!(purse.spent(), 30);
        assert_eq!(
            purse.sign(server(1), MicroOpen(1), None),
            Err(Unsigned::Distrusted)
        );
        assert!(purse.sign(server(2), MicroOpen(1), None).is_ok());
    }

    #[test]
    fn a_server_that_says_its_channel_owes_more_than_was_counted_gets_nothing_more() {
        let mut purse = Purse::new(MicroOpen(1000), MicroOpen(100));
        purse.sign(server(1), MicroOpen(50), None).unwrap();
        // An answer that broke off may have cost all of its price.
        purse.end(server(1), MicroOpen(50), Ended::Broken).unwrap();
        assert_eq!(
            purse.sign(server(1), MicroOpen(50), Some(MicroOpen(50))),
            Ok(MicroOpen(100))
        );
        let refused = purse.sign(server(1), MicroOpen(50), Some(MicroOpen(101)));
        assert_eq!(
            refused,
            Err(Unsigned::Overclaimed {
                claimed: 101,
                counted: 100
            })
        );
        assert_eq!(
            purse.sign(server(1), MicroOpen(1), None),
            Err(Unsigned::Distrusted)
        );
    }

    #[test]
    fn neither_a_request_nor_all_of_them_cost_more_than_the_owner_allows() {
        let mut purse = Purse::new(MicroOpen(150), MicroOpen(100));
        let dear = purse.sign(server(1), MicroOpen(101), None);
        assert_eq!(
            dear,
            Err(Unsigned::TooDear {
                price: 101,
                most: 100
            })
        );
        purse.sign(server(1), MicroOpen(100), None).unwrap();
        let spent = purse.sign(server(2), MicroOpen(51), None);
        assert_eq!(
            spent,
            Err(Unsigned::Spent {
                price: 51,
                left: 50
            })
        );
        purse
            .end(server(1), MicroOpen(100), Ended::Refused)
            .unwrap();
        purse.sign(server(2), MicroOpen(51), None).unwrap();
    }

    #[test]
    fn a_channel_is_funded_as_far_as_the_budget_goes_and_a_refused_deposit_is_kept() {
        let (mut purse, at) = (Purse::new(MicroOpen(100), MicroOpen(50)), server(1));
        let total = purse.sign(at, MicroOpen(10), None).unwrap();
        // Nobody said yet what lies in it.
        assert_eq!(purse.deposit(at, total, MicroOpen(10)), Ok(None));
        purse.see(at, MicroOpen(0));
        let deposit = purse.deposit(at, total, MicroOpen(10));
        assert_eq!(deposit, Ok(Some(MicroOpen(50))));
        assert_eq!(purse.deposit(at, total, MicroOpen(10)), Ok(None));
        purse.kept(at, MicroOpen(50));
        assert_eq!(
            purse.deposit(at, MicroOpen(30), MicroOpen(30)),
            Ok(Some(MicroOpen(100)))
        );
        let refused = purse.deposit(at, MicroOpen(101), MicroOpen(1));
        assert_eq!(refused, Err(Unsigned::NoDeposit { needed: 1, left: 0 }));
    }

    #[test]
    fn two_gateways_of_one_account_share_a_channel() {
        let (mut purse, at) = (Purse::new(MicroOpen(100), MicroOpen(50)), server(1));
        purse.sign(at, MicroOpen(10), None).unwrap();
        purse.end(at, MicroOpen(10), answered(8, 8)).unwrap();
        // The other one signed up to 60, and was charged 30 of them.
        purse.adopt(at, MicroOpen(38), MicroOpen(60));
        let total = purse.sign(at, MicroOpen(10), Some(MicroOpen(38)));
        assert_eq!((total, purse.spent()), (Ok(MicroOpen(61)), 18));
    }

    #[test]
    fn what_an_earlier_life_signed_is_not_signed_again_and_not_spent_twice() {
        let (mut purse, at) = (Purse::new(MicroOpen(100), MicroOpen(50)), server(1));
        purse.adopt(at, MicroOpen(70), MicroOpen(80));
        assert_eq!(purse.spent(), 0);
        assert_eq!(
            purse.sign(at, MicroOpen(5), Some(MicroOpen(70))),
            Ok(MicroOpen(81))
        );
        // Never less, and never to more than was signed.
        purse.adopt(at, MicroOpen(79), MicroOpen(80));
        assert_eq!(
            purse.sign(at, MicroOpen(20), Some(MicroOpen(70))),
            Ok(MicroOpen(95))
        );
        purse.adopt(server(2), MicroOpen(9), MicroOpen(8));
        assert_eq!(purse.sign(server(2), MicroOpen(5), None), Ok(MicroOpen(5)));
    }

    proptest! {
        #[test]
        fn totals_rise_and_cover_what_may_be_owed_and_the_budget_holds(
            steps in proptest::collection::vec((0..2_u8, 0..60_u128, 0..5_u8, 0..80_u128), 1..100),
        ) {
            let mut purse = Purse::new(MicroOpen(1000), MicroOpen(50));
            let mut open: Vec<(Account, MicroOpen)> = Vec::new();
            for (which, price, end, amount) in steps {
                let who = server(which);
                let before = purse.servers.get(&who).map_or(0, |promised| promised.signed);
                if end < 2 {
                    if let Ok(total) = purse.sign(who, MicroOpen(price), None) {
                        prop_assert!(total.0 > before);
                        open.push((who, MicroOpen(price)));
                    }
                } else if let Some((who, price)) = open.pop() {
                    let ended = match end {
                        2 => Ended::Refused,
                        3 => Ended::Broken,
                        _ => answered(amount, 40),
                    };
                    let owed = purse.servers[&who].owed;
                    let _ = purse.end(who, price, ended);
                    prop_assert!(purse.servers[&who].owed - owed <= price.0.min(40));
                }
                prop_assert!(purse.spent() <= 1000);
                for promised in purse.servers.values() {
                    prop_assert!(promised.signed >= promised.most());
                }
            }
        }
    }
}
