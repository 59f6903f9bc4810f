//! What an evaluator owes the open height: the score sheet of the round before.

use std::sync::Arc;

use super::NodeContext;
use super::certified::Certified;
use super::known::{Known, Ledger};
use super::run::OpenRun;
use super::settle::Settling;
use crate::adapter::Adapter;
use crate::aggregate::ContributionVector;
use crate::entry::{Entry, ScoreSheet};
use crate::event::{Effect, ScoreTask};
use crate::id::{PeerId, Round};
use crate::state;

/// A derived round, kept for scoring.
pub(super) struct Scorable {
    pub(super) round: Round,
    pub(super) before: Arc<Adapter>,
    /// Contribution vectors of the round.
    pub(super) contributions: Arc<[(PeerId, ContributionVector)]>,
}

impl Settling {
    /// Has the round certified last scored, if this peer owes its sheet.
    pub(super) fn score(
        &mut self,
        cx: &mut NodeContext,
        certified: &Certified,
        ledger: &mut Ledger,
    ) -> Option<()> {
        let (head, value) = (certified.head()?, certified.last_value()?);
        let scorable = self.scorable.as_ref()?;
        let member = head.roster.get(&cx.me);
        let evaluates =
            certified.is_evaluator(&cx.me) && member.is_some_and(|m| m.role.evaluates());
        let is_done = ledger.index.has_sheet(&cx.me, head.round);
        let is_asked = self.scoring == Some(head.round) || scorable.round != head.round;
        if !evaluates || is_done || is_asked || value.included.is_empty() {
            return None;
        }
        let scored = scorable.contributions.iter().map(|(peer, _)| *peer);
        let included = value.included.iter().map(|i| i.receipt.author);
        assert!(scored.eq(included), "what is scored is what was included");
        assert_eq!(value.round, head.round, "the head is its value's");
        assert!(
            self.scoring < Some(head.round),
            "rounds are scored in order"
        );
        let manifest = &certified.manifest;
        let mut task = ScoreTask {
            run: certified.id,
            round: head.round,
            state: head.hash,
            before: Arc::clone(&scorable.before),
            trainable: manifest.training.schedule.trainable(head.round),
            contributions: Arc::clone(&scorable.contributions),
            public: Vec::new(),
            seed: value.score_seed(),
            windows: manifest.scoring.windows,
        };
        task.public = self.public_before(cx, certified, ledger, task.round)?;
        self.scoring = Some(task.round);
        cx.emit(Effect::Score(Box::new(task)));
        Some(())
    }
}

impl OpenRun {
    /// Signs a sheet, unless its round has passed or was judged already.
    pub(super) fn on_scored(
        &mut self,
        cx: &mut NodeContext,
        ledger: &mut Ledger,
        sheet: ScoreSheet,
    ) {
        let known = Known::new(&self.certified, ledger);
        let last = self.certified.last_value();
        let fits = state::sheet_fits(known.manifest(), &sheet, &cx.me, known.head(), last);
        if fits && !known.index().has_sheet(&cx.me, sheet.round) {
            self.append(cx, ledger, Entry::ScoreSheet(sheet), Vec::new());
        }
    }
}
