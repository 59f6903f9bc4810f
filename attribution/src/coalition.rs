//! Sets of up to 64 players as bits of one integer.
//!
//! Shapley values ask for the worth of every subset of a group. A coalition is the index of its worth in a table of
//! 2^n values: player `i` is bit `i`. The caller decides who the players are.

use std::fmt;

/// Players that one coalition can tell apart: the bits of a `u64`.
pub const MAX_PLAYERS: usize = 64;

/// A set of players.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Coalition(u64);

impl Coalition {
    /// Nobody.
    pub const EMPTY: Self = Self(0);

    /// Players `0..players`.
    ///
    /// # Panics
    /// If `players` exceeds [`MAX_PLAYERS`].
    pub fn full(players: usize) -> Self {
        assert!(players <= MAX_PLAYERS, "at most {MAX_PLAYERS} players");
        // A shift by 64 is undefined, so the whole set is shifted out instead of in.
        Self(
            u64::MAX
                .checked_shr((MAX_PLAYERS - players) as u32)
                .unwrap_or(0),
        )
    }

    /// The set whose players are the bits that are one.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Player `i` as bit `i`.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether `player` is in the set.
    pub fn contains(self, player: usize) -> bool {
        player < MAX_PLAYERS && self.0 >> player & 1 == 1
    }

    /// The set and `player`.
    ///
    /// # Panics
    /// If `player` is not below [`MAX_PLAYERS`].
    #[must_use]
    pub fn with(self, player: usize) -> Self {
        assert!(player < MAX_PLAYERS, "players are 0 to {}", MAX_PLAYERS - 1);
        Self(self.0 | 1 << player)
    }

    /// The set but `player`.
    #[must_use]
    pub fn without(self, player: usize) -> Self {
        if player < MAX_PLAYERS {
            Self(self.0 & !(1 << player))
        } else {
            self
        }
    }

    /// How many players.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether nobody is in.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The players, ascending.
    pub fn members(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let player = rest.trailing_zeros() as usize;
            (rest != 0).then(|| {
                rest &= rest - 1;
                player
            })
        })
    }
}

impl FromIterator<usize> for Coalition {
    fn from_iter<I: IntoIterator<Item = usize>>(players: I) -> Self {
        players.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Debug for Coalition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.members()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn full_holds_exactly_the_players_asked_for() {
        assert_eq!(Coalition::full(0), Coalition::EMPTY);
        assert_eq!(Coalition::full(3).bits(), 0b111);
        assert_eq!(Coalition::full(64).len(), 64);
    }

    #[test]
    fn a_coalition_prints_its_players() {
        let some: Coalition = [5, 0, 2].into_iter().collect();
        assert_eq!(format!("{some:?}"), "{0, 2, 5}");
    }

    proptest! {
        #[test]
        fn a_coalition_behaves_like_a_set(
            players in prop::collection::btree_set(0usize..64, 0..64),
            player in 0usize..64,
        ) {
            let coalition: Coalition = players.iter().copied().collect();
            prop_assert_eq!(coalition.members().collect::<BTreeSet<_>>(), players.clone());
            prop_assert_eq!(coalition.len(), players.len());
            prop_assert_eq!(coalition.contains(player), players.contains(&player));
            prop_assert!(coalition.with(player).contains(player));
            prop_assert!(!coalition.without(player).contains(player));
            let same = if players.contains(&player) {
                coalition.without(player).with(player)
            } else {
                coalition.with(player).without(player)
            };
            prop_assert_eq!(same, coalition);
        }
    }
}
