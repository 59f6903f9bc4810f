//! What this machine's owner spends at servers: pure accounting, the consumer's side of an allowance.
//!
//! ```text
//!   signed to a server >= owed (counted here) + doubtful (answers that broke off) + reserved (being answered)
//!   budget >= what all servers together may take
//! ```
//!
//! A server is never believed more than what was counted here. One that claims more is owed what was counted, and gets no
//! voucher again.

use std::collections::BTreeMap;

use tributary_protocol::id::{MicroOpen, PeerId};

/// What a server was promised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Promised {
    /// Total of the highest voucher: what the server can take at most.
    pub(super) signed: u128,
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
    pub(super) servers: BTreeMap<PeerId, Promised>,
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
        server: PeerId,
        price: MicroOpen,
        claimed: Option<MicroOpen>,
    ) -> Result<MicroOpen, Unsigned> {
        let (price, left, most) = (price.0, self.left(), self.most);
        let promised = self.servers.entry(server).or_default();
        if promised.is_distrusted {
            return Err(Unsigned::Distrusted);
        }
        if price > most {
            return Err(Unsigned::TooDear { price, most });
        }
        if price > left {
            return Err(Unsigned::Spent { price, left });
        }
        let counted = promised.most();
        if let Some(claimed) = claimed.filter(|claimed| claimed.0 > counted) {
            promised.is_distrusted = true;
            let claimed = claimed.0;
            return Err(Unsigned::Overclaimed { claimed, counted });
        }
        promised.reserved += price;
        // Each total pays for one request.
        promised.signed = promised.most().max(promised.signed + 1);
        Ok(MicroOpen(promised.signed))
    }

    /// Ends a request that was signed for. Gives what it cost as far as is known.
    pub(super) fn end(
        &mut self,
        server: PeerId,
        price: MicroOpen,
        ended: Ended,
    ) -> Result<MicroOpen, Overcharged> {
        let promised = self.servers.get_mut(&server).expect("it was signed for");
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
    pub(super) fn at_risk(&self, server: PeerId) -> u128 {
        let promised = self.servers.get(&server);
        promised.map_or(0, |promised| promised.signed - promised.owed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tributary_protocol::hash::Digest;

    use super::*;

    fn server(seed: u8) -> PeerId {
        PeerId(Digest::from_bytes([seed; 32]))
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

    proptest! {
        #[test]
        fn totals_rise_and_cover_what_may_be_owed_and_the_budget_holds(
            steps in proptest::collection::vec((0..2_u8, 0..60_u128, 0..5_u8, 0..80_u128), 1..100),
        ) {
            let mut purse = Purse::new(MicroOpen(1000), MicroOpen(50));
            let mut open: Vec<(PeerId, MicroOpen)> = Vec::new();
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
