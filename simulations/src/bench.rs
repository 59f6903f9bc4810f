//! Experiments whose tables stand in `docs/numbers/`: what a federation learns, and what attackers do to it.
//!
//! Each is a list of cells ([`results`]), a way to compute one, and tables over seeds ([`page`]). The rounds
//! themselves are [`crate::federation`]'s.

pub mod attacks;
pub mod learning;
pub mod page;
pub mod results;
