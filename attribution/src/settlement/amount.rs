//! Amounts as the chain counts them, and how the books' micro-OPEN become those.

use std::fmt;

use bincode::{Decode, Encode};
use tributary_protocol::id::MicroOpen;

/// Base units of one micro-OPEN: the token has 18 decimals, the books have 6.
const PER_MICRO: u128 = 1_000_000_000_000;
/// Base units of one OPEN.
const PER_OPEN: u128 = 1_000_000 * PER_MICRO;

/// The chain's smallest units of OPEN, 10^-18 of one: `uint128` in contracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct BaseUnits(pub u128);

/// Why an amount cannot be written in the other unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// More than 128 bits of base units.
    #[error(
        "{0} OPEN are more base units than the contract's 128 bits hold; no such amount can be paid, so the books are wrong"
    )]
    Overflow(MicroOpen),
    /// A part of a micro-OPEN.
    #[error(
        "{0} base units are no whole micro-OPEN; round to a multiple of 1,000,000,000,000, because books count in micro-OPEN"
    )]
    Fractional(u128),
}

impl BaseUnits {
    /// The same amount in base units.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn from_micro(amount: MicroOpen) -> Result<Self, AmountError> {
        let units = amount.0.checked_mul(PER_MICRO);
        units.map(Self).ok_or(AmountError::Overflow(amount))
    }

    /// The whole micro-OPEN in it: what is less than one is left out.
    pub fn to_micro_floor(self) -> MicroOpen {
        MicroOpen(self.0 / PER_MICRO)
    }

    /// The same amount in micro-OPEN.
    ///
    /// # Errors
    /// [`AmountError::Fractional`].
    pub fn to_micro(self) -> Result<MicroOpen, AmountError> {
        match self.0.is_multiple_of(PER_MICRO) {
            true => Ok(MicroOpen(self.0 / PER_MICRO)),
            false => Err(AmountError::Fractional(self.0)),
        }
    }

    /// The sum, or nothing beyond 128 bits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// What is left after `other`, at least nothing.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// In OPEN, with all 18 decimals.
impl fmt::Display for BaseUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:018}", self.0 / PER_OPEN, self.0 % PER_OPEN))
    }
}
