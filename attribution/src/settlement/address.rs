//! Accounts of an EVM chain.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::hex;
use bincode::{Decode, Encode};

/// The account of a key or of a contract. Ordered as the number that its bytes are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Address(pub [u8; 20]);

impl Address {
    /// Address 0: nobody. It is the first leaf of every tree of balances.
    pub const ZERO: Self = Self([0; 20]);
    /// Address 2^160 - 1: nobody. It is the last leaf of every tree of balances.
    pub const LAST: Self = Self([0xff; 20]);

    /// Whether it is address 0, which contracts read as "none".
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

/// As people write it: `0x`, and 40 digits whose capitals are a checksum (EIP-55).
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&alloy_primitives::Address::from(self.0).to_checksum(None))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `0x`.
    #[error("an address begins with 0x; copy it whole")]
    Prefix,
    /// Too short or too long.
    #[error("an address has 40 hexadecimal digits after 0x, this one has {0}; copy it whole")]
    Length(usize),
    /// Not hexadecimal.
    #[error("an address has only the digits 0 to 9 and a to f after 0x; copy it anew")]
    Digit,
    /// Capitals that are another address's checksum.
    #[error(
        "the capitals of {found} are not its checksum, so a digit may be wrong; copy it anew, or write it in small letters if you \
         are sure of it"
    )]
    Checksum {
        /// What was written.
        found: String,
    },
}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads 40 digits after `0x`. Capitals must be the checksum, unless there are none or nothing else.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("0x").ok_or(AddressError::Prefix)?;
        if digits.chars().count() != 40 {
            return Err(AddressError::Length(digits.chars().count()));
        }
        // Checked here, because the decoder takes a prefix of its own.
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(AddressError::Digit);
        }
        let bytes = hex::decode_to_array(digits).map_err(|_| AddressError::Digit)?;
        let address = Self(bytes);
        let has = |test: fn(&u8) -> bool| digits.as_bytes().iter().any(test);
        let is_mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
        if is_mixed && address.to_string() != text {
            let found = text.to_string();
            return Err(AddressError::Checksum { found });
        }
        Ok(address)
    }
}
