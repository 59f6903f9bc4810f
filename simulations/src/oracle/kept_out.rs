//! Whether honest receipts stay out of certified values for long.
//!
//! A receipt of an honest author is **timely** at a height when a quorum of honest voters had it in time: when each of
//! them first spoke in the first attempt of the height, the receipt was among those that it had closed, and the update
//! was there. Voters that were down then, or spoke in a later attempt first, are not counted. While honest voters are
//! a quorum, no author has a timely receipt left out at more than [`MOST_IN_A_ROW`] heights in a row: voters leave
//! such values unanswered in a height's first two attempts, so that a proposer that leaves others out has to be in
//! turn in the third attempt.

use std::collections::{BTreeMap, BTreeSet};

use tributary_protocol::committee::Committee;
use tributary_protocol::consensus::ConsensusMessage;
use tributary_protocol::event::Effect;
use tributary_protocol::id::{PeerId, Round};
use tributary_protocol::round::RoundValue;
use tributary_protocol::wire::Message;

use super::Broken;

/// Heights in a row at which a timely receipt of one author may stay out.
const MOST_IN_A_ROW: u32 = 2;

/// Timely honest receipts, and for how many heights they have stayed out.
#[derive(Default)]
pub(super) struct KeptOut {
    /// Authors in time, by height and by voter.
    held: BTreeMap<Round, BTreeMap<PeerId, BTreeSet<PeerId>>>,
    /// Heights in a row, the last one among them, at which an author's timely receipt stayed out.
    rows: BTreeMap<PeerId, u32>,
}

/// The height in whose first attempt `voter` speaks, if it does.
pub(super) fn speaks(effects: &[Effect], voter: &PeerId) -> Option<Round> {
    effects.iter().find_map(|effect| {
        let Effect::Gossip { bytes, .. } = effect else {
            return None;
        };
        let Ok(Message::Consensus(words)) = Message::decode(bytes) else {
            return None;
        };
        let words = ConsensusMessage::decode(&words).ok()?;
        (words.author() == *voter && words.attempt() == 0).then(|| words.round())
    })
}

impl KeptOut {
    /// What an honest voter held when it spoke; what it said first counts.
    pub(super) fn spoke(
        &mut self,
        voter: PeerId,
        round: Round,
        timely: impl Iterator<Item = PeerId>,
    ) {
        let voters = self.held.entry(round).or_default();
        voters.entry(voter).or_insert_with(|| timely.collect());
    }

    /// A height was decided.
    pub(super) fn decided(
        &mut self,
        value: &RoundValue,
        committee: &Committee,
        liars: &BTreeSet<PeerId>,
    ) -> Result<(), Broken> {
        let held = self.held.remove(&value.round).unwrap_or_default();
        let dishonest = committee.votes_of(liars.iter().copied());
        if committee.total() - dishonest < committee.quorum() {
            self.rows.clear();
            return Ok(());
        }
        let mut votes: BTreeMap<PeerId, u64> = BTreeMap::new();
        for (voter, authors) in &held {
            for author in authors.iter().filter(|author| !liars.contains(author)) {
                *votes.entry(*author).or_default() += committee.votes(voter);
            }
        }
        let is_in = |peer: &PeerId| value.included.iter().any(|i| i.receipt.author == *peer);
        let out = |(peer, votes): &(PeerId, u64)| *votes >= committee.quorum() && !is_in(peer);
        let out = votes.into_iter().filter(out).map(|(peer, _)| peer);
        let rows = std::mem::take(&mut self.rows);
        let longer = |peer: PeerId| (peer, rows.get(&peer).copied().unwrap_or_default() + 1);
        self.rows = out.map(longer).collect();
        match self.rows.iter().find(|(_, row)| **row > MOST_IN_A_ROW) {
            None => Ok(()),
            Some((peer, row)) => Err((
                "no timely receipt stays out for long",
                format!("those of {} did at {row} heights in a row", peer.short()),
            )),
        }
    }
}
