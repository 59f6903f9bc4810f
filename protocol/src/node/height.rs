//! The height that is open: what it collects, how it closes, and what its committee does, from its beginning to its
//! certificate. Everything of it is dropped with it.
//!
//! `collect` says which contributions may be included, `close` when the height may be proposed, `agree` what this
//! peer's seat says. They read what is known of the run and change nothing but the height.

use std::cell::OnceCell;

use super::NodeContext;
use super::agree::Seat;
use super::certified::Certified;
use super::close::{ClosedReceipts, Grace};
use super::collect::Receipts;
use super::known::Known;
use super::refute::PendingCertificate;
use super::relay::Relay;
use crate::committee::Committee;
use crate::id::Round;
use crate::limits;
use crate::round::RoundValue;
use crate::time::Instant;

/// The height after the certified head.
pub(super) struct OpenHeight {
    pub(super) round: Round,
    /// When it began here, or its adapter was at hand.
    pub(super) began: Instant,
    /// Its committee, once somebody asked.
    pub(super) committee: OnceCell<Committee>,
    /// After how many deadlines it was last drawn whether this peer stands in, and whether it does.
    is_substitute: (u32, bool),
    /// When the creator, this peer, last called for openings; before the genesis.
    pub(super) called_at: Option<Instant>,
    /// Receipts that may be included.
    pub(super) receipts: Receipts,
    /// The grace window, once enough had committed for it to start.
    pub(super) grace: Option<Grace>,
    /// The receipts, once they are closed here.
    pub(super) closed: Option<ClosedReceipts>,
    /// When the first filing was here that the height would put in order; in epochs.
    pub(super) filed_since: Option<Instant>,
    /// How many epochs went before it, less one for each [`limits::EPOCH_REST_MS`] since.
    pub(super) epochs: u32,
    /// This peer's seat, if it has one.
    pub(super) seat: Option<Seat>,
    /// What of the committee's messages was passed on, without a seat.
    pub(super) relay: Relay,
    /// The certificate that waits for entries it names.
    pub(super) pending_certificate: Option<PendingCertificate>,
}

impl OpenHeight {
    /// The height of this round begins.
    pub(super) fn new(round: Round, began: Instant) -> Self {
        Self {
            round,
            began,
            committee: OnceCell::new(),
            is_substitute: (0, false),
            called_at: None,
            receipts: Receipts::default(),
            grace: None,
            closed: None,
            filed_since: None,
            epochs: 0,
            seat: None,
            relay: Relay::default(),
            pending_certificate: None,
        }
    }

    /// What [`Self::epochs`] is of the height that follows this one.
    pub(super) fn epochs_after(&self, is_epoch: bool, now: Instant) -> u32 {
        let rested = now.since_ms(self.began) / limits::EPOCH_REST_MS;
        let rested = u32::try_from(rested).unwrap_or(u32::MAX);
        (self.epochs + u32::from(is_epoch)).saturating_sub(rested)
    }

    /// Its committee.
    pub(super) fn committee(&self, certified: &Certified) -> &Committee {
        self.committee.get_or_init(|| certified.draw_committee())
    }

    /// Values that the seat has yet to judge.
    pub(super) fn judging(&self) -> &[RoundValue] {
        self.seat.as_ref().map_or(&[], |seat| &seat.judging)
    }

    /// Whether this peer is to contribute: it was drawn, or stands in for those that were.
    pub(super) fn trains(&self, cx: &NodeContext, certified: &Certified) -> bool {
        certified.is_participant(&cx.me) || self.is_substitute.1
    }

    /// Whether this peer needs the updates of others: to decide, to score, or, where all contributors are drawn, to
    /// follow.
    pub(super) fn needs_updates(&self, cx: &NodeContext, certified: &Certified) -> bool {
        !certified.is_sampled() || self.seat.is_some() || certified.may_judge(&cx.me)
    }

    /// Whether the open height asks anything of this peer: to train, to decide or to score. Where all
    /// contributors are drawn, every member follows every step. In a larger run a member off duty
    /// follows certificates alone, so that no peer's work grows with the membership: not its own, and
    /// not that of the authors who would have to send everybody their updates.
    pub(super) fn is_on_duty(&self, cx: &NodeContext, certified: &Certified) -> bool {
        self.trains(cx, certified) || certified.is_finished() || self.needs_updates(cx, certified)
    }

    /// Where those that were drawn let the deadline pass, as many again may stand in for them, after two
    /// deadlines twice as many, and so on: a draw of the absent cannot stop a run. Drawn once a deadline: it
    /// takes a hash of every member.
    pub(super) fn draw_substitutes(&mut self, cx: &NodeContext, known: Known<'_>) {
        let passed = self.deadlines_passed(known, cx.now.monotonic);
        let Some(head) = known.head() else { return };
        if passed == self.is_substitute.0 {
            return;
        }
        let contributes = (head.roster.get(&cx.me)).is_some_and(|m| m.role.contributes());
        let drawn = head.participants.len() << passed.min(8);
        let is_substitute = passed > 0
            && contributes
            && !head.is_participant(&cx.me)
            && head.first_drawn(known.manifest(), drawn).contains(&cx.me);
        self.is_substitute = (passed, is_substitute);
    }

    /// How often its deadline has passed since it began here.
    pub(super) fn deadlines_passed(&self, known: Known<'_>, now: Instant) -> u32 {
        let round_ms = u64::from(known.manifest().plan.deadlines.round_ms);
        let passed = now.since_ms(self.began) / round_ms.max(1);
        u32::try_from(passed).unwrap_or(u32::MAX)
    }

    /// Asserts that everything of the height is of this height.
    pub(super) fn assert_invariants(&self, known: Known<'_>) {
        let certified = known.certified;
        assert_eq!(
            self.round,
            known.next(),
            "the height after the head is open"
        );
        assert!(
            self.called_at.is_none() || known.head().is_none(),
            "only the genesis is called for"
        );
        assert!(
            !self.is_substitute.1 || known.head().is_some(),
            "nobody stands in at the genesis"
        );
        assert!(
            !self.is_substitute.1 || self.is_substitute.0 > 0,
            "nobody stands in before a deadline has passed"
        );
        assert!(
            self.grace.is_none() || certified.is_training_round(self.round),
            "a grace window is of a round that trains"
        );
        assert!(
            self.seat.is_none() || self.relay.is_empty(),
            "a seat passes nothing on"
        );
        assert!(
            self.committee
                .get()
                .is_none_or(|committee| committee.quorum() > committee.total() / 3 * 2),
            "more than two thirds decide"
        );
        assert!(
            self.filed_since.is_none() || certified.is_finished(),
            "only epochs wait for filings"
        );
        assert!(
            self.closed.is_none() || certified.is_training_round(self.round),
            "receipts close in rounds that train"
        );
        assert!(
            (self.pending_certificate.iter())
                .all(|pending_certificate| pending_certificate.round() == self.round),
            "what waits for its entries is next"
        );
        if let Some(seat) = &self.seat {
            seat.assert_invariants(self.round);
        }
        if let Some(closed) = &self.closed {
            closed.assert_invariants();
        }
        self.receipts.assert_invariants(known);
        self.relay.assert_invariants();
    }
}
