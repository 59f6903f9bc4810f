//! Greetings as the task says and hears them: where this peer is, and where others are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use libp2p::ping;
use libp2p::request_response::{self, Message};
use tributary_protocol::id::{PeerId, RunId};
use tributary_protocol::time::Instant;

use super::address::Address;
use super::admission::Fault;
use super::connections::Priority;
use super::frames::Request;
use super::hello::{
    Contact, Hello, HelloError, MAX_ADDRESSES, MAX_KNOWN, MAX_RELAYS, MAX_RUNS, RelayPlace, Socket,
};
use super::known::MAX_PEERS;
use super::limit::Kind;
use super::quic::Whereabouts;
use super::task::Task;
use super::{NetEvent, fair, keys};

/// Neighbours of different networks that must see this peer at the same address before it tells others of it: one
/// could make it send everybody astray.
const WITNESSES: usize = 2;

/// Relays of others whose keys are known: a quarter of the table.
const MAX_RELAYS_HEARD: usize = 256;

/// How often it is looked whether addresses and paths have changed.
const LOOK_MS: u64 = 1000;

/// Addresses that neighbours agree on: one per family, and those before a router that has just changed them.
const MAX_EXTERNAL: usize = 4;

/// Where this peer tells others that it is.
#[derive(Debug, Default)]
pub(super) struct OwnAddresses {
    control: Vec<Socket>,
    data: Vec<Socket>,
    relays: Vec<RelayPlace>,
    /// Where neighbours see it.
    seen: BTreeMap<PeerId, SocketAddr>,
    /// Addresses that enough of them agreed on.
    external: BTreeSet<SocketAddr>,
    /// When it is looked again.
    not_before: Instant,
}

impl OwnAddresses {
    fn on_seen(&mut self, by: PeerId, at: Option<Socket>) {
        match at {
            Some(socket) => self.seen.insert(by, socket.into()),
            None => self.seen.remove(&by),
        };
    }

    /// A neighbour that is gone sees nothing.
    pub(super) fn on_closed(&mut self, by: &PeerId) {
        self.seen.remove(by);
    }

    /// Addresses that enough neighbours agree on, given the network of each.
    fn confirmed(&self, network_of: impl Fn(&PeerId) -> Option<IpAddr>) -> Vec<SocketAddr> {
        let mut witnesses: BTreeMap<SocketAddr, BTreeSet<IpAddr>> = BTreeMap::new();
        for (by, at) in &self.seen {
            (witnesses.entry(*at).or_default()).extend(network_of(by));
        }
        let enough = witnesses
            .into_iter()
            .filter(|(_, by)| by.len() >= WITNESSES);
        enough.map(|(at, _)| at).collect()
    }
}

/// Those that others may use, the widest first, as many as a greeting has room for. Addresses of this machine alone
/// are told only where there is nothing else.
pub(super) fn best(sockets: BTreeSet<SocketAddr>) -> Vec<Socket> {
    let (alone, mut others): (Vec<_>, Vec<_>) = sockets
        .into_iter()
        .partition(|socket| socket.ip().is_loopback());
    others.sort_by_key(|socket| fair::is_private(socket.ip()));
    let best = if others.is_empty() { alone } else { others };
    best.into_iter()
        .map(Socket::from)
        .take(MAX_ADDRESSES)
        .collect()
}

impl Task {
    /// Whether this peer is elsewhere than it told; then it tells again.
    pub(super) fn look_at_own_addresses(&mut self) {
        let listens =
            (self.swarm.listeners()).filter_map(|address| Address(address.clone()).socket());
        let control = best(listens.collect());
        let data = best(self.quic.sockets());
        let relays = self.quic.relays().into_iter().take(MAX_RELAYS).collect();
        let own = &mut self.state.own;
        if (&own.control, &own.data, &own.relays) == (&control, &data, &relays) {
            return;
        }
        let is_first = own.control.is_empty() && own.data.is_empty();
        let moved = (&own.control, &own.data) != (&control, &data);
        (own.control, own.data, own.relays) = (control, data, relays);
        self.state.own_version += 1;
        if moved && !is_first {
            // Who could not be reached from the network before may be from this one.
            self.contacts.try_again();
        }
    }

    /// Tells iroh of addresses at which neighbours see this peer: it can be reached there where the router lets it.
    fn confirm_addresses(&mut self) {
        if !self.quic.reach().leaves_the_network() {
            return;
        }
        let network_of = |peer: &PeerId| self.shared.admission.address(*peer).map(fair::network);
        let confirmed = self.state.own.confirmed(network_of);
        let known = self.quic.sockets();
        let mut external = std::mem::take(&mut self.state.own.external);
        external.retain(|socket| {
            let stays = confirmed.contains(socket);
            if !stays {
                let (quic, gone) = (self.quic.clone(), *socket);
                tokio::spawn(async move { quic.endpoint().remove_external_addr(&gone).await });
            }
            stays
        });
        for socket in confirmed {
            if external.len() < MAX_EXTERNAL && !known.contains(&socket) && external.insert(socket)
            {
                tracing::info!("neighbours see this peer at {socket}");
                let quic = self.quic.clone();
                tokio::spawn(async move { quic.endpoint().add_external_addr(socket).await });
            }
        }
        self.state.own.external = external;
    }

    /// A neighbour that answers no ping is gone, whatever TCP still hopes for.
    pub(super) fn on_ping(&mut self, event: ping::Event) {
        match event.result {
            Ok(latency) => {
                if let Some(peer) = keys::from_libp2p(&event.peer) {
                    self.quic.paths().on_ping(peer, latency);
                }
            }
            Err(ping::Failure::Unsupported) => {}
            Err(why) => {
                tracing::debug!("a ping of {} failed: {why}", event.peer);
                self.swarm.close_connection(event.connection);
            }
        }
    }

    /// How each peer is reached, for those who ask, and where this one is.
    pub(super) fn look_at_paths(&mut self) {
        let now = self.now();
        if now < self.state.own.not_before {
            return;
        }
        self.state.own.not_before = now.after_ms(LOOK_MS);
        self.look_at_own_addresses();
        self.confirm_addresses();
        *self.shared.paths.lock() = self.quic.paths().look();
        *self.shared.nearby.lock() = self.contacts.nearby().clone();
        *self.shared.known.lock() = self.contacts.worth_remembering(MAX_PEERS);
    }

    fn greeting(&mut self, to: &PeerId) -> Vec<u8> {
        let mut known = self.contacts.worth_telling(to, MAX_KNOWN - 1);
        // What it said of itself, so that it hears of another process that speaks in its name.
        known.extend(self.contacts.contact(to).cloned());
        let me = Contact {
            peer: self.me,
            control: self.state.own.control.clone(),
            data: self.state.own.data.clone(),
            relays: self.state.own.relays.clone(),
            runs: self.state.runs.iter().copied().take(MAX_RUNS).collect(),
        };
        let seen = self.quic.paths().seen_at(to).map(Socket::from);
        Hello::new(self.network, seen, me, known).encode()
    }

    pub(super) fn greet(&mut self, peer: PeerId) {
        let Some(name) = keys::to_libp2p(peer) else {
            return;
        };
        self.state.told.insert(peer, self.version());
        let bytes = self.greeting(&peer);
        let hello = &mut self.swarm.behaviour_mut().hello;
        hello.send_request(&name, Request::Whole(bytes));
    }

    fn on_hello(&mut self, name: libp2p::PeerId, bytes: &[u8]) {
        let Some(peer) = keys::from_libp2p(&name) else {
            let _ = self.swarm.disconnect_peer_id(name);
            return;
        };
        let hello = match Hello::decode(bytes, self.network, peer) {
            Ok(hello) => hello,
            Err(why) => {
                match why {
                    // Two programs that do not fit each other; neither means harm.
                    HelloError::Version | HelloError::Network => {
                        if !self.on_unfit(peer, &why.to_string()) {
                            tracing::warn!("peer {} was disconnected: {why}", peer.short());
                        }
                        let _ = self.swarm.disconnect_peer_id(name);
                    }
                    HelloError::Codec(_) | HelloError::Sender | HelloError::Limit => {
                        tracing::warn!("peer {}: {why}", peer.short());
                        self.shared.admission.cut_off(peer, Fault::Greeting);
                    }
                }
                return;
            }
        };
        self.state.own.on_seen(peer, hello.seen);
        self.on_introduced(hello.me);
        for contact in hello.known {
            match contact.peer == self.me {
                true => self.on_own_name(&contact),
                false => self.contacts.hear(peer, contact),
            }
        }
        self.share_addresses();
        if self.swarm.is_connected(&name) && self.state.greeted.insert(peer) {
            self.contacts.greeted(peer);
            self.on_reached(peer);
            self.shared.admission.raise(peer, Priority::Greeted);
            self.report(NetEvent::Connected(peer));
            self.publish_connected();
        }
    }

    /// The keys of relays that others name, so that they can be reached through them; where this peer looks for others
    /// anywhere, relays of its fellow members carry its own packets as well.
    fn learn_relays(&self) {
        let named = self.contacts.relays(MAX_RELAYS_HEARD);
        self.quic
            .know_relays(named.iter().map(|(_, relay)| *relay).collect());
        if !self.quic.reach().leaves_the_network() {
            return;
        }
        for (peer, relay) in named {
            if self.shared.admission.is_member(peer) {
                self.quic.adopt_relay(relay);
            }
        }
    }

    /// QUIC and the status page read these.
    pub(super) fn share_addresses(&mut self) {
        if self.state.shared_revision == self.contacts.revision() {
            return;
        }
        self.state.shared_revision = self.contacts.revision();
        self.learn_relays();
        let table = self.contacts.contacts();
        let table = table.map(|contact| (contact.peer, Whereabouts::of(contact)));
        self.quic.know(table.collect());
        let mut runs: BTreeMap<RunId, Vec<PeerId>> = BTreeMap::new();
        for contact in self.contacts.contacts() {
            for run in &contact.runs {
                runs.entry(*run).or_default().push(contact.peer);
            }
        }
        self.shared.known_runs.send_if_modified(|known| {
            let is_news = *known != runs;
            if is_news {
                *known = runs;
            }
            is_news
        });
    }

    pub(super) fn on_greeting(&mut self, event: request_response::Event<Request, Vec<u8>>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request {
                    request, channel, ..
                } => {
                    let Some(from) = keys::from_libp2p(&peer) else {
                        return;
                    };
                    let Some(bytes) = self.whole(from, request) else {
                        return;
                    };
                    if !self.admit_greeting(from, bytes.len()) {
                        return;
                    }
                    self.on_hello(peer, &bytes);
                    self.state.told.insert(from, self.version());
                    let answer = self.greeting(&from);
                    let _ = self
                        .swarm
                        .behaviour_mut()
                        .hello
                        .send_response(channel, answer);
                }
                Message::Response { response, .. } => {
                    if let Some(from) = keys::from_libp2p(&peer) {
                        self.shared.admission.expect(from, response.len());
                    }
                    self.on_hello(peer, &response);
                }
            },
            request_response::Event::OutboundFailure { peer, .. } => {
                // Greeted again at the next beat, if still there.
                if let Some(peer) = keys::from_libp2p(&peer) {
                    self.state.told.remove(&peer);
                }
            }
            _ => {}
        }
    }

    fn admit_greeting(&self, peer: PeerId, bytes: usize) -> bool {
        self.shared.meter.message_down(peer, bytes);
        self.shared.admission.hear(peer, Kind::Greeting, bytes)
    }
}

#[cfg(test)]
mod tests {
    use tributary_protocol::hash;

    use super::*;

    fn socket(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn peer(n: u8) -> PeerId {
        PeerId(hash::blob(&[n]))
    }

    #[test]
    fn an_address_takes_witnesses_of_two_networks() {
        let mut own = OwnAddresses::default();
        let at = socket("203.0.113.9:4001");
        let network_of = |by: &PeerId| {
            let network = if *by == peer(3) {
                [198, 51, 100, 0]
            } else {
                [192, 0, 2, 0]
            };
            Some(IpAddr::from(network))
        };
        own.on_seen(peer(1), Some(at.into()));
        own.on_seen(peer(2), Some(at.into()));
        assert_eq!(own.confirmed(network_of), [], "one network may lie");
        own.on_seen(peer(3), Some(at.into()));
        assert_eq!(own.confirmed(network_of), [at]);
        own.on_seen(peer(3), Some(socket("203.0.113.9:4002").into()));
        assert_eq!(
            own.confirmed(network_of),
            [],
            "a router that gives each another port"
        );
        own.on_seen(peer(3), Some(at.into()));
        own.on_closed(&peer(3));
        assert_eq!(own.confirmed(network_of), []);
    }

    #[test]
    fn the_widest_addresses_are_told_first_and_loopback_only_alone() {
        let sockets = |texts: &[&str]| texts.iter().map(|text| socket(text)).collect();
        let told = |texts: &[&str]| -> Vec<SocketAddr> {
            best(sockets(texts))
                .into_iter()
                .map(SocketAddr::from)
                .collect()
        };
        assert_eq!(
            told(&["127.0.0.1:1", "192.168.1.2:1", "203.0.113.9:1"]),
            [socket("203.0.113.9:1"), socket("192.168.1.2:1")]
        );
        assert_eq!(told(&["127.0.0.1:1"]), [socket("127.0.0.1:1")]);
        let many: Vec<String> = (0..20).map(|n| format!("192.168.1.{n}:1")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(told(&many).len(), MAX_ADDRESSES);
    }
}
