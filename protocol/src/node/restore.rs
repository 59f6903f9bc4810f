//! Commands of the owner, and the way back from what a crash left durable.

use std::collections::{BTreeMap, BTreeSet};

use super::forget;
use super::known::{Known, Ledger};
use super::membership::Membership;
use super::run::{OpenRun, Run, SavedRun, Stage};
use super::{Node, NodeConfig, NodeContext};
use crate::certificate::Certificate;
use crate::codec;
use crate::entry::{Entry, Join};
use crate::event::{Effect, JoinRequest, Record};
use crate::id::{BlobHash, Round, RunId, Scope};
use crate::limits;
use crate::log::SignedBlock;
use crate::manifest::Manifest;
use crate::sketch::Sketch;
use crate::state;
use crate::time::Now;
use crate::update::Feedback;

/// What the store gives back after a restart.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// Every record except blobs, each kind in the order it was persisted.
    pub records: Vec<Record>,
    /// Blobs that are durable; their content stays in the store until it is fetched.
    pub blobs: BTreeSet<BlobHash>,
}

/// What `Record::Followed` says.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
struct Following {
    join: Option<Join>,
    sketch: Option<Sketch>,
    leaving: bool,
}

impl Node {
    /// A node that goes on where the records end. Carry out the effects as those of `handle`.
    ///
    /// # Errors
    /// Names the record that cannot be read back; the store is damaged then, and nothing is started.
    pub fn restore(
        config: NodeConfig,
        draw_seed: u64,
        saved: Saved,
        now: Now,
    ) -> Result<(Self, Vec<Effect>), RestoreError> {
        let mut node = Self::new(config, draw_seed);
        node.cx.now = now;
        let mut certificates: BTreeMap<(RunId, Round), Vec<Certificate>> = BTreeMap::new();
        let mut blocks = Vec::new();
        let forgotten = forget::forgotten(&saved.records);
        for record in saved.records {
            match record {
                Record::Followed { run, bytes } => node.restore_following(run, &bytes)?,
                Record::Block(bytes) => blocks.push(bytes),
                Record::Certificate { run, round, bytes } => {
                    let certificate = Certificate::decode(&bytes)
                        .map_err(|why| RestoreError::new("certificate", why.to_string()))?;
                    let restored = node.restored_run(run);
                    restored.ledger.rely_on(&certificate.value);
                    certificates
                        .entry((run, round))
                        .or_default()
                        .push(certificate);
                }
                Record::Consensus { run, round, bytes } => {
                    let replay = &mut node.restored_run(run).saved().replay;
                    replay.entry(round).or_default().push(bytes);
                }
                Record::ConsensusDone { run, round } => {
                    let replay = &mut node.restored_run(run).saved().replay;
                    replay.retain(|at, _| *at > round);
                }
                Record::Residual { run, round, bytes } => {
                    let feedback = Feedback::from_bytes(&bytes)
                        .map_err(|why| RestoreError::new("error feedback", why.to_string()))?;
                    let saved = node.restored_run(run).saved();
                    saved.updates.feedback = Some((feedback, round));
                }
                Record::Sent { run, round, bytes } => {
                    let saved = node.restored_run(run).saved();
                    saved.updates.sent = Some((round, bytes));
                }
                Record::Forgotten { run, last } => {
                    let last = last.map(|bytes| Certificate::decode(&bytes)).transpose();
                    let last =
                        last.map_err(|why| RestoreError::new("certificate", why.to_string()))?;
                    node.restored_run(run).saved().forgotten = last;
                }
                Record::Blob { .. } => {}
            }
        }
        node.restore_blocks(&blocks)?;
        node.forgotten = (node.runs)
            .extract_if(.., |run, _| forgotten.contains(run))
            .collect();
        node.resume(certificates, &saved.blobs);
        let effects = std::mem::take(&mut node.cx.out);
        Ok((node, effects))
    }

    fn restored_run(&mut self, id: RunId) -> &mut Run {
        let cx = &self.cx;
        self.runs.entry(id).or_insert_with(|| Run::new(id, cx))
    }

    fn restore_following(&mut self, id: RunId, bytes: &[u8]) -> Result<(), RestoreError> {
        let following: Following = codec::decode::<_, { limits::MAX_BLOCK_BYTES }>(bytes)
            .map_err(|why| RestoreError::new("followed run", why.to_string()))?;
        let run = self.restored_run(id);
        run.membership = Membership {
            join: following.join,
            sketch: following.sketch,
            leaving: following.leaving,
        };
        Ok(())
    }

    fn restore_blocks(&mut self, blocks: &[Vec<u8>]) -> Result<(), RestoreError> {
        for bytes in blocks {
            let block = SignedBlock::decode(bytes, self.cx.config.network)
                .map_err(|why| RestoreError::new("block", why.to_string()))?;
            if let Scope::Run(id) = block.block().scope {
                self.restored_run(id).ledger.replica.restore(block);
            }
        }
        Ok(())
    }

    /// Follows the certificates again, re-checking each, and picks up the work.
    fn resume(
        &mut self,
        mut certificates: BTreeMap<(RunId, Round), Vec<Certificate>>,
        blobs: &BTreeSet<BlobHash>,
    ) {
        let mut sealed = BTreeSet::new();
        for run in self.runs.values_mut() {
            run.ledger.replica.blobs.restore(blobs);
            run.ledger.reindex_all();
            self.cx.emit(Effect::Subscribe(run.id()));
            sealed.extend(run.resume(&mut self.cx, &mut certificates));
        }
        assert!(sealed.is_subset(blobs), "a sealed update is on the disk");
        for hash in blobs.difference(&sealed) {
            self.cx.emit(Effect::OfferBlob(*hash));
        }
    }

    pub(super) fn create(&mut self, manifest: Manifest) -> Result<(), String> {
        manifest.check().map_err(|why| why.to_string())?;
        if manifest.creator != self.cx.me {
            return Err(format!(
                "the manifest names {} as creator, this peer is {}; create the run from the peer \
                 that it names",
                manifest.creator, self.cx.me
            ));
        }
        let admitted = self.cx.config.resources.admit(&manifest);
        admitted.map_err(|why| why.to_string())?;
        let id = manifest.run_id();
        if self.runs.contains_key(&id) || self.forgotten.contains_key(&id) {
            return Err("this run exists already; change its name or its nonce".into());
        }
        let mut run = Run::new(id, &self.cx);
        // In one commit with the manifest's block: a followed run whose manifest a crash has lost
        // could never be opened again, by nobody.
        let followed = vec![followed_record(&run)];
        self.cx.emit(Effect::Subscribe(id));
        let create = Entry::Create(Box::new(manifest));
        let (cx, standing) = (&mut self.cx, run.stage.standing());
        if run.ledger.append(cx, &standing, vec![create], followed) {
            assert!(run.ledger.manifest().is_some(), "its creator knows it");
        }
        self.runs.insert(id, run);
        Ok(())
    }

    pub(super) fn follow(
        &mut self,
        id: RunId,
        candidate: Option<JoinRequest>,
    ) -> Result<(), String> {
        if let Some(candidate) = &candidate {
            let sketch = candidate.sketch.as_ref().map_or(Ok(()), Sketch::check);
            let checked = candidate.join.check().and(sketch);
            checked.map_err(|why| why.to_string())?;
        }
        let known = self.runs.contains_key(&id);
        let declined = self.runs.get(&id).and_then(Run::declined);
        if let Some(excess) = declined {
            return Err(excess.to_string());
        }
        if let Some(mut run) = self.forgotten.remove(&id) {
            run.recall(&mut self.cx);
            self.runs.insert(id, run);
        }
        let cx = &self.cx;
        let run = self.runs.entry(id).or_insert_with(|| Run::new(id, cx));
        if let Some(JoinRequest { mut join, sketch }) = candidate {
            if let Some(sketch) = &sketch {
                join.sketch = Some(sketch.commit(&self.cx.me));
            }
            run.membership = Membership {
                join: Some(join),
                sketch,
                leaving: false,
            };
        }
        let record = followed_record(run);
        self.cx.persist(vec![record]);
        if !known {
            self.cx.emit(Effect::Subscribe(id));
            for peer in self.cx.draw_neighbours(3) {
                run.open_exchange(&mut self.cx, peer);
            }
        }
        Ok(())
    }

    pub(super) fn leave(&mut self, id: RunId) -> Result<(), String> {
        let Some(run) = self.runs.get_mut(&id) else {
            return Err("this run is not followed here; nothing to leave".into());
        };
        run.membership.leaving = true;
        let record = followed_record(run);
        self.cx.persist(vec![record]);
        Ok(())
    }
}

impl Node {
    /// Appends filings to this peer's log. Whether a certificate puts them in order is for the run's members to say.
    pub(super) fn file(&mut self, id: RunId, filings: Vec<Entry>) -> Result<(), String> {
        let Some(run) = self.runs.get_mut(&id) else {
            return Err(
                "this run is not followed here; join it before filing anything in it".into(),
            );
        };
        if filings.is_empty() || !filings.iter().all(Entry::is_filing) {
            return Err(
                "this entry is none that the books are kept by; it is the node's own to make"
                    .into(),
            );
        }
        let checked = filings.iter().try_for_each(Entry::check);
        checked.map_err(|why| why.to_string())?;
        let Stage::Open(open) = &mut run.stage else {
            return Err("the run's manifest is not here yet, or was declined; file this once the run is open".into());
        };
        let (head, manifest) = (open.certified.head(), &open.certified.manifest);
        if !state::may_file(manifest, head, &self.cx.me) {
            return Err(
                "only members file in a run, and this peer is none yet; wait until it is admitted"
                    .into(),
            );
        }
        open.append_all(&mut self.cx, &mut run.ledger, filings, Vec::new());
        Ok(())
    }
}

fn followed_record(run: &Run) -> Record {
    let following = Following {
        join: run.membership.join.clone(),
        sketch: run.membership.sketch.clone(),
        leaving: run.membership.leaving,
    };
    Record::Followed {
        run: run.id(),
        bytes: codec::encode(&following),
    }
}

impl Run {
    /// What the store gives back, to be made use of once the manifest is known.
    fn saved(&mut self) -> &mut SavedRun {
        match &mut self.stage {
            Stage::Waiting(saved) => saved,
            Stage::Declined(_) | Stage::Open(_) => panic!("records are read before manifests"),
        }
    }

    fn resume(
        &mut self,
        cx: &mut NodeContext,
        certificates: &mut BTreeMap<(RunId, Round), Vec<Certificate>>,
    ) -> Option<BlobHash> {
        self.learn_manifest(cx);
        let mut sealed = None;
        if let Stage::Open(open) = &mut self.stage {
            open.follow_again(cx, &mut self.ledger, certificates);
        }
        (self.ledger.replica).set_strangers_aside(&self.stage.standing());
        if let Stage::Open(open) = &mut self.stage {
            let blobs = &self.ledger.replica.blobs;
            open.publishing.resume(cx, &open.certified, blobs);
            // Revealed again by `advance`, once it is time.
            sealed = open.publishing.sealed();
            // Before the genesis is certified the height that the manifest opened is open still, with what its seat said.
            if open.certified.round().is_some() {
                open.open_height(cx, &mut self.ledger);
            }
        }
        self.advance(cx);
        sealed
    }
}

impl OpenRun {
    /// Follows certificates of the store from the genesis on, re-checking each.
    fn follow_again(
        &mut self,
        cx: &mut NodeContext,
        ledger: &mut Ledger,
        certificates: &mut BTreeMap<(RunId, Round), Vec<Certificate>>,
    ) {
        assert!(
            self.certified.chain().len() <= 1,
            "the record of a seat decides the genesis at most"
        );
        let (run, network) = (self.certified.id, cx.config.network);
        while let Some(found) = certificates.remove(&(run, self.certified.next())) {
            let round = self.certified.next();
            let signers = (found.iter()).flat_map(|certificate| &certificate.precommits);
            if found.len() > 1 {
                // The contradiction is on the disk: none of its signers is news.
                let signers = signers.map(|(peer, _)| *peer);
                self.certified.note_exposed(round, signers);
            }
            let committee = self.certified.draw_committee();
            let next = found.into_iter().find_map(|certificate| {
                certificate.verify(&committee, network).ok()?;
                let head = self.certified.follow(&certificate.value).ok()?;
                Some((head, certificate))
            });
            let Some((head, certificate)) = next else {
                break;
            };
            // This peer may have stopped at the last one.
            let is_last = !certificates.contains_key(&(run, round.next()));
            if is_last && self.certified.head().is_some() {
                let known = Known::new(&self.certified, ledger);
                if let Some(why) = self.settling.refutation(known, &certificate.value) {
                    ledger.rely_on(&certificate.value);
                    self.stop(cx, round, why);
                    break;
                }
            }
            self.certified.extend(head, certificate, committee);
        }
    }
}

/// The store holds something that cannot be read back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the store holds a damaged {kind}: {why}; run `tributary ledger verify` on this home, or restore \
     it from a copy"
)]
pub struct RestoreError {
    /// Kind of record.
    pub kind: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl RestoreError {
    fn new(kind: &'static str, why: String) -> Self {
        Self { kind, why }
    }
}
