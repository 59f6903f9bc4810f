//! The control plane's task: owns the swarm, obeys commands, reports what arrives.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::time::Duration;

use futures::StreamExt;
use libp2p::gossipsub::{self, MessageAcceptance, MessageId};
use libp2p::request_response::{self, Message};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, Swarm};
use tokio::sync::{mpsc, oneshot};
use tributary_protocol::event::{GossipId, Verdict};
use tributary_protocol::id::{NetworkId, PeerId, RunId};
use tributary_protocol::time::Instant;

use super::address::{Address, socket_multiaddr};
use super::admission::Fault;
use super::bootstrap::Bootstrap;
use super::connections::Priority;
use super::contacts::{Contacts, Target};
use super::frames::Request;
use super::greeting::OwnAddresses;
use super::hello::Contact;
use super::limit::Kind;
use super::questions::{Questions, Unanswered};
use super::quic::Quic;
use super::swarm::{Behaviour, BehaviourEvent};
use super::{Counts, NetEvent, Shared, gossip, keys, transport};

/// How often dials and news are looked after.
const BEAT: Duration = Duration::from_millis(250);
/// Neighbours that are told of news at one beat: strangers that come and go make news all the time, and
/// a full mesh of a small run is told within two beats.
const MAX_TOLD: usize = 32;
/// Addresses of a peer are tried in order: the first that answers is the best.
const ONE_BY_ONE: NonZeroU8 = NonZeroU8::MIN;
/// Gossip messages that wait for the node's verdict; the oldest is let go beyond it.
const MAX_UNJUDGED: usize = 4096;

/// What the daemon wants from the control plane.
#[derive(Debug)]
pub(super) enum Order {
    Gossip(RunId, Vec<u8>),
    Send(PeerId, Vec<u8>),
    Verdict(GossipId, Verdict),
    Subscribe(RunId),
    Dial(Address),
    /// Peers that the owner's ticket names.
    Introduce(Vec<Contact>),
    /// A peer of the local network.
    Nearby(Contact),
    NotNearby(PeerId),
    Ask(
        PeerId,
        Vec<u8>,
        oneshot::Sender<Result<Vec<u8>, Unanswered>>,
    ),
    Stop(oneshot::Sender<()>),
}

/// The task that owns the swarm of the control plane.
pub(super) struct Task {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) events: mpsc::UnboundedSender<NetEvent>,
    pub(super) shared: Shared,
    pub(super) network: NetworkId,
    pub(super) me: PeerId,
    pub(super) quic: Quic,
    pub(super) contacts: Contacts,
    pub(super) bootstrap: Bootstrap,
    pub(super) started: tokio::time::Instant,
    pub(super) questions: Questions,
    pub(super) state: State,
}

/// What changes while the task runs.
#[derive(Default)]
pub(super) struct State {
    pub(super) runs: BTreeSet<RunId>,
    dials: BTreeMap<ConnectionId, Target>,
    pub(super) greeted: BTreeSet<PeerId>,
    /// The book's version that each neighbour was last told.
    pub(super) told: BTreeMap<PeerId, u64>,
    unjudged: BTreeMap<GossipId, (MessageId, libp2p::PeerId)>,
    next_gossip: GossipId,
    /// Published before any neighbour followed the run; said again once one does.
    unheard: VecDeque<(RunId, Vec<u8>)>,
    pub(super) own_version: u64,
    /// The book's revision that the data plane and the status page read.
    pub(super) shared_revision: u64,
    pub(super) own: OwnAddresses,
}

/// Why a peer may close a connection at once.
const UNGREETED: &str = "the peer there closed the connection before it greeted: it is of another version or network, or \
                         it has no place left";
/// Messages kept for the first neighbour that follows a run.
const MAX_UNHEARD: usize = 64;

impl Task {
    /// Runs until told to stop, or until the daemon is gone.
    pub(super) async fn run(mut self) {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.tell_unreached();
        self.look_at_own_addresses();
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                order = self.orders.recv() => match order {
                    None => return,
                    Some(Order::Stop(done)) => {
                        let _ = done.send(());
                        return;
                    }
                    Some(order) => self.obey(order),
                },
                (channel, answer) = self.questions.ready() => self.reply(channel, answer),
                _ = beat.tick() => self.on_beat(),
            }
        }
    }

    pub(super) fn now(&self) -> Instant {
        Instant(self.started.elapsed().as_millis() as u64)
    }

    pub(super) fn report(&self, event: NetEvent) {
        // A daemon that is gone closes the orders as well, which ends the task.
        let _ = self.events.send(event);
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Gossip(run, bytes) => self.publish(run, bytes),
            Order::Send(to, bytes) => {
                if let Some(peer) = keys::to_libp2p(to)
                    && self.swarm.is_connected(&peer)
                {
                    self.shared.meter.message_up(to, bytes.len());
                    let direct = &mut self.swarm.behaviour_mut().direct;
                    direct.send_request(&peer, Request::Whole(bytes));
                    self.shared.admission.expect(to, 0);
                }
            }
            Order::Verdict(id, verdict) => self.judge(id, verdict),
            Order::Subscribe(run) => self.subscribe(run),
            Order::Dial(address) => {
                let news = self.bootstrap.keep(self.me, &address);
                self.tell(news.as_slice());
                self.contacts.keep(address);
                self.on_beat();
            }
            Order::Introduce(contacts) => {
                for contact in contacts {
                    let address = Address::of_peer(contact.peer);
                    let news = self.bootstrap.keep(self.me, &address);
                    self.tell(news.as_slice());
                    self.contacts.keep(address);
                    self.contacts.remember(contact);
                }
                self.on_beat();
            }
            Order::Nearby(contact) => self.contacts.on_nearby(contact),
            Order::NotNearby(peer) => self.contacts.on_not_nearby(&peer),
            Order::Ask(to, question, reply) => self.ask(to, question, reply),
            Order::Stop(_) => {}
        }
    }

    fn publish(&mut self, run: RunId, bytes: Vec<u8>) {
        let topic = gossip::topic(self.network, run);
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        match gossip.publish(topic, bytes.clone()) {
            Ok(_) | Err(gossipsub::PublishError::Duplicate) => {}
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => {
                self.state.unheard.push_back((run, bytes));
                if self.state.unheard.len() > MAX_UNHEARD {
                    self.state.unheard.pop_front();
                }
            }
            Err(why) => tracing::debug!("a gossip message was not published: {why}"),
        }
    }

    fn subscribe(&mut self, run: RunId) {
        if self.state.runs.len() >= gossip::MAX_TOPICS || !self.state.runs.insert(run) {
            return;
        }
        let topic = gossip::topic(self.network, run);
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        if let Err(why) = gossip.set_topic_params(topic.clone(), gossip::topic_scores()) {
            tracing::error!("scores of a topic were refused: {why}");
        }
        if let Err(why) = gossip.subscribe(&topic) {
            tracing::error!("could not follow the topic of run {}: {why}", run.short());
        }
        self.state.own_version += 1;
    }

    fn judge(&mut self, id: GossipId, verdict: Verdict) {
        let Some((message, source)) = self.state.unjudged.remove(&id) else {
            return;
        };
        if verdict == Verdict::Accept
            && let Some(peer) = keys::from_libp2p(&source)
        {
            self.shared.admission.raise(peer, Priority::Useful);
        }
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Reject => MessageAcceptance::Reject,
            Verdict::Ignore => MessageAcceptance::Ignore,
        };
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.report_message_validation_result(&message, &source, acceptance);
    }

    fn on_beat(&mut self) {
        let now = self.now();
        self.share_addresses();
        for (target, sockets) in self.contacts.due(&self.state.runs, now) {
            self.dial(target, sockets);
        }
        self.look_elsewhere();
        self.look_at_paths();
        self.shared.admission.audit();
        self.cut_off_the_worthless();
        let version = self.version();
        let mut behind: Vec<PeerId> = (self.swarm.connected_peers())
            .filter_map(keys::from_libp2p)
            .filter(|peer| self.state.told.get(peer) != Some(&version))
            .collect();
        // Whoever is worth most first, then whoever was told longest ago.
        behind.sort_by_cached_key(|peer| {
            let priority = self.shared.admission.priority(*peer);
            (Reverse(priority), self.state.told.get(peer).copied())
        });
        behind.truncate(MAX_TOLD);
        for peer in behind {
            self.greet(peer);
        }
    }

    /// gossipsub stops to heed a neighbour of a low score, but goes on to read and check what it sends.
    fn cut_off_the_worthless(&mut self) {
        let gossip = &self.swarm.behaviour().gossip;
        for name in self.swarm.connected_peers() {
            let score = gossip.peer_score(name);
            if score.is_some_and(|score| score < gossip::WORTHLESS)
                && let Some(peer) = keys::from_libp2p(name)
            {
                self.shared.admission.cut_off(peer, Fault::Gossip);
            }
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.contacts.version() + self.state.own_version
    }

    pub(super) fn dial(&mut self, target: Target, sockets: Vec<SocketAddr>) {
        let mut addresses: Vec<Multiaddr> = sockets.into_iter().map(socket_multiaddr).collect();
        let options = match &target {
            Target::Peer(peer) => {
                let Some(name) = keys::to_libp2p(*peer) else {
                    return;
                };
                // QUIC first: it survives a change of networks, and crosses routers. TCP where UDP is blocked.
                let is_known = self.quic.address_of(*peer).is_some();
                if self.quic.reach().crosses_routers() && is_known {
                    addresses.splice(0..0, transport::address(*peer));
                }
                // Beside a dial that goes on: a contact is due again early only when more of its places are known, and
                // the first, often of its own network alone, may take until the end of the handshake's time.
                DialOpts::peer_id(name)
                    .condition(PeerCondition::Disconnected)
                    .addresses(addresses)
                    .override_dial_concurrency_factor(ONE_BY_ONE)
                    .build()
            }
            Target::Socket(_) => {
                let Some(address) = addresses.into_iter().next() else {
                    return;
                };
                DialOpts::unknown_peer_id().address(address).build()
            }
        };
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.state.dials.insert(connection, target);
            }
            Err(why) => self.on_unreached(target, &why),
        }
    }

    pub(super) fn publish_connected(&self) {
        *self.shared.connected.lock() = self.state.greeted.iter().copied().collect();
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => self.on_gossip(event),
            SwarmEvent::Behaviour(BehaviourEvent::Direct(event)) => self.on_direct(event),
            SwarmEvent::Behaviour(BehaviourEvent::Hello(event)) => self.on_greeting(event),
            SwarmEvent::Behaviour(BehaviourEvent::Evidence(event)) => self.on_evidence(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => self.on_ping(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                let dialed = self.state.dials.remove(&connection_id).is_some();
                let socket = Address(endpoint.get_remote_address().clone()).socket();
                self.on_established(peer_id, socket, endpoint.is_dialer(), dialed);
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                num_established: 0,
                ..
            } => self.on_closed(&peer_id),
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => {
                if let Some(target) = self.state.dials.remove(&connection_id) {
                    self.on_unreached(target, &error);
                }
            }
            SwarmEvent::NewListenAddr { .. } | SwarmEvent::ExpiredListenAddr { .. } => {
                self.look_at_own_addresses();
                let listeners = self.swarm.listeners().cloned();
                *self.shared.listeners.lock() = listeners.map(Address).collect();
            }
            _ => {}
        }
    }

    fn on_established(
        &mut self,
        name: libp2p::PeerId,
        at: Option<SocketAddr>,
        opened: bool,
        dialed: bool,
    ) {
        let Some(peer) = keys::from_libp2p(&name).filter(|peer| *peer != self.me) else {
            let _ = self.swarm.disconnect_peer_id(name);
            return;
        };
        if let Some(socket) = at {
            self.quic.paths().on_tcp(peer, socket);
        }
        let at = at.or_else(|| self.quic.paths().seen_at(&peer));
        self.contacts.on_connected(peer, at, opened);
        if dialed && !self.state.told.contains_key(&peer) {
            self.greet(peer);
        }
    }

    fn on_closed(&mut self, name: &libp2p::PeerId) {
        let Some(peer) = keys::from_libp2p(name) else {
            return;
        };
        let now = self.now();
        self.contacts.on_disconnected(peer, now);
        self.quic.paths().on_closed(&peer);
        self.state.own.on_closed(&peer);
        self.state.told.remove(&peer);
        if self.state.greeted.remove(&peer) {
            self.shared.saw(peer);
            self.report(NetEvent::Disconnected(peer));
            self.publish_connected();
        } else {
            self.on_unfit(peer, UNGREETED);
        }
    }

    /// Whether a neighbour's message may be heard: within its allowance, and within what the node
    /// has not yet looked at.
    fn admit(&mut self, peer: PeerId, bytes: usize) -> bool {
        self.shared.meter.message_down(peer, bytes);
        let fits = self.shared.admission.hear(peer, Kind::Message, bytes);
        let heard = fits && self.shared.counts.room();
        if !heard {
            Counts::add(&self.shared.counts.dropped);
        }
        heard
    }

    fn on_direct(&mut self, event: request_response::Event<Request, Vec<u8>>) {
        let request_response::Event::Message { peer, message, .. } = event else {
            return;
        };
        if let Message::Request {
            request, channel, ..
        } = message
        {
            // The answer only says that the bytes arrived; a full channel is the sender's affair.
            let direct = &mut self.swarm.behaviour_mut().direct;
            let _ = direct.send_response(channel, Vec::new());
            let Some(from) = keys::from_libp2p(&peer) else {
                return;
            };
            let Some(bytes) = self.whole(from, request) else {
                return;
            };
            if self.admit(from, bytes.len()) {
                self.shared.counts.entered(bytes.len());
                self.report(NetEvent::Direct { from, bytes });
            }
        }
    }

    /// The bytes of a request; a frame that is too long is its sender's fault.
    pub(super) fn whole(&self, from: PeerId, request: Request) -> Option<Vec<u8>> {
        match request {
            Request::Whole(bytes) => Some(bytes),
            Request::TooLong(_) => {
                self.shared.admission.blame(from, Fault::Oversize);
                None
            }
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            } => {
                let source = keys::from_libp2p(&propagation_source);
                let run = gossip::run_of(self.network, &message.topic);
                let too_long = message.data.len() > tributary_protocol::limits::MAX_GOSSIP_BYTES;
                let (Some(from), Some(_), false) = (source, run, too_long) else {
                    let gossip = &mut self.swarm.behaviour_mut().gossip;
                    let bad = MessageAcceptance::Reject;
                    gossip.report_message_validation_result(&message_id, &propagation_source, bad);
                    return;
                };
                if !self.admit(from, message.data.len()) {
                    let gossip = &mut self.swarm.behaviour_mut().gossip;
                    let late = MessageAcceptance::Ignore;
                    gossip.report_message_validation_result(&message_id, &propagation_source, late);
                    return;
                }
                let id = self.await_verdict(message_id, propagation_source);
                self.shared.counts.entered(message.data.len());
                self.report(NetEvent::Gossip {
                    from,
                    id,
                    bytes: message.data,
                });
            }
            gossipsub::Event::Subscribed { topic, .. } => {
                if let Some(run) = gossip::run_of(self.network, &topic) {
                    self.say_again(run);
                }
            }
            _ => {}
        }
    }

    fn await_verdict(&mut self, message: MessageId, source: libp2p::PeerId) -> GossipId {
        let id = self.state.next_gossip;
        self.state.next_gossip += 1;
        self.state.unjudged.insert(id, (message, source));
        if self.state.unjudged.len() > MAX_UNJUDGED
            && let Some(oldest) = self.state.unjudged.keys().next().copied()
        {
            self.judge(oldest, Verdict::Ignore);
        }
        id
    }

    fn say_again(&mut self, run: RunId) {
        let held = std::mem::take(&mut self.state.unheard);
        let (again, keep): (VecDeque<_>, VecDeque<_>) =
            held.into_iter().partition(|(r, _)| *r == run);
        self.state.unheard = keep;
        for (run, bytes) in again {
            self.publish(run, bytes);
        }
    }
}
