//! What peers say to each other on the control plane.
//!
//! A message is one version byte and the canonical encoding of a [`Message`]. Signed things travel inside as the
//! opaque bytes their signer wrote, to be decoded by the code that judges them. Every list has a bound; blobs never
//! travel here but by content hash over the data plane.

use bincode::{Decode, Encode};

use crate::codec::{self, CodecError};
use crate::id::{BlockId, PeerId, Round, RunId, Scope};
use crate::limits;
use crate::reject::Rejection;
use crate::sync::{AuthorRange, HeadList, RangeDigest};

/// The message version of this release.
pub const MESSAGE_VERSION: u8 = 1;

/// One message, gossiped or sent to one peer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Message {
    /// A signed block: bytes of [`crate::log::SignedBlock`].
    Block(Vec<u8>),
    /// A round's certificate, encoded.
    Certificate(Vec<u8>),
    /// A signed proposal or vote, encoded.
    Consensus(Vec<u8>),
    /// Hashes of what the sender holds of a scope; the answer narrows down what differs.
    Summary {
        /// What the logs are about.
        scope: Scope,
        /// Ranges of authors, in order and apart.
        ranges: Vec<RangeDigest>,
        /// The last round that the sender knows to be certified, of a run.
        certified: Option<Round>,
    },
    /// What the sender holds of a scope's logs.
    Heads {
        /// What the logs are about.
        scope: Scope,
        /// Ranges of authors, in order and apart.
        lists: Vec<HeadList>,
        /// The last round that the sender knows to be certified, of a run.
        certified: Option<Round>,
        /// Whether this asks for blocks only; otherwise the receiver also says what it lacks itself.
        wants: bool,
    },
    /// Blocks that the receiver lacks.
    Blocks {
        /// What the logs are about.
        scope: Scope,
        /// Signed blocks.
        blocks: Vec<Vec<u8>>,
    },
    /// Asks for blocks by name: those that a certificate relies on and that stand behind a fork.
    WantBlocks {
        /// What the logs are about.
        scope: Scope,
        /// Author and block of each.
        blocks: Vec<(PeerId, BlockId)>,
    },
    /// Certificates of consecutive rounds.
    Certificates {
        /// The run.
        run: RunId,
        /// Encoded certificates, lowest round first.
        certificates: Vec<Vec<u8>>,
    },
    /// Asks for the certificates from a round on.
    WantCertificates {
        /// The run.
        run: RunId,
        /// The first round wanted.
        from: Round,
    },
}

impl Message {
    /// The bytes that travel.
    ///
    /// # Panics
    /// If the message exceeds a bound: a defect of the sender, which cuts its answers to fit.
    pub fn encode(&self) -> Vec<u8> {
        if let Err(why) = self.check() {
            panic!("a message was built beyond its bounds: {why}");
        }
        let mut bytes = vec![MESSAGE_VERSION];
        bytes.extend(codec::encode(self));
        assert!(
            bytes.len() <= limits::MAX_DIRECT_BYTES,
            "a message was built of {} bytes",
            bytes.len()
        );
        bytes
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Rejection::Codec`] for anything but the canonical encoding of a known version,
    /// [`Rejection::Limit`] and [`Rejection::Contradiction`] for lists that are too long or out of
    /// order.
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        if bytes.len() > limits::MAX_DIRECT_BYTES {
            return Err(too_long(bytes.len(), limits::MAX_DIRECT_BYTES));
        }
        let (&version, body) = bytes.split_first().ok_or(CodecError::Malformed)?;
        if version != MESSAGE_VERSION {
            return Err(CodecError::Version(version).into());
        }
        let message: Self = codec::decode::<_, { limits::MAX_DIRECT_BYTES }>(body)?;
        message.check()?;
        Ok(message)
    }

    fn check(&self) -> Result<(), Rejection> {
        match self {
            Self::Block(bytes) => at_most_bytes(bytes, limits::MAX_BLOCK_BYTES),
            Self::Certificate(bytes) => at_most_bytes(bytes, limits::MAX_CERTIFICATE_BYTES),
            Self::Consensus(bytes) => at_most_bytes(bytes, limits::MAX_CONSENSUS_BYTES),
            Self::Summary { ranges, .. } => {
                at_most(ranges, limits::MAX_RANGES, "ranges of a summary")?;
                in_order(ranges.iter().map(|r| r.range))
            }
            Self::Heads { lists, .. } => check_lists(lists),
            Self::Blocks { blocks, .. } => {
                at_most(
                    blocks,
                    limits::MAX_BLOCKS_PER_MESSAGE,
                    "blocks of a message",
                )?;
                (blocks.iter()).try_for_each(|b| at_most_bytes(b, limits::MAX_BLOCK_BYTES))
            }
            Self::WantBlocks { blocks, .. } => {
                at_most(blocks, limits::MAX_WANTED_BLOCKS, "blocks asked for")
            }
            Self::Certificates { certificates, .. } => {
                let limit = limits::MAX_CERTIFICATES_PER_MESSAGE;
                at_most(certificates, limit, "certificates of a message")?;
                (certificates.iter())
                    .try_for_each(|c| at_most_bytes(c, limits::MAX_CERTIFICATE_BYTES))
            }
            Self::WantCertificates { .. } => Ok(()),
        }
    }
}

fn too_long(found: usize, limit: usize) -> Rejection {
    CodecError::TooLong { limit, found }.into()
}

fn at_most_bytes(bytes: &[u8], limit: usize) -> Result<(), Rejection> {
    if bytes.len() > limit {
        return Err(too_long(bytes.len(), limit));
    }
    Ok(())
}

fn at_most<T>(list: &[T], limit: usize, what: &'static str) -> Result<(), Rejection> {
    if list.len() > limit {
        return Err(Rejection::Limit(what));
    }
    Ok(())
}

fn in_order(ranges: impl Iterator<Item = AuthorRange>) -> Result<(), Rejection> {
    let mut before: Option<AuthorRange> = None;
    for range in ranges {
        if !range.is_proper() || before.is_some_and(|before| !before.precedes(&range)) {
            return Err(Rejection::Contradiction(
                "ranges overlap or are out of order",
            ));
        }
        before = Some(range);
    }
    Ok(())
}

fn check_lists(lists: &[HeadList]) -> Result<(), Rejection> {
    at_most(lists, limits::MAX_RANGES, "head lists of a message")?;
    let heads: usize = lists.iter().map(|list| list.heads.len()).sum();
    let forks: usize = lists.iter().map(|list| list.forks.len()).sum();
    if heads.max(forks) > limits::MAX_HEADS_PER_MESSAGE {
        return Err(Rejection::Limit("heads of a message"));
    }
    if !lists.iter().all(HeadList::is_proper) {
        return Err(Rejection::Contradiction("heads out of order"));
    }
    in_order(lists.iter().map(|list| list.range))
}

#[cfg(test)]
mod tests;
