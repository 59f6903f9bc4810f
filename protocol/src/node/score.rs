//! What an evaluator owes the open height: the score sheet of the round before, sealed first and shown when the others
//! have sealed theirs.

use std::sync::Arc;

use super::NodeContext;
use super::certified::Certified;
use super::known::{Known, Ledger, Seals, wake};
use super::run::OpenRun;
use super::settle::Settling;
use crate::adapter::Adapter;
use crate::aggregate::{self, ContributionVector};
use crate::entry::{Entry, ScoreSheet, ShownSheet};
use crate::event::{Effect, Notice, ScoreTask};
use crate::id::{PeerId, Round};
use crate::state;
use crate::time::Instant;

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

/// A sheet that is sealed and not shown yet.
pub(super) struct SealedSheet {
    sheet: ScoreSheet,
    /// When as many had sealed as final scores take.
    since: Option<Instant>,
}

impl OpenRun {
    /// Seals a sheet, unless its round has passed or was judged already.
    pub(super) fn on_scored(
        &mut self,
        cx: &mut NodeContext,
        ledger: &mut Ledger,
        sheet: ScoreSheet,
    ) {
        let known = Known::new(&self.certified, ledger);
        let last = self.certified.last_value();
        let fits = state::sheet_fits(&sheet, &cx.me, known.head(), last);
        if !fits || known.index().has_sheet(&cx.me, sheet.round) {
            return;
        }
        let seal = sheet.seal(&cx.me);
        match known.index().seal(&cx.me, sheet.round) {
            None => self.append(cx, ledger, Entry::SheetSeal(seal), Vec::new()),
            // Before a restart.
            Some(before) if *before == seal => {}
            Some(_) => {
                let why = format!(
                    "round {}: the score sheet differs from the one that this peer sealed before it was restarted, so \
                     it is not shown and does not count; nothing is to be done",
                    sheet.round
                );
                let run = Some(self.certified.id);
                return cx.notify(Notice::CommandFailed { run, why });
            }
        }
        self.settling.sealed = Some(SealedSheet { sheet, since: None });
    }

    /// Shows the sealed sheet, once everybody has sealed, or enough have and the grace window passed, or the deadline.
    pub(super) fn show_sheet(&mut self, cx: &mut NodeContext, ledger: &mut Ledger) {
        let known = Known::new(&self.certified, ledger);
        let (Some(sealed), Some(head)) = (&mut self.settling.sealed, known.head()) else {
            return;
        };
        if sealed.sheet.round != head.round {
            self.settling.sealed = None;
            return;
        }
        let (now, deadlines) = (cx.now.monotonic, known.manifest().plan.deadlines);
        let Seals {
            mask: seals,
            given,
            expected,
        } = known.seals();
        let needed = aggregate::needed(head.panel.seats());
        if given >= needed && given < expected && sealed.since.is_none() {
            sealed.since = Some(now);
            let over = now.after_ms(deadlines.grace_ms.into());
            wake(cx, known.id(), self.height.round, over);
        }
        let waited = |since: Instant| now.since_ms(since) >= u64::from(deadlines.grace_ms);
        let is_over = now >= self.height.began.after_ms(deadlines.round_ms.into());
        if given < expected && !is_over && !sealed.since.is_some_and(waited) {
            return;
        }
        if let Some(SealedSheet { sheet, .. }) = self.settling.sealed.take() {
            assert!(given <= expected, "only evaluators seal");
            let shown = ShownSheet { sheet, seals };
            self.append(cx, ledger, Entry::ScoreSheet(shown), Vec::new());
        }
    }
}
