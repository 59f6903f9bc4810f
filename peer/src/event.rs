//! What a running peer tells its owner.

use tributary_protocol::event::Notice;
use tributary_protocol::id::{Round, RunId};

use crate::work::Progress;

/// What the owner can hear.
#[derive(Clone, Debug)]
pub enum Event {
    /// From the node.
    Notice(Notice),
    /// Local training advances.
    Training {
        /// The run.
        run: RunId,
        /// The round.
        round: Round,
        /// How far.
        progress: Progress,
    },
}
