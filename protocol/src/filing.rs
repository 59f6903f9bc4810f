//! What a member files for the run's books: entries that say nothing about training, and that certificates put in order.
//!
//! A round's value names **filings** ([`crate::round::RoundValue::filings`]), and that alone gives them their place. What
//! they come to is for whoever keeps the books: here a filing has bounds and an author, and no meaning. So a filing that
//! comes to nothing (a signature that does not verify, a transaction that is refused) makes no value invalid.

mod dispute;

use bincode::{Decode, Encode};

use crate::entry::Entry;
use crate::hash::Digest;
use crate::id::{MicroOpen, PeerId, Ppb, Round};
use crate::limits;
use crate::reject::Rejection;

pub use dispute::{DisputeStep, Disputed, Finding};

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

/// A member's answer to a challenge on the chain: the root that was posted for a height is the one that follows from the
/// run's certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Confirm {
    /// The height.
    pub round: Round,
    /// Digest of the root, as it was signed.
    pub root: Digest,
    /// By the author's account, over run, height and root.
    pub signature: EvmSignature,
}

/// A call of a contract on the test chain, from the author's account.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Transaction {
    /// The contract.
    pub to: EvmAddress,
    /// What is called, and with what.
    pub data: Vec<u8>,
}

/// Answers that the author served and charged to one payment channel, in the order in which they were charged. Filed before
/// the channel's money is claimed: what comes without is split by the run's credits.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Answers {
    /// Who deposited in the channel.
    pub payer: EvmAddress,
    /// Whose key signs its vouchers; zero: the payer's.
    pub payer_authorizer: EvmAddress,
    /// How long a withdrawal waits, seconds.
    pub withdraw_delay_s: u32,
    /// Tells channels of the same parties apart.
    pub salt: [u8; 32],
    /// What the channel was charged before the first of them.
    pub before: MicroOpen,
    /// The answers: one to [`limits::MAX_ANSWERS`].
    pub answers: Vec<PaidAnswer>,
}

/// One answer that somebody paid for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PaidAnswer {
    /// The adapter that answered: hash of its numbers.
    pub adapter: Digest,
    /// Hash of the request, as its server keeps it.
    pub request: Digest,
    /// Hash of the response.
    pub response: Digest,
    /// Tokens that were read.
    pub prompt_tokens: u32,
    /// Tokens that were written.
    pub answer_tokens: u32,
    /// What the channel was charged.
    pub fee: MicroOpen,
    /// Whose data shaped it, if whoever paid agreed.
    pub shares: Option<AgreedShares>,
}

/// Shares of one answer that its payer signed. What they leave of one billion is nobody's.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AgreedShares {
    /// Hash of the answer's text, as the payer read it.
    pub text: Digest,
    /// Contributors with their shares, ordered by peer.
    pub shares: Vec<(PeerId, Ppb)>,
    /// By the key that signs the channel's vouchers.
    pub signature: EvmSignature,
}

impl Answers {
    /// What the channel was charged, all of these included.
    pub fn after(&self) -> MicroOpen {
        let fees = self.answers.iter().map(|answer| answer.fee.0);
        MicroOpen(fees.fold(self.before.0, u128::saturating_add))
    }

    pub(crate) fn check(&self) -> Result<(), Rejection> {
        if !(1..=limits::MAX_ANSWERS).contains(&self.answers.len()) {
            return Err(Rejection::Limit("answers of an entry"));
        }
        if self.answers.iter().any(|answer| answer.fee == MicroOpen(0)) {
            return Err(Rejection::Contradiction("a paid answer that cost nothing"));
        }
        if self.after().0 > limits::MAX_BUDGET_MICRO_OPEN {
            return Err(Rejection::Limit("fees of a channel"));
        }
        let agreed = || self.answers.iter().filter_map(|one| one.shares.as_ref());
        let lines: usize = agreed().map(|agreed| agreed.shares.len()).sum();
        if lines > limits::MAX_ANSWER_SHARES {
            return Err(Rejection::Limit("shares of answers"));
        }
        agreed().try_for_each(AgreedShares::check)
    }
}

impl AgreedShares {
    fn check(&self) -> Result<(), Rejection> {
        if self.shares.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(Rejection::Contradiction("shares of an answer out of order"));
        }
        let sum: u64 = (self.shares.iter())
            .map(|(_, share)| u64::from(share.0))
            .sum();
        match sum <= u64::from(Ppb::ONE.0) {
            true => Ok(()),
            false => Err(Rejection::Contradiction("shares of more than an answer")),
        }
    }
}

impl RootSignature {
    pub(crate) fn check(&self) -> Result<(), Rejection> {
        check_height(self.round)
    }
}

impl Confirm {
    pub(crate) fn check(&self) -> Result<(), Rejection> {
        check_height(self.round)
    }
}

fn check_height(of_root: Round) -> Result<(), Rejection> {
    match of_root.0 <= limits::MAX_HEIGHT {
        true => Ok(()),
        false => Err(Rejection::Limit("height of a root")),
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
            Self::Bind(_)
                | Self::RootSignature(_)
                | Self::Transaction(_)
                | Self::Answers(_)
                | Self::Confirm(_)
                | Self::Dispute(_)
        )
    }
}
