//! A running peer: home, network, store, worker threads and the node, put together.
//!
//! ```text
//!  CLI, control API ──command, inspect──▶ ┌────────┐ ──effects──▶ net (libp2p, iroh)
//!        ▲                                │ driver │ ──records──▶ store
//!        └────notices (broadcast)──────── │ + Node │ ──tasks────▶ work
//!                                         └────────┘ ◀──inputs─── all three
//! ```

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use tributary_ledger::{LedgerIndex, Snapshot};
use tributary_protocol::event::{Command, Effect, Record};
use tributary_protocol::fingerprint::Question;
use tributary_protocol::id::{Blob, BlobRef, MerkleRoot, NetworkId, PeerId, RunId};
use tributary_protocol::node::{Node, NodeConfig, Resources, Saved};
use tributary_protocol::sign::SecretKey;
use tributary_protocol::time::Timestamp;

use crate::driver::{Clock, DrivenNode, Driver, Parts, Request};
use crate::event::Event;
use crate::evidence::Holder;
use crate::health::{Health, Warning};
use crate::home::{Home, HomePaths};
use crate::indexer::Indexer;
use crate::jury;
use crate::keeper::Keeper;
use crate::keeper::cashier::Desk;
use crate::metrics::Metrics;
use crate::model::shelf::Shelf;
use crate::net::{
    self, Address, FetchError, Known, KnownPeer, KnownRelay, Net, NetConfig, NetError, PeerPath,
    Reach, ReachReport, Relaying, Traffic, Unanswered,
};
use crate::progress::RunProgress;
use crate::serve::cashier::Cashiers;
use crate::settings::ChainAccess;
use crate::store::{Store, StoreError};
use crate::ticket::{InvitationId, Invitations};
use crate::work::bench::Bench;
use crate::work::{Learner, Slots};

/// How often heads are compared with a neighbour, in milliseconds.
const TICK_MS: u64 = 1000;
/// Events a slow listener may fall behind.
const EVENTS: usize = 4096;
/// Requests of the owner that may wait.
const REQUESTS: usize = 64;

/// What a daemon is made of.
pub struct DaemonConfig {
    /// The home, held by this process.
    pub home: Arc<Home>,
    /// Which network to speak to.
    pub network: NetworkId,
    /// Address of the control plane (TCP) and of the data plane (UDP, the same port); port 0 lets the
    /// system choose both.
    pub listen: SocketAddr,
    /// How far it looks for others.
    pub reach: Reach,
    /// What an earlier start knew of the network.
    pub known: Known,
    /// The relay that it serves, if any.
    pub relay: Option<Relaying>,
    /// Peers to connect to first.
    pub bootstrap: Vec<Address>,
    /// Does the training and scoring.
    pub learner: Arc<dyn Learner>,
    /// Shared by all daemons of a process.
    pub slots: Slots,
    /// Whether to keep the updates of every round, so that `ledger verify` can re-check each aggregate.
    pub archive: bool,
    /// What the machine can give.
    pub resources: Resources,
    /// Whether to answer members' questions about this peer's shards.
    pub evidence: bool,
    /// How the real chain of its runs' money is reached, and the account there.
    pub chain: ChainAccess,
    /// What the wall clock reads throughout; None: what the machine's does.
    pub still_clock: Option<Timestamp>,
}

/// Why a daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody listens there already.
    #[error("{0} is in use by another program; stop it, or choose another port with --listen")]
    PortInUse(SocketAddr),
    /// Another network failure.
    #[error("could not start the network on {listen}: {why}")]
    Network {
        /// The address asked for.
        listen: SocketAddr,
        /// What failed.
        why: String,
    },
    /// The ledger cannot be read.
    #[error("{0}")]
    Store(String),
}

impl StartError {
    fn from_net(listen: SocketAddr, e: &NetError) -> Self {
        match e {
            NetError::PortInUse(socket) => Self::PortInUse(*socket),
            other => Self::Network {
                listen,
                why: other.to_string(),
            },
        }
    }
}

/// The daemon is gone: shut down, or stopped by a fault that its log names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the daemon has stopped{}", .0.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
pub struct Stopped(pub Option<String>);

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The node does not take it.
    #[error("{0}")]
    Refused(String),
    /// The daemon is gone; whether the command became durable shows when it starts again.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

type NodeRequest = Request<Node>;

/// A running peer. Dropping it stops it without waiting; prefer [`Daemon::shutdown`].
pub struct Daemon {
    peer: PeerId,
    /// Signs questions.
    key: SecretKey,
    network: NetworkId,
    net: Net,
    requests: mpsc::Sender<NodeRequest>,
    events: broadcast::Sender<Event>,
    metrics: Arc<Metrics>,
    health: Health,
    indexer: Indexer,
    progress: watch::Receiver<Arc<Vec<RunProgress>>>,
    bases: Arc<Notify>,
    keeper: Keeper,
    ended: watch::Receiver<Option<Stopped>>,
}

impl Daemon {
    /// Opens the store, restores the node, binds the sockets and dials the bootstrap peers.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: DaemonConfig) -> Result<Self, StartError> {
        let identity = config.home.identity().clone();
        let paths = config.home.paths().clone();
        let opened = tokio::task::spawn_blocking(move || open_store(&paths, config.network)).await;
        let (store, saved, indexer) = opened.map_err(|e| StartError::Store(e.to_string()))??;
        let clock = Clock::start(config.still_clock);
        let (node, first) = restore(&config, saved, &clock)?;
        let (requests, inbox) = mpsc::channel(REQUESTS);
        let (ask, questions) = mpsc::channel(net::MAX_WAITING_QUESTIONS);
        let (net, net_events) = net::start(NetConfig {
            identity: &identity,
            network: config.network,
            listen: config.listen,
            reach: config.reach,
            known: config.known,
            relay: config.relay,
            bootstrap: config.bootstrap,
            blobs: store.blobs().clone(),
            holder: Some(ask),
        })
        .await
        .map_err(|e| StartError::from_net(config.listen, &e))?;
        let revoked = Invitations::of(config.home.paths()).revoked();
        net.revoke(revoked.map_err(|why| StartError::Store(why.to_string()))?);
        let (events, _) = broadcast::channel(EVENTS);
        let (bench, done) = Bench::new(config.learner, config.slots, events.clone());
        let (metrics, health) = (Arc::new(Metrics::new()), Health::default());
        let (progress, run_progress) = watch::channel(Arc::new(DrivenNode::progress(&node)));
        let driver = Driver::new(
            Parts {
                brain: node,
                net: net.clone(),
                net_events,
                store: Arc::new(store),
                bench,
                done,
                requests: inbox,
                events: events.clone(),
                metrics: metrics.clone(),
                health: health.clone(),
                indexer: indexer.clone(),
                progress,
            },
            clock,
        );
        let chain = (&identity, config.chain);
        let keeper = Keeper::start(chain, &requests, &indexer, &run_progress);
        let (home, weak) = (config.home.paths().clone(), requests.downgrade());
        let shower = jury::start((&keeper, &net), &weak, &home, &run_progress);
        let names = (identity.peer_id(), config.network);
        let holder = Holder::new(home, names, weak, config.evidence, shower);
        tokio::spawn(holder.serve(questions));
        Ok(Self {
            bases: hand_on(&net, config.home.paths(), &run_progress),
            peer: identity.peer_id(),
            key: SecretKey::from_seed(*identity.seed()),
            network: config.network,
            net,
            requests,
            events,
            metrics,
            health,
            indexer,
            progress: run_progress,
            keeper,
            ended: run(driver, first, config.home),
        })
    }

    /// The peer's name.
    pub fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// Where others reach it (control plane), with its name: fit for `--bootstrap`.
    pub fn addresses(&self) -> Vec<Address> {
        self.net.addresses()
    }

    async fn request(&self, request: NodeRequest) -> Result<(), Stopped> {
        let sent = self.requests.send(request).await;
        sent.map_err(|_| self.why_stopped())
    }

    fn why_stopped(&self) -> Stopped {
        self.ended.borrow().clone().unwrap_or(Stopped(None))
    }

    /// Hands a command to the node, and returns once the node has taken it and a crash cannot undo it.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn command(&self, command: Command) -> Result<(), CommandError> {
        let (answer, wait) = oneshot::channel();
        self.request(Request::Command(command, answer)).await?;
        let taken = wait.await.map_err(|_| self.why_stopped())?;
        taken.map_err(CommandError::Refused)
    }

    /// Reads the node between two inputs. Keep it short: the node waits meanwhile.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn inspect<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Node) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        let (answer, wait) = oneshot::channel();
        self.request(Request::Inspect(Box::new(move |node| {
            let _ = answer.send(look(node));
        })))
        .await?;
        wait.await.map_err(|_| self.why_stopped())
    }

    /// Has the node compare its ledgers with these peers now, where they are connected, and not at its next beat.
    ///
    /// # Errors
    /// [`Stopped`].
    pub(crate) async fn compare_with(&self, peers: Vec<PeerId>) -> Result<(), Stopped> {
        self.request(Request::Compare(peers)).await
    }

    /// Where the node stands in each run, as of the last input that was handled.
    pub(crate) fn progress(&self) -> Arc<Vec<RunProgress>> {
        self.progress.borrow().clone()
    }

    /// As [`Daemon::standings`], to wait on.
    pub(crate) fn watch_progress(&self) -> watch::Receiver<Arc<Vec<RunProgress>>> {
        self.progress.clone()
    }

    /// What the runs' certificates and logs say, with everything that was said before this call.
    pub async fn index(&self) -> Snapshot {
        self.indexer.current().await
    }

    /// Connects to a peer now and keeps its address, as if it had been among the bootstrap peers.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn dial(&self, address: Address) -> Result<(), Stopped> {
        if self.ended.borrow().is_some() {
            return Err(self.why_stopped());
        }
        self.net.dial(address);
        Ok(())
    }

    /// Every durable record except blobs, each kind in the order it was persisted, for `ledger verify`
    /// beside a running daemon.
    ///
    /// # Errors
    /// The store's.
    pub async fn records(&self) -> Result<Vec<Record>, StartError> {
        let failed = |why: String| StartError::Store(why);
        let (answer, wait) = oneshot::channel();
        let asked = self.request(Request::Records(answer)).await;
        asked.map_err(|why| failed(why.to_string()))?;
        let read = wait
            .await
            .map_err(|_| failed(self.why_stopped().to_string()))?;
        read.map_err(|why| failed(why.to_string()))
    }

    /// Everything that happens from now on. A listener that falls behind by 4,096 events misses some.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Bytes of this peer.
    pub fn traffic(&self) -> Traffic {
        self.net.traffic()
    }

    /// Bytes by neighbour: direct messages and gossip received (control), blobs (payload).
    pub fn traffic_by_peer(&self) -> BTreeMap<PeerId, Traffic> {
        self.net.traffic_by_peer()
    }

    /// Peers with a connection.
    pub fn connected(&self) -> Vec<PeerId> {
        self.net.connected()
    }

    /// How each connected peer is reached.
    pub fn paths(&self) -> BTreeMap<PeerId, PeerPath> {
        self.net.paths()
    }

    /// When a peer was last connected; nothing where this daemon has not seen it.
    pub fn last_seen(&self, peer: &PeerId) -> Option<Instant> {
        self.net.last_seen(peer)
    }

    /// How its packets get out and in.
    pub fn reach(&self) -> ReachReport {
        self.net.report()
    }

    /// Where this peer is, as it tells others.
    pub fn own_addresses(&self) -> KnownPeer {
        self.net.own()
    }

    /// Has a relay carry packets for this peer.
    pub async fn use_relay(&self, relay: &KnownRelay) {
        self.net.use_relay(relay).await;
    }

    /// Dials peers that a ticket names, from now on.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn introduce(&self, peers: &[KnownPeer]) -> Result<(), Stopped> {
        if self.ended.borrow().is_some() {
            return Err(self.why_stopped());
        }
        self.net.introduce(peers);
        Ok(())
    }

    /// The relay takes this invitation no more.
    pub fn revoke(&self, id: InvitationId) {
        self.net.revoke([id]);
    }

    /// Peers of the local network.
    pub fn nearby(&self) -> BTreeSet<PeerId> {
        self.net.nearby()
    }

    /// Addresses of the owner at which nobody answers who is meant.
    pub fn unreached(&self) -> Vec<Warning> {
        self.net.unreached()
    }

    /// Peers worth remembering until the next start.
    pub fn known_peers(&self) -> Vec<KnownPeer> {
        self.net.known_peers()
    }

    /// Runs that peers say they follow.
    pub fn known_runs(&self) -> BTreeMap<RunId, Vec<PeerId>> {
        self.net.known_runs()
    }

    /// As [`Daemon::known_runs`], to wait on.
    pub(crate) fn watch_known_runs(&self) -> watch::Receiver<BTreeMap<RunId, Vec<PeerId>>> {
        self.net.watch_known_runs()
    }

    /// A blob: from the durable store, else fetched from the given providers (or, with none given,
    /// from every connected peer in turn), its size and hash checked. Not kept.
    ///
    /// # Errors
    /// Who was asked and what each answered.
    pub async fn blob(&self, blob: BlobRef, providers: &[PeerId]) -> Result<Blob, FetchError> {
        if providers.is_empty() {
            self.net.fetch(blob, &self.net.connected()).await
        } else {
            self.net.fetch(blob, providers).await
        }
    }

    /// The account that this peer is paid at.
    pub fn account(&self) -> tributary_attribution::settlement::Address {
        self.keeper.account()
    }

    /// What files for this peer.
    pub(crate) fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// What a server of this daemon asks of the chains of its runs.
    pub(crate) fn cashiers(&self) -> Arc<dyn Cashiers> {
        Arc::new(Desk(self.keeper.clone()))
    }

    /// Files what this peer owes to a run's books before its genesis: the creator's deposit.
    pub async fn deposit(&self, run: RunId) {
        self.keeper.look(run).await;
    }

    /// The network, to fetch a base.
    pub(crate) fn net(&self) -> &Net {
        &self.net
    }

    /// A base came to this machine: it is handed on from now on, where its runs allow it.
    pub(crate) fn has_new_base(&self) {
        self.bases.notify_one();
    }

    /// Asks a connected peer which of `words` stand in the shard with these fingerprints; gives the bytes of its answer,
    /// unchecked.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub(crate) async fn ask(
        &self,
        peer: PeerId,
        (run, fingerprints): (RunId, MerkleRoot),
        words: &[String],
    ) -> Result<Vec<u8>, Unanswered> {
        let question = Question::new((&self.key, self.network), run, fingerprints, words);
        self.net.ask(peer, question.encode()).await
    }

    /// Prometheus text of all counters.
    pub fn metrics(&self) -> String {
        let connected = self.net.connected().len();
        self.metrics.certified(&self.indexer.latest());
        (self.metrics).render(self.net.traffic(), connected, self.net.dropped())
    }

    /// Warnings that hold now, each with what to do.
    pub fn health(&self) -> Vec<Warning> {
        let connected = self.net.connected().len();
        let mut warnings = (self.health).now(connected, self.net.dropped(), Instant::now());
        warnings.extend(self.net.unreached());
        warnings
    }

    /// Resolves when the daemon has stopped: told to, or by itself (a full disk, a fault of the
    /// store).
    pub async fn stopped(&self) -> Stopped {
        let mut ended = self.ended.clone();
        let _ = ended.wait_for(Option::is_some).await;
        self.why_stopped()
    }

    /// Stops: no new input, open writes committed, sockets closed, the home released.
    pub async fn shutdown(self) {
        self.stop().await;
    }

    /// As [`Daemon::shutdown`], for a daemon that others still hold.
    pub async fn stop(&self) {
        let _ = self.requests.send(Request::Stop).await;
        self.stopped().await;
    }
}

/// The node as its records leave it, and what it asks for first.
fn restore(
    config: &DaemonConfig,
    saved: Saved,
    clock: &Clock,
) -> Result<(Node, Vec<Effect>), StartError> {
    let node = NodeConfig {
        network: config.network,
        seed: *config.home.identity().seed(),
        archive: config.archive,
        resources: config.resources,
        tick_ms: TICK_MS,
    };
    let restored = Node::restore(node, draw_seed(), saved, clock.now());
    restored.map_err(|why| StartError::Store(why.to_string()))
}

/// Hands bases on while the daemon runs. Whatever brings one to this machine notifies what this gives.
fn hand_on(
    net: &Net,
    home: &HomePaths,
    progress: &watch::Receiver<Arc<Vec<RunProgress>>>,
) -> Arc<Notify> {
    let changed = Arc::new(Notify::new());
    let shelf = Shelf {
        net: net.clone(),
        home: home.clone(),
        progress: progress.clone(),
        changed: changed.clone(),
    };
    tokio::spawn(shelf.run());
    changed
}

/// Runs the driver; the home is held until everything in it is closed.
fn run(
    driver: Driver<Node>,
    first: Vec<Effect>,
    home: Arc<Home>,
) -> watch::Receiver<Option<Stopped>> {
    let (end, ended) = watch::channel(None);
    tokio::spawn(async move {
        let why = match tokio::spawn(driver.run(first)).await {
            Ok(why) => why,
            Err(e) => Some(format!(
                "a defect of this program ({e}); nothing acknowledged is lost, start it again"
            )),
        };
        if let Some(why) = &why {
            tracing::error!("the daemon stopped: {why}");
        }
        drop(home);
        let _ = end.send(Some(Stopped(why)));
    });
    ended
}

fn open_store(
    paths: &HomePaths,
    network: NetworkId,
) -> Result<(Store, Saved, Indexer), StartError> {
    let failed = |why: StoreError| StartError::Store(why.to_string());
    let store = Store::open(paths).map_err(failed)?;
    let saved = Saved {
        records: store.load_all().map_err(failed)?,
        blobs: store.blob_hashes().map_err(failed)?,
    };
    let index = LedgerIndex::of(network, &saved.records);
    let indexer = Indexer::start(index).map_err(|e| StartError::Store(e.to_string()))?;
    Ok((store, saved, indexer))
}

/// Two peers started from one seed still ask different neighbours.
fn draw_seed() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system has no source of random numbers");
    u64::from_le_bytes(bytes)
}
