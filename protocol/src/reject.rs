//! Why remote input is refused, with stable codes.
//!
//! A code never changes its meaning: logs, metrics and tests of other implementations rely on it. Code 7 was for rounds
//! that are over and is not used again.

use crate::codec::CodecError;
use crate::manifest::ManifestError;

/// A refusal of remote input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// 1: not canonical bytes of a known message.
    #[error("message does not decode: {0}")]
    Codec(#[from] CodecError),
    /// 2: the signature does not verify under the author's key.
    #[error("signature does not verify")]
    Signature,
    /// 3: for another network.
    #[error("message is for another network")]
    Network,
    /// 4: the link to the author's block before does not fit.
    #[error("block does not link to the block before it")]
    Link,
    /// 5: the author is not a member (or not an evaluator, or not of the committee).
    #[error("author has no right to say this")]
    Unauthorised,
    /// 6: a bound of `limits` is exceeded.
    #[error("bound exceeded: {0}")]
    Limit(&'static str),
    /// 8: contradicts the certified state or the manifest.
    #[error("contradicts the run: {0}")]
    Contradiction(&'static str),
    /// 9: an update or state blob that is not what its entry says.
    #[error("blob refused: {0}")]
    Blob(&'static str),
    /// 10: less than a quorum, or a signer outside the committee.
    #[error("certificate refused: {0}")]
    Certificate(&'static str),
    /// 11: the author equivocated earlier; nothing from that point on counts.
    #[error("author equivocated")]
    Equivocator,
}

impl Rejection {
    /// Whether the neighbour that forwarded the input is to blame: it makes the same check before it forwards, so an
    /// honest program never sends this. What a newer release writes is nobody's fault.
    pub fn exposes_sender(&self) -> bool {
        match self {
            Self::Codec(CodecError::Version(_)) => false,
            Self::Codec(_) | Self::Signature | Self::Network => true,
            _ => false,
        }
    }

    /// The stable code.
    pub fn code(&self) -> u16 {
        match self {
            Self::Codec(_) => 1,
            Self::Signature => 2,
            Self::Network => 3,
            Self::Link => 4,
            Self::Unauthorised => 5,
            Self::Limit(_) => 6,
            Self::Contradiction(_) => 8,
            Self::Blob(_) => 9,
            Self::Certificate(_) => 10,
            Self::Equivocator => 11,
        }
    }
}

impl From<ManifestError> for Rejection {
    fn from(error: ManifestError) -> Self {
        match error {
            ManifestError::TooLong { .. } => Self::Limit("bytes of a manifest"),
            other => Self::Contradiction(other.field()),
        }
    }
}
