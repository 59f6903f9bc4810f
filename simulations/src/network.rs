//! The network that every simulated peer belongs to: a name that signed bytes carry.

use tributary_protocol::id::NetworkId;

/// Part of everything that is signed, so that no byte of a simulation means anything elsewhere.
pub const NETWORK: NetworkId = NetworkId(7);
