//! `control.json`: where the daemon of a home listens, and the token that proves its owner.
//!
//! Written when the daemon is ready, with mode 0600 and by rename, so that a reader sees all of it or
//! nothing; removed when it stops. A file left behind by SIGKILL is told from a live daemon by asking
//! at the address.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::home::disk;
use tributary_trainer::input;

/// Content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Where the API listens.
    pub addr: SocketAddr,
    /// Bearer token.
    pub token: String,
    /// Process id of the daemon.
    pub pid: u32,
}

/// Why there is no way to the daemon.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No daemon wrote the file.
    #[error("no daemon runs on the home {0}; start it with `tributary up --home {0}`")]
    NotRunning(PathBuf),
    /// The file is not what a daemon writes.
    #[error("{path} is damaged ({why}); stop the daemon, delete the file, start the daemon again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system refused.
    #[error("could not use {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Control {
    /// For a daemon of this process that listens on `addr`, with a new token.
    ///
    /// # Panics
    /// If the system has no source of random numbers.
    pub fn new(addr: SocketAddr) -> Self {
        let mut token = [0; 32];
        getrandom::fill(&mut token).expect("the system has no source of random numbers");
        Self {
            addr,
            token: HEXLOWER.encode(&token),
            pid: std::process::id(),
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`ControlError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), ControlError> {
        let io = |source| ControlError::Io {
            path: path.to_owned(),
            source,
        };
        let text = serde_json::to_string(self).expect("three plain fields always serialise");
        disk::write_whole(path, text.as_bytes()).map_err(io)
    }

    /// Reads the file in the home `root`.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn read(root: &Path, path: &Path) -> Result<Self, ControlError> {
        let text = match input::text(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(ControlError::NotRunning(root.to_owned()));
            }
            Err(source) => {
                return Err(ControlError::Io {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        serde_json::from_str(&text).map_err(|e| ControlError::Damaged {
            path: path.to_owned(),
            why: e.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn control() -> Control {
        Control::new("127.0.0.1:9".parse().unwrap())
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.json");
        let written = control();
        written.write(&path).unwrap();
        assert_eq!(Control::read(dir.path(), &path).unwrap(), written);
        let second = control();
        second.write(&path).unwrap();
        assert_eq!(Control::read(dir.path(), &path).unwrap(), second);
        assert_ne!(written.token, second.token);
    }

    #[cfg(unix)]
    #[test]
    fn nobody_but_the_owner_may_read_the_token() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.json");
        control().write(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn missing_and_damaged_files_say_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.json");
        let missing = Control::read(dir.path(), &path).unwrap_err();
        assert!(missing.to_string().contains("tributary up"), "{missing}");
        fs::write(&path, "{\"addr\":").unwrap();
        let damaged = Control::read(dir.path(), &path).unwrap_err();
        assert!(damaged.to_string().contains("damaged"), "{damaged}");
    }
}
