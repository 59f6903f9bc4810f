//! Admission to the control plane: asks [`Admission`] before a connection is made, closes those of
//! peers that were cut off, and gives the places of those that others opened, see `connections`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
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

use super::address::Address;
use super::admission::{Admission, SocketMeter};
use super::connections::Connections;
use super::fair;
use super::keys;

/// Counters of sockets whose peer is not known yet.
#[derive(Clone, Debug, Default)]
pub(super) struct UnknownSockets(Arc<Mutex<BTreeMap<SocketAddr, Weak<SocketMeter>>>>);

impl UnknownSockets {
    /// The counter of a new socket. Those of sockets that are gone are forgotten.
    pub(super) fn open(&self, remote: &Multiaddr) -> Arc<SocketMeter> {
        let line = Arc::new(SocketMeter::default());
        if let Some(socket) = Address(remote.clone()).socket() {
            let mut held = self.0.lock();
            held.retain(|_, line| line.strong_count() > 0);
            held.insert(socket, Arc::downgrade(&line));
        }
        line
    }

    /// Whether anything arrived on a socket whose peer is not known yet.
    pub(super) fn has_arrived(&self, remote: SocketAddr) -> bool {
        let held = self.0.lock();
        let line = held.get(&remote).and_then(Weak::upgrade);
        line.is_some_and(|line| line.arrived() > 0)
    }

    fn take(&self, remote: SocketAddr) -> Option<Arc<SocketMeter>> {
        let mut held = self.0.lock();
        held.remove(&remote)?.upgrade()
    }
}

/// The libp2p behaviour that admits and closes connections of the control plane.
pub(super) struct ControlAdmission {
    admission: Admission,
    lines: UnknownSockets,
    incoming: Connections<ConnectionId>,
    /// Sockets of incoming connections, by name.
    sockets: BTreeMap<ConnectionId, Weak<SocketMeter>>,
    to_close: Vec<(libp2p::PeerId, CloseConnection)>,
}

/// Connections that others opened. Gossip needs six, a fully meshed run sixty-four.
const MAX_INCOMING: usize = 256;

impl ControlAdmission {
    pub(super) fn new(admission: Admission, lines: UnknownSockets) -> Self {
        Self {
            admission,
            lines,
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
        let socket = Address(remote.clone()).socket();
        let line = socket.and_then(|socket| self.lines.take(socket));
        let from = socket.map(|socket| socket.ip());
        if let Some(id) = incoming {
            let socket = line.as_ref().map(Arc::downgrade).unwrap_or_default();
            self.sockets.insert(id, socket);
            let (admission, now) = (&self.admission, self.admission.now());
            let priority = |peer| admission.priority(peer);
            let loser = self.incoming.enter(id, peer, from, now, priority);
            if let Some((id, peer)) = loser {
                self.close(id, peer);
            }
        }
        self.admission.connected(peer, from, line);
        Ok(())
    }

    /// Closes a connection whose place went to another.
    fn close(&mut self, id: ConnectionId, peer: tributary_protocol::id::PeerId) {
        if let Some(socket) = self.sockets.remove(&id).and_then(|socket| socket.upgrade()) {
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
        match Address(remote.clone()).socket() {
            Some(socket) => {
                (self.admission.may_connect(socket.ip())).map_err(ConnectionDenied::new)
            }
            None => Ok(()),
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
