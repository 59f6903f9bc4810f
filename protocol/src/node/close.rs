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

use std::collections::BTreeSet;

use super::Desk;
use super::collect::Fitting;
use super::run::Run;
use crate::event::{Effect, Timer};
use crate::id::PeerId;
use crate::limits;
use crate::round::{EntryRef, Included, RoundValue};
use crate::time::Instant;

/// The receipts of the open round, closed.
pub(super) struct Closed {
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
    revealed: bool,
}

impl Run {
    /// Closes the receipts of the open round when it is time, and reveals this peer's update behind them.
    pub(super) fn close_receipts(&mut self, desk: &mut Desk) {
        let owes = self.trains(desk) || self.needs_updates(desk);
        if self.head.is_none() || !owes || !self.is_training_round(self.next()) {
            return;
        }
        if self.closed.is_none() {
            self.closed = self.try_close(desk);
        }
        let (Some(manifest), Some(closed)) = (&self.manifest, &mut self.closed) else {
            return;
        };
        if desk.now.monotonic < closed.reveal {
            let receipts = self.fitting.iter().map(|(_, at, _)| *at);
            closed.timely.extend(receipts);
            return;
        }
        if !std::mem::replace(&mut closed.revealed, true) {
            let grace_ms = u64::from(manifest.plan.deadlines.grace_ms);
            let over = closed.reveal.after_ms(grace_ms);
            self.wake(desk, over);
        }
        if let Some(hash) = self.own.sealed.take() {
            desk.emit(Effect::OfferBlob(hash));
        }
    }

    fn try_close(&mut self, desk: &mut Desk) -> Option<Closed> {
        let (manifest, head) = (self.manifest.clone()?, self.head.as_ref()?);
        let now = desk.now.monotonic;
        let expected = head.participants.len();
        let counted: BTreeSet<PeerId> = self.eligible(now).map(|(peer, _, _)| *peer).collect();
        if counted.len() < manifest.plan.min_contributions as usize {
            return None;
        }
        let all = counted.len() >= expected;
        let grace_ms = u64::from(manifest.plan.deadlines.grace_ms);
        let deadline = (self.began).after_ms(u64::from(manifest.plan.deadlines.round_ms));
        if !all && self.grace.is_none() {
            self.grace = Some(now);
            self.wake(desk, now.after_ms(grace_ms / 2));
        }
        let since = self.grace.map_or(0, |from| now.since_ms(from));
        if self.grace.is_some() && since >= grace_ms / 2 {
            self.hurry(desk, grace_ms);
        }
        let waited = self.grace.is_some() && since >= grace_ms;
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
            self.wake(desk, reveal);
        }
        let timely = self.eligible(now).map(|(_, at, _)| *at).collect();
        Some(Closed {
            timely,
            counted,
            sheets: self.sheets().0,
            openings: self.all_openings(),
            reveal,
            revealed: false,
        })
    }

    /// Half of the grace window is over: whoever still trains ends with what it has. Fewer steps that count,
    /// by their tokens, are worth more than all of them too late.
    fn hurry(&mut self, desk: &mut Desk, grace_ms: u64) {
        if std::mem::replace(&mut self.hurried, true) {
            return;
        }
        if let Some(from) = self.grace {
            self.wake(desk, from.after_ms(grace_ms));
        }
        if self.own.training.is_some() {
            desk.emit(Effect::FinishTrain(self.id));
        }
        // What is missing may have been said and lost on the way here.
        for peer in desk.draw_neighbours(1) {
            self.open_exchange(desk, peer);
        }
    }

    /// Makes [`Run::advance`] look at the clock again.
    pub(super) fn wake(&self, desk: &mut Desk, at: Instant) {
        let timer = Timer::Grace(self.id, self.next());
        desk.emit(Effect::SetTimer { timer, at });
    }

    /// Receipts that can count in the open round: those of the drawn, and once their deadline passed, of
    /// whoever stands in for them.
    fn eligible(&self, now: Instant) -> impl Iterator<Item = &Fitting> {
        let late = self.deadlines_passed(now) > 0;
        let drawn = |peer: &PeerId| {
            self.head
                .as_ref()
                .is_some_and(|head| head.is_participant(peer))
        };
        (self.fitting.iter()).filter(move |(peer, _, _)| late || drawn(peer))
    }

    /// Receipts that this peer would include if their updates were at hand. Where too few updates came within
    /// the grace window, whatever arrived counts: what was announced and withheld must not stop a run.
    pub(super) fn counting(&self, now: Instant) -> impl Iterator<Item = &Fitting> {
        let closed = self.closed.as_ref().filter(|closed| now >= closed.reveal);
        let reopened = self.is_reopened(now);
        (self.eligible(now)).filter(move |(peer, _, _)| {
            closed.is_some_and(|closed| reopened || closed.counted.contains(peer))
        })
    }

    fn is_reopened(&self, now: Instant) -> bool {
        self.waited_for_updates(now) && !self.has_minimum(self.counted_updates())
    }

    fn has_minimum(&self, updates: usize) -> bool {
        let least = self
            .manifest
            .as_ref()
            .map(|m| m.plan.min_contributions as usize);
        least.is_some_and(|least| updates >= least)
    }

    /// Counted receipts whose updates are at hand.
    fn counted_updates(&self) -> usize {
        let counted = self.closed.as_ref().map(|closed| &closed.counted);
        (self.fitting.iter())
            .filter(|(peer, _, receipt)| {
                counted.is_some_and(|counted| counted.contains(peer))
                    && self.blobs.contains_key(&receipt.update.hash)
            })
            .count()
    }

    /// Whether updates had their own grace window, after they were revealed.
    fn waited_for_updates(&self, now: Instant) -> bool {
        let (Some(closed), Some(manifest)) = (&self.closed, &self.manifest) else {
            return false;
        };
        now >= (closed.reveal).after_ms(u64::from(manifest.plan.deadlines.grace_ms))
    }

    /// Whether the open height may be proposed: all counted updates and all sheets are here, or the minimum
    /// is and the wait for the rest is over. The closing height waits for sheets until its deadline only.
    pub(super) fn is_closed(&self, now: Instant) -> bool {
        let Some(manifest) = &self.manifest else {
            return false;
        };
        if self.head.is_none() {
            let patience_ms = u64::from(manifest.plan.deadlines.round_ms);
            let decides = self.height.is_some() && !self.awaits_openings(now, patience_ms);
            return decides && self.is_ready_for_genesis(manifest.membership.min_members as usize);
        }
        let (sheets, expected) = self.sheets();
        let scored = sheets.len() >= expected;
        if !self.is_training_round(self.next()) {
            let deadline = (self.began).after_ms(u64::from(manifest.plan.deadlines.round_ms));
            return scored || now >= deadline;
        }
        let Some(closed) = &self.closed else {
            return false;
        };
        if self.waited_for_updates(now) {
            let here = (self.counting(now))
                .filter(|(_, _, receipt)| self.blobs.contains_key(&receipt.update.hash));
            return self.has_minimum(here.count());
        }
        let updates = self.counted_updates();
        scored
            && now >= closed.reveal
            && updates == closed.counted.len()
            && self.has_minimum(updates)
    }

    /// Whether a proposed value includes an update that was announced after updates had been revealed, or leaves
    /// out what was here in time. Not for ever: others may have closed at another moment, and what is locked must be
    /// able to win.
    pub(super) fn is_unfair(&self, value: &RoundValue, attempt: u32) -> bool {
        let Some(closed) = &self.closed else {
            return false;
        };
        if attempt >= limits::TIMELY_ATTEMPTS {
            return false;
        }
        let late = |i: &Included| !closed.timely.contains(&i.receipt);
        let has = |at: &EntryRef| value.included.iter().any(|i| i.receipt == *at);
        let missed = |at: &EntryRef| value.missed.iter().any(|m| m.receipt == *at);
        let unnamed = |(peer, at, _): &Fitting| {
            let drawn = self.head.as_ref().is_some_and(|h| h.is_participant(peer));
            drawn && closed.counted.contains(peer) && !has(at) && !missed(at)
        };
        let opens = |at: &EntryRef| value.openings.iter().any(|o| o.entry == *at);
        value.included.iter().any(late)
            || !closed.openings.iter().all(opens)
            || self.fitting.iter().any(unnamed)
            || self.timely().any(|(_, at, _)| !has(at))
            || closed.sheets.iter().any(|at| !value.sheets.contains(at))
    }

    /// Receipts of the drawn that had arrived when receipts closed, and whose updates are here: a fair value leaves none
    /// of them out.
    pub(super) fn timely(&self) -> impl Iterator<Item = &Fitting> {
        let counted = self.closed.as_ref().map(|closed| &closed.counted);
        let is_counted = move |peer| counted.is_some_and(|counted| counted.contains(peer));
        (self.fitting.iter()).filter(move |(peer, _, receipt)| {
            let drawn = self.head.as_ref().is_some_and(|h| h.is_participant(peer));
            drawn && is_counted(peer) && self.blobs.contains_key(&receipt.update.hash)
        })
    }
}
