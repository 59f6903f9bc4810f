//! The data plane: blobs by hash over iroh, verified while they arrive.
//!
//! Only what was offered is served. The durable store is the home's blob folder; iroh's store here is
//! a cache in memory that is filled from it when somebody asks, and forgets what was not asked for
//! lately. So nothing acknowledged lives only in iroh, and a blob is on the disk once.

mod admission;
mod serve;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::{Connection, PortmapperConfig, RelayMode, presets};
use iroh::protocol::Router;
use iroh::{Endpoint, EndpointAddr, TransportAddr};
use iroh_blobs::store::GcConfig;
use iroh_blobs::store::mem::{MemStore, Options};
use iroh_blobs::{BlobFormat, BlobsProtocol, HashAndFormat};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tributary_protocol::id::{Blob, BlobHash, BlobRef, PeerId};

use super::admission::Admission;
use super::keys;
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
/// Attempts to bind before giving up, see [`bind`].
const BINDS: u32 = 3;

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

/// Where to reach a peer's data plane. Kept by the control plane.
pub(super) type Addresses = Arc<Mutex<BTreeMap<PeerId, Vec<SocketAddr>>>>;

/// The iroh endpoint that serves and fetches blobs. Cheap to clone.
#[derive(Clone)]
pub(super) struct DataPlane {
    endpoint: Endpoint,
    router: Router,
    cache: MemStore,
    blobs: Blobs,
    offered: serve::Offered,
    addresses: Addresses,
    connections: Arc<Mutex<BTreeMap<PeerId, Connection>>>,
    fetches: Arc<Semaphore>,
    meter: Meter,
}

impl DataPlane {
    /// Binds a UDP socket and serves from it.
    pub(super) async fn start(
        seed: &[u8; 32],
        listen: SocketAddr,
        blobs: Blobs,
        addresses: Addresses,
        meter: Meter,
        admission: Admission,
    ) -> Result<Self, String> {
        let endpoint = bind(seed, listen).await?;
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
        let served = admission::DataAdmission::new(served, admission.clone());
        let router = Router::builder(endpoint.clone())
            .incoming_filter(Arc::new(move |incoming| {
                admission::let_in(&admission, incoming)
            }))
            .accept(iroh_blobs::ALPN, served)
            .spawn();
        Ok(Self {
            endpoint,
            router,
            cache,
            blobs,
            offered,
            addresses,
            connections: Arc::default(),
            fetches: Arc::new(Semaphore::new(MAX_FETCHES)),
            meter,
        })
    }

    /// UDP ports that were bound.
    pub(super) fn ports(&self) -> Vec<SocketAddr> {
        self.endpoint.bound_sockets()
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
                Err(why) => tried.push((*provider, why)),
            }
        }
        Err(FetchError::Failed {
            hash: hash.to_string(),
            tried,
        })
    }

    /// Size first, then content: a provider that lies about the size costs one chunk.
    async fn fetch_from(&self, blob: BlobRef, provider: PeerId) -> Result<Blob, String> {
        let connection = self.connect(provider).await?;
        let hash = serve::to_iroh(blob.hash);
        let sized = iroh_blobs::get::request::get_verified_size(&connection, &hash);
        let (size, _) = within(SIZE, "tell the size", sized).await?;
        if size != blob.size {
            return Err(format!(
                "has {size} bytes under this hash, {} were promised",
                blob.size
            ));
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
            .ok_or_else(|| "sent other bytes than promised".into())
    }

    async fn connect(&self, peer: PeerId) -> Result<Connection, String> {
        let held = self.connections().get(&peer).cloned();
        if let Some(connection) = held
            && connection.close_reason().is_none()
        {
            return Ok(connection);
        }
        let id = keys::to_iroh(peer).ok_or("has a name that is no key")?;
        let sockets = {
            let known = self.addresses.lock();
            known.get(&peer).cloned().unwrap_or_default()
        };
        if sockets.is_empty() {
            return Err("has no known address".into());
        }
        let address = EndpointAddr::new(id).with_addrs(sockets.into_iter().map(TransportAddr::Ip));
        let connecting = self.endpoint.connect(address, iroh_blobs::ALPN);
        let connection = within(CONNECT, "connect", connecting).await?;
        self.connections().insert(peer, connection.clone());
        Ok(connection)
    }

    fn connections(&self) -> parking_lot::MutexGuard<'_, BTreeMap<PeerId, Connection>> {
        let mut held = self.connections.lock();
        held.retain(|_, connection| connection.close_reason().is_none());
        held
    }

    /// Closes the sockets.
    pub(super) async fn shutdown(&self) {
        if let Err(why) = self.router.shutdown().await {
            tracing::debug!("the data plane closed with: {why}");
        }
    }
}

/// Everything that would look outside (relays, DNS, port mapping) is off.
async fn bind(seed: &[u8; 32], listen: SocketAddr) -> Result<Endpoint, String> {
    let mut last = String::new();
    for _ in 0..BINDS {
        let builder = Endpoint::builder(presets::Minimal)
            .secret_key(keys::iroh_key(seed))
            .relay_mode(RelayMode::Disabled)
            .portmapper_config(PortmapperConfig::Disabled)
            .clear_ip_transports()
            .bind_addr(listen)
            .map_err(|e| e.to_string())?;
        match builder.bind().await {
            Ok(endpoint) => return Ok(endpoint),
            Err(why) => last = why.to_string(),
        }
    }
    Err(last)
}

async fn within<T, E: std::fmt::Display>(
    limit: Duration,
    what: &str,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match tokio::time::timeout(limit, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(why)) => Err(format!("did not {what}: {why}")),
        Err(_) => Err(format!("did not {what} within {} s", limit.as_secs())),
    }
}
