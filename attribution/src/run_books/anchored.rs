//! A run's chain as certificates tell of it: what anchors say of a real chain, and on the test chain, which everybody
//! follows, what anchors have to say.

use std::collections::BTreeMap;

use tributary_protocol::anchor::{Anchor, ChainBlock, ChainFacts, ChainMoney};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{MicroOpen, PeerId, Round};
use tributary_protocol::limits;
use tributary_protocol::roster::{Member, Roster};

use crate::settlement::{Address, Keccak};
use crate::voucher::ChannelId;

/// What the anchors of a run say of a real chain.
#[derive(Clone, Debug, Default)]
pub(super) struct Anchored {
    /// The one token that the contract holds.
    pub(super) token: Address,
    pub(super) money: ChainMoney,
    pub(super) claimed: BTreeMap<ChannelId, MicroOpen>,
    /// Stake that counts, ordered by peer.
    pub(super) stakes: Vec<(PeerId, u64)>,
}

impl Anchored {
    /// Takes over what a certificate says; `roster` is that after it.
    pub(super) fn take(&mut self, anchor: &Anchor, roster: &Roster) {
        self.money = anchor.money;
        let claimed = anchor.channels.iter();
        let claimed = claimed.map(|one| (ChannelId(Keccak(*one.channel.as_bytes())), one.claimed));
        self.claimed.extend(claimed);
        let stake = |member: &Member| {
            let stake = member.stake.unwrap_or_default().counting();
            (stake > 0).then_some((member.peer, stake))
        };
        self.stakes = roster.iter().filter_map(stake).collect();
    }
}

/// What the test chain said at its last heights, and which anchors said something else.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnFacts {
    facts: BTreeMap<u64, ChainFacts>,
    /// Heights whose anchor is wrong: whoever proposed and voted for it lied, or keeps other books.
    pub(super) wrong: Vec<Round>,
}

impl OwnFacts {
    /// Holds an anchor against what was the case. A block that is not kept any more was named by nobody honest.
    pub(super) fn check(&mut self, round: Round, anchor: &Anchor) {
        let known = self.facts.get(&anchor.block.number);
        if !known.is_some_and(|facts| facts.agrees(anchor)) {
            self.wrong.push(round);
        }
    }

    /// Notes what the chain says after a height.
    pub(super) fn note(&mut self, facts: ChainFacts) {
        self.facts.insert(facts.block.number, facts);
        while self.facts.len() > limits::MAX_CHAIN_FACTS {
            self.facts.pop_first();
        }
    }

    pub(super) fn last(&self) -> Option<&ChainFacts> {
        self.facts.last_key_value().map(|(_, facts)| facts)
    }
}

/// The block of the test chain that a height made.
pub(super) fn block_of(round: Round, state: Digest) -> ChainBlock {
    ChainBlock {
        number: round.0.into(),
        hash: state,
    }
}
