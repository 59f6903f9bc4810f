//! One line of a run's books with everything that proves it, so that a reader needs nothing else.
//!
//! ```text
//!   balance or line ─ path ─► root ─ digest ─► signatures ─ recover ─► stakes that signed > 2/3 of all stakes
//!                              terms ─ key ─┘
//! ```
//!
//! What a bundle cannot prove is that its stakes are those of the chain; [`Checked`] hands them out with the height, to be
//! compared with an anchor or with the contract.

use bincode::{Decode, Encode};
use tributary_protocol::codec::{self, CodecError};

use super::{
    Address, BalanceProof, BaseUnits, Deployment, LineProof, MAX_BUNDLE_BYTES, MAX_LINE_BYTES,
    MAX_SIGNATURES, MAX_STAKES, ProofError, Root, Signature, SignatureError, Terms,
};

/// What one member can lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Stake {
    /// The member's address.
    pub account: Address,
    /// How much of its stake counts.
    pub amount: BaseUnits,
}

/// What is proven.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Subject {
    /// What an account earned so far.
    Balance(BalanceProof),
    /// A line of a statement.
    Line {
        /// The line.
        bytes: Vec<u8>,
        /// That it is among those that were signed.
        proof: LineProof,
    },
}

/// One proven line.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Bundle {
    /// The contract that the root was signed for.
    pub deployment: Deployment,
    /// What the run's money is bound by.
    pub terms: Terms,
    /// What was signed.
    pub root: Root,
    /// All stakes of the run that count at the root's height, in the order of their accounts.
    pub stakes: Vec<Stake>,
    /// In the order of the signers' accounts.
    pub signatures: Vec<Signature>,
    /// What is proven.
    pub subject: Subject,
}

/// What a bundle proves, given its stakes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Who signed, in the order of accounts. A signature without stake adds nothing, and may be of another root.
    pub signers: Vec<Address>,
    /// Their stake.
    pub signed: BaseUnits,
    /// All stake.
    pub staked: BaseUnits,
}

/// Why a bundle proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// No bundle's bytes.
    #[error("the bytes are no proof of a line: {0}; ask for the proof again")]
    Codec(#[from] CodecError),
    /// More than a bundle holds.
    #[error("{found} {what} where a proof has at most {limit}; ask for the proof again")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The root is another run's, or the run's under other terms.
    #[error("the root was signed for other terms than the proof shows; ask for the proof again")]
    OtherTerms,
    /// Stakes that do not strictly rise by account.
    #[error("the stake of {0} is listed out of order or twice; ask for the proof again")]
    StakesOrder(Address),
    /// Stakes beyond 128 bits.
    #[error("the stakes add up to more than 128 bits, which no token has; the proof is forged")]
    Overflow,
    /// A signature that nobody can have made.
    #[error("one of the signatures is nobody's: {0}")]
    Signature(#[from] SignatureError),
    /// Signers that do not strictly rise by account.
    #[error("the signature of {0} stands out of order or twice; ask for the proof again")]
    SignersOrder(Address),
    /// Not more than two thirds.
    #[error(
        "{signed} OPEN of {staked} signed, and more than two thirds must; wait for a root that more members signed"
    )]
    NoQuorum {
        /// Stake of those that signed.
        signed: BaseUnits,
        /// All stake.
        staked: BaseUnits,
    },
    /// The line is not under the root.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl Bundle {
    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads canonical bytes, at most [`MAX_BUNDLE_BYTES`].
    ///
    /// # Errors
    /// [`BundleError::Codec`] and [`BundleError::TooMany`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BundleError> {
        let bundle: Self = codec::decode::<_, MAX_BUNDLE_BYTES>(bytes)?;
        bundle.check_limits()?;
        Ok(bundle)
    }

    /// Checks everything that bytes can show: terms, signatures, quorum, and the path from the line to the root.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn check(&self) -> Result<Checked, BundleError> {
        self.check_limits()?;
        if self.root.run != self.terms.key() {
            return Err(BundleError::OtherTerms);
        }
        match &self.subject {
            Subject::Balance(proof) => proof.check(&self.root.balances, self.root.total)?,
            Subject::Line { bytes, proof } => proof.check(bytes, &self.root.lines)?,
        }
        let staked = self.staked()?;
        let (signers, signed) = self.signed()?;
        assert!(signed <= staked, "signers are among the stakes");
        // More than two thirds signed where less than one third is missing.
        if staked.0 - signed.0 >= staked.0.div_ceil(3) {
            return Err(BundleError::NoQuorum { signed, staked });
        }
        Ok(Checked {
            signers,
            signed,
            staked,
        })
    }

    fn check_limits(&self) -> Result<(), BundleError> {
        let line = match &self.subject {
            Subject::Line { bytes, .. } => bytes.len(),
            Subject::Balance(_) => 0,
        };
        let counts = [
            ("stakes", self.stakes.len(), MAX_STAKES),
            ("signatures", self.signatures.len(), MAX_SIGNATURES),
            ("bytes of a line", line, MAX_LINE_BYTES),
        ];
        match counts.into_iter().find(|(_, found, limit)| found > limit) {
            Some((what, found, limit)) => Err(BundleError::TooMany { what, found, limit }),
            None => Ok(()),
        }
    }

    fn staked(&self) -> Result<BaseUnits, BundleError> {
        if let Some(account) = first_out_of_order(self.stakes.iter().map(|one| one.account)) {
            return Err(BundleError::StakesOrder(account));
        }
        let sum = sum(self.stakes.iter().map(|one| one.amount));
        sum.ok_or(BundleError::Overflow)
    }

    /// Who signed, and their stake, as the contract counts it. Stakes are in order.
    fn signed(&self) -> Result<(Vec<Address>, BaseUnits), BundleError> {
        let digest = self.root.digest(&self.deployment);
        let signers = self.signatures.iter().map(|one| one.recover(&digest));
        let signers: Vec<Address> = signers.collect::<Result<_, _>>()?;
        if let Some(account) = first_out_of_order(signers.iter().copied()) {
            return Err(BundleError::SignersOrder(account));
        }
        let stake = |account: &Address| {
            let at = (self.stakes).binary_search_by_key(account, |one| one.account);
            at.map(|at| self.stakes[at].amount).ok()
        };
        let signed = sum(signers.iter().filter_map(stake)).ok_or(BundleError::Overflow)?;
        Ok((signers, signed))
    }
}

fn first_out_of_order(accounts: impl Iterator<Item = Address>) -> Option<Address> {
    let mut before = None;
    for account in accounts {
        if before.is_some_and(|before| before >= account) {
            return Some(account);
        }
        before = Some(account);
    }
    None
}

fn sum(amounts: impl IntoIterator<Item = BaseUnits>) -> Option<BaseUnits> {
    let mut amounts = amounts.into_iter();
    amounts.try_fold(BaseUnits(0), BaseUnits::checked_add)
}
