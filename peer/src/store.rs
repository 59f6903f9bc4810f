//! What survives a crash: the ledger in redb, blobs in files, one writer for both.
//!
//! A [`Record`] is acknowledged only after the commit that holds it has returned. One thread writes;
//! what waits while it commits goes into the next commit together (group commit), so a burst of
//! barriers costs one sync. Commits are two-phase with quick repair, because the bytes in them come
//! from strangers.
//!
//! Blobs of every size are files `blobs/HASH` (written beside, synced, renamed, folder synced):
//! adapters of large models do not belong in a B-tree, they are served and read whole, and their name
//! checks them. The data plane's own store is a cache that is filled from here.
//!
//! After the first failed write nothing is acknowledged any more: the file may hold anything from
//! there on except a loss of what was acknowledged before, and only a restart can tell.

mod blobs;
#[cfg(test)]
pub(crate) mod disk;
mod error;
mod memory;
mod reader;
mod tables;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use redb::Database;
use tokio::sync::oneshot;
use tributary_protocol::event::Record;
use tributary_protocol::id::BlobHash;

use crate::home::HomePaths;

pub use blobs::Blobs;
pub(crate) use blobs::is_left_over;
pub use error::StoreError;
pub use reader::LedgerReader;
pub(crate) use reader::{Checks, LedgerFile};
pub(crate) use upkeep::Upkeep;

/// Jobs that one commit takes at most; bounds the memory of a batch.
const MAX_BATCH: usize = 256;
/// Memory that redb may use for pages. A ledger is read once at the start and then appended to.
const CACHE_BYTES: usize = 16 << 20;

/// The writable store of a running daemon.
#[derive(Debug)]
pub struct Store {
    database: Arc<Database>,
    blobs: Blobs,
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    failed: Arc<Mutex<Option<StoreError>>>,
}

struct Job {
    records: Vec<Record>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// Resolves when the records are durable, or to the reason why they are not.
#[derive(Debug)]
pub struct Durable(oneshot::Receiver<Result<(), StoreError>>);

impl Durable {
    /// Waits for the commit.
    ///
    /// # Errors
    /// See [`StoreError`]; nothing may be acknowledged then.
    pub async fn wait(self) -> Result<(), StoreError> {
        self.0.await.unwrap_or(Err(StoreError::Closed))
    }

    /// As [`Durable::wait`], for a `select!` that may come back to it.
    pub(crate) async fn ready(&mut self) -> Result<(), StoreError> {
        (&mut self.0).await.unwrap_or(Err(StoreError::Closed))
    }

    /// As [`Durable::wait`], for threads.
    ///
    /// # Errors
    /// See [`Durable::wait`].
    pub fn wait_blocking(self) -> Result<(), StoreError> {
        self.0.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }
}

impl Store {
    /// Opens the ledger of a home, or makes an empty one. Every page is checked.
    ///
    /// # Errors
    /// [`StoreError::DamagedFile`], [`StoreError::Version`], [`StoreError::InUse`] and the failures of
    /// the disk.
    pub fn open(paths: &HomePaths) -> Result<Self, StoreError> {
        let path = paths.ledger();
        if !path.exists() {
            create(paths)?;
        }
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        builder.set_check_integrity_on_open(true);
        let opened = error::guarded(&path, || builder.open(&path));
        let database = opened?.map_err(|e| StoreError::opening(&path, e))?;
        Self::with_database(database, Blobs::open(paths.blobs())?)
    }

    fn with_database(database: Database, blobs: Blobs) -> Result<Self, StoreError> {
        tables::prepare(&database)?;
        let database = Arc::new(database);
        let failed = Arc::new(Mutex::new(None));
        let (jobs, queue) = mpsc::channel();
        let writer = Writer {
            database: database.clone(),
            blobs: blobs.clone(),
            failed: failed.clone(),
        };
        let writer = std::thread::Builder::new()
            .name("tributary-store".into())
            .spawn(move || writer.run(&queue))
            .map_err(|e| StoreError::Io {
                doing: "start the writer thread of",
                path: blobs.folder().to_owned(),
                why: e.to_string(),
            })?;
        Ok(Self {
            database,
            blobs,
            jobs: Some(jobs),
            writer: Some(writer),
            failed,
        })
    }

    /// Queues records for the next commit. Records of one call become durable together; calls become
    /// durable in order.
    pub fn persist(&self, records: Vec<Record>) -> Durable {
        let (done, wait) = oneshot::channel();
        if let Some(jobs) = &self.jobs {
            // A writer that is gone drops the sender, which the waiter sees as `Closed`.
            let _ = jobs.send(Job { records, done });
        }
        Durable(wait)
    }

    /// Every record except blobs, each kind in the order it was persisted.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names the table and the key.
    pub fn load_all(&self) -> Result<Vec<Record>, StoreError> {
        tables::load(&*self.database, Checks::Made)
    }

    /// Hashes of the blobs that are durable.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn blob_hashes(&self) -> Result<BTreeSet<BlobHash>, StoreError> {
        Ok(self.blobs.list()?.into_keys().collect())
    }

    /// The durable blobs.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Why the store stopped, if it did.
    pub fn failure(&self) -> Option<StoreError> {
        self.failed.lock().clone()
    }
}

#[cfg(test)]
impl Store {
    /// On a disk that fails as told once the empty ledger is there.
    pub(crate) fn on_disk(paths: &HomePaths, fault: disk::Fault) -> Self {
        let disk = disk::Disk::new(disk::Fault::Never);
        let database = Database::builder()
            .create_with_backend(disk.clone())
            .unwrap();
        tables::prepare(&database).unwrap();
        disk.arm(fault);
        Self::with_database(database, Blobs::open(paths.blobs()).unwrap()).unwrap()
    }
}

/// Makes an empty ledger beside its place and renames it, because a crash while redb writes its first
/// pages leaves a file that is no database.
fn create(paths: &HomePaths) -> Result<(), StoreError> {
    let path = paths.ledger();
    let fresh = path.with_extension("new");
    let io = |e: std::io::Error| StoreError::io("create the ledger", &path, &e);
    // An empty file that others cannot read; redb fills it.
    drop(crate::home::disk::create(&fresh).map_err(io)?);
    let database = Database::create(&fresh).map_err(|e| StoreError::opening(&path, e))?;
    tables::prepare(&database)?;
    database
        .close()
        .map_err(|e| StoreError::opening(&path, e))?;
    crate::home::disk::rename(&fresh, &path).map_err(io)
}

impl Drop for Store {
    /// Commits what is queued and closes the file.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the ledger panicked");
        }
    }
}

struct Writer {
    database: Arc<Database>,
    blobs: Blobs,
    failed: Arc<Mutex<Option<StoreError>>>,
}

impl Writer {
    fn run(self, queue: &mpsc::Receiver<Job>) {
        let mut failure: Option<StoreError> = None;
        while let Ok(first) = queue.recv() {
            let mut batch = vec![first];
            while batch.len() < MAX_BATCH
                && let Ok(next) = queue.try_recv()
            {
                batch.push(next);
            }
            let outcome = match &failure {
                Some(first) => Err(StoreError::Stopped(first.to_string())),
                None => self.commit(batch.iter().flat_map(|job| &job.records)),
            };
            if let (Err(why), None) = (&outcome, &failure) {
                failure = Some(why.clone());
                *self.failed.lock() = Some(why.clone());
            }
            for job in batch {
                let _ = job.done.send(outcome.clone());
            }
        }
    }

    /// Blobs first: a record in the ledger may name a blob, never the other way round.
    fn commit<'a>(&self, records: impl Iterator<Item = &'a Record>) -> Result<(), StoreError> {
        let (blobs, rest): (Vec<_>, Vec<_>) =
            records.partition(|record| matches!(record, Record::Blob { .. }));
        let mut fresh = false;
        for record in blobs {
            if let Record::Blob { hash, bytes } = record {
                fresh |= self.blobs.write(*hash, bytes)?;
            }
        }
        if fresh {
            self.blobs.sync()?;
        }
        if rest.is_empty() {
            return Ok(());
        }
        tables::write(&self.database, &rest)
    }
}
