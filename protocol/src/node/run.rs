//! One followed run: what is known of it and what to do next.
//!
//! Inputs only record facts; [`Run::advance`] then looks at all facts and does whatever has become
//! possible. A lost, late or repeated message therefore changes when something happens, never what.
//!
//! A run waits for its manifest, is declined, or is open. An open run is made of machines that change their own state
//! alone: what is certified, the height that is open, the own updates, and what settles certified values.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::NodeContext;
use super::bounds::Excess;
use super::certified::Certified;
use super::height::OpenHeight;
use super::known::{Known, Ledger, Standing, wake};
use super::membership::Membership;
use super::publish::{Publishing, SavedUpdates};
use super::refute::Refutation;
use super::settle::Settling;
use crate::anchor::ChainFacts;
use crate::certificate::Certificate;
use crate::entry::{Entry, ScoreSheet};
use crate::event::{Effect, Notice, Phase, Record, Timer, Trained};
use crate::id::{Blob, BlobHash, Round, RunId};
use crate::manifest::Manifest;
use crate::work::Outcome;

/// Everything that one peer knows and wants in one run.
pub struct Run {
    /// What peers have said in it.
    pub(super) ledger: Ledger,
    /// What the owner asked for.
    pub(super) membership: Membership,
    pub(super) stage: Stage,
    is_ticking: bool,
}

/// How far this peer is with a run.
pub(super) enum Stage {
    /// The manifest is not known yet.
    Waiting(SavedRun),
    /// The manifest is known, and asks for too much.
    Declined(Excess),
    /// The manifest is known and followed.
    Open(Box<OpenRun>),
}

/// What the store gave back of a run, until the manifest says what to make of it.
#[derive(Default)]
pub(super) struct SavedRun {
    /// Consensus records of undecided heights.
    pub(super) replay: BTreeMap<Round, Vec<Vec<u8>>>,
    /// The last certificate before the run was removed: what this peer's seat said up to its round is lost
    /// ([`Record::Forgotten`]).
    pub(super) forgotten: Option<Certificate>,
    pub(super) updates: SavedUpdates,
}

/// A run whose manifest is known.
pub(super) struct OpenRun {
    pub(super) certified: Certified,
    pub(super) height: OpenHeight,
    pub(super) settling: Settling,
    /// The own updates.
    pub(super) publishing: Publishing,
    /// Consensus records of an undecided height, given back by the store.
    pub(super) replay: BTreeMap<Round, Vec<Vec<u8>>>,
    /// The last certificate before the run was removed. Up to its round this peer takes no seat, unless its record is
    /// here.
    pub(super) forgotten: Option<Certificate>,
    /// Why this peer goes no further in the run.
    pub(super) refuted: Option<Refutation>,
    /// What the owner was last told that the run waits for.
    pub(super) phase: Option<Phase>,
}

impl OpenRun {
    fn new(id: RunId, manifest: Arc<Manifest>, saved: SavedRun, cx: &NodeContext) -> Self {
        Self {
            publishing: Publishing::new(&manifest, saved.updates),
            certified: Certified::new(id, manifest),
            height: OpenHeight::new(Round(0), cx.now.monotonic),
            settling: Settling::default(),
            replay: saved.replay,
            forgotten: saved.forgotten,
            refuted: None,
            phase: None,
        }
    }

    /// Whether the closing height is certified and its adapter at hand: nothing is left but to serve newcomers, and to put
    /// filings in order.
    pub(super) fn is_complete(&self) -> bool {
        self.certified.is_finished() && self.settling.has_adapter(&self.certified)
    }

    /// Appends to this peer's own log: signs, persists, then floods.
    pub(super) fn append(
        &mut self,
        cx: &mut NodeContext,
        ledger: &mut Ledger,
        entry: Entry,
        records: Vec<Record>,
    ) {
        self.append_all(cx, ledger, vec![entry], records);
    }

    /// As [`OpenRun::append`], several entries in one block.
    pub(super) fn append_all(
        &mut self,
        cx: &mut NodeContext,
        ledger: &mut Ledger,
        entries: Vec<Entry>,
        records: Vec<Record>,
    ) {
        let standing = self.standing();
        if ledger.append(cx, &standing, entries, records) {
            self.refresh_eligible(ledger);
        }
    }

    /// Whose logs belong to the run.
    pub(super) fn standing(&self) -> Standing<'_> {
        Standing {
            certified: Some(&self.certified),
            judging: self.height.judging(),
        }
    }

    /// Looks again which receipts may be included, after logs changed.
    pub(super) fn refresh_eligible(&mut self, ledger: &Ledger) {
        let known = Known::new(&self.certified, ledger);
        self.height.receipts.refresh_eligible(known);
    }

    /// Does everything that the facts at hand allow.
    fn advance(&mut self, cx: &mut NodeContext, ledger: &mut Ledger, membership: &mut Membership) {
        self.retry_pending_certificate(cx, ledger);
        assert_eq!(
            self.height.round,
            self.certified.next(),
            "the height after the head is open"
        );
        while self.refuted.is_none() && !self.settling.steps.is_computing() {
            let known = Known::new(&self.certified, ledger);
            self.height.draw_substitutes(cx, known);
            self.settle_adapter(cx, ledger);
            if self.refuted.is_some() || self.settling.steps.is_computing() {
                break;
            }
            self.take_part(cx, ledger, membership);
            self.close_receipts(cx, ledger);
            self.height.gather_updates(cx, &self.certified, ledger);
            self.height
                .note_filings(cx, Known::new(&self.certified, ledger));
            if !self.decide(cx, ledger) {
                break;
            }
        }
        if !self.settling.steps.is_computing() {
            self.show_phase(cx, ledger);
        }
    }

    /// Derives or fetches the adapter of the head.
    fn settle_adapter(&mut self, cx: &mut NodeContext, ledger: &mut Ledger) {
        let is_on_duty = self.height.is_on_duty(cx, &self.certified);
        let certified = &self.certified;
        let refuted = self.settling.settle(cx, certified, ledger, is_on_duty);
        if let (Some(why), Some(round)) = (refuted, certified.round()) {
            self.stop(cx, round, why);
        }
    }

    /// Asks for membership, trains, scores: what this peer owes the open height.
    fn take_part(
        &mut self,
        cx: &mut NodeContext,
        ledger: &mut Ledger,
        membership: &mut Membership,
    ) {
        assert!(self.refuted.is_none(), "a run that stopped asks nothing");
        let known = Known::new(&self.certified, ledger);
        if let Some(join) = membership.ask_to_join(cx, known) {
            self.append(cx, ledger, join, Vec::new());
        }
        let known = Known::new(&self.certified, ledger);
        if let Some(called) = self.height.call_for_openings(cx, known) {
            self.append(cx, ledger, Entry::Call(called), Vec::new());
            let round_ms = u64::from(self.certified.manifest.plan.deadlines.round_ms);
            let at = cx.now.monotonic.after_ms(round_ms);
            wake(cx, self.certified.id, self.height.round, at);
        }
        let known = Known::new(&self.certified, ledger);
        if let Some(opening) = membership.open_sketch(cx, known) {
            self.append(cx, ledger, opening, Vec::new());
        }
        let known = Known::new(&self.certified, ledger);
        if let Some(leave) = membership.ask_to_leave(cx, known) {
            self.append(cx, ledger, leave, Vec::new());
        }
        self.show_sheet(cx, ledger);
        if !self.settling.has_adapter(&self.certified) || self.certified.is_finished() {
            return;
        }
        self.train(cx, ledger);
        self.settling.score(cx, &self.certified, ledger);
    }

    /// Trains, where this peer was drawn or stands in.
    fn train(&mut self, cx: &mut NodeContext, ledger: &Ledger) {
        let Some((_, adapter)) = &self.settling.adapter else {
            return;
        };
        if self.height.trains(cx, &self.certified) {
            let known = Known::new(&self.certified, ledger);
            let is_finishing = self.height.is_finishing();
            self.publishing.train(cx, known, adapter, is_finishing);
        }
    }

    /// Closes the receipts of the open round when it is time, and reveals this peer's update behind them.
    fn close_receipts(&mut self, cx: &mut NodeContext, ledger: &Ledger) {
        let known = Known::new(&self.certified, ledger);
        let is_training = self.publishing.is_training();
        if self.height.close_receipts(cx, known, is_training)
            && let Some(hash) = self.publishing.unseal()
        {
            cx.emit(Effect::OfferBlob(hash));
        }
    }

    /// A blob arrived that was asked for.
    fn on_blob(&mut self, cx: &mut NodeContext, ledger: &mut Ledger, blob: &Blob) {
        let (hash, bytes) = (blob.hash(), blob.bytes());
        let known = Known::new(&self.certified, ledger);
        let receipts = known.index().receipts.get(&known.next());
        let author = (receipts.into_iter().flatten())
            .find(|(_, (_, receipt))| receipt.update.hash == hash)
            .map(|(peer, _)| *peer);
        if let Some(from) = author
            && let Err(why) = self.height.receipts.read(known, hash, bytes)
        {
            return cx.notify(Notice::Refused { from, why });
        }
        let blobs = &mut ledger.replica.blobs;
        if let Some(kept) = blobs.keep(hash, || bytes.clone()) {
            cx.emit(kept);
            cx.emit(Effect::OfferBlob(hash));
        }
        assert!(blobs.is_durable(&hash), "what is offered is kept");
        blobs.insert(hash, bytes.clone());
        let certified = &self.certified;
        (self.settling).keep_public(cx, certified, hash, bytes.clone());
        if let Some(peer) = author {
            let known = Known::new(certified, ledger);
            self.height.notify_arrival(cx, known, peer);
        }
        self.forget_settled_blobs(ledger);
    }

    /// Keeps in memory only what the open height or the missing adapter may need.
    fn forget_settled_blobs(&self, ledger: &mut Ledger) {
        if !self.settling.has_adapter(&self.certified) {
            return;
        }
        let receipts = ledger.index.receipts.get(&self.height.round);
        let announced = receipts.into_iter().flatten();
        let announced = announced.map(|(_, (_, receipt))| receipt.update.hash);
        let proposed = self.height.judging().iter();
        let proposed = proposed.flat_map(|value| value.included.iter().map(|i| i.update.hash));
        let needed: Vec<BlobHash> = announced.chain(proposed).collect();
        ledger.replica.blobs.retain(|hash| needed.contains(hash));
    }
}

impl Run {
    pub(super) fn new(id: RunId, cx: &NodeContext) -> Self {
        Self {
            ledger: Ledger::new(id, cx),
            membership: Membership::default(),
            stage: Stage::Waiting(SavedRun::default()),
            is_ticking: false,
        }
    }

    pub(super) fn id(&self) -> RunId {
        self.ledger.id
    }

    /// Whether a timer will have it compare heads.
    pub(super) fn is_ticking(&self) -> bool {
        self.is_ticking
    }

    /// The run, if its manifest is known and followed.
    pub(super) fn open(&self) -> Option<&OpenRun> {
        match &self.stage {
            Stage::Open(open) => Some(open),
            Stage::Waiting(_) | Stage::Declined(_) => None,
        }
    }

    /// Why this peer does not follow the run, if so.
    pub(super) fn declined(&self) -> Option<&Excess> {
        match &self.stage {
            Stage::Declined(excess) => Some(excess),
            Stage::Waiting(_) | Stage::Open(_) => None,
        }
    }

    /// Takes the manifest from the creator's first block, unless it asks for too much. Returns whether the run is open.
    pub(super) fn learn_manifest(&mut self, cx: &mut NodeContext) -> bool {
        let run = self.id();
        let Stage::Waiting(saved) = &mut self.stage else {
            return self.open().is_some();
        };
        let Some(manifest) = self.ledger.manifest() else {
            return false;
        };
        assert_eq!(manifest.run_id(), run, "a run is named by its manifest");
        if let Err(excess) = cx.config.resources.admit(&manifest) {
            self.stage = Stage::Declined(excess);
            cx.notify(Notice::Declined { run, excess });
            return false;
        }
        let saved = std::mem::take(saved);
        let mut open = Box::new(OpenRun::new(run, Arc::from(manifest), saved, cx));
        open.begin_height(cx, &mut self.ledger);
        self.stage = Stage::Open(open);
        cx.notify(Notice::Following(run));
        true
    }

    /// Turns the outcome of local training into an update. Returns whether one is on its way.
    pub(super) fn on_trained(&mut self, cx: &mut NodeContext, trained: Trained) -> bool {
        let Stage::Open(open) = &mut self.stage else {
            return false;
        };
        let known = Known::new(&open.certified, &self.ledger);
        open.publishing.on_trained(cx, known, trained)
    }

    /// What was asked for is computed. Returns whether anything may follow from it.
    pub(super) fn on_computed(&mut self, cx: &mut NodeContext, outcome: Outcome) -> bool {
        match &mut self.stage {
            Stage::Open(open) => open.on_computed(cx, &mut self.ledger, outcome),
            Stage::Waiting(_) | Stage::Declined(_) => false,
        }
    }

    /// The owner's client has read the run's chain.
    pub(super) fn on_chain(&mut self, facts: ChainFacts) {
        self.ledger.chain.take(facts);
    }

    /// A score sheet is ready to be signed.
    pub(super) fn on_scored(&mut self, cx: &mut NodeContext, sheet: ScoreSheet) {
        if let Stage::Open(open) = &mut self.stage {
            open.on_scored(cx, &mut self.ledger, sheet);
        }
    }

    /// A blob arrived. Returns whether this run had asked for it.
    pub(super) fn on_blob(&mut self, cx: &mut NodeContext, blob: &Blob) -> bool {
        let was_wanted = self.ledger.replica.blobs.arrived(blob);
        if let Stage::Open(open) = &mut self.stage
            && was_wanted
        {
            open.on_blob(cx, &mut self.ledger, blob);
        }
        was_wanted
    }

    /// Nobody who was asked for a blob had it.
    pub(super) fn on_blob_failed(&mut self, cx: &mut NodeContext, hash: &BlobHash) {
        if self.ledger.replica.blobs.failed(cx.now.monotonic, hash) {
            self.schedule_fetch(cx);
        }
    }

    /// Wakes at the next attempt that is due.
    fn schedule_fetch(&self, cx: &mut NodeContext) {
        if let Some(at) = self.ledger.replica.blobs.next_due() {
            let timer = Timer::Fetch(self.id());
            cx.emit(Effect::SetTimer { timer, at });
        }
    }

    /// Asks again for blobs that are due.
    fn fetch_again(&mut self, cx: &mut NodeContext) {
        let neighbours = cx.draw_neighbours(2);
        let blobs = &mut self.ledger.replica.blobs;
        cx.out.extend(blobs.again(cx.now.monotonic, &neighbours));
        self.schedule_fetch(cx);
    }

    pub(super) fn on_timer(&mut self, cx: &mut NodeContext, timer: Timer) {
        if self.declined().is_some() {
            return;
        }
        match timer {
            Timer::Tick(_) => self.tick(cx),
            Timer::Fetch(_) => self.fetch_again(cx),
            Timer::Consensus {
                round,
                attempt,
                step,
                ..
            } => {
                if let Stage::Open(open) = &mut self.stage
                    && open.refuted.is_none()
                {
                    open.on_consensus_timeout(cx, &mut self.ledger, (round, attempt), step);
                }
            }
            // Both only wake `advance`, which looks at the clock itself.
            Timer::RoundDeadline(..) | Timer::Grace(..) => {}
        }
    }

    /// Repeats what others may have missed and compares heads with a neighbour.
    fn tick(&mut self, cx: &mut NodeContext) {
        assert!(self.is_ticking, "nothing ticks that was not started");
        if let Some(open) = self.open()
            && open.refuted.is_none()
            && let Some(seat) = &open.height.seat
        {
            seat.rebroadcast(cx, self.id());
        }
        for peer in cx.draw_neighbours(1) {
            self.open_exchange(cx, peer);
            self.repeat_strangers(cx, peer);
        }
        self.fetch_again(cx);
        self.schedule_tick(cx);
    }

    fn schedule_tick(&mut self, cx: &mut NodeContext) {
        self.is_ticking = true;
        // A finished run only serves newcomers, once its adapter is here: it compares heads eight times
        // less often.
        let serves = self.open().is_some_and(OpenRun::is_complete);
        let factor = if serves { 8 } else { 1 };
        let at = cx.now.monotonic.after_ms(cx.config.tick_ms * factor);
        let timer = Timer::Tick(self.id());
        cx.emit(Effect::SetTimer { timer, at });
    }

    /// Does everything that the facts at hand allow. Called after every input.
    pub(super) fn advance(&mut self, cx: &mut NodeContext) {
        if self.declined().is_some() {
            return;
        }
        if !self.is_ticking {
            self.schedule_tick(cx);
        }
        if !self.learn_manifest(cx) {
            return;
        }
        self.ledger.chain.ripen(cx.now.monotonic);
        if let Stage::Open(open) = &mut self.stage {
            open.advance(cx, &mut self.ledger, &mut self.membership);
        }
        if cfg!(debug_assertions) {
            self.assert_invariants();
        }
    }
}
