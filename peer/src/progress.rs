//! Where the node stands in each run, as the driver publishes it after inputs that changed something.
//!
//! What is certified is in the index; this is what only the running node knows.

use std::sync::Arc;

use tributary_protocol::event::Phase;
use tributary_protocol::id::{PeerId, Round, RunId};
use tributary_protocol::manifest::Manifest;
use tributary_protocol::node::{Excess, RunView};

/// One run as the node has it at a moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RunProgress {
    pub(crate) run: RunId,
    pub(crate) manifest: Option<Arc<Manifest>>,
    /// Why the run is not followed further.
    pub(crate) declined: Option<Excess>,
    pub(crate) phase: Option<Phase>,
    /// The last certified round.
    pub(crate) certified: Option<Round>,
    pub(crate) members: u32,
    /// Whom the open height waits for.
    pub(crate) awaited: Vec<PeerId>,
    pub(crate) is_finished: bool,
    pub(crate) lacks_own_text: bool,
    /// The round of the adapter that is at hand.
    pub(crate) adapter: Option<Round>,
}

impl RunProgress {
    /// Whether no round is left to train in.
    pub(crate) fn is_over(&self) -> bool {
        let rounds = self.manifest.as_ref().map(|manifest| manifest.plan.rounds);
        let is_last = |certified: Round| rounds.is_some_and(|rounds| certified.0 >= rounds);
        self.is_finished || self.certified.is_some_and(is_last)
    }

    pub(crate) fn of(run: &RunView<'_>) -> Self {
        Self {
            run: run.id(),
            manifest: run.manifest().cloned(),
            declined: run.declined().copied(),
            phase: run.phase(),
            certified: run.head().map(|head| head.round),
            members: run.head().map_or(0, |head| head.roster.len() as u32),
            awaited: run.awaited(),
            is_finished: run.is_finished(),
            lacks_own_text: run.lacks_own_text(),
            adapter: run.adapter().map(|(round, _)| *round),
        }
    }
}
