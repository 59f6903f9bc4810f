//! Marks of earlier audits in a home: `cache/RUN.checked`, sealed with a secret of the home's key.
//!
//! What a mark stands for, and what is looked at again in spite of it, is said in [`tributary_ledger::mark`].

use std::fs;
use std::path::PathBuf;

use tributary_ledger::{Archive, Mark};
use tributary_protocol::hash::{Digest, Domain, Hasher};
use tributary_protocol::id::RunId;

use crate::home::{HomePaths, disk};
use crate::identity::Identity;

fn path(home: &HomePaths, run: &RunId) -> PathBuf {
    home.cache().join(format!("{run}.checked"))
}

/// Without the key there are no marks: anybody could have made them.
fn secret(home: &HomePaths) -> Option<Digest> {
    let identity = Identity::read_file(&home.key()).ok()?;
    let mut hasher = Hasher::new(Domain::Simulation);
    hasher.update(b"checked secret").update(identity.seed());
    Some(hasher.finalize())
}

/// The mark that this home keeps of a run.
pub(super) fn read(home: &HomePaths, run: &RunId) -> Option<Mark> {
    let bytes = fs::read(path(home, run)).ok()?;
    Mark::open(&bytes, &secret(home)?).filter(|mark| mark.run == *run)
}

/// Keeps what was audited since the archive was opened. A home that cannot be written is audited again next time.
pub fn keep(archive: &Archive, home: &HomePaths) {
    let Some(secret) = secret(home) else {
        return;
    };
    for mark in archive.new_marks() {
        let path = path(home, &mark.run);
        // Two commands at once each write their own.
        let partial = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = disk::make_folder(&home.cache())
            .and_then(|()| disk::write_by(&partial, &path, &mark.seal(&secret)));
        if let Err(e) = written {
            tracing::debug!(
                "that run {} holds is not kept for the next time: {e}",
                mark.run.short()
            );
        }
    }
}
