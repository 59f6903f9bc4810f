//! A home's records put back together: per run its manifest, logs and certificates.
//!
//! An archive does not judge: it keeps what does not decode as a fault, and [`crate::audit`] checks the rest. Blobs
//! stay where they are ([`Blobs`]) and are read, with their hash checked, when asked for.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, OnceLock};

use tributary_protocol::adapter::Adapter;
use tributary_protocol::audit::{self, Earlier};
use tributary_protocol::certificate::Certificate;
use tributary_protocol::entry::Entry;
use tributary_protocol::event::Record;
use tributary_protocol::hash::{self, Digest};
use tributary_protocol::id::{BlobHash, NetworkId, Round, RunId, Scope, Seq};
use tributary_protocol::log::{SignedBlock, Unverified};
use tributary_protocol::logset::LogSet;
use tributary_protocol::manifest::Manifest;
use tributary_protocol::node::forgotten;
use tributary_protocol::state;

use crate::Remedy;
use crate::account::RunAccount;
use crate::mark::{Mark, Naming, Outcome, Reach};
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

    /// The names of all that is kept, in any order; none where they cannot be listed.
    fn names(&self) -> Vec<BlobHash>;
}

impl Blobs for BTreeMap<BlobHash, Vec<u8>> {
    fn bytes(&self, hash: BlobHash) -> io::Result<Option<Vec<u8>>> {
        Ok(self.get(&hash).cloned())
    }

    fn holds(&self, hash: BlobHash) -> bool {
        self.contains_key(&hash)
    }

    fn names(&self) -> Vec<BlobHash> {
        self.keys().copied().collect()
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
    /// Runs that the owner had removed: of each the home keeps only what its peer signed.
    pub forgotten: Vec<ArchivedRun>,
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
    /// Blocks whose signatures hold, as stored, and the bytes of those whose do not.
    pub(crate) blocks: Vec<SignedBlock>,
    pub(crate) unsigned: Vec<Vec<u8>>,
    /// Blocks whose signatures are still to be checked, while the run is put together.
    waiting: Vec<Unverified>,
    naming: Option<Naming>,
    mark: Option<Mark>,
    /// How much there is of the run, and the name of its bytes.
    reach: Reach,
    key: Digest,
    /// What a mark says of the run as it was, where an audit can go on from there.
    pub(crate) earlier: Option<Earlier>,
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
        let new = |run: &RunId| ArchivedRun::new(network, *run, marks(run));
        let mut archive = Self {
            runs: Vec::new(),
            forgotten: Vec::new(),
            faults: Vec::new(),
            network,
            blobs: Box::new(blobs),
        };
        let forgotten = forgotten(records.clone());
        // A log must hear of the certificates that rely on its entries before it hears of its blocks.
        for record in records.clone() {
            match record {
                Record::Certificate { run, round, bytes } => {
                    let part = parts.entry(*run).or_insert_with(|| new(run));
                    part.naming().certificate(bytes);
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
                    parts.entry(*run).or_insert_with(|| new(run));
                }
                _ => {}
            }
        }
        for record in records {
            if let Record::Block(bytes) = record {
                archive.add_block(&mut parts, &new, bytes);
            }
        }
        let mut here = archive.blobs.names();
        here.sort_unstable();
        for part in parts.values_mut() {
            part.finish(&here);
        }
        (archive.forgotten, archive.runs) =
            (parts.into_values()).partition(|part| forgotten.contains(&part.id));
        archive
    }

    fn add_block(
        &mut self,
        parts: &mut BTreeMap<RunId, ArchivedRun>,
        new: &dyn Fn(&RunId) -> ArchivedRun,
        bytes: &[u8],
    ) {
        let block = match Unverified::decode(bytes, self.network) {
            Ok(block) => block,
            Err(why) => return self.faults.push(Fault::of(format!("a block: {why}"))),
        };
        let Scope::Run(run) = block.block().scope else {
            return; // Nothing of this version relies on the network's scope.
        };
        let part = parts.entry(run).or_insert_with(|| new(&run));
        part.naming().block(bytes);
        part.waiting.push(block);
    }

    /// Marks for the runs that were audited since the archive was put together, and hold.
    pub fn new_marks(&self) -> Vec<Mark> {
        let fresh = self.runs.iter().filter(|run| !run.was_marked);
        let mark = |run: &ArchivedRun| {
            Some(Mark {
                run: run.id,
                reach: run.reach,
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
    pub fn books(&self) -> impl Iterator<Item = (bool, RunAccount<'_>)> {
        self.runs.iter().filter_map(|run| {
            let manifest = run.manifest.as_ref()?;
            let last = run.certificates.last().map(|c| c.value.adapter.hash);
            let here = last.is_some_and(|hash| self.blobs.holds(hash));
            let account = RunAccount {
                manifest,
                chain: &run.certificates,
                log: &run.log,
            };
            Some((here, account))
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
        let adapter = Adapter::from_bytes(Arc::new(manifest.model.adapter.clone()), &bytes);
        let adapter = adapter.map_err(|e| AdapterError::Shape {
            id: view.id.clone(),
            why: e.to_string(),
        })?;
        Ok((manifest, adapter))
    }
}

impl ArchivedRun {
    fn new(network: NetworkId, id: RunId, mark: Option<Mark>) -> Self {
        Self {
            id,
            manifest: None,
            certificates: Vec::new(),
            contradictions: Vec::new(),
            log: LogSet::new(network, Scope::Run(id)),
            blocks: Vec::new(),
            unsigned: Vec::new(),
            waiting: Vec::new(),
            naming: Some(Naming::new(&id, mark.as_ref())),
            mark,
            reach: Reach::default(),
            key: Digest::default(),
            earlier: None,
            checked: OnceLock::new(),
            was_marked: false,
        }
    }

    fn rely_on(&mut self, certificate: Certificate) {
        state::relied(&certificate.value).for_each(|at| self.log.certify(&at));
        self.certificates.push(certificate);
    }

    fn naming(&mut self) -> &mut Naming {
        let naming = self.naming.as_mut();
        naming.expect("records come before a run is finished")
    }

    /// Names what is here, and takes over a mark that holds for it, or for what came first. Returns for how many
    /// blocks it does.
    fn take_mark(&mut self, here: &[BlobHash]) -> usize {
        let naming = self.naming.take().expect("a run is finished once");
        let mut flags = Vec::new();
        // Flags that belong to the rounds before each.
        let mut upto = vec![0];
        for value in self.certificates.iter().map(|c| &c.value) {
            let updates = value.included.iter().map(|included| included.update.hash);
            for hash in updates.chain([value.adapter.hash]) {
                flags.push(here.binary_search(&hash).is_ok());
            }
            upto.push(flags.len());
        }
        self.reach = naming.reach(self.certificates.len());
        self.key = naming.all(&flags);
        let holds = |mark: &Mark| {
            let first = upto.get(mark.reach.rounds).map(|upto| &flags[..*upto]);
            first.is_some_and(|first| naming.first(first) == Some(mark.key))
        };
        let Some(mark) = self.mark.take().filter(holds) else {
            return 0;
        };
        let Mark { reach, outcome, .. } = mark;
        // A round that was certified twice may go on elsewhere now.
        if self.contradictions.is_empty() && reach.certificates == reach.rounds {
            let unchecked = outcome.unchecked.iter().copied().map(Round);
            self.earlier = Some(Earlier {
                rounds: reach.rounds,
                unchecked: unchecked.collect(),
                is_visited: false,
            });
        }
        if reach == self.reach {
            self.was_marked = self.checked.set(outcome).is_ok();
        }
        reach.blocks
    }

    /// The manifest is the first entry of its creator's log, and hashes to the run's id.
    fn finish(&mut self, here: &[BlobHash]) {
        let stored = std::mem::take(&mut self.certificates);
        (self.certificates, self.contradictions) = audit::choose(stored);
        let verified = self.take_mark(here);
        for (at, block) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            if at < verified {
                self.blocks.push(block.verified_before());
                continue;
            }
            let bytes = block.bytes().to_vec();
            match block.verify() {
                Ok(signed) => self.blocks.push(signed),
                // It is for the audit to report.
                Err(_) => self.unsigned.push(bytes),
            }
        }
        for signed in &self.blocks {
            self.log.insert(signed.clone());
        }
        self.manifest = self.created();
        let authors: Vec<_> = self.log.authors().collect();
        let is_plain = self.manifest.is_some()
            && self.unsigned.is_empty()
            && self.log.waiting() == 0
            && !authors.into_iter().any(|a| self.log.is_equivocator(a));
        if !is_plain {
            self.earlier = None;
        }
    }

    fn created(&self) -> Option<Manifest> {
        self.log.all().find_map(|(at, entry)| match entry {
            Entry::Create(manifest)
                if at.author == manifest.creator
                    && (at.seq, at.index) == (Seq(0), 0)
                    && manifest.run_id() == self.id =>
            {
                Some((**manifest).clone())
            }
            _ => None,
        })
    }
}
