//! Accounts on the disk: one file a consumer, written whole before anything is answered or told.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tributary_protocol::id::{MicroOpen, PeerId};

use super::book::{Account, Attempt, Channel};
use crate::home::disk;

/// Largest file of an account: its channels and what is remembered of their requests take less than a tenth of it.
const MOST_BYTES: u64 = 1 << 20;

/// Why accounts cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Another server of the same home.
    #[error(
        "another server keeps the allowances in {0}; stop that one, or give this one a home of its own"
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

#[derive(Serialize, Deserialize)]
struct AccountFile {
    schema: String,
    charged: String,
    floor: u64,
    channels: Vec<ChannelFile>,
}

#[derive(Serialize, Deserialize)]
struct ChannelFile {
    number: u64,
    charged: String,
    highest: String,
    signature: String,
    requests: Vec<RequestFile>,
}

#[derive(Serialize, Deserialize)]
struct RequestFile {
    total: String,
    body: String,
    charged: String,
    repeats: u8,
    answered: bool,
}

const SCHEMA: &str = "allowance/1";

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

    /// Every account.
    pub(super) fn read(&self) -> Result<Vec<(PeerId, Account)>, DiskError> {
        let io = |source| DiskError::Io {
            path: self.path.clone(),
            source,
        };
        let mut accounts = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            let damaged = |why: String| DiskError::Damaged {
                path: path.clone(),
                why,
            };
            let name = path
                .file_stem()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let consumer = name
                .parse()
                .map_err(|_| damaged("its name is no key".into()))?;
            let unreadable = |source| DiskError::Io {
                path: path.clone(),
                source,
            };
            if fs::metadata(&path).map_err(unreadable)?.len() > MOST_BYTES {
                return Err(damaged(format!("it has more than {MOST_BYTES} bytes")));
            }
            let bytes = fs::read(&path).map_err(unreadable)?;
            let file: AccountFile =
                serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
            accounts.push((consumer, file.read().map_err(damaged)?));
        }
        Ok(accounts)
    }

    /// Writes one account and waits until it is durable.
    pub(super) fn write(&self, consumer: PeerId, account: &Account) -> Result<(), DiskError> {
        let path = self.path.join(format!("{consumer}.json"));
        let bytes = serde_json::to_vec(&AccountFile::of(account))
            .expect("texts and numbers always serialise");
        disk::write_whole(&path, &bytes).map_err(|source| DiskError::Io { path, source })
    }
}

impl AccountFile {
    fn of(account: &Account) -> Self {
        let request = |(total, one): (&MicroOpen, &Attempt)| RequestFile {
            total: total.0.to_string(),
            body: one.body.to_string(),
            charged: one.charged.0.to_string(),
            repeats: one.repeats,
            answered: one.was_answered,
        };
        let channel = |(number, channel): (&u64, &Channel)| ChannelFile {
            number: *number,
            charged: channel.charged.0.to_string(),
            highest: channel.highest.0.to_string(),
            signature: HEXLOWER.encode(&channel.signature),
            requests: channel.attempts.iter().map(request).collect(),
        };
        Self {
            schema: SCHEMA.into(),
            charged: account.charged.0.to_string(),
            floor: account.floor,
            channels: account.channels.iter().map(channel).collect(),
        }
    }

    fn read(self) -> Result<Account, String> {
        if self.schema != SCHEMA {
            return Err(format!("it says `{}`, not {SCHEMA}", self.schema));
        }
        let channels = self
            .channels
            .into_iter()
            .map(|channel| Ok((channel.number, channel.read()?)));
        Ok(Account {
            granted: MicroOpen(0),
            charged: amount(&self.charged)?,
            floor: self.floor,
            channels: channels.collect::<Result<_, String>>()?,
        })
    }
}

impl ChannelFile {
    fn read(self) -> Result<Channel, String> {
        let request = |one: RequestFile| {
            let attempt = Attempt {
                body: one.body.parse().map_err(|_| "a hash is none".to_owned())?,
                reserved: MicroOpen(0),
                charged: amount(&one.charged)?,
                repeats: one.repeats,
                is_open: false,
                was_answered: one.answered,
            };
            Ok((amount(&one.total)?, attempt))
        };
        let channel = Channel {
            charged: amount(&self.charged)?,
            highest: amount(&self.highest)?,
            signature: HEXLOWER
                .decode(self.signature.as_bytes())
                .map_err(|e| e.to_string())?,
            attempts: self
                .requests
                .into_iter()
                .map(request)
                .collect::<Result<_, String>>()?,
        };
        match channel.charged <= channel.highest {
            true => Ok(channel),
            false => Err("a channel is charged more than its voucher".into()),
        }
    }
}

fn amount(text: &str) -> Result<MicroOpen, String> {
    text.parse()
        .map(MicroOpen)
        .map_err(|_| "an amount is no number".into())
}
