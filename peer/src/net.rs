//! The two network stacks behind one face: libp2p for control, iroh for blobs.
//!
//! ```text
//!   driver ──orders──▶ task (swarm: hello, direct, gossip) ──events──▶ driver
//!      │                 │ whereabouts from hello   │ streams
//!      └──fetch, offer──▶ data (cache, blob folder) ─┴─▶ quic (iroh endpoint, relays)
//! ```
//!
//! Types of libp2p and iroh stay behind this file. Nothing here looks at the content of a message; the
//! node judges it.

mod address;
mod admission;
mod base;
mod bootstrap;
mod connections;
mod contacts;
mod control_admission;
mod data;
mod fair;
mod frames;
#[cfg(test)]
mod fuzz;
mod gate;
mod gossip;
mod greeting;
mod handshakes;
mod hello;
pub(crate) mod keys;
mod known;
mod limit;
mod nearby;
mod paths;
mod questions;
mod quic;
mod reach;
mod relay;
mod remote;
mod swarm;
mod task;
#[cfg(test)]
mod tests;
mod traffic;
mod transport;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use iroh::protocol::Router;
use libp2p::Swarm;
use libp2p::swarm::SwarmEvent;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tributary_protocol::event::{GossipId, Verdict};
use tributary_protocol::id::{Blob, BlobHash, BlobRef, NetworkId, PeerId, RunId};

use crate::health::Warning;
use crate::identity::Identity;
use crate::store::Blobs;
use crate::ticket::InvitationId;
use control_admission::UnknownSockets;
use data::DataAdmission;
use gate::MemberGate;
use handshakes::Places;
use hello::Contact;
use quic::{Quic, QuicConfig};
use task::{Order, State, Task};

pub use address::{Address, AddressError};
pub(crate) use base::{PieceError, Shelved};
pub use data::FetchError;
pub(crate) use fair::is_private;
pub(crate) use gate::ListedGate;
pub use known::{Known, KnownPeer, KnownRelay};
pub use paths::{PathKind, PeerPath};
pub(crate) use questions::{Asked, MAX_WAITING as MAX_WAITING_QUESTIONS, Unanswered};
pub use quic::{ReachReport, RelayState, Serving};
pub use reach::Reach;
pub(crate) use relay::{RelayConfig, RelayServer};
pub use traffic::Traffic;

/// Messages that may wait for the node. Beyond it new ones are dropped: direct messages may be lost,
/// and gossip is compared by heads later.
const MAX_WAITING: u64 = 4096;
/// Bytes of them.
const MAX_WAITING_BYTES: u64 = 32 << 20;
/// Peers whose last meeting is remembered: the largest run and as many strangers again.
const MAX_SEEN: usize = 4096;
/// How long the system may take to give us the port.
const LISTEN: Duration = Duration::from_secs(5);

/// What arrives from others.
#[derive(Debug)]
pub(crate) enum NetEvent {
    /// A peer of this network is there, its greeting checked.
    Connected(PeerId),
    /// Its last connection is gone.
    Disconnected(PeerId),
    /// A message for us alone.
    Direct { from: PeerId, bytes: Vec<u8> },
    /// A flooded message that awaits a verdict.
    Gossip {
        from: PeerId,
        id: GossipId,
        bytes: Vec<u8>,
    },
}

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetError {
    #[error("{0} is in use by another program")]
    PortInUse(SocketAddr),
    #[error("could not listen on {0}: {1}")]
    Listen(SocketAddr, String),
    #[error("could not open the data plane on UDP {0}: {1}")]
    Data(SocketAddr, String),
    #[error("could not serve a relay on {0}: {1}")]
    Relay(SocketAddr, String),
}

/// Counters of the control plane.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Dropped because of a rate limit or a full queue.
    pub(crate) dropped: AtomicU64,
    waiting: AtomicU64,
    waiting_bytes: AtomicU64,
}

impl Counts {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
    fn room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < MAX_WAITING
            && self.waiting_bytes.load(Ordering::Relaxed) < MAX_WAITING_BYTES
    }
    fn entered(&self, bytes: usize) {
        Self::add(&self.waiting);
        (self.waiting_bytes).fetch_add(bytes as u64, Ordering::Relaxed);
    }
    fn left(&self, bytes: usize) {
        let take = |counter: &AtomicU64, amount: u64| {
            let less = |held: u64| Some(held.saturating_sub(amount));
            let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        };
        take(&self.waiting, 1);
        take(&self.waiting_bytes, bytes as u64);
    }
}

/// What the task and its readers share.
#[derive(Clone, Default)]
struct Shared {
    meter: traffic::Meter,
    counts: Arc<Counts>,
    admission: admission::Admission,
    known_runs: watch::Sender<BTreeMap<RunId, Vec<PeerId>>>,
    connected: Arc<Mutex<Vec<PeerId>>>,
    listeners: Arc<Mutex<Vec<Address>>>,
    unreached: Arc<Mutex<Vec<Warning>>>,
    paths: Arc<Mutex<BTreeMap<PeerId, PeerPath>>>,
    /// When each peer was last there.
    seen: Arc<Mutex<BTreeMap<PeerId, Instant>>>,
    /// Peers of the local network.
    nearby: Arc<Mutex<BTreeSet<PeerId>>>,
    /// Invitations that the owner took back.
    revoked: Arc<Mutex<BTreeSet<InvitationId>>>,
    /// Peers worth remembering, the best first.
    known: Arc<Mutex<Vec<Contact>>>,
}

impl Shared {
    /// A peer has gone.
    fn saw(&self, peer: PeerId) {
        let mut seen = self.seen.lock();
        seen.insert(peer, Instant::now());
        if seen.len() > MAX_SEEN
            && let Some(oldest) = seen
                .iter()
                .min_by_key(|(_, at)| **at)
                .map(|(peer, _)| *peer)
        {
            seen.remove(&oldest);
        }
    }
}

/// What the network is made of.
pub(crate) struct NetConfig<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) network: NetworkId,
    /// TCP for control, and UDP for both planes.
    pub(crate) listen: SocketAddr,
    pub(crate) reach: Reach,
    pub(crate) bootstrap: Vec<Address>,
    /// What an earlier start knew.
    pub(crate) known: Known,
    /// Serves a relay: where it listens, and where others reach it.
    pub(crate) relay: Option<Relaying>,
    pub(crate) blobs: Blobs,
    /// Where questions about shards go; nowhere, and none is answered.
    pub(crate) holder: Option<mpsc::Sender<Asked>>,
}

/// A relay that a daemon serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relaying {
    /// The address that others reach it at.
    pub at: SocketAddr,
    /// The address that it listens on.
    pub listen: SocketAddr,
}

/// Gives orders and reads figures. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Net {
    me: PeerId,
    orders: mpsc::UnboundedSender<Order>,
    shared: Shared,
    data: data::DataPlane,
    bases: (base::BaseProtocol, base::BaseClient),
    quic: Quic,
    router: Router,
    relay: Arc<tokio::sync::Mutex<Option<RelayServer>>>,
}

/// What arrives, in order.
pub(crate) struct NetEvents {
    events: mpsc::UnboundedReceiver<NetEvent>,
    counts: Arc<Counts>,
}

impl NetEvents {
    /// The next event; `None` when the network has stopped. May be cancelled without loss.
    pub(crate) async fn next(&mut self) -> Option<NetEvent> {
        let event = self.events.recv().await?;
        if let NetEvent::Direct { bytes, .. } | NetEvent::Gossip { bytes, .. } = &event {
            self.counts.left(bytes.len());
        }
        Some(event)
    }
}

/// Binds both planes and starts them.
pub(crate) async fn start(config: NetConfig<'_>) -> Result<(Net, NetEvents), NetError> {
    let seed = config.identity.seed();
    let me = config.identity.peer_id();
    let shared = Shared::default();
    let quic = Quic::bind(QuicConfig {
        seed,
        listen: config.listen,
        reach: config.reach,
        serves: config.relay.map(|relay| relay.at),
    })
    .await
    .map_err(|why| NetError::Data(config.listen, why))?;
    let planes = planes(&config, &shared, &quic).await?;
    let bootstrap = bootstrap::Bootstrap::new(me, &config.bootstrap);
    let mut contacts = contacts::Contacts::new(me, config.bootstrap.clone(), fair::dice());
    let remembered = config.known.peers.iter().map(Contact::from);
    remembered.for_each(|contact| contacts.remember(contact));
    let relay = serve_relay(&config, &shared).await?;
    for relay in &config.known.relays {
        quic.use_relay(relay).await;
    }
    let (orders, inbox) = mpsc::unbounded_channel();
    let (outbox, events) = mpsc::unbounded_channel();
    let task = Task {
        swarm: planes.swarm,
        orders: inbox,
        events: outbox,
        shared: shared.clone(),
        network: config.network,
        me,
        quic: quic.clone(),
        bootstrap,
        contacts,
        started: tokio::time::Instant::now(),
        questions: questions::Questions::new(config.holder),
        state: State::default(),
    };
    tokio::spawn(task.run());
    if config.reach.crosses_routers()
        && let Err(why) = nearby::start(&quic, config.network, orders.clone()).await
    {
        tracing::warn!("peers of the local network are not found by themselves: {why}");
    }
    let counts = shared.counts.clone();
    let net = Net {
        me,
        orders,
        shared,
        data: planes.data,
        bases: planes.bases,
        quic,
        router: planes.router,
        relay: Arc::new(tokio::sync::Mutex::new(relay)),
    };
    Ok((net, NetEvents { events, counts }))
}

/// The control plane's swarm, which listens, the data plane, the bases; and what serves all of them over QUIC.
struct Planes {
    swarm: Swarm<swarm::Behaviour>,
    data: data::DataPlane,
    bases: (base::BaseProtocol, base::BaseClient),
    router: Router,
}

/// Makes all of them.
async fn planes(config: &NetConfig<'_>, shared: &Shared, quic: &Quic) -> Result<Planes, NetError> {
    let me = config.identity.peer_id();
    let handshakes = Places::new(UnknownSockets::default());
    let admission = shared.admission.clone();
    let (transport, control) =
        transport::new(me, quic.clone(), admission.clone(), handshakes.clone());
    let crosses_routers = config.reach.crosses_routers();
    let refused = |why: String| NetError::Listen(config.listen, why);
    let mut swarm = swarm::build(
        &keys::libp2p_keypair(config.identity.seed()),
        config.network,
        shared.meter.clone(),
        &shared.admission,
        (crosses_routers.then_some(transport), quic.paths().clone()),
    )
    .map_err(refused)?;
    *shared.listeners.lock() = listen(&mut swarm, config.listen).await?;
    let (store, meter) = (config.blobs.clone(), shared.meter.clone());
    let bases = base::new(quic, shared.known_runs.subscribe(), &admission, &meter);
    let base = DataAdmission::new(bases.0.clone(), admission.clone(), handshakes.clone());
    let (data, blobs) = data::DataPlane::new(quic.clone(), store, meter, admission, handshakes);
    let filter = shared.admission.clone();
    let mut router = Router::builder(quic.endpoint().clone())
        .incoming_filter(Arc::new(move |incoming| data::let_in(&filter, incoming)))
        .accept(iroh_blobs::ALPN, blobs)
        .accept(base::ALPN, base);
    if crosses_routers {
        router = router.accept(transport::ALPN, control);
        let own = transport::address(me).ok_or_else(|| refused("its key is no point".into()))?;
        let listens = swarm.listen_on(own);
        listens.map_err(|e| refused(e.to_string()))?;
    }
    Ok(Planes {
        swarm,
        data,
        bases,
        router: router.spawn(),
    })
}

/// The relay of a daemon that serves one.
async fn serve_relay(
    config: &NetConfig<'_>,
    shared: &Shared,
) -> Result<Option<RelayServer>, NetError> {
    let Some(relay) = config.relay else {
        return Ok(None);
    };
    let gate = MemberGate {
        me: config.identity.peer_id(),
        network: config.network,
        admission: shared.admission.clone(),
        revoked: shared.revoked.clone(),
    };
    let started = RelayServer::start(RelayConfig {
        seed: *config.identity.seed(),
        listen: relay.listen,
        access: Arc::new(gate),
    });
    let started = started.await;
    started
        .map(Some)
        .map_err(|why| NetError::Relay(relay.listen, why.to_string()))
}

/// Waits until the port is ours, so that a port in use is an error of the start.
async fn listen(
    swarm: &mut Swarm<swarm::Behaviour>,
    socket: SocketAddr,
) -> Result<Vec<Address>, NetError> {
    // libp2p shares ports (SO_REUSEPORT): a second daemon of the same user would take half of the
    // first one's connections without a word. A plain bind notices.
    if let Err(e) = std::net::TcpListener::bind(socket) {
        return Err(match e.kind() {
            io::ErrorKind::AddrInUse => NetError::PortInUse(socket),
            _ => NetError::Listen(socket, e.to_string()),
        });
    }
    swarm
        .listen_on(address::socket_multiaddr(socket))
        .map_err(|e| NetError::Listen(socket, e.to_string()))?;
    let wait = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { address, .. } => return Ok(vec![Address(address)]),
                SwarmEvent::ListenerClosed { reason: Err(e), .. } => {
                    return Err(NetError::Listen(socket, e.to_string()));
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(LISTEN, wait)
        .await
        .unwrap_or_else(|_| Err(NetError::Listen(socket, "the system gave no answer".into())))
}

impl Net {
    pub(crate) fn me(&self) -> PeerId {
        self.me
    }

    fn order(&self, order: Order) {
        // A task that is gone ends the event stream, which the driver notices.
        let _ = self.orders.send(order);
    }

    pub(crate) fn gossip(&self, run: RunId, bytes: Vec<u8>) {
        self.order(Order::Gossip(run, bytes));
    }
    pub(crate) fn send(&self, to: PeerId, bytes: Vec<u8>) {
        self.order(Order::Send(to, bytes));
    }
    pub(crate) fn verdict(&self, id: GossipId, verdict: Verdict) {
        self.order(Order::Verdict(id, verdict));
    }
    pub(crate) fn subscribe(&self, run: RunId) {
        self.order(Order::Subscribe(run));
    }
    pub(crate) fn dial(&self, address: Address) {
        self.order(Order::Dial(address));
    }
    /// Members of the runs that this peer follows; their connections are not given to others.
    pub(crate) fn favour(&self, members: BTreeSet<PeerId>) {
        self.shared.admission.favour(members);
    }
    /// A neighbour handed on what no honest program hands on.
    pub(crate) fn blame(&self, peer: PeerId) {
        self.shared.admission.blame(peer, admission::Fault::Forgery);
    }
    pub(crate) fn offer(&self, hash: BlobHash) {
        self.data.offer(hash);
    }

    /// Asks a neighbour about its shard.
    pub(crate) async fn ask(&self, peer: PeerId, question: Vec<u8>) -> Result<Vec<u8>, Unanswered> {
        let (reply, wait) = oneshot::channel();
        self.order(Order::Ask(peer, question, reply));
        let stopped = || Unanswered::Silent("this daemon stops".to_owned());
        wait.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// A blob from the durable store, else from the providers in order.
    pub(crate) async fn fetch(
        &self,
        blob: BlobRef,
        providers: &[PeerId],
    ) -> Result<Blob, FetchError> {
        self.data.fetch(blob, providers).await
    }

    /// Hands a base on from now on.
    pub(crate) fn shelve(&self, listing: BlobHash, shelved: Shelved) {
        self.bases.0.shelve(listing, shelved);
    }
    /// Hands no base on but these.
    pub(crate) fn keep_shelved(&self, listings: &BTreeSet<BlobHash>) {
        self.bases.0.keep(listings);
    }
    /// The bytes of a base's listing, from a peer.
    pub(crate) async fn listing(
        &self,
        from: PeerId,
        listing: BlobRef,
    ) -> Result<Vec<u8>, PieceError> {
        self.bases.1.listing(from, listing).await
    }
    /// A piece of a base, from a peer. `arrived` counts its bytes as they come.
    pub(crate) async fn piece(
        &self,
        from: PeerId,
        listing: BlobHash,
        piece: (u32, BlobRef),
        arrived: &AtomicU64,
    ) -> Result<Vec<u8>, PieceError> {
        self.bases.1.piece(from, listing, piece, arrived).await
    }

    /// Where others reach the control plane.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let listeners = self.shared.listeners.lock();
        let sockets = listeners.iter().filter_map(Address::socket);
        sockets
            .map(|socket| Address::new(socket, Some(self.me)))
            .collect()
    }
    /// Where this peer is, as it tells others.
    pub(crate) fn own(&self) -> KnownPeer {
        let control = self.shared.listeners.lock();
        let contact = Contact {
            peer: self.me,
            control: greeting::best(control.iter().filter_map(Address::socket).collect()),
            data: greeting::best(self.quic.sockets()),
            relays: self.quic.relays(),
            runs: Vec::new(),
        };
        KnownPeer::from(&contact)
    }
    pub(crate) fn connected(&self) -> Vec<PeerId> {
        self.shared.connected.lock().clone()
    }
    /// How each connected peer is reached.
    pub(crate) fn paths(&self) -> BTreeMap<PeerId, PeerPath> {
        self.shared.paths.lock().clone()
    }
    /// When a peer was last connected.
    pub(crate) fn last_seen(&self, peer: &PeerId) -> Option<Instant> {
        match self.shared.connected.lock().contains(peer) {
            true => Some(Instant::now()),
            false => self.shared.seen.lock().get(peer).copied(),
        }
    }
    /// How its packets get out and in.
    pub(crate) fn report(&self) -> ReachReport {
        let mut report = self.quic.report();
        // A relay that is being closed serves nobody.
        if let (Ok(relay), Some(at)) = (self.relay.try_lock(), self.quic.serves()) {
            report.serving = relay.as_ref().map(|relay| Serving {
                at,
                clients: relay.clients(),
                bytes: relay.relayed_bytes(),
            });
        }
        report
    }
    /// Has a relay carry packets for this peer.
    pub(crate) async fn use_relay(&self, relay: &KnownRelay) {
        self.quic.use_relay(relay).await;
    }
    /// Dials peers that a ticket names.
    pub(crate) fn introduce(&self, peers: &[KnownPeer]) {
        self.order(Order::Introduce(peers.iter().map(Contact::from).collect()));
    }
    /// The relay takes these invitations no more.
    pub(crate) fn revoke(&self, ids: impl IntoIterator<Item = InvitationId>) {
        self.shared.revoked.lock().extend(ids);
    }
    /// Peers of the local network.
    pub(crate) fn nearby(&self) -> BTreeSet<PeerId> {
        self.shared.nearby.lock().clone()
    }
    /// Peers to remember until the next start.
    pub(crate) fn known_peers(&self) -> Vec<KnownPeer> {
        let known = self.shared.known.lock();
        known.iter().map(KnownPeer::from).collect()
    }
    /// Addresses of the owner at which nobody answers who is meant.
    pub(crate) fn unreached(&self) -> Vec<Warning> {
        self.shared.unreached.lock().clone()
    }
    pub(crate) fn known_runs(&self) -> BTreeMap<RunId, Vec<PeerId>> {
        self.shared.known_runs.borrow().clone()
    }
    /// As [`Net::known_runs`], to wait on.
    pub(crate) fn watch_known_runs(&self) -> watch::Receiver<BTreeMap<RunId, Vec<PeerId>>> {
        self.shared.known_runs.subscribe()
    }
    pub(crate) fn traffic(&self) -> Traffic {
        self.shared.meter.total()
    }
    pub(crate) fn traffic_by_peer(&self) -> BTreeMap<PeerId, Traffic> {
        self.shared.meter.neighbours()
    }
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.counts.dropped.load(Ordering::Relaxed)
    }

    /// Closes both planes.
    pub(crate) async fn shutdown(&self) {
        let (done, wait) = oneshot::channel();
        self.order(Order::Stop(done));
        let _ = wait.await;
        if let Err(why) = self.router.shutdown().await {
            tracing::debug!("the data plane closed with: {why}");
        }
        if let Some(relay) = self.relay.lock().await.take() {
            relay.shutdown().await;
        }
    }
}
