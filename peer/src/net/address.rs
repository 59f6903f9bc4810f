//! Where a peer can be reached, in the text form that people pass around.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tributary_protocol::id::PeerId;

use super::keys;

/// A TCP address of a peer, with or without the peer's name:
/// `/ip4/127.0.0.1/tcp/4001/p2p/12D3Koo..`. `127.0.0.1:4001` is read as well.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub(super) Multiaddr);

/// The text is no address that this network can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an address; write `IP:PORT` or `/ip4/IP/tcp/PORT/p2p/PEER` as `tributary status` shows it"
)]
pub struct AddressError(String);

impl Address {
    /// The address of `peer` at a socket.
    pub fn new(socket: SocketAddr, peer: Option<PeerId>) -> Self {
        let mut multiaddr = socket_multiaddr(socket);
        if let Some(peer) = peer.and_then(keys::to_libp2p) {
            multiaddr.push(Protocol::P2p(peer));
        }
        Self(multiaddr)
    }

    /// A peer wherever it is: what is known of it leads there.
    pub fn of_peer(peer: PeerId) -> Self {
        let peer = keys::to_libp2p(peer).map(Protocol::P2p);
        Self(peer.into_iter().collect())
    }

    /// The IP address and TCP port.
    pub fn socket(&self) -> Option<SocketAddr> {
        let mut ip = None;
        for part in &self.0 {
            match part {
                Protocol::Ip4(v4) => ip = Some(IpAddr::V4(v4)),
                Protocol::Ip6(v6) => ip = Some(IpAddr::V6(v6)),
                Protocol::Tcp(port) => return ip.map(|ip| SocketAddr::new(ip, port)),
                _ => return None,
            }
        }
        None
    }

    /// Who is expected there.
    pub fn peer(&self) -> Option<PeerId> {
        match self.0.iter().last()? {
            Protocol::P2p(peer) => keys::from_libp2p(&peer),
            _ => None,
        }
    }
}

/// `/ip4/../tcp/..` of a socket.
pub(super) fn socket_multiaddr(socket: SocketAddr) -> Multiaddr {
    let mut multiaddr = Multiaddr::from(socket.ip());
    multiaddr.push(Protocol::Tcp(socket.port()));
    multiaddr
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let fail = || AddressError(text.chars().take(120).collect());
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self::new(socket, None));
        }
        let address = Self(text.parse::<Multiaddr>().map_err(|_| fail())?);
        let parts: Vec<_> = address.0.iter().collect();
        let named = matches!(parts.last(), Some(Protocol::P2p(_)));
        let fits = parts.len() == 2 + usize::from(named);
        if !fits || address.socket().is_none() || (named && address.peer().is_none()) {
            return Err(fail());
        }
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    #[test]
    fn address_survives_its_text() {
        let peer = Identity::generate().peer_id();
        let address = Address::new("127.0.0.1:4001".parse().unwrap(), Some(peer));
        let back: Address = address.to_string().parse().unwrap();
        assert_eq!(back.peer(), Some(peer));
        assert_eq!(back.socket(), Some("127.0.0.1:4001".parse().unwrap()));
        assert_eq!("[::1]:9".parse::<Address>().unwrap().peer(), None);
    }

    #[test]
    fn what_is_no_tcp_address_is_refused() {
        for text in [
            "",
            "here",
            "/dns4/a.b/tcp/1",
            "/ip4/1.2.3.4/udp/1",
            "/ip4/1.2.3.4",
        ] {
            let error = text.parse::<Address>().expect_err(text);
            assert!(error.to_string().contains("IP:PORT"));
        }
    }
}
