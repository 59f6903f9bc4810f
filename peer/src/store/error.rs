//! What can go wrong with the store, and what its owner can do.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// A failure of the store. Cloneable, because everyone who waits for a commit is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full.
    #[error(
        "the disk is full ({0}). Nothing is acknowledged any more, and nothing acknowledged before is \
         lost. Free some space, then start the daemon again"
    )]
    Full(String),
    /// A record does not pass its checksum, or a blob its name.
    #[error(
        "the ledger is damaged: table {table}, key {key}: {why}. Restore the home from a backup, or \
         move it away and join again under a new key"
    )]
    Damaged {
        /// The table.
        table: &'static str,
        /// The key, in hexadecimal.
        key: String,
        /// What does not hold.
        why: String,
    },
    /// The database file does not pass its own checks.
    #[error(
        "{path} is damaged: {why}. It was left as it is. Restore the home from a backup, or move it \
         away and join again under a new key (a peer that forgot its votes must not vote again)"
    )]
    DamagedFile {
        /// The file.
        path: PathBuf,
        /// What the database says.
        why: String,
    },
    /// Written by another version.
    #[error(
        "the ledger has version {found}, this program reads version {known}; use the version of \
         tributary that wrote it"
    )]
    Version {
        /// In the file.
        found: u64,
        /// In the program.
        known: u64,
    },
    /// A table that this program does not know.
    #[error(
        "the ledger has a table `{0}` that this program does not know, and it would lose what is in it; use the \
         version of tributary that wrote it"
    )]
    UnknownTable(String),
    /// Another process has the ledger open.
    #[error("{0} is in use by a running daemon; stop the daemon first (`tributary down`)")]
    InUse(PathBuf),
    /// There is no ledger.
    #[error("no ledger at {0}; is this the home of a peer that has run before?")]
    Missing(PathBuf),
    /// An earlier write failed.
    #[error("the store has stopped after an earlier failure: {0}")]
    Stopped(String),
    /// The store was shut down.
    #[error("the store is closed")]
    Closed,
    /// The system refused.
    #[error("could not {doing} {path}: {why}; check the disk and the permissions of the home")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
}

impl StoreError {
    pub(super) fn io(doing: &'static str, path: &Path, e: &io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full(format!("could not {doing} {}", path.display()))
            }
            _ => Self::Io {
                doing,
                path: path.to_owned(),
                why: e.to_string(),
            },
        }
    }

    pub(super) fn opening(path: &Path, e: redb::DatabaseError) -> Self {
        match e {
            redb::DatabaseError::DatabaseAlreadyOpen => Self::InUse(path.to_owned()),
            redb::DatabaseError::Storage(redb::StorageError::Io(e))
                if e.kind() != io::ErrorKind::InvalidData =>
            {
                Self::io("open the ledger", path, &e)
            }
            other => Self::DamagedFile {
                path: path.to_owned(),
                why: other.to_string(),
            },
        }
    }

    /// A failure of a running database.
    pub(super) fn running(doing: &'static str, e: redb::Error) -> Self {
        let path = Path::new("ledger.redb");
        match e {
            redb::Error::Io(e) => Self::io(doing, path, &e),
            redb::Error::Corrupted(why) => Self::DamagedFile {
                path: path.to_owned(),
                why,
            },
            other => Self::Io {
                doing,
                path: path.to_owned(),
                why: other.to_string(),
            },
        }
    }
}

/// Runs a read of a file that strangers or a failing disk may have changed. redb's assertions may
/// panic on such a file; that is a damaged file, not a fault of ours.
pub(super) fn guarded<T>(path: &Path, read: impl FnOnce() -> T) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|_| StoreError::DamagedFile {
        path: path.to_owned(),
        why: "its pages contradict each other".into(),
    })
}
