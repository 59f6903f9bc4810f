//! What a chain is sent and asked about channels: calls of `Channels`, and of the collector that funds them.

use alloy_primitives::U256;
use alloy_sol_types::SolCall;

use super::typed::sol::{self, IChannels as I, ICollector};
use super::{Authorization, ChannelConfig, ChannelId, Claim, Refund, STOCK_COLLECTOR, Withdrawal};
use crate::settlement::calls::{Call, Query, concat, query};
use crate::settlement::{Address, BaseUnits, Signature};

/// What a receiver got of a token through all its channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Everything claimed for it.
    pub claimed: BaseUnits,
    /// What of it was paid.
    pub settled: BaseUnits,
}

/// The contract `Channels` at an address: [`super::STOCK_CONTRACT`], where clients of x402 expect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels(pub Address);

impl From<&Claim> for sol::VoucherClaim {
    fn from(claim: &Claim) -> Self {
        Self {
            voucher: sol::FullVoucher {
                channel: (&claim.config).into(),
                maxClaimableAmount: claim.voucher.max.0,
            },
            signature: concat(&[claim.voucher.signature]),
            totalClaimed: claim.total_claimed.0,
        }
    }
}

impl Channels {
    /// Pays into a channel what its payer signed, for anyone; [`STOCK_COLLECTOR`] fetches it from the payer.
    pub fn deposit_authorized(
        &self,
        config: &ChannelConfig,
        amount: BaseUnits,
        authorization: &Authorization,
    ) -> Call {
        let call = I::depositCall {
            config: config.into(),
            amount: amount.0,
            collector: STOCK_COLLECTOR.into(),
            collectorData: authorization.data().into(),
        };
        Call::new(self.0, &call)
    }

    /// Counts vouchers for their receivers, as the receiver or its authorizer.
    pub fn claim(&self, claims: &[Claim]) -> Call {
        let claims = claims.iter().map(sol::VoucherClaim::from).collect();
        let call = I::claimCall {
            voucherClaims: claims,
        };
        Call::new(self.0, &call)
    }

    /// The same by the authorizer's signature of [`super::claim_digest`], for anyone.
    pub fn claim_signed(&self, claims: &[Claim], authorizer: &Signature) -> Call {
        let claims = claims.iter().map(sol::VoucherClaim::from).collect();
        let call = I::claimWithSignatureCall {
            voucherClaims: claims,
            authorizerSignature: concat(&[*authorizer]),
        };
        Call::new(self.0, &call)
    }

    /// Pays a receiver what was claimed for it in a token.
    pub fn settle(&self, receiver: Address, token: Address) -> Call {
        let (receiver, token) = (receiver.into(), token.into());
        Call::new(self.0, &I::settleCall { receiver, token })
    }

    /// Announces that the payer takes back what is not claimed.
    pub fn initiate_withdraw(&self, config: &ChannelConfig, amount: BaseUnits) -> Call {
        let (config, amount) = (config.into(), amount.0);
        Call::new(self.0, &I::initiateWithdrawCall { config, amount })
    }

    /// Gives back what was announced, or what is left of it.
    pub fn finalize_withdraw(&self, config: &ChannelConfig) -> Call {
        let config = config.into();
        Call::new(self.0, &I::finalizeWithdrawCall { config })
    }

    /// Gives the payer up to `amount` of what is not claimed, as the receiver or its authorizer.
    pub fn refund(&self, config: &ChannelConfig, amount: BaseUnits) -> Call {
        let (config, amount) = (config.into(), amount.0);
        Call::new(self.0, &I::refundCall { config, amount })
    }

    /// The same by the receiver authorizer's signature of `refund`, for anyone.
    pub fn refund_signed(
        &self,
        config: &ChannelConfig,
        refund: &Refund,
        authorizer: &Signature,
    ) -> Call {
        let call = I::refundWithSignatureCall {
            config: config.into(),
            amount: refund.amount.0,
            nonce: U256::from(refund.nonce),
            receiverAuthorizerSignature: concat(&[*authorizer]),
        };
        Call::new(self.0, &call)
    }

    /// Deposit and claims of a channel, which are the first two fields of [`super::OnChain`].
    pub fn channel(&self, channel: ChannelId) -> Query<(BaseUnits, BaseUnits)> {
        let id = channel.0.into();
        Query::of(self.0, &I::channelsCall { channelId: id }, pair)
    }

    /// The withdrawal that is announced for a channel.
    pub fn withdrawal(&self, channel: ChannelId) -> Query<Option<Withdrawal>> {
        let id = channel.0.into();
        Query::of(
            self.0,
            &I::pendingWithdrawalsCall { channelId: id },
            withdrawal,
        )
    }

    /// How many refunds of a channel there were.
    pub fn refund_nonce(&self, channel: ChannelId) -> Query<u64> {
        let id = channel.0.into();
        Query::of(self.0, &I::refundNonceCall { channelId: id }, |answer| {
            u64::try_from(query::units(answer)?.0).ok()
        })
    }

    /// What a receiver got of a token.
    pub fn receiver(&self, receiver: Address, token: Address) -> Query<Received> {
        let (receiver, token) = (receiver.into(), token.into());
        Query::of(self.0, &I::receiversCall { receiver, token }, |answer| {
            let (claimed, settled) = pair(answer)?;
            Some(Received { claimed, settled })
        })
    }
}

/// Two amounts.
fn pair(answer: &[u8]) -> Option<(BaseUnits, BaseUnits)> {
    let both = I::channelsCall::abi_decode_returns_validate(answer).ok()?;
    Some((BaseUnits(both.balance), BaseUnits(both.totalClaimed)))
}

fn withdrawal(answer: &[u8]) -> Option<Option<Withdrawal>> {
    let both = I::pendingWithdrawalsCall::abi_decode_returns_validate(answer).ok()?;
    let withdrawal = Withdrawal {
        amount: BaseUnits(both.amount),
        announced_s: query::seconds(both.initiatedAt),
    };
    Some((withdrawal.announced_s != 0).then_some(withdrawal))
}

/// The contract `Collector` at an address: payers fund channels through it, by transactions of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collector(pub Address);

impl Collector {
    /// Pays into a channel of `channels`, as its payer; the token has to be approved for the collector.
    pub fn deposit(&self, channels: Channels, config: &ChannelConfig, amount: BaseUnits) -> Call {
        let call = ICollector::depositCall {
            channels: channels.0.into(),
            config: config.into(),
            amount: amount.0,
        };
        Call::new(self.0, &call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settlement::calls::tests::{assert_known, signatures};

    #[test]
    fn every_call_is_a_function_of_the_contracts() {
        assert_known(
            include_str!("../../contracts/artifacts/Channels.json"),
            &signatures!(I: depositCall claimCall claimWithSignatureCall settleCall initiateWithdrawCall finalizeWithdrawCall refundCall
                refundWithSignatureCall channelsCall pendingWithdrawalsCall receiversCall refundNonceCall),
        );
        assert_known(
            include_str!("../../contracts/artifacts/Collector.json"),
            &signatures!(ICollector: depositCall),
        );
    }
}
