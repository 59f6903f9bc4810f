//! From the adapter of the head to the own receipt: training, encoding, publishing, and what is not included.
//!
//! Encoding goes over as many numbers as the adapter has, so it is computed elsewhere, with the error feedback, which
//! is away for as long as that takes. What changes it meanwhile waits in line.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::NodeContext;
use super::certified::Certified;
use super::known::{Known, Ledger};
use super::run::OpenRun;
use crate::adapter::{Adapter, AdapterShape};
use crate::aggregate::Layout;
use crate::entry::{Contribution, Entry};
use crate::event::{Effect, Notice, Record, TrainTask, Trained};
use crate::id::{BlobHash, BlobRef, Round, RunId};
use crate::limits;
use crate::manifest::{Manifest, UpdateCodec};
use crate::replica::Blobs;
use crate::round::RoundValue;
use crate::state::{self, Head};
use crate::update::{self, Feedback};
use crate::work::{Change, Prepared, Task, Work};

/// The own updates of a run: what trains, what was sent, and what was not.
pub(super) struct Publishing {
    /// What was not sent; `None` while it is away, to be changed.
    feedback: Option<Feedback>,
    /// What waits to change it.
    changes: VecDeque<Change>,
    /// Whether it has changed since it was last written.
    is_dirty: bool,
    /// Rounds before this one are accounted for in what was restored.
    accounted: Round,
    /// The update that waits for its certificate: round and encoded bytes.
    sent: Option<(Round, Bytes)>,
    /// The update of the open round, until it is revealed: it is on the disk, and not offered.
    sealed: Option<BlobHash>,
    /// The round for which a training task is out.
    training: Option<Round>,
    /// The round whose update is being encoded.
    encoding: Option<Round>,
}

/// What a store gives back of the own updates.
#[derive(Default)]
pub(super) struct SavedUpdates {
    /// Error feedback, and the round before which everything is accounted for in it.
    pub(super) feedback: Option<(Feedback, Round)>,
    /// The update that was sent last, with its round.
    pub(super) sent: Option<(Round, Bytes)>,
}

/// An update that is ready to be published, with the receipt to sign for it.
struct Signing {
    receipt: Contribution,
    update: Bytes,
    records: Vec<Record>,
}

impl Publishing {
    /// Goes on where the store ends; nothing is left out yet, where nothing was restored.
    pub(super) fn new(manifest: &Manifest, saved: SavedUpdates) -> Self {
        let (feedback, accounted) = saved.feedback.unwrap_or_else(|| {
            let parameters = manifest.model.adapter.parameters();
            (Feedback::new(parameters), Round::default())
        });
        Self {
            feedback: Some(feedback),
            changes: VecDeque::new(),
            is_dirty: false,
            accounted,
            sent: saved.sent,
            sealed: None,
            training: None,
            encoding: None,
        }
    }

    /// Whether training for this round is under way, or its outcome is being encoded.
    pub(super) fn works_for(&self, round: Round) -> bool {
        self.training == Some(round) || self.encoding == Some(round)
    }

    /// Whether a training task is out.
    pub(super) fn is_training(&self) -> bool {
        self.training.is_some()
    }

    /// Waits for no training any more. Returns whether there was any.
    pub(super) fn stop_training(&mut self) -> bool {
        self.training.take().is_some()
    }

    /// The update of this peer that waits to be revealed: it is on the disk, and not offered.
    pub(super) fn sealed(&self) -> Option<BlobHash> {
        self.sealed
    }

    /// The update that may be revealed now, if it was not.
    pub(super) fn unseal(&mut self) -> Option<BlobHash> {
        self.sealed.take()
    }

    /// Has this peer train from `adapter` for the open round, unless it has.
    pub(super) fn train(
        &mut self,
        cx: &mut NodeContext,
        known: Known<'_>,
        adapter: &Arc<Adapter>,
        is_finishing: bool,
    ) {
        let (round, manifest) = (known.next(), known.manifest());
        let Some(head) = known.head() else { return };
        assert_eq!(
            **adapter.shape(),
            manifest.model.adapter,
            "training is of the run's shape"
        );
        let is_done = known.index().has_receipt(&cx.me, round);
        if is_done || self.works_for(round) || !known.certified.is_training_round(round) {
            return;
        }
        let shape = match narrow(cx, manifest) {
            Some(shape) => Arc::new(shape),
            None => Arc::clone(adapter.shape()),
        };
        let task = TrainTask {
            run: known.id(),
            round,
            base: head.hash,
            adapter: Arc::clone(adapter),
            shape,
            trainable: manifest.training.schedule.trainable(round),
            training: manifest.training.clone(),
        };
        assert!(self.training.is_none(), "one training at a time");
        self.training = Some(round);
        cx.emit(Effect::Train(Box::new(task)));
        if is_finishing {
            cx.emit(Effect::FinishTrain(known.id()));
        }
    }

    /// Turns the outcome of local training into an update. Returns whether one is on its way; work that comes too late
    /// for its round is kept for the next.
    pub(super) fn on_trained(
        &mut self,
        cx: &mut NodeContext,
        known: Known<'_>,
        trained: Trained,
    ) -> bool {
        let Some(head) = known.head() else {
            return false;
        };
        self.training.take_if(|round| *round == trained.round);
        if !known.certified.is_member(&cx.me) {
            return false;
        }
        let (manifest, round) = (known.manifest(), known.next());
        let (narrow, shape) = (narrow(cx, manifest), manifest.model.adapter.clone());
        let is_late = trained.round != round
            || trained.base != head.hash
            || self.works_for(round)
            || known.index().has_receipt(&cx.me, round);
        let change = match is_late {
            true => Change::Keep {
                delta: trained.delta,
                narrow,
                shape,
            },
            false => {
                self.encoding = Some(round);
                Change::Prepare {
                    layout: layout(manifest, round),
                    codec: density(cx, manifest, head, round),
                    trained,
                    narrow,
                    shape,
                }
            }
        };
        self.change_feedback(cx, known.id(), change);
        !is_late
    }

    fn change_feedback(&mut self, cx: &mut NodeContext, run: RunId, change: Change) {
        self.changes.push_back(change);
        self.send_feedback(cx, run);
    }

    /// Sends error feedback away with the changes that wait for it, if it is here.
    fn send_feedback(&mut self, cx: &mut NodeContext, run: RunId) {
        if self.changes.is_empty() {
            return;
        }
        let Some(feedback) = self.feedback.take() else {
            return;
        };
        let task = Task::Feedback(feedback, std::mem::take(&mut self.changes));
        cx.emit(Effect::Compute(Box::new(Work { run, task })));
    }
}

impl OpenRun {
    /// Error feedback is back. Returns whether updates came with it, which are published now.
    pub(super) fn on_feedback(
        &mut self,
        cx: &mut NodeContext,
        ledger: &mut Ledger,
        feedback: Feedback,
        prepared: Vec<Prepared>,
    ) -> bool {
        let known_before = self.publishing.feedback.replace(feedback);
        assert!(
            known_before.is_none(),
            "nobody else has this peer's feedback"
        );
        self.publishing.is_dirty = true;
        let is_news = !prepared.is_empty();
        for prepared in prepared {
            self.publish(cx, ledger, prepared);
        }
        self.publishing.send_feedback(cx, self.certified.id);
        is_news
    }

    /// Signs a receipt for an update, and makes it, the update and what it leaves behind durable together. The update
    /// stays sealed until the receipts of the round are closed.
    fn publish(&mut self, cx: &mut NodeContext, ledger: &mut Ledger, prepared: Prepared) {
        let known = Known::new(&self.certified, ledger);
        let Some(signing) = self.publishing.sign(cx, known, prepared) else {
            return;
        };
        let hash = signing.receipt.update.hash;
        ledger.replica.blobs.insert(hash, signing.update);
        ledger.replica.blobs.note_durable(hash);
        let receipt = Entry::Contribution(signing.receipt);
        self.append(cx, ledger, receipt, signing.records);
        let known = Known::new(&self.certified, ledger);
        self.height.notify_arrival(cx, known, cx.me);
    }
}

impl Publishing {
    /// Turns an encoded update into a receipt and what it makes durable with it; `None` where the round went on
    /// without it.
    fn sign(
        &mut self,
        cx: &mut NodeContext,
        known: Known<'_>,
        prepared: Prepared,
    ) -> Option<Signing> {
        let (head, manifest) = (known.head()?, known.manifest());
        let (round, trained) = (head.round.next(), prepared.trained);
        self.encoding.take_if(|at| *at == trained.round);
        let (update, blob) = match prepared.update {
            Ok(update) => update,
            Err(why) => {
                let round = trained.round;
                let why = format!("round {round}: the trained update cannot be sent: {why}");
                let run = Some(known.id());
                cx.notify(Notice::CommandFailed { run, why });
                return None;
            }
        };
        let fits = trained.round == round && trained.base == head.hash;
        let is_open = fits && !known.index().has_receipt(&cx.me, round);
        let member = head.roster.get(&cx.me).filter(|_| is_open);
        let Some(shard) = member.map(|member| member.root) else {
            let back = returned(manifest, trained.round, update);
            self.changes.push_back(back);
            return None;
        };
        let receipt = Contribution {
            round,
            base: trained.base,
            update: blob,
            tokens: trained.tokens,
            shard,
        };
        assert_eq!(
            blob.size,
            update.len() as u64,
            "a receipt says how long its update is"
        );
        assert!(
            self.sent.as_ref().is_none_or(|(sent, _)| *sent == round),
            "what was sent for earlier rounds is settled"
        );
        let records = self.records(known.id(), round, blob, &update);
        self.sent = Some((round, update.clone()));
        self.sealed = Some(blob.hash);
        Some(Signing {
            receipt,
            update,
            records,
        })
    }

    /// What becomes durable together with a receipt: the update, and what it leaves behind.
    fn records(&mut self, run: RunId, round: Round, blob: BlobRef, update: &Bytes) -> Vec<Record> {
        let mut records = vec![Record::Blob {
            hash: blob.hash,
            bytes: update.clone(),
        }];
        records.extend(self.residual_record(run, round));
        records.push(Record::Sent {
            run,
            round,
            bytes: update.clone(),
        });
        records
    }

    /// Error feedback that has changed and is here, with everything before `round` accounted for.
    pub(super) fn residual_record(&mut self, run: RunId, round: Round) -> Option<Record> {
        let feedback = self.feedback.as_ref().filter(|_| self.is_dirty)?;
        self.is_dirty = false;
        Some(Record::Residual {
            run,
            round,
            bytes: feedback.share(),
        })
    }

    /// What of the own update a certified value leaves out goes back to error feedback.
    pub(super) fn settle(
        &mut self,
        cx: &mut NodeContext,
        certified: &Certified,
        value: &RoundValue,
    ) {
        let Some((round, update)) = (self.sent).take_if(|(round, _)| *round <= value.round) else {
            return;
        };
        let is_included = value.included.iter().any(|i| i.receipt.author == cx.me);
        if round == value.round && !is_included {
            let back = returned(&certified.manifest, round, update);
            self.change_feedback(cx, certified.id, back);
        }
    }

    /// After a restart: the update that was sent last waits for its certificate, or goes back to error feedback where
    /// its round left it out and the process died before that was written.
    pub(super) fn resume(&mut self, cx: &mut NodeContext, certified: &Certified, blobs: &Blobs) {
        let next = certified.next();
        assert!(
            self.training.is_none(),
            "nothing trains before the records are read"
        );
        let Some((round, update)) = (self.sent).take_if(|(round, _)| *round < next) else {
            let sent = self.sent.as_ref();
            let hash = sent.map(|(_, update)| BlobHash(crate::hash::blob(update)));
            self.sealed = hash.filter(|hash| blobs.is_durable(hash));
            return;
        };
        let certificate = certified.chain().get(round.0 as usize);
        let mut included = certificate.iter().flat_map(|c| &c.value.included);
        let is_included = included.any(|i| i.receipt.author == cx.me);
        if !is_included && self.accounted <= round {
            let back = returned(&certified.manifest, round, update);
            self.change_feedback(cx, certified.id, back);
        }
    }

    /// Asserts what holds of them between two inputs, with this round open.
    pub(super) fn assert_invariants(&self, open: Round) {
        assert!(
            self.feedback.is_none() || self.changes.is_empty(),
            "nothing waits for error feedback that is here"
        );
        assert!(
            self.training.is_none_or(|round| round == open),
            "training is for the open round"
        );
        assert!(
            self.encoding.is_none_or(|round| round <= open),
            "nothing is encoded for a round to come"
        );
        assert!(
            self.encoding.is_none() || self.feedback.is_none(),
            "an update is encoded with error feedback, which is away"
        );
        assert!(
            self.sent.as_ref().is_none_or(|(round, _)| *round >= open),
            "what was certified is settled"
        );
        assert!(
            self.sealed.is_none() || self.sent.is_some(),
            "only what was sent is sealed"
        );
    }
}

fn layout(manifest: &Manifest, round: Round) -> Layout {
    let trainable = manifest.training.schedule.trainable(round);
    Layout::new(&manifest.model.adapter, trainable)
}

/// What puts an update that was not included back into error feedback.
fn returned(manifest: &Manifest, round: Round, update: Bytes) -> Change {
    Change::Return {
        update,
        layout: layout(manifest, round),
        codec: manifest.updates.codec,
    }
}

/// The shape that this peer trains, where it is not the run's.
fn narrow(cx: &NodeContext, manifest: &Manifest) -> Option<AdapterShape> {
    cx.config
        .resources
        .rank
        .and_then(|rank| manifest.model.adapter.narrow(rank))
}

/// How densely this peer encodes its update: so that its uplink carries a copy for everyone who needs one
/// within the grace window.
fn density(cx: &NodeContext, manifest: &Manifest, head: &Head, round: Round) -> UpdateCodec {
    let Some(rate) = cx.config.resources.upload_rate else {
        return manifest.updates.codec;
    };
    let members = head.roster.len().saturating_sub(1);
    // While all decide, all need every update.
    let all = !head.is_sampled || head.roster.len() <= limits::MAX_COMMITTEE;
    let copies = match all {
        true => members,
        false => {
            let judges = match manifest.is_bonded() {
                true => head.roster.evaluators().count(),
                false => manifest.scoring.evaluators.len(),
            };
            members.min(manifest.membership.committee as usize + judges)
        }
    };
    let bytes = rate.saturating_mul(u64::from(manifest.plan.deadlines.grace_ms)) / 1_000;
    let most = bytes / copies.max(1) as u64;
    update::fitting(
        most,
        state::update_len(manifest, round),
        manifest.updates.codec,
    )
}
