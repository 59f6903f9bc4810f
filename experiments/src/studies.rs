//! The studies: what a federation learns, what attackers do to it, how well attribution agrees with
//! retraining, what it costs, what it pays to game it, and what it gains to claim others' text.
//!
//! Each implements [`crate::study::Study`] and has its tables in a file of its own. The rounds themselves are
//! [`tributary_simulations::federation`]'s.

pub mod attacks;
pub mod attribution;
pub mod cost;
pub mod gaming;
pub mod learning;
pub mod texts;
pub mod votes;
