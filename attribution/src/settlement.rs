//! What settles a run's books on a chain, as bytes: who signs what, and what anyone can prove of it.
//!
//! ```text
//!   accounts and amounts ──► Balances ── root, total ──┐
//!                                                      ├──► Root ── EIP-712 digest ──► signatures of members
//!   statement lines ───────► Lines ───── root ─────────┤
//!   Terms ── key ──────────────────────────────────────┘
//!   one leaf, its path, the root, its signatures, the stakes ──► Bundle::check
//! ```
//!
//! The contract `Settlement` computes the same from the same bytes; `tests/x402/golden.json` holds both against viem.
//! Amounts on the chain are base units, 10^-18 OPEN. Nothing here speaks to a chain: a caller says which contract it means
//! ([`Deployment`]) and brings what it read there. [`calls`] has the bytes of every call, and [`Refused`] what a contract
//! answers when it does nothing.

mod abi;
mod address;
mod amount;
mod balances;
mod bundle;
pub mod calls;
mod keccak;
mod lines;
mod refused;
mod signature;
mod terms;
mod typed;

pub use address::{Address, AddressError};
pub use amount::{AmountError, BaseUnits};
pub use balances::{AbsenceProof, BalanceProof, Balances, BalancesError, SumNode};
pub use bundle::{Bundle, BundleError, Checked, Stake, Subject};
pub use keccak::{Keccak, ParseKeccakError};
pub use lines::{LineProof, LineSum, Lines, Sibling};
pub use refused::Refused;
pub use signature::{EvmKey, KeyError, Signature, SignatureError};
pub use terms::{
    Agreement, Binding, ChainId, Confirm, Deployment, Key, Root, Slash, Terms, TermsError,
};

pub(crate) use typed::digest;

/// Levels of a tree above its leaves: four thousand million leaves, more than a run can have accounts or lines. It bounds
/// what the contract is asked to hash for one proof.
pub const MAX_LEVELS: usize = 32;
/// Accounts of one tree of balances: sixty-four for each member of the largest roster. Such a tree takes 240 MiB.
pub const MAX_ACCOUNTS: usize = 1 << 20;
/// Bytes of one statement line within a bundle; a line names a round, a peer and what it was paid for.
pub const MAX_LINE_BYTES: usize = 4096;
/// Stakes that a bundle lists: sixteen times the members that all vote. Each is an address and an amount.
pub const MAX_STAKES: usize = 1024;
/// Signatures that a bundle carries: at 8,000 gas each, 2 million are about what one transaction should cost at most.
pub const MAX_SIGNATURES: usize = 256;
/// Bytes of an encoded bundle: 256 signatures, 1,024 stakes, 32 siblings, a line, and room for terms and root.
pub const MAX_BUNDLE_BYTES: usize = 64 * 1024;

/// Why a proof proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// More levels than a tree has.
    #[error(
        "the proof has {0} levels where {MAX_LEVELS} are allowed; ask for the proof of this root"
    )]
    TooDeep(usize),
    /// An index beyond the leaves of a tree so high.
    #[error(
        "leaf {index} does not exist in a tree of {levels} levels; ask for the proof of this root"
    )]
    OutsideTree {
        /// Which leaf the proof is of.
        index: u32,
        /// How many siblings it has.
        levels: usize,
    },
    /// Sums beyond 128 bits.
    #[error("the sums of the proof leave 128 bits, which no signed root's do; the proof is forged")]
    Overflow,
    /// It leads to another root.
    #[error("the proof leads to {found} where {wanted} was signed; ask for the proof of this root")]
    OtherRoot {
        /// Where it leads.
        found: Keccak,
        /// What was signed.
        wanted: Keccak,
    },
    /// It leads to another total.
    #[error(
        "the proof adds up to {found} OPEN where {wanted} were signed; ask for the proof of this root"
    )]
    OtherTotal {
        /// What it adds up to.
        found: BaseUnits,
        /// What was signed.
        wanted: BaseUnits,
    },
    /// The two leaves do not stand side by side.
    #[error("leaves {below} and {above} are not neighbours; absence is proven by two that are")]
    NotNeighbours {
        /// Index of the lower one.
        below: u32,
        /// Index of the upper one.
        above: u32,
    },
    /// The address is not between the two leaves.
    #[error(
        "{0} does not stand between the two leaves of the proof; choose the two that bracket it"
    )]
    NotBetween(Address),
}

#[cfg(test)]
mod tests;
