//! When a round's receipts close, when its updates are revealed, and when its height may be proposed.
//!
//! A receipt commits its author to an update by the hash. The update stays sealed until the receipts are closed:
//! until everyone who is expected has committed, or enough have and the grace window passed. Whoever waits to see
//! the updates of others before it publishes its own therefore comes too late: honest proposers leave its receipt
//! out, and honest voters leave a proposal with it unanswered for the first attempts of the height. A copied
//! update is worth something only to who could have made it.
//!
//! Members close at slightly different times. Where the clock closed the receipts, updates are revealed a little
//! later than that ([`Deadlines::seal_ms`]), so that the first to reveal does not come before the last to close.
//!
//! [`Deadlines::seal_ms`]: crate::manifest::Deadlines::seal_ms

use std::collections::BTreeSet;

use super::NodeContext;
use super::collect::EligibleReceipt;
use super::height::OpenHeight;
use super::known::{Known, wake};
use crate::event::Effect;
use crate::id::PeerId;
use crate::limits;
use crate::round::{EntryRef, Included, RoundValue};
use crate::time::Instant;

/// The window in which more may commit, after enough have.
pub(super) struct Grace {
    /// When enough had committed.
    since: Instant,
    /// Whether half of it is over: what trains now must end soon.
    is_half_over: bool,
}

/// The receipts of the open round, closed.
pub(super) struct ClosedReceipts {
    /// Authors whose receipts had arrived: those that this peer would include.
    counted: BTreeSet<PeerId>,
    /// Their receipts, and those that arrived before updates were revealed here: none of them can rest on
    /// anybody's update. A second receipt of the same author is not among them.
    timely: BTreeSet<EntryRef>,
    /// Sheets and openings that were here when the receipts closed: nobody who proposes can have lacked them for long.
    sheets: Vec<EntryRef>,
    openings: Vec<EntryRef>,
    /// When updates are revealed and fetched here.
    reveal: Instant,
    /// Whether that was.
    is_revealed: bool,
}

impl ClosedReceipts {
    /// Asserts what holds of closed receipts.
    pub(super) fn assert_invariants(&self) {
        let timely: BTreeSet<PeerId> = self.timely.iter().map(|at| at.author).collect();
        assert!(
            timely.is_superset(&self.counted),
            "what is counted was in time"
        );
        assert!(!self.counted.is_empty(), "receipts close over something");
        let mut sheets = self.sheets.windows(2);
        assert!(
            sheets.all(|pair| pair[0].author < pair[1].author),
            "one sheet of an evaluator"
        );
    }
}

impl OpenHeight {
    /// Whether half of the grace window is over: what trains now must end soon.
    pub(super) fn is_finishing(&self) -> bool {
        self.grace.as_ref().is_some_and(|grace| grace.is_half_over)
    }

    /// Closes the receipts when it is time. Returns whether this peer's update may be revealed. `is_training` says
    /// whether this peer still trains for the round.
    pub(super) fn close_receipts(
        &mut self,
        cx: &mut NodeContext,
        known: Known<'_>,
        is_training: bool,
    ) -> bool {
        let certified = known.certified;
        let owes = self.trains(cx, certified) || self.needs_updates(cx, certified);
        if known.head().is_none() || !owes || !certified.is_training_round(self.round) {
            return false;
        }
        if self.closed.is_none() {
            self.closed = self.try_close(cx, known, is_training);
        }
        let Some(closed) = &mut self.closed else {
            return false;
        };
        if cx.now.monotonic < closed.reveal {
            let receipts = self.receipts.eligible().iter().map(|(_, at, _)| *at);
            closed.timely.extend(receipts);
            return false;
        }
        if !std::mem::replace(&mut closed.is_revealed, true) {
            let grace_ms = u64::from(known.manifest().plan.deadlines.grace_ms);
            let over = closed.reveal.after_ms(grace_ms);
            wake(cx, known.id(), self.round, over);
        }
        true
    }

    fn try_close(
        &mut self,
        cx: &mut NodeContext,
        known: Known<'_>,
        is_training: bool,
    ) -> Option<ClosedReceipts> {
        assert!(self.closed.is_none(), "receipts close once");
        let (manifest, head) = (known.manifest(), known.head()?);
        let now = cx.now.monotonic;
        let expected = head.participants.len();
        let eligible = self.eligible(known, now);
        let counted: BTreeSet<PeerId> = eligible.map(|(peer, _, _)| *peer).collect();
        if counted.len() < manifest.plan.min_contributions as usize {
            return None;
        }
        let all = counted.len() >= expected;
        let grace_ms = u64::from(manifest.plan.deadlines.grace_ms);
        let deadline = (self.began).after_ms(u64::from(manifest.plan.deadlines.round_ms));
        if !all && self.grace.is_none() {
            self.grace = Some(Grace {
                since: now,
                is_half_over: false,
            });
            wake(cx, known.id(), self.round, now.after_ms(grace_ms / 2));
        }
        let since = self.grace.as_ref().map(|grace| now.since_ms(grace.since));
        if since.is_some_and(|since| since >= grace_ms / 2) {
            self.hurry(cx, known, is_training);
        }
        let waited = since.is_some_and(|since| since >= grace_ms);
        if !all && !waited && now < deadline {
            return None;
        }
        // Who is expected and has committed cannot commit again: with all of them there is nothing to hold.
        let seal_ms = if all {
            0
        } else {
            manifest.plan.deadlines.seal_ms()
        };
        let reveal = now.after_ms(seal_ms);
        if seal_ms > 0 {
            wake(cx, known.id(), self.round, reveal);
        }
        assert!(reveal >= now, "updates are revealed behind closed receipts");
        let timely = self.eligible(known, now).map(|(_, at, _)| *at).collect();
        Some(ClosedReceipts {
            timely,
            counted,
            sheets: known.sheets().0,
            openings: known.all_openings(),
            reveal,
            is_revealed: false,
        })
    }

    /// Half of the grace window is over: whoever still trains ends with what it has. Fewer steps that count,
    /// by their tokens, are worth more than all of them too late.
    fn hurry(&mut self, cx: &mut NodeContext, known: Known<'_>, is_training: bool) {
        let Some(grace) = &mut self.grace else { return };
        if std::mem::replace(&mut grace.is_half_over, true) {
            return;
        }
        let grace_ms = u64::from(known.manifest().plan.deadlines.grace_ms);
        assert!(
            cx.now.monotonic.since_ms(grace.since) >= grace_ms / 2,
            "nobody is hurried before half of the window"
        );
        let over = grace.since.after_ms(grace_ms);
        wake(cx, known.id(), self.round, over);
        if is_training {
            cx.emit(Effect::FinishTrain(known.id()));
        }
        // What is missing may have been said and lost on the way here.
        for peer in cx.draw_neighbours(1) {
            known.open_exchange(cx, peer);
        }
    }

    /// Receipts that can count in the open round: those of the drawn, and once their deadline passed, of
    /// whoever stands in for them.
    fn eligible<'a>(
        &'a self,
        known: Known<'a>,
        now: Instant,
    ) -> impl Iterator<Item = &'a EligibleReceipt> {
        let late = self.deadlines_passed(known, now) > 0;
        let eligible = self.receipts.eligible().iter();
        eligible.filter(move |(peer, _, _)| late || known.certified.is_participant(peer))
    }

    /// Receipts that this peer would include if their updates were at hand. Where too few updates came within
    /// the grace window, whatever arrived counts: what was announced and withheld must not stop a run.
    pub(super) fn counting<'a>(
        &'a self,
        known: Known<'a>,
        now: Instant,
    ) -> impl Iterator<Item = &'a EligibleReceipt> {
        let closed = self.closed.as_ref().filter(|closed| now >= closed.reveal);
        let reopened = self.is_reopened(known, now);
        (self.eligible(known, now)).filter(move |(peer, _, _)| {
            closed.is_some_and(|closed| reopened || closed.counted.contains(peer))
        })
    }

    fn is_reopened(&self, known: Known<'_>, now: Instant) -> bool {
        self.waited_for_updates(known, now)
            && !has_minimum(known, self.counted_updates(known).count())
    }

    /// Counted receipts whose updates are at hand.
    fn counted_updates<'a>(
        &'a self,
        known: Known<'a>,
    ) -> impl Iterator<Item = &'a EligibleReceipt> {
        let counted = self.closed.as_ref().map(|closed| &closed.counted);
        let eligible = self.receipts.eligible().iter();
        eligible.filter(move |(peer, _, receipt)| {
            counted.is_some_and(|counted| counted.contains(peer))
                && known.has_blob(&receipt.update.hash)
        })
    }

    /// Whether updates had their own grace window, after they were revealed.
    fn waited_for_updates(&self, known: Known<'_>, now: Instant) -> bool {
        let grace_ms = u64::from(known.manifest().plan.deadlines.grace_ms);
        let closed = self.closed.as_ref();
        closed.is_some_and(|closed| now >= closed.reveal.after_ms(grace_ms))
    }

    /// Whether the height may be proposed: all counted updates and all sheets are here, or the minimum
    /// is and the wait for the rest is over. The closing height waits for sheets until its deadline only, and an epoch for
    /// something to put in order.
    pub(super) fn is_closed(&self, known: Known<'_>, now: Instant) -> bool {
        let manifest = known.manifest();
        let round_ms = u64::from(manifest.plan.deadlines.round_ms);
        if known.head().is_none() {
            let decides = self.seat.is_some() && !self.awaits_openings(known, now, round_ms);
            return decides && known.is_ready_for_genesis(manifest.membership.min_members as usize);
        }
        if self.round > manifest.closing_round() {
            let wait_ms = self.epoch_wait_ms();
            let over = |since: Instant| now >= since.after_ms(wait_ms);
            return self.filed_since.is_some_and(over);
        }
        let (sheets, expected) = known.sheets();
        let scored = sheets.len() >= expected;
        if !known.certified.is_training_round(self.round) {
            return scored || now >= self.began.after_ms(round_ms);
        }
        let Some(closed) = &self.closed else {
            return false;
        };
        if self.waited_for_updates(known, now) {
            let here = (self.counting(known, now))
                .filter(|(_, _, receipt)| known.has_blob(&receipt.update.hash));
            return has_minimum(known, here.count());
        }
        let updates = self.counted_updates(known).count();
        scored
            && now >= closed.reveal
            && updates == closed.counted.len()
            && has_minimum(known, updates)
    }

    /// How long an epoch waits for what was filed with its first filing. Twice as long every eight epochs that came without
    /// a rest: a run settles within a few, and whoever goes on filing has one a minute.
    fn epoch_wait_ms(&self) -> u64 {
        limits::EPOCH_WAIT_MS << (self.epochs / 8).min(10)
    }

    /// Notes that something is here for an epoch to put in order. What else was said with it has a moment to arrive.
    pub(super) fn note_filings(&mut self, cx: &mut NodeContext, known: Known<'_>) {
        let is_epoch = self.round > known.manifest().closing_round();
        let waits = || known.waiting_filings().next().is_some() || known.awaits_anchor();
        if is_epoch && self.filed_since.is_none() && waits() {
            let now = cx.now.monotonic;
            self.filed_since = Some(now);
            let over = now.after_ms(self.epoch_wait_ms());
            wake(cx, known.id(), self.round, over);
        }
    }

    /// Whether a proposed value includes an update that was announced after updates had been revealed, or leaves
    /// out what was here in time. Not for ever: others may have closed at another moment, and what is locked must be
    /// able to win.
    pub(super) fn is_unfair(&self, known: Known<'_>, value: &RoundValue, attempt: u32) -> bool {
        let Some(closed) = &self.closed else {
            return false;
        };
        if attempt >= limits::TIMELY_ATTEMPTS {
            return false;
        }
        let late = |i: &Included| !closed.timely.contains(&i.receipt);
        let has = |at: &EntryRef| value.included.iter().any(|i| i.receipt == *at);
        let missed = |at: &EntryRef| value.missed.iter().any(|m| m.receipt == *at);
        let unnamed = |(peer, at, _): &EligibleReceipt| {
            let drawn = known.certified.is_participant(peer);
            drawn && closed.counted.contains(peer) && !has(at) && !missed(at)
        };
        let opens = |at: &EntryRef| value.openings.iter().any(|o| o.entry == *at);
        value.included.iter().any(late)
            || !closed.openings.iter().all(opens)
            || self.receipts.eligible().iter().any(unnamed)
            || self.timely(known).any(|(_, at, _)| !has(at))
            || closed.sheets.iter().any(|at| !value.sheets.contains(at))
    }

    /// Receipts of the drawn that had arrived when receipts closed, and whose updates are here: a fair value leaves none
    /// of them out.
    pub(super) fn timely<'a>(
        &'a self,
        known: Known<'a>,
    ) -> impl Iterator<Item = &'a EligibleReceipt> {
        let counted = self.counted_updates(known);
        counted.filter(move |(peer, _, _)| known.certified.is_participant(peer))
    }
}

fn has_minimum(known: Known<'_>, updates: usize) -> bool {
    updates >= known.manifest().plan.min_contributions as usize
}
