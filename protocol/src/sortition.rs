//! Draws among members by lot (sortition, by rendezvous hashing): nobody chooses and everybody agrees.
//!
//! Every member draws a rank, the hash of (run, round, [`crate::beacon`], member) under the domain of the
//! draw; the smallest ranks win. A rank does not depend on who else takes part: a join or a leave moves at
//! most one place.

use crate::hash::{Digest, Domain, Hasher};
use crate::id::{PeerId, Round, RunId};

/// One draw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sortition<'a> {
    /// What is drawn.
    pub(crate) domain: Domain,
    pub(crate) run: &'a RunId,
    /// The round that it is for.
    pub(crate) round: Round,
    /// The beacon of that round.
    pub(crate) beacon: &'a Digest,
}

impl Sortition<'_> {
    /// A peer's rank: uniform, and unknown before the beacon is.
    pub(crate) fn rank(&self, peer: &PeerId) -> Digest {
        let mut hasher = self.hasher();
        hasher.update(peer.as_bytes());
        hasher.finalize()
    }

    /// A number of the draw itself, of 2^64.
    pub(crate) fn number(&self) -> u64 {
        let digest = self.hasher().finalize();
        let (first, _) = digest.as_bytes().split_at(8);
        u64::from_le_bytes(first.try_into().expect("eight bytes"))
    }

    fn hasher(&self) -> Hasher {
        let mut hasher = Hasher::new(self.domain);
        hasher.update(self.run.as_bytes());
        hasher.update(&self.round.0.to_le_bytes());
        hasher.update(self.beacon.as_bytes());
        hasher
    }

    /// The `most` peers with the smallest ranks, smallest first; all of them when there are fewer.
    pub(crate) fn draw(&self, peers: impl Iterator<Item = PeerId>, most: usize) -> Vec<PeerId> {
        let mut ranks: Vec<(Digest, PeerId)> = peers.map(|peer| (self.rank(&peer), peer)).collect();
        if most < ranks.len() {
            ranks.select_nth_unstable(most);
            ranks.truncate(most);
        }
        ranks.sort_unstable();
        ranks.into_iter().map(|(_, peer)| peer).collect()
    }

    /// Peers with a weight, in the order of the lot.
    pub(crate) fn in_order(
        &self,
        weights: impl IntoIterator<Item = (PeerId, u64)>,
    ) -> Vec<(PeerId, u64)> {
        let mut weights: Vec<(PeerId, u64)> = weights.into_iter().collect();
        weights.retain(|(_, weight)| *weight > 0);
        weights.sort_by_cached_key(|(peer, _)| self.rank(peer));
        weights
    }

    /// `size` seats drawn by weight: who has some, and how many, in the order of the lot.
    pub(crate) fn seats(
        &self,
        weights: impl IntoIterator<Item = (PeerId, u64)>,
        size: usize,
    ) -> Vec<(PeerId, u64)> {
        seats(&self.in_order(weights), size, self.number())
    }
}

/// `size` seats over weights: the points `(start + n) * total / size` for n from 0, where `start` is of 2^64.
pub(crate) fn seats(members: &[(PeerId, u64)], size: usize, start: u64) -> Vec<(PeerId, u64)> {
    let total: u128 = members.iter().map(|(_, weight)| u128::from(*weight)).sum();
    let point = |seat: usize| {
        // 2^32 offsets: the product with 2^62 of weight and 64 seats stays within u128.
        let offset = u128::from(start >> 32) + ((seat as u128) << 32);
        offset * total / ((size as u128) << 32)
    };
    let (mut out, mut seat, mut end) = (Vec::new(), 0, 0u128);
    for (peer, weight) in members {
        end += u128::from(*weight);
        let first = seat;
        while seat < size && point(seat) < end {
            seat += 1;
        }
        if seat > first {
            out.push((*peer, (seat - first) as u64));
        }
    }
    out
}
