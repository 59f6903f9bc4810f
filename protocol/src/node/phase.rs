//! What a run waits for, in one word for its owner.

use super::Desk;
use super::run::Run;
use crate::event::{Notice, Phase};

impl Run {
    /// Tells the owner when the run waits for something else than before.
    pub(super) fn show_phase(&mut self, desk: &mut Desk) {
        let phase = if self.refuted.is_some() {
            Phase::Stopped
        } else if self.is_finished() && self.has_adapter() {
            Phase::Finished
        } else if self.head.is_none() {
            Phase::Gather
        } else if !self.has_adapter() && self.is_on_duty(desk) {
            Phase::CatchUp
        } else if self.own.works_for(self.next()) {
            Phase::Train
        } else if self.is_closed(desk.now.monotonic) {
            Phase::Agree
        } else {
            Phase::Collect
        };
        self.enter(desk, phase);
    }

    fn enter(&mut self, desk: &mut Desk, phase: Phase) {
        if self.phase != Some(phase) {
            self.phase = Some(phase);
            desk.notify(Notice::Phase {
                run: self.id,
                round: self.next(),
                phase,
            });
        }
    }
}
