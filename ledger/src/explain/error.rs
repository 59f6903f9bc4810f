//! Why a payout cannot be explained.

use tributary_attribution::explain::ExplainError as PayoutError;
use tributary_attribution::fold::FoldError;
use tributary_attribution::run_books::UnprovenError;
use tributary_protocol::id::{BlockId, NanoNats, Round, RunId};
use tributary_protocol::reject::Rejection;

use crate::Remedy;
use crate::archive::BlobError;
use crate::report::Fault;

/// Why a payout cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// Several receipts begin with the given digits.
    #[error("{count} receipts of this home are named by {wanted:?}: {listed}")]
    Ambiguous {
        /// How many receipts there are.
        count: usize,
        /// What was asked for.
        wanted: String,
        /// The receipts.
        listed: String,
    },
    /// What was asked for is neither an id nor a place.
    #[error("{0:?} names no receipt")]
    Form(String),
    /// Nobody has trained yet.
    #[error("this home holds no receipts: no run of it has trained yet")]
    NoReceipts,
    /// No receipt has this name.
    #[error("none of the {count} receipts in this home is named by {wanted:?}; near it: {listed}")]
    Unknown {
        /// Receipts in the home.
        count: usize,
        /// What was asked for.
        wanted: String,
        /// The nearest receipts.
        listed: String,
    },
    /// The round is still open.
    #[error(
        "round {round} of run {} is not certified in this home yet, so its receipts may still be left out",
        run.short()
    )]
    Open {
        /// The run.
        run: RunId,
        /// The round.
        round: Round,
    },
    /// The round's scores are not certified yet.
    #[error(
        "round {round} of run {} is certified and not final yet: the next height carries its score sheets",
        run.short()
    )]
    NotFinal {
        /// The run.
        run: RunId,
        /// The round.
        round: Round,
    },
    /// The committee did not include the receipt.
    #[error(
        "receipt {} is not among the {included} contributions of round {round}, so it earns nothing: {why}",
        block.short()
    )]
    LeftOut {
        /// The receipt's block.
        block: BlockId,
        /// The round.
        round: Round,
        /// Contributions that were included.
        included: usize,
        /// Why not this one, as far as the ledger tells.
        why: String,
    },
    /// The run's first block is missing.
    #[error("the run's manifest is not here")]
    NoManifest,
    /// The audit found a fault.
    #[error("the ledger does not hold: {0}")]
    Broken(Box<Fault>),
    /// A certified value does not follow from the one before.
    #[error("the ledger does not hold: {0}")]
    Unfollowed(Rejection),
    /// The certified rounds cannot be folded into accounts.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// Nothing that members signed proves it.
    #[error(transparent)]
    Unproven(UnprovenError),
    /// The round cannot be split.
    #[error(transparent)]
    Payout(#[from] PayoutError),
    /// A blob is damaged.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// An update does not decode.
    #[error("an update: {0}")]
    Update(Rejection),
    /// The next height says nothing about the round.
    #[error("the next height judges no round")]
    NotJudged,
    /// The account and the split disagree.
    #[error("the account moved by {moved} micro-OPEN where the split gives {given}")]
    Account {
        /// What the account moved by.
        moved: i128,
        /// What the split gives.
        given: u128,
    },
    /// The sheets and the certified score disagree.
    #[error(
        "the medians of the sheets are a score of {} nanonats and a luck of {}, and {} and {} were certified",
        found[0].0, found[1].0, certified[0].0, certified[1].0
    )]
    Medians {
        /// Score and luck that follow from the sheets.
        found: [NanoNats; 2],
        /// Score and luck that were certified.
        certified: [NanoNats; 2],
    },
    /// The contribution is not among the updates of its round.
    #[error("the round's updates lack this contribution")]
    NoUpdate,
    /// The vector is another one.
    #[error("coefficient times update is not the vector that the adapter was recomputed with")]
    Vector,
    /// The contributor was not in the roster.
    #[error("the contributor was no member")]
    NoMember,
    /// The receipt and the join disagree.
    #[error("the receipt names another shard than the certified join")]
    OtherShard,
    /// The text behind the shard's root is damaged.
    #[error("{0}")]
    Text(String),
}

impl Remedy for ExplainError {
    fn is_wrong(&self) -> bool {
        !matches!(
            self,
            Self::Ambiguous { .. }
                | Self::Form(_)
                | Self::NoReceipts
                | Self::Unknown { .. }
                | Self::Open { .. }
                | Self::NotFinal { .. }
                | Self::Unproven(_)
        )
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Ambiguous { .. } => {
                "give more digits, or the place within the block as BLOCK.INDEX"
            }
            Self::Form(_) => {
                "give the first digits of one, as `tributary ledger statement` prints them, or RUN/ROUND/PEER"
            }
            Self::NoReceipts => "`tributary run list` shows the runs; --home names another home",
            Self::Unknown { .. } => {
                "`tributary ledger statement` prints the ids of one's own receipts"
            }
            Self::Open { run, .. } | Self::NotFinal { run, .. } => {
                let run = run.short();
                return Some(format!(
                    "`tributary run watch {run}` shows how far the run is"
                ));
            }
            Self::LeftOut { .. } => {
                "work that was not included goes back to its author's error feedback and into its next update"
            }
            Self::Broken(_) | Self::Unfollowed(_) => crate::VERIFY_HINT,
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
