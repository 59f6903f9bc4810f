//! How each peer is reached: directly or through a relay, at which address, with what latency and loss.
//!
//! QUIC connections change their path while they are up (a relayed one becomes direct once both routers let packets
//! through), so they are asked each time; of TCP connections the answers to pings tell.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use iroh::TransportAddr;
use iroh::endpoint::{Connection, WeakConnectionHandle};
use parking_lot::Mutex;
use tributary_protocol::id::PeerId;

/// The kind of way that a peer is reached on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// Packets go straight to its address, over TCP.
    Tcp,
    /// Packets go straight to its address, over QUIC.
    Direct,
    /// A relay passes packets on.
    Relayed,
}

/// How a peer is reached now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerPath {
    /// The kind of way.
    pub kind: PathKind,
    /// The peer's address, or the relay's.
    pub address: Option<SocketAddr>,
    /// Since when it is reached in this way.
    pub since: Instant,
    /// Round trip.
    pub latency: Option<Duration>,
    /// Packets lost, in a million; not known of TCP.
    pub lost_ppm: Option<u32>,
}

/// What is known of the connections of one peer.
#[derive(Debug, Default)]
struct Held {
    quic: Vec<WeakConnectionHandle>,
    tcp: Option<SocketAddr>,
    ping: Option<Duration>,
    last: Option<PeerPath>,
}

/// The ways to all connected peers. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths(Arc<Mutex<BTreeMap<PeerId, Held>>>);

impl Paths {
    /// A QUIC connection of the control plane is up.
    pub(super) fn on_quic(&self, peer: PeerId, connection: &Connection) {
        let mut held = self.0.lock();
        let quic = &mut held.entry(peer).or_default().quic;
        quic.retain(|handle| handle.upgrade().is_some());
        quic.push(connection.weak_handle());
    }

    /// A TCP connection is up.
    pub(super) fn on_tcp(&self, peer: PeerId, socket: SocketAddr) {
        self.0.lock().entry(peer).or_default().tcp = Some(socket);
    }

    /// A ping was answered.
    pub(super) fn on_ping(&self, peer: PeerId, latency: Duration) {
        if let Some(held) = self.0.lock().get_mut(&peer) {
            held.ping = Some(latency);
        }
    }

    /// The peer's last connection is gone.
    pub(super) fn on_closed(&self, peer: &PeerId) {
        self.0.lock().remove(peer);
    }

    /// Where a peer's packets come from, when they come straight over QUIC.
    pub(super) fn seen_at(&self, peer: &PeerId) -> Option<SocketAddr> {
        let held = self.0.lock();
        let connections = held.get(peer)?.quic.iter();
        let mut connections = connections.filter_map(WeakConnectionHandle::upgrade);
        connections.find_map(|connection| direct(&connection))
    }

    /// Looks at every connection: how each peer is reached now.
    pub(super) fn look(&self) -> BTreeMap<PeerId, PeerPath> {
        let mut held = self.0.lock();
        let now = Instant::now();
        let mut paths = BTreeMap::new();
        for (peer, held) in held.iter_mut() {
            let mut path = held.quic.iter().find_map(|handle| quic(handle, now));
            if path.is_none()
                && let Some(socket) = held.tcp
            {
                path = Some(PeerPath {
                    kind: PathKind::Tcp,
                    address: Some(socket),
                    since: now,
                    latency: held.ping,
                    lost_ppm: None,
                });
            }
            if let (Some(path), Some(last)) = (&mut path, &held.last)
                && path.kind == last.kind
            {
                path.since = last.since;
            }
            held.last = path;
            paths.extend(path.map(|path| (*peer, path)));
        }
        paths
    }
}

/// The address that a connection's packets go straight to, if its selected path is no relay's.
fn direct(connection: &Connection) -> Option<SocketAddr> {
    let paths = connection.paths();
    let selected = paths.iter().find(|path| path.is_selected())?;
    match selected.remote_addr() {
        TransportAddr::Ip(socket) => Some(*socket),
        _ => None,
    }
}

fn quic(handle: &WeakConnectionHandle, now: Instant) -> Option<PeerPath> {
    let connection = handle.upgrade()?;
    if connection.close_reason().is_some() {
        return None;
    }
    let paths = connection.paths();
    let path = (paths.iter().find(|path| path.is_selected())).or_else(|| paths.iter().next())?;
    let stats = path.stats();
    let (kind, address) = match path.remote_addr() {
        TransportAddr::Ip(socket) => (PathKind::Direct, Some(*socket)),
        TransportAddr::Relay(url) => (PathKind::Relayed, super::relay::socket(url)),
        _ => (PathKind::Relayed, None),
    };
    let sent = stats.sent_packets.max(1);
    let lost_ppm = stats.lost_packets.saturating_mul(1_000_000) / sent;
    Some(PeerPath {
        kind,
        address,
        since: now,
        latency: Some(stats.rtt),
        lost_ppm: Some(u32::try_from(lost_ppm).unwrap_or(u32::MAX)),
    })
}
