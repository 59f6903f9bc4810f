//! A home's records put back together: per run its manifest, logs and certificates.
//!
//! Only puts together; what does not decode or verify is kept as a fault, and what is there is judged
//! in `check`. Blobs stay on the disk and are read, with their hash checked, when asked for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tributary_protocol::adapter::Adapter;
use tributary_protocol::audit;
use tributary_protocol::certificate::Certificate;
use tributary_protocol::entry::Entry;
use tributary_protocol::event::Record;
use tributary_protocol::hash;
use tributary_protocol::id::{BlobHash, RunId, Scope, Seq};
use tributary_protocol::log::Unverified;
use tributary_protocol::logset::LogSet;
use tributary_protocol::manifest::Manifest;
use tributary_protocol::state;

use super::Fault;
use crate::NETWORK;
use crate::home::HomePaths;
use crate::store::{LedgerReader, StoreError};
use crate::terminal::Failure;
use crate::view::AdapterView;
use crate::view::book::Book;

/// See the module.
pub struct Archive {
    /// Runs, by id.
    pub runs: Vec<ArchivedRun>,
    /// What could not be put together.
    pub faults: Vec<Fault>,
    blobs: PathBuf,
}

/// One run of a home.
pub struct ArchivedRun {
    /// Its id.
    pub id: RunId,
    /// Its manifest, when the creator's first block is here.
    pub manifest: Option<Manifest>,
    /// The chain of certificates, one a round.
    pub certificates: Vec<Certificate>,
    /// Stored certificates that contradict the chain: proof against whoever signed both.
    pub contradictions: Vec<Certificate>,
    /// All logs.
    pub log: LogSet,
    /// Every block's bytes, as stored.
    pub(super) blocks: Vec<Vec<u8>>,
}

impl Archive {
    /// Reads a stopped home.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(paths: &HomePaths) -> Result<Self, StoreError> {
        let reader = LedgerReader::open(paths)?;
        Ok(Self::of(reader.records(), paths))
    }

    /// Puts records together.
    pub fn of(records: &[Record], paths: &HomePaths) -> Self {
        let mut parts: BTreeMap<RunId, ArchivedRun> = BTreeMap::new();
        let mut archive = Self {
            runs: Vec::new(),
            faults: Vec::new(),
            blobs: paths.blobs(),
        };
        // A log must hear of the certificates that rely on its entries before it hears of its blocks.
        for record in records {
            match record {
                Record::Certificate { run, round, bytes } => {
                    let part = parts.entry(*run).or_insert_with(|| ArchivedRun::new(*run));
                    match Certificate::decode(bytes) {
                        Ok(certificate) => part.rely_on(certificate),
                        Err(why) => archive.faults.push(
                            Fault::of(format!("certificate: {why}"))
                                .in_run(*run)
                                .at(*round),
                        ),
                    }
                }
                Record::Followed { run, .. } => {
                    parts.entry(*run).or_insert_with(|| ArchivedRun::new(*run));
                }
                _ => {}
            }
        }
        for record in records {
            if let Record::Block(bytes) = record {
                archive.add_block(&mut parts, bytes);
            }
        }
        for part in parts.values_mut() {
            part.finish();
        }
        archive.runs = parts.into_values().collect();
        archive
    }

    fn add_block(&mut self, parts: &mut BTreeMap<RunId, ArchivedRun>, bytes: &[u8]) {
        let block = match Unverified::decode(bytes, NETWORK) {
            Ok(block) => block,
            Err(why) => return self.faults.push(Fault::of(format!("a block: {why}"))),
        };
        let Scope::Run(run) = block.block().scope else {
            return; // Nothing of this version relies on the network's scope.
        };
        let part = parts.entry(run).or_insert_with(|| ArchivedRun::new(run));
        part.blocks.push(bytes.to_vec());
        // A signature that does not verify is for the audit to report.
        if let Ok(signed) = block.verify() {
            part.log.insert(signed);
        }
    }

    /// A blob; `None` when it is not here.
    ///
    /// # Errors
    /// A sentence, when its content does not have the hash that is its name.
    pub fn blob(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, String> {
        let path = self.blobs.join(hash.to_string());
        match std::fs::read(&path) {
            Ok(bytes) if BlobHash(hash::blob(&bytes)) == hash => Ok(Some(bytes)),
            Ok(_) => Err(format!(
                "blob {} does not have the hash that is its name",
                hash.short()
            )),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(format!("blob {} cannot be read: {e}", hash.short())),
        }
    }

    /// Runs whose manifest is here, as books, and whether the last adapter is here too.
    pub fn books(&self) -> impl Iterator<Item = (bool, Book<'_>)> {
        self.runs.iter().filter_map(|run| {
            let manifest = run.manifest.as_ref()?;
            let last = run.certificates.last().map(|c| c.value.adapter.hash);
            let here = last.is_some_and(|hash| self.blobs.join(hash.to_string()).exists());
            let book = Book {
                manifest,
                chain: &run.certificates,
                log: &run.log,
            };
            Some((here, book))
        })
    }

    /// The adapter that a view names, with its run's manifest, after checking the run.
    ///
    /// # Errors
    /// When the run does not verify, or the adapter is not here.
    pub fn adapter(&self, view: &AdapterView) -> Result<(Manifest, Adapter), Failure> {
        let mut report = super::Report::default();
        super::check::archive(self, &mut report);
        if let Some(fault) = report.faults.first() {
            return Err(Failure::check(format!("the ledger does not hold: {fault}"))
                .hint("`tributary ledger verify` shows everything that is wrong"));
        }
        let missing = || {
            Failure::environment(format!("the adapter {} is not in this home", view.id))
                .hint("`tributary adapter get ID DIR --bootstrap ADDR` fetches it")
        };
        let found = self.runs.iter().find(|run| run.id.to_string() == view.run);
        let manifest = found
            .and_then(|run| run.manifest.clone())
            .ok_or_else(missing)?;
        let hash = view.id.parse().map_err(|_| missing())?;
        let bytes = self
            .blob(hash)
            .map_err(Failure::check)?
            .ok_or_else(missing)?;
        let adapter = Adapter::from_bytes(Arc::new(manifest.adapter.clone()), &bytes)
            .map_err(|e| Failure::check(format!("the adapter {}: {e}", view.id)))?;
        Ok((manifest, adapter))
    }
}

impl ArchivedRun {
    fn new(id: RunId) -> Self {
        Self {
            id,
            manifest: None,
            certificates: Vec::new(),
            contradictions: Vec::new(),
            log: LogSet::new(NETWORK, Scope::Run(id)),
            blocks: Vec::new(),
        }
    }

    fn rely_on(&mut self, certificate: Certificate) {
        state::relied(&certificate.value).for_each(|at| self.log.certify(&at));
        self.certificates.push(certificate);
    }

    /// The manifest is the first entry of its creator's log, and hashes to the run's id.
    fn finish(&mut self) {
        let stored = std::mem::take(&mut self.certificates);
        (self.certificates, self.contradictions) = audit::choose(stored);
        let created = self.log.all().find_map(|(at, entry)| match entry {
            Entry::Create(manifest)
                if at.author == manifest.creator
                    && (at.seq, at.index) == (Seq(0), 0)
                    && manifest.run_id() == self.id =>
            {
                Some((**manifest).clone())
            }
            _ => None,
        });
        self.manifest = created;
    }
}
