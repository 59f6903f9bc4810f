//! Accounts on the disk: a folder that one process holds, with a file of JSON for each owner, written whole before anything is
//! answered or told.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::home::disk;

/// Largest file: channels and what is remembered of their requests take less than a tenth of it, answers that wait for
/// their claim less than half.
const MOST_BYTES: u64 = 1 << 20;
/// What files were called before accounts belonged to addresses.
const OLD: &str = "allowance/1";

/// Why accounts cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Another server of the same home.
    #[error(
        "another server keeps the accounts in {0}; stop that one, or give this one a home of its own"
    )]
    Held(PathBuf),
    /// Not what was written.
    #[error(
        "{path} is damaged ({why}); restore it from a backup. Without it vouchers that were charged would be good again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Of an earlier version.
    #[error(
        "{0} was written by an earlier version, which knew payers by another kind of key; move it away. Nothing of it can be \
         charged or paid any more"
    )]
    Old(PathBuf),
    /// The system refused.
    #[error(
        "cannot read or write {path}: {source}; free some disk space, or make the folder writable"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A folder of accounts that this process holds alone.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    // Held as long as this file is open.
    _lock: File,
}

impl Folder {
    /// Takes the folder, making it first when there is none.
    pub(super) fn open(path: &Path) -> Result<Self, DiskError> {
        let io = |source| DiskError::Io {
            path: path.to_owned(),
            source,
        };
        disk::make_folder(path).map_err(io)?;
        let mut options = disk::private();
        options.read(true).create(true).truncate(false);
        let lock = options.open(path.join("lock")).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(DiskError::Held(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// Every file: its name without the ending, and what it holds.
    pub(super) fn read<F: DeserializeOwned>(&self) -> Result<Vec<(String, F)>, DiskError> {
        let io = |source| DiskError::Io {
            path: self.path.clone(),
            source,
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            let name = path.file_stem().and_then(|name| name.to_str());
            let name = name.unwrap_or_default().to_owned();
            files.push((name, file(&path)?));
        }
        Ok(files)
    }

    /// That the file of that name is none of ours.
    pub(super) fn damaged(&self, name: &str, why: impl Into<String>) -> DiskError {
        DiskError::Damaged {
            path: self.file(name),
            why: why.into(),
        }
    }

    /// Writes one file and waits until it is durable.
    pub(super) fn write(&self, name: &str, value: &impl Serialize) -> Result<(), DiskError> {
        let path = self.file(name);
        let bytes = serde_json::to_vec(value).expect("texts and numbers always serialise");
        disk::write_whole(&path, &bytes).map_err(|source| DiskError::Io { path, source })
    }

    /// Removes one file.
    pub(super) fn remove(&self, name: &str) -> Result<(), DiskError> {
        let path = self.file(name);
        fs::remove_file(&path).map_err(|source| DiskError::Io { path, source })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.json"))
    }
}

fn file<F: DeserializeOwned>(path: &Path) -> Result<F, DiskError> {
    let damaged = |why: String| DiskError::Damaged {
        path: path.to_owned(),
        why,
    };
    let unreadable = |source| DiskError::Io {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(unreadable)?.len() > MOST_BYTES {
        return Err(damaged(format!("it has more than {MOST_BYTES} bytes")));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    if value["schema"] == OLD {
        return Err(DiskError::Old(path.to_owned()));
    }
    serde_json::from_value(value).map_err(|e| damaged(e.to_string()))
}
