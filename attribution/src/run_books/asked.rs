//! What a client of a real chain asks about a run, so that members who read the same block read the same of it.

use std::collections::{BTreeMap, BTreeSet};

use tributary_protocol::filing::Bind;
use tributary_protocol::id::{PeerId, Round};

use super::RunBooks;
use crate::settlement::Address;
use crate::voucher::ChannelId;

/// Questions to a run's chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Each peer with the account whose stake is its own, ordered by peer.
    pub stakers: Vec<(PeerId, Address)>,
    /// Channels that filed answers name, ordered.
    pub channels: Vec<ChannelId>,
}

impl RunBooks {
    /// What is asked of the chain, where `joins` are the binds of the joins that are known, members' and others'.
    ///
    /// An account's stake counts for one peer, the one that bound it first: by a filing that a certificate put in order, else
    /// by the join of a member, in the order in which they were admitted, else by that of somebody who asks to be one. Binds
    /// whose account did not sign them are left out. A server's channel counts once its answers are filed: others could not
    /// confirm an anchor with a channel that they have not heard of.
    pub fn asked<'a>(&self, joins: impl Iterator<Item = (PeerId, &'a Bind)>) -> Asked {
        let Some(settled) = &self.settled else {
            return Asked::default();
        };
        let mut stakers: BTreeMap<PeerId, Address> = self.payees.stakers().collect();
        let mut taken: BTreeSet<Address> = self.payees.accounts().collect();
        let since = |peer: &PeerId| {
            let roster = self.head.as_ref().map(|head| &head.roster);
            let member = roster.and_then(|roster| roster.get(peer));
            member.map_or(Round(u32::MAX), |member| member.since)
        };
        let mut others: Vec<(Round, PeerId, Address)> = joins
            .filter(|(peer, _)| self.account(peer).is_none())
            .filter_map(|(peer, bind)| {
                Some((since(&peer), peer, settled.bound_account(peer, bind)?))
            })
            .collect();
        others.sort_unstable();
        for (_, peer, account) in others {
            if taken.insert(account) {
                stakers.insert(peer, account);
            }
        }
        Asked {
            stakers: stakers.into_iter().collect(),
            channels: self.fees.channels().into_iter().collect(),
        }
    }
}
