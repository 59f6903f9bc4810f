//! The door of the control plane: asks [`Admission`] before a connection is made, and closes those of
//! peers that were cut off.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use super::address::Address;
use super::admission::{Admission, Line};
use super::keys;

/// Counters of sockets whose peer is not known yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(Arc<Mutex<BTreeMap<SocketAddr, Weak<Line>>>>);

impl Lines {
    /// The counter of a new socket. Those of sockets that are gone are forgotten.
    pub(super) fn open(&self, remote: &Multiaddr) -> Arc<Line> {
        let line = Arc::new(Line::default());
        if let Some(socket) = Address(remote.clone()).socket() {
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            held.retain(|_, line| line.strong_count() > 0);
            held.insert(socket, Arc::downgrade(&line));
        }
        line
    }

    /// Whether anything arrived on a socket whose peer is not known yet.
    pub(super) fn has_arrived(&self, remote: SocketAddr) -> bool {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = held.get(&remote).and_then(Weak::upgrade);
        line.is_some_and(|line| line.arrived() > 0)
    }

    fn take(&self, remote: SocketAddr) -> Option<Arc<Line>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&remote)?.upgrade()
    }
}

/// See the module.
pub(super) struct Gate {
    admission: Admission,
    lines: Lines,
    to_close: Vec<libp2p::PeerId>,
}

impl Gate {
    pub(super) fn new(admission: Admission, lines: Lines) -> Self {
        Self {
            admission,
            lines,
            to_close: Vec::new(),
        }
    }

    fn enter(&self, peer: PeerId, remote: &Multiaddr) -> Result<(), ConnectionDenied> {
        let Some(peer) = keys::from_libp2p(&peer) else {
            return Ok(());
        };
        self.admission
            .may_speak(peer)
            .map_err(ConnectionDenied::new)?;
        let socket = Address(remote.clone()).socket();
        let line = socket.and_then(|socket| self.lines.take(socket));
        self.admission
            .connected(peer, socket.map(|socket| socket.ip()), line);
        Ok(())
    }
}

impl NetworkBehaviour for Gate {
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
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.enter(peer, remote)?;
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
        self.enter(peer, remote)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

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
        (self.to_close).extend(cut_off.into_iter().filter_map(keys::to_libp2p));
        match self.to_close.pop() {
            // Whoever cuts off from outside this loop is followed at the next beat of the task.
            None => Poll::Pending,
            Some(peer_id) => Poll::Ready(ToSwarm::CloseConnection {
                peer_id,
                connection: CloseConnection::All,
            }),
        }
    }
}
