//! Why a hold-out is neither shown nor found to hold.

use tributary_protocol::id::{PeerId, Round, RunId};

use super::Losses;
use crate::Remedy;
use crate::explain::ExplainError;
use crate::report::Fault;

/// Why a hold-out is neither shown nor found to hold.
#[derive(Debug, thiserror::Error)]
pub enum HoldoutError {
    /// The digits name no run, or several.
    #[error("not exactly one run of this home is named by {0:?}")]
    Run(String),
    /// The run's first block is missing.
    #[error("the run's manifest is not in this home")]
    NoManifest,
    /// There is no such round.
    #[error("no training round {round} of run {} is certified in this home", run.short())]
    Round {
        /// The run.
        run: RunId,
        /// What was asked for.
        round: u32,
    },
    /// The certificates do not follow from each other.
    #[error(transparent)]
    Unfollowed(#[from] Box<ExplainError>),
    /// The named peer scores nothing.
    #[error("{} was no evaluating member after round {round}", peer.short())]
    NoEvaluator {
        /// The peer that was named.
        peer: PeerId,
        /// The round.
        round: Round,
    },
    /// The audit found a fault.
    #[error("the ledger does not hold: {0}")]
    Broken(Box<Fault>),
    /// A field of the proof cannot be read.
    #[error("the proof is damaged: {0} is no id")]
    Damaged(&'static str),
    /// The head is not the first leaf behind the root.
    #[error("the evaluator's certified join does not commit to a hold-out of this size")]
    Size,
    /// The hold-out belongs to another base model.
    #[error("the hold-out was committed for another base model or window than the run's")]
    OtherBase,
    /// Other windows are shown.
    #[error("the certificate's seed draws other windows than the proof shows")]
    OtherWindows,
    /// A window is not a leaf behind the root.
    #[error("window {0} is not what the evaluator committed to when it joined")]
    Window(u64),
    /// The sheet was scored on more or less text.
    #[error(
        "the sheet predicts {sheet} tokens and the drawn windows have {drawn}: it was scored on others"
    )]
    Predicted {
        /// Tokens of the sheet.
        sheet: u64,
        /// Tokens of the windows.
        drawn: u64,
    },
    /// The base model cannot read the windows.
    #[error("the shown windows: {0}")]
    Tokens(String),
    /// The losses cannot be computed.
    #[error("{0}")]
    Losses(String),
    /// The sheet was scored on other text.
    #[error(
        "the sheet says {:.6} nats before and {:.6} after the round, and the drawn windows give {:.6} and {:.6}: \
         it was scored on other text",
        signed.before, signed.after, found.before, found.after
    )]
    OtherText {
        /// What the sheet says.
        signed: Losses,
        /// What was computed.
        found: Losses,
    },
}

impl Remedy for HoldoutError {
    fn is_wrong(&self) -> bool {
        match self {
            Self::Run(_) | Self::NoManifest | Self::Round { .. } | Self::Losses(_) => false,
            Self::Unfollowed(why) => why.is_wrong(),
            _ => true,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Run(_) => "`tributary run list` shows the runs; give more digits",
            Self::Round { .. } => "`tributary run show RUN` lists the certified rounds",
            Self::Unfollowed(why) => return why.hint(),
            Self::Broken(_) => crate::VERIFY_HINT,
            Self::OtherText { .. } => "keep the proof and the sheet's block: together they show it",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
