//! What tests of this workspace share: valid values, a network of nodes in memory, and sources of bad bytes.
//!
//! Only the feature `test-utils` compiles this module, and only dev-dependencies turn the feature on; no released binary
//! holds any of it. [`fixture`] has a small valid value of everything that is signed. [`net`] runs nodes in one thread,
//! and [`attack`] speaks to them as a stranger. [`mutate`] draws bad bytes from a seed, and [`corpus`] keeps those that
//! are worth repeating.

pub mod attack;
pub mod corpus;
pub mod fixture;
pub mod mutate;
pub mod net;
