//! The exact Shapley value: every coalition evaluated, nothing sampled.
//!
//! `phi_i = sum over S without i of |S|! (n-|S|-1)! / n! * (v(S + i) - v(S))` (Shapley 1953). It is the truth that
//! cheaper rules are measured against, and far too expensive for a round: 2^n evaluations. Players are plain indices;
//! the caller decides who they are.

use std::error::Error;

use crate::coalition::Coalition;
use crate::utility::Utility;

/// Players of an exact computation. 2^20 is a million evaluations and an 8 MiB table; each player
/// more doubles both, and no retrained bank of that size exists anyway.
pub const MAX_EXACT_PLAYERS: usize = 20;

/// Why an exact value cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum ShapleyError<E: Error + 'static> {
    /// The number of coalitions would explode.
    #[error(
        "{players} players have 2^{players} coalitions; the exact value is limited to {MAX_EXACT_PLAYERS} players: use the path integral"
    )]
    TooManyPlayers {
        /// The number of players asked for.
        players: usize,
    },
    /// The table of worths does not have 2^n entries.
    #[error("{found} worths were given where {players} players need 2^{players}")]
    Table {
        /// Players.
        players: usize,
        /// Entries given.
        found: usize,
    },
    /// A worth that is NaN or infinite.
    #[error("the worth of coalition {coalition:?} is not finite")]
    NotFinite {
        /// The coalition.
        coalition: Coalition,
    },
    /// The utility gave up.
    #[error("the worth of coalition {coalition:?} cannot be had")]
    Utility {
        /// The coalition.
        coalition: Coalition,
        /// The cause.
        #[source]
        source: E,
    },
}

/// One value per player; they add up to `v(all) - v(nobody)`. Asks `utility` once per coalition.
///
/// # Errors
/// See [`ShapleyError`].
pub fn exact<U: Utility>(utility: &mut U) -> Result<Vec<f64>, ShapleyError<U::Error>> {
    let players = utility.players();
    check_players(players)?;
    let mut worths = Vec::with_capacity(1 << players);
    for bits in 0..1u64 << players {
        let coalition = Coalition::from_bits(bits);
        let worth = utility
            .value(coalition)
            .map_err(|source| ShapleyError::Utility { coalition, source })?;
        worths.push(worth);
    }
    of_worths(players, &worths)
}

/// The same from a table: `worths[S.bits()]` is the worth of `S`.
///
/// # Errors
/// See [`ShapleyError`]; never `Utility`.
pub fn of_worths<E: Error + 'static>(
    players: usize,
    worths: &[f64],
) -> Result<Vec<f64>, ShapleyError<E>> {
    check_players(players)?;
    if worths.len() != 1 << players {
        let found = worths.len();
        return Err(ShapleyError::Table { players, found });
    }
    if let Some(at) = worths.iter().position(|worth| !worth.is_finite()) {
        let coalition = Coalition::from_bits(at as u64);
        return Err(ShapleyError::NotFinite { coalition });
    }
    let weights = size_weights(players);
    let mut values = vec![0.0; players];
    for bits in 0..1u64 << players {
        let without = Coalition::from_bits(bits);
        for (player, value) in values.iter_mut().enumerate() {
            if !without.contains(player) {
                let with = without.with(player);
                let gain = worths[with.bits() as usize] - worths[bits as usize];
                *value += weights[without.len()] * gain;
            }
        }
    }
    Ok(values)
}

fn check_players<E: Error + 'static>(players: usize) -> Result<(), ShapleyError<E>> {
    if players > MAX_EXACT_PLAYERS {
        return Err(ShapleyError::TooManyPlayers { players });
    }
    Ok(())
}

/// `s! (n-s-1)! / n!` for each size `s` of the coalition that a player joins, without factorials.
fn size_weights(players: usize) -> Vec<f64> {
    let n = players as f64;
    let mut weights = Vec::with_capacity(players);
    let mut weight = 1.0 / n;
    for size in 0..players {
        weights.push(weight);
        weight *= (size as f64 + 1.0) / (n - size as f64 - 1.0);
    }
    weights
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::reference;

    fn table(players: usize) -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(-5.0f64..5.0, 1 << players)
    }

    fn values(players: usize, worths: &[f64]) -> Vec<f64> {
        of_worths::<Infallible>(players, worths).expect("a full finite table")
    }

    #[test]
    fn the_glove_game_gives_two_thirds_to_the_scarce_glove() {
        // One left glove (player 0), two right ones: a pair is worth 1. Known: 2/3, 1/6, 1/6.
        let pair = |s: Coalition| f64::from(u8::from(s.contains(0) && s.len() > 1));
        let worths: Vec<f64> = (0..8).map(|b| pair(Coalition::from_bits(b))).collect();
        for (value, known) in values(3, &worths)
            .iter()
            .zip([2.0 / 3.0, 1.0 / 6.0, 1.0 / 6.0])
        {
            assert!((value - known).abs() < 1e-12);
        }
    }

    #[test]
    fn too_many_players_are_refused_before_any_evaluation() {
        struct Untouchable;
        impl Utility for Untouchable {
            type Error = Infallible;
            fn players(&self) -> usize {
                MAX_EXACT_PLAYERS + 1
            }
            fn value(&mut self, _: Coalition) -> Result<f64, Infallible> {
                panic!("2^21 evaluations were begun")
            }
        }
        let refused = exact(&mut Untouchable).expect_err("21 players");
        assert!(matches!(
            refused,
            ShapleyError::TooManyPlayers { players: 21 }
        ));
    }

    #[test]
    fn damaged_tables_are_refused() {
        let short = of_worths::<Infallible>(2, &[0.0; 3]);
        assert!(matches!(short, Err(ShapleyError::Table { found: 3, .. })));
        let broken = of_worths::<Infallible>(1, &[0.0, f64::NAN]);
        assert!(matches!(broken, Err(ShapleyError::NotFinite { .. })));
    }

    #[test]
    fn nobody_has_no_values() {
        assert!(values(0, &[3.0]).is_empty());
    }

    proptest! {
        #[test]
        fn exact_values_equal_the_mean_over_all_orders(
            (players, worths) in (1usize..=6).prop_flat_map(|n| (Just(n), table(n))),
        ) {
            let slow = reference::shapley_by_permutations(players, &worths);
            for (fast, slow) in values(players, &worths).iter().zip(slow) {
                prop_assert!((fast - slow).abs() < 1e-10);
            }
        }

        #[test]
        fn values_add_up_to_what_all_achieve(worths in table(7)) {
            let total: f64 = values(7, &worths).iter().sum();
            prop_assert!((total - (worths[127] - worths[0])).abs() < 1e-10);
        }

        #[test]
        fn a_player_who_changes_nothing_has_no_value(half in table(4)) {
            // Player 4's bit repeats the table.
            let worths = [half.clone(), half].concat();
            prop_assert!(values(5, &worths)[4].abs() < 1e-12);
        }
    }
}
