//! Ids, signed records, logs, rounds, aggregation and consensus of Tributary, without IO.
//!
//! ```text
//!            Input (message, timer, blob, trained, command) + Now
//!                                │
//!                          node::Node::handle
//!        ┌───────────────┬───────┴───────┬──────────────────┐
//!     logset          round           consensus           sync
//!  (union of logs)  (value, state)   (Tendermint)     (heads, suffixes)
//!        │               │               │
//!   log, entry,     aggregate/*,     committee,
//!   sign, codec      update          roster
//!        └───────────────┴───────────────┘
//!            adapter, manifest, id, hash, time, limits
//! ```
//!
//! Nothing here waits, sleeps, opens or draws: the caller hands in time and seeds and carries out the
//! effects. The same node runs in the daemon and in virtual time.

pub mod adapter;
pub mod codec;
pub mod entry;
pub mod event;
pub mod hash;
pub mod id;
pub mod limits;
pub mod log;
pub mod logset;
pub mod manifest;
pub mod merkle;
pub mod reject;
pub mod round;
pub mod sign;
pub mod sync;
pub mod time;
pub mod wire;

#[cfg(test)]
mod fixture;
