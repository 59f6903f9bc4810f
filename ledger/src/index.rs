//! Every run of a home as readers see it, folded once and then kept up to date record by record.
//!
//! A [`LedgerIndex`] takes records in the order in which they became durable: blocks and certificates, repeated or
//! not. Each certificate is folded when it comes, and no question folds anything again. Readers get a
//! [`Snapshot`], which never changes; making one costs a pointer for every run.
//!
//! The index trusts what it is given, as a home's own daemon may; [`crate::audit`] checks. It shows what
//! [`crate::RunAccount`] works out from the whole chain, and its tests compare the two.

mod run;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tributary_protocol::certificate::Certificate;
use tributary_protocol::entry::Entry;
use tributary_protocol::event::Record;
use tributary_protocol::id::{NetworkId, PeerId, RunId, Scope, Seq};
use tributary_protocol::log::Unverified;
use tributary_protocol::manifest::Manifest;
use tributary_protocol::round::EntryRef;
use tributary_protocol::{audit, log};

use crate::account;
use run::Heard;
pub use run::IndexedRun;

/// Where an entry stands in its author's log: the block's position, and the place within it.
type EntryPosition = (Seq, u8);

/// The runs of a home, folded as far as their records have come.
pub struct LedgerIndex {
    network: NetworkId,
    runs: BTreeMap<RunId, RunFold>,
    /// Runs that the owner had removed: readers are shown nothing of what is left.
    forgotten: BTreeSet<RunId>,
    published: Snapshot,
}

/// The runs at one moment. A clone shares everything.
#[derive(Clone, Default)]
pub struct Snapshot {
    runs: Arc<BTreeMap<RunId, Arc<IndexedRun>>>,
}

impl Snapshot {
    /// Runs whose manifest is known, by id.
    pub fn runs(&self) -> impl Iterator<Item = &IndexedRun> {
        self.runs.values().map(Arc::as_ref)
    }

    /// One of them.
    pub fn run(&self, run: &RunId) -> Option<&IndexedRun> {
        self.runs.get(run).map(Arc::as_ref)
    }
}

impl LedgerIndex {
    /// Without any run.
    pub fn new(network: NetworkId) -> Self {
        Self {
            network,
            runs: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            published: Snapshot::default(),
        }
    }

    /// Of the records of a home.
    pub fn of<'a>(network: NetworkId, records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut index = Self::new(network);
        index.extend(records);
        index
    }

    /// Takes records over. What does not decode is left out: the audit reports it.
    pub fn extend<'a>(&mut self, records: impl IntoIterator<Item = &'a Record>) {
        let mut followed = Vec::new();
        for record in records {
            match record {
                Record::Forgotten { run, .. } => drop(self.forgotten.insert(*run)),
                Record::Followed { run, .. } => followed.push(*run),
                Record::Block(bytes) => self.add_block(bytes),
                Record::Certificate { run, bytes, .. } => {
                    if let Ok(certificate) = Certificate::decode(bytes)
                        && certificate.run() == *run
                    {
                        self.fold(*run).add_certificate(certificate);
                    }
                }
                _ => {}
            }
        }
        // A store gives back its kinds in any order: what is followed is followed again.
        for run in followed {
            if self.forgotten.remove(&run)
                && let Some(fold) = self.runs.get_mut(&run)
            {
                fold.is_changed = true;
            }
        }
        // Certificates that came before the manifest, or in another order, are folded together.
        self.runs.values_mut().for_each(RunFold::catch_up);
    }

    fn fold(&mut self, run: RunId) -> &mut RunFold {
        self.runs.entry(run).or_insert_with(|| RunFold::new(run))
    }

    fn add_block(&mut self, bytes: &[u8]) {
        let Ok(block) = Unverified::decode(bytes, self.network) else {
            return;
        };
        if let Scope::Run(run) = block.block().scope {
            self.fold(run).add_block(&block);
        }
    }

    /// What readers see from now on. Runs that did not change since the last are shared with it.
    pub fn snapshot(&mut self) -> Snapshot {
        if self.runs.values().any(|fold| fold.is_changed) {
            let mut runs = BTreeMap::clone(&self.published.runs);
            let changed = self.runs.values_mut().filter(|fold| fold.is_changed);
            for fold in changed {
                fold.is_changed = false;
                if let Some(indexed) = &fold.indexed
                    && !self.forgotten.contains(&fold.run)
                {
                    runs.insert(fold.run, Arc::new(indexed.clone()));
                }
            }
            self.published.runs = Arc::new(runs);
        }
        self.published.clone()
    }
}

/// One run in the making.
struct RunFold {
    run: RunId,
    manifest: Option<Arc<Manifest>>,
    /// Every certificate in the order in which it came; of equal values the first.
    stored: Vec<Arc<Certificate>>,
    /// The first join of each author: its place and the name it gave.
    names: BTreeMap<PeerId, (EntryPosition, String)>,
    /// What of blocks its certificates name.
    heard: Heard,
    /// `None` while the manifest is missing.
    indexed: Option<IndexedRun>,
    /// Whether certificates wait that the volume does not follow.
    is_behind: bool,
    /// Whether the volume differs from the published one.
    is_changed: bool,
}

impl RunFold {
    fn new(run: RunId) -> Self {
        Self {
            run,
            manifest: None,
            stored: Vec::new(),
            names: BTreeMap::new(),
            heard: Heard::default(),
            indexed: None,
            is_behind: false,
            is_changed: false,
        }
    }

    fn add_block(&mut self, block: &Unverified) {
        let log::LogHead { author, seq, .. } = block.head();
        for (index, entry) in block.block().entries.iter().enumerate() {
            let at = EntryRef {
                author,
                seq,
                block: block.id(),
                index: index as u8,
            };
            match entry {
                Entry::Create(manifest) => self.open(manifest),
                Entry::Join(join) => self.name(author, (seq, at.index), &join.name),
                Entry::ScoreSheet(shown) => self.add_sheet(at, account::losses(&shown.sheet)),
                Entry::Contribution(_) => {
                    let time = block.block().time;
                    self.heard.times.insert(at.block, time.0);
                }
                filing if filing.is_filing() => self.add_filing(at, filing),
                _ => {}
            }
        }
    }

    /// The manifest is named by its own hash, so any block that carries it will do.
    fn open(&mut self, manifest: &Manifest) {
        if self.manifest.is_some() || manifest.run_id() != self.run {
            return;
        }
        let manifest = Arc::new(manifest.clone());
        self.manifest = Some(manifest.clone());
        self.indexed = Some(IndexedRun::new(self.run, manifest, self.known_names()));
        self.is_behind = !self.stored.is_empty();
        self.is_changed = true;
    }

    fn known_names(&self) -> BTreeMap<PeerId, String> {
        let names = self.names.iter();
        names
            .map(|(peer, (_, name))| (*peer, name.clone()))
            .collect()
    }

    fn name(&mut self, author: PeerId, place: EntryPosition, name: &str) {
        let known = self.names.get(&author);
        if known.is_some_and(|(known, _)| *known <= place) {
            return;
        }
        self.names.insert(author, (place, name.to_owned()));
        if let Some(indexed) = &mut self.indexed {
            indexed.name(author, name);
            self.is_changed = true;
        }
    }

    fn add_sheet(&mut self, at: EntryRef, losses: (f64, f64)) {
        self.heard.sheets.insert(at, losses);
        if let Some(indexed) = &mut self.indexed {
            self.is_changed |= indexed.hear(&at, &self.heard);
        }
    }

    fn add_filing(&mut self, at: EntryRef, filing: &Entry) {
        self.heard.filings.insert(at, filing.clone());
        if let Some(indexed) = &mut self.indexed {
            self.is_changed |= indexed.keep_books(&self.heard);
        }
    }

    fn add_certificate(&mut self, certificate: Certificate) {
        let is_known = |known: &Arc<Certificate>| known.value == certificate.value;
        // A chain is long and a repetition recent, or everything comes again from the start.
        let next = self.indexed.as_ref().map(IndexedRun::next);
        let may_repeat = next != Some(certificate.round()) || self.is_behind;
        if may_repeat && self.stored.iter().rev().any(is_known) {
            return;
        }
        let certificate = Arc::new(certificate);
        self.stored.push(certificate.clone());
        match &mut self.indexed {
            Some(indexed) if !self.is_behind && indexed.goes_on(&certificate) => {
                indexed.fold(certificate, &self.heard);
                self.is_changed = true;
            }
            // Another value for a round that is folded decides nothing until one builds on it.
            Some(indexed) if certificate.round() < indexed.next() => {}
            _ => self.is_behind = true,
        }
    }

    /// Folds the whole chain again, where the next certificate does not build on the one that was folded last.
    fn catch_up(&mut self) {
        let (true, Some(manifest)) = (self.is_behind, &self.manifest) else {
            return;
        };
        let mut indexed = IndexedRun::new(self.run, manifest.clone(), self.known_names());
        let stored: Vec<Certificate> = self.stored.iter().map(|c| (**c).clone()).collect();
        let (chain, _) = audit::choose(stored);
        let mut waiting = false;
        for certificate in chain {
            waiting |= certificate.round() != indexed.next();
            match waiting {
                true => indexed.lacks_a_certificate(),
                false => indexed.fold(Arc::new(certificate), &self.heard),
            }
        }
        self.is_behind = waiting;
        self.indexed = Some(indexed);
        self.is_changed = true;
    }

    /// The last round that is folded.
    #[cfg(test)]
    fn certified(&self) -> Option<tributary_protocol::id::Round> {
        self.indexed.as_ref()?.next().previous()
    }
}
