//! Admission to the control plane: asks [`Admission`] before a connection is made, closes those of
//! peers that were cut off, and gives the places of those that others opened, see `connections`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use parking_lot::Mutex;

use super::admission::{Admission, SocketMeter};
use super::connections::Connections;
use super::fair;
use super::keys;
use super::paths::Paths;
use super::remote::Remote;

/// Counters of connections whose peer is not known yet. A key may open two at once, a socket is one.
#[derive(Clone, Debug, Default)]
pub(super) struct UnknownSockets(Arc<Mutex<BTreeMap<Remote, Vec<Weak<SocketMeter>>>>>);

impl UnknownSockets {
    /// The counter of a new socket. Those of sockets that are gone are forgotten.
    pub(super) fn open(&self, remote: &Multiaddr) -> Arc<SocketMeter> {
        let line = Arc::new(SocketMeter::default());
        if let Some(remote) = Remote::of(remote) {
            let mut held = self.0.lock();
            held.retain(|_, lines| {
                lines.retain(|line| line.strong_count() > 0);
                !lines.is_empty()
            });
            held.entry(remote).or_default().push(Arc::downgrade(&line));
        }
        line
    }

    /// Whether anything arrived from somewhere whose peer is not known yet.
    pub(super) fn has_arrived(&self, remote: Remote) -> bool {
        let held = self.0.lock();
        let mut lines = held.get(&remote).into_iter().flatten();
        lines.any(|line| line.upgrade().is_some_and(|line| line.arrived() > 0))
    }

    fn take(&self, remote: Remote) -> Vec<Arc<SocketMeter>> {
        let mut held = self.0.lock();
        let lines = held.remove(&remote).unwrap_or_default();
        lines.iter().filter_map(Weak::upgrade).collect()
    }
}

/// The libp2p behaviour that admits and closes connections of the control plane.
pub(super) struct ControlAdmission {
    admission: Admission,
    lines: UnknownSockets,
    paths: Paths,
    incoming: Connections<ConnectionId>,
    /// Sockets of incoming connections, by name.
    sockets: BTreeMap<ConnectionId, Vec<Weak<SocketMeter>>>,
    to_close: Vec<(libp2p::PeerId, CloseConnection)>,
}

/// Connections that others opened. Gossip needs six, a fully meshed run sixty-four.
const MAX_INCOMING: usize = 256;

impl ControlAdmission {
    pub(super) fn new(admission: Admission, lines: UnknownSockets, paths: Paths) -> Self {
        Self {
            admission,
            lines,
            paths,
            incoming: Connections::new(MAX_INCOMING, fair::dice()),
            sockets: BTreeMap::new(),
            to_close: Vec::new(),
        }
    }

    fn enter(
        &mut self,
        peer: PeerId,
        remote: &Multiaddr,
        incoming: Option<ConnectionId>,
    ) -> Result<(), ConnectionDenied> {
        let Some(peer) = keys::from_libp2p(&peer) else {
            return Ok(());
        };
        self.admission
            .may_speak(peer)
            .map_err(ConnectionDenied::new)?;
        let remote = Remote::of(remote);
        let lines = remote.map_or_else(Vec::new, |remote| self.lines.take(remote));
        // Packets that come straight over QUIC come from an address as well.
        let direct = (self.paths.seen_at(&peer)).filter(|_| matches!(remote, Some(Remote::Key(_))));
        let from = direct.map(|socket| socket.ip());
        let from = from.or_else(|| remote.map(|remote| remote.ip()));
        if let Some(id) = incoming {
            let sockets = lines.iter().map(Arc::downgrade).collect();
            self.sockets.insert(id, sockets);
            let (admission, now) = (&self.admission, self.admission.now());
            let priority = |peer| admission.priority(peer);
            let loser = self.incoming.enter(id, peer, from, now, priority);
            if let Some((id, peer)) = loser {
                self.close(id, peer);
            }
        }
        self.admission.connected(peer, from, lines);
        Ok(())
    }

    /// Closes a connection whose place went to another.
    fn close(&mut self, id: ConnectionId, peer: tributary_protocol::id::PeerId) {
        let sockets = self.sockets.remove(&id).unwrap_or_default();
        for socket in sockets.iter().filter_map(Weak::upgrade) {
            socket.cut();
        }
        let peer = keys::to_libp2p(peer);
        (self.to_close).extend(peer.map(|peer| (peer, CloseConnection::One(id))));
    }

    fn left(&mut self, id: ConnectionId) {
        self.incoming.leave(&id);
        self.sockets.remove(&id);
    }
}

impl NetworkBehaviour for ControlAdmission {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        match Remote::of(remote) {
            Some(Remote::Socket(socket)) => {
                (self.admission.may_connect(socket.ip())).map_err(ConnectionDenied::new)
            }
            // What came over QUIC was asked before its handshake.
            Some(Remote::Key(_)) | None => Ok(()),
        }
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.enter(peer, remote, Some(id))?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.enter(peer, remote, None)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionClosed(closed) => self.left(closed.connection_id),
            // Another behaviour may have refused what this one let in.
            FromSwarm::ListenFailure(failed) => self.left(failed.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let cut_off = self.admission.take_cut_off();
        let cut_off = cut_off.into_iter().filter_map(keys::to_libp2p);
        (self.to_close).extend(cut_off.map(|peer| (peer, CloseConnection::All)));
        match self.to_close.pop() {
            // Whoever cuts off from outside this loop is followed at the next beat of the task.
            None => Poll::Pending,
            Some((peer_id, connection)) => Poll::Ready(ToSwarm::CloseConnection {
                peer_id,
                connection,
            }),
        }
    }
}
