//! Domain-tagged BLAKE3.
//!
//! Every id is the hash of canonical bytes under a domain of its own, so that no byte string can be
//! read as two different things. Blobs are the one exception: their hash is plain BLAKE3, because the
//! data plane (iroh-blobs) addresses and verifies content by it.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use data_encoding::HEXLOWER_PERMISSIVE as HEX;

/// 32 bytes of BLAKE3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Digest([u8; 32]);

impl Digest {
    /// From raw bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Ten hexadecimal digits, for people.
    pub fn short(&self) -> String {
        HEX.encode(&self.0[..5])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEX.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hexadecimal digits")]
pub struct ParseDigestError;

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = HEX.decode(text.as_bytes()).map_err(|_| ParseDigestError)?;
        let bytes = bytes.try_into().map_err(|_| ParseDigestError)?;
        Ok(Self(bytes))
    }
}

/// What a hash is of. The strings are part of the protocol and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// A block of a log.
    Block,
    /// A run's manifest.
    Manifest,
    /// The value a committee agrees on.
    RoundValue,
    /// A run's certified state.
    State,
    /// A roster.
    Roster,
    /// What a peer holds of a range of logs.
    Heads,
    /// A committee member's proposal.
    Proposal,
    /// A committee member's vote.
    Vote,
    /// The beacon, and what a member's chain of links ends with.
    Beacon,
    /// A link of a member's chain, hashed to the link before it.
    BeaconLink,
    /// The draw of a committee.
    Committee,
    /// The draw of the contributors of a round.
    Participants,
    /// The draw of the evaluators of a round.
    Evaluators,
    /// The draw of a jury.
    Jury,
    /// The draw of answers whose shares a jury recomputes.
    ShareCheck,
    /// The order in which authors of filings are served.
    Filings,
    /// The account that a peer is paid at, where it names no other.
    Payout,
    /// The draw of hold-out batches.
    ScoreSeed,
    /// What an evaluator says of its sheet before it shows it.
    SheetSeal,
    /// The random numbers of an adapter's first `A`.
    AdapterInit,
    /// A leaf of a Merkle tree.
    MerkleLeaf,
    /// An inner node of a Merkle tree.
    MerkleNode,
    /// Words in a row, as a shard is searched for them.
    Gram,
    /// A question about a shard, as its asker signs it.
    Question,
    /// An invitation to a run, as the inviter signs it.
    Ticket,
    /// Words in a row, as a member's sketch names them.
    Sketch,
    /// What a join says of its author's sketch before that is open.
    SketchCommitment,
    /// What hides the words of a shard; known to its owner alone.
    Blinding,
    /// The content of a base model folder.
    BaseModel,
    /// What an adapter computes: its shape and its numbers.
    Adapter,
    /// A request for an answer and the voucher that pays for it, by which a repeat is told.
    Repeat,
    /// Anything drawn by a simulation.
    Simulation,
}

impl Domain {
    /// The tag itself: BLAKE3 context of hashes, prefix of signed messages.
    pub fn context(self) -> &'static str {
        match self {
            Self::Block => "tributary 1 block",
            Self::Manifest => "tributary 1 manifest",
            Self::RoundValue => "tributary 1 round value",
            Self::State => "tributary 1 state",
            Self::Roster => "tributary 1 roster",
            Self::Heads => "tributary 1 heads",
            Self::Proposal => "tributary 1 proposal",
            Self::Vote => "tributary 1 vote",
            Self::Beacon => "tributary 1 beacon",
            Self::BeaconLink => "tributary 1 beacon link",
            Self::Committee => "tributary 1 committee",
            Self::Participants => "tributary 1 participants",
            Self::Evaluators => "tributary 1 evaluators",
            Self::Jury => "tributary 1 jury",
            Self::ShareCheck => "tributary 1 share check",
            Self::ScoreSeed => "tributary 1 score seed",
            Self::SheetSeal => "tributary 1 sheet seal",
            Self::AdapterInit => "tributary 1 adapter init",
            Self::MerkleLeaf => "tributary 1 merkle leaf",
            Self::MerkleNode => "tributary 1 merkle node",
            Self::Gram => "tributary 1 gram",
            Self::Question => "tributary 1 question",
            Self::Ticket => "tributary 1 ticket",
            Self::Sketch => "tributary 1 sketch",
            Self::SketchCommitment => "tributary 1 sketch commitment",
            Self::Blinding => "tributary 1 blinding",
            Self::BaseModel => "tributary 1 base model",
            Self::Adapter => "tributary 1 adapter",
            Self::Repeat => "tributary 1 repeat",
            Self::Filings => "tributary 1 filings",
            Self::Payout => "tributary 1 payout",
            Self::Simulation => "tributary 1 simulation",
        }
    }
}

/// An incremental hash under one domain.
#[derive(Clone)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// Starts under `domain`.
    pub fn new(domain: Domain) -> Self {
        Self(blake3::Hasher::new_derive_key(domain.context()))
    }

    /// Adds bytes. Variable-length parts must be length-prefixed by the caller.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// The digest.
    pub fn finalize(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }

    /// An endless stream of bytes, for draws that every peer must repeat.
    pub fn finalize_xof(&self) -> Stream {
        Stream(self.0.finalize_xof())
    }
}

/// Pseudo-random bytes derived from a hash.
pub struct Stream(blake3::OutputReader);

impl Stream {
    /// Fills `buffer` with the next bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        self.0.fill(buffer);
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A number below `bound`, each equally likely (rejection sampling).
    ///
    /// # Panics
    /// If `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        let zone = u64::MAX - u64::MAX % bound;
        loop {
            let draw = self.next_u64();
            if draw < zone {
                return draw % bound;
            }
        }
    }
}

/// Hash of `bytes` under `domain`.
pub fn digest(domain: Domain, bytes: &[u8]) -> Digest {
    Hasher::new(domain).update(bytes).finalize()
}

/// Plain BLAKE3 of a blob's content, as the data plane addresses it.
pub fn blob(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}

/// Names content that comes piece by piece.
#[derive(Default)]
pub(crate) struct BlobHasher {
    hasher: blake3::Hasher,
    size: u64,
}

impl BlobHasher {
    /// More of it.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// The name of all of it.
    pub(crate) fn finish(&self) -> crate::id::BlobRef {
        crate::id::BlobRef {
            hash: crate::id::BlobHash(Digest(*self.hasher.finalize().as_bytes())),
            size: self.size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let digest = digest(Domain::Block, b"x");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!("zz".parse::<Digest>(), Err(ParseDigestError));
    }

    #[test]
    fn domains_separate_equal_bytes() {
        assert_ne!(digest(Domain::Block, b"x"), digest(Domain::Manifest, b"x"));
    }
}
