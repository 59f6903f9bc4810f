//! The members that decide a height: all of them while they are few, seats drawn by weight where they are many.
//!
//! ```text
//!   up to 64 with a vote    everybody, with its weight
//!   more                    `size` seats, one vote each, by systematic sampling over the weights:
//!
//!       weights, in the order of the lot   |--a--|-b-|------c------|---d---|-e-|
//!       points, a seat apart                  .        .        .        .        from an offset that the beacon draws
//! ```
//! A member's expected seats are its share of the weight, exactly, and its seats are at most one off that: splitting
//! a weight over names gains none. Order and offset come from the [`crate::beacon`]; so do the turns in proposing,
//! which go round in steps of the golden ratio, so that any few in a row are spread over the weight.

use crate::hash::{Digest, Domain};
use crate::id::{PeerId, Round, RunId};
use crate::limits;
use crate::sortition::{self, Sortition};

/// The fractional part of the golden ratio, of 2^64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The members that decide one height. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committee {
    /// Everybody that was drawn and the votes of each, in the order of the lot; some may be gone.
    drawn: Vec<(PeerId, u64)>,
    /// By id.
    members: Vec<PeerId>,
    /// Votes of `members`.
    votes: Vec<u64>,
    total: u64,
    /// Where in the weight the first proposer stands, of 2^64.
    start: u64,
}

impl Committee {
    /// The committee of `round` among an electorate, members with a weight each: all of them up to
    /// [`limits::MAX_COMMITTEE`], else `size` drawn seats. A member that is not `present` any more loses its seats and
    /// moves nobody else's, so that leaving does not cause another draw.
    ///
    /// # Panics
    /// If nobody is present. If weights add up to more than 2^62.
    pub fn draw(
        run: &RunId,
        round: Round,
        beacon: &Digest,
        electorate: impl IntoIterator<Item = (PeerId, u64)>,
        present: impl Fn(&PeerId) -> bool,
        size: usize,
    ) -> Self {
        let lot = Sortition {
            domain: Domain::Committee,
            run,
            round,
            beacon,
        };
        let mut members = lot.in_order(electorate);
        let start = lot.number();
        if members.len() > limits::MAX_COMMITTEE {
            members = sortition::seats(&members, size.clamp(1, limits::MAX_COMMITTEE), start);
        }
        Self::seated(members, present, start)
    }

    /// The committee of round 0: the run's creator alone.
    pub fn genesis(creator: PeerId) -> Self {
        Self::seated(vec![(creator, 1)], |_| true, 0)
    }

    #[cfg(test)]
    pub(crate) fn of(members: Vec<(PeerId, u64)>) -> Self {
        Self::seated(members, |_| true, 0)
    }

    fn seated(drawn: Vec<(PeerId, u64)>, present: impl Fn(&PeerId) -> bool, start: u64) -> Self {
        let mut sorted = drawn.clone();
        sorted.retain(|(peer, _)| present(peer));
        sorted.sort_unstable();
        assert!(!sorted.is_empty(), "a committee needs at least one member");
        let weight: u64 = drawn.iter().map(|(_, votes)| votes).sum();
        assert!(weight <= 1 << 62, "weights stay within a quarter of u64");
        let total = sorted.iter().map(|(_, votes)| votes).sum();
        let (members, votes) = sorted.into_iter().unzip();
        Self {
            drawn,
            members,
            votes,
            total,
            start,
        }
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Never true; here because `len` is.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Votes of all members together.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Votes that decide: more than two thirds. Two quorums share more than a third of the votes.
    pub fn quorum(&self) -> u64 {
        self.total / 3 * 2 + self.total % 3 * 2 / 3 + 1
    }

    /// Votes that prove at least one honest voter while less than a third are dishonest.
    pub fn honest(&self) -> u64 {
        self.total / 3 + 1
    }

    /// Votes of one member; 0 without a seat.
    pub fn votes(&self, peer: &PeerId) -> u64 {
        (self.members.binary_search(peer)).map_or(0, |at| self.votes[at])
    }

    /// Votes of several members, each counted once however often it is named.
    pub fn votes_of(&self, peers: impl IntoIterator<Item = PeerId>) -> u64 {
        let peers: std::collections::BTreeSet<PeerId> = peers.into_iter().collect();
        peers.iter().map(|peer| self.votes(peer)).sum()
    }

    /// The largest attempt that members with at least an honest share of the votes have reached or passed, given
    /// how far each was seen.
    pub(crate) fn reached(&self, furthest: impl IntoIterator<Item = (PeerId, u32)>) -> Option<u32> {
        let mut furthest: Vec<(u32, u64)> = (furthest.into_iter())
            .map(|(peer, attempt)| (attempt, self.votes(&peer)))
            .collect();
        furthest.sort_unstable_by(|a, b| b.cmp(a));
        let mut votes = 0;
        furthest.into_iter().find_map(|(attempt, held)| {
            votes += held;
            (votes >= self.honest()).then_some(attempt)
        })
    }

    /// Whether `peer` has a seat.
    pub fn contains(&self, peer: &PeerId) -> bool {
        self.members.binary_search(peer).is_ok()
    }

    /// Members ordered by id.
    pub fn members(&self) -> &[PeerId] {
        &self.members
    }

    /// The proposer of an attempt. A member proposes in proportion to its votes, and its turns are spread, so that a
    /// silent member costs one attempt. The turns of members that are gone fall to the next in the order of the lot.
    pub fn proposer(&self, attempt: u32) -> PeerId {
        let turn = (self.start).wrapping_add(GOLDEN.wrapping_mul(u64::from(attempt)));
        let mut at = scale(turn, self.drawn.iter().map(|(_, votes)| votes).sum());
        let holds = |(_, votes): &(PeerId, u64)| match at.checked_sub(*votes) {
            Some(rest) => {
                at = rest;
                false
            }
            None => true,
        };
        let first = self.drawn.iter().position(holds);
        let (before, after) = self
            .drawn
            .split_at(first.expect("a turn falls within the votes"));
        let mut in_turn = after.iter().chain(before).map(|(peer, _)| *peer);
        in_turn
            .find(|peer| self.contains(peer))
            .expect("somebody is present")
    }
}

/// `part` of 2^64, of `total`.
fn scale(part: u64, total: u64) -> u64 {
    let scaled = (u128::from(part) * u128::from(total)) >> 64;
    u64::try_from(scaled).expect("a part is less than the whole")
}

#[cfg(test)]
mod tests;
