//! One earning of one peer, as it stands under a root.

use bincode::{Decode, Encode};
use tributary_protocol::codec;
use tributary_protocol::id::{MicroOpen, PeerId, Round};

use crate::account::Account;
use crate::fold::{Fact, Posting};
use crate::settlement::{Address, MAX_LINE_BYTES};

/// What a peer earned in one capacity by one height, and where that is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StatementLine {
    /// The round that it was earned in; of what waited, the closing height; of fees, the height at which they came.
    pub round: Round,
    /// Who earned it.
    pub peer: PeerId,
    /// As what.
    pub capacity: Capacity,
    /// How much.
    pub amount: MicroOpen,
    /// Where it is paid.
    pub account: Address,
}

/// What a line is paid for. The numbers are part of what is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Capacity {
    /// A contribution that helped.
    Contributor,
    /// A score sheet that counts.
    Evaluator,
    /// The signature of a round's root.
    Member,
    /// A share of what had waited, when the run closed.
    Closing,
    /// Serving an answer.
    Server,
    /// The signature of a root, where answers pay for it.
    Committee,
    /// Stake in the run, where answers pay for it.
    Staker,
    /// The base model, of answers; the line's peer is the base's hash.
    BaseAuthor,
    /// Contributions that shaped answers.
    Answers,
}

impl Capacity {
    /// In which capacity a posting is earned; none of one that takes, or that no peer holds.
    pub(super) fn of(posting: &Posting, fact: &Fact) -> Option<Self> {
        let capacity = Self::of_account(&posting.account).filter(|_| posting.amount.0 > 0);
        match (capacity, fact) {
            (Some(Self::Contributor), Fact::Closing(_)) => Some(Self::Closing),
            (Some(Self::Contributor), Fact::Fees(_)) => Some(Self::Answers),
            (capacity, _) => capacity,
        }
    }

    /// Whether the run's fees pay for it; what they do not pay for, the deposit does.
    pub fn is_of_fees(self) -> bool {
        match self {
            Self::Contributor | Self::Evaluator | Self::Member | Self::Closing => false,
            Self::Server | Self::Committee | Self::Staker | Self::BaseAuthor | Self::Answers => {
                true
            }
        }
    }

    /// What an account is earned as, if a peer earns it.
    pub(super) fn of_account(account: &Account) -> Option<Self> {
        match account {
            Account::Contributor(_) => Some(Self::Contributor),
            Account::Evaluator(_) => Some(Self::Evaluator),
            Account::Member(_) => Some(Self::Member),
            Account::Server(_) => Some(Self::Server),
            Account::Committee(_) => Some(Self::Committee),
            Account::Staker(_) => Some(Self::Staker),
            Account::BaseAuthor(_) => Some(Self::BaseAuthor),
            _ => None,
        }
    }
}

impl StatementLine {
    /// Reads what [`StatementLine::encode`] wrote.
    ///
    /// # Errors
    /// [`codec::CodecError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, codec::CodecError> {
        codec::decode::<_, MAX_LINE_BYTES>(bytes)
    }

    /// What the tree of lines hashes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }
}
