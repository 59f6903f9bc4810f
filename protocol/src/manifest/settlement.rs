//! Where a run's money lies, and what binds it there.

use bincode::{Decode, Encode};

use super::ManifestError;
use super::check::range;
use crate::filing::EvmAddress;
use crate::id::{MicroOpen, Ppb};
use crate::limits;

/// How what a round pays is split. Must add up to one billion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RoundSplit {
    /// Contributors, by credit.
    pub contributors: Ppb,
    /// Evaluators whose sheets count, equally.
    pub evaluators: Ppb,
    /// Members that signed the round's root, by their votes.
    pub members: Ppb,
}

impl Default for RoundSplit {
    /// 90, 5 and 5 in a hundred.
    fn default() -> Self {
        Self {
            contributors: Ppb(900_000_000),
            evaluators: Ppb(50_000_000),
            members: Ppb(50_000_000),
        }
    }
}

/// Where a run's money lies, and what binds it there for as long as the run lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Settlement {
    /// The chain.
    pub chain: SettlementChain,
    /// Who deposits, and takes back what no root promised: an account of the creator's.
    pub sponsor: EvmAddress,
    /// Who decides challenges of posted roots instead of the stake.
    pub arbiter: Option<EvmAddress>,
    /// By how much promises out of the deposit may rise, micro-OPEN a second of the chain's time.
    pub rate_per_s: MicroOpen,
    /// What whoever challenges a root puts up.
    pub challenge_bond: MicroOpen,
    /// Stake of the run without which no root is posted.
    pub min_stake: MicroOpen,
    /// Seconds that a root waits for challenges, and new stake until it counts.
    pub window_s: u32,
    /// Seconds that stake waits before it leaves.
    pub cooldown_s: u32,
    /// Seconds without an accepted root after which the sponsor may end the run's settlement.
    pub halt_s: u32,
}

/// A chain that holds money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SettlementChain {
    /// The test chain: a fold of the run's certified transactions. Its OPEN is worth nothing.
    Test,
    /// A chain that is reached by its nodes.
    Evm {
        /// Its number (EIP-155).
        id: u64,
        /// The settlement contract there.
        contract: EvmAddress,
        /// The one token that it holds.
        token: EvmAddress,
    },
}

impl RoundSplit {
    /// Nothing but to contributors.
    pub const CONTRIBUTORS: Self = Self {
        contributors: Ppb::ONE,
        evaluators: Ppb(0),
        members: Ppb(0),
    };

    pub(super) fn check(&self) -> Result<(), ManifestError> {
        let parts = [self.contributors, self.evaluators, self.members];
        let sum: u64 = parts.iter().map(|part| u64::from(part.0)).sum();
        match sum == u64::from(Ppb::ONE.0) {
            true => Ok(()),
            false => Err(ManifestError::RoundSplit { sum }),
        }
    }
}

impl Settlement {
    /// Windows that stake and a silent run wait at least: one for a root, one for its challenge, one for the answer.
    pub const LEAST_WINDOWS: u32 = 3;

    pub(super) fn check(&self) -> Result<(), ManifestError> {
        if self.sponsor == EvmAddress::default() {
            return Err(ManifestError::Sponsor);
        }
        let most = limits::MAX_SETTLEMENT_S / Self::LEAST_WINDOWS;
        range("settlement.window_s", self.window_s, 1u8, most)?;
        let least = self.window_s * Self::LEAST_WINDOWS;
        let waits = [
            ("settlement.cooldown_s", self.cooldown_s),
            ("settlement.halt_s", self.halt_s),
        ];
        (waits.into_iter())
            .try_for_each(|(at, found)| range(at, found, least, limits::MAX_SETTLEMENT_S))?;
        let amounts = [
            ("settlement.rate_per_s", self.rate_per_s),
            ("settlement.challenge_bond", self.challenge_bond),
            ("settlement.min_stake", self.min_stake),
        ];
        (amounts.into_iter())
            .try_for_each(|(at, found)| range(at, found.0, 0u8, limits::MAX_BUDGET_MICRO_OPEN))
    }
}
