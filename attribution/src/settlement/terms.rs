//! What a run's money is bound by on the chain, and what members sign about it.
//!
//! A run's key is the hash of its id and of all its terms, so that nobody can open it with other terms: other terms are
//! another key. Every statement names the key, and its digest the chain and the contract, so that a signature says nothing
//! anywhere else.

use std::fmt;

use alloy_primitives::{B256, b256};
use alloy_sol_types::SolStruct;
use bincode::{Decode, Encode};
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{PeerId, Ppb, RunId};

use super::{Address, BaseUnits, Keccak, abi::sol as abi, digest, typed::sol};

/// Name of the contract in typed data.
const NAME: &str = "Tributary Settlement";

/// Number of an EVM chain (EIP-155): OpenLedger's is 1612.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ChainId(pub u64);

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a contract lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Deployment {
    /// On which chain.
    pub chain: ChainId,
    /// At which address.
    pub contract: Address,
}

/// Hash of the code that makes a run's till (`contracts/artifacts/HASHES`): with the contract's address and the run's key it
/// fixes the till's.
const TILL_CODE: B256 = b256!("62fb3e6b83ea3b1d5900d374f4cfe8979080f0329026f429ffd9248183c3bb1a");

impl Deployment {
    /// The address where a run's fees arrive, if the contract here is `Settlement`; it need not exist yet.
    pub fn till(&self, run: Key) -> Address {
        let contract = alloy_primitives::Address::from(self.contract);
        Address(contract.create2(run.0.0, TILL_CODE).into_array())
    }
}

/// A run on the chain: hash of its [`Terms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Key(pub Keccak);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What the run's money is bound by for as long as the run lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Terms {
    /// The run, as the ledger names it.
    pub run: RunId,
    /// Who deposits, and takes back what no root promised.
    pub sponsor: Address,
    /// Who decides challenges instead of the quorum.
    pub arbiter: Option<Address>,
    /// By how much the promises out of the deposit may rise, base units a second.
    pub rate_per_s: BaseUnits,
    /// What whoever challenges a root puts up.
    pub challenge_bond: BaseUnits,
    /// Stake of the run without which no root is posted: two thirds of a handful are no quorum.
    pub min_stake: BaseUnits,
    /// How long a root waits for challenges, and new stake until it counts.
    pub window_s: u64,
    /// How long stake waits before it leaves.
    pub cooldown_s: u64,
    /// How long no root may be accepted before the sponsor may end the run's settlement.
    pub halt_s: u64,
}

/// The longest time in terms: ten years, so that no sum of times leaves the chain's numbers.
const LONGEST_S: u64 = 3650 * 24 * 3600;
/// Windows that stake and a silent run wait at least: one for a root, one for its challenge, one for the answer.
const LEAST_WINDOWS: u64 = 3;

/// Why the contract would refuse terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// Nobody deposits.
    #[error("the sponsor of the terms is address 0; name the account that deposits")]
    NoSponsor,
    /// A window of no time.
    #[error("the window is 0 s, so no root could be challenged; set at least 1")]
    NoWindow,
    /// A time beyond ten years.
    #[error(
        "the {name} is {found_s} s, and the contract takes {LONGEST_S} s at most; set a shorter one"
    )]
    TooLong {
        /// Which time.
        name: &'static str,
        /// How long it is.
        found_s: u64,
    },
    /// A time of less than three windows.
    #[error(
        "the {name} is {found_s} s, and stake or deposit could leave while a root still waits; set {least_s} s at least, three \
         windows"
    )]
    TooShort {
        /// Which time.
        name: &'static str,
        /// How long it is.
        found_s: u64,
        /// How long it has to be.
        least_s: u64,
    },
}

impl Terms {
    /// Whether the contract takes a deposit under these terms.
    ///
    /// # Errors
    /// [`TermsError`].
    pub fn check(&self) -> Result<(), TermsError> {
        if self.sponsor.is_zero() {
            return Err(TermsError::NoSponsor);
        }
        if self.window_s == 0 {
            return Err(TermsError::NoWindow);
        }
        let waits = [("cooldown", self.cooldown_s), ("halt", self.halt_s)];
        let mut times = waits.into_iter().chain([("window", self.window_s)]);
        if let Some((name, found_s)) = times.find(|(_, time)| *time > LONGEST_S) {
            return Err(TermsError::TooLong { name, found_s });
        }
        let least_s = LEAST_WINDOWS * self.window_s;
        match waits.into_iter().find(|(_, time)| *time < least_s) {
            Some((name, found_s)) => Err(TermsError::TooShort {
                name,
                found_s,
                least_s,
            }),
            None => Ok(()),
        }
    }

    /// The run's name in the contract: `hashStruct(Terms)`, without chain and contract.
    pub fn key(&self) -> Key {
        let terms = abi::Terms::from(self);
        Key(Keccak(terms.eip712_hash_struct().0))
    }
}

/// What members sign at every height: what everybody earned so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Root {
    /// The run.
    pub run: Key,
    /// Height whose certificate the books follow.
    pub height: u64,
    /// Hash of the Merkle-sum tree over accounts ([`super::Balances`]).
    pub balances: Keccak,
    /// Sum of all balances.
    pub total: BaseUnits,
    /// The part of the total that fees cover; the rest is promised out of the deposit.
    pub fees: BaseUnits,
    /// Root of the Merkle tree over statement lines ([`super::Lines`]).
    pub lines: Keccak,
    /// Whether no later root promises more of the deposit; fees go on.
    pub closed: bool,
}

impl Root {
    /// What members sign.
    pub fn digest(&self, deployment: &Deployment) -> Keccak {
        digest(NAME, deployment, &abi::Root::from(self))
    }
}

/// What an account signs to be where a peer is paid. The peer's own key signs the entry that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Binding {
    /// The run.
    pub run: Key,
    /// The peer that is to be paid there.
    pub peer: PeerId,
}

impl Binding {
    /// What the account signs.
    pub fn digest(&self, deployment: &Deployment) -> Keccak {
        let bind = sol::Bind {
            run: self.run.0.into(),
            peer: (*self.peer.as_bytes()).into(),
        };
        digest(NAME, deployment, &bind)
    }
}

/// What a payer signs to agree to the shares of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement<'a> {
    /// The channel that paid for it.
    pub channel: Keccak,
    /// What the channel was charged, this answer included.
    pub charged: BaseUnits,
    /// Hash of the request's body.
    pub request: Digest,
    /// Hash of the answer's text.
    pub text: Digest,
    /// Contributors with their shares in billionths, ordered by peer.
    pub shares: &'a [(PeerId, Ppb)],
}

impl Agreement<'_> {
    /// What the key signs that signs the channel's vouchers. The shares stand in it as the hash of each peer's 32 bytes and
    /// its share's four, most significant first.
    pub fn digest(&self, deployment: &Deployment) -> Keccak {
        let lines = self.shares.iter().flat_map(|(peer, share)| {
            let share = share.0.to_be_bytes();
            peer.as_bytes().iter().copied().chain(share)
        });
        let lines: Vec<u8> = lines.collect();
        let agreed = sol::AnswerShares {
            channel: self.channel.into(),
            charged: self.charged.0,
            request: (*self.request.as_bytes()).into(),
            text: (*self.text.as_bytes()).into(),
            shares: Keccak::of(&[&lines]).into(),
        };
        digest(NAME, deployment, &agreed)
    }
}

/// A quorum's verdict that an account loses stake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Slash {
    /// The run.
    pub run: Key,
    /// Whose stake.
    pub account: Address,
    /// How much of it.
    pub amount: BaseUnits,
    /// Hash of the public evidence.
    pub evidence: Keccak,
}

impl Slash {
    /// What members sign.
    pub fn digest(&self, deployment: &Deployment) -> Keccak {
        let slash = sol::Slash {
            run: self.run.0.into(),
            account: self.account.into(),
            amount: self.amount.0,
            evidence: self.evidence.into(),
        };
        digest(NAME, deployment, &slash)
    }
}

/// A quorum's answer to a challenge: the root stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Confirm {
    /// The run.
    pub run: Key,
    /// Height of the root.
    pub height: u64,
    /// Digest of the root, as it was signed.
    pub root: Keccak,
}

impl Confirm {
    /// What members sign.
    pub fn digest(&self, deployment: &Deployment) -> Keccak {
        let confirm = sol::Confirm {
            run: self.run.0.into(),
            height: self.height,
            root: self.root.into(),
        };
        digest(NAME, deployment, &confirm)
    }
}
