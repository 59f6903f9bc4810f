//! A payer's signature that funds a channel: EIP-3009's `ReceiveWithAuthorization`, as x402's stock client makes it.
//!
//! The payer signs for its token; whoever has the signature sends the deposit, and the payer needs neither native coin nor a
//! node of the chain. The signature names the collector, the amount and, in its nonce, the channel; so it is good for that
//! channel, payer, token and amount, once, and nothing is won by sending it before somebody else does.

use std::ops::Range;

use bincode::{Decode, Encode};

use super::{ChannelConfig, STOCK_CONTRACT, typed};
use crate::settlement::{
    Address, BaseUnits, Deployment, EvmKey, Keccak, Signature, SignatureError,
};

/// Where the scheme's stock client expects the collector of such deposits, on every chain.
pub const STOCK_COLLECTOR: Address = Address([
    0x40, 0x20, 0x80, 0x60, 0x89, 0x47, 0x0a, 0x89, 0x82, 0x6c, 0xb9, 0xfb, 0x1f, 0x40, 0x59, 0x15,
    0x0b, 0x55, 0x00, 0x04,
]);

/// What a token calls itself in typed data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenDomain<'a> {
    /// Its name there, which need not be that of ERC-20.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The token.
    pub contract: Address,
}

/// That the collector may fetch one amount for one channel from its payer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Authorization {
    /// The token takes it after this second of the chain's clock.
    pub valid_after_s: u64,
    /// And before this one.
    pub valid_before_s: u64,
    /// Tells deposits into one channel apart: each salt is good once.
    pub salt: [u8; 32],
    /// Of the payer.
    pub signature: Signature,
}

/// Why a signed deposit funds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizationError {
    /// Nothing is deposited.
    #[error("the deposit is of 0 OPEN; sign an amount")]
    Nothing,
    /// The channel pays in another token.
    #[error(
        "the channel pays in the token {found}, and the deposit would be checked against {wanted}; open a channel in that token"
    )]
    OtherToken {
        /// The channel's.
        found: Address,
        /// The one whose domain was given.
        wanted: Address,
    },
    /// The contract of channels is another one.
    #[error(
        "the channels are those of {found}, and the collector brings signed deposits to {STOCK_CONTRACT} alone; fund the channel \
         by a transaction of its payer"
    )]
    OtherContract {
        /// The scheme's contract that was given.
        found: Address,
    },
    /// Nobody's signature.
    #[error("the deposit is not signed: {0}")]
    Signature(#[from] SignatureError),
    /// Another key's signature, or one of something else.
    #[error(
        "the deposit is signed by {found}, and the channel's payer is {wanted}; sign ReceiveWithAuthorization of the token for \
         this channel, amount and salt, to the collector {STOCK_COLLECTOR}, with the payer's key. A payer that is a contract \
         funds the channel by a transaction"
    )]
    OtherSigner {
        /// Whose key it was.
        found: Address,
        /// Whose it should be.
        wanted: Address,
    },
    /// Not yet good.
    #[error(
        "the deposit is good after second {valid_after_s} of the chain's clock, and it is {now_s}; send it later"
    )]
    Early {
        /// From when it is good.
        valid_after_s: u64,
        /// The time.
        now_s: u64,
    },
    /// Good no more.
    #[error(
        "the deposit was good before second {valid_before_s} of the chain's clock, and it is {now_s}; sign another one"
    )]
    Late {
        /// Until when it was good.
        valid_before_s: u64,
        /// The time.
        now_s: u64,
    },
}

impl Authorization {
    /// The deposit of `amount` into a channel, signed by its payer's key. `valid_s`: seconds of the chain's clock; the token
    /// takes it after the start and before the end, both excluded.
    pub fn sign(
        key: &EvmKey,
        config: &ChannelConfig,
        amount: BaseUnits,
        scheme: &Deployment,
        token: &TokenDomain<'_>,
        valid_s: Range<u64>,
        salt: [u8; 32],
    ) -> Self {
        let digest = typed::authorization(config, amount, scheme, token, (&valid_s, &salt));
        Self {
            valid_after_s: valid_s.start,
            valid_before_s: valid_s.end,
            salt,
            signature: key.sign(&digest),
        }
    }

    /// What the payer signs, by times and salt of this authorization.
    pub fn digest(
        &self,
        config: &ChannelConfig,
        amount: BaseUnits,
        scheme: &Deployment,
        token: &TokenDomain<'_>,
    ) -> Keccak {
        let valid_s = self.valid_after_s..self.valid_before_s;
        typed::authorization(config, amount, scheme, token, (&valid_s, &self.salt))
    }

    /// Under which number the token keeps that it was used, for the channel's payer.
    pub fn nonce(&self, config: &ChannelConfig, scheme: &Deployment) -> Keccak {
        typed::nonce(config.id(scheme), &self.salt)
    }

    /// Whether the channel's payer signed the deposit of `amount` into it. It costs one recovery of a key, and says nothing of
    /// times ([`Authorization::check_time`]), of the payer's balance, and of whether it was used before.
    ///
    /// # Errors
    /// [`AuthorizationError`], but for those of time.
    pub fn verify(
        &self,
        config: &ChannelConfig,
        amount: BaseUnits,
        scheme: &Deployment,
        token: &TokenDomain<'_>,
    ) -> Result<(), AuthorizationError> {
        if amount == BaseUnits(0) {
            return Err(AuthorizationError::Nothing);
        }
        if config.token != token.contract {
            return Err(AuthorizationError::OtherToken {
                found: config.token,
                wanted: token.contract,
            });
        }
        if scheme.contract != STOCK_CONTRACT {
            let found = scheme.contract;
            return Err(AuthorizationError::OtherContract { found });
        }
        let digest = self.digest(config, amount, scheme, token);
        let (found, wanted) = (self.signature.recover(&digest)?, config.payer);
        match found == wanted {
            true => Ok(()),
            false => Err(AuthorizationError::OtherSigner { found, wanted }),
        }
    }

    /// Whether the token takes it at a second of the chain's clock.
    ///
    /// # Errors
    /// [`AuthorizationError::Early`], [`AuthorizationError::Late`].
    pub fn check_time(&self, now_s: u64) -> Result<(), AuthorizationError> {
        let (valid_after_s, valid_before_s) = (self.valid_after_s, self.valid_before_s);
        if now_s >= valid_before_s {
            return Err(AuthorizationError::Late {
                valid_before_s,
                now_s,
            });
        }
        match now_s > valid_after_s {
            true => Ok(()),
            false => Err(AuthorizationError::Early {
                valid_after_s,
                now_s,
            }),
        }
    }

    /// What the collector is given: `abi.encode(validAfter, validBefore, salt, signature)`.
    pub fn data(&self) -> Vec<u8> {
        typed::collector_data(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settlement::ChainId;
    use crate::voucher::stock;

    const TOKEN: TokenDomain<'static> = TokenDomain {
        name: "Test OPEN",
        version: "1",
        contract: Address([7; 20]),
    };

    fn key(seed: u8) -> EvmKey {
        EvmKey::from_bytes(&Keccak::of(&[b"authorization", &[seed]]).0).expect("a key")
    }

    fn config() -> ChannelConfig {
        ChannelConfig {
            payer: key(1).address(),
            payer_authorizer: Address::ZERO,
            receiver: Address([2; 20]),
            receiver_authorizer: Address([3; 20]),
            token: TOKEN.contract,
            withdraw_delay_s: 900,
            salt: [4; 32],
        }
    }

    fn scheme() -> Deployment {
        stock(ChainId(1612))
    }

    fn signed(seed: u8) -> Authorization {
        let (amount, salt) = (BaseUnits(5), [9; 32]);
        Authorization::sign(
            &key(seed),
            &config(),
            amount,
            &scheme(),
            &TOKEN,
            10..20,
            salt,
        )
    }

    #[test]
    fn a_deposit_is_good_for_its_payer_channel_token_amount_and_times_alone() {
        let (config, five, scheme) = (config(), BaseUnits(5), scheme());
        let good = signed(1);
        assert_eq!(good.verify(&config, five, &scheme, &TOKEN), Ok(()));
        let other_signer = |one: &Authorization, config: &ChannelConfig, amount, token: &_| {
            let answer = one.verify(config, amount, &scheme, token);
            matches!(answer, Err(AuthorizationError::OtherSigner { wanted, .. }) if wanted == config.payer)
        };
        assert!(other_signer(&signed(2), &config, five, &TOKEN));
        assert!(other_signer(&good, &config, BaseUnits(6), &TOKEN));
        let changed = [
            Authorization {
                salt: [8; 32],
                ..good
            },
            Authorization {
                valid_after_s: 9,
                ..good
            },
            Authorization {
                valid_before_s: 21,
                ..good
            },
        ];
        assert!(
            changed
                .iter()
                .all(|one| other_signer(one, &config, five, &TOKEN))
        );
        let channels = [
            ChannelConfig {
                payer: key(2).address(),
                ..config
            },
            ChannelConfig {
                receiver: Address([5; 20]),
                ..config
            },
            ChannelConfig {
                salt: [5; 32],
                ..config
            },
        ];
        assert!(
            channels
                .iter()
                .all(|one| other_signer(&good, one, five, &TOKEN))
        );
        for token in [
            TokenDomain {
                name: "OPEN",
                ..TOKEN
            },
            TokenDomain {
                version: "2",
                ..TOKEN
            },
        ] {
            assert!(other_signer(&good, &config, five, &token));
        }
        let elsewhere = stock(ChainId(1613));
        assert!(good.verify(&config, five, &elsewhere, &TOKEN).is_err());
    }

    #[test]
    fn what_no_signature_mends_is_named() {
        let (config, scheme) = (config(), scheme());
        let good = signed(1);
        let none = good.verify(&config, BaseUnits(0), &scheme, &TOKEN);
        assert_eq!(none, Err(AuthorizationError::Nothing));
        let other = TokenDomain {
            contract: Address([8; 20]),
            ..TOKEN
        };
        let (found, wanted) = (config.token, other.contract);
        assert_eq!(
            good.verify(&config, BaseUnits(5), &scheme, &other),
            Err(AuthorizationError::OtherToken { found, wanted })
        );
        let found = Address([1; 20]);
        let elsewhere = Deployment {
            contract: found,
            ..scheme
        };
        assert_eq!(
            good.verify(&config, BaseUnits(5), &elsewhere, &TOKEN),
            Err(AuthorizationError::OtherContract { found })
        );
    }

    #[test]
    fn a_deposit_is_good_after_its_first_second_and_before_its_last() {
        let one = signed(1);
        let early = |now_s| {
            Err(AuthorizationError::Early {
                valid_after_s: 10,
                now_s,
            })
        };
        let late = |now_s| {
            Err(AuthorizationError::Late {
                valid_before_s: 20,
                now_s,
            })
        };
        assert_eq!(one.check_time(10), early(10));
        assert_eq!(
            [11, 19].map(|now_s| one.check_time(now_s)),
            [Ok(()), Ok(())]
        );
        assert_eq!(one.check_time(20), late(20));
        assert_eq!(one.check_time(u64::MAX), late(u64::MAX));
    }
}
