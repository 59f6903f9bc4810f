//! How far a world is, for the person who waits.

use super::{Event, World};
use crate::watch::Progress;

/// Events between two reports.
const EVERY: u64 = 256;

impl World {
    /// Says to `progress` how far it is, which changes nothing.
    pub fn watched(mut self, progress: &Progress) -> Self {
        self.progress = Some(progress.clone());
        self
    }

    /// Says how far it is before what may take long, and now and then.
    pub(super) fn tell_progress(&self, event: &Event) {
        let is_long = matches!(event, Event::Trained { .. } | Event::Scored { .. });
        if let Some(progress) = &self.progress
            && (is_long || self.events.is_multiple_of(EVERY))
        {
            let heights = self.faults.reached().map_or(0, |round| round.0 + 1);
            progress.at(u64::from(heights), u64::from(self.scenario.rounds) + 2);
            progress.world(self.events, self.now);
        }
    }
}
