//! Fetching a base model from the peers that have it.
//!
//! ```text
//!   listing (by the manifest's hash) ─▶ bounds, free disk ─▶ pieces of up to four providers at a time, each checked
//!     ─▶ cache/bases/HASH.tributary-part ─▶ renamed, loaded, its hash the manifest's? ─▶ bases.json
//! ```
//! A base counts once `bases.json` names it. Until then everything that is there may be lost, and whatever survives is
//! used again. A provider whose bytes are wrong is asked no more; one that breaks off or is busy is asked again later,
//! and meanwhile the others are.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tributary_protocol::id::{BlobRef, PeerId, RunId};
use tributary_protocol::listing::{Listing, ListingError};
use tributary_protocol::manifest::Base;

use super::parts::Parts;
use super::share::{self, ShareError};
use super::{ModelError, provide};
use crate::home::{HomePaths, disk};
use crate::net::{Net, PieceError};
use crate::settings::MIB;

/// Providers that are asked at a time: more would share the same line, and each has a piece in memory.
const MAX_PROVIDERS: usize = 4;
/// How long nothing may come of any provider before the fetch gives up: a peer restarts within it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a provider is left alone after it broke off or had nothing.
const PAUSE: Duration = Duration::from_secs(5);
/// And after it was busy.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked whether there are other providers.
const LOOK: Duration = Duration::from_millis(250);
/// Free disk that a base leaves: the ledger and the blobs of runs are to find room.
pub(crate) const RESERVE: u64 = 256 << 20;

/// Why a base was not fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaseFetchError {
    /// The run's creator did not let members hand it on.
    #[error("the run's creator does not let members hand its base {0} on")]
    NotShared(String),
    /// Nobody gave it.
    #[error("{done} of {total} bytes of the base are here, and nothing more came for {} s: {}", PATIENCE.as_secs(), whys(.tried))]
    NoProvider {
        /// Bytes that are kept.
        done: u64,
        /// Bytes in all; 0 while not even the listing came.
        total: u64,
        /// Who was asked, and what came of it.
        tried: BTreeMap<PeerId, PieceError>,
    },
    /// A listing that no peer may rely on.
    #[error("the run's creator published a listing of its base that is refused: {0}")]
    Listing(#[from] ListingError),
    /// More than the owner gives.
    #[error("the base has {} MiB, and this peer gives a base {most_mib} MiB", .bytes.div_ceil(MIB))]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The bound.
        most_mib: u64,
    },
    /// Too little room.
    #[error(
        "the base needs {need} more bytes in {folder}, where {free} are free and {RESERVE} are to stay so for the ledger"
    )]
    Disk {
        /// Bytes that are missing.
        need: u64,
        /// Bytes that are free.
        free: u64,
        /// Where.
        folder: PathBuf,
    },
    /// The disk refused.
    #[error(
        "cannot write the base to {folder}: {source}; {done} of {total} bytes are here and stay"
    )]
    Write {
        /// Where.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
        /// Bytes that are kept.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The listing could not be kept.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// Every file is as listed, and they are not the run's base.
    #[error("the files that the run's creator listed are not the run's base: {0}")]
    Model(#[from] ModelError),
    /// A thread of this program ended before its time.
    #[error("a defect of this program: {0}")]
    Defect(String),
}

fn whys(tried: &BTreeMap<PeerId, PieceError>) -> String {
    let each = tried
        .iter()
        .map(|(peer, why)| format!("{} {why}", peer.short()));
    match tried.is_empty() {
        true => "no connected peer follows the run".to_owned(),
        false => each.collect::<Vec<_>>().join("; "),
    }
}

/// How far a fetch is. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<Mutex<Far>>);

#[derive(Default)]
struct Far {
    /// Bytes of checked pieces.
    done: u64,
    total: u64,
    /// Pieces under way.
    coming: BTreeMap<u32, (PeerId, Arc<AtomicU64>)>,
    /// Bytes that came since the beginning.
    fetched: u64,
    began: Option<Instant>,
}

/// How far a fetch is at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FarAt {
    /// Bytes that are here.
    pub(crate) done: u64,
    /// Bytes in all; 0 before the listing is here.
    pub(crate) total: u64,
    /// Bytes a second since the fetch began.
    pub(crate) rate: u64,
    /// Peers that send.
    pub(crate) providers: Vec<PeerId>,
}

impl Progress {
    /// Where it stands.
    pub(crate) fn at(&self) -> FarAt {
        let far = self.0.lock();
        let coming: u64 = (far.coming.values())
            .map(|(_, arrived)| arrived.load(Ordering::Relaxed))
            .sum();
        let spent = far
            .began
            .map_or(0, |began| began.elapsed().as_millis() as u64);
        let providers: BTreeSet<PeerId> = far.coming.values().map(|(peer, _)| *peer).collect();
        FarAt {
            done: far.done + coming,
            total: far.total,
            rate: (far.fetched + coming) * 1000 / spent.max(1),
            providers: providers.into_iter().collect(),
        }
    }

    fn begin(&self, total: u64, done: u64) {
        let mut far = self.0.lock();
        (far.done, far.total) = (done, total);
        far.began = Some(Instant::now());
    }

    fn coming(&self, number: u32, from: PeerId) -> Arc<AtomicU64> {
        let arrived = Arc::new(AtomicU64::new(0));
        (self.0.lock().coming).insert(number, (from, arrived.clone()));
        arrived
    }

    fn came(&self, number: u32, kept: u64) {
        let mut far = self.0.lock();
        far.coming.remove(&number);
        far.done += kept;
        far.fetched += kept;
    }
}

/// What is fetched, for whom.
pub(crate) struct BaseFetch<'a> {
    pub(crate) net: &'a Net,
    pub(crate) home: &'a HomePaths,
    pub(crate) run: RunId,
    pub(crate) base: &'a Base,
    /// The most that the owner gives a base, in MiB.
    pub(crate) most_mib: u64,
    /// Free bytes at a place, where the system tells.
    pub(crate) free: &'a (dyn Fn(&Path) -> Option<u64> + Send + Sync),
    pub(crate) progress: &'a Progress,
}

/// Whom to ask, and what they did.
#[derive(Default)]
struct Asked {
    tried: BTreeMap<PeerId, PieceError>,
    /// Not before these moments.
    paused: BTreeMap<PeerId, Instant>,
    /// Whose bytes were wrong.
    dropped: BTreeSet<PeerId>,
    /// Who sends now.
    busy: BTreeSet<PeerId>,
}

impl Asked {
    /// Takes a failure down.
    fn failed(&mut self, peer: PeerId, why: PieceError) {
        let pause = match why {
            PieceError::Busy => BUSY_PAUSE,
            _ => PAUSE,
        };
        self.paused.insert(peer, Instant::now() + pause);
        if why == PieceError::Wrong && self.dropped.insert(peer) {
            tracing::warn!(
                "peer {} {why}; it is asked for nothing more of this base",
                peer.short()
            );
        }
        self.tried.insert(peer, why);
    }

    fn may_ask(&self, peer: &PeerId) -> bool {
        let rests = self
            .paused
            .get(peer)
            .is_some_and(|until| *until > Instant::now());
        !rests && !self.dropped.contains(peer) && !self.busy.contains(peer)
    }
}

/// Fetches a base, loads it and remembers where it is. Called again after any failure, it goes on with what is there.
///
/// # Errors
/// See [`BaseFetchError`].
pub(crate) async fn fetch(job: &BaseFetch<'_>) -> Result<(), BaseFetchError> {
    let files = job.base.files;
    let shared = files.ok_or_else(|| BaseFetchError::NotShared(job.base.name.clone()))?;
    let whole = share::folder(job.home).join(job.base.hash.to_string());
    if !whole.is_dir() {
        let listing = Arc::new(listing(job, shared).await?);
        if listing.total() > job.most_mib * MIB {
            return Err(BaseFetchError::TooLarge {
                bytes: listing.total(),
                most_mib: job.most_mib,
            });
        }
        pieces(job, shared, &listing, &whole).await?;
    }
    let (home, base) = (job.home.clone(), job.base.clone());
    let loaded = blocking(move || {
        let loaded = provide(&home, &base, Some(&whole)).map(|_| ());
        if loaded.is_err() {
            // It will never be the run's base.
            let _ = std::fs::remove_dir_all(&whole);
        }
        loaded
    });
    Ok(loaded.await??)
}

/// The listing: from the home, else from a provider.
pub(crate) async fn listing(
    job: &BaseFetch<'_>,
    shared: BlobRef,
) -> Result<Listing, BaseFetchError> {
    if let Some(kept) = share::kept(job.home, shared) {
        return Ok(kept);
    }
    let (mut asked, began) = (Asked::default(), Instant::now());
    while began.elapsed() < PATIENCE {
        for provider in job.providers() {
            if !asked.may_ask(&provider) {
                continue;
            }
            match job.net.listing(provider, shared).await {
                Ok(bytes) => {
                    let listing = Listing::read(&bytes)?;
                    share::keep(job.home, &bytes)?;
                    return Ok(listing);
                }
                Err(why) => asked.failed(provider, why),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(BaseFetchError::NoProvider {
        done: 0,
        total: 0,
        tried: asked.tried,
    })
}

/// Brings every piece into the folder and gives it its name.
async fn pieces(
    job: &BaseFetch<'_>,
    shared: BlobRef,
    listing: &Arc<Listing>,
    whole: &Path,
) -> Result<(), BaseFetchError> {
    let mut gathering = Gathering::open(job, shared, listing, whole).await?;
    let mut running = FuturesUnordered::new();
    while !gathering.queue.is_empty() || !running.is_empty() {
        for (provider, number) in gathering.wanted(MAX_PROVIDERS - running.len()) {
            running.push(gathering.ask(provider, number));
        }
        match tokio::time::timeout(LOOK, running.next()).await {
            Ok(Some((provider, number, came))) => gathering.take(provider, number, came).await?,
            // Nobody to ask for the moment.
            Ok(None) => tokio::time::sleep(LOOK).await,
            Err(_) => {}
        }
        if running.is_empty() && gathering.heard.elapsed() > PATIENCE {
            return Err(BaseFetchError::NoProvider {
                done: gathering.done(),
                total: gathering.total,
                tried: gathering.asked.tried,
            });
        }
    }
    drop(running);
    gathering.finish(whole.to_owned()).await
}

/// A base that is being put together.
struct Gathering<'a> {
    job: &'a BaseFetch<'a>,
    listing: BlobRef,
    /// Bytes in all.
    total: u64,
    folder: PathBuf,
    parts: Arc<Mutex<Parts>>,
    /// Pieces that are missing and that nobody was asked for.
    queue: BTreeSet<u32>,
    asked: Asked,
    /// When the last piece came.
    heard: Instant,
}

impl<'a> Gathering<'a> {
    /// Opens the folder, and checks that the rest finds room.
    async fn open(
        job: &'a BaseFetch<'a>,
        shared: BlobRef,
        listing: &Arc<Listing>,
        whole: &Path,
    ) -> Result<Self, BaseFetchError> {
        let (folder, total) = (whole.with_extension(disk::UNFINISHED), listing.total());
        job.progress.begin(total, 0);
        let (at, listed, far) = (folder.clone(), listing.clone(), job.progress.clone());
        let open = move || Parts::open(&at, &listed, &mut |bytes| far.0.lock().done += bytes);
        let opened = blocking(open).await?;
        let parts = opened.map_err(|source| BaseFetchError::Write {
            folder: folder.clone(),
            source,
            done: 0,
            total,
        })?;
        let need = parts.missing_bytes();
        room(job, &folder, need, need)?;
        job.progress.begin(total, total - need);
        Ok(Self {
            job,
            listing: shared,
            total,
            folder,
            queue: parts.missing().clone(),
            parts: Arc::new(Mutex::new(parts)),
            asked: Asked::default(),
            heard: Instant::now(),
        })
    }

    /// Bytes that are here.
    fn done(&self) -> u64 {
        self.total - self.parts.lock().missing_bytes()
    }

    /// What to ask of whom now, of at most `most` providers.
    fn wanted(&mut self, most: usize) -> Vec<(PeerId, u32)> {
        let mut wanted = Vec::new();
        for provider in self.job.providers() {
            if wanted.len() == most || !self.asked.may_ask(&provider) {
                continue;
            }
            let Some(number) = self.queue.pop_first() else {
                break;
            };
            self.asked.busy.insert(provider);
            wanted.push((provider, number));
        }
        wanted
    }

    fn ask(
        &self,
        provider: PeerId,
        number: u32,
    ) -> impl Future<Output = (PeerId, u32, Result<Vec<u8>, PieceError>)> + use<'a> {
        let (job, listing) = (self.job, self.listing.hash);
        let content = self.parts.lock().piece(number).content;
        let arrived = job.progress.coming(number, provider);
        async move {
            let piece = (number, content);
            let came = job.net.piece(provider, listing, piece, &arrived).await;
            (provider, number, came)
        }
    }

    /// Puts a piece in its place, or notes why it did not come.
    async fn take(
        &mut self,
        provider: PeerId,
        number: u32,
        came: Result<Vec<u8>, PieceError>,
    ) -> Result<(), BaseFetchError> {
        self.asked.busy.remove(&provider);
        let bytes = match came {
            Ok(bytes) => bytes,
            Err(why) => {
                self.asked.failed(provider, why);
                self.queue.insert(number);
                self.job.progress.came(number, 0);
                return Ok(());
            }
        };
        let (kept, parts) = (bytes.len() as u64, self.parts.clone());
        // Others write on the same disk.
        let need = self.parts.lock().missing_bytes();
        room(self.job, &self.folder, kept, need)?;
        let put = blocking(move || parts.lock().put(number, &bytes)).await?;
        put.map_err(|source| self.refused(source))?;
        self.heard = Instant::now();
        self.job.progress.came(number, kept);
        Ok(())
    }

    /// Gives the folder its name.
    async fn finish(self, whole: PathBuf) -> Result<(), BaseFetchError> {
        let (parts, folder) = (self.parts.clone(), self.folder.clone());
        let finish = move || {
            parts.lock().finish()?;
            disk::rename(&folder, &whole)
        };
        let finished = blocking(finish).await?;
        finished.map_err(|source| self.refused(source))
    }

    fn refused(&self, source: io::Error) -> BaseFetchError {
        BaseFetchError::Write {
            folder: self.folder.clone(),
            source,
            done: self.done(),
            total: self.total,
        }
    }
}

/// Refuses to fill the disk: `now` bytes are about to be written of `need` that are missing.
fn room(job: &BaseFetch<'_>, folder: &Path, now: u64, need: u64) -> Result<(), BaseFetchError> {
    match (job.free)(folder) {
        Some(free) if now > 0 && now + RESERVE > free => Err(BaseFetchError::Disk {
            need,
            free,
            folder: folder.to_owned(),
        }),
        _ => Ok(()),
    }
}

impl BaseFetch<'_> {
    /// Peers that follow the run, connected ones first.
    fn providers(&self) -> Vec<PeerId> {
        let mut followers = (self.net.known_runs().remove(&self.run)).unwrap_or_default();
        let connected: BTreeSet<PeerId> = self.net.connected().into_iter().collect();
        followers.retain(|peer| *peer != self.net.me());
        followers.sort_by_key(|peer| !connected.contains(peer));
        followers
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BaseFetchError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| BaseFetchError::Defect(e.to_string()))
}

/// Free bytes for this user at a place that exists, or above it; nothing where the system does not tell.
pub(crate) fn free_bytes(place: &Path) -> Option<u64> {
    let there = place.ancestors().find(|at| at.exists())?;
    #[cfg(unix)]
    {
        let disk = rustix::fs::statvfs(there).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = there;
        None
    }
}
