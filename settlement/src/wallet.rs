//! The key of an account that pays for transactions, and the file in which it lies.
//!
//! A key file holds 32 bytes as 64 hexadecimal digits, with or without `0x`. It is for its owner alone: a file that
//! others can read is refused, because whoever read it once has the money.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use alloy::primitives::hex;
use tributary_attribution::settlement::{Address, EvmKey, KeyError};
use zeroize::Zeroizing;

use crate::limits::MAX_KEY_FILE_BYTES;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// The disk says no.
    #[error("the key file {} cannot be {what}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the disk says.
        error: io::Error,
    },
    /// A key is there.
    #[error("{} exists, and a key is never overwritten; name another file, or open this one", .0.display())]
    Exists(PathBuf),
    /// Others can read it.
    #[error(
        "the key file {} can be read by others (mode {mode:03o}); run `chmod 600 {}`, and use a new key if somebody else may have \
         read it", path.display(), path.display()
    )]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Not 64 digits.
    #[error("the key file {} does not hold 64 hexadecimal digits; copy the key again", .0.display())]
    Digits(PathBuf),
    /// Digits that are no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The system has no randomness.
    #[error("the system gives no random bytes ({0}), so no key was made; try again")]
    Random(getrandom::Error),
}

/// The key of one account. Its memory is wiped when it is dropped.
#[derive(Clone, Debug)]
pub struct Wallet(EvmKey);

/// For keys that follow from others, as a peer's account does.
impl From<EvmKey> for Wallet {
    fn from(key: EvmKey) -> Self {
        Self(key)
    }
}

impl Wallet {
    /// From the 32 bytes of a key, which the caller wipes.
    ///
    /// # Errors
    /// [`WalletError::Key`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, WalletError> {
        Ok(Self(EvmKey::from_bytes(bytes)?))
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`WalletError`]; also for a file that its group or others may read, write or run.
    pub fn open(path: &Path) -> Result<Self, WalletError> {
        let failed = |error| WalletError::File {
            path: path.into(),
            what: "read",
            error,
        };
        let file = File::open(path).map_err(failed)?;
        // Of the file that is open, so that nobody puts another one there in between.
        closed_to_others(path, &file.metadata().map_err(failed)?)?;
        // Exactly so much room, so that the text is nowhere copied while it grows.
        let mut text = Zeroizing::new(String::with_capacity(MAX_KEY_FILE_BYTES as usize + 1));
        file.take(MAX_KEY_FILE_BYTES)
            .read_to_string(&mut text)
            .map_err(failed)?;
        let digits = text.trim();
        let digits = digits.strip_prefix("0x").unwrap_or(digits);
        let mut bytes = Zeroizing::new([0; 32]);
        // A further `0x`, which the decoder would take, makes it too short.
        let is_read = digits.len() == 64 && hex::decode_to_slice(digits, bytes.as_mut()).is_ok();
        if !is_read {
            return Err(WalletError::Digits(path.into()));
        }
        Self::from_bytes(&bytes)
    }

    /// Draws a new key and writes its file, which only its owner can read from the start.
    ///
    /// # Errors
    /// [`WalletError`]; also where a file is already.
    pub fn create(path: &Path) -> Result<Self, WalletError> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut()).map_err(WalletError::Random)?;
        let wallet = Self::from_bytes(&bytes)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => WalletError::Exists(path.into()),
            _ => WalletError::File {
                path: path.into(),
                what: "made",
                error,
            },
        })?;
        let digits = Zeroizing::new(hex::encode(bytes.as_slice()));
        let written = writeln!(file, "{}", digits.as_str()).and_then(|()| file.sync_all());
        if let Err(error) = written.and_then(|()| sync_folder(path)) {
            // Half a key is none, and would be in the way of the next.
            let _ = fs::remove_file(path);
            return Err(WalletError::File {
                path: path.into(),
                what: "written",
                error,
            });
        }
        Ok(wallet)
    }

    /// The account.
    pub fn account(&self) -> Address {
        self.0.address()
    }

    /// The key, for statements that the account signs.
    pub fn key(&self) -> &EvmKey {
        &self.0
    }
}

#[cfg(unix)]
fn closed_to_others(path: &Path, found: &fs::Metadata) -> Result<(), WalletError> {
    let mode = std::os::unix::fs::MetadataExt::mode(found) & 0o777;
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(WalletError::Open {
            path: path.into(),
            mode,
        }),
    }
}

/// Other systems have no such modes; their accounts' folders are closed to others by default.
#[cfg(not(unix))]
fn closed_to_others(_: &Path, _: &fs::Metadata) -> Result<(), WalletError> {
    Ok(())
}

/// Has the disk keep that a file was made, renamed or removed.
#[cfg(unix)]
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Other systems do not open folders.
#[cfg(not(unix))]
pub(crate) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn a_key_that_was_made_is_read_again_and_is_its_owners_alone() {
        let folder = folder();
        let path = folder.path().join("key");
        let made = Wallet::create(&path).expect("a key");
        let read = Wallet::open(&path).expect("the key");
        assert_eq!(made.account(), read.account());
        let mode = fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = Wallet::create(&folder.path().join("other")).expect("a key");
        assert_ne!(other.account(), made.account());
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let folder = folder();
        let path = folder.path().join("key");
        let made = Wallet::create(&path).expect("a key");
        assert!(matches!(Wallet::create(&path), Err(WalletError::Exists(_))));
        assert_eq!(
            Wallet::open(&path).expect("the key").account(),
            made.account()
        );
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        let folder = folder();
        let path = folder.path().join("key");
        Wallet::create(&path).expect("a key");
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
            let said = Wallet::open(&path).expect_err("open to others").to_string();
            assert!(
                said.contains(&format!("chmod 600 {}", path.display())),
                "{said}"
            );
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("a mode");
        Wallet::open(&path).expect("closed to others");
    }

    #[test]
    fn other_texts_than_64_digits_are_refused_and_not_shown() {
        let folder = folder();
        let digits = "5b".repeat(32);
        for (name, text, is_key) in [
            ("plain", digits.clone(), true),
            ("prefix", format!("0x{digits}\n"), true),
            ("two", format!("0x0x{}", &digits[4..]), false),
            ("short", digits[1..].to_string(), false),
            ("long", format!("{digits}5b"), false),
            ("endless", digits.repeat(1000), false),
            ("zero", "0".repeat(64), false),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, &text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
            let opened = Wallet::open(&path);
            assert_eq!(opened.is_ok(), is_key, "{name}");
            if let Err(error) = opened {
                assert!(!error.to_string().contains("5b5b"), "{error}");
            }
        }
    }
}
