//! Commands of the owner, and the way back from what a crash left durable.

use std::collections::{BTreeMap, BTreeSet};

use super::run::Run;
use super::{Node, NodeConfig};
use crate::certificate::Certificate;
use crate::codec;
use crate::entry::{Entry, Join};
use crate::event::{Effect, JoinRequest, Record};
use crate::id::{BlobHash, PeerId, Round, RunId, Scope};
use crate::limits;
use crate::log::SignedBlock;
use crate::manifest::Manifest;
use crate::sketch::Sketch;
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
        node.desk.now = now;
        let mut certificates: BTreeMap<(RunId, Round), Vec<Certificate>> = BTreeMap::new();
        let mut blocks = Vec::new();
        for record in saved.records {
            match record {
                Record::Followed { run, bytes } => node.restore_following(run, &bytes)?,
                Record::Block(bytes) => blocks.push(bytes),
                Record::Certificate { run, round, bytes } => {
                    let certificate = Certificate::decode(&bytes)
                        .map_err(|why| RestoreError::new("certificate", why.to_string()))?;
                    node.restored_run(run).rely_on(&certificate);
                    certificates
                        .entry((run, round))
                        .or_default()
                        .push(certificate);
                }
                Record::Consensus { run, round, bytes } => {
                    let run = node.restored_run(run);
                    run.replay.entry(round).or_default().push(bytes);
                }
                Record::ConsensusDone { run, round } => {
                    node.restored_run(run).replay.retain(|at, _| *at > round);
                }
                Record::Residual { run, round, bytes } => {
                    let feedback = Feedback::from_bytes(&bytes)
                        .map_err(|why| RestoreError::new("error feedback", why.to_string()))?;
                    node.restored_run(run).own.restore_feedback(feedback, round);
                }
                Record::Sent { run, round, bytes } => {
                    node.restored_run(run).own.restore_sent(round, bytes);
                }
                Record::Blob { .. } => {}
            }
        }
        node.restore_blocks(&blocks)?;
        node.resume(certificates, &saved.blobs);
        let effects = std::mem::take(&mut node.desk.out);
        Ok((node, effects))
    }

    fn restored_run(&mut self, id: RunId) -> &mut Run {
        let desk = &self.desk;
        self.runs.entry(id).or_insert_with(|| Run::new(id, desk))
    }

    fn restore_following(&mut self, id: RunId, bytes: &[u8]) -> Result<(), RestoreError> {
        let following: Following = codec::decode::<_, { limits::MAX_BLOCK_BYTES }>(bytes)
            .map_err(|why| RestoreError::new("followed run", why.to_string()))?;
        let run = self.restored_run(id);
        run.join = following.join;
        run.sketch = following.sketch;
        run.leaving = following.leaving;
        Ok(())
    }

    fn restore_blocks(&mut self, blocks: &[Vec<u8>]) -> Result<(), RestoreError> {
        for bytes in blocks {
            let block = SignedBlock::decode(bytes, self.desk.config.network)
                .map_err(|why| RestoreError::new("block", why.to_string()))?;
            if let Scope::Run(id) = block.block().scope {
                self.restored_run(id).log.insert(block);
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
        let network = self.desk.config.network;
        let mut sealed = BTreeSet::new();
        for run in self.runs.values_mut() {
            run.archived.clone_from(blobs);
            run.reindex_all();
            self.desk.emit(Effect::Subscribe(run.id));
            sealed.extend(run.resume(&mut self.desk, network, &mut certificates));
        }
        for hash in blobs.difference(&sealed) {
            self.desk.emit(Effect::OfferBlob(*hash));
        }
    }

    pub(super) fn create(&mut self, manifest: Manifest) -> Result<(), String> {
        manifest.check().map_err(|why| why.to_string())?;
        if manifest.creator != self.desk.me {
            return Err(format!(
                "the manifest names {} as creator, this peer is {}; create the run from the peer \
                 that it names",
                manifest.creator, self.desk.me
            ));
        }
        let admitted = self.desk.config.resources.admit(&manifest);
        admitted.map_err(|why| why.to_string())?;
        let id = manifest.run_id();
        if self.runs.contains_key(&id) {
            return Err("this run exists already; change its name or its nonce".into());
        }
        let mut run = Run::new(id, &self.desk);
        // In one commit with the manifest's block: a followed run whose manifest a crash has lost
        // could never be opened again, by nobody.
        let followed = vec![followed_record(&run)];
        self.desk.emit(Effect::Subscribe(id));
        run.append(
            &mut self.desk,
            vec![Entry::Create(Box::new(manifest))],
            followed,
        );
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
        let declined = self.runs.get(&id).and_then(|run| run.declined);
        if let Some(excess) = declined {
            return Err(excess.to_string());
        }
        let desk = &self.desk;
        let run = self.runs.entry(id).or_insert_with(|| Run::new(id, desk));
        if let Some(JoinRequest { mut join, sketch }) = candidate {
            if let Some(sketch) = &sketch {
                join.sketch = Some(sketch.commit(&self.desk.me));
            }
            run.join = Some(join);
            run.sketch = sketch;
            run.leaving = false;
        }
        let record = followed_record(run);
        self.desk.persist(vec![record]);
        if !known {
            self.desk.emit(Effect::Subscribe(id));
            for peer in self.desk.draw_neighbours(3) {
                run.open_exchange(&mut self.desk, peer);
            }
        }
        Ok(())
    }

    pub(super) fn leave(&mut self, id: RunId) -> Result<(), String> {
        let Some(run) = self.runs.get_mut(&id) else {
            return Err("this run is not followed here; nothing to leave".into());
        };
        run.leaving = true;
        let record = followed_record(run);
        self.desk.persist(vec![record]);
        Ok(())
    }
}

fn followed_record(run: &Run) -> Record {
    let following = Following {
        join: run.join.clone(),
        sketch: run.sketch.clone(),
        leaving: run.leaving,
    };
    Record::Followed {
        run: run.id,
        bytes: codec::encode(&following),
    }
}

impl Run {
    fn resume(
        &mut self,
        desk: &mut super::Desk,
        network: crate::id::NetworkId,
        certificates: &mut BTreeMap<(RunId, Round), Vec<Certificate>>,
    ) -> Option<BlobHash> {
        self.learn_manifest(desk);
        let Some(manifest) = self.manifest.clone() else {
            self.set_strangers_aside();
            self.advance(desk);
            return None;
        };
        while let Some(found) = certificates.remove(&(self.id, self.next())) {
            let round = self.next();
            let signers: Vec<(Round, PeerId)> = (found.iter())
                .flat_map(|certificate| &certificate.precommits)
                .map(|(peer, _)| (round, *peer))
                .collect();
            if found.len() > 1 {
                // The contradiction is on the disk: none of its signers is news.
                self.exposed.extend(signers);
            }
            let committee = self.committee(&manifest);
            let next = found.into_iter().find_map(|certificate| {
                certificate.verify(committee, network).ok()?;
                let value = &certificate.value;
                let head =
                    crate::state::follow(&manifest, self.id, self.head.as_ref(), value).ok()?;
                Some((head, certificate))
            });
            let Some((head, certificate)) = next else {
                break;
            };
            // This peer may have stopped at the last one.
            let is_last = !certificates.contains_key(&(self.id, round.next()));
            if let Some(why) = (is_last && self.head.is_some())
                .then(|| self.refutation(&manifest, &certificate.value))
                .flatten()
            {
                self.rely_on(&certificate);
                self.stop(desk, round, why);
                break;
            }
            self.extend_chain(&manifest, head, certificate);
        }
        self.set_strangers_aside();
        self.resume_sent(desk);
        // Revealed again by `advance`, once it is time.
        let sealed = self.sealed();
        self.open_height(desk);
        self.advance(desk);
        sealed
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
