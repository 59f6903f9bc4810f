//! The peer's home: the one folder that holds everything a peer must keep.
//!
//! ```text
//! HOME/
//!   key            the seed (identity)
//!   lock           held while a daemon runs on this home
//!   ledger.redb    blocks, certificates, votes (store)
//!   blobs/HASH     durable blobs (store)
//!   shards/        the owner's data; never leaves the machine
//!   config.toml    settings of the owner
//!   control.json   where a running daemon listens for its owner's commands
//!   network.json   the port, peers and relays that were known when the daemon last ran
//!   invitations.json  what tickets were given out and revoked
//!   cache/bases/   base models that came from peers, and the listings of those that are handed on
//!   chain/         transactions of this peer's account on a real chain that are not final
//!   allowances/    what consumers may spend at this peer's server, and what they spent
//!   evidence       what others asked and were shown of the shards within the hour
//! ```
//!
//! This file knows the names and guards against two daemons on one home; `disk` keeps others on the machine out. What
//! stands in the files belongs to their rooms.

pub(crate) mod disk;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::identity::{Identity, IdentityError};

/// A home that this process holds alone.
#[derive(Debug)]
pub struct Home {
    paths: HomePaths,
    identity: Identity,
    // The lock lives as long as this file is open; the system releases it even after SIGKILL.
    _lock: File,
}

/// Names of the things in a home, whether or not anybody holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomePaths {
    root: PathBuf,
}

/// Why a home could not be made or taken.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// There is no such folder.
    #[error("no home at {0}; run `tributary init --home {0}` to make one")]
    Missing(PathBuf),
    /// There is something else at this place.
    #[error("{0} is not a folder; name a folder (or a place where one can be made)")]
    NotAFolder(PathBuf),
    /// Another process holds the home.
    #[error(
        "the home {0} is in use by another tributary process; stop that one, or choose another home"
    )]
    Locked(PathBuf),
    /// The system refused.
    #[error("could not {doing} {path}: {source}{hint}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
        /// What to do, or nothing.
        hint: &'static str,
    },
    /// The key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl HomePaths {
    /// The names under `root`; nothing is read or made.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// The key file.
    pub fn key(&self) -> PathBuf {
        self.root.join("key")
    }
    /// The lock file.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }
    /// The database of the ledger.
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger.redb")
    }
    /// The folder of durable blobs.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }
    /// The folder of the owner's data.
    pub fn shards(&self) -> PathBuf {
        self.root.join("shards")
    }
    /// What can be made again from the rest.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }
    /// Settings.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }
    /// Where a running daemon writes how to reach it.
    pub fn control(&self) -> PathBuf {
        self.root.join("control.json")
    }
    /// What the daemon remembers of its network.
    pub fn network(&self) -> PathBuf {
        self.root.join("network.json")
    }
    /// The log of a daemon without a terminal.
    pub fn log(&self) -> PathBuf {
        self.root.join("daemon.log")
    }
    /// What others asked and were shown of the shards within the hour.
    pub fn evidence(&self) -> PathBuf {
        self.root.join("evidence")
    }
    /// Where the base models of runs were found.
    pub fn bases(&self) -> PathBuf {
        self.root.join("bases.json")
    }
    /// What tickets were given out and revoked.
    pub fn invitations(&self) -> PathBuf {
        self.root.join("invitations.json")
    }
    /// Held while that file is changed.
    pub fn invitations_lock(&self) -> PathBuf {
        self.root.join("invitations.lock")
    }
    /// What consumers may spend at this peer's server, and what they spent.
    pub fn allowances(&self) -> PathBuf {
        self.root.join("allowances")
    }

    /// What is kept of the channels through which this peer's server is paid.
    pub fn channels(&self) -> PathBuf {
        self.allowances().join("channels")
    }
    /// Transactions of this peer's account on a real chain that are not final.
    pub fn chain(&self) -> PathBuf {
        self.root.join("chain")
    }
    /// All of them.
    pub fn names(&self) -> [PathBuf; 15] {
        [
            self.key(),
            self.lock(),
            self.ledger(),
            self.blobs(),
            self.shards(),
            self.cache(),
            self.config(),
            self.control(),
            self.evidence(),
            self.network(),
            self.bases(),
            self.invitations(),
            self.invitations_lock(),
            self.allowances(),
            self.chain(),
        ]
    }
}

impl Home {
    /// Makes the folder (and those above it) with a new key, and takes it.
    ///
    /// # Errors
    /// [`HomeError::Identity`] with `Exists` when there is a key already; see [`HomeError`].
    pub fn create(root: impl Into<PathBuf>) -> Result<Self, HomeError> {
        Self::create_with(root, &Identity::generate())
    }

    /// As [`Home::create`], with a given key.
    ///
    /// # Errors
    /// See [`Home::create`].
    pub fn create_with(root: impl Into<PathBuf>, identity: &Identity) -> Result<Self, HomeError> {
        let paths = HomePaths::new(root);
        if paths.root.exists() && !paths.root.is_dir() {
            return Err(HomeError::NotAFolder(paths.root));
        }
        make_folder(&paths.root)?;
        let lock = take_lock(&paths)?;
        identity.create_file(&paths.key())?;
        Self::finish(paths, lock)
    }

    /// Takes an existing home.
    ///
    /// # Errors
    /// See [`HomeError`]; nothing in the home is changed when this fails.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, HomeError> {
        let paths = HomePaths::new(root);
        match fs::metadata(&paths.root) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(HomeError::NotAFolder(paths.root)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(HomeError::Missing(paths.root));
            }
            Err(e) => return Err(io_error("look at", &paths.root, e)),
        }
        // Not even a lock is left in a folder that is no home.
        if !paths.key().exists() {
            return Err(IdentityError::Missing(paths.key()).into());
        }
        let lock = take_lock(&paths)?;
        Self::finish(paths, lock)
    }

    /// Takes the home, making it first when there is none (or one without a key yet).
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn open_or_create(root: impl Into<PathBuf>, new: &Identity) -> Result<Self, HomeError> {
        let root = root.into();
        if HomePaths::new(&root).key().exists() {
            Self::open(root)
        } else {
            Self::create_with(root, new)
        }
    }

    fn finish(paths: HomePaths, lock: File) -> Result<Self, HomeError> {
        let identity = Identity::read_file(&paths.key())?;
        make_folder(&paths.blobs())?;
        make_folder(&paths.shards())?;
        let open = disk::adopt(&paths.root)
            .map_err(|e| io_error("close to others, or sync,", &paths.root, e))?;
        if open > 0 {
            let root = paths.root.display();
            tracing::info!(
                "others on this machine could read {open} files and folders of {root}; now its owner alone can"
            );
        }
        Ok(Self {
            paths,
            identity,
            _lock: lock,
        })
    }

    /// Where things are.
    pub fn paths(&self) -> &HomePaths {
        &self.paths
    }

    /// The peer's key.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// How long somebody who only looks at a home may hold its lock, by far.
const GLANCE: Duration = Duration::from_millis(500);

fn take_lock(paths: &HomePaths) -> Result<File, HomeError> {
    let path = paths.lock();
    let mut options = disk::private();
    options.read(true).create(true).truncate(false);
    let file = (options.open(&path)).map_err(|e| io_error("open the lock file", &path, e))?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // A command that reads the home looks at the lock by sharing it for a moment.
            Err(TryLockError::WouldBlock) if began.elapsed() < GLANCE => {
                thread::sleep(GLANCE / 20);
            }
            Err(TryLockError::WouldBlock) => return Err(HomeError::Locked(paths.root.clone())),
            Err(TryLockError::Error(e)) => return Err(io_error("lock", &path, e)),
        }
    }
}

/// Whether a process holds the home. The lock is only looked at: a daemon that starts meanwhile waits for that.
pub(crate) fn is_held(paths: &HomePaths) -> bool {
    let looked = File::open(paths.lock()).map(|lock| lock.try_lock_shared());
    // No lock file, or no locks on this disk: nobody can be holding it.
    matches!(looked, Ok(Err(TryLockError::WouldBlock)))
}

fn make_folder(path: &Path) -> Result<(), HomeError> {
    disk::make_folder(path).map_err(|e| io_error("make the folder", path, e))
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> HomeError {
    let hint = match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "; make the folder writable for your user, or choose another home"
        }
        io::ErrorKind::StorageFull => "; free some disk space and try again",
        io::ErrorKind::ReadOnlyFilesystem => "; choose a home on a writable disk",
        _ => "",
    };
    HomeError::Io {
        doing,
        path: path.to_owned(),
        source,
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_held_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("deep/home");
        let first = Home::create(&root).unwrap();
        let error = Home::open(&root).expect_err("two holders of one home");
        assert!(matches!(error, HomeError::Locked(_)), "{error}");
        let name = first.identity().peer_id();
        drop(first);
        assert_eq!(Home::open(&root).unwrap().identity().peer_id(), name);
    }

    #[test]
    fn a_reader_that_looks_at_the_lock_keeps_no_daemon_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        drop(Home::create(dir.path()).unwrap());
        let lock = File::open(HomePaths::new(dir.path()).lock()).unwrap();
        lock.try_lock_shared().unwrap();
        let looks = thread::spawn(move || {
            thread::sleep(GLANCE / 10);
            drop(lock);
        });
        Home::open(dir.path()).expect("the reader looked away");
        looks.join().unwrap();
    }

    #[test]
    fn missing_home_and_file_in_its_place_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Home::open(dir.path().join("none")).unwrap_err();
        assert!(missing.to_string().contains("tributary init"), "{missing}");
        let file = dir.path().join("file");
        fs::write(&file, b"x").unwrap();
        assert!(matches!(Home::open(&file), Err(HomeError::NotAFolder(_))));
        assert!(matches!(Home::create(&file), Err(HomeError::NotAFolder(_))));
    }

    #[test]
    fn nothing_is_left_in_a_folder_that_is_no_home() {
        let dir = tempfile::tempdir().unwrap();
        let error = Home::open(dir.path()).unwrap_err();
        assert!(
            matches!(error, HomeError::Identity(IdentityError::Missing(_))),
            "{error}"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn second_init_keeps_the_first_key() {
        let dir = tempfile::tempdir().unwrap();
        let first = Home::create(dir.path()).unwrap().identity().peer_id();
        let error = Home::create(dir.path()).unwrap_err();
        assert!(error.to_string().contains("never overwritten"), "{error}");
        assert_eq!(Home::open(dir.path()).unwrap().identity().peer_id(), first);
    }

    #[test]
    fn damaged_key_says_so_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        drop(Home::create(dir.path()).unwrap());
        let key = HomePaths::new(dir.path()).key();
        let mut bytes = fs::read(&key).unwrap();
        bytes[20] ^= 1;
        fs::write(&key, &bytes).unwrap();
        for attempt in [Home::open(dir.path()), Home::create(dir.path())] {
            attempt.expect_err("a damaged key was accepted");
        }
        let error = Home::open(dir.path()).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
        assert_eq!(fs::read(&key).unwrap(), bytes);
    }
}
