//! From the adapter of the head to the own receipt: training, encoding, publishing, and what is not included.
//!
//! Encoding goes over as many numbers as the adapter has, so it is computed elsewhere, with the error feedback, which
//! is away for as long as that takes. What changes it meanwhile waits in line.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::Desk;
use super::run::Run;
use crate::adapter::AdapterShape;
use crate::aggregate::Layout;
use crate::certificate::Certificate;
use crate::entry::{Contribution, Entry};
use crate::event::{Effect, Notice, Record, TrainTask, Trained};
use crate::id::{BlobHash, Round};
use crate::limits;
use crate::manifest::{Manifest, UpdateCodec};
use crate::state::{self, Head};
use crate::update::{self, Feedback};
use crate::work::{Change, Prepared, Task, Work};

/// The own updates of a run: what trains, what was sent, and what was not.
#[derive(Default)]
pub(super) struct Publishing {
    feedback: Option<Feedback>,
    /// Whether the feedback is away, to be changed.
    is_away: bool,
    /// What waits to change it.
    changes: VecDeque<Change>,
    /// Whether it has changed since it was last written.
    is_dirty: bool,
    /// Rounds before this one are accounted for in what was restored.
    accounted: Round,
    /// The update that waits for its certificate: round and encoded bytes.
    sent: Option<(Round, Bytes)>,
    /// The update of the open round, until it is revealed: it is on the disk, and not offered.
    pub(super) sealed: Option<BlobHash>,
    /// The round for which a training task is out.
    pub(super) training: Option<Round>,
    /// The round whose update is being encoded.
    encoding: Option<Round>,
}

impl Publishing {
    /// Whether training for this round is under way, or its outcome is being encoded.
    pub(super) fn works_for(&self, round: Round) -> bool {
        self.training == Some(round) || self.encoding == Some(round)
    }

    /// Takes back what a store gives.
    pub(super) fn restore_feedback(&mut self, feedback: Feedback, accounted: Round) {
        self.feedback = Some(feedback);
        self.accounted = accounted;
    }

    /// As [`Publishing::restore_feedback`].
    pub(super) fn restore_sent(&mut self, round: Round, update: Bytes) {
        self.sent = Some((round, update));
    }

    /// Asserts what holds of them between two inputs, with this round open.
    pub(super) fn assert_invariants(&self, open: Round, is_known: bool) {
        let is_here = self.feedback.is_some();
        assert!(!(self.is_away && is_here), "error feedback is in one place");
        assert!(
            self.is_away || is_here || !is_known,
            "a run that is known has error feedback"
        );
        assert!(
            self.is_away || self.changes.is_empty(),
            "nothing waits for error feedback that is here"
        );
        assert!(
            self.training.is_none_or(|round| round == open),
            "training is for the open round"
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

    /// Nothing is left out yet, where nothing was restored.
    pub(super) fn begin(&mut self, manifest: &Manifest) {
        let parameters = manifest.model.adapter.parameters();
        (self.feedback).get_or_insert_with(|| Feedback::new(parameters));
    }
}

fn layout(manifest: &Manifest, round: Round) -> Layout {
    let trainable = manifest.training.schedule.trainable(round);
    Layout::new(&manifest.model.adapter, trainable)
}

impl Run {
    /// Has this peer train for the open round, if it was drawn and has not.
    pub(super) fn train(&mut self, desk: &mut Desk) {
        let round = self.next();
        let (Some(manifest), Some(head)) = (&self.manifest, &self.head) else {
            return;
        };
        let drawn = self.trains(desk);
        let done = self.has_receipt(desk, round);
        if !drawn || done || self.own.works_for(round) || !self.is_training_round(round) {
            return;
        }
        let Some((_, adapter)) = &self.adapter else {
            return;
        };
        let shape = match narrow(desk, manifest) {
            Some(shape) => Arc::new(shape),
            None => Arc::clone(adapter.shape()),
        };
        let task = TrainTask {
            run: self.id,
            round,
            base: head.hash,
            adapter: Arc::clone(adapter),
            shape,
            trainable: manifest.training.schedule.trainable(round),
            training: manifest.training.clone(),
        };
        self.own.training = Some(round);
        desk.emit(Effect::Train(Box::new(task)));
        if self.hurried {
            desk.emit(Effect::FinishTrain(self.id));
        }
    }

    fn has_receipt(&self, desk: &Desk, round: Round) -> bool {
        (self.index.receipts.get(&round)).is_some_and(|r| r.contains_key(&desk.me))
    }

    /// Turns the outcome of local training into an update. Returns whether one is on its way; work that comes too late
    /// for its round is kept for the next.
    pub(super) fn on_trained(&mut self, desk: &mut Desk, trained: Trained) -> bool {
        let (Some(manifest), Some(head)) = (self.manifest.clone(), self.head.as_ref()) else {
            return false;
        };
        self.own.training.take_if(|round| *round == trained.round);
        if head.roster.get(&desk.me).is_none() {
            return false;
        }
        let round = head.round.next();
        let (narrow, shape) = (narrow(desk, &manifest), manifest.model.adapter.clone());
        let is_late = trained.round != round
            || trained.base != head.hash
            || self.own.works_for(round)
            || self.has_receipt(desk, round);
        let change = match is_late {
            true => Change::Keep {
                delta: trained.delta,
                narrow,
                shape,
            },
            false => {
                self.own.encoding = Some(round);
                Change::Prepare {
                    layout: layout(&manifest, round),
                    codec: density(desk, &manifest, head, round),
                    trained,
                    narrow,
                    shape,
                }
            }
        };
        self.change_feedback(desk, change);
        !is_late
    }

    fn change_feedback(&mut self, desk: &mut Desk, change: Change) {
        self.own.changes.push_back(change);
        self.send_feedback(desk);
    }

    fn send_feedback(&mut self, desk: &mut Desk) {
        if self.own.is_away || self.own.changes.is_empty() {
            return;
        }
        let feedback = self.own.feedback.take();
        let feedback = feedback.expect("it is here once the manifest is known");
        self.own.is_away = true;
        let task = Task::Feedback(feedback, std::mem::take(&mut self.own.changes));
        let run = self.id;
        desk.emit(Effect::Compute(Box::new(Work { run, task })));
    }

    /// Error feedback is back. Returns whether updates came with it.
    pub(super) fn on_feedback(
        &mut self,
        desk: &mut Desk,
        feedback: Feedback,
        prepared: Vec<Prepared>,
    ) -> bool {
        assert!(self.own.is_away, "nobody else has this peer's feedback");
        self.own.is_away = false;
        self.own.is_dirty = true;
        self.own.feedback = Some(feedback);
        let is_news = !prepared.is_empty();
        for prepared in prepared {
            self.publish(desk, prepared);
        }
        self.send_feedback(desk);
        is_news
    }

    /// Signs a receipt for an update, and makes it, the update and what it leaves behind durable together.
    fn publish(&mut self, desk: &mut Desk, prepared: Prepared) {
        let (Some(manifest), Some(head)) = (self.manifest.clone(), self.head.as_ref()) else {
            return;
        };
        let (round, trained) = (head.round.next(), prepared.trained);
        self.own.encoding.take_if(|at| *at == trained.round);
        let (update, blob) = match prepared.update {
            Ok(update) => update,
            Err(why) => {
                let round = trained.round;
                let why = format!("round {round}: the trained update cannot be sent: {why}");
                return desk.notify(Notice::CommandFailed {
                    run: Some(self.id),
                    why,
                });
            }
        };
        let fits = trained.round == round && trained.base == head.hash;
        let member = (head.roster.get(&desk.me)).filter(|_| fits && !self.has_receipt(desk, round));
        let Some(shard) = member.map(|member| member.root) else {
            // The round went on without it.
            let back = Change::Return {
                update,
                layout: layout(&manifest, trained.round),
                codec: manifest.updates.codec,
            };
            return self.own.changes.push_back(back);
        };
        let receipt = Contribution {
            round,
            base: trained.base,
            update: blob,
            tokens: trained.tokens,
            shard,
        };
        self.own.sent = Some((round, update.clone()));
        self.blobs.insert(blob.hash, update.clone());
        self.archived.insert(blob.hash);
        let mut records = vec![Record::Blob {
            hash: blob.hash,
            bytes: update.clone(),
        }];
        records.extend(self.residual_record(round));
        records.push(Record::Sent {
            run: self.id,
            round,
            bytes: update,
        });
        self.own.sealed = Some(blob.hash);
        self.append(desk, vec![Entry::Contribution(receipt)], records);
        self.notify_arrival(desk, desk.me);
    }

    /// Error feedback that has changed and is here, with everything before `round` accounted for.
    pub(super) fn residual_record(&mut self, round: Round) -> Option<Record> {
        let feedback = self.own.feedback.as_ref().filter(|_| self.own.is_dirty)?;
        self.own.is_dirty = false;
        Some(Record::Residual {
            run: self.id,
            round,
            bytes: feedback.share(),
        })
    }

    /// What of the own update a certificate leaves out goes back to error feedback.
    pub(super) fn settle_feedback(&mut self, desk: &mut Desk, certificate: &Certificate) {
        let value = &certificate.value;
        let Some((round, update)) = (self.own.sent).take_if(|(round, _)| *round <= value.round)
        else {
            return;
        };
        let is_included = value.included.iter().any(|i| i.receipt.author == desk.me);
        if round == value.round && !is_included {
            self.return_update(desk, round, update);
        }
    }

    fn return_update(&mut self, desk: &mut Desk, round: Round, update: Bytes) {
        let Some(manifest) = self.manifest.clone() else {
            return;
        };
        let change = Change::Return {
            update,
            layout: layout(&manifest, round),
            codec: manifest.updates.codec,
        };
        self.change_feedback(desk, change);
    }

    /// After a restart: the update that was sent last waits for its certificate, or goes back to error feedback where
    /// its round left it out and the process died before that was written.
    pub(super) fn resume_sent(&mut self, desk: &mut Desk) {
        let next = self.next();
        let Some((round, update)) = (self.own.sent).take_if(|(round, _)| *round < next) else {
            let sent = self.own.sent.as_ref();
            let hash = sent.map(|(_, update)| BlobHash(crate::hash::blob(update)));
            self.own.sealed = hash.filter(|hash| self.archived.contains(hash));
            return;
        };
        let certificate = self.chain.get(round.0 as usize);
        let mut included = certificate.iter().flat_map(|c| &c.value.included);
        let is_included = included.any(|i| i.receipt.author == desk.me);
        if !is_included && self.own.accounted <= round {
            self.return_update(desk, round, update);
        }
    }

    /// The update of this peer that waits to be revealed: it is on the disk, and not offered.
    pub(super) fn sealed(&self) -> Option<BlobHash> {
        self.own.sealed
    }
}

/// The shape that this peer trains, where it is not the run's.
fn narrow(desk: &Desk, manifest: &Manifest) -> Option<AdapterShape> {
    desk.config
        .resources
        .rank
        .and_then(|rank| manifest.model.adapter.narrow(rank))
}

/// How densely this peer encodes its update: so that its uplink carries a copy for everyone who needs one
/// within the grace window.
fn density(desk: &Desk, manifest: &Manifest, head: &Head, round: Round) -> UpdateCodec {
    let Some(rate) = desk.config.resources.upload_rate else {
        return manifest.updates.codec;
    };
    let members = head.roster.len().saturating_sub(1);
    // While all decide, all need every update.
    let all = !head.is_sampled || head.roster.len() <= limits::MAX_COMMITTEE;
    let copies = match all {
        true => members,
        false => {
            members.min(manifest.membership.committee as usize + manifest.scoring.evaluators.len())
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
