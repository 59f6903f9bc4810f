//! The write-ahead record of a height: what its driver was fed, and what we said.
//!
//! A batch of steps is durable before anything that follows from it is sent. Replaying the batches through a fresh
//! driver leads back to the same place; our own messages are taken from the record, not made anew, so a member never
//! contradicts itself, even if it would build another value today.

use bincode::{Decode, Encode};

use super::message::{ConsensusMessage, Proposal, Signed, Vote};
use crate::codec::{self, CodecError};
use crate::event::ConsensusStep;

/// Bytes of one stored batch. Written by ourselves and never remote; the bound only keeps a damaged
/// store from asking for absurd memory. Four times what [`FLUSH_BYTES`] and one proposal come to.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// A batch that is not yet needed on disk is written anyway when it has grown to this.
pub(super) const FLUSH_BYTES: usize = 128 * 1024;

/// One thing that happened to a height, in the order of happening.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum LoggedStep {
    /// The height was started.
    Started,
    /// A vote of another member, verified.
    Heard(Signed<Vote>),
    /// A proposal of another member, verified, and whether the node found its value valid.
    Judged(Signed<Proposal>, bool),
    /// A timer went off.
    TimedOut { attempt: u32, step: ConsensusStep },
    /// Enough members are further on: straight to their attempt.
    Skipped(u32),
    /// We said this.
    Said(ConsensusMessage),
}

pub(super) fn encode(batch: &[LoggedStep]) -> Vec<u8> {
    codec::encode(&batch.to_vec())
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<LoggedStep>, CodecError> {
    codec::decode::<_, MAX_BATCH_BYTES>(bytes)
}
