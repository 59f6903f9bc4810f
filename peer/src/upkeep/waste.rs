//! What lies in a home and no run needs: blobs that none names, files that were never finished, free pages of the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tributary_protocol::entry::Entry;
use tributary_protocol::event::Record;
use tributary_protocol::id::{BlobHash, RunId, Scope};
use tributary_protocol::log::Unverified;

use super::{HeldHome, named, refuse_running};
use crate::NETWORK;
use crate::home::{HomePaths, disk};
use crate::model::{self, share};
use crate::store::{LedgerReader, StoreError, is_left_over};
use crate::terminal::Failure;

/// What a collection removes, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Collection {
    /// Whether it was only looked for.
    pub(crate) dry_run: bool,
    /// Blobs that no run of the home names.
    pub(crate) blobs: u64,
    /// Their bytes.
    pub(crate) blob_bytes: u64,
    /// Blobs that runs name, which stay.
    pub(crate) kept_blobs: u64,
    /// Their bytes.
    pub(crate) kept_blob_bytes: u64,
    /// Files that were not finished, were set aside as damaged, or can be made again and are of no run that is here.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) file_bytes: u64,
    /// Bytes of the ledger's file before.
    pub(crate) ledger_bytes_before: u64,
    /// And after; nothing where it was only looked for.
    pub(crate) ledger_bytes_after: Option<u64>,
}

/// Says what a collection would remove. The home stays as it is.
///
/// # Errors
/// Where a daemon runs on the home, there is none, or it cannot be read.
pub(crate) fn look(paths: &HomePaths) -> Result<Collection, Failure> {
    refuse_running(paths)?;
    let reader = LedgerReader::open(paths)?;
    let blobs = reader.blobs()?;
    let files = left_over(paths, reader.records())?;
    let unnamed = unnamed(reader.records(), &blobs);
    Ok(Collection {
        dry_run: true,
        ..found(paths, &blobs, &unnamed, &files)?
    })
}

/// Removes what no run needs, and compacts the ledger.
///
/// # Errors
/// As [`look`]. What was removed until then is waste all the same.
pub(crate) fn collect(root: &Path) -> Result<Collection, Failure> {
    let paths = HomePaths::new(root);
    refuse_running(&paths)?;
    // Before the home is taken, which removes some of them.
    let files = left_over(&paths, LedgerReader::open(&paths)?.records())?;
    let held = HeldHome::take(root)?;
    let unnamed = unnamed(&held.records, &held.blobs);
    let found = found(&paths, &held.blobs, &unnamed, &files)?;
    held.store.remove_blobs(&unnamed)?;
    for path in files.keys() {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(unreadable("remove", path, &e).into());
            }
            _ => {}
        }
    }
    forget_bases(&paths)?;
    Ok(Collection {
        ledger_bytes_after: Some(held.store.compact()?),
        ..found
    })
}

fn unnamed(records: &[Record], blobs: &BTreeMap<BlobHash, u64>) -> BTreeSet<BlobHash> {
    let named: BTreeSet<BlobHash> = named(records).into_values().flatten().collect();
    let loose = blobs.keys().filter(|hash| !named.contains(hash));
    // A proposal that is not decided may name one that nothing else does.
    loose
        .filter(|hash| !is_judged(records, hash))
        .copied()
        .collect()
}

/// Whether the record of an undecided height says the name of a blob.
fn is_judged(records: &[Record], hash: &BlobHash) -> bool {
    let name = hash.as_bytes().as_slice();
    records.iter().any(|record| match record {
        Record::Consensus { bytes, .. } => bytes.windows(name.len()).any(|at| at == name),
        _ => false,
    })
}

fn found(
    paths: &HomePaths,
    blobs: &BTreeMap<BlobHash, u64>,
    unnamed: &BTreeSet<BlobHash>,
    files: &BTreeMap<PathBuf, u64>,
) -> Result<Collection, StoreError> {
    let ledger = paths.ledger();
    let ledger_bytes = fs::metadata(&ledger)
        .map_err(|e| unreadable("look at", &ledger, &e))?
        .len();
    let blob_bytes: u64 = unnamed.iter().filter_map(|hash| blobs.get(hash)).sum();
    Ok(Collection {
        dry_run: false,
        blobs: unnamed.len() as u64,
        blob_bytes,
        kept_blobs: (blobs.len() - unnamed.len()) as u64,
        kept_blob_bytes: blobs.values().sum::<u64>() - blob_bytes,
        files: files.len() as u64,
        file_bytes: files.values().sum(),
        ledger_bytes_before: ledger_bytes,
        ledger_bytes_after: None,
    })
}

/// Files that nobody finished or that can be made again, and their sizes. Links are not followed.
fn left_over(paths: &HomePaths, records: &[Record]) -> Result<BTreeMap<PathBuf, u64>, StoreError> {
    let runs: BTreeSet<RunId> = named(records).into_keys().collect();
    let wanted = bases(records, &runs);
    let (cache, blobs) = (paths.cache(), paths.blobs());
    let mut out = BTreeMap::new();
    let mut folders = vec![paths.root().to_owned()];
    while let Some(folder) = folders.pop() {
        let io = |e: io::Error| unreadable("list", &folder, &e);
        for entry in fs::read_dir(&folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(io)?);
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            let is_waste = disk::is_abandoned(&path)
                || (folder == blobs && is_left_over(&path))
                || (folder == cache && is_of_another_run(&path, &runs))
                || is_of_another_base(paths, &path, &wanted)
                || path == paths.ledger().with_extension("new");
            if kind.is_file() && is_waste {
                out.insert(path, entry.metadata().map_err(io)?.len());
            }
        }
    }
    Ok(out)
}

/// Whether a file of the cache is about a run that is not here.
fn is_of_another_run(path: &Path, runs: &BTreeSet<RunId>) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let run: Option<RunId> = stem.and_then(|stem| stem.parse().ok());
    run.is_some_and(|run| !runs.contains(&run))
}

/// The bases that runs of the home are about, and the listings by which they are fetched.
fn bases(records: &[Record], runs: &BTreeSet<RunId>) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for record in records {
        let Record::Block(bytes) = record else {
            continue;
        };
        let Ok(block) = Unverified::decode(bytes, NETWORK) else {
            continue;
        };
        let is_here = |scope: &Scope| matches!(scope, Scope::Run(run) if runs.contains(run));
        for entry in block
            .block()
            .entries
            .iter()
            .filter(|_| is_here(&block.block().scope))
        {
            if let Entry::Create(manifest) = entry {
                let base = &manifest.model.base;
                out.insert(base.hash.to_string());
                out.extend(base.files.map(|listing| listing.hash.to_string()));
            }
        }
    }
    out
}

/// Whether a file is of a base that was fetched, whole or in part, for no run that is here.
fn is_of_another_base(paths: &HomePaths, path: &Path, wanted: &BTreeSet<String>) -> bool {
    let Ok(within) = path.strip_prefix(share::folder(paths)) else {
        return false;
    };
    let first = within.components().next();
    let first = first.and_then(|part| part.as_os_str().to_str());
    let hash = first.and_then(|name| name.split('.').next());
    hash.is_some_and(|hash| !wanted.contains(hash))
}

/// Forgets bases whose files are gone, and their empty folders.
fn forget_bases(paths: &HomePaths) -> Result<(), Failure> {
    for entry in fs::read_dir(share::folder(paths))
        .into_iter()
        .flatten()
        .flatten()
    {
        // One that is not empty stays, and a file is no folder.
        let _ = fs::remove_dir(entry.path());
    }
    Ok(model::forget_missing(paths)?)
}

fn unreadable(doing: &'static str, path: &Path, e: &io::Error) -> StoreError {
    StoreError::Io {
        doing,
        path: path.to_owned(),
        why: e.to_string(),
    }
}
