//! What members file in a dispute about a score sheet.

use bincode::{Decode, Encode};

use super::EvmSignature;
use crate::entry::is_shown;
use crate::id::PeerId;
use crate::limits;
use crate::reject::Rejection;
use crate::round::EntryRef;

/// A step of a dispute. A dispute's name is the place of the entry that opens it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum DisputeStep {
    /// Says at the author's bond that a score is not what the evaluator's windows give.
    Open(Disputed),
    /// What a juror found, or its author where it was not asked, which counts for nothing.
    Find(EntryRef, Finding),
    /// Asks for a larger jury, as whoever lost.
    Appeal(EntryRef),
    /// A signature under the sentence that a dispute ended with, by the author's account.
    Sign(EntryRef, EvmSignature),
}

/// A score that is disputed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Disputed {
    /// The sheet, as a certificate counts it.
    pub sheet: EntryRef,
    /// Whose score.
    pub peer: PeerId,
    /// Why, for people: a line of 1 to [`limits::MAX_REASON_BYTES`] bytes.
    pub reason: String,
}

/// What a juror finds when it scores the shown windows again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Finding {
    /// The score is within the interval that the sheet states.
    Holds,
    /// It is not.
    Fails,
    /// The evaluator has shown no windows, or others than it committed to and were drawn.
    Unshown,
    /// The juror had no connection to the evaluator until its time was nearly over. That is held against nobody's stake.
    Unreached,
}

impl DisputeStep {
    pub(crate) fn check(&self) -> Result<(), Rejection> {
        match self {
            Self::Open(disputed) => match is_shown(&disputed.reason, limits::MAX_REASON_BYTES) {
                true => Ok(()),
                false => Err(Rejection::Limit("reason of a dispute")),
            },
            Self::Find(..) | Self::Appeal(_) | Self::Sign(..) => Ok(()),
        }
    }
}
