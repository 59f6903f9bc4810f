//! Experiments whose tables stand in `docs/numbers/`: what a federation learns, what attackers do to it, how
//! well attribution agrees with retraining, what it costs, what it pays to game it, and what it gains to claim
//! others' text.
//!
//! Each is a list of cells ([`results`]), a way to compute one, and tables over seeds ([`page`]). The rounds
//! themselves are [`crate::federation`]'s.

pub mod attacks;
pub mod attribution;
pub mod cost;
pub mod gaming;
pub mod learning;
pub mod page;
pub mod results;
pub mod texts;
pub mod votes;
