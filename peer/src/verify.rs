//! `ledger verify`: re-checks a home from bytes alone.
//!
//! | bytes | what covers them |
//! |---|---|
//! | `key` | its checksum |
//! | `ledger.redb` | page checksums, a checksum a row, and then what the rows say: signatures, links, certificates, aggregates, states, scores, credits |
//! | `blobs/HASH` | the hash that is the name |
//! | `shards/committed/ROOT.json` | the Merkle root that is the name |
//! | `shards/NAME/files/HASH.NAME` | the hash in the name |
//! | `cache/RUN.moved` | its checksum; what does not hold is made again |
//! | `demo.json` of a demo | its checksum; the exported adapter is written again and compared |
//!
//! Harmless by construction, because nothing relies on them: `lock` (empty), `config.toml` (the name
//! for future joins), `bases.json` (a hint; what it leads to is hashed), `evidence` (what others were shown within the
//! hour; nothing is answered from a damaged one), `control.json` (a running daemon's address), free pages of the database, and files that no home has.

pub mod archive;

pub(crate) mod check;
pub mod explain;
pub(crate) mod files;
pub mod holdout;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tributary_protocol::id::{Round, RunId};

use crate::daemon::{Daemon, StartError};
use crate::home::{HomeError, HomePaths};
use crate::identity::IdentityError;
use crate::store::{LedgerReader, StoreError};
use archive::Archive;

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

/// What was checked, and what does not hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whether everything holds.
    pub verified: bool,
    /// Runs, by home.
    pub runs: Vec<RunReport>,
    /// What does not hold.
    pub faults: Vec<Fault>,
    /// What the home proves against others, and withstood: the ledger holds nevertheless.
    #[serde(default)]
    pub findings: Vec<Fault>,
    /// What was not checked, and why that is no fault.
    pub notes: Vec<String>,
}

/// What was checked of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReport {
    /// Folder of the home below the one that was asked for; `.` when it is that one.
    pub home: String,
    /// The run.
    pub run: String,
    /// Certified heights, genesis and closing included.
    pub rounds: u32,
    /// Training rounds among them.
    pub trained: u32,
    /// Signed blocks.
    pub blocks: u32,
    /// Signatures of blocks and certificates.
    pub signatures: u32,
    /// Training rounds whose aggregate was recomputed from the updates.
    pub aggregates: u32,
    /// Accounts, whose balances sum to zero.
    pub accounts: u32,
    /// The last certified state.
    pub state: String,
}

/// Something that does not hold, or that somebody did who signed two things.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Folder of the home below the one that was asked for.
    pub home: String,
    /// The run, if it can be told.
    pub run: Option<String>,
    /// Whose statement it is.
    pub author: Option<String>,
    /// Its place in the author's log.
    pub sequence: Option<u64>,
    /// The round.
    pub round: Option<u32>,
    /// What does not hold.
    pub reason: String,
}

impl Fault {
    /// With a reason only.
    pub fn of(reason: impl ToString) -> Self {
        Self {
            reason: reason.to_string(),
            ..Self::default()
        }
    }
    /// About a run.
    #[must_use]
    pub fn in_run(mut self, run: RunId) -> Self {
        self.run = Some(run.to_string());
        self
    }
    /// About a round.
    #[must_use]
    pub fn at(mut self, round: Round) -> Self {
        self.round = Some(round.0);
        self
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.home.is_empty() && self.home != "." {
            write!(f, "home {}, ", self.home)?;
        }
        if let Some(run) = &self.run {
            write!(f, "run {}, ", crate::view::short(run))?;
        }
        if let Some(round) = self.round {
            write!(f, "round {round}, ")?;
        }
        if let Some(author) = &self.author {
            write!(f, "author {}, ", crate::view::short(author))?;
        }
        if let Some(sequence) = self.sequence {
            write!(f, "sequence {sequence}, ")?;
        }
        f.write_str(&self.reason)
    }
}

/// Checks a stopped home.
///
/// # Errors
/// [`VerifyError`] when it cannot be read at all.
pub fn home(root: &Path) -> Result<Report, VerifyError> {
    let mut report = Report::default();
    if !root.is_dir() {
        return Err(HomeError::Missing(root.to_owned()).into());
    }
    stopped(&HomePaths::new(root), ".", &mut report)?;
    Ok(report.concluded())
}

impl Report {
    /// With its verdict. Where nothing was checked, nothing is verified.
    pub(crate) fn concluded(mut self) -> Self {
        if self.runs.is_empty() && self.faults.is_empty() {
            self.faults.push(Fault::of(
                "no run is in this ledger, so nothing was checked",
            ));
        }
        self.verified = self.faults.is_empty();
        self
    }
}

/// Checks one stopped home into `report`, under `name`.
pub(crate) fn stopped(
    paths: &HomePaths,
    name: &str,
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
    files::check(paths, report)?;
    let archive = match LedgerReader::open(paths) {
        Ok(reader) => {
            let archive = Archive::of(reader.records(), paths);
            check::archive(&archive, report);
            Some(archive)
        }
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

/// Checks the home of a running daemon: what is durable at this moment.
///
/// # Errors
/// [`VerifyError`] when it cannot be read.
pub async fn running(daemon: &Daemon, paths: &HomePaths) -> Result<Report, VerifyError> {
    let records = daemon.records().await?;
    let paths = paths.clone();
    let checking = tokio::task::spawn_blocking(move || {
        let mut report = Report::default();
        files::check(&paths, &mut report)?;
        check::archive(&Archive::of(&records, &paths), &mut report);
        for run in &mut report.runs {
            ".".clone_into(&mut run.home);
        }
        Ok(report.concluded())
    });
    checking
        .await
        .map_err(|e| VerifyError::Stopped(e.to_string()))?
}
