//! The peer's key: one 32-byte ed25519 seed in a file of its own.
//!
//! The same seed names the peer in logs, on libp2p and on iroh. The file appears whole, with
//! mode 0600, and is never overwritten; a checksum tells a damaged file from a foreign one. What the key
//! signs belongs to `protocol::sign`; how the two network stacks read it belongs to `net`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use tributary_protocol::hash;
use tributary_protocol::id::PeerId;
use tributary_protocol::sign::SecretKey;
use zeroize::Zeroizing;

use crate::home::disk;
use tributary_trainer::input;

/// First word of a key file.
const MAGIC: &str = "tributary-key-1";
/// Bytes of the checksum: a flipped bit goes unnoticed once in 2^64.
const CHECKSUM_BYTES: usize = 8;
/// A key file has 98 bytes; anything longer is not one and is not read.
const MAX_FILE_BYTES: u64 = 1024;

/// The seed and the name that follows from it.
#[derive(Clone)]
pub struct Identity {
    seed: Zeroizing<[u8; 32]>,
    peer: PeerId,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.peer.short())
    }
}

/// Why a key file could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is a key already; it is never overwritten.
    #[error("{0} exists already and a key is never overwritten; choose another home")]
    Exists(PathBuf),
    /// There is no key.
    #[error("no key at {0}; run `tributary init` first, or restore the file from your backup")]
    Missing(PathBuf),
    /// Others may read the key.
    #[error(
        "{path} has mode {mode:03o}, so others on this machine may read it; run `chmod 600 {path}`"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The content is not what was written.
    #[error(
        "{path} is damaged ({why}); restore it from your backup. It was left as it is; without it this \
         peer's name and its earnings are lost, so do not delete it before you have tried"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The system refused.
    #[error("could not use the key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Identity {
    /// From a seed, for tests and demos that derive their keys.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let peer = SecretKey::from_seed(seed).peer_id();
        Self {
            seed: Zeroizing::new(seed),
            peer,
        }
    }

    /// Draws a new seed from the system.
    ///
    /// # Panics
    /// If the system has no source of random numbers: nothing safe can be done without one.
    pub fn generate() -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).expect("the system has no source of random numbers");
        Self::from_seed(seed)
    }

    /// The peer's name.
    pub fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// The raw seed; handed to the signing key and to the two network stacks, never shown or sent.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The key that signs for this peer.
    pub(crate) fn signing_key(&self) -> SecretKey {
        SecretKey::from_seed(*self.seed)
    }

    /// Writes the key to a new file that only its owner may read, and waits until it is durable.
    ///
    /// # Errors
    /// [`IdentityError::Exists`] when there is a file already; [`IdentityError::Io`].
    pub fn create_file(&self, path: &Path) -> Result<(), IdentityError> {
        let text = Zeroizing::new(format!(
            "{MAGIC} {} {}\n",
            HEXLOWER.encode(self.seed.as_slice()),
            HEXLOWER.encode(&checksum(&self.seed)),
        ));
        disk::write_new(path, text.as_bytes()).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => IdentityError::Exists(path.to_owned()),
            _ => IdentityError::Io {
                path: path.to_owned(),
                source,
            },
        })
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// See [`IdentityError`]; the file is never changed.
    pub fn read_file(path: &Path) -> Result<Self, IdentityError> {
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => IdentityError::Missing(path.to_owned()),
            _ => IdentityError::Io {
                path: path.to_owned(),
                source,
            },
        };
        let damaged = |why| IdentityError::Damaged {
            path: path.to_owned(),
            why,
        };
        let metadata = input::finite(path).map_err(io)?;
        check_mode(path, &metadata)?;
        if metadata.len() > MAX_FILE_BYTES {
            return Err(damaged("it is longer than a key file"));
        }
        let bytes = Zeroizing::new(fs::read(path).map_err(io)?);
        let text = std::str::from_utf8(&bytes).map_err(|_| damaged("it is not text"))?;
        let seed = parse(text).map_err(damaged)?;
        Ok(Self::from_seed(*seed))
    }
}

#[cfg(unix)]
fn check_mode(path: &Path, metadata: &fs::Metadata) -> Result<(), IdentityError> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_mode(_: &Path, _: &fs::Metadata) -> Result<(), IdentityError> {
    Ok(())
}

fn checksum(seed: &[u8; 32]) -> [u8; CHECKSUM_BYTES] {
    let digest = hash::blob(seed);
    let mut out = [0; CHECKSUM_BYTES];
    out.copy_from_slice(&digest.as_bytes()[..CHECKSUM_BYTES]);
    out
}

/// Exactly the text that `create_file` writes, nothing around it.
fn parse(text: &str) -> Result<Zeroizing<[u8; 32]>, &'static str> {
    let line = text.strip_suffix('\n').ok_or("its end is missing")?;
    let mut words = line.split(' ');
    if words.next() != Some(MAGIC) {
        return Err("it does not start as a key file does");
    }
    let (Some(seed), Some(sum), None) = (words.next(), words.next(), words.next()) else {
        return Err("it has not three words");
    };
    let decoded = Zeroizing::new(
        (HEXLOWER.decode(seed.as_bytes())).map_err(|_| "its seed is not hexadecimal")?,
    );
    let mut seed = Zeroizing::new([0; 32]);
    if decoded.len() != seed.len() {
        return Err("its seed has not 32 bytes");
    }
    seed.copy_from_slice(&decoded);
    if sum != HEXLOWER.encode(&checksum(&seed)) {
        return Err("its checksum does not match");
    }
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_survives_the_file_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let identity = Identity::generate();
        identity.create_file(&path).unwrap();
        assert_eq!(
            Identity::read_file(&path).unwrap().seed(),
            identity.seed(),
            "another key came back"
        );
        let again = Identity::generate().create_file(&path);
        assert!(matches!(again, Err(IdentityError::Exists(_))));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_key_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        Identity::from_seed([7; 32]).create_file(&path).unwrap();
        let good = fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bad).unwrap();
            let error = Identity::read_file(&path).expect_err("a damaged key was accepted");
            assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bad, "the file was changed");
        }
        for length in 0..good.len() {
            fs::write(&path, &good[..length]).unwrap();
            assert!(Identity::read_file(&path).is_err(), "cut at {length}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        Identity::generate().create_file(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Identity::read_file(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}
