//! Certified values that this peer's own evidence speaks against: they are not followed, and its owner hears of it.
//!
//! A certificate proves what a quorum signed, not that it was true. A peer that is at the head, with the adapter of
//! the last certified state, asks for the entries that the next value names (receipts, joins, leaves, sheets: honest
//! voters hold them all) and compares the value with them before it moves, as a voter does. Where they refute it, or
//! the updates at hand do not lead to the certified adapter, it keeps the certificate as evidence and goes no
//! further in this run. A peer that catches up has nothing to compare with and follows certificates alone.

use super::NodeContext;
use super::known::{Known, Ledger};
use super::run::OpenRun;
use super::settle::Settling;
use crate::certificate::Certificate;
use crate::event::{Effect, Notice, Record};
use crate::id::{BlockId, PeerId, Round};
use crate::reject::Rejection;
use crate::round::RoundValue;
use crate::state;
use crate::time::Instant;

/// A certified value that does not follow from what this peer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refutation {
    /// Its round.
    pub round: Round,
    /// What does not follow.
    pub why: Rejection,
}

/// A certificate whose value names entries that are not here yet.
pub(super) struct PendingCertificate {
    certificate: Certificate,
    since: Instant,
    /// Whether the owner heard that nobody gives them.
    is_told: bool,
}

impl PendingCertificate {
    /// One that this peer had followed before. Its entries come with the logs of others: there is nothing to tell.
    pub(super) fn kept(certificate: Certificate, since: Instant) -> Self {
        Self {
            certificate,
            since,
            is_told: true,
        }
    }

    /// The height that it decides.
    pub(super) fn round(&self) -> Round {
        self.certificate.round()
    }
}

impl Known<'_> {
    /// Blocks with entries that a value names and that do not count here.
    fn lacking(self, value: &RoundValue) -> Vec<(PeerId, BlockId)> {
        (state::relied(value))
            .filter(|at| self.log().entry(at).is_none())
            .map(|at| (at.author, at.block))
            .collect()
    }
}

impl Settling {
    /// Whether this peer is, or was before a restart, at the head: it holds what the next value is to be compared with.
    fn is_at_head(&self, known: Known<'_>) -> bool {
        let blobs = &known.ledger.replica.blobs;
        let durable = |head: &state::Head| blobs.is_durable(&head.adapter.hash);
        self.has_adapter(known.certified) || known.head().is_some_and(durable)
    }

    /// What of a value does not follow from the entries behind it, all of which are here. Without all earlier sketches
    /// nobody can tell what text of a new one is its author's own: such a value stands on its certificate.
    pub(super) fn refutation(&self, known: Known<'_>, value: &RoundValue) -> Option<Rejection> {
        let head = known.head();
        let openers = value.openings.iter().map(|o| o.entry.author);
        let blind = !state::unknown_sketches(head, openers, known.log()).is_empty();
        if blind || !known.lacking(value).is_empty() {
            return None;
        }
        state::check(known.manifest(), head, value, &self.evidence(known)).err()
    }

    /// Whether everything is here that leads to the adapter of `round`, so that another one refutes the certificate.
    pub(super) fn refutes(&self, known: Known<'_>, round: Round) -> bool {
        let Some(value) = known.certified.last_value() else {
            return false;
        };
        let here = (value.included.iter()).all(|i| known.has_blob(&i.update.hash));
        here && (round == Round(0) || self.adapter.is_some())
    }
}

impl OpenRun {
    /// Whether the head may move by a verified certificate now. If not, it is kept until the entries that it names
    /// are here, or it is refuted.
    pub(super) fn may_follow(
        &mut self,
        cx: &mut NodeContext,
        ledger: &mut Ledger,
        certificate: &Certificate,
    ) -> bool {
        if self.refuted.is_some() {
            return false;
        }
        let known = Known::new(&self.certified, ledger);
        if !self.settling.is_at_head(known) {
            return true;
        }
        let value = &certificate.value;
        assert_eq!(
            value.round, self.height.round,
            "certificates are followed in order"
        );
        ledger.rely_on_forked(value);
        let known = Known::new(&self.certified, ledger);
        let lacking = known.lacking(value);
        if !lacking.is_empty() {
            ledger.ask_for_blocks(cx, lacking);
            let same = |pending_certificate: &PendingCertificate| {
                pending_certificate.certificate.value == *value
            };
            if !self.height.pending_certificate.as_ref().is_some_and(same) {
                self.height.pending_certificate = Some(PendingCertificate {
                    certificate: certificate.clone(),
                    since: cx.now.monotonic,
                    is_told: false,
                });
            }
            return false;
        }
        self.height.pending_certificate = None;
        let Some(why) = self.settling.refutation(known, value) else {
            return true;
        };
        cx.persist(vec![Record::Certificate {
            run: self.certified.id,
            round: value.round,
            bytes: certificate.encode(),
        }]);
        self.stop(cx, value.round, why);
        false
    }

    /// Tries again to follow the certificate that waits for its entries.
    pub(super) fn retry_pending_certificate(&mut self, cx: &mut NodeContext, ledger: &mut Ledger) {
        let Some(pending_certificate) = &mut self.height.pending_certificate else {
            return;
        };
        let waited_ms = cx.now.monotonic.since_ms(pending_certificate.since);
        let patience_ms = self.certified.manifest.plan.deadlines.round_ms;
        if waited_ms >= u64::from(patience_ms) && !pending_certificate.is_told {
            pending_certificate.is_told = true;
            cx.notify(Notice::Refuted {
                run: self.certified.id,
                round: self.height.round,
                why: Rejection::Certificate("nobody gives the entries that its value names"),
            });
        }
        let certificate = pending_certificate.certificate.clone();
        if let Err(why) = self.certify(cx, ledger, certificate) {
            self.height.pending_certificate = None;
            cx.notify(Notice::Refused { from: cx.me, why });
        }
    }

    /// The updates at hand may not lead to the adapter of the certified head.
    pub(super) fn refute_adapter(
        &mut self,
        cx: &mut NodeContext,
        ledger: &Ledger,
        round: Round,
        why: Rejection,
    ) {
        assert!(
            Some(round) <= self.certified.round(),
            "only a certified adapter is refuted"
        );
        let known = Known::new(&self.certified, ledger);
        if self.refuted.is_none() && self.settling.refutes(known, round) {
            self.stop(cx, round, why);
        }
    }

    /// Goes no further in this run, and says why. Blocks and certificates are served as before.
    pub(super) fn stop(&mut self, cx: &mut NodeContext, round: Round, why: Rejection) {
        assert!(self.refuted.is_none(), "a run is stopped once");
        assert!(
            round <= self.certified.next(),
            "it is stopped at its head, or before the next"
        );
        let run = self.certified.id;
        if self.publishing.stop_training() {
            cx.emit(Effect::CancelTrain(run));
        }
        cx.notify(Notice::Refuted { run, round, why });
        self.refuted = Some(Refutation { round, why });
    }
}
