//! What a run waits for, in one word for its owner.

use super::Desk;
use super::known::{Known, Ledger};
use super::run::OpenRun;
use crate::event::{Notice, Phase};

impl OpenRun {
    /// Tells the owner when the run waits for something else than before.
    pub(super) fn show_phase(&mut self, desk: &mut Desk, ledger: &Ledger) {
        let phase = self.current_phase(desk, Known::new(&self.certified, ledger));
        if self.phase != Some(phase) {
            self.phase = Some(phase);
            desk.notify(Notice::Phase {
                run: self.certified.id,
                round: self.height.round,
                phase,
            });
        }
    }

    fn current_phase(&self, desk: &Desk, known: Known<'_>) -> Phase {
        let certified = &self.certified;
        if self.refuted.is_some() {
            Phase::Stopped
        } else if self.is_complete() {
            Phase::Finished
        } else if certified.head().is_none() {
            Phase::Gather
        } else if !self.settling.has_adapter(certified) && self.height.is_on_duty(desk, certified) {
            Phase::CatchUp
        } else if self.own.works_for(self.height.round) {
            Phase::Train
        } else if self.height.is_closed(known, desk.now.monotonic) {
            Phase::Agree
        } else {
            Phase::Collect
        }
    }
}
