//! Who judges a round: named by the manifest with a seat each, or in bonded runs drawn by stake.

use crate::id::PeerId;

/// Evaluators of one round and the seats of each, ordered by id. A sheet counts once for each seat of its author, so that a
/// stake judges alike under one name and under many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Panel(Vec<(PeerId, u32)>);

impl Panel {
    /// These evaluators with these seats; who is given twice has the seats of both.
    pub fn new(seats: impl IntoIterator<Item = (PeerId, u32)>) -> Self {
        let mut seats: Vec<(PeerId, u32)> = seats.into_iter().filter(|(_, n)| *n > 0).collect();
        seats.sort_unstable();
        seats.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            kept.1 += if is_same { next.1 } else { 0 };
            is_same
        });
        Self(seats)
    }

    /// These evaluators with a seat each.
    pub fn equal(peers: impl IntoIterator<Item = PeerId>) -> Self {
        let mut peers: Vec<PeerId> = peers.into_iter().collect();
        peers.sort_unstable();
        peers.dedup();
        Self(peers.into_iter().map(|peer| (peer, 1)).collect())
    }

    /// Evaluators, ordered by id, with their seats.
    pub fn iter(&self) -> impl Iterator<Item = (&PeerId, u32)> {
        self.0.iter().map(|(peer, seats)| (peer, *seats))
    }

    /// Evaluators, ordered by id.
    pub fn peers(&self) -> impl Iterator<Item = &PeerId> {
        self.0.iter().map(|(peer, _)| peer)
    }

    /// How many evaluators there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody judges.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a peer judges.
    pub fn contains(&self, peer: &PeerId) -> bool {
        self.place(peer).is_some()
    }

    /// A peer's place among the evaluators, by which seals are named.
    pub fn place(&self, peer: &PeerId) -> Option<usize> {
        self.0.binary_search_by_key(peer, |(peer, _)| *peer).ok()
    }

    /// A peer's seats; none of who does not judge.
    pub fn seats_of(&self, peer: &PeerId) -> usize {
        self.place(peer).map_or(0, |at| self.0[at].1 as usize)
    }

    /// All seats.
    pub fn seats(&self) -> usize {
        self.0.iter().map(|(_, seats)| *seats as usize).sum()
    }

    /// Seats that may judge a contribution of `peer`: all but its own.
    pub fn judges_of(&self, peer: &PeerId) -> usize {
        self.seats() - self.seats_of(peer)
    }

    /// A mask with a bit for each evaluator, as sheets name seals.
    pub fn all_seals(&self) -> u32 {
        u32::try_from((1u64 << self.len().min(32)) - 1).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Digest;

    fn peer(n: u8) -> PeerId {
        PeerId(Digest::from_bytes([n; 32]))
    }

    #[test]
    fn seats_of_one_name_add_up_and_who_has_none_is_left_out() {
        let panel = Panel::new([(peer(3), 1), (peer(1), 2), (peer(3), 4), (peer(2), 0)]);
        let seats: Vec<(PeerId, u32)> = panel.iter().map(|(peer, n)| (*peer, n)).collect();
        assert_eq!(seats, [(peer(1), 2), (peer(3), 5)]);
        assert_eq!((panel.seats(), panel.len()), (7, 2));
        assert_eq!(panel.judges_of(&peer(3)), 2);
        assert_eq!(panel.judges_of(&peer(2)), 7);
        assert_eq!(panel.all_seals(), 0b11);
    }

    #[test]
    fn a_full_panel_has_a_bit_for_each() {
        let panel = Panel::equal((0..32).map(peer));
        assert_eq!(panel.all_seals(), u32::MAX);
        assert_eq!(panel.place(&peer(31)), Some(31));
    }
}
