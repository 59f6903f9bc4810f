//! From a certificate to the state it certifies: the head moves at once, the adapter follows as soon
//! as the updates (or the adapter itself) are at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::NodeContext;
use super::certified::Certified;
use super::height::OpenHeight;
use super::known::{Known, Ledger};
use super::run::OpenRun;
use super::score::{Scorable, SealedSheet};
use super::steps::StepCache;
use crate::adapter::Adapter;
use crate::certificate::Certificate;
use crate::event::{Effect, Notice, Record, Timer};
use crate::id::{BlobHash, BlobRef, PeerId, Round};
use crate::reject::Rejection;
use crate::replica::PendingFetch;
use crate::state::{self, RoundSources};
use crate::wire::Message;
use crate::work::Load;

/// From certified values to adapters, and what is kept of them for scores.
#[derive(Default)]
pub(super) struct Settling {
    /// The newest adapter derived or fetched here, and its round.
    pub(super) adapter: Option<(Round, Arc<Adapter>)>,
    /// What is computed of steps.
    pub(super) steps: StepCache,
    /// What an evaluator scores a step by.
    pub(super) scorable: Option<Scorable>,
    /// The last round whose scoring was asked for.
    pub(super) scoring: Option<Round>,
    /// This peer's sheet of the last round, until it is shown.
    pub(super) sealed: Option<SealedSheet>,
    /// Updates of the last turns, for evaluators; see `public`.
    pub(super) public_updates: BTreeMap<BlobHash, Bytes>,
    /// Whether this peer had a seat in the height before: it keeps that round's adapter for those who are
    /// drawn next, and who else would?
    pub(super) has_decided: bool,
}

/// What came of a step that was certified.
enum Derived {
    /// It is computed, or its adapter is.
    Underway,
    /// Updates are missing, or the adapter before.
    Unknown,
    /// It does not lead to the certified adapter.
    Refuted(Rejection),
}

impl Settling {
    /// Whether the adapter of the newest certificate is at hand.
    pub(super) fn has_adapter(&self, certified: &Certified) -> bool {
        let round = self.adapter.as_ref().map(|(round, _)| *round);
        round.is_some() && round == certified.round()
    }

    /// What is at hand to build or check a value of the open height.
    pub(super) fn evidence<'a>(&'a self, known: Known<'a>) -> RoundSources<'a> {
        let adapter = self.adapter.as_ref().map(|(_, adapter)| adapter);
        RoundSources {
            log: known.log(),
            before: adapter.filter(|_| self.has_adapter(known.certified)),
            blobs: known.ledger.replica.blobs.at_hand(),
            judged: known.certified.last_value(),
        }
    }

    /// Derives or fetches the adapter of the head, and archives what the audit of the run needs. Returns why the
    /// certified adapter is refuted, if it is.
    pub(super) fn settle(
        &mut self,
        cx: &mut NodeContext,
        certified: &Certified,
        ledger: &mut Ledger,
        is_on_duty: bool,
    ) -> Option<Rejection> {
        let head = certified.head()?;
        if self.has_adapter(certified) || !(is_on_duty || self.has_decided) {
            return None;
        }
        if self.adapter.is_none() && self.resume_before_step(cx, certified, ledger) {
            return None;
        }
        let behind = match &self.adapter {
            Some((at, _)) => head.round.0 - at.0,
            None => head.round.0 + 1,
        };
        assert!(behind > 0, "an adapter of an earlier round");
        if behind == 1 {
            match self.derive_step(cx, Known::new(certified, ledger)) {
                Derived::Underway => return None,
                Derived::Unknown => {}
                Derived::Refuted(why) => return Some(why),
            }
        }
        if !self.load_blob(cx, certified, ledger, (head.round, head.adapter)) {
            want_step(cx, certified, ledger, behind);
        }
        None
    }

    /// An evaluator that comes back owing the last round's sheet starts from the adapter before that
    /// round: the step cannot be judged from its outcome alone. Returns whether that adapter is on its
    /// way from the own store.
    fn resume_before_step(
        &mut self,
        cx: &mut NodeContext,
        certified: &Certified,
        ledger: &mut Ledger,
    ) -> bool {
        let [.., before, last] = certified.chain() else {
            return false;
        };
        let (before, value) = (before.value.adapter, &last.value);
        let blobs = &ledger.replica.blobs;
        let is_durable = |blob: &BlobRef| blobs.is_durable(&blob.hash);
        let owes = certified.is_evaluator(&cx.me)
            && is_durable(&before)
            && !value.included.is_empty()
            && value.included.iter().all(|i| is_durable(&i.update))
            && !ledger.index.has_sheet(&cx.me, value.round);
        let has_failed = (blobs.wanted(&before.hash)).is_some_and(PendingFetch::has_failed);
        if !owes || has_failed {
            return false;
        }
        let earlier = (value.round.previous()).expect("a round that includes updates");
        if !self.load_blob(cx, certified, ledger, (earlier, before)) {
            ledger.want(cx, before, Vec::new());
        }
        true
    }

    /// Has an adapter read whose bytes are here. Returns whether they are.
    fn load_blob(
        &mut self,
        cx: &mut NodeContext,
        certified: &Certified,
        ledger: &mut Ledger,
        (round, blob): (Round, BlobRef),
    ) -> bool {
        let Some(bytes) = ledger.replica.blobs.remove(&blob.hash) else {
            return false;
        };
        let load = Load {
            round,
            blob,
            shape: Arc::new(certified.manifest.model.adapter.clone()),
            bytes,
        };
        self.steps.load(cx, certified.id, load);
        true
    }

    /// One step from the adapter at hand.
    fn derive_step(&mut self, cx: &mut NodeContext, known: Known<'_>) -> Derived {
        let Some(value) = known.certified.last_value() else {
            return Derived::Unknown;
        };
        let why = match self.step_outcome(cx, known, value) {
            None => return Derived::Underway,
            Some(Ok(stepped)) if stepped.blob == value.adapter => {
                self.advance_adapter(cx, known.certified, value.round, stepped);
                return Derived::Underway;
            }
            Some(Ok(_)) => state::OTHER_ADAPTER,
            Some(Err(why)) => why,
        };
        match self.refutes(known, value.round) {
            true => Derived::Refuted(why),
            false => Derived::Unknown,
        }
    }

    /// The adapter of the head is here: make it durable, offer it, forget what it was made from.
    pub(super) fn keep_adapter(
        &mut self,
        cx: &mut NodeContext,
        certified: &Certified,
        ledger: &mut Ledger,
        (adapter, blob): (Arc<Adapter>, BlobRef),
        bytes: Option<Bytes>,
    ) {
        let (Some(round), Some(value)) = (certified.round(), certified.last_value()) else {
            return;
        };
        assert_eq!(
            blob, value.adapter,
            "the adapter that is kept is the certified one"
        );
        let hash = blob.hash;
        let blobs = &mut ledger.replica.blobs;
        blobs.forget(&hash);
        let kept = blobs.keep(hash, || bytes.unwrap_or_else(|| adapter.share()));
        cx.out.extend(kept);
        assert!(blobs.is_durable(&hash), "what is offered is kept");
        cx.emit(Effect::OfferBlob(hash));
        self.adapter = Some((round, adapter));
        for included in &value.included {
            let (update, author) = (included.update, included.receipt.author);
            if let Some(bytes) = ledger.replica.blobs.remove(&update.hash) {
                self.keep_public(cx, certified, update.hash, bytes);
            }
            if !ledger.replica.blobs.is_durable(&update.hash) && archives(cx, certified) {
                ledger.want(cx, update, vec![author]);
            }
        }
        // Contributions are kept for evaluators alone.
        self.steps.forget_before(round.next());
        self.forget_public(cx, certified);
        archive_earlier(cx, certified, ledger);
        if round == certified.manifest.closing_round() {
            cx.notify(Notice::Finished(certified.id));
        }
    }

    /// Asserts that no adapter is newer than what is certified.
    pub(super) fn assert_invariants(&self, certified: &Certified) {
        let is_behind = |round: Round| round < certified.next();
        assert!(
            (self.adapter.iter()).all(|(round, _)| is_behind(*round)),
            "an adapter of a certified round"
        );
        assert!(
            (self.scorable.iter()).all(|scorable| is_behind(scorable.round)),
            "a step that was certified"
        );
        assert!(
            self.scoring.is_none_or(is_behind),
            "only certified rounds are scored"
        );
        let is_current = |scorable: &Scorable| Some(scorable.round) == certified.round();
        let is_ordered = |scorable: &Scorable| {
            let peers = scorable.contributions.windows(2);
            peers.into_iter().all(|pair| pair[0].0 < pair[1].0)
        };
        let mut scorable = self.scorable.iter();
        assert!(
            scorable.all(|scorable| !is_current(scorable) || is_ordered(scorable)),
            "one contribution of a peer is scored, ordered by peer"
        );
        let shape = &certified.manifest.model.adapter;
        assert!(
            (self.adapter.iter()).all(|(_, adapter)| **adapter.shape() == *shape),
            "the adapter is of the run's shape"
        );
        self.steps.assert_invariants(certified.next());
    }
}

/// Whether this peer keeps the updates of all rounds, to check the whole run again from bytes.
fn archives(cx: &NodeContext, certified: &Certified) -> bool {
    cx.config.archive && certified.head().is_some_and(|head| !head.is_sampled)
}

/// Asks for the updates of the step when only one is missing, and for the adapter itself.
fn want_step(cx: &mut NodeContext, certified: &Certified, ledger: &mut Ledger, behind: u32) {
    let (Some(head), Some(certificate)) = (certified.head(), certified.chain().last()) else {
        return;
    };
    assert!(behind > 0, "a step is wanted to the head");
    assert!(
        !certificate.precommits.is_empty(),
        "somebody signed, and can be asked"
    );
    let included = &certificate.value.included;
    let signers = certificate.precommits.iter().map(|(peer, _)| *peer);
    // Who decided or judges a round has its adapter at once; authors may be off duty by now.
    let evaluators = head.panel.peers().copied();
    let mut providers: Vec<PeerId> = signers.chain(evaluators).collect();
    if !head.is_sampled {
        providers.extend(included.iter().map(|i| i.receipt.author));
    }
    let mut seen = BTreeSet::new();
    providers.retain(|peer| seen.insert(*peer));
    // Further behind than one step the updates of the last are of use to auditors only.
    let is_useful = behind == 1 || !head.is_sampled;
    let blobs = &ledger.replica.blobs;
    let step: Vec<(BlobRef, PeerId)> = (included.iter())
        .filter(|i| is_useful && !blobs.has(&i.update.hash))
        .map(|i| (i.update, i.receipt.author))
        .collect();
    for (blob, author) in step {
        let mut from = vec![author];
        from.extend(providers.iter().filter(|p| **p != author));
        ledger.want(cx, blob, from);
    }
    if behind > 1 || updates_failed(cx, certified, ledger) {
        ledger.want(cx, head.adapter, providers);
    }
}

/// Whether the step should be fetched as a whole. An evaluator asks longer for its updates: it cannot judge a step
/// that it did not make.
fn updates_failed(cx: &NodeContext, certified: &Certified, ledger: &Ledger) -> bool {
    let judges = certified.may_judge(&cx.me);
    let has_failed = |wanted: &PendingFetch| match judges {
        true => wanted.is_given_up(),
        false => wanted.has_failed(),
    };
    let included = certified.last_value().map(|value| &value.included);
    let updates = included.into_iter().flatten().map(|i| i.update.hash);
    let mut wanted = updates.filter_map(|hash| ledger.replica.blobs.wanted(&hash));
    wanted.any(has_failed)
}

/// Asks for updates of earlier rounds that are not durable here.
fn archive_earlier(cx: &mut NodeContext, certified: &Certified, ledger: &mut Ledger) {
    if !archives(cx, certified) {
        return;
    }
    for (blob, providers) in certified.chain().iter().flat_map(Certified::updates) {
        if !ledger.replica.blobs.is_durable(&blob.hash) {
            ledger.want(cx, blob, providers);
        }
    }
}

impl OpenRun {
    /// Moves the head by a verified certificate.
    pub(super) fn certify(
        &mut self,
        cx: &mut NodeContext,
        ledger: &mut Ledger,
        certificate: Certificate,
    ) -> Result<(), Rejection> {
        let value = &certificate.value;
        let head = self.certified.follow(value)?;
        if !self.may_follow(cx, ledger, &certificate) {
            return Ok(());
        }
        let (run, round, state) = (self.certified.id, head.round, head.hash);
        assert_eq!(round, self.height.round, "the open height is certified");
        let took_ms = cx.now.monotonic.since_ms(self.height.began);
        ledger.rely_on(value);
        self.publishing.settle(cx, &self.certified, value);
        let bytes = certificate.encode();
        let joined = value.joins.iter().map(|joined| joined.entry.author);
        let mut records: Vec<Record> = joined.flat_map(|a| ledger.replica.admit(a)).collect();
        let kept = bytes.clone();
        records.push(Record::Certificate {
            run,
            round,
            bytes: kept,
        });
        records.push(Record::ConsensusDone { run, round });
        records.extend(self.publishing.residual_record(run, round.next()));
        cx.persist(records);
        cx.gossip(run, &Message::Certificate(bytes));
        let is_included = value.included.iter().any(|i| i.receipt.author == cx.me);
        if let Some(hash) = self.publishing.unseal().filter(|_| is_included) {
            // Certified without having been revealed here: a restart had sealed it again.
            cx.emit(Effect::OfferBlob(hash));
        }
        let included = value.included.len() as u32;
        let committee = self.height.committee(&self.certified).clone();
        self.certified.extend(head, certificate, committee);
        if self.publishing.stop_training() {
            cx.emit(Effect::CancelTrain(run));
        }
        assert!(
            !self.publishing.is_training(),
            "nobody trains for a certified round"
        );
        cx.notify(Notice::Certified {
            run,
            round,
            state,
            included,
            took_ms,
        });
        self.open_height(cx, ledger);
        Ok(())
    }

    /// Ends the height that was open, with everything that belonged to it, and begins the one after `head`.
    pub(super) fn open_height(&mut self, cx: &mut NodeContext, ledger: &mut Ledger) {
        let now = cx.now.monotonic;
        let is_epoch = self.height.round > self.certified.manifest.closing_round();
        let mut next = OpenHeight::new(self.certified.next(), now);
        next.epochs = self.height.epochs_after(is_epoch, now);
        let ended = std::mem::replace(&mut self.height, next);
        assert!(
            ended.round <= self.height.round,
            "heights do not come again"
        );
        self.settling.has_decided = ended.seat.is_some();
        self.begin_height(cx, ledger);
    }

    /// Takes a seat in the open height, and starts its clocks.
    pub(super) fn begin_height(&mut self, cx: &mut NodeContext, ledger: &mut Ledger) {
        assert!(self.height.seat.is_none(), "a seat is taken once");
        let known = Known::new(&self.certified, ledger);
        self.height.receipts.refresh_eligible(known);
        let certified = self.certified.round().unwrap_or(Round(0));
        self.settling.steps.forget_before(certified);
        self.forget_needless_wants(cx, ledger);
        ledger.changes_seen += 1;
        self.sit(cx, ledger);
        assert!(
            self.height.seat.is_none() || (self.height.committee(&self.certified)).contains(&cx.me),
            "who has a seat is of the committee"
        );
        if self.certified.head().is_some() {
            let round_ms = u64::from(self.certified.manifest.plan.deadlines.round_ms);
            let at = self.height.began.after_ms(round_ms);
            let timer = Timer::RoundDeadline(self.certified.id, self.height.round);
            cx.emit(Effect::SetTimer { timer, at });
        }
    }

    /// Stops asking for what no longer matters: updates that were announced for a round, or put up in it,
    /// and are not part of what was certified (their authors may never have had them), and adapters that later
    /// ones replaced (where few are on duty, few have them).
    fn forget_needless_wants(&self, cx: &NodeContext, ledger: &mut Ledger) {
        let certified = &self.certified;
        let last = certified.chain().len().saturating_sub(1);
        let needed: BTreeSet<BlobHash> = (certified.chain().iter().enumerate())
            .flat_map(|(at, certificate)| {
                let value = &certificate.value;
                let matter = archives(cx, certified) || at == last;
                let updates = value.included.iter().filter(move |_| matter);
                // An evaluator may have to go back one step.
                let adapter = (at + 1 >= last).then_some(value.adapter.hash);
                updates.map(|i| i.update.hash).chain(adapter)
            })
            .chain(super::public::public_updates(cx, certified))
            .collect();
        ledger.replica.blobs.forget_needless(&needed);
    }
}
