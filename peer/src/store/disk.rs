//! A disk that fails on purpose: writes are lost until they are synced.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;
use tributary_protocol::hash::{Domain, Hasher};

/// When the disk fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Never.
    Never,
    /// The machine stops at this operation; unsynced writes may or may not have happened.
    CrashAt(usize),
    /// From this operation on, nothing can be written.
    FullAt(usize),
}

#[derive(Debug)]
struct State {
    fault: Fault,
    operations: usize,
    /// As the program sees it.
    view: Vec<u8>,
    /// As of the last sync.
    durable: Vec<u8>,
    /// Since then.
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

/// A disk that loses writes until they are synced. Clones share one disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub(crate) fn new(fault: Fault) -> Self {
        Self::holding(fault, Vec::new())
    }

    fn holding(fault: Fault, bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State {
            fault,
            operations: 0,
            view: bytes.clone(),
            durable: bytes,
            unsynced: Vec::new(),
        })))
    }

    /// Fails as told, counting from here.
    pub(crate) fn arm(&self, fault: Fault) {
        let mut state = self.0.lock();
        state.operations = 0;
        state.fault = fault;
    }

    /// Changes and syncs so far.
    pub(crate) fn operations(&self) -> usize {
        self.0.lock().operations
    }

    /// What a restart finds: seed 0 drops every unsynced change, seed 1 keeps all, others draw.
    pub(crate) fn after_power_loss(&self, seed: u64) -> Self {
        let state = self.0.lock();
        let mut bytes = state.durable.clone();
        let mut hasher = Hasher::new(Domain::Simulation);
        hasher.update(&seed.to_le_bytes());
        let mut draw = hasher.finalize_xof();
        for change in &state.unsynced {
            let keep = match seed {
                0 => false,
                1 => true,
                _ => draw.below(2) == 1,
            };
            if keep {
                apply(&mut bytes, change);
            }
        }
        Self::holding(Fault::Never, bytes)
    }

    /// What the next process finds when only the program stopped; that one's disk fails as told.
    pub(crate) fn copy(&self, fault: Fault) -> Self {
        Self::holding(fault, self.0.lock().view.clone())
    }

    fn change(&self, change: Option<Change>) -> io::Result<()> {
        let mut state = self.0.lock();
        let at = state.operations;
        state.operations += 1;
        match state.fault {
            Fault::CrashAt(limit) if at >= limit => {
                return Err(io::Error::other("the machine is off"));
            }
            Fault::FullAt(limit) if at >= limit => {
                return Err(io::ErrorKind::StorageFull.into());
            }
            _ => {}
        }
        match change {
            Some(change) => {
                apply(&mut state.view, &change);
                state.unsynced.push(change);
            }
            None => {
                state.durable = state.view.clone();
                state.unsynced.clear();
            }
        }
        Ok(())
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => bytes.resize(*length, 0),
        Change::Write(offset, data) => {
            let end = offset + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(data);
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().view.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock();
        let from = offset as usize;
        let bytes = state.view.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Some(Change::Length(len as usize)))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(None)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Some(Change::Write(offset as usize, data.to_vec())))
    }
}
