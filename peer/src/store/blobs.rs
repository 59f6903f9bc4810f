//! Durable blobs: files named by their hash.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tributary_protocol::hash;
use tributary_protocol::id::BlobHash;

use super::StoreError;
use crate::home::disk;

/// Suffix of files that are not finished; removed at the next start.
const UNFINISHED: &str = "part";
/// Suffix of files that did not have their hash when they were read.
const DAMAGED: &str = "damaged";
/// Tells unfinished files of one process apart.
static NEXT_PART: AtomicU64 = AtomicU64::new(0);

/// Whether a file of the folder was never finished, or was set aside: nothing relies on it.
pub(crate) fn is_left_over(path: &Path) -> bool {
    path.extension()
        .is_some_and(|end| end == UNFINISHED || end == DAMAGED)
}

/// The folder of blobs. Cheap to clone; reads need no lock, because a file never changes once it has
/// its name.
#[derive(Clone, Debug)]
pub struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    /// Opens the folder, makes it if needed, and removes what a crash left unfinished.
    pub(super) fn open(folder: PathBuf) -> Result<Self, StoreError> {
        let io = |e: io::Error| StoreError::io("open the blob folder", &folder, &e);
        disk::make_folder(&folder).map_err(io)?;
        for entry in fs::read_dir(&folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.extension().is_some_and(|e| e == UNFINISHED) {
                fs::remove_file(&path).map_err(io)?;
            }
        }
        // A blob of an earlier life counts as written: its name must be durable before a record relies on it.
        disk::sync_folder(&folder).map_err(io)?;
        Ok(Self { folder })
    }

    /// For reading only: nothing is made or removed.
    pub(crate) fn read_only(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, hash: BlobHash) -> PathBuf {
        self.folder.join(hash.to_string())
    }

    /// Writes a blob under its name; true when it is new. Durable after [`Blobs::sync`].
    pub(super) fn write(&self, hash: BlobHash, bytes: &[u8]) -> Result<bool, StoreError> {
        let path = self.path(hash);
        // A file of the right length was renamed after its content was synced. One whose content was
        // damaged since is set aside by whoever reads it.
        if fs::metadata(&path).is_ok_and(|m| m.len() == bytes.len() as u64) {
            return Ok(false);
        }
        let part = self.folder.join(format!(
            "{}-{}.{UNFINISHED}",
            hash.short(),
            NEXT_PART.fetch_add(1, Ordering::Relaxed)
        ));
        let write = || -> io::Result<()> {
            let mut file = disk::create(&part)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, &path)
        };
        write().map_err(|e| {
            let _ = fs::remove_file(&part);
            StoreError::io("write the blob", &path, &e)
        })?;
        Ok(true)
    }

    /// Makes the names of new blobs durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        disk::sync_folder(&self.folder)
            .map_err(|e| StoreError::io("sync the blob folder", &self.folder, &e))
    }

    /// A blob, its content checked against its name.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the content has changed on the disk; see [`Blobs::set_aside`].
    pub fn read(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, StoreError> {
        let stored = self.stored(hash);
        let Some(bytes) =
            stored.map_err(|e| StoreError::io("read the blob", &self.path(hash), &e))?
        else {
            return Ok(None);
        };
        if BlobHash(hash::blob(&bytes)) == hash {
            return Ok(Some(bytes));
        }
        Err(StoreError::Damaged {
            table: "blobs",
            key: hash.to_string(),
            why: "its content does not have the hash that is its name".into(),
        })
    }

    /// The bytes under a name, whatever they are.
    fn stored(&self, hash: BlobHash) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(hash)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Moves a damaged blob out of the way (`HASH.damaged`), so that it can be fetched again.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn set_aside(&self, hash: BlobHash) -> Result<(), StoreError> {
        let path = self.path(hash);
        let aside = self.folder.join(format!("{hash}.{DAMAGED}"));
        disk::rename(&path, &aside).map_err(|e| StoreError::io("set aside the blob", &path, &e))
    }

    /// Removes blobs, those that are there; returns how many. Nothing may rely on them any more, on the disk.
    pub(super) fn remove<'a>(
        &self,
        hashes: impl IntoIterator<Item = &'a BlobHash>,
    ) -> Result<u64, StoreError> {
        let mut removed = 0;
        for hash in hashes {
            let path = self.path(*hash);
            match fs::remove_file(&path) {
                Ok(()) => removed += 1,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(StoreError::io("remove the blob", &path, &e)),
            }
        }
        self.sync()?;
        Ok(removed)
    }

    /// Every blob and its size in bytes.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn list(&self) -> Result<BTreeMap<BlobHash, u64>, StoreError> {
        let io = |e: io::Error| StoreError::io("list the blob folder", &self.folder, &e);
        let mut out = BTreeMap::new();
        for entry in fs::read_dir(&self.folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = entry.file_name();
            if let Some(hash) = name.to_str().and_then(|name| name.parse().ok()) {
                out.insert(hash, entry.metadata().map_err(io)?.len());
            }
        }
        Ok(out)
    }
}

impl tributary_ledger::Blobs for Blobs {
    fn bytes(&self, hash: BlobHash) -> io::Result<Option<Vec<u8>>> {
        self.stored(hash)
    }

    fn holds(&self, hash: BlobHash) -> bool {
        self.path(hash).exists()
    }

    fn names(&self) -> Vec<BlobHash> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let name = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        entries.filter_map(name).collect()
    }
}
