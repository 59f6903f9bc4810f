//! Checks a whole run again from bytes alone, offline, without trusting anybody.
//!
//! The auditor holds what a peer stored: signed blocks, certificates, blobs. It decodes and verifies each block, links
//! the logs, finds the manifest by its hash, and follows the certificates from the genesis on: each committee is drawn
//! anew from the roster certified before it, each value is derived anew by the same functions of [`crate::state`] that
//! its voters used. The first thing that does not follow is the [`Fault`]. Where a committee certified two values for
//! one round, the chain goes on from the one that later certificates build on, and at its end from the one that was
//! stored first; the other is proof against the members that signed both ([`Contradiction`]) and takes nothing back.
//! Where a peer did not keep the updates of a round, that round's adapter rests on its certificate alone, and the
//! outcome says so ([`Audited::unchecked`]). The crate `attribution` folds books and payouts from the outcome; the
//! caller reads the store. A run that only went on since an earlier audit is taken up where that one stopped
//! ([`resume()`]).

mod resume;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::adapter::Adapter;
use crate::certificate::Certificate;
use crate::entry::Entry;
use crate::id::{BlobHash, BlobRef, NetworkId, PeerId, Round, RunId, Scope, Seq};
use crate::log::SignedBlock;
use crate::logset::{Insert, LogSet};
use crate::manifest::Manifest;
use crate::reject::Rejection;
use crate::round::RoundValue;
use crate::state::{self, Derived, Head, RoundSources};

pub use resume::{Earlier, resume};

/// A block as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlock {
    /// Author and position that the store files it under, if it does.
    pub filed: Option<(PeerId, Seq)>,
    /// The signed bytes.
    pub bytes: Vec<u8>,
}

/// A certificate as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCertificate {
    /// The round that the store files it under, if it does.
    pub filed: Option<Round>,
    /// The encoded certificate.
    pub bytes: Vec<u8>,
}

/// The first thing that does not follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", self.place())]
pub struct Fault {
    /// The author at fault, as far as it can be told.
    pub author: Option<PeerId>,
    /// Where it stands in the author's log.
    pub seq: Option<Seq>,
    /// The round that was being checked.
    pub round: Option<Round>,
    /// What is wrong.
    pub reason: String,
}

impl Fault {
    fn of_block(author: Option<PeerId>, seq: Option<Seq>, reason: impl ToString) -> Self {
        Self {
            author,
            seq,
            round: None,
            reason: reason.to_string(),
        }
    }

    fn of_round(round: Option<Round>, reason: impl ToString) -> Self {
        Self {
            author: None,
            seq: None,
            round,
            reason: reason.to_string(),
        }
    }

    fn place(&self) -> String {
        let round = self.round.map(|round| format!("round {round}"));
        let author = self.author.map(|author| format!("author {author}"));
        let seq = self.seq.map(|seq| format!("sequence {seq}"));
        let parts: Vec<String> = [round, author, seq].into_iter().flatten().collect();
        match parts.is_empty() {
            true => "the run".into(),
            false => parts.join(", "),
        }
    }
}

/// Two certificates with different values for one round: proof against the members that signed both. No fault of the
/// ledger that kept it, or a single liar could make every honest home unverifiable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The round that was certified twice.
    pub round: Round,
    /// The members that signed both, ordered by id.
    pub signers: Vec<PeerId>,
}

/// What an audit establishes.
#[derive(Clone, Debug)]
pub struct Audited {
    /// The run's manifest, proven by its hash.
    pub manifest: Manifest,
    /// Certified values from the genesis on, one a round.
    pub values: Vec<RoundValue>,
    /// Round, state hash and roster after the last of them.
    pub head: Head,
    /// The adapter after the last of them; `None` when neither blob nor updates are at hand.
    pub adapter: Option<Arc<Adapter>>,
    /// Rounds whose adapter was not recomputed, because an update or the adapter before is missing.
    pub unchecked: Vec<Round>,
    /// Blocks that count.
    pub blocks: usize,
    /// Authors that are proven to have equivocated. No fault of the ledger: it kept the proof.
    pub equivocators: Vec<PeerId>,
    /// Rounds that were certified twice. No fault of the ledger either.
    pub contradictions: Vec<Contradiction>,
}

impl Audited {
    /// Whether the closing height is certified, so that every round's scores are final.
    pub fn is_finished(&self) -> bool {
        self.head.round >= self.manifest.closing_round()
    }
}

/// Audits one run. `blob` finds an update or adapter by its hash; `visit` sees each certified value in
/// order, genesis first, with what was derived for it unless the round is unchecked (contribution
/// vectors are too large to keep them all).
///
/// # Errors
/// The first [`Fault`], in the order blocks, certificates, rounds.
pub fn audit(
    network: NetworkId,
    run: RunId,
    blocks: impl IntoIterator<Item = StoredBlock>,
    certificates: impl IntoIterator<Item = StoredCertificate>,
    blob: &mut dyn FnMut(&BlobHash) -> Option<Vec<u8>>,
    visit: &mut dyn FnMut(&RoundValue, Option<&Derived>),
) -> Result<Audited, Fault> {
    let (certificates, mut others) = read_certificates(run, certificates)?;
    let blocks = read_blocks(network, run, blocks)?;
    let manifest = find_manifest(run, &blocks)?;
    let counted = blocks.len();
    let log = link(network, run, &certificates, blocks)?;
    let mut replay = Replay::new(network, run, Arc::new(manifest), &log);
    for certificate in certificates {
        let others = others.remove(&certificate.round()).unwrap_or_default();
        replay.compare(&certificate, &others)?;
        replay.verify(&certificate)?;
        replay.go_on(certificate, blob, visit)?;
    }
    replay.finish(counted)
}

/// Certificates of one run that contradict those of its chain, by round.
type Others = BTreeMap<Round, Vec<Certificate>>;

/// Decodes certificates and orders them by round.
fn read_certificates(
    run: RunId,
    stored: impl IntoIterator<Item = StoredCertificate>,
) -> Result<(Vec<Certificate>, Others), Fault> {
    let mut read = Vec::new();
    for stored in stored {
        let certificate = Certificate::decode(&stored.bytes)
            .map_err(|why| Fault::of_round(stored.filed, format!("certificate: {why}")))?;
        let round = certificate.round();
        let fault = |reason| Err(Fault::of_round(Some(round), reason));
        if certificate.run() != run {
            return fault("certificate of another run");
        }
        if stored.filed.is_some_and(|filed| filed != round) {
            return fault("certificate filed under another round");
        }
        read.push(certificate);
    }
    let (chain, others) = choose(read);
    for (expected, certificate) in chain.iter().enumerate() {
        let expected = Round(expected as u32);
        if certificate.round() != expected {
            return Err(Fault::of_round(Some(expected), "certificate is missing"));
        }
    }
    let mut by_round = Others::new();
    for other in others {
        by_round.entry(other.round()).or_default().push(other);
    }
    Ok((chain, by_round))
}

/// Takes certificates of one run apart, in the order in which they were stored: the chain, one a round, and those
/// that contradict it. Of two values for one round the chain has the one that the next round builds on, and in the
/// last round the one that was stored first: the home followed it. Verifies nothing.
pub fn choose(stored: Vec<Certificate>) -> (Vec<Certificate>, Vec<Certificate>) {
    let mut by_round: BTreeMap<Round, Vec<Certificate>> = BTreeMap::new();
    for certificate in stored {
        let same = by_round.entry(certificate.round()).or_default();
        if !same.iter().any(|other| other.value == certificate.value) {
            same.push(certificate);
        }
    }
    let (mut chain, mut others) = (Vec::<Certificate>::new(), Vec::new());
    for (_, mut same) in by_round.into_iter().rev() {
        let next = chain.last().map(|next| next.value.previous);
        let goes_on = |c: &Certificate| next == Some(c.value.state);
        let at = same.iter().position(goes_on).unwrap_or(0);
        chain.push(same.remove(at));
        others.append(&mut same);
    }
    chain.reverse();
    others.sort_by_key(Certificate::round);
    (chain, others)
}

/// Decodes and verifies every block, ordered by author and position.
fn read_blocks(
    network: NetworkId,
    run: RunId,
    stored: impl IntoIterator<Item = StoredBlock>,
) -> Result<Vec<SignedBlock>, Fault> {
    let mut blocks = Vec::new();
    for stored in stored {
        let (author, seq) = stored.filed.unzip();
        let signed = SignedBlock::decode(&stored.bytes, network)
            .map_err(|why| Fault::of_block(author, seq, why))?;
        let block = signed.block();
        let place = (block.author, block.seq);
        let fault = |reason| Err(Fault::of_block(Some(place.0), Some(place.1), reason));
        if block.scope != Scope::Run(run) {
            return fault("block of another scope");
        }
        if stored.filed.is_some_and(|filed| filed != place) {
            return fault("block filed under another author or position");
        }
        blocks.push(signed);
    }
    blocks.sort_by_key(|signed| (signed.block().author, signed.block().seq, signed.id()));
    Ok(blocks)
}

/// The manifest is named by its own hash, so any block that carries it will do.
fn find_manifest(run: RunId, blocks: &[SignedBlock]) -> Result<Manifest, Fault> {
    let entries = blocks.iter().flat_map(|signed| &signed.block().entries);
    let manifests = entries.filter_map(|entry| match entry {
        Entry::Create(manifest) if manifest.run_id() == run => Some(manifest),
        _ => None,
    });
    let found = manifests.map(|manifest| (**manifest).clone()).next();
    found.ok_or_else(|| Fault::of_round(None, "no block carries the run's manifest"))
}

/// Links the logs. What certificates rely on counts even behind a fork.
fn link(
    network: NetworkId,
    run: RunId,
    certificates: &[Certificate],
    blocks: Vec<SignedBlock>,
) -> Result<LogSet, Fault> {
    let mut log = LogSet::new(network, Scope::Run(run));
    for certificate in certificates {
        state::relied(&certificate.value).for_each(|at| log.certify(&at));
    }
    let mut waiting = None;
    for signed in blocks {
        let block = signed.block();
        let (author, seq) = (block.author, block.seq);
        match log.insert(signed) {
            Insert::New | Insert::Known | Insert::Fork(_) => {}
            Insert::Refused(Rejection::Equivocator) => {}
            Insert::Gap { .. } if log.is_equivocator(author) => {}
            Insert::Gap { .. } => waiting = waiting.or(Some((author, seq))),
            Insert::Refused(why) => {
                return Err(Fault::of_block(Some(author), Some(seq), why));
            }
        }
    }
    match waiting.filter(|(author, _)| !log.is_equivocator(*author)) {
        Some((author, seq)) => {
            let reason = "the block before this one is missing";
            Err(Fault::of_block(Some(author), Some(seq), reason))
        }
        None => Ok(log),
    }
}

type Lookup<'a> = &'a mut dyn FnMut(&BlobHash) -> Option<Vec<u8>>;

/// A run as far as its certificates were followed.
struct Replay<'a> {
    network: NetworkId,
    run: RunId,
    manifest: Arc<Manifest>,
    log: &'a LogSet,
    head: Option<Head>,
    adapter: Option<Arc<Adapter>>,
    values: Vec<RoundValue>,
    unchecked: Vec<Round>,
    contradictions: Vec<Contradiction>,
}

impl<'a> Replay<'a> {
    /// Before the genesis.
    fn new(network: NetworkId, run: RunId, manifest: Arc<Manifest>, log: &'a LogSet) -> Self {
        Self {
            network,
            run,
            manifest,
            log,
            head: None,
            adapter: None,
            values: Vec::new(),
            unchecked: Vec::new(),
            contradictions: Vec::new(),
        }
    }

    /// What was established, of a run with so many blocks.
    fn finish(self, blocks: usize) -> Result<Audited, Fault> {
        let Some(head) = self.head else {
            let reason = "no certificate: the run has no genesis";
            return Err(Fault::of_round(None, reason));
        };
        let authors: Vec<PeerId> = self.log.authors().collect();
        let equivocators = authors.into_iter().filter(|a| self.log.is_equivocator(*a));
        Ok(Audited {
            equivocators: equivocators.collect(),
            manifest: Arc::unwrap_or_clone(self.manifest),
            values: self.values,
            head,
            adapter: self.adapter,
            unchecked: self.unchecked,
            contradictions: self.contradictions,
            blocks,
        })
    }

    /// A quorum of the committee that the state before gives.
    fn verify(&self, certificate: &Certificate) -> Result<(), Fault> {
        let committee = state::committee(&self.manifest, &self.run, self.head.as_ref());
        (certificate.verify(&committee, self.network))
            .map_err(|why| Fault::of_round(Some(certificate.round()), why))
    }

    /// One round on, shown to `visit`, with the adapter after it where it can be had.
    fn go_on(
        &mut self,
        certificate: Certificate,
        blob: Lookup<'_>,
        visit: &mut dyn FnMut(&RoundValue, Option<&Derived>),
    ) -> Result<(), Fault> {
        let derived = self.step(certificate, blob)?;
        let value = self.values.last().expect("a value was just followed");
        visit(value, derived.as_ref());
        self.adapter = match derived {
            Some(derived) => Some(derived.adapter),
            None => self.stored_adapter(blob)?,
        };
        Ok(())
    }

    /// Notes who signed another value for the round that is next; what no quorum signed has no place in a store.
    fn compare(&mut self, chosen: &Certificate, others: &[Certificate]) -> Result<(), Fault> {
        let round = chosen.round();
        let committee = state::committee(&self.manifest, &self.run, self.head.as_ref());
        for other in others {
            (other.verify(&committee, self.network)).map_err(|why| {
                Fault::of_round(Some(round), format!("a second certificate: {why}"))
            })?;
            let signed = |peer: &PeerId| chosen.precommits.iter().any(|(other, _)| other == peer);
            let signers = other.precommits.iter().map(|(peer, _)| *peer);
            let signers = signers.filter(signed).collect();
            self.contradictions.push(Contradiction { round, signers });
        }
        Ok(())
    }

    /// One round on: everything that the value says. `None` when the adapter could not be recomputed.
    fn step(
        &mut self,
        certificate: Certificate,
        blob: Lookup<'_>,
    ) -> Result<Option<Derived>, Fault> {
        let round = certificate.round();
        let fault = |why: Rejection| Fault::of_round(Some(round), why);
        let head = self.head.as_ref();
        let value = certificate.value;
        let after = state::follow(&self.manifest, self.run, head, &value).map_err(fault)?;
        if let Some(at) = state::relied(&value).find(|at| self.log.entry(at).is_none()) {
            return Err(Fault {
                author: Some(at.author),
                seq: Some(at.seq),
                round: Some(round),
                reason: "an entry that the certificate relies on is missing".into(),
            });
        }
        let updates = updates(&value, blob)?;
        let sources = RoundSources {
            log: self.log,
            before: self.adapter.as_ref(),
            blobs: &updates,
            judged: self.values.last(),
        };
        state::check(&self.manifest, head, &value, &sources).map_err(fault)?;
        let here = round == Round(0) || self.adapter.is_some();
        let derived = match here && state::missing(head, &value, &sources).is_empty() {
            true => Some(state::recompute(&self.manifest, &value, &sources).map_err(fault)?),
            false => {
                self.unchecked.push(round);
                None
            }
        };
        self.head = Some(after);
        self.values.push(value);
        Ok(derived)
    }

    /// The certified adapter as a blob, where it cannot be recomputed.
    fn stored_adapter(&self, blob: Lookup<'_>) -> Result<Option<Arc<Adapter>>, Fault> {
        let value = self.values.last().expect("a value was followed");
        let fault = |why: &str| Fault::of_round(Some(value.round), format!("adapter: {why}"));
        let Some(bytes) = blob(&value.adapter.hash) else {
            return Ok(None);
        };
        if BlobRef::of(&bytes) != value.adapter {
            return Err(fault("its content has another hash or size"));
        }
        let shape = Arc::new(self.manifest.model.adapter.clone());
        let adapter = Adapter::from_bytes(shape, &bytes);
        match adapter {
            Ok(adapter) => Ok(Some(Arc::new(adapter))),
            Err(why) => Err(fault(&why.to_string())),
        }
    }
}

/// The updates at hand of those that a value includes, each checked against its hash and size.
fn updates(value: &RoundValue, blob: Lookup<'_>) -> Result<BTreeMap<BlobHash, Bytes>, Fault> {
    let mut updates = BTreeMap::new();
    for included in &value.included {
        let hash = included.update.hash;
        let Some(bytes) = blob(&hash) else { continue };
        if BlobRef::of(&bytes) != included.update {
            return Err(Fault {
                author: Some(included.receipt.author),
                seq: Some(included.receipt.seq),
                round: Some(value.round),
                reason: format!("update {hash}: its content has another hash or size"),
            });
        }
        updates.insert(hash, Bytes::from(bytes));
    }
    Ok(updates)
}

#[cfg(test)]
mod tests;
