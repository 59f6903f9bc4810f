//! The Tributary peer: daemon, network, store and command line.
//!
//! ```text
//!   cli, demo, api ──▶ daemon ──▶ driver ──▶ protocol::node::Node
//!                                   │ │ └──▶ work    (trainer threads)
//!                                   │ └────▶ store   (redb, blobs)
//!                                   └──────▶ net     (libp2p, iroh)
//! ```

pub mod api;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod demo;
mod driver;
pub mod event;
pub mod evidence;
pub mod health;
pub mod home;
pub mod identity;
mod indexer;
mod jury;
mod keeper;
mod metrics;
pub mod model;
pub mod net;
pub mod problem;
mod progress;
pub mod serve;
pub mod settings;
pub mod shard;
pub mod store;
pub mod terminal;
pub mod ticket;
mod upkeep;
pub mod verify;
pub mod view;
pub mod why;
pub mod work;

use tributary_protocol::id::NetworkId;

/// The network that all peers of this version speak to.
pub const NETWORK: NetworkId = NetworkId(1);
