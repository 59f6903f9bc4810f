//! The first thing that two connected peers say: who else is there, and where.
//!
//! Both stacks need addresses that nobody publishes for us (no DNS). A hello
//! carries the sender's own addresses and relays, where it sees the other one, the runs it follows, and the contacts it knows
//! that follow runs as well. Contacts of others are hearsay: they are tried, and the handshake of
//! Noise or TLS proves or refutes them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bincode::{Decode, Encode};
use tributary_protocol::codec::{self, CodecError};
use tributary_protocol::id::{NetworkId, PeerId, RunId};

/// Addresses of one plane in one contact: one per interface is plenty.
pub(super) const MAX_ADDRESSES: usize = 8;
/// Relays in one contact: the nearest, and another while that one is away.
pub(super) const MAX_RELAYS: usize = 2;
/// Runs in one contact; a peer that follows more is known by these.
pub(super) const MAX_RUNS: usize = 64;
/// Contacts passed on at once: members of a small run all meet; large runs need no full mesh.
pub(super) const MAX_KNOWN: usize = 64;
/// Bytes of a hello: 65 contacts with everything they may carry.
pub(super) const MAX_HELLO_BYTES: usize = 256 * 1024;
/// Layout of this message.
const VERSION: u8 = 2;

/// A socket address in canonical bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub(super) enum Socket {
    V4([u8; 4], u16),
    V6([u8; 16], u16),
}

impl From<SocketAddr> for Socket {
    fn from(socket: SocketAddr) -> Self {
        match socket.ip() {
            IpAddr::V4(ip) => Self::V4(ip.octets(), socket.port()),
            IpAddr::V6(ip) => Self::V6(ip.octets(), socket.port()),
        }
    }
}

impl From<Socket> for SocketAddr {
    fn from(socket: Socket) -> Self {
        match socket {
            Socket::V4(ip, port) => (Ipv4Addr::from(ip), port).into(),
            Socket::V6(ip, port) => (Ipv6Addr::from(ip), port).into(),
        }
    }
}

/// Where a relay is, and whose key its certificate has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub(super) struct RelayPlace {
    pub(super) peer: PeerId,
    /// TCP for packets, and UDP of the same number to tell a peer its address.
    pub(super) socket: Socket,
}

/// Where a peer is, and what it follows.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Contact {
    pub(super) peer: PeerId,
    /// TCP, libp2p.
    pub(super) control: Vec<Socket>,
    /// UDP, iroh.
    pub(super) data: Vec<Socket>,
    /// Relays that pass packets on to it.
    pub(super) relays: Vec<RelayPlace>,
    pub(super) runs: Vec<RunId>,
}

/// The greeting of two connected peers: addresses, followed runs and contacts of the sender.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Hello {
    version: u8,
    pub(super) network: NetworkId,
    /// Where packets of the one who is greeted come from, when they come straight over UDP: what its router made of its
    /// address, which it cannot see itself.
    pub(super) seen: Option<Socket>,
    pub(super) me: Contact,
    pub(super) known: Vec<Contact>,
}

/// Why a hello is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HelloError {
    #[error("its greeting does not decode: {0}")]
    Codec(#[from] CodecError),
    #[error("it speaks another version of the protocol")]
    Version,
    #[error("it belongs to another network")]
    Network,
    #[error("its greeting names another peer than its key")]
    Sender,
    #[error("its greeting is longer than allowed")]
    Limit,
}

impl Contact {
    fn within_limits(&self) -> bool {
        self.control.len() <= MAX_ADDRESSES
            && self.data.len() <= MAX_ADDRESSES
            && self.relays.len() <= MAX_RELAYS
            && self.runs.len() <= MAX_RUNS
    }

    /// Whether it says where the peer can be reached.
    pub(super) fn is_reachable(&self) -> bool {
        !(self.control.is_empty() && self.data.is_empty() && self.relays.is_empty())
    }

    /// Whether both follow some run.
    pub(super) fn shares(&self, runs: &BTreeSet<RunId>) -> bool {
        self.runs.iter().any(|run| runs.contains(run))
    }
}

impl Hello {
    pub(super) fn new(
        network: NetworkId,
        seen: Option<Socket>,
        me: Contact,
        mut known: Vec<Contact>,
    ) -> Self {
        known.truncate(MAX_KNOWN);
        Self {
            version: VERSION,
            network,
            seen,
            me,
            known,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Checks everything that can be checked without dialing anybody.
    pub(super) fn decode(
        bytes: &[u8],
        network: NetworkId,
        sender: PeerId,
    ) -> Result<Self, HelloError> {
        // Another version may have another layout, so it is looked at first.
        if bytes.first().is_some_and(|version| *version != VERSION) {
            return Err(HelloError::Version);
        }
        let hello: Self = codec::decode::<_, MAX_HELLO_BYTES>(bytes)?;
        if hello.network != network {
            return Err(HelloError::Network);
        }
        if hello.me.peer != sender {
            return Err(HelloError::Sender);
        }
        let contacts = [&hello.me].into_iter().chain(&hello.known);
        if hello.known.len() > MAX_KNOWN || !contacts.into_iter().all(Contact::within_limits) {
            return Err(HelloError::Limit);
        }
        Ok(hello)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_protocol::hash;

    fn contact(n: u8, addresses: usize) -> Contact {
        let socket: SocketAddr = "[2001:db8::1]:65535".parse().unwrap();
        Contact {
            peer: PeerId(hash::blob(&[n])),
            control: vec![socket.into(); addresses],
            data: vec![socket.into(); addresses],
            relays: vec![
                RelayPlace {
                    peer: PeerId(hash::blob(&[n])),
                    socket: socket.into()
                };
                MAX_RELAYS
            ],
            runs: vec![RunId::default(); MAX_RUNS],
        }
    }

    #[test]
    fn largest_hello_fits_and_survives() {
        let known = (0..MAX_KNOWN as u8 + 9)
            .map(|n| contact(n, MAX_ADDRESSES))
            .collect();
        let hello = Hello::new(NetworkId(7), None, contact(200, MAX_ADDRESSES), known);
        let bytes = hello.encode();
        assert!(bytes.len() <= MAX_HELLO_BYTES, "{} bytes", bytes.len());
        let sender = hello.me.peer;
        assert_eq!(Hello::decode(&bytes, NetworkId(7), sender), Ok(hello));
    }

    #[test]
    fn hello_of_another_network_or_sender_or_size_is_refused() {
        let hello = Hello::new(NetworkId(7), None, contact(1, 1), Vec::new());
        let (bytes, sender) = (hello.encode(), hello.me.peer);
        let newer = Hello::decode(&[VERSION + 1, 200], NetworkId(7), sender);
        assert_eq!(newer, Err(HelloError::Version), "a layout of tomorrow");
        let other = Hello::decode(&bytes, NetworkId(8), sender);
        assert_eq!(other, Err(HelloError::Network));
        let forged = Hello::decode(&bytes, NetworkId(7), PeerId::default());
        assert_eq!(forged, Err(HelloError::Sender));
        let long = Hello::new(
            NetworkId(7),
            None,
            contact(1, MAX_ADDRESSES + 1),
            Vec::new(),
        )
        .encode();
        assert_eq!(
            Hello::decode(&long, NetworkId(7), sender),
            Err(HelloError::Limit)
        );
    }
}
