//! Ids, signed records, logs, rounds, aggregation and consensus of Tributary, without IO.
//!
//! ```text
//!            Input (message, timer, blob, trained, computed, command) + Now
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

#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod adapter;
pub mod aggregate;
pub mod anchor;
pub mod audit;
pub mod beacon;
pub mod certificate;
pub mod codec;
pub mod committee;
pub mod consensus;
pub mod entry;
pub mod event;
pub mod filing;
pub mod fingerprint;
pub mod hash;
pub mod id;
pub mod limits;
pub mod listing;
pub mod log;
pub mod logset;
pub mod manifest;
pub mod merkle;
pub mod node;
pub mod outbox;
pub mod panel;
pub mod reject;
pub mod replica;
pub mod roster;
pub mod round;
pub mod sign;
pub mod sketch;
mod sortition;
pub mod state;
pub mod summons;
pub mod sync;
#[cfg(feature = "test-utils")]
pub mod test_utils;
pub mod time;
pub mod update;
pub mod wire;
pub mod work;
