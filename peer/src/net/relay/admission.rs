//! Who uses the relay, and how many: seats for clients, and room for those that are still in their handshake.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use iroh::EndpointId;
use iroh_relay::server::{Access, AccessControl, ClientRequest, ConnectionId};
use parking_lot::Mutex;
use tributary_protocol::id::PeerId;

use super::connection::Pending;
use crate::net::keys;

/// Peers served at once: the members of several large runs. Each costs some hundred KiB of buffers.
pub(super) const MAX_CLIENTS: usize = 256;
/// Of them, peers that only a ticket admits. Anybody that finds a ticket can make keys; members keep the rest.
pub(super) const MAX_GUESTS: usize = 64;
/// Connections of one key: the one in use, and an older one whose network is gone and that nobody has noticed yet.
pub(super) const MAX_CONNECTIONS_OF_KEY: usize = 2;
/// Connections at once between their first byte and the relay protocol; all seats can be taken anew within seconds.
const MAX_HANDSHAKES: usize = 128;
/// Of them, those of one address (of one /64 in IPv6): several peers behind one router may come back together.
const MAX_HANDSHAKES_OF_ADDRESS: usize = 16;

/// Decides about a client of the relay.
pub(crate) trait Gate: Send + Sync + 'static {
    /// Whether `peer`, whose key is proven, is served; `token` is what it shows, if anything. A peer that is admitted
    /// without a token counts as a member, others as guests. Must not block.
    ///
    /// # Errors
    /// A sentence for the client: why not, and what to do.
    fn admit(&self, peer: PeerId, token: Option<&str>) -> Result<(), String>;
}

/// The connections of one peer.
struct Seat {
    connections: Vec<ConnectionId>,
    guest: bool,
}

/// Who is connected.
pub(super) struct Seats {
    gate: Arc<dyn Gate>,
    pending: Pending,
    held: Mutex<BTreeMap<PeerId, Seat>>,
}

impl fmt::Debug for Seats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seats({} peers)", self.peers())
    }
}

impl Seats {
    pub(super) fn new(gate: Arc<dyn Gate>, pending: Pending) -> Self {
        Self {
            gate,
            pending,
            held: Mutex::default(),
        }
    }

    /// Peers that are connected.
    pub(super) fn peers(&self) -> usize {
        self.held.lock().len()
    }

    /// Seats a connection, or says why not.
    fn seat(&self, peer: PeerId, token: Option<&str>, id: ConnectionId) -> Result<(), String> {
        let guest = self.gate.admit(peer, None).is_err();
        if guest {
            self.gate.admit(peer, token)?;
        }
        let mut held = self.held.lock();
        if let Some(seat) = held.get_mut(&peer) {
            if seat.connections.len() >= MAX_CONNECTIONS_OF_KEY {
                return Err(format!(
                    "this key has {MAX_CONNECTIONS_OF_KEY} connections to this relay already; stop the other program \
                     that runs with the same key, or wait half a minute until a lost connection is noticed"
                ));
            }
            seat.connections.push(id);
            seat.guest = guest;
            return Ok(());
        }
        if held.len() >= MAX_CLIENTS {
            return Err(format!(
                "this relay serves {MAX_CLIENTS} peers already; use another relay, or try again later"
            ));
        }
        if guest && held.values().filter(|seat| seat.guest).count() >= MAX_GUESTS {
            return Err(format!(
                "this relay serves {MAX_GUESTS} bearers of tickets already; try again later, or use another relay"
            ));
        }
        let connections = vec![id];
        held.insert(peer, Seat { connections, guest });
        Ok(())
    }

    fn leave(&self, peer: PeerId, id: ConnectionId) {
        let mut held = self.held.lock();
        if let Some(seat) = held.get_mut(&peer) {
            seat.connections.retain(|held| *held != id);
            if seat.connections.is_empty() {
                held.remove(&peer);
            }
        }
    }
}

impl AccessControl for Seats {
    async fn on_connect(&self, request: &ClientRequest) -> Access {
        self.pending.proven(request.headers());
        let peer = keys::from_iroh(&request.endpoint_id());
        let token = request.auth_token();
        match self.seat(peer, token.as_deref(), request.connection_id()) {
            Ok(()) => Access::Allow,
            Err(why) => {
                tracing::debug!("the relay does not serve {}: {why}", peer.short());
                let reason = Some(why);
                Access::Deny { reason }
            }
        }
    }

    fn on_disconnect(&self, endpoint_id: EndpointId, connection_id: ConnectionId) {
        self.leave(keys::from_iroh(&endpoint_id), connection_id);
    }
}

/// Connections that have not shown yet who they are, by address.
#[derive(Clone, Default)]
pub(super) struct Thresholds(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// A place of one connection, until it is dropped.
pub(super) struct Threshold {
    of: Thresholds,
    network: IpAddr,
}

impl Thresholds {
    /// A place for a connection from `ip`; none when there are too many.
    pub(super) fn enter(&self, ip: IpAddr) -> Option<Threshold> {
        let network = network(ip);
        let mut held = self.0.lock();
        let here = held.get(&network).copied().unwrap_or(0);
        if here >= MAX_HANDSHAKES_OF_ADDRESS || held.values().sum::<usize>() >= MAX_HANDSHAKES {
            return None;
        }
        held.insert(network, here + 1);
        let of = self.clone();
        Some(Threshold { of, network })
    }
}

impl Drop for Threshold {
    fn drop(&mut self) {
        let mut held = self.of.0.lock();
        if let Some(here) = held.get_mut(&self.network) {
            *here -= 1;
            if *here == 0 {
                held.remove(&self.network);
            }
        }
    }
}

/// What one line of one owner has: an IPv4 address, or a /64 of IPv6.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iroh_relay::server::OnDisconnectGuard;

    /// Admits one member without a token, and anybody with one.
    struct Doors(PeerId);

    impl Gate for Doors {
        fn admit(&self, peer: PeerId, token: Option<&str>) -> Result<(), String> {
            match peer == self.0 || token.is_some() {
                true => Ok(()),
                false => Err("bring a ticket".to_owned()),
            }
        }
    }

    fn key(n: usize) -> EndpointId {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&n.to_le_bytes());
        iroh::SecretKey::from_bytes(&seed).public()
    }

    /// Tries to seat the peer, and gives the connection's name.
    fn seat(seats: &Seats, n: usize, token: Option<&str>) -> Result<ConnectionId, String> {
        let id = OnDisconnectGuard::empty(key(n)).connection_id();
        seats.seat(keys::from_iroh(&key(n)), token, id).map(|()| id)
    }

    #[test]
    fn bearers_of_tickets_leave_places_to_members() {
        let seats = Seats::new(
            Arc::new(Doors(keys::from_iroh(&key(0)))),
            Pending::default(),
        );
        for n in 1..=MAX_GUESTS {
            seat(&seats, n, Some("ticket")).unwrap();
        }
        let why = seat(&seats, MAX_GUESTS + 1, Some("ticket")).unwrap_err();
        assert!(why.contains("bearers of tickets"), "{why}");
        let member = seat(&seats, 0, None).unwrap();
        let again = seat(&seats, 0, None).unwrap();
        assert!(seat(&seats, 0, None).unwrap_err().contains("the same key"));
        assert_eq!(seats.peers(), MAX_GUESTS + 1);
        AccessControl::on_disconnect(&seats, key(0), member);
        assert_eq!(seats.peers(), MAX_GUESTS + 1);
        AccessControl::on_disconnect(&seats, key(0), again);
        assert_eq!(seats.peers(), MAX_GUESTS);
        assert_eq!(seat(&seats, 0, None).err(), None, "the place is free again");
    }

    #[test]
    fn members_are_bounded_too() {
        struct Open;
        impl Gate for Open {
            fn admit(&self, _: PeerId, _: Option<&str>) -> Result<(), String> {
                Ok(())
            }
        }
        let seats = Seats::new(Arc::new(Open), Pending::default());
        for n in 0..MAX_CLIENTS {
            seat(&seats, n, None).unwrap();
        }
        let why = seat(&seats, MAX_CLIENTS, None).unwrap_err();
        assert!(why.contains("use another relay"), "{why}");
    }

    #[test]
    fn handshakes_are_bounded_by_address_and_in_all_and_give_their_place_back() {
        let thresholds = Thresholds::default();
        let address = |n: u8| IpAddr::from([10, 0, 0, n]);
        let mut held = Vec::new();
        for _ in 0..MAX_HANDSHAKES_OF_ADDRESS {
            held.push(thresholds.enter(address(0)).expect("room"));
        }
        assert!(thresholds.enter(address(0)).is_none());
        for n in 1..MAX_HANDSHAKES / MAX_HANDSHAKES_OF_ADDRESS {
            for _ in 0..MAX_HANDSHAKES_OF_ADDRESS {
                held.push(thresholds.enter(address(n as u8)).expect("room"));
            }
        }
        assert!(thresholds.enter(address(200)).is_none());
        held.clear();
        assert!(thresholds.0.lock().is_empty());
        let one = thresholds.enter("2001:db8::1".parse().unwrap());
        let two = thresholds.enter("2001:db8::ffff:1".parse().unwrap());
        assert!(one.is_some() && two.is_some());
        assert_eq!(thresholds.0.lock().len(), 1, "one /64 counts as one");
    }
}
