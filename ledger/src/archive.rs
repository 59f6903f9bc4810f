//! A home's records put back together: per run its manifest, logs and certificates.
//!
//! An archive does not judge: it keeps what does not decode as a fault, and [`crate::audit`] checks the rest. Blobs
//! stay where they are ([`Blobs`]) and are read, with their hash checked, when asked for.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, OnceLock};

use tributary_protocol::adapter::Adapter;
use tributary_protocol::audit;
use tributary_protocol::certificate::Certificate;
use tributary_protocol::entry::Entry;
use tributary_protocol::event::Record;
use tributary_protocol::hash::{self, Digest};
use tributary_protocol::id::{BlobHash, NetworkId, RunId, Scope, Seq};
use tributary_protocol::log::Unverified;
use tributary_protocol::logset::LogSet;
use tributary_protocol::manifest::Manifest;
use tributary_protocol::state;

use crate::Remedy;
use crate::book::Book;
use crate::mark::{Mark, Naming, Outcome};
use crate::report::{Fault, Report};
use crate::view::AdapterView;

/// Where an archive reads blobs: a folder, or a map in memory.
pub trait Blobs: Send + Sync {
    /// The bytes that are kept under `hash`, whatever they are; `None` when there are none.
    ///
    /// # Errors
    /// When they cannot be read.
    fn bytes(&self, hash: BlobHash) -> io::Result<Option<Vec<u8>>>;

    /// Whether something is kept under `hash`.
    fn holds(&self, hash: BlobHash) -> bool;
}

impl Blobs for BTreeMap<BlobHash, Vec<u8>> {
    fn bytes(&self, hash: BlobHash) -> io::Result<Option<Vec<u8>>> {
        Ok(self.get(&hash).cloned())
    }

    fn holds(&self, hash: BlobHash) -> bool {
        self.contains_key(&hash)
    }
}

/// Why a blob that is here cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Its content has changed.
    #[error("blob {} does not have the hash that is its name", .0.short())]
    Damaged(BlobHash),
    /// The system refused.
    #[error("blob {} cannot be read: {why}", hash.short())]
    Unreadable {
        /// The blob.
        hash: BlobHash,
        /// What the system says.
        why: io::Error,
    },
}

/// Why an archive gives no adapter.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// The run does not verify.
    #[error("the ledger does not hold: {0}")]
    Broken(Fault),
    /// The adapter, or its run's manifest, is not here.
    #[error("the adapter {0} is not in this home")]
    Missing(String),
    /// Its bytes are not what they should be.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Its bytes are not an adapter of the run.
    #[error("the adapter {id}: {why}")]
    Shape {
        /// The adapter.
        id: String,
        /// What does not fit.
        why: String,
    },
}

impl Remedy for AdapterError {
    fn is_wrong(&self) -> bool {
        !matches!(self, Self::Missing(_))
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Broken(_) => Some(crate::VERIFY_HINT.to_owned()),
            Self::Missing(_) => {
                let hint = "`tributary adapter get ID DIR --bootstrap ADDR` fetches it";
                Some(hint.to_owned())
            }
            Self::Blob(_) | Self::Shape { .. } => None,
        }
    }
}

/// The runs of a home, and its blobs.
pub struct Archive {
    /// Runs, by id.
    pub runs: Vec<ArchivedRun>,
    /// What could not be put together.
    pub faults: Vec<Fault>,
    /// The network that its blocks are for.
    pub network: NetworkId,
    blobs: Box<dyn Blobs>,
}

/// One run of a home.
pub struct ArchivedRun {
    /// Its id.
    pub id: RunId,
    /// Its manifest, when the creator's first block is here.
    pub manifest: Option<Manifest>,
    /// The chain of certificates, one a round.
    pub certificates: Vec<Certificate>,
    /// Stored certificates that contradict the chain: proof against the members that signed both.
    pub contradictions: Vec<Certificate>,
    /// All logs.
    pub log: LogSet,
    /// Every block's bytes, as stored.
    pub(crate) blocks: Vec<Vec<u8>>,
    /// Blocks whose signatures are still to be checked, while the run is put together.
    waiting: Vec<Unverified>,
    naming: Option<Naming>,
    /// Names the bytes of the run.
    key: Digest,
    /// What an audit found of these bytes: an earlier one by its mark, or one of this archive.
    pub(crate) checked: OnceLock<Outcome>,
    /// Whether a mark said so.
    pub(crate) was_marked: bool,
}

impl Archive {
    /// Puts records together; `blobs` is what they name.
    pub fn of<'a>(
        network: NetworkId,
        records: impl IntoIterator<Item = &'a Record> + Clone,
        blobs: impl Blobs + 'static,
    ) -> Self {
        Self::marked(network, records, blobs, &|_| None)
    }

    /// As [`Archive::of`], taking over what earlier audits of the same bytes found ([`crate::mark`]): the
    /// signatures of such a run are not checked again.
    pub fn marked<'a>(
        network: NetworkId,
        records: impl IntoIterator<Item = &'a Record> + Clone,
        blobs: impl Blobs + 'static,
        marks: &dyn Fn(&RunId) -> Option<Mark>,
    ) -> Self {
        let mut parts: BTreeMap<RunId, ArchivedRun> = BTreeMap::new();
        let mut archive = Self {
            runs: Vec::new(),
            faults: Vec::new(),
            network,
            blobs: Box::new(blobs),
        };
        // A log must hear of the certificates that rely on its entries before it hears of its blocks.
        for record in records.clone() {
            match record {
                Record::Certificate { run, round, bytes } => {
                    let part = parts
                        .entry(*run)
                        .or_insert_with(|| ArchivedRun::new(network, *run));
                    part.name(1, bytes);
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
                    parts
                        .entry(*run)
                        .or_insert_with(|| ArchivedRun::new(network, *run));
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
            let mark = marks(&part.id);
            part.finish(archive.blobs.as_ref(), mark);
        }
        archive.runs = parts.into_values().collect();
        archive
    }

    fn add_block(&mut self, parts: &mut BTreeMap<RunId, ArchivedRun>, bytes: &[u8]) {
        let block = match Unverified::decode(bytes, self.network) {
            Ok(block) => block,
            Err(why) => return self.faults.push(Fault::of(format!("a block: {why}"))),
        };
        let Scope::Run(run) = block.block().scope else {
            return; // Nothing of this version relies on the network's scope.
        };
        let part = parts
            .entry(run)
            .or_insert_with(|| ArchivedRun::new(self.network, run));
        part.name(0, bytes);
        part.blocks.push(bytes.to_vec());
        part.waiting.push(block);
    }

    /// Marks for the runs that were audited since the archive was put together, and hold.
    pub fn new_marks(&self) -> Vec<Mark> {
        let fresh = self.runs.iter().filter(|run| !run.was_marked);
        let mark = |run: &ArchivedRun| {
            Some(Mark {
                run: run.id,
                key: run.key,
                outcome: run.checked.get()?.clone(),
            })
        };
        fresh.filter_map(mark).collect()
    }

    /// A blob; `None` when it is not here.
    ///
    /// # Errors
    /// [`BlobError`], when its content does not have the hash that is its name, or cannot be read.
    pub fn blob(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, BlobError> {
        match self.blobs.bytes(hash) {
            Ok(Some(bytes)) if BlobHash(hash::blob(&bytes)) != hash => {
                Err(BlobError::Damaged(hash))
            }
            Ok(found) => Ok(found),
            Err(why) => Err(BlobError::Unreadable { hash, why }),
        }
    }

    /// Runs whose manifest is here, as books, and whether the last adapter is here too.
    pub fn books(&self) -> impl Iterator<Item = (bool, Book<'_>)> {
        self.runs.iter().filter_map(|run| {
            let manifest = run.manifest.as_ref()?;
            let last = run.certificates.last().map(|c| c.value.adapter.hash);
            let here = last.is_some_and(|hash| self.blobs.holds(hash));
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
    /// [`AdapterError`], when the run does not verify, or the adapter is not here.
    pub fn adapter(&self, view: &AdapterView) -> Result<(Manifest, Adapter), AdapterError> {
        let mut report = Report::default();
        crate::audit::archive(self, &mut report);
        if let Some(fault) = report.faults.first() {
            return Err(AdapterError::Broken(fault.clone()));
        }
        let missing = || AdapterError::Missing(view.id.clone());
        let found = self.runs.iter().find(|run| run.id.to_string() == view.run);
        let manifest = found
            .and_then(|run| run.manifest.clone())
            .ok_or_else(missing)?;
        let hash = view.id.parse().map_err(|_| missing())?;
        let bytes = self.blob(hash)?.ok_or_else(missing)?;
        let adapter = Adapter::from_bytes(Arc::new(manifest.adapter.clone()), &bytes);
        let adapter = adapter.map_err(|e| AdapterError::Shape {
            id: view.id.clone(),
            why: e.to_string(),
        })?;
        Ok((manifest, adapter))
    }
}

impl ArchivedRun {
    fn new(network: NetworkId, id: RunId) -> Self {
        Self {
            id,
            manifest: None,
            certificates: Vec::new(),
            contradictions: Vec::new(),
            log: LogSet::new(network, Scope::Run(id)),
            blocks: Vec::new(),
            waiting: Vec::new(),
            naming: Some(Naming::new(&id)),
            key: Digest::default(),
            checked: OnceLock::new(),
            was_marked: false,
        }
    }

    fn rely_on(&mut self, certificate: Certificate) {
        state::relied(&certificate.value).for_each(|at| self.log.certify(&at));
        self.certificates.push(certificate);
    }

    fn name(&mut self, kind: u8, bytes: &[u8]) {
        if let Some(naming) = &mut self.naming {
            naming.record(kind, bytes);
        }
    }

    /// Names what is here, and takes over a mark that has this name.
    fn take_mark(&mut self, blobs: &dyn Blobs, mark: Option<Mark>) {
        let mut naming = self.naming.take().expect("a run is finished once");
        for value in self.certificates.iter().map(|c| &c.value) {
            for included in &value.included {
                naming.blob(blobs.holds(included.update.hash));
            }
            naming.blob(blobs.holds(value.adapter.hash));
        }
        self.key = naming.finish();
        if let Some(mark) = mark.filter(|mark| mark.key == self.key) {
            self.was_marked = self.checked.set(mark.outcome).is_ok();
        }
    }

    /// The manifest is the first entry of its creator's log, and hashes to the run's id.
    fn finish(&mut self, blobs: &dyn Blobs, mark: Option<Mark>) {
        let stored = std::mem::take(&mut self.certificates);
        (self.certificates, self.contradictions) = audit::choose(stored);
        self.take_mark(blobs, mark);
        for block in std::mem::take(&mut self.waiting) {
            let signed = match self.was_marked {
                true => Ok(block.verified_before()),
                false => block.verify(),
            };
            // A signature that does not verify is for the audit to report.
            if let Ok(signed) = signed {
                self.log.insert(signed);
            }
        }
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
