//! The names of things: peers, runs, rounds, positions in logs, amounts.
//!
//! Each is a type of its own so that no two bare integers ever stand side by side.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use bytes::Bytes;

use crate::hash::{Digest, ParseDigestError};

macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
        pub struct $name(pub Digest);

        impl $name {
            /// Ten hexadecimal digits, for people.
            pub fn short(&self) -> String {
                self.0.short()
            }
            /// The raw bytes.
            pub fn as_bytes(&self) -> &[u8; 32] {
                self.0.as_bytes()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0.short())
            }
        }
        impl FromStr for $name {
            type Err = ParseDigestError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(Self(text.parse()?))
            }
        }
    };
}

digest_id!(
    /// An ed25519 public key: the one name of a peer in logs, libp2p and iroh.
    PeerId
);
digest_id!(
    /// Hash of a run's manifest.
    RunId
);
digest_id!(
    /// Hash of a block's canonical bytes, without its signature.
    BlockId
);
digest_id!(
    /// Name of a Datanet.
    DatanetId
);
digest_id!(
    /// Plain BLAKE3 of a blob's content.
    BlobHash
);
digest_id!(
    /// Hash of a run's certified state: round, adapter and roster.
    StateHash
);
digest_id!(
    /// Hash of the value that a round's committee agrees on.
    ValueId
);
digest_id!(
    /// Root of a Merkle tree.
    MerkleRoot
);

/// A round of a run. Round 0 is the genesis that the run's creator certifies; training starts at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Round(pub u32);

impl Round {
    /// The round after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
    /// The round before this one, if any.
    pub fn previous(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Position of a block in its author's log of one scope, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What logs, their heads and balances are about: one log per author and scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Scope {
    /// One peer: where it is paid and what it stakes, whatever runs it takes part in.
    Account(PeerId),
    /// One run.
    Run(RunId),
    /// One Datanet, whatever runs train on it.
    Datanet(DatanetId),
}

impl From<RunId> for Scope {
    fn from(run: RunId) -> Self {
        Self::Run(run)
    }
}

/// Separates networks that must not understand each other's signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct NetworkId(pub u32);

/// A content-addressed blob with its exact size, so that a receiver can refuse it before fetching.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct BlobRef {
    /// Plain BLAKE3 of the content.
    pub hash: BlobHash,
    /// Exact size in bytes.
    pub size: u64,
}

impl BlobRef {
    /// The reference of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            hash: BlobHash(crate::hash::blob(bytes)),
            size: bytes.len() as u64,
        }
    }
}

/// Content with its name, which follows from it. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    hash: BlobHash,
    bytes: Bytes,
}

impl Blob {
    /// Names `bytes` by their hash.
    pub fn of(bytes: Bytes) -> Self {
        let hash = BlobHash(crate::hash::blob(&bytes));
        Self { hash, bytes }
    }

    /// The content of this name, if it is.
    pub fn read(hash: BlobHash, bytes: Bytes) -> Option<Self> {
        Some(Self::of(bytes)).filter(|blob| blob.hash == hash)
    }

    /// Its name.
    pub fn hash(&self) -> BlobHash {
        self.hash
    }

    /// Its content.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Millionths of one OPEN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct MicroOpen(pub u128);

impl fmt::Display for MicroOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Billionths of a nat: losses and scores as integers, so that every peer computes the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct NanoNats(pub i64);

impl NanoNats {
    /// Rounds to the nearest billionth; saturates.
    pub fn from_nats(nats: f64) -> Self {
        Self((nats * 1e9).round() as i64)
    }
    /// As a float, for showing.
    pub fn as_nats(self) -> f64 {
        self.0 as f64 * 1e-9
    }
}

/// Parts per billion: weights, shares and rates as integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Ppb(pub u32);

impl Ppb {
    /// The whole.
    pub const ONE: Self = Self(1_000_000_000);
    /// As a fraction.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) * 1e-9
    }
}
