//! The ledger of a stopped peer, read without touching it.
//!
//! `ledger verify` must not change what it verifies, and must work on a home that was killed in the
//! middle of a commit. The database file is small (blobs are files), so it is read into memory, and
//! recovery, if it needs any, happens on that copy. Every page is checked on the way.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use redb::Database;
use tributary_protocol::event::Record;
use tributary_protocol::hash::{self, Digest};
use tributary_protocol::id::BlobHash;

use super::memory::Memory;
use super::{Blobs, StoreError, error, tables};
use crate::home::{self, HomePaths};

/// What is checked of a file beside its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checks {
    /// Every page and row.
    Made,
    /// Nothing: the caller knows that the same bytes were checked before.
    MadeBefore,
}

/// The file of a stopped peer's ledger, nothing of it decoded.
#[derive(Debug)]
pub(crate) struct LedgerFile {
    path: PathBuf,
    bytes: Vec<u8>,
    blobs: Blobs,
}

impl LedgerFile {
    /// Reads the file.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while a daemon runs on the home; [`StoreError::Missing`]; the failures of the disk.
    pub(crate) fn read(paths: &HomePaths) -> Result<Self, StoreError> {
        let path = paths.ledger();
        if !path.is_file() {
            return Err(StoreError::Missing(path));
        }
        if home::is_held(paths) {
            return Err(StoreError::InUse(paths.root().to_owned()));
        }
        let bytes = fs::read(&path).map_err(|e| StoreError::io("read the ledger", &path, &e))?;
        let blobs = Blobs::read_only(paths.blobs());
        Ok(Self { path, bytes, blobs })
    }

    /// BLAKE3 of every byte.
    pub(crate) fn hash(&self) -> Digest {
        hash::blob(&self.bytes)
    }

    /// Decodes it.
    ///
    /// # Errors
    /// [`StoreError::DamagedFile`] and [`StoreError::Damaged`] say what does not hold.
    pub(crate) fn decode(self, checks: Checks) -> Result<LedgerReader, StoreError> {
        let Self { path, bytes, blobs } = self;
        let records = error::guarded(&path, || load(&path, bytes, checks))??;
        Ok(LedgerReader { records, blobs })
    }
}

/// Everything a stopped peer keeps.
#[derive(Debug)]
pub struct LedgerReader {
    records: Vec<Record>,
    blobs: Blobs,
}

impl LedgerReader {
    /// Reads the ledger of a home.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while a daemon runs on it; [`StoreError::Missing`];
    /// [`StoreError::DamagedFile`] and [`StoreError::Damaged`] say what does not hold.
    pub fn open(paths: &HomePaths) -> Result<Self, StoreError> {
        LedgerFile::read(paths)?.decode(Checks::Made)
    }

    /// Every record except blobs, each kind in the order it was persisted.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// A blob, checked against its name.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when its content has changed.
    pub fn blob(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, StoreError> {
        self.blobs.read(hash)
    }

    /// Every blob and its size in bytes.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn blobs(&self) -> Result<BTreeMap<BlobHash, u64>, StoreError> {
        self.blobs.list()
    }
}

fn load(path: &Path, bytes: Vec<u8>, checks: Checks) -> Result<Vec<Record>, StoreError> {
    if bytes.is_empty() {
        return Err(StoreError::DamagedFile {
            path: path.to_owned(),
            why: "it is empty".into(),
        });
    }
    let mut builder = Database::builder();
    builder.set_check_integrity_on_open(checks == Checks::Made);
    let database = builder
        .create_with_backend(Memory::new(bytes))
        .map_err(|e| StoreError::opening(path, e))?;
    tables::load(&database, checks)
}
