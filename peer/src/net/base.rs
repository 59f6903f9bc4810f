//! Base models, handed on in pieces that a listing names.
//!
//! ```text
//!   fetching peer ── listing, number of the piece ──▶ provider: does it follow such a run? a place? the piece as listed?
//!        ◀── 0 and the bytes, or a byte that says why not ──
//! ```
//! A stream a piece, over connections of their own (ALPN `tributary/1/base`), admitted by the same rules as those for
//! blobs. A provider reads pieces from the folder that the model is loaded from and checks each before it sends it, so
//! that a folder which somebody changed is no lie; what it holds in memory is the pieces under way. Which pieces are
//! asked of whom, and where they go, is `model/fetch`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use iroh::endpoint::{Connection, RecvStream, SendStream};
use iroh::protocol::{AcceptError, ProtocolHandler};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tributary_protocol::hash::{self, Digest};
use tributary_protocol::id::{BlobHash, BlobRef, PeerId, RunId};
use tributary_protocol::listing::{Listing, Piece};

use super::admission::Admission;
use super::keys;
use super::limit::Kind;
use super::quic::Quic;
use super::traffic::Meter;

/// The protocol's name on connections.
pub(super) const ALPN: &[u8] = b"tributary/1/base";
/// Transfers that are served at once: each holds a piece in memory.
const MAX_TRANSFERS: usize = 8;
/// How long a peer may take to connect, or to begin its answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a transfer may stand still before another provider is asked, or the place is given away.
const STALL: Duration = Duration::from_secs(15);
/// How long an idle connection of another peer is kept.
const IDLE: Duration = Duration::from_secs(120);
/// Bytes that are sent or taken in at once.
const STRETCH: usize = 64 << 10;
/// Bytes of a request.
const REQUEST: usize = 36;
/// The number that asks for the listing itself.
const LISTING: u32 = u32::MAX;

/// How an answer begins; see `docs/protocol.md`.
const HERE: u8 = 0;
const UNKNOWN: u8 = 1;
const BUSY: u8 = 2;
const LACKING: u8 = 3;

/// Why a piece did not come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PieceError {
    /// No connection, or it broke.
    #[error("{0}")]
    Broken(String),
    /// The provider does not know the base, or does not hold this peer for one that follows a run with it.
    #[error("does not hand this base on")]
    Unknown,
    /// Its places are taken.
    #[error("is busy handing it to others")]
    Busy,
    /// Its copy is incomplete or was changed.
    #[error("has no whole copy of it")]
    Lacking,
    /// Nothing came for a while.
    #[error("sent nothing for {} s", STALL.as_secs())]
    Stalled,
    /// Bytes that are not those of the listing: the provider is to blame.
    #[error("sent other bytes than the listing promises")]
    Wrong,
}

/// A base on this machine that may be handed on.
pub(crate) struct Shelved {
    /// What its files are.
    pub(crate) listing: Arc<Listing>,
    /// Where they lie.
    pub(crate) folder: PathBuf,
    /// Runs with this base that are followed here: peers that follow one of them are served.
    pub(crate) runs: BTreeSet<RunId>,
}

/// One that is served.
struct Served {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
    shelved: Shelved,
}

/// Serves pieces to peers that connect.
#[derive(Clone)]
pub(super) struct BaseProtocol {
    shelf: Arc<Mutex<BTreeMap<BlobHash, Arc<Served>>>>,
    known_runs: watch::Receiver<BTreeMap<RunId, Vec<PeerId>>>,
    admission: Admission,
    meter: Meter,
    transfers: Arc<Semaphore>,
}

impl std::fmt::Debug for BaseProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BaseProtocol").finish_non_exhaustive()
    }
}

impl BaseProtocol {
    pub(super) fn new(
        known_runs: watch::Receiver<BTreeMap<RunId, Vec<PeerId>>>,
        admission: Admission,
        meter: Meter,
    ) -> Self {
        Self {
            shelf: Arc::default(),
            known_runs,
            admission,
            meter,
            transfers: Arc::new(Semaphore::new(MAX_TRANSFERS)),
        }
    }

    /// Serves a base from now on, in place of what was served under the same hash of a listing.
    pub(super) fn shelve(&self, hash: BlobHash, shelved: Shelved) {
        let served = Served {
            bytes: shelved.listing.bytes(),
            pieces: shelved.listing.pieces().collect(),
            shelved,
        };
        self.shelf.lock().insert(hash, Arc::new(served));
    }

    /// Serves nothing but these.
    pub(super) fn keep(&self, hashes: &BTreeSet<BlobHash>) {
        self.shelf.lock().retain(|hash, _| hashes.contains(hash));
    }

    /// The base that a peer may have.
    fn granted(&self, hash: &BlobHash, peer: PeerId) -> Option<Arc<Served>> {
        let served = self.shelf.lock().get(hash).cloned()?;
        let known = self.known_runs.borrow();
        let mut runs = served.shelved.runs.iter();
        let follows = |run: &RunId| known.get(run).is_some_and(|peers| peers.contains(&peer));
        runs.any(follows).then_some(served)
    }

    async fn answer(
        &self,
        peer: PeerId,
        send: &mut SendStream,
        mut receive: RecvStream,
    ) -> Result<(), String> {
        let mut request = [0; REQUEST];
        let read = tokio::time::timeout(ANSWER, receive.read_exact(&mut request)).await;
        read.map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())?;
        let (hash, number) = request.split_at(REQUEST - 4);
        let hash: [u8; 32] = hash
            .try_into()
            .expect("the request is split after 32 bytes");
        let number = u32::from_le_bytes(number.try_into().expect("and 4 are left"));
        let hash = BlobHash(Digest::from_bytes(hash));
        if !self.admission.hear(peer, Kind::Request, 0) {
            return refuse(send, BUSY).await;
        }
        let Some(served) = self.granted(&hash, peer) else {
            return refuse(send, UNKNOWN).await;
        };
        let Ok(_place) = self.transfers.try_acquire() else {
            return refuse(send, BUSY).await;
        };
        let bytes = match number {
            LISTING => Some(served.bytes.clone()),
            number => tokio::task::spawn_blocking(move || read_piece(&served, number as usize))
                .await
                .map_err(|e| e.to_string())?,
        };
        let Some(bytes) = bytes else {
            return refuse(send, LACKING).await;
        };
        send.write_all(&[HERE]).await.map_err(|e| e.to_string())?;
        for stretch in bytes.chunks(STRETCH) {
            let sent = tokio::time::timeout(STALL, send.write_all(stretch)).await;
            sent.map_err(|e| e.to_string())?
                .map_err(|e| e.to_string())?;
            self.meter.payload_up(peer, stretch.len() as u64);
        }
        send.finish().map_err(|e| e.to_string())
    }
}

async fn refuse(send: &mut SendStream, why: u8) -> Result<(), String> {
    send.write_all(&[why]).await.map_err(|e| e.to_string())?;
    send.finish().map_err(|e| e.to_string())
}

/// A piece as it is listed; nothing where the folder holds something else.
fn read_piece(served: &Served, number: usize) -> Option<Vec<u8>> {
    let piece = served.pieces.get(number)?;
    let file = &served.shelved.listing.files[piece.file];
    let path = served.shelved.folder.join(&file.name);
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(&path)?;
        file.seek(SeekFrom::Start(piece.offset))?;
        let mut bytes = Vec::with_capacity(piece.content.size as usize);
        file.take(piece.content.size).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if hash::blob(&bytes) == piece.content.hash.0 => Some(bytes),
        Ok(_) => {
            let path = path.display();
            tracing::warn!(
                "{path} is not what it was when its run began to hand it on; other members hand it on"
            );
            None
        }
        Err(why) => {
            tracing::warn!("{} is not handed on: {why}", path.display());
            None
        }
    }
}

impl ProtocolHandler for BaseProtocol {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let peer = keys::from_iroh(&connection.remote_id());
        // One stream after the other: a peer takes one place however many it opens.
        while let Ok(Ok((mut send, receive))) =
            tokio::time::timeout(IDLE, connection.accept_bi()).await
        {
            if let Err(why) = self.answer(peer, &mut send, receive).await {
                tracing::debug!("a piece for {}: {why}", peer.short());
                let _ = send.reset(0u32.into());
            }
        }
        Ok(())
    }
}

/// What serves pieces, and what asks for them.
pub(super) fn new(
    quic: &Quic,
    known_runs: watch::Receiver<BTreeMap<RunId, Vec<PeerId>>>,
    admission: &Admission,
    meter: &Meter,
) -> (BaseProtocol, BaseClient) {
    let protocol = BaseProtocol::new(known_runs, admission.clone(), meter.clone());
    (protocol, BaseClient::new(quic.clone(), meter.clone()))
}

/// Asks others for pieces. Cheap to clone.
#[derive(Clone)]
pub(super) struct BaseClient {
    quic: Quic,
    connections: Arc<Mutex<BTreeMap<PeerId, Connection>>>,
    meter: Meter,
}

impl BaseClient {
    pub(super) fn new(quic: Quic, meter: Meter) -> Self {
        Self {
            quic,
            connections: Arc::default(),
            meter,
        }
    }

    /// A listing, its hash checked.
    pub(super) async fn listing(
        &self,
        from: PeerId,
        listing: BlobRef,
    ) -> Result<Vec<u8>, PieceError> {
        let arrived = AtomicU64::new(0);
        self.ask(from, listing.hash, LISTING, listing, &arrived)
            .await
    }

    /// A piece, its hash checked. `arrived` counts its bytes as they come.
    pub(super) async fn piece(
        &self,
        from: PeerId,
        listing: BlobHash,
        (number, content): (u32, BlobRef),
        arrived: &AtomicU64,
    ) -> Result<Vec<u8>, PieceError> {
        let asked = self.ask(from, listing, number, content, arrived).await;
        if matches!(asked, Err(PieceError::Stalled)) {
            // Its packets may be lost since a change of networks: the next question connects anew.
            self.connections().remove(&from);
        }
        asked
    }

    async fn ask(
        &self,
        from: PeerId,
        listing: BlobHash,
        number: u32,
        content: BlobRef,
        arrived: &AtomicU64,
    ) -> Result<Vec<u8>, PieceError> {
        let connection = self.connect(from).await?;
        let (mut send, mut receive) = within(ANSWER, connection.open_bi()).await?;
        let request = [listing.as_bytes().as_slice(), &number.to_le_bytes()].concat();
        within(ANSWER, send.write_all(&request)).await?;
        // The request is whole; nothing else is sent.
        let _ = send.finish();
        let mut first = [0];
        within(STALL, receive.read_exact(&mut first)).await?;
        match first[0] {
            HERE => {}
            UNKNOWN => return Err(PieceError::Unknown),
            BUSY => return Err(PieceError::Busy),
            LACKING => return Err(PieceError::Lacking),
            _ => return Err(PieceError::Wrong),
        }
        let bytes = self
            .take_in(from, &mut receive, content.size, arrived)
            .await?;
        match hash::blob(&bytes) == content.hash.0 {
            true => Ok(bytes),
            false => Err(PieceError::Wrong),
        }
    }

    /// Exactly `size` bytes, which the caller has bounded.
    async fn take_in(
        &self,
        from: PeerId,
        receive: &mut RecvStream,
        size: u64,
        arrived: &AtomicU64,
    ) -> Result<Vec<u8>, PieceError> {
        let mut bytes = Vec::with_capacity(size as usize);
        let mut stretch = vec![0; STRETCH];
        while (bytes.len() as u64) < size {
            let left = size as usize - bytes.len();
            let room = &mut stretch[..left.min(STRETCH)];
            let read = within(STALL, receive.read(room)).await?;
            // An end before the last byte.
            let read = read.ok_or(PieceError::Wrong)?;
            self.meter.payload_down(from, read as u64);
            arrived.fetch_add(read as u64, Ordering::Relaxed);
            bytes.extend_from_slice(&room[..read]);
        }
        Ok(bytes)
    }

    async fn connect(&self, peer: PeerId) -> Result<Connection, PieceError> {
        let held = self.connections().get(&peer).cloned();
        if let Some(connection) = held {
            return Ok(connection);
        }
        let unknown = || PieceError::Broken("has no known address".to_owned());
        let address = self.quic.address_of(peer).ok_or_else(unknown)?;
        let connection = within(ANSWER, self.quic.endpoint().connect(address, ALPN)).await?;
        self.connections().insert(peer, connection.clone());
        Ok(connection)
    }

    /// The connections that are open.
    fn connections(&self) -> parking_lot::MutexGuard<'_, BTreeMap<PeerId, Connection>> {
        let mut held = self.connections.lock();
        held.retain(|_, connection| connection.close_reason().is_none());
        held
    }
}

async fn within<T, E: std::fmt::Display>(
    limit: Duration,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, PieceError> {
    match tokio::time::timeout(limit, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(why)) => Err(PieceError::Broken(format!("broke off: {why}"))),
        Err(_) => Err(PieceError::Stalled),
    }
}

#[cfg(test)]
mod tests;
