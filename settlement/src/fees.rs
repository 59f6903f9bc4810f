//! What a transaction offers for a unit of gas, within the ceiling that its owner set.
//!
//! By EIP-1559 a block has a base fee, which is burned and moves by an eighth from block to block, and a transaction names the
//! most that it pays and what of it is a tip. Twice the base fee is offered, which holds for six blocks of the
//! steepest rise; what the block does not ask for is not paid.

use alloy::primitives::U128;
use serde_json::json;

use crate::limits::RAISE_DIVISOR;
use crate::node::{Config, Head, Node, NodeError};
use crate::rpc::RpcFailure;
use crate::sender::SendError;
use crate::table::Price;

/// The chain asks for more than its owner allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeeError {
    /// A transaction that nobody has sent yet.
    #[error(
        "a unit of gas costs {} gwei now, and `most_per_gas_wei` allows {} gwei; this transaction of {gas} gas would cost {} coins: \
         wait, or raise `most_per_gas_wei`", gwei(*now_wei), gwei(*most_wei), coins(now_wei.saturating_mul(u128::from(*gas)))
    )]
    Spike {
        /// Base fee and tip, wei.
        now_wei: u128,
        /// What the configuration allows, wei.
        most_wei: u128,
        /// What the transaction may use.
        gas: u64,
    },
    /// A transaction that was sent and is to pay more.
    #[error(
        "a transaction that was sent waits, because a unit of gas costs {} gwei now; to replace it, it has to offer {} gwei, and \
         `most_per_gas_wei` allows {} gwei: wait until the price falls, or raise `most_per_gas_wei`", gwei(*now_wei), gwei(*asked_wei), gwei(*most_wei)
    )]
    Stuck {
        /// Base fee and tip, wei.
        now_wei: u128,
        /// What a replacement offers at least, wei.
        asked_wei: u128,
        /// What the configuration allows, wei.
        most_wei: u128,
    },
    /// A chain without base fees.
    #[error(
        "the chain has no base fee (EIP-1559), which transactions here need; use a chain that has it"
    )]
    NoBaseFee,
}

fn gwei(wei: u128) -> String {
    format!("{}.{:03}", wei / 1_000_000_000, wei / 1_000_000 % 1000)
}

fn coins(wei: u128) -> String {
    const COIN: u128 = 1_000_000_000_000_000_000;
    format!("{}.{:09}", wei / COIN, wei % COIN / 1_000_000_000)
}

/// What a chain asks for now, wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Market {
    /// Of the last block.
    pub(crate) base_wei: u128,
    /// What the node suggests.
    pub(crate) tip_wei: u128,
}

/// What a unit of gas costs now, wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GasPrice {
    /// The base fee of the last block.
    pub base_wei: u128,
    /// What goes to whoever makes the block, as the node suggests and the configuration allows.
    pub tip_wei: u128,
}

/// Asks a node what a unit of gas costs now. Nothing is sent.
///
/// # Errors
/// [`SendError::Node`]; [`SendError::Fees`] on a chain without base fees.
pub async fn gas_price(node: &Node) -> Result<GasPrice, SendError> {
    let (_, asked) = market(node).await?;
    Ok(GasPrice {
        base_wei: asked.base_wei,
        tip_wei: asked.tip(node.config()),
    })
}

/// The last block, and what the chain asks for after it.
pub(crate) async fn market(node: &Node) -> Result<(Head, Market), SendError> {
    let head = node.latest().await?;
    let base_wei = head.base_fee_wei.ok_or(FeeError::NoBaseFee)?;
    let most_tip_wei = node.config().most_tip_wei;
    let tip = node
        .rpc()
        .ask::<U128>("eth_maxPriorityFeePerGas", json!([]));
    let tip_wei = match tip.await {
        Ok(tip) => tip.to(),
        // Not every chain suggests one.
        Err(RpcFailure::Refused { .. }) => most_tip_wei,
        Err(other) => return Err(NodeError::from(other).into()),
    };
    Ok((head, Market { base_wei, tip_wei }))
}

impl Market {
    fn tip(&self, config: &Config) -> u128 {
        self.tip_wei
            .min(config.most_tip_wei)
            .min(config.most_per_gas_wei)
    }

    /// What a new transaction offers.
    pub(crate) fn offer(&self, config: &Config, gas: u64) -> Result<Price, FeeError> {
        let (tip_wei, most_wei) = (self.tip(config), config.most_per_gas_wei);
        let now_wei = self.base_wei.saturating_add(tip_wei);
        if now_wei > most_wei {
            return Err(FeeError::Spike {
                now_wei,
                most_wei,
                gas,
            });
        }
        let doubled = self.base_wei.saturating_mul(2).saturating_add(tip_wei);
        Ok(Price {
            most_wei: doubled.min(most_wei),
            tip_wei,
        })
    }

    /// What replaces an offer: both parts an eighth higher at least, and enough for the next block.
    pub(crate) fn raise(&self, config: &Config, before: Price) -> Result<Price, FeeError> {
        let more = |wei: u128| wei.saturating_add(wei / RAISE_DIVISOR).saturating_add(1);
        let (least_wei, least_tip) = (more(before.most_wei), more(before.tip_wei));
        // The tip's own ceiling gives way: a transaction that is stuck stops all that come after it.
        let tip_wei = self.tip(config).max(least_tip);
        let now_wei = self.base_wei.saturating_add(tip_wei);
        let asked_wei = now_wei.max(least_wei);
        if asked_wei > config.most_per_gas_wei {
            return Err(FeeError::Stuck {
                now_wei,
                asked_wei,
                most_wei: config.most_per_gas_wei,
            });
        }
        let doubled = self.base_wei.saturating_mul(2).saturating_add(tip_wei);
        Ok(Price {
            most_wei: doubled.max(asked_wei).min(config.most_per_gas_wei),
            tip_wei,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tributary_attribution::settlement::ChainId;

    use super::*;

    fn config(most_per_gas_wei: u128, most_tip_wei: u128) -> Config {
        Config {
            most_per_gas_wei,
            most_tip_wei,
            ..Config::new("http://localhost", ChainId(1612))
        }
    }

    #[test]
    fn an_offer_is_twice_the_base_fee_and_the_tip_within_the_ceiling() {
        let market = Market {
            base_wei: 10,
            tip_wei: 3,
        };
        let offer = |most| market.offer(&config(most, 100), 21_000);
        assert_eq!(
            offer(100),
            Ok(Price {
                most_wei: 23,
                tip_wei: 3
            })
        );
        assert_eq!(
            offer(20),
            Ok(Price {
                most_wei: 20,
                tip_wei: 3
            })
        );
        assert_eq!(
            offer(13),
            Ok(Price {
                most_wei: 13,
                tip_wei: 3
            })
        );
        assert!(matches!(
            offer(12),
            Err(FeeError::Spike {
                now_wei: 13,
                most_wei: 12,
                ..
            })
        ));
    }

    #[test]
    fn a_spike_says_what_it_costs_and_which_setting_bounds_it() {
        let market = Market {
            base_wei: 150_000_000_000,
            tip_wei: 0,
        };
        let said = market
            .offer(&config(100_000_000_000, 1), 1_000_000)
            .expect_err("a spike")
            .to_string();
        for part in [
            "150.000 gwei",
            "100.000 gwei",
            "0.150000000 coins",
            "most_per_gas_wei",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }

    proptest! {
        #[test]
        fn a_replacement_pays_an_eighth_more_and_stays_within_the_ceiling(base in 0u128..1 << 60, tip in 0u128..1 << 50, most in 0u128..1 << 62, then in 0u128..1 << 62) {
            let config = config(most, most / 10);
            let Ok(offer) = (Market { base_wei: base, tip_wei: tip }).offer(&config, 1) else {
                return Ok(());
            };
            prop_assert!(offer.most_wei <= most && offer.tip_wei <= offer.most_wei);
            prop_assert!(offer.most_wei >= base + offer.tip_wei);
            let market = Market { base_wei: then, tip_wei: tip };
            match market.raise(&config, offer) {
                Ok(raised) => {
                    prop_assert!(raised.most_wei <= most && raised.tip_wei <= raised.most_wei);
                    prop_assert!(raised.most_wei * 8 >= offer.most_wei * 9);
                    prop_assert!(raised.tip_wei * 8 >= offer.tip_wei * 9);
                    prop_assert!(raised.most_wei >= then + raised.tip_wei);
                }
                Err(FeeError::Stuck { asked_wei, most_wei, .. }) => prop_assert!(asked_wei > most_wei),
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}
