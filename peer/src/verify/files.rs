//! Files of a home outside the database: blobs and shards.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tributary_ledger::{Fault, Look, Report, Seen, seen};
use tributary_protocol::hash::{self, Digest};
use tributary_protocol::id::BlobHash;

use super::{Depth, VerifyError, marks};
use crate::home::HomePaths;
use crate::shard;

/// What a folder holds, in order of names; nothing when it is not there.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, VerifyError> {
    let io = |source| VerifyError::Io {
        path: folder.to_owned(),
        source,
    };
    let mut out = Vec::new();
    match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(io(e)),
        Ok(entries) => {
            for entry in entries {
                out.push(entry.map_err(io)?.path());
            }
        }
    }
    out.sort();
    Ok(out)
}

/// Blobs and shards of one home, and a name for the blobs that are here. A blob is hashed unless the check is none in
/// full and its file looks as it did when it was hashed ([`tributary_ledger::seen`]).
pub(super) fn check(
    paths: &HomePaths,
    depth: Depth,
    report: &mut Report,
) -> Result<Digest, VerifyError> {
    let before = match depth {
        Depth::Full => None,
        Depth::Marked => marks::seen(paths),
    };
    let started = nanoseconds(SystemTime::now().duration_since(UNIX_EPOCH).ok());
    let found = blobs(&paths.blobs(), &before.clone().unwrap_or_default())?;
    let strange = found.strange.iter();
    let notes = strange.map(|path| format!("{} is no blob; nothing relies on it", path.display()));
    report.notes.extend(notes);
    for path in &found.damaged {
        let why = format!("{} does not have the hash that is its name", path.display());
        report.faults.push(Fault::of(why));
    }
    let after = Seen::new(found.good, started);
    if before.as_ref() != Some(&after) {
        marks::keep_seen(paths, &after);
    }
    if let Err(e) = shard::check_all(paths) {
        report.faults.push(Fault::of(e));
    }
    Ok(seen::names(found.names))
}

/// What lies in a folder of blobs.
#[derive(Default)]
struct Found {
    names: Vec<BlobHash>,
    /// Files that have their hash, now or when they were looked at last.
    good: Vec<(BlobHash, Look)>,
    /// Files that do not, and files that are no blobs, in order.
    damaged: Vec<PathBuf>,
    strange: Vec<PathBuf>,
}

fn blobs(folder: &Path, seen: &Seen) -> Result<Found, VerifyError> {
    let io = |path: &Path, source| VerifyError::Io {
        path: path.to_owned(),
        source,
    };
    let mut found = Found::default();
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries.map_err(|e| io(folder, e))?,
    };
    for entry in entries {
        let entry = entry.map_err(|e| io(folder, e))?;
        let name = entry.file_name();
        let Some(hash) = name.to_str().and_then(|name| name.parse().ok()) else {
            found.strange.push(entry.path());
            continue;
        };
        found.names.push(hash);
        // Before it is read, so that a later change shows.
        let look = entry.metadata().ok().and_then(|file| look(&file));
        if let Some(look) = look.filter(|look| seen.knows(&hash, look)) {
            found.good.push((hash, look));
            continue;
        }
        let path = entry.path();
        let bytes = fs::read(&path).map_err(|e| io(&path, e))?;
        if BlobHash(hash::blob(&bytes)) != hash {
            found.damaged.push(path);
        } else if let Some(look) = look {
            found.good.push((hash, look));
        }
    }
    found.damaged.sort();
    found.strange.sort();
    Ok(found)
}

/// How a plain file looks; `None` where the system does not tell when it was changed.
#[cfg(unix)]
fn look(file: &fs::Metadata) -> Option<Look> {
    use std::os::unix::fs::MetadataExt;
    let time = |seconds: i64, nanos: i64| {
        let seconds = u64::try_from(seconds).ok()?;
        seconds
            .checked_mul(1_000_000_000)?
            .checked_add(u64::try_from(nanos).ok()?)
    };
    let look = Look {
        size: file.len(),
        written_ns: time(file.mtime(), file.mtime_nsec())?,
        changed_ns: time(file.ctime(), file.ctime_nsec())?,
        inode: file.ino(),
    };
    file.is_file().then_some(look)
}

#[cfg(not(unix))]
fn look(_: &fs::Metadata) -> Option<Look> {
    None
}

/// Zero, before everything, where there is no time.
fn nanoseconds(since: Option<Duration>) -> u64 {
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0))
}

#[cfg(all(test, unix))]
mod tests;
