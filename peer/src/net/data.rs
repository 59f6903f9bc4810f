//! The data plane: blobs by hash over iroh, verified while they arrive.
//!
//! Only what was offered is served. The durable store is the home's blob folder; iroh's store here is
//! a cache in memory that is filled from it when somebody asks, and forgets what was not asked for
//! lately. So nothing acknowledged lives only in iroh, and a blob is on the disk once.

mod admission;
mod serve;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::Connection;
use iroh_blobs::store::GcConfig;
use iroh_blobs::store::mem::{MemStore, Options};
use iroh_blobs::{BlobFormat, BlobsProtocol, HashAndFormat};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tributary_protocol::id::{Blob, BlobHash, BlobRef, PeerId};

pub(super) use admission::{DataAdmission, let_in};

use super::admission::Admission;
use super::handshakes::Places;
use super::quic::Quic;
use super::traffic::Meter;
use crate::store::{Blobs, StoreError};

/// Downloads at once; more would share the same line.
const MAX_FETCHES: usize = 8;
/// How long a provider may take to answer a connection.
const CONNECT: Duration = Duration::from_secs(8);
/// How long a provider may take to tell a blob's size.
const SIZE: Duration = Duration::from_secs(8);
/// Slowest transfer that is waited for, in bytes a second (a weak mobile line).
const SLOWEST: u64 = 32 * 1024;
/// How often the cache drops what nobody holds.
const SWEEP: Duration = Duration::from_secs(30);

/// Why a blob could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Nobody was asked.
    #[error("blob {0}: nobody is known who has it")]
    NoProvider(String),
    /// Everybody was asked.
    #[error("blob {hash}: {}", .tried.iter().map(|(p, why)| format!("{} {why}", p.short())).collect::<Vec<_>>().join("; "))]
    Failed {
        /// The blob.
        hash: String,
        /// Who was asked, and what came of it.
        tried: Vec<(PeerId, String)>,
    },
}

/// Serves and fetches blobs. Cheap to clone.
#[derive(Clone)]
pub(super) struct DataPlane {
    quic: Quic,
    cache: MemStore,
    blobs: Blobs,
    offered: serve::Offered,
    connections: Arc<Mutex<BTreeMap<PeerId, Connection>>>,
    fetches: Arc<Semaphore>,
    meter: Meter,
}

impl DataPlane {
    /// The plane, and what serves peers that connect for blobs.
    pub(super) fn new(
        quic: Quic,
        blobs: Blobs,
        meter: Meter,
        admission: Admission,
        handshakes: Places,
    ) -> (Self, DataAdmission<BlobsProtocol>) {
        let protect: serve::Protected = Arc::default();
        let held = protect.clone();
        let cache = MemStore::new_with_opts(Options {
            gc_config: Some(GcConfig {
                interval: SWEEP,
                add_protected: Some(serve::protector(held)),
            }),
        });
        let offered = serve::Offered::default();
        let events = serve::guard(
            cache.clone(),
            blobs.clone(),
            offered.clone(),
            protect,
            meter.clone(),
            admission.clone(),
        );
        let served = BlobsProtocol::new(&cache, Some(events));
        let served = DataAdmission::new(served, admission, handshakes);
        let plane = Self {
            quic,
            cache,
            blobs,
            offered,
            connections: Arc::default(),
            fetches: Arc::new(Semaphore::new(MAX_FETCHES)),
            meter,
        };
        (plane, served)
    }

    /// Serves a durable blob from now on.
    pub(super) fn offer(&self, hash: BlobHash) {
        self.offered.insert(hash);
    }

    /// A blob, from the durable store, else from the providers in order.
    pub(super) async fn fetch(
        &self,
        blob: BlobRef,
        providers: &[PeerId],
    ) -> Result<Blob, FetchError> {
        let (store, hash) = (self.blobs.clone(), blob.hash);
        let read = move || Ok(store.read(hash)?.map(|bytes| Blob::of(bytes.into())));
        let local: Result<Result<_, StoreError>, _> = tokio::task::spawn_blocking(read).await;
        match local {
            Ok(Ok(Some(found))) => return Ok(found),
            Ok(Err(why)) => {
                tracing::warn!("{why}; it is set aside and fetched again");
                let _ = self.blobs.set_aside(hash);
            }
            _ => {}
        }
        if providers.is_empty() {
            return Err(FetchError::NoProvider(hash.to_string()));
        }
        let _slot = self.fetches.acquire().await;
        let mut tried = Vec::new();
        for provider in providers {
            match self.fetch_from(blob, *provider).await {
                Ok(found) => return Ok(found),
                Err(failed) => {
                    if failed.is_late {
                        // Its packets may be lost since a change of networks: the next fetch connects anew.
                        self.connections().remove(provider);
                    }
                    tried.push((*provider, failed.why));
                }
            }
        }
        Err(FetchError::Failed {
            hash: hash.to_string(),
            tried,
        })
    }

    /// Size first, then content: a provider that lies about the size costs one chunk.
    async fn fetch_from(&self, blob: BlobRef, provider: PeerId) -> Result<Blob, Failed> {
        let connection = self.connect(provider).await?;
        let hash = serve::to_iroh(blob.hash);
        let sized = iroh_blobs::get::request::get_verified_size(&connection, &hash);
        let (size, _) = within(SIZE, "tell the size", sized).await?;
        if size != blob.size {
            let promised = blob.size;
            return Err(Failed::from(format!(
                "has {size} bytes under this hash, {promised} were promised"
            )));
        }
        let content = HashAndFormat {
            hash,
            format: BlobFormat::Raw,
        };
        // Keeps what has arrived from being swept; a later provider goes on from there.
        let _held = (self.cache.tags().temp_tag(content).await).map_err(|e| e.to_string())?;
        let limit = Duration::from_secs(20 + blob.size / SLOWEST);
        let fetched = self.cache.remote().fetch(connection, content);
        let stats = within(limit, "send the blob", fetched.complete()).await?;
        self.meter.payload_down(provider, stats.payload_bytes_read);
        let bytes = self
            .cache
            .get_bytes(hash)
            .await
            .map_err(|e| e.to_string())?;
        let is_whole = bytes.len() as u64 == blob.size;
        (Blob::read(blob.hash, bytes).filter(|_| is_whole))
            .ok_or_else(|| Failed::from("sent other bytes than promised".to_owned()))
    }

    async fn connect(&self, peer: PeerId) -> Result<Connection, Failed> {
        let held = self.connections().get(&peer).cloned();
        if let Some(connection) = held
            && connection.close_reason().is_none()
        {
            return Ok(connection);
        }
        let address =
            (self.quic.address_of(peer)).ok_or_else(|| "has no known address".to_owned())?;
        let connecting = self.quic.endpoint().connect(address, iroh_blobs::ALPN);
        let connection = within(CONNECT, "connect", connecting).await?;
        self.connections().insert(peer, connection.clone());
        Ok(connection)
    }

    fn connections(&self) -> parking_lot::MutexGuard<'_, BTreeMap<PeerId, Connection>> {
        let mut held = self.connections.lock();
        held.retain(|_, connection| connection.close_reason().is_none());
        held
    }
}

/// Why a provider did not serve.
struct Failed {
    why: String,
    /// Nothing came within the time for it.
    is_late: bool,
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        let is_late = false;
        Self { why, is_late }
    }
}

async fn within<T, E: std::fmt::Display>(
    limit: Duration,
    what: &str,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, Failed> {
    match tokio::time::timeout(limit, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(why)) => Err(Failed::from(format!("did not {what}: {why}"))),
        Err(_) => Err(Failed {
            why: format!("did not {what} within {} s", limit.as_secs()),
            is_late: true,
        }),
    }
}
