//! Counts every gossip message by the neighbour that brought it, copies of known ones too.
//!
//! gossipsub checks a signature for each, and says nothing of those that it already knew: a neighbour
//! could keep this machine busy for ever with one message. Its transform sees every message that was
//! checked, but not who brought it; the behaviour around it sees who, but not what. Together they know.

use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::gossipsub::{self, DataTransform, MaxCountSubscriptionFilter, RawMessage, TopicHash};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use parking_lot::Mutex;

use super::OnlyRuns;
use crate::net::admission::Admission;
use crate::net::keys;
use crate::net::limit::Kind;

type Inner = gossipsub::Behaviour<Transform, MaxCountSubscriptionFilter<OnlyRuns>>;

/// Sees the messages of whoever is written down as speaking.
pub(in crate::net) struct Transform {
    admission: Admission,
    speaking: Arc<Mutex<Option<PeerId>>>,
}

impl DataTransform for Transform {
    fn inbound_transform(&self, raw: RawMessage) -> Result<gossipsub::Message, std::io::Error> {
        let speaking = *self.speaking.lock();
        if let Some(peer) = speaking.and_then(|peer| keys::from_libp2p(&peer)) {
            // Nothing is refused here: gossipsub would hold it against the message, not the flood.
            self.admission.hear(peer, Kind::Copy, raw.data.len());
        }
        Ok(gossipsub::Message {
            source: raw.source,
            data: raw.data,
            sequence_number: raw.sequence_number,
            topic: raw.topic,
        })
    }

    fn outbound_transform(&self, _: &TopicHash, data: Vec<u8>) -> Result<Vec<u8>, std::io::Error> {
        Ok(data)
    }
}

/// gossipsub, and who is speaking.
pub(in crate::net) struct Gossip {
    inner: Inner,
    speaking: Arc<Mutex<Option<PeerId>>>,
}

impl Gossip {
    /// `build` makes the behaviour around the transform.
    pub(super) fn new(
        admission: Admission,
        build: impl FnOnce(Transform) -> Result<Inner, String>,
    ) -> Result<Self, String> {
        let speaking = Arc::default();
        let transform = Transform {
            admission,
            speaking: Arc::clone(&speaking),
        };
        Ok(Self {
            inner: build(transform)?,
            speaking,
        })
    }
}

impl std::ops::Deref for Gossip {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl std::ops::DerefMut for Gossip {
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }
}

impl NetworkBehaviour for Gossip {
    type ConnectionHandler = <Inner as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = <Inner as NetworkBehaviour>::ToSwarm;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        (self.inner).handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        (self.inner).handle_established_outbound_connection(id, peer, remote, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        let write = |who| *self.speaking.lock() = who;
        write(Some(peer));
        self.inner.on_connection_handler_event(peer, id, event);
        write(None);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}
