//! One followed run: what is known of it and what to do next.
//!
//! Inputs only record facts; [`Run::advance`] then looks at all facts and does whatever has become
//! possible. A lost, late or repeated message therefore changes when something happens, never what.
//!
//! A run waits for its manifest, is declined, or is open. An open run is made of machines that change their own state
//! alone: what is certified, the height that is open, the own updates, and what settles certified values.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Desk;
use super::bounds::Excess;
use super::alarm::Refuted;
use super::certified::Certified;
use super::height::OpenHeight;
use super::known::{Known, Ledger, Standing, wake};
use super::membership::Membership;
use super::publish::{Publishing, SavedUpdates};
use super::settle::Settling;
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
    pub(super) updates: SavedUpdates,
}

/// A run whose manifest is known.
pub(super) struct OpenRun {
    pub(super) certified: Certified,
    pub(super) height: OpenHeight,
    pub(super) settling: Settling,
    /// The own updates.
    pub(super) own: Publishing,
    /// Consensus records of an undecided height, given back by the store.
    pub(super) replay: BTreeMap<Round, Vec<Vec<u8>>>,
    /// Why this peer goes no further in the run.
    pub(super) refuted: Option<Refuted>,
    /// What the owner was last told that the run waits for.
    pub(super) phase: Option<Phase>,
}

impl OpenRun {
    fn new(id: RunId, manifest: Arc<Manifest>, saved: SavedRun, desk: &Desk) -> Self {
        Self {
            own: Publishing::new(&manifest, saved.updates),
            certified: Certified::new(id, manifest),
            height: OpenHeight::new(Round(0), desk.now.monotonic),
            settling: Settling::default(),
            replay: saved.replay,
            refuted: None,
            phase: None,
        }
    }

    /// Whether the closing height is certified and its adapter at hand: nothing is left but to serve newcomers.
    pub(super) fn is_complete(&self) -> bool {
        self.certified.is_finished() && self.settling.has_adapter(&self.certified)
    }

    /// Appends to this peer's own log: signs, persists, then floods.
    pub(super) fn append(
        &mut self,
        desk: &mut Desk,
        ledger: &mut Ledger,
        entry: Entry,
        records: Vec<Record>,
    ) {
        let standing = self.standing();
        if ledger.append(desk, &standing, entry, records) {
            self.refit(ledger);
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
    pub(super) fn refit(&mut self, ledger: &Ledger) {
        let known = Known::new(&self.certified, ledger);
        self.height.receipts.refit(known);
    }

    /// Does everything that the facts at hand allow.
    fn advance(&mut self, desk: &mut Desk, ledger: &mut Ledger, membership: &mut Membership) {
        self.retry_awaited(desk, ledger);
        while self.refuted.is_none() && !self.settling.steps.is_computing() {
            let known = Known::new(&self.certified, ledger);
            self.height.draw_stand_ins(desk, known);
            self.settle_adapter(desk, ledger);
            if self.refuted.is_some() || self.settling.steps.is_computing() {
                break;
            }
            self.take_part(desk, ledger, membership);
            self.close_receipts(desk, ledger);
            self.height.gather_updates(desk, &self.certified, ledger);
            if !self.decide(desk, ledger) {
                break;
            }
        }
        if !self.settling.steps.is_computing() {
            self.show_phase(desk, ledger);
        }
    }

    /// Derives or fetches the adapter of the head.
    fn settle_adapter(&mut self, desk: &mut Desk, ledger: &mut Ledger) {
        let is_on_duty = self.height.is_on_duty(desk, &self.certified);
        let certified = &self.certified;
        let refuted = self.settling.settle(desk, certified, ledger, is_on_duty);
        if let (Some(why), Some(round)) = (refuted, certified.round()) {
            self.stop(desk, round, why);
        }
    }

    /// Asks for membership, trains, scores: what this peer owes the open height.
    fn take_part(&mut self, desk: &mut Desk, ledger: &mut Ledger, membership: &mut Membership) {
        let known = Known::new(&self.certified, ledger);
        if let Some(join) = membership.ask_to_join(desk, known) {
            self.append(desk, ledger, join, Vec::new());
        }
        let known = Known::new(&self.certified, ledger);
        if let Some(called) = self.height.call_for_openings(desk, known) {
            self.append(desk, ledger, Entry::Call(called), Vec::new());
            let round_ms = u64::from(self.certified.manifest.deadlines.round_ms);
            let at = desk.now.monotonic.after_ms(round_ms);
            wake(desk, self.certified.id, self.height.round, at);
        }
        let known = Known::new(&self.certified, ledger);
        if let Some(opening) = membership.open_sketch(desk, known) {
            self.append(desk, ledger, opening, Vec::new());
        }
        let known = Known::new(&self.certified, ledger);
        if let Some(leave) = membership.ask_to_leave(desk, known) {
            self.append(desk, ledger, leave, Vec::new());
        }
        if !self.settling.has_adapter(&self.certified) || self.certified.is_finished() {
            return;
        }
        self.train(desk, ledger);
        self.settling.score(desk, &self.certified, ledger);
    }

    /// Trains, where this peer was drawn or stands in.
    fn train(&mut self, desk: &mut Desk, ledger: &Ledger) {
        let Some((_, adapter)) = &self.settling.adapter else {
            return;
        };
        if self.height.trains(desk, &self.certified) {
            let known = Known::new(&self.certified, ledger);
            let is_hurried = self.height.is_hurried();
            self.own.train(desk, known, adapter, is_hurried);
        }
    }

    /// Closes the receipts of the open round when it is time, and reveals this peer's update behind them.
    fn close_receipts(&mut self, desk: &mut Desk, ledger: &Ledger) {
        let known = Known::new(&self.certified, ledger);
        let is_training = self.own.is_training();
        if self.height.close_receipts(desk, known, is_training)
            && let Some(hash) = self.own.unseal()
        {
            desk.emit(Effect::OfferBlob(hash));
        }
    }

    /// A blob arrived that was asked for.
    fn on_blob(&mut self, desk: &mut Desk, ledger: &mut Ledger, blob: &Blob) {
        let (hash, bytes) = (blob.hash(), blob.bytes());
        let known = Known::new(&self.certified, ledger);
        let receipts = known.index().receipts.get(&known.next());
        let author = (receipts.into_iter().flatten())
            .find(|(_, (_, receipt))| receipt.update.hash == hash)
            .map(|(peer, _)| *peer);
        if let Some(from) = author
            && let Err(why) = self.height.receipts.read(known, hash, bytes)
        {
            return desk.notify(Notice::Refused { from, why });
        }
        let blobs = &mut ledger.replica.blobs;
        if let Some(kept) = blobs.keep(hash, || bytes.clone()) {
            desk.emit(kept);
            desk.emit(Effect::OfferBlob(hash));
        }
        blobs.insert(hash, bytes.clone());
        let certified = &self.certified;
        (self.settling).keep_public(desk, certified, hash, bytes.clone());
        if let Some(peer) = author {
            let known = Known::new(certified, ledger);
            self.height.notify_arrival(desk, known, peer);
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
    pub(super) fn new(id: RunId, desk: &Desk) -> Self {
        Self {
            ledger: Ledger::new(id, desk),
            membership: Membership::default(),
            stage: Stage::Waiting(SavedRun::default()),
            is_ticking: false,
        }
    }

    pub(super) fn id(&self) -> RunId {
        self.ledger.id
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
    pub(super) fn learn_manifest(&mut self, desk: &mut Desk) -> bool {
        let run = self.id();
        let Stage::Waiting(saved) = &mut self.stage else {
            return self.open().is_some();
        };
        let Some(manifest) = self.ledger.manifest() else {
            return false;
        };
        if let Err(excess) = desk.config.resources.admit(&manifest) {
            self.stage = Stage::Declined(excess);
            desk.notify(Notice::Declined { run, excess });
            return false;
        }
        let saved = std::mem::take(saved);
        let mut open = Box::new(OpenRun::new(run, Arc::from(manifest), saved, desk));
        open.begin_height(desk, &mut self.ledger);
        self.stage = Stage::Open(open);
        desk.notify(Notice::Following(run));
        true
    }

    /// Turns the outcome of local training into an update. Returns whether one is on its way.
    pub(super) fn on_trained(&mut self, desk: &mut Desk, trained: Trained) -> bool {
        let Stage::Open(open) = &mut self.stage else {
            return false;
        };
        let known = Known::new(&open.certified, &self.ledger);
        open.own.on_trained(desk, known, trained)
    }

    /// What was asked for is computed. Returns whether anything may follow from it.
    pub(super) fn on_computed(&mut self, desk: &mut Desk, outcome: Outcome) -> bool {
        match &mut self.stage {
            Stage::Open(open) => open.on_computed(desk, &mut self.ledger, outcome),
            Stage::Waiting(_) | Stage::Declined(_) => false,
        }
    }

    /// A score sheet is ready to be signed.
    pub(super) fn on_scored(&mut self, desk: &mut Desk, sheet: ScoreSheet) {
        if let Stage::Open(open) = &mut self.stage {
            open.on_scored(desk, &mut self.ledger, sheet);
        }
    }

    /// A blob arrived. Returns whether this run had asked for it.
    pub(super) fn on_blob(&mut self, desk: &mut Desk, blob: &Blob) -> bool {
        let was_wanted = self.ledger.replica.blobs.arrived(blob);
        if let Stage::Open(open) = &mut self.stage
            && was_wanted
        {
            open.on_blob(desk, &mut self.ledger, blob);
        }
        was_wanted
    }

    /// Nobody who was asked for a blob had it.
    pub(super) fn on_blob_failed(&mut self, desk: &mut Desk, hash: &BlobHash) {
        if self.ledger.replica.blobs.failed(desk.now.monotonic, hash) {
            self.schedule_fetch(desk);
        }
    }

    /// Wakes at the next attempt that is due.
    fn schedule_fetch(&self, desk: &mut Desk) {
        if let Some(at) = self.ledger.replica.blobs.next_due() {
            let timer = Timer::Fetch(self.id());
            desk.emit(Effect::SetTimer { timer, at });
        }
    }

    /// Asks again for blobs that are due.
    fn fetch_again(&mut self, desk: &mut Desk) {
        let neighbours = desk.draw_neighbours(2);
        let blobs = &mut self.ledger.replica.blobs;
        desk.out
            .extend(blobs.again(desk.now.monotonic, &neighbours));
        self.schedule_fetch(desk);
    }

    pub(super) fn on_timer(&mut self, desk: &mut Desk, timer: Timer) {
        if self.declined().is_some() {
            return;
        }
        match timer {
            Timer::Tick(_) => self.tick(desk),
            Timer::Fetch(_) => self.fetch_again(desk),
            Timer::Consensus {
                round,
                attempt,
                step,
                ..
            } => {
                if let Stage::Open(open) = &mut self.stage
                    && open.refuted.is_none()
                {
                    open.on_consensus_timeout(desk, &mut self.ledger, (round, attempt), step);
                }
            }
            // Both only wake `advance`, which looks at the clock itself.
            Timer::RoundDeadline(..) | Timer::Grace(..) => {}
        }
    }

    /// Repeats what others may have missed and compares heads with a neighbour.
    fn tick(&mut self, desk: &mut Desk) {
        if let Some(open) = self.open()
            && open.refuted.is_none()
            && let Some(seat) = &open.height.seat
        {
            seat.rebroadcast(desk, self.id());
        }
        for peer in desk.draw_neighbours(1) {
            self.open_exchange(desk, peer);
            self.repeat_strangers(desk, peer);
        }
        self.fetch_again(desk);
        self.schedule_tick(desk);
    }

    fn schedule_tick(&mut self, desk: &mut Desk) {
        self.is_ticking = true;
        // A finished run only serves newcomers, once its adapter is here: it compares heads eight times
        // less often.
        let serves = self.open().is_some_and(OpenRun::is_complete);
        let factor = if serves { 8 } else { 1 };
        let at = desk.now.monotonic.after_ms(desk.config.tick_ms * factor);
        let timer = Timer::Tick(self.id());
        desk.emit(Effect::SetTimer { timer, at });
    }

    /// Does everything that the facts at hand allow. Called after every input.
    pub(super) fn advance(&mut self, desk: &mut Desk) {
        if self.declined().is_some() {
            return;
        }
        if !self.is_ticking {
            self.schedule_tick(desk);
        }
        if !self.learn_manifest(desk) {
            return;
        }
        if let Stage::Open(open) = &mut self.stage {
            open.advance(desk, &mut self.ledger, &mut self.membership);
        }
        if cfg!(debug_assertions) {
            self.assert_invariants();
        }
    }
}
