//! Keccak-256, the chain's hash.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::hex;
use bincode::{Decode, Encode};

/// 32 bytes of Keccak-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Keccak(pub [u8; 32]);

impl Keccak {
    /// The hash of no statement lines, and what an empty storage slot holds.
    pub const ZERO: Self = Self([0; 32]);

    /// Of the parts one after the other.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = alloy_primitives::Keccak256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().0)
    }
}

impl fmt::Display for Keccak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_prefixed(self.0))
    }
}

impl fmt::Debug for Keccak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 0x and 64 hexadecimal digits")]
pub struct ParseKeccakError;

impl FromStr for Keccak {
    type Err = ParseKeccakError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("0x").ok_or(ParseKeccakError)?;
        // The decoder takes a prefix of its own.
        let is_plain = digits.len() == 64 && !digits.starts_with("0x");
        let bytes = is_plain.then(|| hex::decode_to_array(digits).ok());
        bytes.flatten().map(Self).ok_or(ParseKeccakError)
    }
}
