//! The scheme's typed data, as `@x402/evm` 2.27.0 names it.

use alloy_primitives::U256;
use alloy_primitives::aliases::U40;

use super::{ChannelConfig, ChannelId, ClaimEntry, Refund};
use crate::settlement::{BaseUnits, Deployment, Keccak, digest};

/// Name of the contract in typed data.
const NAME: &str = "x402 Batch Settlement";

/// What the macro writes carries no documentation and is public to its module.
#[allow(missing_docs, unreachable_pub)]
mod sol {
    alloy_sol_types::sol! {
        struct ChannelConfig {
            address payer;
            address payerAuthorizer;
            address receiver;
            address receiverAuthorizer;
            address token;
            uint40 withdrawDelay;
            bytes32 salt;
        }

        struct Voucher {
            bytes32 channelId;
            uint128 maxClaimableAmount;
        }

        struct Refund {
            bytes32 channelId;
            uint256 nonce;
            uint128 amount;
        }

        struct ClaimEntry {
            bytes32 channelId;
            uint128 maxClaimableAmount;
            uint128 totalClaimed;
        }

        struct ClaimBatch {
            ClaimEntry[] claims;
        }
    }
}

pub(super) fn config(config: &ChannelConfig, scheme: &Deployment) -> Keccak {
    let config = sol::ChannelConfig {
        payer: config.payer.into(),
        payerAuthorizer: config.payer_authorizer.into(),
        receiver: config.receiver.into(),
        receiverAuthorizer: config.receiver_authorizer.into(),
        token: config.token.into(),
        withdrawDelay: U40::from(config.withdraw_delay_s),
        salt: config.salt.into(),
    };
    digest(NAME, scheme, &config)
}

pub(super) fn voucher(channel: ChannelId, max: BaseUnits, scheme: &Deployment) -> Keccak {
    let voucher = sol::Voucher {
        channelId: channel.0.into(),
        maxClaimableAmount: max.0,
    };
    digest(NAME, scheme, &voucher)
}

pub(super) fn refund(refund: &Refund, scheme: &Deployment) -> Keccak {
    let refund = sol::Refund {
        channelId: refund.channel.0.into(),
        nonce: U256::from(refund.nonce),
        amount: refund.amount.0,
    };
    digest(NAME, scheme, &refund)
}

pub(super) fn claims(claims: &[ClaimEntry], scheme: &Deployment) -> Keccak {
    let entry = |claim: &ClaimEntry| sol::ClaimEntry {
        channelId: claim.channel.0.into(),
        maxClaimableAmount: claim.max.0,
        totalClaimed: claim.total_claimed.0,
    };
    let claims = claims.iter().map(entry).collect();
    digest(NAME, scheme, &sol::ClaimBatch { claims })
}
