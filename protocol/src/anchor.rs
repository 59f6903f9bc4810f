//! What the chain of a run's money said at one of its blocks, as a certificate takes it over.
//!
//! ```text
//!   chain client ── ChainFacts of a finalized block ──► node ── Anchor in a proposed value ──► certificate ──► roster, books
//!                                                        └── a value with an anchor that it does not see itself: unanswered
//! ```
//!
//! Whether a value with an anchor is valid depends on its bytes alone, so that members without a chain client can vote, and
//! everybody can follow. Whether it is *true* is for those who see the chain: they leave a value unanswered whose anchor
//! says something else than their own client, and more than a third of the votes so keep a wrong one out.

use bincode::{Decode, Encode};

use crate::hash::Digest;
use crate::id::{MicroOpen, PeerId};
use crate::limits;
use crate::reject::Rejection;

/// A block of a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct ChainBlock {
    /// Its number.
    pub number: u64,
    /// Its hash; of the test chain, the digest of its state.
    pub hash: Digest,
}

/// What the contracts hold for a run, ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct ChainMoney {
    /// What was deposited, rounded down to whole micro-OPEN.
    pub deposited: MicroOpen,
    /// Fees that came, likewise.
    pub fees: MicroOpen,
}

/// A payment channel into the run's till.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct ChannelClaimed {
    /// The channel's id, as its contract has it.
    pub channel: Digest,
    /// What its receiver claimed out of it, ever.
    pub claimed: MicroOpen,
}

/// What a certificate takes over of a chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Anchor {
    /// Where it was read.
    pub block: ChainBlock,
    /// The run's money there.
    pub money: ChainMoney,
    /// Stake of members, and of those whom the same value admits, in micro-OPEN, ordered by peer: of those for whom the
    /// anchor before says something else. At most [`limits::MAX_ANCHORED_STAKES`].
    pub stakes: Vec<(PeerId, u64)>,
    /// Channels that were claimed since the anchor before, ordered. At most [`limits::MAX_ANCHORED_CHANNELS`].
    pub channels: Vec<ChannelClaimed>,
}

/// What a chain client read at one block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainFacts {
    /// The block; final there.
    pub block: ChainBlock,
    /// The run's money.
    pub money: ChainMoney,
    /// Who has stake that counts, in micro-OPEN, ordered by peer. Who is not named has none.
    pub stakes: Vec<(PeerId, u64)>,
    /// What was claimed of channels, ordered.
    pub channels: Vec<ChannelClaimed>,
}

impl ChainFacts {
    /// A peer's stake, within what counts.
    pub fn stake(&self, peer: &PeerId) -> u64 {
        let at = self.stakes.binary_search_by_key(peer, |(peer, _)| *peer);
        at.map_or(0, |at| self.stakes[at].1.min(limits::MAX_STAKE))
    }

    /// Whether an anchor says of its block what was read here.
    pub fn agrees(&self, anchor: &Anchor) -> bool {
        let claimed = |one: &ChannelClaimed| self.channels.binary_search(one).is_ok();
        self.block == anchor.block
            && self.money == anchor.money
            && (anchor.stakes.iter()).all(|(peer, stake)| self.stake(peer) == *stake)
            && anchor.channels.iter().all(claimed)
    }
}

impl Anchor {
    /// What can be told from an anchor alone.
    pub(crate) fn check(&self) -> Result<(), Rejection> {
        if self.stakes.len() > limits::MAX_ANCHORED_STAKES {
            return Err(Rejection::Limit("stakes of an anchor"));
        }
        if self.channels.len() > limits::MAX_ANCHORED_CHANNELS {
            return Err(Rejection::Limit("channels of an anchor"));
        }
        if self
            .stakes
            .iter()
            .any(|(_, stake)| *stake > limits::MAX_STAKE)
        {
            return Err(Rejection::Limit("stake of an anchor"));
        }
        let most = limits::MAX_BUDGET_MICRO_OPEN;
        let claimed = self.channels.iter().map(|one| one.claimed);
        if (claimed.chain([self.money.deposited, self.money.fees])).any(|amount| amount.0 > most) {
            return Err(Rejection::Limit("money of an anchor"));
        }
        let is_ordered = self.stakes.windows(2).all(|pair| pair[0].0 < pair[1].0)
            && (self.channels.windows(2)).all(|pair| pair[0].channel < pair[1].channel);
        match is_ordered {
            true => Ok(()),
            false => Err(Rejection::Contradiction("an anchor's list out of order")),
        }
    }
}
