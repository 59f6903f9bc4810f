//! What earlier checks found, kept in a home's cache and sealed with a secret of the home's key.
//!
//! | file | what it says |
//! |---|---|
//! | `RUN.checked` | what an audit of a run found ([`tributary_ledger::mark`]) |
//! | `ledger.checked` | what was found of the ledger as a whole ([`tributary_ledger::glance`]) |
//! | `blobs.checked` | which blobs were hashed ([`tributary_ledger::seen`]) |
//!
//! Any of them may be missing, damaged or of another home: then what it would have saved is done again.

use std::fs;
use std::path::{Path, PathBuf};

use tributary_ledger::{Archive, Glance, Mark, Seen};
use tributary_protocol::hash::{Digest, Domain, Hasher};
use tributary_protocol::id::RunId;

use crate::home::{HomePaths, disk};
use crate::identity::Identity;

fn path(home: &HomePaths, run: &RunId) -> PathBuf {
    home.cache().join(format!("{run}.checked"))
}

fn glance_path(home: &HomePaths) -> PathBuf {
    home.cache().join("ledger.checked")
}

fn seen_path(home: &HomePaths) -> PathBuf {
    home.cache().join("blobs.checked")
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

/// What the last check of the whole ledger found.
pub(super) fn glance(home: &HomePaths) -> Option<Glance> {
    Glance::open(&fs::read(glance_path(home)).ok()?, &secret(home)?)
}

/// The blobs that were hashed, and how their files looked.
pub(super) fn seen(home: &HomePaths) -> Option<Seen> {
    Seen::open(&fs::read(seen_path(home)).ok()?, &secret(home)?)
}

/// Keeps what was audited since the archive was opened. A home that cannot be written is audited again next time.
pub fn keep(archive: &Archive, home: &HomePaths) {
    for mark in archive.new_marks() {
        write(home, &path(home, &mark.run), &|secret| mark.seal(secret));
    }
}

pub(super) fn keep_glance(home: &HomePaths, glance: &Glance) {
    write(home, &glance_path(home), &|secret| glance.seal(secret));
}

pub(super) fn keep_seen(home: &HomePaths, seen: &Seen) {
    write(home, &seen_path(home), &|secret| seen.seal(secret));
}

fn write(home: &HomePaths, path: &Path, seal: &dyn Fn(&Digest) -> Vec<u8>) {
    let Some(secret) = secret(home) else {
        return;
    };
    let written =
        disk::make_folder(&home.cache()).and_then(|()| disk::write_whole(path, &seal(&secret)));
    if let Err(e) = written {
        tracing::debug!(
            "what was checked is not kept for the next time in {}: {e}",
            path.display()
        );
    }
}
