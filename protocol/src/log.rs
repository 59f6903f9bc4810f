//! One author's hash-linked log: blocks, their signatures and their ids.
//!
//! A [`Block`] carries up to 256 entries under one signature, names the block before it and the heads of other logs
//! that its author had seen. On the wire it travels in a fixed envelope of version, payload and signature. The
//! received bytes are what is stored and hashed: nothing is ever encoded again. [`crate::logset`] decides whether
//! blocks of one author fit together.

mod share;

use std::sync::Arc;

use bincode::{Decode, Encode};

use crate::codec::{self, CodecError};
use crate::entry::Entry;
use crate::hash::{self, Domain};
use crate::id::{BlockId, NetworkId, PeerId, Scope, Seq};
use crate::limits;
use crate::reject::Rejection;
use crate::sign::{self, SecretKey, Signature};
use crate::time::Timestamp;

pub use share::share_blocks;

/// The envelope version of this release.
pub const ENVELOPE_VERSION: u8 = 1;

/// The newest block of one author's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct LogHead {
    /// The log's author.
    pub author: PeerId,
    /// The block's position.
    pub seq: Seq,
    /// The block.
    pub block: BlockId,
}

/// A link of one author's log in one scope.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Block {
    /// The network it is for.
    pub network: NetworkId,
    /// The author.
    pub author: PeerId,
    /// What the log is about.
    pub scope: Scope,
    /// Position in the log, from 0.
    pub seq: Seq,
    /// The block before; `None` exactly at position 0.
    pub prev: Option<BlockId>,
    /// Heads of other logs that the author had seen, ordered by author, at most one each.
    pub seen: Vec<LogHead>,
    /// The author's wall clock, a claim for people to read.
    pub time: Timestamp,
    /// What is said, 1 to [`limits::MAX_BLOCK_ENTRIES`] entries.
    pub entries: Vec<Entry>,
}

impl Block {
    /// Checks everything that can be checked without any other block.
    ///
    /// # Errors
    /// [`Rejection::Limit`] for a bound, [`Rejection::Link`] for a missing or needless link,
    /// [`Rejection::Contradiction`] for an entry that has no place there.
    pub fn check(&self) -> Result<(), Rejection> {
        if self.entries.is_empty() {
            return Err(Rejection::Contradiction("block without entries"));
        }
        if self.entries.len() > limits::MAX_BLOCK_ENTRIES {
            return Err(Rejection::Limit("entries of a block"));
        }
        if self.seen.len() > limits::MAX_SEEN_HEADS {
            return Err(Rejection::Limit("seen heads of a block"));
        }
        if self.seen.windows(2).any(|w| w[0].author >= w[1].author) {
            return Err(Rejection::Contradiction("seen heads out of order"));
        }
        if self.seen.iter().any(|head| head.author == self.author) {
            return Err(Rejection::Contradiction("block names its own log as seen"));
        }
        if self.seq.0 > limits::MAX_SEQ {
            return Err(Rejection::Limit("blocks of a log"));
        }
        if (self.seq.0 == 0) != self.prev.is_none() {
            return Err(Rejection::Link);
        }
        (self.entries.iter().enumerate()).try_for_each(|(at, entry)| self.check_entry(at, entry))
    }

    fn check_entry(&self, at: usize, entry: &Entry) -> Result<(), Rejection> {
        let run = match (self.scope, entry) {
            (Scope::Run(_), Entry::Publish(_)) => {
                return Err(Rejection::Contradiction("entry of another scope in a run"));
            }
            (_, Entry::Publish(_)) => return entry.check(),
            (Scope::Run(run), _) => run,
            _ => return Err(Rejection::Contradiction("entry of a run in another scope")),
        };
        entry.check()?;
        if let Entry::Create(manifest) = entry {
            if self.seq.0 != 0 || at != 0 {
                return Err(Rejection::Contradiction(
                    "a run is opened by the first entry of a log",
                ));
            }
            if manifest.creator != self.author {
                return Err(Rejection::Contradiction("run opened by another's key"));
            }
            if manifest.run_id() != run {
                return Err(Rejection::Contradiction("manifest of another run"));
            }
        }
        Ok(())
    }
}

/// What travels: version, the block's bytes, the signature over them.
#[derive(Encode, Decode)]
struct Envelope {
    version: u8,
    payload: Vec<u8>,
    signature: Signature,
}

/// A block that passed every check of its own, with the bytes that came.
#[derive(Clone, Debug)]
pub struct SignedBlock {
    bytes: Arc<[u8]>,
    id: BlockId,
    block: Arc<Block>,
}

impl PartialEq for SignedBlock {
    /// Two envelopes of one block are the same block: its id leaves the signature out.
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for SignedBlock {}

impl SignedBlock {
    /// Signs a block of one's own.
    ///
    /// # Errors
    /// What [`Block::check`] finds, [`Rejection::Unauthorised`] when the key is not the author's,
    /// [`Rejection::Limit`] when the bytes exceed [`limits::MAX_BLOCK_BYTES`].
    pub fn sign(block: Block, key: &SecretKey) -> Result<Self, Rejection> {
        if key.peer_id() != block.author {
            return Err(Rejection::Unauthorised);
        }
        block.check()?;
        let payload = codec::encode(&block);
        let id = BlockId(hash::digest(Domain::Block, &payload));
        let envelope = Envelope {
            version: ENVELOPE_VERSION,
            payload,
            signature: key.sign_digest(block.network, Domain::Block, &id.0),
        };
        let bytes = codec::encode(&envelope);
        if bytes.len() > limits::MAX_BLOCK_BYTES {
            return Err(Rejection::Limit("bytes of a block"));
        }
        Ok(Self {
            bytes: bytes.into(),
            id,
            block: Arc::new(block),
        })
    }

    /// Reads a block of `network`: canonical bytes, bounds, links, signature.
    ///
    /// # Errors
    /// The first check that fails, cheapest first.
    pub fn decode(bytes: &[u8], network: NetworkId) -> Result<Self, Rejection> {
        Unverified::decode(bytes, network)?.verify()
    }

    /// The bytes as they were received or first written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of memory that the block takes at most: as it came, decoded, and once more for entries that are
    /// copied into a view.
    pub(crate) fn memory(&self) -> usize {
        let entries = 2 * self.block.entries.len() * size_of::<Entry>();
        3 * self.bytes.len() + entries + size_of::<Block>() + size_of::<Self>()
    }

    /// Bytes that the block counts in its author's log.
    pub fn weight(&self) -> usize {
        weight(self.bytes.len(), &self.block)
    }

    /// The block's name.
    pub fn id(&self) -> BlockId {
        self.id
    }

    /// What it says.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Its position and name, as a head.
    pub fn head(&self) -> LogHead {
        LogHead {
            author: self.block.author,
            seq: self.block.seq,
            block: self.id,
        }
    }
}

fn weight(bytes: usize, block: &Block) -> usize {
    bytes + limits::ENTRY_BYTES * block.entries.len()
}

/// A block that decodes and keeps all bounds, its signature not yet checked.
///
/// Floods bring the same block many times: a peer that already holds [`Unverified::id`] need not spend a signature
/// check on it.
#[derive(Clone, Debug)]
pub struct Unverified {
    bytes: Arc<[u8]>,
    id: BlockId,
    block: Block,
    signature: Signature,
}

impl Unverified {
    /// Everything of [`SignedBlock::decode`] but the signature.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn decode(bytes: &[u8], network: NetworkId) -> Result<Self, Rejection> {
        if let Some(&version) = bytes.first()
            && version != ENVELOPE_VERSION
        {
            return Err(CodecError::Version(version).into());
        }
        let envelope: Envelope = codec::decode::<_, { limits::MAX_BLOCK_BYTES }>(bytes)?;
        let block: Block = codec::decode::<_, { limits::MAX_BLOCK_BYTES }>(&envelope.payload)?;
        if block.network != network {
            return Err(Rejection::Network);
        }
        block.check()?;
        Ok(Self {
            bytes: bytes.into(),
            id: BlockId(hash::digest(Domain::Block, &envelope.payload)),
            block,
            signature: envelope.signature,
        })
    }

    /// The block's name. Says nothing about who wrote it.
    pub fn id(&self) -> BlockId {
        self.id
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes that came.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that it would count in its author's log.
    pub fn weight(&self) -> usize {
        weight(self.bytes.len(), &self.block)
    }

    /// What it claims to say.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Where it claims to stand.
    pub fn head(&self) -> LogHead {
        LogHead {
            author: self.block.author,
            seq: self.block.seq,
            block: self.id,
        }
    }

    /// As [`Unverified::verify`], without checking the signature again: for bytes that the caller knows to have
    /// been verified before, and nothing else.
    pub fn verified_before(self) -> SignedBlock {
        SignedBlock {
            bytes: self.bytes,
            id: self.id,
            block: Arc::new(self.block),
        }
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`Rejection::Signature`].
    pub fn verify(self) -> Result<SignedBlock, Rejection> {
        let Block {
            author, network, ..
        } = self.block;
        sign::verify_digest(author, network, Domain::Block, &self.id.0, &self.signature)?;
        Ok(share::shared(SignedBlock {
            bytes: self.bytes,
            id: self.id,
            block: Arc::new(self.block),
        }))
    }
}

#[cfg(test)]
mod tests;
