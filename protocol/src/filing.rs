//! What a member files for the run's books: entries that say nothing about training, and that certificates put in order.
//!
//! A round's value names **filings** ([`crate::round::RoundValue::filings`]), and that alone gives them their place. What
//! they come to is for whoever keeps the books: here a filing has bounds and an author, and no meaning. So a filing that
//! comes to nothing (a signature that does not verify, a transaction that is refused) makes no value invalid.

use bincode::{Decode, Encode};

use crate::entry::Entry;
use crate::hash::Digest;
use crate::id::Round;
use crate::limits;
use crate::reject::Rejection;

/// An account of an EVM chain, as its 20 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct EvmAddress(pub [u8; 20]);

/// A signature of an EVM account: r, s and v, as contracts take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct EvmSignature(pub [u8; 65]);

/// Says where the author is paid. The block is signed by the peer's key, the filing by the account's, so nobody binds
/// what is not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Bind {
    /// The account that is paid, and that signs roots.
    pub account: EvmAddress,
    /// Its signature over run and author.
    pub signature: EvmSignature,
}

/// A member's signature under the root of a height: what everybody earned until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RootSignature {
    /// The height.
    pub round: Round,
    /// Digest of the root, as it is signed.
    pub root: Digest,
    /// By the author's account.
    pub signature: EvmSignature,
    /// Digest of the test chain's state at that height, where the run settles there.
    pub chain: Option<Digest>,
}

/// A call of a contract on the test chain, from the author's account.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Transaction {
    /// The contract.
    pub to: EvmAddress,
    /// What is called, and with what.
    pub data: Vec<u8>,
}

impl RootSignature {
    pub(crate) fn check(&self) -> Result<(), Rejection> {
        match self.round.0 <= limits::MAX_HEIGHT {
            true => Ok(()),
            false => Err(Rejection::Limit("height of a root")),
        }
    }
}

impl Transaction {
    pub(crate) fn check(&self) -> Result<(), Rejection> {
        match self.data.len() <= limits::MAX_TRANSACTION_BYTES {
            true => Ok(()),
            false => Err(Rejection::Limit("bytes of a transaction")),
        }
    }
}

impl Entry {
    /// Whether certificates put it in order for the books.
    pub fn is_filing(&self) -> bool {
        matches!(
            self,
            Self::Bind(_) | Self::RootSignature(_) | Self::Transaction(_)
        )
    }
}
