//! Vouchers of x402's scheme `batch-settlement` on EVM chains: how much of a channel's deposit its server may claim, signed
//! by its payer.
//!
//! ```text
//!   ChannelConfig ── EIP-712 ──► ChannelId ┐
//!                    total so far ─────────┴─► Voucher ── payer's signature
//!   Authorization ── payer's signature ──► Channels::deposit_authorized, sent by anybody
//!   Channel (server):  offer(voucher) ──► Kept, to be stored before the answer ──► charge ──► due ──► Claim
//! ```
//!
//! Types, names and the contract's address are those of npm's `@x402/evm` 2.27.0; `tests/x402/golden.json` holds them against
//! it. A channel belongs to one payer and one receiver, its id is the hash of its configuration, and a voucher names a total
//! that replaces every lower one. Nothing is reserved by a voucher and none expires: what a server has not claimed when the
//! payer's withdrawal becomes final is lost to it. So [`Channel`] takes no voucher once a withdrawal is announced, and says
//! when to claim.

pub mod authorization;
pub mod calls;
mod channel;
mod typed;

use std::fmt;

use bincode::{Decode, Encode};
use tributary_protocol::id::MicroOpen;

use crate::settlement::{
    Address, AmountError, BaseUnits, ChainId, Deployment, Keccak, Signature, SignatureError,
};

pub use authorization::{Authorization, AuthorizationError, STOCK_COLLECTOR, TokenDomain};
pub use channel::{
    Channel, ChargeError, Claim, Due, Kept, OnChain, Reason, RestoreError, Withdrawal,
};

/// Where the scheme's stock client expects the contract, on every chain.
pub const STOCK_CONTRACT: Address = Address([
    0x40, 0x20, 0x07, 0x4e, 0x9d, 0xf2, 0xce, 0x1d, 0xee, 0x5a, 0x9c, 0x1b, 0x5c, 0x3f, 0x54, 0x1d,
    0x02, 0xa1, 0x00, 0x03,
]);
/// Shortest wait between a withdrawal's announcement and its end that the scheme allows: a quarter of an hour.
pub const MIN_WITHDRAW_DELAY_S: u32 = 900;
/// Longest one: thirty days.
pub const MAX_WITHDRAW_DELAY_S: u32 = 2_592_000;

/// The scheme's contract on a chain, at [`STOCK_CONTRACT`].
pub fn stock(chain: ChainId) -> Deployment {
    Deployment {
        chain,
        contract: STOCK_CONTRACT,
    }
}

/// A channel's name on one chain: hash of its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ChannelId(pub Keccak);

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Who pays whom, in what, and who signs for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ChannelConfig {
    /// Who deposits.
    pub payer: Address,
    /// Whose key signs vouchers; address 0 means the payer's.
    pub payer_authorizer: Address,
    /// Who is paid.
    pub receiver: Address,
    /// Whose key signs claims and refunds for the receiver.
    pub receiver_authorizer: Address,
    /// The ERC-20 token.
    pub token: Address,
    /// How long a withdrawal waits after its announcement.
    pub withdraw_delay_s: u32,
    /// Tells channels of the same parties apart.
    pub salt: [u8; 32],
}

/// What a server asks of the channels that it is paid through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirements {
    /// Who is paid.
    pub receiver: Address,
    /// Whose key signs for the receiver.
    pub receiver_authorizer: Address,
    /// The ERC-20 token.
    pub token: Address,
    /// How long withdrawals wait.
    pub withdraw_delay_s: u32,
}

/// Why a server takes nothing through a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An address is another one.
    #[error(
        "the channel's {field} is {found}, and this server asks for {wanted}; open a channel with the server's terms"
    )]
    Other {
        /// Which address.
        field: &'static str,
        /// The channel's.
        found: Address,
        /// The server's.
        wanted: Address,
    },
    /// Withdrawals wait another time.
    #[error(
        "withdrawals of the channel wait {found_s} s, and this server asks for {wanted_s} s; open a channel with the server's terms"
    )]
    OtherDelay {
        /// The channel's.
        found_s: u32,
        /// The server's.
        wanted_s: u32,
    },
    /// Withdrawals wait a time that the contract refuses.
    #[error(
        "withdrawals of the channel wait {0} s, and the scheme allows {MIN_WITHDRAW_DELAY_S} to {MAX_WITHDRAW_DELAY_S} s; open \
         another channel"
    )]
    Delay(u32),
}

impl ChannelConfig {
    /// The channel's name.
    pub fn id(&self, scheme: &Deployment) -> ChannelId {
        ChannelId(typed::config(self, scheme))
    }

    /// Whose key signs vouchers.
    pub fn voucher_signer(&self) -> Address {
        match self.payer_authorizer.is_zero() {
            true => self.payer,
            false => self.payer_authorizer,
        }
    }

    /// Whether a server that asks for this is paid through the channel.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn check(&self, wanted: &Requirements) -> Result<(), ConfigError> {
        let same = |field, found: Address, wanted: Address| match found == wanted {
            true => Ok(()),
            false => Err(ConfigError::Other {
                field,
                found,
                wanted,
            }),
        };
        same("receiver", self.receiver, wanted.receiver)?;
        let authorizer = (self.receiver_authorizer, wanted.receiver_authorizer);
        same("receiver authorizer", authorizer.0, authorizer.1)?;
        same("token", self.token, wanted.token)?;
        let found_s = self.withdraw_delay_s;
        if !(MIN_WITHDRAW_DELAY_S..=MAX_WITHDRAW_DELAY_S).contains(&found_s) {
            return Err(ConfigError::Delay(found_s));
        }
        let wanted_s = wanted.withdraw_delay_s;
        match found_s == wanted_s {
            true => Ok(()),
            false => Err(ConfigError::OtherDelay { found_s, wanted_s }),
        }
    }
}

/// That the server of a channel may claim `max` of it, all before included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Voucher {
    /// The channel.
    pub channel: ChannelId,
    /// The total.
    pub max: BaseUnits,
    /// Of the payer, or of whom it authorized.
    pub signature: Signature,
}

/// Why a voucher pays for nothing. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    /// It is of another channel.
    #[error(
        "the voucher is for the channel {named}, and the configuration beside it is that of {found}; send the two that belong \
         together"
    )]
    OtherChannel {
        /// The voucher's.
        named: ChannelId,
        /// The configuration's.
        found: ChannelId,
    },
    /// Nobody's signature.
    #[error("the voucher is not signed: {0}")]
    Signature(#[from] SignatureError),
    /// Another key's signature, or one of another total.
    #[error(
        "the voucher is signed by {found}, and the channel's are signed by {wanted}; sign this total with that key. A contract \
         that pays has to name a key as payerAuthorizer"
    )]
    OtherSigner {
        /// Whose key it was.
        found: Address,
        /// Whose it should be.
        wanted: Address,
    },
    /// A part of a micro-OPEN.
    #[error("the voucher's total is refused: {0}")]
    Amount(#[from] AmountError),
    /// Below an earlier one.
    #[error(
        "the voucher's total of {total} OPEN is below {highest} OPEN, which an earlier one has; sign at least that"
    )]
    Lower {
        /// This voucher's.
        total: MicroOpen,
        /// The highest so far.
        highest: MicroOpen,
    },
    /// Not above what was claimed.
    #[error(
        "the voucher's total of {total} OPEN is not above {claimed} OPEN, which were claimed on the chain; sign a higher one"
    )]
    Claimed {
        /// This voucher's.
        total: MicroOpen,
        /// What was claimed.
        claimed: BaseUnits,
    },
    /// Above the deposit.
    #[error(
        "the voucher's total of {total} OPEN is above the channel's deposit of {deposit} OPEN; deposit more, or ask for less"
    )]
    AboveDeposit {
        /// This voucher's.
        total: MicroOpen,
        /// What was ever deposited and not withdrawn.
        deposit: BaseUnits,
    },
    /// A withdrawal is announced.
    #[error(
        "the channel is closing: a withdrawal of {amount} OPEN is announced on the chain; open another channel, or wait until it \
         is final"
    )]
    Closing {
        /// What will be withdrawn.
        amount: BaseUnits,
    },
}

impl Voucher {
    /// What the payer signs.
    pub fn digest(channel: ChannelId, max: BaseUnits, scheme: &Deployment) -> Keccak {
        typed::voucher(channel, max, scheme)
    }

    /// Whether it belongs to the channel and its payer signed it. It costs one recovery of a key.
    ///
    /// # Errors
    /// [`VoucherError::OtherChannel`], [`VoucherError::Signature`], [`VoucherError::OtherSigner`].
    pub fn verify(&self, config: &ChannelConfig, scheme: &Deployment) -> Result<(), VoucherError> {
        self.verify_for(config.id(scheme), config.voucher_signer(), scheme)
    }

    fn verify_for(
        &self,
        id: ChannelId,
        wanted: Address,
        scheme: &Deployment,
    ) -> Result<(), VoucherError> {
        if self.channel != id {
            return Err(VoucherError::OtherChannel {
                named: self.channel,
                found: id,
            });
        }
        let digest = Self::digest(self.channel, self.max, scheme);
        let found = self.signature.recover(&digest)?;
        match found == wanted {
            true => Ok(()),
            false => Err(VoucherError::OtherSigner { found, wanted }),
        }
    }
}

/// One channel of a claim of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimEntry {
    /// The channel.
    pub channel: ChannelId,
    /// Total of its voucher.
    pub max: BaseUnits,
    /// Total that is claimed with it, all before included.
    pub total_claimed: BaseUnits,
}

/// What the receiver's authorizer signs, so that anyone may send these claims.
pub fn claim_digest(claims: &[ClaimEntry], scheme: &Deployment) -> Keccak {
    typed::claims(claims, scheme)
}

/// That a part of the deposit goes back to the payer at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refund {
    /// The channel.
    pub channel: ChannelId,
    /// The contract's count of the channel's refunds.
    pub nonce: u64,
    /// How much goes back.
    pub amount: BaseUnits,
}

impl Refund {
    /// What the receiver's authorizer signs.
    pub fn digest(&self, scheme: &Deployment) -> Keccak {
        typed::refund(self, scheme)
    }
}

#[cfg(test)]
mod tests;
