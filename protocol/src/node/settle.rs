//! From a certificate to the state it certifies: the head moves at once, the adapter follows as soon
//! as the updates (or the adapter itself) are at hand.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::Desk;
use super::run::{Run, Wanted};
use crate::adapter::Adapter;
use crate::certificate::Certificate;
use crate::event::{Effect, Notice, Record, Timer};
use crate::id::{Blob, BlobHash, BlobRef, PeerId, Round};
use crate::manifest::Manifest;
use crate::reject::Rejection;
use crate::state::{self, Head};
use crate::update::Packed;
use crate::work::Load;

impl Run {
    /// Moves the head by a verified certificate.
    pub(super) fn certify(
        &mut self,
        desk: &mut Desk,
        certificate: Certificate,
    ) -> Result<(), Rejection> {
        let Some(manifest) = self.manifest.clone() else {
            return Err(Rejection::Certificate("the manifest is not known"));
        };
        let head = state::follow(&manifest, self.id, self.head.as_ref(), &certificate.value)?;
        if !self.may_follow(desk, &manifest, &certificate) {
            return Ok(());
        }
        let round = head.round;
        let took_ms = desk.now.monotonic.since_ms(self.began);
        self.rely_on(&certificate);
        self.settle_feedback(desk, &certificate);
        let bytes = certificate.encode();
        let mut records = self.admit(&certificate.value);
        records.extend([
            Record::Certificate {
                run: self.id,
                round,
                bytes: bytes.clone(),
            },
            Record::ConsensusDone {
                run: self.id,
                round,
            },
        ]);
        records.extend(self.residual_record(round.next()));
        desk.persist(records);
        desk.gossip(self.id, &crate::wire::Message::Certificate(bytes));
        let is_included = (certificate.value.included.iter()).any(|i| i.receipt.author == desk.me);
        if let Some(hash) = self.own.sealed.take().filter(|_| is_included) {
            // Certified without having been revealed here: a restart had sealed it again.
            desk.emit(Effect::OfferBlob(hash));
        }
        let state = head.hash;
        let included = certificate.value.included.len() as u32;
        self.extend_chain(&manifest, head, certificate);
        if self
            .own
            .training
            .take_if(|training| *training <= round)
            .is_some()
        {
            desk.emit(Effect::CancelTrain(self.id));
        }
        desk.notify(Notice::Certified {
            run: self.id,
            round,
            state,
            included,
            took_ms,
        });
        self.open_height(desk);
        Ok(())
    }

    /// Appends a verified certificate and the head it leads to; keeps its committee, which whoever contradicts it
    /// must have been a member of.
    pub(super) fn extend_chain(
        &mut self,
        manifest: &Manifest,
        head: Head,
        certificate: Certificate,
    ) {
        self.committee(manifest);
        let committee = self.seated.take().expect("it was just drawn");
        self.head = Some(head);
        self.chain.push(certificate);
        self.committees.push(committee);
        assert_eq!(
            self.chain.len(),
            self.committees.len(),
            "a committee for each height"
        );
    }

    /// Entries that a certificate names count, whatever their authors do later.
    pub(super) fn rely_on(&mut self, certificate: &Certificate) {
        for at in state::relied(&certificate.value) {
            self.log.certify(&at);
        }
    }

    /// Starts the clocks of the height after `head`.
    pub(super) fn open_height(&mut self, desk: &mut Desk) {
        self.began = desk.now.monotonic;
        self.grace = None;
        self.hurried = false;
        self.closed = None;
        self.forget_stand_ins();
        self.decided = self.height.take().is_some();
        self.shows.clear();
        self.refit();
        self.relay.clear();
        self.spoiled.clear();
        self.readable.clear();
        let certified = self.head.as_ref().map_or(Round(0), |head| head.round);
        self.steps.forget_before(certified);
        self.forget_needless_wants(desk);
        self.facts += 1;
        if self.is_finished() {
            return;
        }
        self.sit(desk);
        let Some(manifest) = &self.manifest else {
            return;
        };
        if self.head.is_some() {
            let at = self
                .began
                .after_ms(u64::from(manifest.plan.deadlines.round_ms));
            let timer = Timer::RoundDeadline(self.id, self.next());
            desk.emit(Effect::SetTimer { timer, at });
        }
    }

    /// Derives or fetches the adapter of the head, and archives what the audit of the run needs.
    pub(super) fn settle_adapter(&mut self, desk: &mut Desk) {
        let Some(head) = &self.head else { return };
        if self.has_adapter() || !(self.is_on_duty(desk) || self.decided) {
            return;
        }
        let (round, target) = (head.round, head.adapter);
        if self.adapter.is_none() && self.resume_before_step(desk) {
            return;
        }
        let behind = match &self.adapter {
            Some((at, _)) => round.0 - at.0,
            None => round.0 + 1,
        };
        if behind == 1 && (self.derive_step(desk, round) || self.refuted.is_some()) {
            return;
        }
        if self.load_blob(desk, round, target) {
            return;
        }
        self.want_step(desk, behind, target);
    }

    /// An evaluator that comes back owing the last round's sheet starts from the adapter before that
    /// round: the step cannot be judged from its outcome alone. Returns whether that adapter is on its
    /// way from the own store.
    fn resume_before_step(&mut self, desk: &mut Desk) -> bool {
        let (Some(manifest), Some(value)) = (self.manifest.clone(), self.last_value()) else {
            return false;
        };
        let (round, durable) = (value.round, |blob: &BlobRef| {
            self.archived.contains(&blob.hash)
        });
        let before = (self.chain.len().checked_sub(2)).map(|at| self.chain[at].value.adapter);
        let Some(before) = before.filter(durable) else {
            return false;
        };
        let sheets = self.index.sheets.get(&round);
        let owes = manifest.scoring.evaluators.binary_search(&desk.me).is_ok()
            && !value.included.is_empty()
            && value.included.iter().all(|i| durable(&i.update))
            && !sheets.is_some_and(|sheets| sheets.contains_key(&desk.me));
        if !owes
            || self
                .wanted
                .get(&before.hash)
                .is_some_and(Wanted::has_failed)
        {
            return false;
        }
        let earlier = round.previous().expect("a round that includes updates");
        if !self.load_blob(desk, earlier, before) {
            self.want(desk, before, Vec::new());
        }
        true
    }

    /// Has an adapter read whose bytes are here. Returns whether they are.
    fn load_blob(&mut self, desk: &mut Desk, round: Round, blob: BlobRef) -> bool {
        let Some(manifest) = &self.manifest else {
            return false;
        };
        let shape = Arc::new(manifest.model.adapter.clone());
        let Some(bytes) = self.blobs.remove(&blob.hash) else {
            return false;
        };
        self.load(
            desk,
            Load {
                round,
                blob,
                shape,
                bytes,
            },
        );
        true
    }

    /// Asks for the updates of the step when only one is missing, and for the adapter itself.
    fn want_step(&mut self, desk: &mut Desk, behind: u32, target: BlobRef) {
        let (Some(manifest), Some(certificate)) = (&self.manifest, self.chain.last()) else {
            return;
        };
        let signers = certificate.precommits.iter().map(|(peer, _)| *peer);
        let authors = certificate.value.included.iter().map(|i| i.receipt.author);
        // Who decided or judges a round has its adapter at once; authors may be off duty by now.
        let evaluators = manifest.scoring.evaluators.iter().copied();
        let mut providers: Vec<PeerId> = signers.chain(evaluators).collect();
        if self.head.as_ref().is_none_or(|head| !head.is_sampled) {
            providers.extend(authors);
        }
        let mut seen = BTreeSet::new();
        providers.retain(|peer| seen.insert(*peer));
        // Further behind than one step the updates of the last are of use to auditors only.
        let useful = behind == 1 || self.head.as_ref().is_some_and(|head| !head.is_sampled);
        let step: Vec<(BlobRef, PeerId)> = (certificate.value.included.iter())
            .filter(|i| useful && !self.blobs.contains_key(&i.update.hash))
            .map(|i| (i.update, i.receipt.author))
            .collect();
        for (blob, author) in step {
            let mut from = vec![author];
            from.extend(providers.iter().filter(|p| **p != author));
            self.want(desk, blob, from);
        }
        if behind > 1 || self.updates_failed(desk) {
            self.want(desk, target, providers);
        }
    }

    /// Whether the step should be fetched as a whole. An evaluator asks longer for its updates: it cannot judge a step
    /// that it did not make.
    fn updates_failed(&self, desk: &Desk) -> bool {
        let (Some(manifest), Some(certificate)) = (&self.manifest, self.chain.last()) else {
            return false;
        };
        let judges = manifest.scoring.evaluators.binary_search(&desk.me).is_ok();
        let failed = |wanted: &Wanted| match judges {
            true => wanted.is_hopeless(),
            false => wanted.has_failed(),
        };
        let updates = certificate.value.included.iter().map(|i| i.update.hash);
        let mut wanted = updates.filter_map(|hash| self.wanted.get(&hash));
        wanted.any(failed)
    }

    /// One step from the adapter at hand. Returns whether there is nothing more to do about it now.
    fn derive_step(&mut self, desk: &mut Desk, round: Round) -> bool {
        let Some(value) = self.last_value().cloned() else {
            return false;
        };
        let stepped = match self.stepped_to(desk, &value) {
            None => return true,
            Some(Ok(stepped)) if stepped.blob != value.adapter => Err(state::OTHER_ADAPTER),
            Some(known) => known,
        };
        match stepped {
            Ok(stepped) => {
                self.advance_adapter(desk, round, stepped);
                true
            }
            Err(why) => {
                self.refute_adapter(desk, round, why);
                false
            }
        }
    }

    /// The adapter of the head is here: make it durable, offer it, forget what it was made from.
    pub(super) fn keep_adapter(
        &mut self,
        desk: &mut Desk,
        adapter: Arc<Adapter>,
        blob: BlobRef,
        bytes: Option<Bytes>,
    ) {
        let Some(round) = self.head.as_ref().map(|head| head.round) else {
            return;
        };
        let hash = blob.hash;
        self.wanted.remove(&hash);
        if self.archived.insert(hash) {
            let bytes = bytes.unwrap_or_else(|| adapter.share());
            desk.persist(vec![Record::Blob { hash, bytes }]);
        }
        desk.emit(Effect::OfferBlob(hash));
        self.adapter = Some((round, adapter));
        let included = self.last_value().map(|value| value.included.clone());
        for update in included.unwrap_or_default() {
            if let Some(bytes) = self.blobs.remove(&update.update.hash) {
                self.keep_public(desk, update.update.hash, bytes);
            }
            if !self.archived.contains(&update.update.hash) && self.archives(desk) {
                self.want(desk, update.update, vec![update.receipt.author]);
            }
        }
        // Contributions are kept for evaluators alone.
        self.steps.forget_before(round.next());
        self.forget_public(desk);
        self.archive_earlier(desk);
        self.began = desk.now.monotonic;
        if self.is_finished() {
            desk.notify(Notice::Finished(self.id));
        }
    }

    /// Asks for updates of earlier rounds that are not durable here.
    fn archive_earlier(&mut self, desk: &mut Desk) {
        if !self.archives(desk) {
            return;
        }
        let mut lacking = Vec::new();
        for certificate in &self.chain {
            let signers = || certificate.precommits.iter().map(|(peer, _)| *peer);
            for included in &certificate.value.included {
                if !self.archived.contains(&included.update.hash) {
                    let author = included.receipt.author;
                    let providers = std::iter::once(author).chain(signers()).collect();
                    lacking.push((included.update, providers));
                }
            }
        }
        for (blob, providers) in lacking {
            self.want(desk, blob, providers);
        }
    }

    /// Stops asking for what no longer matters: updates that were announced for a round, or put up in it,
    /// and are not part of what was certified (their authors may never have had them), and adapters that later
    /// ones replaced (where few are on duty, few have them).
    fn forget_needless_wants(&mut self, desk: &Desk) {
        let last = self.chain.len().saturating_sub(1);
        let needed: BTreeSet<BlobHash> = (self.chain.iter().enumerate())
            .flat_map(|(at, certificate)| {
                let value = &certificate.value;
                let matter = self.archives(desk) || at == last;
                let updates = value.included.iter().filter(move |_| matter);
                // An evaluator may have to go back one step.
                let adapter = (at + 1 >= last).then_some(value.adapter.hash);
                updates.map(|i| i.update.hash).chain(adapter)
            })
            .chain(self.public_updates(desk))
            .collect();
        self.wanted.retain(|hash, _| needed.contains(hash));
    }

    /// A blob arrived. Returns whether this run had asked for it.
    pub(super) fn on_blob(&mut self, desk: &mut Desk, blob: &Blob) -> bool {
        let (hash, bytes) = (blob.hash(), blob.bytes());
        let Some(wanted) = self.wanted.remove(&hash) else {
            return false;
        };
        if wanted.blob.size != bytes.len() as u64 {
            return false;
        }
        let round = self.next();
        let author = (self.index.receipts.get(&round).into_iter().flatten())
            .find(|(_, (_, receipt))| receipt.update.hash == hash)
            .map(|(peer, _)| *peer);
        let spoils = author.and_then(|_| self.spoils(bytes));
        if author.is_some() {
            self.readable.insert(hash, spoils.is_none());
        }
        if let Some(why) = spoils {
            self.spoiled.insert(hash);
            self.refit();
            let from = author.unwrap_or(desk.me);
            desk.notify(Notice::Refused { from, why });
            return true;
        }
        if self.archived.insert(hash) {
            desk.persist(vec![Record::Blob {
                hash,
                bytes: bytes.clone(),
            }]);
            desk.emit(Effect::OfferBlob(hash));
        }
        self.keep_public(desk, hash, bytes.clone());
        self.blobs.insert(hash, bytes.clone());
        if let Some(peer) = author {
            self.notify_arrival(desk, peer);
        }
        self.forget_settled_blobs();
        true
    }

    /// Why bytes are no update of the open round, if they are none.
    fn spoils(&self, bytes: &Bytes) -> Option<Rejection> {
        let manifest = self.manifest.as_ref()?;
        let len = state::update_len(manifest, self.next());
        Packed::read(bytes.clone(), len, manifest.updates.codec).err()
    }

    /// Keeps in memory only what the open height or the missing adapter may need.
    fn forget_settled_blobs(&mut self) {
        if !self.has_adapter() {
            return;
        }
        let round = self.next();
        let receipts = self.index.receipts.get(&round);
        let judging = self
            .height
            .as_ref()
            .map_or(&[][..], |deciding| &deciding.judging);
        let proposed: Vec<BlobHash> = (judging.iter())
            .flat_map(|value| value.included.iter().map(|i| i.update.hash))
            .collect();
        self.blobs.retain(|hash, _| {
            proposed.contains(hash)
                || receipts.is_some_and(|r| r.values().any(|(_, c)| c.update.hash == *hash))
        });
    }
}
