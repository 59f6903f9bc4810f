//! The bytes of a ticket: canonical, signed by the first peer, and with a checksum that finds slips of the hand.

use std::net::{IpAddr, SocketAddr};

use bincode::{Decode, Encode};
use tributary_protocol::codec;
use tributary_protocol::hash::{self, Domain};
use tributary_protocol::id::{NetworkId, PeerId, RunId};
use tributary_protocol::sign::{self, SecretKey, Signature};
use tributary_protocol::time::Timestamp;

use super::{Contact, InvitationId, MAX_PEERS, MAX_SOCKETS, Relay, Terms, TicketError};

/// Layout of a ticket.
const VERSION: u8 = 1;
const SIGNATURE_BYTES: usize = 64;
/// Bytes of the checksum: a slip goes unnoticed once in four thousand million, and then the signature finds it.
const CHECKSUM_BYTES: usize = 4;
/// Bytes of a ticket: what 400 characters of base58 can say, rounded up.
const MAX_BYTES: usize = 300;

#[derive(Encode, Decode)]
struct Body {
    version: u8,
    network: NetworkId,
    run: RunId,
    invitation: InvitationId,
    expires_s: u64,
    peers: Vec<Peer>,
    relays: Vec<(Owner, Socket)>,
}

#[derive(Encode, Decode)]
struct Peer {
    key: PeerId,
    sockets: Vec<Socket>,
    /// A position in `relays`.
    relay: Option<u8>,
}

/// Whose a relay is.
#[derive(Encode, Decode, PartialEq, Eq)]
enum Owner {
    /// A position in `peers`.
    Peer(u8),
    Other(PeerId),
}

#[derive(Clone, Copy, Encode, Decode, PartialEq, Eq)]
struct Socket {
    ip: Ip,
    port: [u8; 2],
}

#[derive(Clone, Copy, Encode, Decode, PartialEq, Eq)]
enum Ip {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl From<&SocketAddr> for Socket {
    fn from(socket: &SocketAddr) -> Self {
        let ip = match socket.ip() {
            IpAddr::V4(ip) => Ip::V4(ip.octets()),
            IpAddr::V6(ip) => Ip::V6(ip.octets()),
        };
        let port = socket.port().to_be_bytes();
        Self { ip, port }
    }
}

impl From<&Socket> for SocketAddr {
    fn from(socket: &Socket) -> Self {
        let ip: IpAddr = match socket.ip {
            Ip::V4(octets) => octets.into(),
            Ip::V6(octets) => octets.into(),
        };
        Self::new(ip, u16::from_be_bytes(socket.port))
    }
}

/// Signed bytes with their checksum. The caller has bounded the contacts.
pub(super) fn encode(key: &SecretKey, terms: &Terms, contacts: &[Contact]) -> Vec<u8> {
    assert!(contacts.len() <= MAX_PEERS, "the caller bounds the peers");
    let mut relays: Vec<(Owner, Socket)> = Vec::new();
    let peers = contacts.iter().map(|contact| {
        let relay = contact.relay.map(|relay| {
            let at = contacts.iter().position(|held| held.peer == relay.peer);
            let owner = at.map_or(Owner::Other(relay.peer), |at| Owner::Peer(at as u8));
            let entry = (owner, Socket::from(&relay.socket));
            let known = relays.iter().position(|held| *held == entry);
            known.unwrap_or_else(|| {
                relays.push(entry);
                relays.len() - 1
            }) as u8
        });
        Peer {
            key: contact.peer,
            sockets: contact.sockets.iter().map(Socket::from).collect(),
            relay,
        }
    });
    let peers = peers.collect();
    let mut bytes = codec::encode(&Body {
        version: VERSION,
        network: terms.network,
        run: terms.run,
        invitation: terms.invitation,
        expires_s: terms.expires.0 / 1000,
        peers,
        relays,
    });
    let signature = key.sign(terms.network, Domain::Ticket, &bytes);
    bytes.extend(signature.0);
    bytes.extend(checksum(&bytes));
    bytes
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = hash::blob(bytes);
    *hash.as_bytes().first_chunk().expect("a hash is longer")
}

/// Checks and reads the bytes; what they say of addresses and time is left to the caller.
pub(super) fn decode(
    bytes: &[u8],
    network: NetworkId,
) -> Result<(Terms, Vec<Contact>), TicketError> {
    let (rest, sum) = bytes.split_last_chunk().ok_or(TicketError::Mistyped)?;
    if checksum(rest) != *sum {
        return Err(TicketError::Mistyped);
    }
    match rest.first() {
        Some(&VERSION) => {}
        Some(&newer) => return Err(TicketError::Newer(newer)),
        None => return Err(TicketError::Mistyped),
    }
    let (signed, signature) = rest
        .split_last_chunk::<SIGNATURE_BYTES>()
        .ok_or(TicketError::NotATicket)?;
    let body = codec::decode::<Body, MAX_BYTES>(signed).map_err(|_| TicketError::NotATicket)?;
    if body.network != network {
        let (found, expected) = (body.network.0, network.0);
        return Err(TicketError::Network { found, expected });
    }
    let inviter = body.peers.first().ok_or(TicketError::NotATicket)?.key;
    sign::verify(
        inviter,
        network,
        Domain::Ticket,
        signed,
        &Signature(*signature),
    )
    .map_err(|_| TicketError::Signature)?;
    let terms = Terms {
        network,
        run: body.run,
        invitation: body.invitation,
        expires: Timestamp(body.expires_s.saturating_mul(1000)),
    };
    let contacts = contacts(&body).ok_or(TicketError::NotATicket)?;
    Ok((terms, contacts))
}

/// The peers with their relays; none when they are not written as the format says.
fn contacts(body: &Body) -> Option<Vec<Contact>> {
    let relays: Option<Vec<Relay>> = (body.relays.iter())
        .map(|(owner, socket)| {
            let named = |key: &PeerId| body.peers.iter().any(|peer| peer.key == *key);
            let peer = match owner {
                Owner::Peer(at) => body.peers.get(usize::from(*at))?.key,
                Owner::Other(key) if named(key) => return None,
                Owner::Other(key) => *key,
            };
            let socket = socket.into();
            Some(Relay { peer, socket })
        })
        .collect();
    let relays = relays?;
    let mut used = 0;
    let contacts: Option<Vec<Contact>> = (body.peers.iter())
        .map(|peer| {
            // Positions appear in the order of their first use, so that one set of relays has one encoding.
            let at = peer.relay.map(usize::from);
            let relay = match at {
                Some(at) if at > used => return None,
                Some(at) => Some(*relays.get(at)?),
                None => None,
            };
            used += usize::from(at == Some(used));
            let some = !peer.sockets.is_empty() || relay.is_some();
            let fits = some && peer.sockets.len() <= MAX_SOCKETS;
            fits.then(|| Contact {
                peer: peer.key,
                sockets: peer.sockets.iter().map(SocketAddr::from).collect(),
                relay,
            })
        })
        .collect();
    let distinct = |at: usize, key: &PeerId| body.peers[..at].iter().all(|peer| peer.key != *key);
    let each_once = (body.peers.iter().enumerate()).all(|(at, peer)| distinct(at, &peer.key));
    contacts.filter(|_| each_once && body.peers.len() <= MAX_PEERS && used == relays.len())
}
