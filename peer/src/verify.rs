//! What a home's bytes are handed to [`tributary_ledger`] as, and `ledger verify` of all that lies in a home.
//!
//! | bytes | what covers them |
//! |---|---|
//! | `key` | its checksum |
//! | `ledger.redb` | page checksums, a checksum a row, and then what the rows say: signatures, links, certificates, aggregates, states, scores, credits |
//! | `blobs/HASH` | the hash that is the name; a file that looks as it did when it was hashed is not read again, except in full |
//! | `shards/committed/ROOT.json` | the Merkle root that is the name |
//! | `shards/NAME/files/HASH.NAME` | the hash in the name |
//! | `cache/RUN.moved`, `cache/*.checked` | a checksum, a seal; what does not hold is made again |
//! | `demo.json` of a demo | its checksum; the exported adapter is written again and compared |
//!
//! Harmless by construction, because nothing relies on them: `lock`, `shards/.lock` and `invitations.lock` (empty), `config.toml` (the name
//! for future joins), `bases.json` (a hint; what it leads to is hashed), `invitations.json` (what tickets are good; a
//! damaged one lets none be accepted), `evidence` (what others were shown within the
//! hour; nothing is answered from a damaged one), `chain/` (transactions on their way to a real chain; a damaged table sends none), `control.json` (a running daemon's address), free pages of the database, and files that no home has.

pub(crate) mod files;
pub mod holdout;
mod marks;

pub use marks::keep;

use std::path::{Path, PathBuf};

use tributary_ledger::explain::{self, ShardText};
use tributary_ledger::proof;
use tributary_ledger::view::ProofView;
use tributary_ledger::view::books::BooksView;
use tributary_ledger::view::explain::Explanation;
use tributary_ledger::{Archive, Fault, Glance, LedgerIndex, Remedy, Report, Snapshot, audit};
use tributary_protocol::event::Record;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{MerkleRoot, PeerId, Round, RunId};

use crate::NETWORK;
use crate::daemon::{Daemon, StartError};
use crate::home::{HomeError, HomePaths};
use crate::identity::IdentityError;
use crate::shard::{Committed, ShardError};
use crate::store::{Blobs, Checks, LedgerFile, LedgerReader, StoreError};
use crate::terminal::Failure;

/// Why nothing could be checked. A fault that was found is no error but part of the [`Report`].
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The ledger is in use, or the disk refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The daemon could not read its ledger.
    #[error(transparent)]
    Daemon(#[from] StartError),
    /// The disk refused.
    #[error("could not read {path}: {source}; check the path and the permissions")]
    Io {
        /// What was read.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The check itself stopped.
    #[error("the check stopped: {0}; please report this")]
    Stopped(String),
}

/// How much of a stopped home is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Everything.
    Full,
    /// All but what an earlier audit of exactly the same bytes found ([`tributary_ledger::mark`]), and hashes of
    /// blobs whose files were not written since ([`tributary_ledger::seen`]).
    Marked,
}

/// The archive of a stopped home, with what earlier audits of the same bytes found.
///
/// # Errors
/// [`StoreError`].
pub fn archive(paths: &HomePaths) -> Result<Archive, StoreError> {
    Ok(opened(&decoded(paths)?, paths, Depth::Marked))
}

/// The ledger of a stopped home. Pages and rows of a file that was checked as a whole are not checked again.
fn decoded(paths: &HomePaths) -> Result<LedgerReader, StoreError> {
    let file = LedgerFile::read(paths)?;
    let checked = marks::glance(paths).is_some_and(|glance| glance.ledger == file.hash());
    file.decode(match checked {
        true => Checks::MadeBefore,
        false => Checks::Made,
    })
}

fn opened(reader: &LedgerReader, paths: &HomePaths, depth: Depth) -> Archive {
    let blobs = Blobs::read_only(paths.blobs());
    match depth {
        Depth::Full => Archive::of(NETWORK, reader.records(), blobs),
        Depth::Marked => Archive::marked(NETWORK, reader.records(), blobs, &|run| {
            marks::read(paths, run)
        }),
    }
}

/// The archive of records that were read from a home.
pub fn archive_of(records: &[Record], paths: &HomePaths) -> Archive {
    Archive::of(NETWORK, records, Blobs::read_only(paths.blobs()))
}

/// The runs of a stopped home as readers are shown them. Nothing is checked.
///
/// # Errors
/// [`StoreError`].
pub fn index(paths: &HomePaths) -> Result<Snapshot, StoreError> {
    let reader = decoded(paths)?;
    Ok(LedgerIndex::of(NETWORK, reader.records()).snapshot())
}

/// Explains a payout to the owner `me` of a home.
///
/// # Errors
/// As [`explain::explain`].
pub fn explain(
    archive: &Archive,
    home: &HomePaths,
    me: PeerId,
    wanted: &str,
) -> Result<Explanation, Failure> {
    let text = |root: &MerkleRoot| match Committed::read(home, root) {
        Ok(_) => ShardText::Here,
        Err(e @ ShardError::Damaged { .. }) => ShardText::Damaged(e.to_string()),
        Err(_) => ShardText::Elsewhere,
    };
    let explained = explain::explain(archive, &text, me, wanted);
    keep(archive, home);
    explained.map_err(failure)
}

/// Proves what a receipt was paid.
///
/// # Errors
/// As [`proof::prove`].
pub fn prove(archive: &Archive, me: PeerId, wanted: &str) -> Result<ProofView, Failure> {
    proof::prove(archive, me, wanted).map_err(failure)
}

/// A run's books as they were after a height, worked out from the beginning.
///
/// # Errors
/// When the run is not in the archive, or its certificates contradict themselves.
pub(crate) fn books(
    archive: &Archive,
    run: RunId,
    height: Option<u32>,
) -> Result<BooksView, Failure> {
    let height = height.map(Round);
    let mut accounts = archive.books().map(|(_, account)| account);
    let account = accounts.find(|account| account.manifest.run_id() == run);
    let account = account.ok_or_else(|| {
        Failure::environment(format!("nothing of run {} is in this home", run.short()))
            .hint("`tributary run list` shows what is")
    })?;
    let books = account.run_books_until(height.unwrap_or(Round(u32::MAX)));
    let books = books.map_err(|why| Failure::check(why.to_string()))?;
    Ok(BooksView::of(account.manifest, &books, height))
}

/// As commands fail: what was checked is wrong, or could not be looked at; and what to do.
pub fn failure(error: impl Remedy) -> Failure {
    let failure = match error.is_wrong() {
        true => Failure::check(error.to_string()),
        false => Failure::environment(error.to_string()),
    };
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Checks a stopped home.
///
/// # Errors
/// [`VerifyError`] when it cannot be read at all.
pub fn home(root: &Path, depth: Depth) -> Result<Report, VerifyError> {
    let mut report = Report::default();
    if !root.is_dir() {
        return Err(HomeError::Missing(root.to_owned()).into());
    }
    stopped(&HomePaths::new(root), (".", depth), &mut report)?;
    Ok(report.concluded())
}

/// Checks one stopped home into `report`, under `name`. There is no archive where the ledger is damaged, or the same as
/// at the last check.
pub(crate) fn stopped(
    paths: &HomePaths,
    (name, depth): (&str, Depth),
    report: &mut Report,
) -> Result<Option<Archive>, VerifyError> {
    let before = (
        report.faults.len(),
        report.findings.len(),
        report.runs.len(),
    );
    // An auditor's copy has no key: it takes none to check what is signed.
    let mut has_key = true;
    match crate::identity::Identity::read_file(&paths.key()) {
        Ok(_) => {}
        Err(IdentityError::Missing(_)) => has_key = false,
        Err(e) => report.faults.push(Fault::of(e)),
    }
    if !has_key {
        let why = format!("{name}: there is no key here; signatures are checked without one");
        report.notes.push(why);
    }
    let blobs = files::check(paths, depth, report)?;
    let archive = match ledger(paths, depth, blobs, report) {
        Ok(archive) => archive,
        Err(
            e @ (StoreError::Damaged { .. }
            | StoreError::DamagedFile { .. }
            | StoreError::Version { .. }
            | StoreError::UnknownTable(_)),
        ) => {
            report.faults.push(Fault::of(e));
            None
        }
        Err(StoreError::Missing(_)) if !has_key => {
            return Err(HomeError::Missing(paths.root().to_owned()).into());
        }
        Err(StoreError::Missing(at)) => {
            let why = format!(
                "there is no ledger at {}, so nothing was checked",
                at.display()
            );
            report.faults.push(Fault::of(why));
            None
        }
        Err(e) => return Err(e.into()),
    };
    let faults = report.faults[before.0..].iter_mut();
    for fault in faults.chain(&mut report.findings[before.1..]) {
        name.clone_into(&mut fault.home);
    }
    for run in &mut report.runs[before.2..] {
        name.clone_into(&mut run.home);
    }
    Ok(archive)
}

/// Checks the ledger of a stopped home, beside the blobs of a name. No archive where everything is as it was at the
/// last check.
fn ledger(
    paths: &HomePaths,
    depth: Depth,
    blobs: Digest,
    report: &mut Report,
) -> Result<Option<Archive>, StoreError> {
    let file = LedgerFile::read(paths)?;
    let ledger = file.hash();
    let before = marks::glance(paths).filter(|_| depth == Depth::Marked);
    let (found, archive) = match before.filter(|g| (g.ledger, g.blobs) == (ledger, blobs)) {
        Some(glance) => (glance.report, None),
        None => {
            let archive = opened(&file.decode(Checks::Made)?, paths, depth);
            let mut found = Report::default();
            audit::archive(&archive, &mut found);
            keep(&archive, paths);
            (found, Some(archive))
        }
    };
    if archive.is_some() && found.faults.is_empty() {
        let report = found.clone();
        let glance = Glance {
            ledger,
            blobs,
            report,
        };
        marks::keep_glance(paths, &glance);
    }
    report.runs.extend(found.runs);
    report.faults.extend(found.faults);
    report.findings.extend(found.findings);
    report.notes.extend(found.notes);
    Ok(archive)
}

/// Checks the home of a running daemon: what is durable at this moment.
///
/// # Errors
/// [`VerifyError`] when it cannot be read.
pub async fn running(daemon: &Daemon, paths: &HomePaths) -> Result<Report, VerifyError> {
    let records = daemon.records().await?;
    let paths = paths.clone();
    let checking = tokio::task::spawn_blocking(move || {
        let mut report = Report::default();
        files::check(&paths, Depth::Full, &mut report)?;
        audit::archive(&archive_of(&records, &paths), &mut report);
        for run in &mut report.runs {
            ".".clone_into(&mut run.home);
        }
        Ok(report.concluded())
    });
    checking
        .await
        .map_err(|e| VerifyError::Stopped(e.to_string()))?
}
