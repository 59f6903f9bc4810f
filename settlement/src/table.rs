//! What an account has sent and is not final yet, kept where a crash does not reach it.
//!
//! A transaction is written down, signed, before it is sent. After a crash the same bytes are sent again, so one purpose never
//! becomes two transactions. The table is bytes to whoever keeps it: a file ([`FileTable`]), or a place of the caller's.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use alloy::primitives::{Address as Wire, B256, Bytes};
use serde::{Deserialize, Serialize};
use tributary_attribution::settlement::{Address, ChainId, Keccak};

use crate::limits::{MAX_ROWS, MAX_TABLE_BYTES};
use crate::wallet::sync_folder;

/// Where a table is kept. It belongs to one [`crate::Sender`] at a time.
pub trait Table: Send + Sync {
    /// What was saved last; `None` before anything was.
    ///
    /// # Errors
    /// What the disk says.
    fn load(&self) -> io::Result<Option<Vec<u8>>>;

    /// Keeps `bytes` in place of what was saved before. When it returns, they outlive a loss of power; when it fails, either
    /// they or the former are there.
    ///
    /// # Errors
    /// What the disk says.
    fn save(&self, bytes: &[u8]) -> io::Result<()>;
}

/// A table in a file of its own. Nobody else may use it meanwhile: a lock beside it, which ends with the program, sees to that.
#[derive(Debug)]
pub struct FileTable {
    path: PathBuf,
    /// Held as long as the table.
    _lock: File,
    /// One writer at a time uses the temporary file.
    writing: Mutex<()>,
}

impl FileTable {
    /// The table of an account on a chain, in `folder`, which has to exist.
    ///
    /// # Errors
    /// What the disk says; [`io::ErrorKind::WouldBlock`] where another program holds the table.
    pub fn open(folder: &Path, chain: ChainId, account: Address) -> io::Result<Self> {
        let path = folder.join(format!("transactions-{chain}-{account}.json"));
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.with_extension("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path,
                _lock: lock,
                writing: Mutex::new(()),
            }),
            Err(TryLockError::WouldBlock) => {
                let said = format!(
                    "another program sends transactions of {account}, and two would use the same numbers; stop it, or wait until \
                     it is done"
                );
                Err(io::Error::new(io::ErrorKind::WouldBlock, said))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Table for FileTable {
    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(MAX_TABLE_BYTES).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn save(&self, bytes: &[u8]) -> io::Result<()> {
        let _writing = self
            .writing
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let temporary = self.path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        sync_folder(&self.path)
    }
}

/// What a transaction is for. Two with one purpose never exist at the same time, so it names all that makes one thing: the
/// verb, the run, and the height or the account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Purpose(String);

impl Purpose {
    /// From the words that name it.
    pub fn new(words: &[&(dyn std::fmt::Display + Sync)]) -> Self {
        let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
        Self(words.join(" "))
    }
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one signed version of a transaction pays for a unit of gas, wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Price {
    /// The most, tip included.
    pub(crate) most_wei: u128,
    /// What of it goes to whoever makes the block.
    pub(crate) tip_wei: u128,
}

/// One signed version of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) price: Price,
    /// As it is sent.
    pub(crate) raw: Bytes,
    pub(crate) hash: B256,
    /// The last block when it was signed.
    pub(crate) block: u64,
    /// Whether it does nothing, and only takes the place of what the chain has no use for any more; with the reason.
    pub(crate) withdraws: Option<String>,
}

impl Attempt {
    pub(crate) fn hash(&self) -> Keccak {
        Keccak(self.hash.0)
    }
}

/// One transaction of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) nonce: u64,
    pub(crate) purpose: Purpose,
    /// None: it creates a contract.
    pub(crate) to: Option<Wire>,
    pub(crate) data: Bytes,
    pub(crate) gas: u64,
    /// The first one does what the purpose says; every later one has the same number and pays more.
    pub(crate) attempts: Vec<Attempt>,
}

impl Row {
    /// The version that pays most.
    pub(crate) fn last(&self) -> &Attempt {
        self.attempts
            .last()
            .expect("a row is written with its first version")
    }
}

/// The whole table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rows {
    chain: u64,
    account: Wire,
    pub(crate) rows: Vec<Row>,
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It was not read.
    #[error("the table of sent transactions cannot be read: {0}; nothing is sent without it")]
    Read(io::Error),
    /// It was not written.
    #[error(
        "the table of sent transactions cannot be written: {0}; nothing was sent, because a crash could then send it twice: make \
         room on the disk, and try again"
    )]
    Write(io::Error),
    /// It is another account's, or damaged.
    #[error(
        "the table of sent transactions is no table of this account on this chain ({0}); nothing is sent: use the right one, or \
         remove it when all transactions of the account are final"
    )]
    Broken(String),
}

impl Rows {
    pub(crate) fn new(chain: ChainId, account: Address) -> Self {
        Self {
            chain: chain.0,
            account: account.0.into(),
            rows: Vec::new(),
        }
    }

    /// Reads what [`Rows::encode`] wrote.
    pub(crate) fn decode(
        bytes: &[u8],
        chain: ChainId,
        account: Address,
    ) -> Result<Self, TableError> {
        let read: Self =
            serde_json::from_slice(bytes).map_err(|error| TableError::Broken(error.to_string()))?;
        let broken = |why: &str| Err(TableError::Broken(why.to_string()));
        if (read.chain, read.account) != (chain.0, account.0.into()) {
            return broken("it names another account or chain");
        }
        let follows = read
            .rows
            .windows(2)
            .all(|two| two[0].nonce.checked_add(1) == Some(two[1].nonce));
        if !follows || read.rows.len() > MAX_ROWS {
            return broken("its numbers do not follow each other");
        }
        match read.rows.iter().any(|row| row.attempts.is_empty()) {
            true => broken("a transaction lacks its bytes"),
            false => Ok(read),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and texts have JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: ChainId = ChainId(1612);
    const ACCOUNT: Address = Address([7; 20]);

    fn rows(nonces: &[u64]) -> Rows {
        let attempt = Attempt {
            price: Price {
                most_wei: 2,
                tip_wei: 1,
            },
            raw: Bytes::from_static(&[2, 3]),
            hash: B256::repeat_byte(1),
            block: 9,
            withdraws: None,
        };
        let row = |nonce: &u64| Row {
            nonce: *nonce,
            purpose: Purpose::new(&[&"post", nonce]),
            to: None,
            data: Bytes::new(),
            gas: 21_000,
            attempts: vec![attempt.clone()],
        };
        Rows {
            rows: nonces.iter().map(row).collect(),
            ..Rows::new(CHAIN, ACCOUNT)
        }
    }

    #[test]
    fn a_table_is_read_as_it_was_written_and_only_for_its_account() {
        let folder = tempfile::tempdir().expect("a folder");
        let table = FileTable::open(folder.path(), CHAIN, ACCOUNT).expect("a table");
        assert_eq!(table.load().expect("no table yet"), None);
        for nonces in [&[4, 5][..], &[], &[6]] {
            table.save(&rows(nonces).encode()).expect("saved");
            let bytes = table.load().expect("read").expect("a table");
            assert_eq!(
                Rows::decode(&bytes, CHAIN, ACCOUNT).expect("the table"),
                rows(nonces)
            );
            assert!(Rows::decode(&bytes, ChainId(1), ACCOUNT).is_err());
            assert!(Rows::decode(&bytes, CHAIN, Address::ZERO).is_err());
        }
    }

    #[test]
    fn a_damaged_table_is_refused() {
        let whole = rows(&[1, 2]).encode();
        for bytes in [
            &whole[..whole.len() - 1],
            b"",
            b"{}",
            &rows(&[1, 3]).encode(),
            &rows(&[2, 1]).encode(),
        ] {
            assert!(matches!(
                Rows::decode(bytes, CHAIN, ACCOUNT),
                Err(TableError::Broken(_))
            ));
        }
        let mut bare = rows(&[1]);
        bare.rows[0].attempts.clear();
        assert!(Rows::decode(&bare.encode(), CHAIN, ACCOUNT).is_err());
    }

    #[test]
    fn a_table_belongs_to_one_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = FileTable::open(folder.path(), CHAIN, ACCOUNT).expect("a table");
        let second = FileTable::open(folder.path(), CHAIN, ACCOUNT).expect_err("held");
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        FileTable::open(folder.path(), CHAIN, Address::ZERO).expect("another account's");
        drop(first);
        FileTable::open(folder.path(), CHAIN, ACCOUNT).expect("free again");
    }
}
