//! What is handed out: offered blobs, read from the disk when asked for, to a bounded number of
//! strangers.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use iroh_blobs::Hash;
use iroh_blobs::provider::events::{
    AbortReason, ConnectMode, EventMask, EventResult, EventSender, ObserveMode, ProviderMessage,
    RequestMode, RequestUpdate, ThrottleMode,
};
use iroh_blobs::store::mem::MemStore;
use iroh_blobs::store::{ProtectCb, ProtectOutcome};
use parking_lot::Mutex;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{BlobHash, PeerId};

use super::super::admission::Admission;
use super::super::keys;
use super::super::limit::Kind;
use super::super::traffic::Meter;
use crate::store::Blobs;

/// Connections that may be judged at once: twice what the door lets in, since those that it closes are
/// reported a moment later.
const MAX_CONNECTIONS: usize = 512;
/// Connections of one peer: it needs one.
const MAX_PER_PEER: usize = 4;
/// Bytes of offered blobs that the cache keeps after they were asked for.
const CACHE_BYTES: u64 = 256 << 20;
/// Events that may wait; requests wait with them.
const QUEUE: usize = 64;

pub(super) fn to_iroh(hash: BlobHash) -> Hash {
    Hash::from_bytes(*hash.as_bytes())
}

fn from_iroh(hash: &Hash) -> BlobHash {
    BlobHash(Digest::from_bytes(*hash.as_bytes()))
}

/// Hashes that may be served.
#[derive(Clone, Debug, Default)]
pub(super) struct Offered(Arc<Mutex<HashSet<BlobHash>>>);

impl Offered {
    pub(super) fn insert(&self, hash: BlobHash) {
        let mut held = self.0.lock();
        held.insert(hash);
    }
    fn contains(&self, hash: &BlobHash) -> bool {
        let held = self.0.lock();
        held.contains(hash)
    }
}

/// What the sweep of the cache spares.
pub(super) type Protected = Arc<Mutex<Recent>>;

/// Blobs asked for lately, the latest last.
#[derive(Debug, Default)]
pub(super) struct Recent {
    order: Vec<(BlobHash, u64)>,
}

impl Recent {
    /// Notes a use, and forgets the oldest beyond the bound.
    fn touch(&mut self, hash: BlobHash, size: u64) {
        self.order.retain(|(held, _)| *held != hash);
        self.order.push((hash, size));
        let mut total: u64 = self.order.iter().map(|(_, size)| size).sum();
        while total > CACHE_BYTES && self.order.len() > 1 {
            total -= self.order.remove(0).1;
        }
    }

    fn contains(&self, hash: &BlobHash) -> bool {
        self.order.iter().any(|(held, _)| held == hash)
    }
}

/// The callback of the cache's sweep.
pub(super) fn protector(protected: Protected) -> ProtectCb {
    Arc::new(move |live| {
        let recent = protected.lock();
        live.extend(recent.order.iter().map(|(hash, _)| to_iroh(*hash)));
        Box::pin(async { ProtectOutcome::Continue })
    })
}

/// Judges every connection and request of the data plane.
pub(super) fn guard(
    cache: MemStore,
    blobs: Blobs,
    offered: Offered,
    protected: Protected,
    meter: Meter,
    admission: Admission,
) -> EventSender {
    let mask = EventMask {
        connected: ConnectMode::Intercept,
        get: RequestMode::InterceptLog,
        get_many: RequestMode::Disabled,
        push: RequestMode::Disabled,
        observe: ObserveMode::Intercept,
        throttle: ThrottleMode::None,
    };
    let (sender, mut events) = EventSender::channel(QUEUE, mask);
    let server = Arc::new(BlobServer {
        cache,
        blobs,
        offered,
        protected,
        meter,
        admission,
    });
    tokio::spawn(async move {
        let mut connections: BTreeMap<u64, PeerId> = BTreeMap::new();
        while let Some(event) = events.recv().await {
            server.handle(event, &mut connections).await;
        }
    });
    sender
}

struct BlobServer {
    cache: MemStore,
    blobs: Blobs,
    offered: Offered,
    protected: Protected,
    meter: Meter,
    admission: Admission,
}

impl BlobServer {
    async fn handle(
        self: &Arc<Self>,
        event: ProviderMessage,
        connections: &mut BTreeMap<u64, PeerId>,
    ) {
        match event {
            ProviderMessage::ClientConnected(message) => {
                let answer = match message.endpoint_id {
                    Some(id) => admit(connections, message.connection_id, keys::from_iroh(&id)),
                    None => Err(AbortReason::Permission),
                };
                let _ = message.tx.send(answer).await;
            }
            ProviderMessage::ConnectionClosed(message) => {
                connections.remove(&message.connection_id);
            }
            ProviderMessage::GetRequestReceived(message) => {
                let peer = connections.get(&message.connection_id).copied();
                if peer.is_none_or(|peer| !self.admission.hear(peer, Kind::Request, 0)) {
                    let _ = message.tx.send(Err(AbortReason::RateLimited)).await;
                    return;
                }
                let server = self.clone();
                // Reading the blob may take a while; others are judged meanwhile.
                tokio::spawn(async move {
                    let answer = server.prepare(from_iroh(&message.request.hash)).await;
                    let granted = answer.is_ok();
                    let _ = message.tx.send(answer).await;
                    let mut updates = message.rx;
                    while granted && let Ok(Some(update)) = updates.recv().await {
                        server.count(peer, &update);
                    }
                });
            }
            ProviderMessage::ObserveRequestReceived(message) => {
                let _ = message.tx.send(Err(AbortReason::Permission)).await;
            }
            _ => {}
        }
    }

    fn count(&self, peer: Option<PeerId>, update: &RequestUpdate) {
        let stats = match update {
            RequestUpdate::Completed(done) => &done.stats,
            RequestUpdate::Aborted(done) => &done.stats,
            _ => return,
        };
        if let Some(peer) = peer {
            self.meter.payload_up(peer, stats.payload_bytes_sent);
        }
    }

    /// Puts an offered blob in the cache.
    async fn prepare(&self, hash: BlobHash) -> EventResult {
        if !self.offered.contains(&hash) {
            return Err(AbortReason::Permission);
        }
        if self.recent().contains(&hash) && self.cache.has(to_iroh(hash)).await.unwrap_or(false) {
            return Ok(());
        }
        let blobs = self.blobs.clone();
        let read = tokio::task::spawn_blocking(move || blobs.read(hash)).await;
        let bytes = match read {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Err(why)) => {
                tracing::warn!("cannot serve a blob: {why}");
                return Err(AbortReason::Permission);
            }
            _ => return Err(AbortReason::Permission),
        };
        self.recent().touch(hash, bytes.len() as u64);
        match self.cache.add_bytes(bytes).temp_tag().await {
            // The tag may go: the blob is among the recent ones now, which the sweep spares.
            Ok(_) => Ok(()),
            Err(_) => Err(AbortReason::RateLimited),
        }
    }

    fn recent(&self) -> parking_lot::MutexGuard<'_, Recent> {
        self.protected.lock()
    }
}

fn admit(connections: &mut BTreeMap<u64, PeerId>, id: u64, peer: PeerId) -> EventResult {
    let of_peer = connections.values().filter(|other| **other == peer).count();
    if connections.len() >= MAX_CONNECTIONS || of_peer >= MAX_PER_PEER {
        return Err(AbortReason::RateLimited);
    }
    connections.insert(id, peer);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_protocol::hash;

    #[test]
    fn connections_of_one_peer_and_of_all_are_bounded() {
        let mut open = BTreeMap::new();
        let peer = |n: u64| PeerId(hash::blob(&n.to_le_bytes()));
        let of_one = (0..10).filter(|id| admit(&mut open, *id, peer(0)).is_ok());
        assert_eq!(of_one.count(), MAX_PER_PEER);
        let of_all = (100..1000).filter(|id| admit(&mut open, *id, peer(*id)).is_ok());
        assert_eq!(of_all.count(), MAX_CONNECTIONS - MAX_PER_PEER);
    }

    #[test]
    fn cache_keeps_the_latest_within_its_bound() {
        let mut recent = Recent::default();
        let name = |n: u8| BlobHash(hash::blob(&[n]));
        for n in 0..10 {
            recent.touch(name(n), CACHE_BYTES / 4);
            recent.touch(name(0), CACHE_BYTES / 4);
        }
        assert!(recent.contains(&name(0)) && recent.contains(&name(9)));
        assert!(!recent.contains(&name(5)));
        assert!(recent.order.iter().map(|(_, size)| size).sum::<u64>() <= CACHE_BYTES);
    }
}
