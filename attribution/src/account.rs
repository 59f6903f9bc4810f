//! The chart of accounts: every place that OPEN can come from or rest in.
//!
//! Accounts are per scope; the books keep them apart, and a peer's statement adds up those of runs. An account of a peer
//! holds what the peer earned in one capacity, so that a statement can say what it was paid for.

use std::fmt;

use tributary_protocol::hash::Digest;
use tributary_protocol::id::PeerId;

use crate::settlement::Address;

/// One account of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// The run's creator, which pays the budget of every round.
    Sponsor(PeerId),
    /// Paid for answers, through channels that this account deposited in.
    Consumer(Address),
    /// Came into the run's till, and no answers were filed for it.
    Till,
    /// Earns by scores of rounds and shares of answers.
    Contributor(PeerId),
    /// The author of the base model with this hash, paid at the account that the manifest names.
    BaseAuthor(Digest),
    /// Scored rounds.
    Evaluator(PeerId),
    /// Signed the roots of rounds.
    Member(PeerId),
    /// Served an answer.
    Server(PeerId),
    /// Sat in the committee.
    Committee(PeerId),
    /// Has stake in the run.
    Staker(PeerId),
    /// What equal splits leave, less than a micro-OPEN per head.
    Dust,
    /// Paid in and not anybody's yet: budgets of rounds nobody scored, scores that are not beyond luck. It is given out
    /// when the run closes.
    Unallocated,
    /// Paid in and nobody's for good: what waited in a run that paid nobody, and fees of one where nobody has credits.
    Burned,
}

impl Account {
    /// The peer that holds it, if a peer does.
    pub fn holder(&self) -> Option<PeerId> {
        match *self {
            Self::Sponsor(peer)
            | Self::Contributor(peer)
            | Self::Evaluator(peer)
            | Self::Member(peer)
            | Self::Server(peer)
            | Self::Committee(peer)
            | Self::Staker(peer) => Some(peer),
            Self::Consumer(_)
            | Self::Till
            | Self::BaseAuthor(_)
            | Self::Dust
            | Self::Unallocated
            | Self::Burned => None,
        }
    }

    /// The capacity in one word, stable: `contributor`, `dust`.
    pub fn capacity(&self) -> &'static str {
        match self {
            Self::Sponsor(_) => "sponsor",
            Self::Consumer(_) => "consumer",
            Self::Till => "till",
            Self::Contributor(_) => "contributor",
            Self::BaseAuthor(_) => "base-author",
            Self::Evaluator(_) => "evaluator",
            Self::Member(_) => "member",
            Self::Server(_) => "server",
            Self::Committee(_) => "committee",
            Self::Staker(_) => "staker",
            Self::Dust => "dust",
            Self::Unallocated => "unallocated",
            Self::Burned => "burned",
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.capacity())?;
        match (self, self.holder()) {
            (Self::BaseAuthor(base), _) => write!(f, " {}", base.short()),
            (Self::Consumer(account), _) => write!(f, " {account}"),
            (_, Some(peer)) => write!(f, " {}", peer.short()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_name_their_capacity_and_holder() {
        let peer = PeerId(Digest::from_bytes([0xab; 32]));
        assert_eq!(
            Account::Contributor(peer).to_string(),
            "contributor ababababab"
        );
        assert_eq!(Account::Contributor(peer).holder(), Some(peer));
        let base = Account::BaseAuthor(Digest::from_bytes([1; 32]));
        assert_eq!(base.to_string(), "base-author 0101010101");
        assert_eq!((base.holder(), Account::Dust.holder()), (None, None));
        assert_eq!(Account::Unallocated.to_string(), "unallocated");
    }
}
