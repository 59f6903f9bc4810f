//! Who decides a height: drawn by rendezvous hashing, so that nobody chooses and everybody agrees.
//!
//! See `lot` for how. Every seat has one vote.

use crate::hash::Domain;
use crate::id::{PeerId, Round, RunId, StateHash};
use crate::limits;
use crate::lot::Lot;
use crate::roster::Roster;

/// The members that decide one height. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committee {
    /// By ticket: the order in which members propose.
    order: Vec<PeerId>,
    /// By id, for lookups.
    sorted: Vec<PeerId>,
}

impl Committee {
    /// Draws the committee of `round`: the `size` members with the smallest tickets, all of them when
    /// the roster is smaller. `size` is held between 1 and `limits::MAX_COMMITTEE`.
    ///
    /// # Panics
    /// If the roster is empty; a certified roster never is.
    pub fn draw(
        run: &RunId,
        round: Round,
        previous: &StateHash,
        roster: &Roster,
        size: usize,
    ) -> Self {
        let lot = Lot {
            domain: Domain::Committee,
            run,
            round,
            previous,
        };
        let peers = roster.iter().map(|member| member.peer);
        Self::of(lot.draw(peers, size.clamp(1, limits::MAX_COMMITTEE)))
    }

    /// The committee of round 0: the run's creator alone.
    pub fn genesis(creator: PeerId) -> Self {
        Self::of(vec![creator])
    }

    pub(crate) fn of(order: Vec<PeerId>) -> Self {
        assert!(!order.is_empty(), "a committee needs at least one member");
        let mut sorted = order.clone();
        sorted.sort_unstable();
        Self { order, sorted }
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Never true; here because `len` is.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Votes that decide: more than two thirds. Two quorums share more than a third of the members.
    pub fn quorum(&self) -> usize {
        self.len() * 2 / 3 + 1
    }

    /// Votes that prove at least one honest voter while less than a third are dishonest.
    pub fn honest(&self) -> usize {
        self.len() / 3 + 1
    }

    /// Whether `peer` has a seat.
    pub fn contains(&self, peer: &PeerId) -> bool {
        self.sorted.binary_search(peer).is_ok()
    }

    /// Members ordered by id.
    pub fn members(&self) -> &[PeerId] {
        &self.sorted
    }

    /// Members in the order in which they propose.
    pub fn order(&self) -> &[PeerId] {
        &self.order
    }

    /// Who proposes in an attempt: members take turns, so a silent one costs one attempt.
    pub fn proposer(&self, attempt: u32) -> PeerId {
        self.order[attempt as usize % self.order.len()]
    }
}

#[cfg(test)]
mod tests;
