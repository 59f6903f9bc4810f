//! Draws by lot among members: rendezvous hashing, so that nobody chooses and everybody agrees.
//!
//! Every member gets a ticket, the hash of (run, round, state before, member) under the domain of the
//! draw; the smallest tickets win. The state before is unknown until it is certified, so nobody can
//! grind a key for a round far ahead. A ticket does not depend on who else takes part: a join or a
//! leave moves at most one place.

use crate::hash::{Digest, Domain, Hasher};
use crate::id::{PeerId, Round, RunId, StateHash};

/// One draw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lot<'a> {
    /// What is drawn.
    pub(crate) domain: Domain,
    pub(crate) run: &'a RunId,
    /// The round that it is for.
    pub(crate) round: Round,
    /// The state before that round.
    pub(crate) previous: &'a StateHash,
}

impl Lot<'_> {
    /// A peer's ticket: uniform, and unknown to everybody before the state before is certified.
    pub(crate) fn ticket(&self, peer: &PeerId) -> Digest {
        let mut hasher = Hasher::new(self.domain);
        hasher.update(self.run.as_bytes());
        hasher.update(&self.round.0.to_le_bytes());
        hasher.update(self.previous.as_bytes());
        hasher.update(peer.as_bytes());
        hasher.finalize()
    }

    /// The `most` peers with the smallest tickets, smallest first; all of them when there are fewer.
    pub(crate) fn draw(&self, peers: impl Iterator<Item = PeerId>, most: usize) -> Vec<PeerId> {
        let mut tickets: Vec<(Digest, PeerId)> =
            peers.map(|peer| (self.ticket(&peer), peer)).collect();
        if most < tickets.len() {
            tickets.select_nth_unstable(most);
            tickets.truncate(most);
        }
        tickets.sort_unstable();
        tickets.into_iter().map(|(_, peer)| peer).collect()
    }
}
