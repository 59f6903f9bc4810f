//! Files of a home outside the database: blobs and shards.

use std::fs;
use std::path::{Path, PathBuf};

use tributary_ledger::{Fault, Report};
use tributary_protocol::hash;
use tributary_protocol::id::BlobHash;

use super::VerifyError;
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

/// Blobs and shards of one home.
pub(super) fn check(paths: &HomePaths, report: &mut Report) -> Result<(), VerifyError> {
    for path in list(&paths.blobs())? {
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        let Ok(expected) = name.parse::<BlobHash>() else {
            report.notes.push(format!(
                "{} is no blob; nothing relies on it",
                path.display()
            ));
            continue;
        };
        let bytes = fs::read(&path).map_err(|source| VerifyError::Io {
            path: path.clone(),
            source,
        })?;
        if BlobHash(hash::blob(&bytes)) != expected {
            report.faults.push(Fault::of(format!(
                "{} does not have the hash that is its name",
                path.display()
            )));
        }
    }
    if let Err(e) = shard::check_all(paths) {
        report.faults.push(Fault::of(e));
    }
    Ok(())
}
