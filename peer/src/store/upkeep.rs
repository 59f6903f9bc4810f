//! The ledger of a stopped home, opened to make it smaller.
//!
//! Rows go before the blobs that they name: a record may lack no blob that it relies on, and a blob that nobody names harms
//! nobody. A crash between the two leaves such blobs, which the next collection finds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use redb::Database;
use tributary_protocol::event::Record;
use tributary_protocol::id::BlobHash;

use super::{Blobs, CACHE_BYTES, Checks, StoreError, error, tables};
use crate::home::Home;

/// The writable ledger and blobs of a home that no daemon holds.
#[derive(Debug)]
pub(crate) struct Upkeep {
    path: PathBuf,
    database: Database,
    blobs: Blobs,
}

impl Upkeep {
    /// Opens the ledger of a home that this process holds. Every page is checked, and unfinished blobs are removed.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::DamagedFile`], [`StoreError::Version`] and the failures of the disk.
    pub(crate) fn open(home: &Home) -> Result<Self, StoreError> {
        let path = home.paths().ledger();
        if !path.is_file() {
            return Err(StoreError::Missing(path));
        }
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        builder.set_check_integrity_on_open(true);
        let opened = error::guarded(&path, || builder.open(&path));
        let database = opened?.map_err(|e| StoreError::opening(&path, e))?;
        Self::of(path, database, Blobs::open(home.paths().blobs())?)
    }

    fn of(path: PathBuf, database: Database, blobs: Blobs) -> Result<Self, StoreError> {
        tables::prepare(&database)?;
        Ok(Self {
            path,
            database,
            blobs,
        })
    }

    /// Every record except blobs.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub(crate) fn records(&self) -> Result<Vec<Record>, StoreError> {
        tables::load(&self.database, Checks::Made)
    }

    /// Every blob and its size in bytes.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub(crate) fn blobs(&self) -> Result<BTreeMap<BlobHash, u64>, StoreError> {
        self.blobs.list()
    }

    /// Removes records that do not stay and writes `mark`, all in one commit.
    ///
    /// # Errors
    /// [`StoreError`]; then all of them are there.
    pub(crate) fn retain(
        &self,
        stays: &dyn Fn(&Record) -> bool,
        mark: Option<&Record>,
    ) -> Result<(), StoreError> {
        tables::retain(&self.database, stays, mark)
    }

    /// Removes blobs that no record relies on any more; returns how many there were.
    ///
    /// # Errors
    /// When one cannot be removed; the others may be gone.
    pub(crate) fn remove_blobs(&self, hashes: &BTreeSet<BlobHash>) -> Result<u64, StoreError> {
        self.blobs.remove(hashes)
    }

    /// Gives free pages of the ledger back to the disk, and closes it. Returns the bytes of the file then.
    ///
    /// # Errors
    /// When the disk refuses; every record is there all the same.
    pub(crate) fn compact(mut self) -> Result<u64, StoreError> {
        let path = self.path;
        match self.database.compact() {
            Ok(_) => {}
            Err(redb::CompactionError::Storage(e)) => {
                return Err(StoreError::running("compact", e.into()));
            }
            Err(e) => {
                return Err(StoreError::Io {
                    doing: "compact",
                    path,
                    why: e.to_string(),
                });
            }
        }
        self.database
            .close()
            .map_err(|e| StoreError::opening(&path, e))?;
        let file = fs::metadata(&path).map_err(|e| StoreError::io("look at", &path, &e))?;
        Ok(file.len())
    }
}

#[cfg(test)]
mod tests;
