//! One channel as its server sees it: which voucher is the highest, what was charged, and when to claim.
//!
//! It decides and does nothing: the caller stores a [`Kept`] before it answers, reads the chain ([`OnChain`]) and sends the
//! [`Claim`]. Which request a voucher pays for, and what open requests may still cost, is the caller's bookkeeping.
//!
//! ```text
//!   claimed on the chain <= charged <= total of the highest voucher <= deposit       exposure = charged - claimed
//! ```
//!
//! The last inequality holds when a voucher is taken; a withdrawal that becomes final lowers the deposit, and what is charged
//! above it is [`Channel::uncovered`].

use bincode::{Decode, Encode};
use tributary_protocol::codec::{self, CodecError};
use tributary_protocol::id::MicroOpen;

use super::{
    ChannelConfig, ChannelId, ClaimEntry, ConfigError, Refund, Requirements, Voucher, VoucherError,
};
use crate::settlement::{AmountError, BaseUnits, Deployment};

/// Bytes of what is stored of a channel: addresses, salt, a voucher and an amount.
const MAX_KEPT_BYTES: usize = 512;

/// A withdrawal that the payer announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// How much it will take.
    pub amount: BaseUnits,
    /// When it was announced: seconds of the chain's clock.
    pub announced_s: u64,
}

/// What the contract says of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnChain {
    /// What was deposited and not withdrawn, what was claimed included.
    pub deposit: BaseUnits,
    /// What was claimed.
    pub claimed: BaseUnits,
    /// What is announced and not final.
    pub withdrawal: Option<Withdrawal>,
    /// How many refunds there were.
    pub refund_nonce: u64,
}

/// What has to survive a crash: the highest voucher and what was charged.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[must_use = "an answer waits until this is stored"]
pub struct Kept {
    /// The channel's configuration.
    pub config: ChannelConfig,
    /// The highest voucher.
    pub voucher: Voucher,
    /// What was charged, in all.
    pub charged: MicroOpen,
}

impl Kept {
    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads what was stored.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode::<_, MAX_KEPT_BYTES>(bytes)
    }
}

/// Why nothing is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChargeError {
    /// The highest voucher does not cover it.
    #[error(
        "{charged} OPEN and {amount} more are above {highest} OPEN, the total of the channel's highest voucher; ask for a higher \
         one before the answer"
    )]
    NotCovered {
        /// What was charged before.
        charged: MicroOpen,
        /// What was to be charged.
        amount: MicroOpen,
        /// Total of the highest voucher.
        highest: MicroOpen,
    },
}

/// Why what was stored is no channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Its voucher is none of this channel on this chain.
    #[error(
        "a stored channel has a voucher that is not its own: {0}. Was it stored for another chain?"
    )]
    Voucher(#[from] VoucherError),
    /// It charged more than its voucher covers.
    #[error(
        "a stored channel is damaged: {charged} OPEN are charged and its voucher covers {highest}"
    )]
    NotCovered {
        /// What was charged.
        charged: MicroOpen,
        /// Total of the voucher.
        highest: MicroOpen,
    },
}

/// Why a channel should be claimed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// More is charged and not claimed than the server wants to risk.
    Exposed,
    /// The payer takes its deposit back; what is not claimed by then is lost.
    Withdrawal {
        /// When it may become final: seconds of the chain's clock.
        final_s: u64,
    },
}

/// What the contract is sent: a voucher, and how much of it is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The channel.
    pub config: ChannelConfig,
    /// Its highest voucher.
    pub voucher: Voucher,
    /// What is claimed, all before included.
    pub total_claimed: BaseUnits,
}

impl Claim {
    /// What the receiver's authorizer signs of it.
    pub fn entry(&self) -> ClaimEntry {
        ClaimEntry {
            channel: self.voucher.channel,
            max: self.voucher.max,
            total_claimed: self.total_claimed,
        }
    }
}

/// A claim that should be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Why.
    pub reason: Reason,
    /// What to send.
    pub claim: Claim,
}

/// One payer's channel at a server.
#[derive(Clone, Debug)]
pub struct Channel {
    scheme: Deployment,
    config: ChannelConfig,
    id: ChannelId,
    seen: OnChain,
    highest: Option<Voucher>,
    charged: MicroOpen,
}

impl Channel {
    /// A channel that no voucher was taken of.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(
        scheme: Deployment,
        config: ChannelConfig,
        wanted: &Requirements,
        seen: OnChain,
    ) -> Result<Self, ConfigError> {
        config.check(wanted)?;
        Ok(Self {
            id: config.id(&scheme),
            scheme,
            config,
            seen,
            highest: None,
            charged: MicroOpen(0),
        })
    }

    /// A channel from what was stored of it. It may be one that the server would not open today: what was charged can still
    /// be claimed.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn restore(scheme: Deployment, kept: &Kept, seen: OnChain) -> Result<Self, RestoreError> {
        kept.voucher.verify(&kept.config, &scheme)?;
        let highest = kept.voucher.max.to_micro().map_err(VoucherError::from)?;
        let charged = kept.charged;
        if charged > highest {
            return Err(RestoreError::NotCovered { charged, highest });
        }
        Ok(Self {
            id: kept.config.id(&scheme),
            scheme,
            config: kept.config,
            seen,
            highest: Some(kept.voucher),
            charged,
        })
    }

    /// Its name.
    pub fn id(&self) -> ChannelId {
        self.id
    }

    /// What the contract says of it now.
    pub fn see(&mut self, seen: OnChain) {
        self.seen = seen;
    }

    /// Takes a voucher, if it is one that the contract will pay. What is returned has to be stored before the request is
    /// answered. The highest voucher may come again: whether it pays for another request is the caller's question.
    ///
    /// # Errors
    /// [`VoucherError`]; nothing was changed. The signature is checked first, so that only the payer is told where the channel
    /// stands.
    pub fn offer(&mut self, voucher: Voucher) -> Result<Kept, VoucherError> {
        voucher.verify_for(self.id, self.config.voucher_signer(), &self.scheme)?;
        let total = voucher.max.to_micro()?;
        if let Some(Withdrawal { amount, .. }) = self.seen.withdrawal {
            return Err(VoucherError::Closing { amount });
        }
        let highest = self.highest();
        if total < highest {
            return Err(VoucherError::Lower { total, highest });
        }
        let OnChain {
            deposit, claimed, ..
        } = self.seen;
        if voucher.max > deposit {
            return Err(VoucherError::AboveDeposit { total, deposit });
        }
        if voucher.max <= claimed {
            return Err(VoucherError::Claimed { total, claimed });
        }
        self.highest = Some(voucher);
        Ok(self.kept(voucher))
    }

    /// Charges what an answer cost. What is returned has to be stored before the answer counts as paid.
    ///
    /// # Errors
    /// [`ChargeError`]; nothing was changed.
    pub fn charge(&mut self, amount: MicroOpen) -> Result<Kept, ChargeError> {
        let (charged, highest) = (self.charged, self.highest());
        let total = charged.0.checked_add(amount.0).map(MicroOpen);
        match (self.highest, total) {
            (Some(voucher), Some(total)) if total <= highest => {
                self.charged = total;
                Ok(self.kept(voucher))
            }
            _ => Err(ChargeError::NotCovered {
                charged,
                amount,
                highest,
            }),
        }
    }

    fn kept(&self, voucher: Voucher) -> Kept {
        Kept {
            config: self.config,
            voucher,
            charged: self.charged,
        }
    }

    /// Total of the highest voucher; a payer signs no lower one.
    pub fn highest(&self) -> MicroOpen {
        let total = self.highest.map(|voucher| voucher.max.to_micro());
        let total = total.transpose().expect("whole micro-OPEN were taken");
        total.unwrap_or_default()
    }

    /// What was charged, in all.
    pub fn charged(&self) -> MicroOpen {
        self.charged
    }

    /// What was charged and not claimed: what the server loses if it never claims.
    pub fn exposure(&self) -> BaseUnits {
        self.charged_units().saturating_sub(self.seen.claimed)
    }

    /// What was charged and no longer lies in the channel: a final withdrawal took it.
    pub fn uncovered(&self) -> BaseUnits {
        self.charged_units().saturating_sub(self.seen.deposit)
    }

    /// All that can be claimed now, if anything.
    pub fn claim(&self) -> Option<Claim> {
        let total_claimed = self.charged_units().min(self.seen.deposit);
        let voucher = self.highest.filter(|_| total_claimed > self.seen.claimed)?;
        assert!(total_claimed <= voucher.max, "charged within the voucher");
        Some(Claim {
            config: self.config,
            voucher,
            total_claimed,
        })
    }

    /// The claim that should be sent now: exposure is above `limit`, or a withdrawal is announced.
    pub fn due(&self, limit: BaseUnits) -> Option<Due> {
        let claim = self.claim()?;
        let reason = match self.seen.withdrawal {
            Some(Withdrawal { announced_s, .. }) => Reason::Withdrawal {
                final_s: announced_s.saturating_add(self.config.withdraw_delay_s.into()),
            },
            None if self.exposure() > limit => Reason::Exposed,
            None => return None,
        };
        Some(Due { reason, claim })
    }

    /// Gives the payer back `amount` of what was not charged, without a wait; nothing is signed here.
    ///
    /// # Errors
    /// What is left when that is less than `amount`.
    pub fn refund(&self, amount: BaseUnits) -> Result<Refund, BaseUnits> {
        let charged = self.charged_units().max(self.seen.claimed);
        let left = self.seen.deposit.saturating_sub(charged);
        match amount <= left {
            true => Ok(Refund {
                channel: self.id,
                nonce: self.seen.refund_nonce,
                amount,
            }),
            false => Err(left),
        }
    }

    /// A channel's charges never leave 128 bits of base units, because its vouchers do not.
    fn charged_units(&self) -> BaseUnits {
        let units: Result<_, AmountError> = BaseUnits::from_micro(self.charged);
        units.expect("charged within a voucher")
    }
}
