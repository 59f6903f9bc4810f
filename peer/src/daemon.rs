//! A running peer: home, network, store, worker threads and the node, put together.
//!
//! ```text
//!  CLI, control API ──command, inspect──▶ ┌────────┐ ──effects──▶ net (libp2p, iroh)
//!        ▲                                │ driver │ ──records──▶ store
//!        └────notices (broadcast)──────── │ + Node │ ──tasks────▶ work
//!                                         └────────┘ ◀──inputs─── all three
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::broadcast;
use tributary_protocol::event::{Command, Notice};
use tributary_protocol::id::{BlobRef, NetworkId, PeerId, Round, RunId};

use crate::home::Home;
use crate::net::Address;
use crate::work::{Learner, Progress, Slots};

/// What a daemon is made of.
pub struct DaemonConfig {
    /// The home, held by this process.
    pub home: Arc<Home>,
    /// Which network to speak to.
    pub network: NetworkId,
    /// TCP address of the control plane; port 0 lets the system choose. The data plane takes a UDP
    /// port of the same address that the system chooses.
    pub listen: SocketAddr,
    /// Peers to connect to first.
    pub bootstrap: Vec<Address>,
    /// Does the training and scoring.
    pub learner: Arc<dyn Learner>,
    /// Shared by all daemons of a process.
    pub slots: Slots,
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
    #[error("could not open the ledger: {0}")]
    Store(String),
}

/// The daemon is gone: shut down, or stopped by a fault that its log names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the daemon has stopped{}", .0.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
pub struct Stopped(pub Option<String>);

/// What the owner can hear.
#[derive(Clone, Debug)]
pub enum Event {
    /// From the node.
    Notice(Notice),
    /// Local training advances.
    Training {
        /// The run.
        run: RunId,
        /// The round.
        round: Round,
        /// How far.
        progress: Progress,
    },
}

/// Bytes since the start, as counted on the sockets (control) and in blobs (payload).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sent on the control plane.
    pub control_up: u64,
    /// Received on the control plane.
    pub control_down: u64,
    /// Blob bytes served.
    pub payload_up: u64,
    /// Blob bytes fetched.
    pub payload_down: u64,
}

/// A running peer. Dropping it stops it without waiting; prefer [`Daemon::shutdown`].
pub struct Daemon {
    _private: (),
}

#[expect(
    clippy::unimplemented,
    unused_variables,
    reason = "bodies follow with the driver"
)]
impl Daemon {
    /// Opens the store, restores the node, binds the sockets and dials the bootstrap peers.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: DaemonConfig) -> Result<Self, StartError> {
        unimplemented!()
    }

    /// The peer's name.
    pub fn peer_id(&self) -> PeerId {
        unimplemented!()
    }

    /// Where others reach it (control plane), with its name: fit for `--bootstrap`.
    pub fn addresses(&self) -> Vec<Address> {
        unimplemented!()
    }

    /// Hands a wish to the node. A wish that cannot be fulfilled shows up as
    /// `Notice::CommandFailed`.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn command(&self, command: Command) -> Result<(), Stopped> {
        unimplemented!()
    }

    /// Everything that happens from now on. A listener that falls behind by 4,096 events misses some.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        unimplemented!()
    }

    /// Connects to a peer now and keeps its address, as if it had been among the bootstrap peers.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn dial(&self, address: Address) -> Result<(), Stopped> {
        unimplemented!()
    }

    /// Every durable record except blobs, each kind in the order it was persisted, for `ledger verify`
    /// beside a running daemon.
    ///
    /// # Errors
    /// The store's.
    pub async fn records(&self) -> Result<Vec<tributary_protocol::event::Record>, StartError> {
        unimplemented!()
    }

    // `inspect(|node: &Node| ..) -> R`: reads the node between two inputs; comes with `protocol::node`.

    /// Bytes of this peer.
    pub fn traffic(&self) -> Traffic {
        unimplemented!()
    }

    /// Bytes by neighbour: gossip and direct messages (control), blobs (payload).
    pub fn traffic_by_peer(&self) -> BTreeMap<PeerId, Traffic> {
        unimplemented!()
    }

    /// Peers with a connection.
    pub fn connected(&self) -> Vec<PeerId> {
        unimplemented!()
    }

    /// Runs that connected peers say they follow.
    pub fn known_runs(&self) -> BTreeMap<RunId, Vec<PeerId>> {
        unimplemented!()
    }

    /// A blob: from the durable store, else fetched from the given providers (or, with none given,
    /// from every connected peer in turn), its size and hash checked. Not kept.
    ///
    /// # Errors
    /// Who was asked and what each answered.
    pub async fn blob(&self, blob: BlobRef, providers: &[PeerId]) -> Result<Vec<u8>, String> {
        unimplemented!()
    }

    /// Prometheus text of all counters.
    pub fn metrics(&self) -> String {
        unimplemented!()
    }

    /// Warnings that hold now, each with what to do.
    pub fn health(&self) -> Vec<crate::health::Warning> {
        unimplemented!()
    }

    /// Resolves when the daemon stops by itself (a full disk, a fault of the store).
    pub async fn stopped(&self) -> Stopped {
        unimplemented!()
    }

    /// Stops: no new input, open writes committed, sockets closed.
    pub async fn shutdown(self) {
        unimplemented!()
    }
}
