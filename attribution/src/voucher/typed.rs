//! The scheme's typed data and its contract's functions, as `@x402/evm` 2.27.0 names them, and those of our collector.

use std::ops::Range;

use alloy_primitives::aliases::U40;
use alloy_primitives::{B256, U256};
use alloy_sol_types::{Eip712Domain, SolStruct, SolValue};

use super::{
    Authorization, ChannelConfig, ChannelId, ClaimEntry, Refund, STOCK_COLLECTOR, TokenDomain,
};
use crate::settlement::calls::concat;
use crate::settlement::{BaseUnits, Deployment, Keccak, digest};

/// Name of the contract in typed data.
const NAME: &str = "x402 Batch Settlement";

/// What the macro writes carries no documentation and is public to its module.
#[allow(missing_docs, unreachable_pub)]
pub(super) mod sol {
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

        // EIP-3009, of a token.
        struct ReceiveWithAuthorization {
            address from;
            address to;
            uint256 value;
            uint256 validAfter;
            uint256 validBefore;
            bytes32 nonce;
        }

        // `Voucher` in the contract, where the channel stands for its id.
        struct FullVoucher {
            ChannelConfig channel;
            uint128 maxClaimableAmount;
        }

        struct VoucherClaim {
            FullVoucher voucher;
            bytes signature;
            uint128 totalClaimed;
        }

        interface IChannels {
            function deposit(ChannelConfig calldata config, uint128 amount, address collector, bytes calldata collectorData) external;
            function claim(VoucherClaim[] calldata voucherClaims) external;
            function claimWithSignature(VoucherClaim[] calldata voucherClaims, bytes calldata authorizerSignature) external;
            function settle(address receiver, address token) external;
            function initiateWithdraw(ChannelConfig calldata config, uint128 amount) external;
            function finalizeWithdraw(ChannelConfig calldata config) external;
            function refund(ChannelConfig calldata config, uint128 amount) external;
            function refundWithSignature(ChannelConfig calldata config, uint128 amount, uint256 nonce, bytes calldata receiverAuthorizerSignature) external;
            function channels(bytes32 channelId) external view returns (uint128 balance, uint128 totalClaimed);
            function pendingWithdrawals(bytes32 channelId) external view returns (uint128 amount, uint40 initiatedAt);
            function receivers(address receiver, address token) external view returns (uint128 totalClaimed, uint128 totalSettled);
            function refundNonce(bytes32 channelId) external view returns (uint256);
        }

        interface ICollector {
            function deposit(address channels, ChannelConfig calldata config, uint128 amount) external;
        }
    }
}

impl From<&ChannelConfig> for sol::ChannelConfig {
    fn from(config: &ChannelConfig) -> Self {
        Self {
            payer: config.payer.into(),
            payerAuthorizer: config.payer_authorizer.into(),
            receiver: config.receiver.into(),
            receiverAuthorizer: config.receiver_authorizer.into(),
            token: config.token.into(),
            withdrawDelay: U40::from(config.withdraw_delay_s),
            salt: config.salt.into(),
        }
    }
}

pub(super) fn config(config: &ChannelConfig, scheme: &Deployment) -> Keccak {
    digest(NAME, scheme, &sol::ChannelConfig::from(config))
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

/// What a payer signs for its token, by seconds and salt.
pub(super) fn authorization(
    config: &ChannelConfig,
    amount: BaseUnits,
    scheme: &Deployment,
    token: &TokenDomain<'_>,
    (valid_s, salt): (&Range<u64>, &[u8; 32]),
) -> Keccak {
    let statement = sol::ReceiveWithAuthorization {
        from: config.payer.into(),
        to: STOCK_COLLECTOR.into(),
        value: U256::from(amount.0),
        validAfter: U256::from(valid_s.start),
        validBefore: U256::from(valid_s.end),
        nonce: nonce(config.id(scheme), salt).into(),
    };
    let domain = Eip712Domain::new(
        Some(token.name.to_owned().into()),
        Some(token.version.to_owned().into()),
        Some(U256::from(scheme.chain.0)),
        Some(token.contract.into()),
        None,
    );
    Keccak(statement.eip712_signing_hash(&domain).0)
}

/// `keccak256(abi.encode(channelId, salt))`, two words.
pub(super) fn nonce(channel: ChannelId, salt: &[u8; 32]) -> Keccak {
    Keccak::of(&[&channel.0.0, salt])
}

pub(super) fn collector_data(authorization: &Authorization) -> Vec<u8> {
    let Authorization {
        valid_after_s,
        valid_before_s,
        salt,
        signature,
    } = authorization;
    let times = [valid_after_s, valid_before_s].map(|second| U256::from(*second));
    (times[0], times[1], B256::from(*salt), concat(&[*signature])).abi_encode_params()
}
