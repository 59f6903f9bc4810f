//! Certified values that this peer's own evidence speaks against: they are not followed, and its owner hears of it.
//!
//! A certificate proves what a quorum signed, not that it was true. A peer that is at the head, with the adapter of
//! the last certified state, asks for the entries that the next value names (receipts, joins, leaves, sheets: honest
//! voters hold them all) and compares the value with them before it moves, as a voter does. Where they refute it, or
//! the updates at hand do not lead to the certified adapter, it keeps the certificate as evidence and goes no
//! further in this run. A peer that catches up has nothing to compare with and follows certificates alone.

use super::Desk;
use super::run::Run;
use crate::certificate::Certificate;
use crate::event::{Effect, Notice, Record};
use crate::id::{BlockId, PeerId, Round};
use crate::manifest::Manifest;
use crate::reject::Rejection;
use crate::round::RoundValue;
use crate::state;
use crate::time::Instant;

/// A certified value that does not follow from what this peer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refuted {
    /// Its round.
    pub round: Round,
    /// What does not follow.
    pub why: Rejection,
}

/// A certificate whose value names entries that are not here yet.
pub(super) struct Awaited {
    certificate: Certificate,
    since: Instant,
    /// Whether the owner heard that nobody gives them.
    is_told: bool,
}

impl Awaited {
    /// The height that it decides.
    pub(super) fn round(&self) -> Round {
        self.certificate.round()
    }
}

impl Run {
    /// Whether this peer is, or was before a restart, at the head: it holds what the next value is to be compared with.
    fn is_at_head(&self) -> bool {
        let head = self.head.as_ref();
        let durable = head.is_some_and(|head| self.archived.contains(&head.adapter.hash));
        self.has_adapter() || durable
    }

    /// Whether the head may move by a verified certificate now. If not, it is kept until the entries that it names
    /// are here, or it is refuted.
    pub(super) fn may_follow(
        &mut self,
        desk: &mut Desk,
        manifest: &Manifest,
        certificate: &Certificate,
    ) -> bool {
        if self.refuted.is_some() {
            return false;
        }
        if !self.is_at_head() {
            return true;
        }
        let value = &certificate.value;
        self.rely_on_forked(value);
        let lacking = self.lacking(value);
        if !lacking.is_empty() {
            self.ask_for_blocks(desk, lacking);
            let same = |awaited: &Awaited| awaited.certificate.value == certificate.value;
            if !self.awaited.as_ref().is_some_and(same) {
                self.awaited = Some(Awaited {
                    certificate: certificate.clone(),
                    since: desk.now.monotonic,
                    is_told: false,
                });
            }
            return false;
        }
        self.awaited = None;
        let Some(why) = self.refutation(manifest, value) else {
            return true;
        };
        desk.persist(vec![Record::Certificate {
            run: self.id,
            round: value.round,
            bytes: certificate.encode(),
        }]);
        self.stop(desk, value.round, why);
        false
    }

    /// Blocks with entries that a value names and that do not count here.
    fn lacking(&self, value: &RoundValue) -> Vec<(PeerId, BlockId)> {
        (state::relied(value))
            .filter(|at| self.log.entry(at).is_none())
            .map(|at| (at.author, at.block))
            .collect()
    }

    /// What of a value does not follow from the entries behind it, all of which are here. Without all earlier sketches
    /// nobody can tell what text of a new one is its author's own: such a value stands on its certificate.
    pub(super) fn refutation(&self, manifest: &Manifest, value: &RoundValue) -> Option<Rejection> {
        let head = self.head.as_ref();
        let openers = value.openings.iter().map(|o| o.entry.author);
        let blind = !state::unknown_sketches(head, openers, &self.log).is_empty();
        if blind || !self.lacking(value).is_empty() {
            return None;
        }
        state::check(manifest, head, value, &self.sources()).err()
    }

    /// Tries again to follow the certificate that waits for its entries.
    pub(super) fn retry_awaited(&mut self, desk: &mut Desk) {
        let next = self.next();
        self.awaited
            .take_if(|awaited| awaited.certificate.round() != next);
        let Some(awaited) = &mut self.awaited else {
            return;
        };
        let waited_ms = desk.now.monotonic.since_ms(awaited.since);
        let patience_ms = self
            .manifest
            .as_ref()
            .map_or(0, |m| m.plan.deadlines.round_ms);
        if waited_ms >= u64::from(patience_ms) && !awaited.is_told {
            awaited.is_told = true;
            desk.notify(Notice::Refuted {
                run: self.id,
                round: next,
                why: Rejection::Certificate("nobody gives the entries that its value names"),
            });
        }
        let certificate = awaited.certificate.clone();
        if let Err(why) = self.certify(desk, certificate) {
            self.awaited = None;
            desk.notify(Notice::Refused { from: desk.me, why });
        }
    }

    /// The updates at hand do not lead to the adapter of the certified head.
    pub(super) fn refute_adapter(&mut self, desk: &mut Desk, round: Round, why: Rejection) {
        let Some(certificate) = self.chain.last() else {
            return;
        };
        let included = &certificate.value.included;
        let here = (included.iter()).all(|i| self.blobs.contains_key(&i.update.hash));
        let starts = round == Round(0) || self.adapter.is_some();
        if here && starts && self.refuted.is_none() {
            self.stop(desk, round, why);
        }
    }

    /// Goes no further in this run, and says why. Blocks and certificates are served as before.
    pub(super) fn stop(&mut self, desk: &mut Desk, round: Round, why: Rejection) {
        if self.own.training.take().is_some() {
            desk.emit(Effect::CancelTrain(self.id));
        }
        let run = self.id;
        desk.notify(Notice::Refuted { run, round, why });
        self.refuted = Some(Refuted { round, why });
    }
}
