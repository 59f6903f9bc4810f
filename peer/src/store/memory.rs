//! A disk in memory that starts from the bytes of a file, so that a database is read without touching the file.
//!
//! redb's own backend in memory starts empty, and filling it costs a second copy of the whole ledger.

use std::io;

use parking_lot::RwLock;
use redb::StorageBackend;

#[derive(Debug)]
pub(super) struct Memory(RwLock<Vec<u8>>);

impl Memory {
    /// Holds the bytes of a file.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self(RwLock::new(bytes))
    }
}

fn range(offset: u64, length: usize, all: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let end = start.saturating_add(length);
    match end <= all {
        true => Ok(start..end),
        false => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the file ends before",
        )),
    }
}

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        let bytes = self.0.read();
        Ok(bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.read();
        let at = range(offset, out.len(), bytes.len())?;
        out.copy_from_slice(&bytes[at]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut bytes = self.0.write();
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::StorageFull)?;
        bytes.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.0.write();
        let at = range(offset, data.len(), bytes.len())?;
        bytes[at].copy_from_slice(data);
        Ok(())
    }
}
