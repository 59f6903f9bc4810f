//! `[settlement]` of a run file: a real chain on which the run's money lies, and the terms that bind it there.

use serde::Deserialize;
use tributary_attribution::settlement::Address;
use tributary_attribution::test_chain::TestChain;
use tributary_protocol::filing::EvmAddress;
use tributary_protocol::id::MicroOpen;
use tributary_protocol::limits;
use tributary_protocol::manifest::{Settlement, SettlementChain};

use super::money::open_of;
use super::names::{ChainName, WeightsName};
use super::{RunFile, RunFileError, bound};

/// What a challenger puts up, and what a member has to, unless the file says otherwise: one OPEN.
const ONE_OPEN: MicroOpen = MicroOpen(1_000_000);
/// Seconds of a day.
const DAY_S: u32 = 24 * 3600;

/// `[settlement]`. Amounts are OPEN, times seconds of the chain's clock.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettlementTable {
    /// The chain's number (EIP-155).
    pub id: u64,
    /// The settlement contract there.
    pub contract: String,
    /// The one token that the contract holds.
    pub token: String,
    /// By how much promises out of the deposit may rise in a second. None: the budgets of all rounds in one window.
    pub rate_per_s_open: Option<toml::Value>,
    /// What whoever challenges a root puts up. None: one OPEN.
    pub challenge_bond_open: Option<toml::Value>,
    /// Stake without which no root is posted. None: the least stake of two thirds of the members that the start waits for.
    pub min_stake_open: Option<toml::Value>,
    /// How long a root waits for challenges, and new stake until it counts.
    #[serde(default = "day")]
    pub window_s: u32,
    /// How long stake waits before it leaves.
    #[serde(default = "fortnight")]
    pub cooldown_s: u32,
    /// Without an accepted root for so long the sponsor may end the run's settlement.
    #[serde(default = "month")]
    pub halt_s: u32,
    /// The account that decides challenges instead of the stake; empty: none.
    #[serde(default)]
    pub arbiter: String,
}

fn day() -> u32 {
    DAY_S
}
fn fortnight() -> u32 {
    14 * DAY_S
}
fn month() -> u32 {
    30 * DAY_S
}

impl RunFile {
    /// What a member of a run on a real chain has to have put up: none of another run.
    pub(super) fn least_stake(&self) -> Result<MicroOpen, RunFileError> {
        let key = "least_stake_open";
        match (&self.least_stake_open, self.chain) {
            (None, ChainName::Evm) => Ok(ONE_OPEN),
            (None, _) => Ok(MicroOpen(0)),
            (Some(value), ChainName::Evm) if self.weights == WeightsName::Stake => {
                let least = open_of(key, value)?;
                match (1..=u128::from(limits::MAX_STAKE)).contains(&least.0) {
                    true => Ok(least),
                    false => {
                        let most = MicroOpen(limits::MAX_STAKE.into());
                        Err(bound(key, &format!("must be above 0 and at most {most}")))
                    }
                }
            }
            (Some(_), _) => Err(bound(
                key,
                "means something only with `chain = \"evm\"` and `weights = \"stake\"`; remove it",
            )),
        }
    }

    /// Refuses a table without its chain, a chain without its table, and what does not go with either.
    pub(super) fn check_chain(&self) -> Result<(), RunFileError> {
        self.least_stake()?;
        let is_real = self.chain == ChainName::Evm;
        match &self.settlement {
            Some(_) if !is_real => Err(bound(
                "settlement",
                "means something only with `chain = \"evm\"`; set that, or remove the table",
            )),
            None if is_real => Err(bound(
                "settlement",
                "is missing: with `chain = \"evm\"` a table [settlement] says `id`, `contract` and `token`, as `tributary \
                 settle deploy` prints them",
            )),
            Some(table) if self.weights == WeightsName::Stake => {
                self.on_chain(table, Address::ZERO).map(drop)
            }
            Some(_) => Err(bound(
                "weights",
                "has to be \"stake\" with `chain = \"evm\"`: on a real chain names are free and money is not",
            )),
            None => Ok(()),
        }
    }

    /// The terms of a run that `sponsor` pays for on the table's chain.
    pub(super) fn on_chain(
        &self,
        table: &SettlementTable,
        sponsor: Address,
    ) -> Result<Settlement, RunFileError> {
        let test = TestChain::deployed().settlement_deployment().chain;
        if [0, test.0].contains(&table.id) {
            return Err(bound(
                "settlement.id",
                "is no real chain's number; ask the chain's own pages for it (OpenLedger's is 1612)",
            ));
        }
        table.check_times()?;
        let amount = |key, value: &Option<toml::Value>, default| {
            let amount = value.as_ref().map(|value| open_of(key, value));
            let amount = amount.transpose()?.unwrap_or(default);
            let most = MicroOpen(limits::MAX_BUDGET_MICRO_OPEN);
            match amount <= most {
                true => Ok(amount),
                false => Err(bound(key, &format!("must be at most {most} OPEN"))),
            }
        };
        let members = u128::from(self.min_members);
        let budgets = self.budget()?.0.saturating_mul(self.rounds.into());
        let rate = budgets.div_ceil(table.window_s.into());
        let least = self.least_stake()?.0.saturating_mul(members * 2 / 3 + 1);
        let most = limits::MAX_BUDGET_MICRO_OPEN;
        Ok(Settlement {
            chain: SettlementChain::Evm {
                id: table.id,
                contract: account("settlement.contract", &table.contract)?,
                token: account("settlement.token", &table.token)?,
            },
            sponsor: EvmAddress(sponsor.0),
            arbiter: match table.arbiter.is_empty() {
                true => None,
                false => Some(account("settlement.arbiter", &table.arbiter)?),
            },
            rate_per_s: amount(
                "settlement.rate_per_s_open",
                &table.rate_per_s_open,
                MicroOpen(rate.min(most)),
            )?,
            challenge_bond: amount(
                "settlement.challenge_bond_open",
                &table.challenge_bond_open,
                ONE_OPEN,
            )?,
            min_stake: amount(
                "settlement.min_stake_open",
                &table.min_stake_open,
                MicroOpen(least.min(most)),
            )?,
            window_s: table.window_s,
            cooldown_s: table.cooldown_s,
            halt_s: table.halt_s,
        })
    }
}

impl SettlementTable {
    fn check_times(&self) -> Result<(), RunFileError> {
        let windows = Settlement::LEAST_WINDOWS;
        let most = limits::MAX_SETTLEMENT_S;
        if !(1..=most / windows).contains(&self.window_s) {
            return Err(bound(
                "settlement.window_s",
                &format!("must be between 1 and {}", most / windows),
            ));
        }
        let least = self.window_s * windows;
        for (key, value) in [
            ("settlement.cooldown_s", self.cooldown_s),
            ("settlement.halt_s", self.halt_s),
        ] {
            if !(least..=most).contains(&value) {
                let why =
                    format!("must be between {least} ({windows} times `window_s`) and {most}");
                return Err(bound(key, &why));
            }
        }
        Ok(())
    }
}

fn account(key: &'static str, text: &str) -> Result<EvmAddress, RunFileError> {
    let account: Address =
        (text.parse()).map_err(|why| bound(key, &format!("is no account: {why}")))?;
    match [Address::ZERO, Address::LAST].contains(&account) {
        true => Err(bound(key, "is nobody's address; copy it anew")),
        false => Ok(EvmAddress(account.0)),
    }
}
