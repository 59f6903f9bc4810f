//! Where a connection comes from: a socket, or a key whose packets iroh delivers.

use std::net::{IpAddr, SocketAddr};

use iroh::endpoint::IncomingAddr;
use libp2p::Multiaddr;
use tributary_protocol::id::PeerId;

use super::address::Address;
use super::{fair, keys, transport};

/// The other end of a connection, as far as it is known before the connection has said anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Remote {
    /// A TCP or UDP socket.
    Socket(SocketAddr),
    /// A key, proven by QUIC or named by a relay.
    Key(PeerId),
}

impl Remote {
    /// The other end of a connection of the control plane.
    pub(super) fn of(address: &Multiaddr) -> Option<Self> {
        let socket = Address(address.clone()).socket().map(Self::Socket);
        socket.or_else(|| transport::peer_of(address).map(Self::Key))
    }

    /// The other end of a QUIC connection that comes in.
    pub(super) fn of_incoming(address: &IncomingAddr) -> Option<Self> {
        match address {
            IncomingAddr::Ip(socket) => Some(Self::Socket(*socket)),
            IncomingAddr::Relay { endpoint_id, .. } => {
                Some(Self::Key(keys::from_iroh(endpoint_id)))
            }
            _ => None,
        }
    }

    /// The address that stands for it where places are shared out.
    pub(super) fn ip(&self) -> IpAddr {
        match self {
            Self::Socket(socket) => socket.ip(),
            Self::Key(peer) => fair::of_key(peer),
        }
    }
}

#[cfg(test)]
impl Remote {
    pub(super) fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(socket) => Some(*socket),
            Self::Key(_) => None,
        }
    }
}
