//! What a run waits for, in one word for its owner.

use super::NodeContext;
use super::known::{Known, Ledger};
use super::run::OpenRun;
use crate::event::{Notice, Phase};

impl OpenRun {
    /// Tells the owner when the run waits for something else than before.
    pub(super) fn show_phase(&mut self, cx: &mut NodeContext, ledger: &Ledger) {
        let phase = self.current_phase(cx, Known::new(&self.certified, ledger));
        if self.phase != Some(phase) {
            self.phase = Some(phase);
            cx.notify(Notice::Phase {
                run: self.certified.id,
                round: self.height.round,
                phase,
            });
        }
    }

    fn current_phase(&self, cx: &NodeContext, known: Known<'_>) -> Phase {
        let certified = &self.certified;
        if self.refuted.is_some() {
            Phase::Stopped
        } else if self.is_complete() {
            Phase::Finished
        } else if certified.head().is_none() {
            Phase::Gather
        } else if !self.settling.has_adapter(certified) && self.height.is_on_duty(cx, certified) {
            Phase::CatchUp
        } else if self.publishing.works_for(self.height.round) {
            Phase::Train
        } else if self.height.is_closed(known, cx.now.monotonic) {
            Phase::Agree
        } else {
            Phase::Collect
        }
    }
}
